// Part of worker.h: are the ranks of an attempt still moving, and what is written down about them. Judged by
// HangWatch; told to the scheduler as RankReport; captured by tutti-capture as soon as this node stands
// still, without waiting for the scheduler's word: what it writes is cheap and harmless, and a kill may
// follow.
#include <spdlog/spdlog.h>
#include <sys/stat.h>

#include <boost/asio/post.hpp>
#include <boost/json.hpp>
#include <csignal>
#include <system_error>

#include "api/wire/messages.h"
#include "worker/service/machine.h"
#include "worker/service/worker.h"
#include "worker/supervisor/files.h"
#include "worker/supervisor/proc_scan.h"

namespace tutti::worker {

namespace asio = boost::asio;
namespace json = boost::json;
using protocol::Phase;

namespace {

constexpr std::int32_t kMaxWatched = 256;                        // ranks of one node; the first ones
constexpr Duration kLookEvery = std::chrono::milliseconds(900);  // at /proc; progress files at each look
constexpr Duration kReportEvery = std::chrono::seconds(5);
constexpr Duration kSaveEvery = std::chrono::seconds(10);
constexpr int kMaxCaptures = 5;  // of one attempt: hangs that end by themselves must not fill the disk
constexpr std::chrono::milliseconds kCaptureTime{4000}, kCaptureDeadline{4500};
constexpr int kStuckLooks = 3;                     // so often in a row in state D: not just a disk at work
constexpr std::int64_t kFreshSample = 15'000'000;  // µs: the probe samples each 5 s

std::string learned_path(const std::string& dir) { return dir + "/hang.json"; }

HangWatch::Learned read_learned(const std::string& dir) {
  HangWatch::Learned out;
  json::error_code ec;
  const auto v = json::parse(supervisor::read_file(learned_path(dir), 4096).value_or(""), ec);
  if (ec || !v.is_object()) return out;
  const auto number = [&](const char* name) {
    const auto* field = v.get_object().if_contains(name);
    return Duration(field != nullptr && field->is_int64() ? std::max<std::int64_t>(field->get_int64(), 0)
                                                          : 0);
  };
  return {number("p99_step_us"), number("longest_silence_us")};
}

std::uint64_t mark_of(const protocol::Progress& p) {
  std::uint64_t mark = 1469598103934665603ULL;  // FNV-1a over what is told beside the step
  const auto add = [&](std::string_view bytes) {
    for (const char c : bytes) mark = (mark ^ static_cast<unsigned char>(c)) * 1099511628211ULL;
  };
  for (const auto& [name, value] : p.metrics) {
    add(name);
    add({reinterpret_cast<const char*>(&value), sizeof value});
  }
  return mark;
}

template <class T>
json::value number_or_null(const std::optional<T>& value) {
  return value ? json::value(*value) : json::value(nullptr);
}

}  // namespace

Worker::RankWatch& Worker::rank_watch(AttemptKey key, const WorkerCore::View& view) {
  auto& watch = rank_watches_[key];
  if (!watch) {
    watch = std::make_unique<RankWatch>(HangWatch({}, view.spec->hang, read_clocks().mono));
    watch->saved = read_learned(dirs_.path(key));
    watch->watch.remember(watch->saved);
  }
  return *watch;
}

void Worker::watch_ranks(AttemptKey key) {
  const auto view = core_.find(key);
  if (view->phase != Phase::running || view->stopping || view->status->ranks.empty()) return;
  auto& watch = rank_watch(key, *view);
  const auto now = read_clocks();
  hear_ranks(key, watch, *view, now);
  if (now.mono - watch.looked_at >= kLookEvery) look_at_ranks(key, watch, *view, now);
  const auto verdict = watch.watch.judge(now.mono);
  if (!verdict.stalled) watch.captured = false;
  if (verdict.stalled && !watch.last.stalled && !captures_.contains(key)) capture(key, watch, *view);
  const bool changed = verdict.stalled != watch.last.stalled || watch.captured != watch.last.captured;
  const bool due =
      now.mono - watch.reported_at >= kReportEvery && (verdict.tells_progress || verdict.stalled);
  if (changed || due || watch.reported_at == Mono{}) report_ranks(key, watch, verdict, now);
  save_learned(key, watch, now);
}

void Worker::hear_ranks(AttemptKey key, RankWatch& watch, const WorkerCore::View& view, Now now) {
  const auto* user = user_of(key);
  if (user == nullptr) return;
  for (const auto& rank : view.status->ranks) {
    if (rank.ended) {
      watch.watch.on_rank_ended(rank.rank);
      continue;
    }
    Duration age{};
    const auto progress = read_progress(dirs_.path(key), user->uid, key, rank.rank, &age);
    if (!progress) continue;
    Told told;
    told.step = progress->step;
    told.total = progress->total;
    if (const auto own = progress->metrics.find("compute_s"); own != progress->metrics.end())
      told.compute_s = own->second;
    told.mark = mark_of(*progress);
    told.age = age;
    watch.watch.on_told(now.mono, rank.rank, told);
  }
}

void Worker::look_at_ranks(AttemptKey key, RankWatch& watch, const WorkerCore::View& view, Now now) {
  watch.looked_at = now.mono;
  for (const pid_t pid : std::exchange(watch.held, {})) ::kill(pid, SIGCONT);
  Activity sum;
  std::size_t living = 0;
  std::optional<supervisor::Config> config;
  for (const auto& rank : view.status->ranks) {
    if (rank.ended || static_cast<std::int32_t>(living) >= kMaxWatched) continue;
    ++living;
    // A keeper could name anybody's process, and what we look at goes into a bundle.
    auto& pid = watch.ours[rank.rank];
    if (pid == 0) {
      if (!config) config = dirs_.read_config(key);
      if (!config || !supervisor::belongs(rank.pid, *config, view.status->pid)) continue;
      pid = rank.pid;
    }
    auto& use = watch.uses[rank.rank];
    auto seen = look_at_rank(pid);
    if (captures_.contains(key)) {  // our debugger stops it for a moment: what it was before counts
      seen.state = use.state;
      seen.waits_in = use.waits_in;
    }
    use = std::move(seen);
    sum.cpu += use.cpu;
    sum.io_bytes += use.io_bytes;
    auto& d_looks = watch.d_looks[rank.rank];
    d_looks = use.state == "D" ? d_looks + 1 : 0;
  }
  if (now.mono.time_since_epoch().count() - gpu_sampled_boot_us_ < kFreshSample)
    for (const auto& uuid : view.prepare->gpu_uuids)
      if (const auto s = gpu_samples_.find(uuid); s != gpu_samples_.end())
        sum.gpu_busy = sum.gpu_busy || s->second.utilization.value_or(0) > 0;
  watch.watch.on_activity(now.mono, living, sum);
}

void Worker::report_ranks(AttemptKey key, RankWatch& watch, const HangWatch::Verdict& verdict, Now now) {
  const auto view = core_.find(key);
  protocol::RankReport report;
  report.key = key;
  report.tells_progress = verdict.tells_progress;
  report.stalled = verdict.stalled;
  report.captured = watch.captured;
  report.limit_us = verdict.limit.count();
  for (const auto& rank : view->status->ranks) {
    if (rank.ended || static_cast<std::int32_t>(report.ranks.size()) >= kMaxWatched) continue;
    const auto r = watch.watch.take_rank(now.mono, rank.rank);
    protocol::RankPulse pulse;
    pulse.rank = rank.rank;
    pulse.step = r.step;
    pulse.silent_us = r.silent.count();
    pulse.step_us = r.step_time.count();
    pulse.compute_us = r.compute.count();
    if (const auto use = watch.uses.find(rank.rank); use != watch.uses.end()) {
      const bool passing = use->second.state == "D" && watch.d_looks[rank.rank] < kStuckLooks;
      pulse.state = passing ? "S" : use->second.state;
      pulse.waits_in = use->second.waits_in;
    }
    report.ranks.push_back(std::move(pulse));
  }
  if (report.stalled != watch.last.stalled)
    spdlog::warn("job {} epoch {}: its ranks here {} (limit {:.1f} s)", key.job.value, key.epoch.value,
                 report.stalled ? "stand still" : "move again", to_seconds(verdict.limit));
  watch.last = report;
  watch.reported_at = now.mono;
  if (client_) client_->send(wire::encode(protocol::FromWorker(std::move(report))));
}

void Worker::say_ranks_again() {
  for (auto& [key, watch] : rank_watches_) watch->reported_at = Mono{};  // at the next look
}

void Worker::save_learned(AttemptKey key, RankWatch& watch, Now now) {
  if (now.mono - watch.saved_at < kSaveEvery) return;
  const auto learned = watch.watch.learned();
  if (learned == watch.saved || learned.p99 == Duration(0)) return;
  watch.saved_at = now.mono;
  watch.saved = learned;
  write_later(learned_path(dirs_.path(key)),
              json::serialize(json::object{{"p99_step_us", learned.p99.count()},
                                           {"longest_silence_us", learned.longest.count()}}));
}

// ---------------------------------------------------------------- capture

void Worker::capture(AttemptKey key, RankWatch& watch, const WorkerCore::View& view) {
  const auto* user = user_of(key);
  if (settings_.capture.empty() || user == nullptr || watch.captures >= kMaxCaptures) {
    watch.captured = true;  // there is nothing to wait for
    return;
  }
  const std::string dir = dirs_.path(key) + "/evidence";
  const std::string here = dir + "/hang-" + std::to_string(++watch.captures);
  SpawnRequest request;
  request.argv = {settings_.capture,
                  "--dir",
                  here,
                  "--uid",
                  std::to_string(user->uid),
                  "--gid",
                  std::to_string(user->gid),
                  "--deadline-ms",
                  std::to_string(kCaptureTime.count())};
  // A debugger stops the ranks for a moment: only of a gang that is to be restarted.
  const auto action = view.spec->hang.action;
  const bool restarts = action ? *action == HangAction::capture_and_restart
                               : watch.watch.judge(read_clocks().mono).tells_progress;
  if (restarts) request.argv.emplace_back("--stacks");
  std::vector<pid_t> targets;
  for (const auto& rank : view.status->ranks) {
    const auto ours = watch.ours.find(rank.rank);
    if (rank.ended || ours == watch.ours.end() || ours->second == 0) continue;
    request.argv.push_back(std::to_string(rank.rank) + ":" + std::to_string(ours->second));
    if (!restarts) continue;
    for (const pid_t pid : processes_under(ours->second))
      if (why_not_to_stop(pid).empty()) targets.push_back(pid);
  }
  request.own_session = true;
  request.log = here + "/capture.log";
  auto& capture = captures_[key];
  capture.targets = std::move(targets);
  // From now on, so that a disk that is slow to make the folder counts too.
  capture.deadline = std::make_unique<asio::steady_timer>(io_, kCaptureDeadline);
  capture.deadline->async_wait([this, key](boost::system::error_code ec) {
    if (!ec) capture_late(key);
  });
  asio::post(disk_, [this, key, dir, here, request = std::move(request)] {
    mkdir(dir.c_str(), 0700);
    mkdir(here.c_str(), 0700);
    asio::post(io_, [this, key, request] { start_capture(key, request); });
  });
}

void Worker::start_capture(AttemptKey key, const SpawnRequest& request) {
  const auto found = captures_.find(key);
  if (found == captures_.end() || found->second.helper) return;
  try {
    const pid_t pid = spawn_child(request);
    found->second.helper = std::make_unique<Watched>(io_, pid, [this, key] { captured(key); });
  } catch (const std::system_error& e) {
    spdlog::warn("job {} epoch {}: {}", key.job.value, key.epoch.value, e.what());
    captured(key);
  }
}

void Worker::capture_late(AttemptKey key) {
  const auto found = captures_.find(key);
  if (found == captures_.end()) return;
  spdlog::warn("job {} epoch {}: the capture takes too long", key.job.value, key.epoch.value);
  if (!found->second.helper) return captured(key);  // the disk has not even made its folder
  // With its debuggers; it is not reaped, so the number is still its own.
  ::kill(-found->second.helper->pid(), SIGKILL);
  found->second.killed = true;
  let_go(key);
  if (const auto w = rank_watches_.find(key); w != rank_watches_.end()) w->second->captured = true;
}

// Its debuggers were killed, so that nobody takes back the SIGSTOP by which they had stopped their targets.
// They may not be dead yet: once more at the next look.
void Worker::let_go(AttemptKey key) {
  const auto& targets = captures_.at(key).targets;
  for (const pid_t pid : targets) ::kill(pid, SIGCONT);
  if (const auto w = rank_watches_.find(key); w != rank_watches_.end()) w->second->held = targets;
}

void Worker::captured(AttemptKey key) {
  if (captures_.at(key).killed) let_go(key);
  captures_.erase(key);
  const auto watch = rank_watches_.find(key);
  const auto view = core_.find(key);
  if (watch == rank_watches_.end() || !view || view->ended) return;
  const auto now = read_clocks();
  const auto verdict = watch->second->watch.judge(now.mono);
  watch->second->captured = verdict.stalled;
  if (verdict.stalled) report_ranks(key, *watch->second, verdict, now);  // the kill waits for it
}

// What is known of the attempt's GPUs, and of this node: before its start and after its end.
void Worker::note_gpus(AttemptKey key, const char* file) {
  if (!dirs_.exists(key)) return;
  json::array gpus;
  for (const auto& device : core_.devices_of(key)) {
    json::object gpu{{"uuid", device.uuid},
                     {"index", device.index},
                     {"simulated", device.simulated},
                     {"unhealthy", core_.gpus().why_unhealthy(device.uuid)}};
    if (const auto* info = core_.gpus().find(device.uuid)) gpu["model"] = info->name;
    if (const auto s = gpu_samples_.find(device.uuid); s != gpu_samples_.end()) {
      gpu["utilization_percent"] = number_or_null(s->second.utilization);
      gpu["memory_used_bytes"] = number_or_null(s->second.memory_used_bytes);
      gpu["power_mw"] = number_or_null(s->second.power_mw);
      gpu["temperature_c"] = number_or_null(s->second.temperature_c);
    }
    gpus.push_back(std::move(gpu));
  }
  json::object unhealthy;  // all of the node's
  for (const auto& [uuid, why] : core_.gpus().remembered()) unhealthy[uuid] = why;
  const json::object all{{"boot_us", to_boot_us(read_clocks())},
                         {"sampled_boot_us", gpu_sampled_boot_us_},
                         {"driver", core_.gpus().inventory().driver},
                         {"gpus", std::move(gpus)},
                         {"unhealthy_gpus_of_the_node", std::move(unhealthy)}};
  write_evidence(key, file, json::serialize(all) + "\n");
}

void Worker::read_evidence(const protocol::ReadLog& request) {
  asio::post(disk_, [this, request] {
    auto chunk = evidence_.read(request);
    asio::post(io_, [this, chunk = std::move(chunk)]() mutable {
      if (client_) client_->send(wire::encode(protocol::FromWorker(std::move(chunk))));
    });
  });
}

}  // namespace tutti::worker
