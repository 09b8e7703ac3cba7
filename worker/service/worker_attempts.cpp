// Part of worker.h: attempts found on disk, their supervisors, and what jobs write.
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/post.hpp>
#include <csignal>
#include <filesystem>
#include <stdexcept>
#include <system_error>

#include "api/wire/job_spec_codec.h"
#include "api/wire/messages.h"
#include "worker/node/network.h"
#include "worker/service/machine.h"
#include "worker/service/worker.h"
#include "worker/supervisor/files.h"
#include "worker/supervisor/kill_proof.h"

namespace tutti::worker {

namespace asio = boost::asio;
using protocol::Phase;

namespace {
constexpr std::size_t kMaxWaitingReads = 256;
constexpr std::int64_t kUnreadableDeadline = 4'000'000;
constexpr Duration kLongestWait = std::chrono::seconds(60);
constexpr auto kNobodys = static_cast<uid_t>(-1);
constexpr auto kLogPoll = std::chrono::milliseconds(100);
}  // namespace

ParsedSpec Worker::parse(const std::string& spec_json) const {
  auto parsed = wire::parse_spec_json(spec_json, read_clocks());
  if (!parsed.ok()) {
    const auto& p = parsed.problems.front();
    return {nullptr, p.field.empty() ? p.message : p.field + " " + p.message, ""};
  }
  return {std::make_shared<JobSpec>(std::move(parsed.spec)), "", ""};
}

NodeFacts Worker::facts_of(AttemptKey key) {
  NodeFacts f;
  f.dir = dirs_.path(key);
  if (const auto* user = user_of(key)) f.account = *user;
  f.allow_root = settings_.accounts.allow_root;
  f.devices = core_.devices_of(key);
  f.node_has_gpus = !core_.gpus().all_devices().empty();
  add_network(key, f);
  f.rank_program = settings_.rank;
  f.launch_agent = settings_.launch_agent;
  f.preflight_program = settings_.preflight;
  const bool real_gpus =
      !f.devices.empty() && std::ranges::none_of(f.devices, [](const DeviceFact& d) { return d.simulated; });
  f.collective_check =
      real_gpus && !settings_.collective_nccl.empty() ? settings_.collective_nccl : settings_.collective_mpi;
  f.torchrun = settings_.torchrun;
  f.mpirun = settings_.mpirun;
  f.image_program = settings_.image;
  f.container_tool = settings_.container;
  f.bubblewrap = settings_.bubblewrap;
  f.image_cache = settings_.state_dir + "/images/" + std::to_string(f.account.uid);
  f.image_cache_bytes = settings_.image_cache_bytes;
  f.state_dir = settings_.state_dir;
  f.mount_folders = settings_.container_mounts;
  f.nvml_library = settings_.nvml_library;
  f.lease_path = f.dir + "/lease";
  f.kill_mode = settings_.kill_mode;
  f.cgroup_parent = settings_.cgroup_parent;
  return f;
}

// Looked at again at each launch: links come and go.
void Worker::add_network(AttemptKey key, NodeFacts& f) {
  const std::string sysfs = settings_.sysfs.empty() ? "/sys" : settings_.sysfs;
  std::vector<std::string> gang, gpus;
  if (const auto view = core_.find(key))
    for (const auto& node : view->prepare->gang) gang.push_back(node.address);
  for (const auto& device : f.devices)
    if (const auto* gpu = core_.gpus().find(device.uuid); gpu != nullptr && !device.simulated)
      gpus.push_back(node::gpu_path(sysfs, gpu->pci));
  const auto routes = supervisor::read_file("/proc/self/net/route").value_or("");
  const auto choice = node::choose_network(node::read_network(sysfs, routes, node::own_addresses()),
                                           settings_.address, gang, gpus);
  f.interface = choice.interface;
  f.subnet = choice.subnet;
  f.ib_hcas = choice.adapters;
  f.network_why = choice.why;
}

// ---------------------------------------------------------------- attempts found on disk

void Worker::recover() {
  for (const auto key : dirs_.list()) {
    if (dirs_.retired(key))
      core_.forget_epoch(key);
    else
      recover_one(key);
  }
  clean_up();
}

void Worker::recover_one(AttemptKey key) {
  Adopted found;
  auto prepare = dirs_.read_prepare(key);
  if (!prepare) return recover_unreadable(key);
  found.prepare = std::move(*prepare);
  found.spec = parse(found.prepare.spec_json);
  found.recorded_end = dirs_.read_end(key);
  found.last_status = dirs_.read_state(key);
  found.former_boot = former_boot_;
  found.supervisor_alive = !former_boot_ && adopt_supervisor(key);
  if (const auto path = dirs_.path(key) + "/lease"; !former_boot_ && access(path.c_str(), F_OK) == 0)
    found.lease_until = Mono(Duration(leases_.try_emplace(key, path, false).first->second.load()));
  core_.adopt(read_clocks(), found);
  if (found.supervisor_alive && found.recorded_end && found.recorded_end->end->proven) {
    TellSupervisor quit{key, supervisor::Quit{}};  // the former worker's may have been lost
    act(quit);
  }
}

// No prepare.json, or one of another version. It is written first, supervise.json second, the supervisor
// third: without supervise.json nothing was ever started. With it something may live that nobody will speak
// of, under a lease that we are about to renew: it is killed, and its directory stays until that is proven.
void Worker::recover_unreadable(AttemptKey key) {
  if (const auto config = dirs_.read_config(key); config && !former_boot_) {
    if (const auto pid = find_supervisor(dirs_.path(key)); pid != 0) ::kill(pid, SIGKILL);
    const auto killed = supervisor::kill_and_prove(*config, supervisor::boot_us() + kUnreadableDeadline);
    spdlog::error("job {} epoch {}: its prepare.json cannot be read; killed: {}", key.job.value,
                  key.epoch.value, killed.how);
    if (!killed.proven)
      throw std::runtime_error("ranks of job " + to_string(key.job) + " cannot be proven dead: " +
                               killed.how + "; the lease is not renewed over them");
  }
  spdlog::warn("job {} epoch {}: directory without a readable prepare.json removed", key.job.value,
               key.epoch.value);
  dirs_.remove(key);
}

// Either we hear from it by its link, or we hold its lock and none can start any more.
bool Worker::adopt_supervisor(AttemptKey key) {
  for (int tries = 0; tries < 3; ++tries) {
    if (auto lock = dirs_.take_supervisor_lock(key)) {
      supervisor_locks_[key] = std::move(lock);
      return false;
    }
    if (const auto pid = find_supervisor(dirs_.path(key)); pid != 0) {
      try {
        make_link(key).adopt(pid);
        return true;
      } catch (const std::system_error&) {  // has just ended: then its lock is free
        links_.erase(key);
      }
    }
  }
  return false;
}

SupervisorLink& Worker::make_link(AttemptKey key) {
  auto link = std::make_unique<SupervisorLink>(
      io_, dirs_.path(key), settings_.supervisor_deadline,
      SupervisorLink::Events{[this, key](const supervisor::Status& status, bool first) {
                               core_.on_supervisor_status(read_clocks(), key, status, first);
                               settle();
                             },
                             [this, key] {
                               links_.erase(key);
                               core_.on_supervisor_gone(read_clocks(), key);
                               settle();
                             }});
  return *(links_[key] = std::move(link));
}

// ---------------------------------------------------------------- checkpoints and progress

void Worker::look_at_jobs() {
  for (const auto key : core_.attempts()) {
    const auto view = core_.find(key);
    if (view->ended || !view->spec || (view->phase != Phase::launched && view->phase != Phase::running))
      continue;
    read_words_of(key, watches_[key]);
    watch_ranks(key);
    if (view->prepare->index == 0 && !view->spec->checkpoint.dir.empty()) scan(key);
  }
  settle();
  look_.expires_after(settings_.scan_every);
  look_.async_wait([this](boost::system::error_code ec) {
    if (!ec) look_at_jobs();
  });
}

void Worker::read_words_of(AttemptKey key, Watch& watch) {
  read_collective_of(key, watch);
  read_progress_of(key, watch);
}

void Worker::read_progress_of(AttemptKey key, Watch& watch) {
  const auto view = core_.find(key);
  const auto& node = view->prepare->gang[static_cast<std::size_t>(view->prepare->index)];
  if (node.ranks == 0) return;
  const auto* user = user_of(key);
  if (user == nullptr) return;
  auto progress = read_progress(dirs_.path(key), user->uid, key, node.first_rank);
  if (!progress) return;
  const auto& last = watch.last_progress;
  if (last && last->step == progress->step && last->metrics == progress->metrics) return;
  if (core_.on_progress(read_clocks(), *progress)) watch.last_progress = std::move(progress);
}

void Worker::read_collective_of(AttemptKey key, Watch& watch) {
  const auto view = core_.find(key);
  if (watch.collective_read || view->spec->preflight != Preflight::full || view->prepare->index != 0) return;
  const auto* user = user_of(key);
  const auto result = user ? read_collective(dirs_.path(key), user->uid, key) : std::nullopt;
  if (result) watch.collective_read = core_.on_collective(*result);
}

// ---------------------------------------------------------------- logs

void Worker::read(const protocol::ReadLog& request) {
  if (request.what == "evidence") return read_evidence(request);
  if (answer(request, request.wait_us <= 0)) return;
  if (waiting_reads_.size() >= kMaxWaitingReads) {
    answer(request, true);
    return;
  }
  const auto wait = std::min(Duration(request.wait_us), kLongestWait);
  waiting_reads_.push_back({request, read_clocks().mono + wait});
  if (!polling_logs_) poll_logs();
}

// True: it has been answered.
bool Worker::answer(const protocol::ReadLog& request, bool at_once) {
  const auto view = core_.find(request.key);
  protocol::LogChunk chunk;
  if (!view && !dirs_.exists(request.key)) {
    chunk.request = request.request;
    chunk.end = true;
    chunk.error = "no logs of job " + to_string(request.key.job) + " epoch " + to_string(request.key.epoch) +
                  " on node " + settings_.node;
  } else {
    const bool over = !view || view->ended;
    const auto* user = user_of(request.key);
    try {
      chunk =
          read_log(dirs_.path(request.key), user ? user->uid : kNobodys, mask_of(request.key), request, over);
    } catch (const std::runtime_error& e) {  // what it must not show is not known: then nothing
      chunk = {};
      chunk.request = request.request;
      chunk.end = true;
      chunk.error = e.what();
    }
  }
  if (!at_once && chunk.data.empty() && !chunk.end) return false;
  client_->send(wire::encode(protocol::FromWorker(std::move(chunk))));
  return true;
}

// Runs only while somebody waits.
void Worker::poll_logs() {
  const auto now = read_clocks();
  waiting_reads_.remove_if([&](const WaitingRead& w) { return answer(w.request, now.mono >= w.until); });
  polling_logs_ = !waiting_reads_.empty();
  if (!polling_logs_) return;
  log_poll_.expires_after(kLogPoll);
  log_poll_.async_wait([this](boost::system::error_code ec) {
    if (!ec) poll_logs();
  });
}

void Worker::clean_up() {
  asio::post(disk_, [this] {
    for (const auto key : dirs_.expired()) dirs_.remove(key);
  });
}

}  // namespace tutti::worker
