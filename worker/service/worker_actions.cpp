// Part of worker.h: what the core asks for is done here, in its order.
#include <spdlog/spdlog.h>

#include <boost/asio/post.hpp>
#include <boost/json.hpp>
#include <csignal>
#include <stdexcept>
#include <utility>
#include <variant>

#include "api/wire/messages.h"
#include "scheduler/log/log_format.h"
#include "worker/service/machine.h"
#include "worker/service/worker.h"
#include "worker/supervisor/files.h"
#include "worker/supervisor/kill_proof.h"

namespace tutti::worker {

namespace asio = boost::asio;
namespace json = boost::json;

namespace {
constexpr std::int64_t kKillDeadline = 4'000'000;
}  // namespace

void Worker::act(Send& a) { client_->send(wire::encode(a.message)); }

void Worker::act(SpawnSupervisor& a) {
  const auto view = core_.find(a.key);
  if (!view) return;
  try {
    dirs_.create(a.key, *view->prepare);
    masks_.erase(a.key);  // somebody may have asked for its log before it had any
    leases_.try_emplace(a.key, dirs_.path(a.key) + "/lease", false)
        .first->second.store(core_.lease_until_boot_us(a.key));
    note_gpus(a.key, "gpu_before.json");
    dirs_.write_preparation(a.key, plan_preparation(*view->spec, *view->prepare, facts_of(a.key)));
    make_link(a.key).start(settings_.supervisor);
  } catch (const std::exception& e) {
    links_.erase(a.key);
    core_.on_launch_failed(read_clocks(), a.key, e.what(), false);
  }
}

void Worker::act(LaunchRanks& a) {
  const auto view = core_.find(a.key);
  if (!view) return;
  try {
    const auto now = read_clocks();
    auto plan = plan_launch(*view->spec, *view->prepare, a.launch, facts_of(a.key), now.wall);
    if (!plan) throw std::runtime_error(plan.error().message);
    spdlog::info("job {} epoch {}: network: {}", a.key.job.value, a.key.epoch.value, plan->network);
    const auto* user = user_of(a.key);
    if (user == nullptr) throw std::runtime_error("its account is not known");
    dirs_.write_launch(a.key, *plan, *user, view->prepare->secret);
    TellSupervisor tell{a.key, std::move(plan->launch)};
    act(tell);
  } catch (const std::exception& e) {
    core_.on_launch_failed(read_clocks(), a.key, e.what(), true);
  }
}

void Worker::act(TellSupervisor& a) {
  const auto link = links_.find(a.key);
  if (link == links_.end()) return;
  link->second->send(a.command);
  if (std::holds_alternative<supervisor::Quit>(a.command)) link->second->expect_end();
}

void Worker::act(KillAndProve& a) {
  if (!being_killed_.insert(a.key).second) return;
  const auto done = [this, key = a.key](supervisor::KillResult result) {
    asio::post(io_, [this, key, result = std::move(result)] {
      being_killed_.erase(key);
      core_.on_killed(read_clocks(), key, result.proven, result.how);
      settle();
    });
  };
  // While its supervisor lives there is nothing to take.
  if (auto& lock = supervisor_locks_[a.key]; !lock) lock = dirs_.take_supervisor_lock(a.key);
  auto config = dirs_.read_config(a.key);
  if (!config) return done({true, "never started", 0});  // it is written before anything is started
  asio::post(kills_, [done, config = std::move(*config)] {
    done(supervisor::kill_and_prove(config, supervisor::boot_us() + kKillDeadline));
  });
}

void Worker::act(KillSupervisor& a) {
  if (const auto pid = find_supervisor(dirs_.path(a.key)); pid != 0) ::kill(pid, SIGKILL);
}

void Worker::act(FinalScan& a) { end_scan(a.key); }

void Worker::act(AskProcesses& a) {
  if (probe_) probe_->ask({a.uuid, a.id});
}

void Worker::act(RecordEnd& a) {
  note_gpus(a.status.key, "gpu_after.json");
  keep_kernel_log(a.status);
  try {
    dirs_.write_end(a.status);
  } catch (const std::exception& e) {
    // A full disk must not keep the end from being told. After a restart it is proven anew.
    spdlog::error("job {} epoch {}: {}", a.status.key.job.value, a.status.key.epoch.value, e.what());
  }
}

void Worker::act(Retire& a) {
  if (const auto end = dirs_.read_end(a.key)) keep_kernel_log(*end);
  links_.erase(a.key);
  supervisor_locks_.erase(a.key);
  watches_.erase(a.key);
  leases_.erase(a.key);
  rank_watches_.erase(a.key);
  users_.erase(a.key);
  try {
    dirs_.retire(a.key);
  } catch (const std::exception& e) {
    spdlog::error("job {} epoch {}: {}", a.key.job.value, a.key.epoch.value, e.what());
  }
  asio::post(disk_, [this, key = a.key] {
    evidence_.seal(key);
    dirs_.remove_private_tmp(key);
  });
  clean_up();
}

void Worker::act(SetLease& a) { lease_->store(a.until_boot_us); }

void Worker::act(SetAttemptLease& a) {  // before its supervisor is started there is no file yet
  if (const auto file = leases_.find(a.key); file != leases_.end()) file->second.store(a.until_boot_us);
}

void Worker::act(PingPeer& a) {
  if (peer_link_) peer_link_->send(a.ping, a.address, static_cast<std::uint16_t>(a.port));
}

void Worker::act(SaveHealth&) {
  json::object o;
  for (const auto& [uuid, reason] : core_.gpus().remembered()) o[uuid] = reason;
  try {
    supervisor::replace_file(settings_.state_dir + "/gpu_health.json", json::serialize(o), true);
  } catch (const std::exception& e) {
    spdlog::error("gpu_health.json: {}", e.what());
  }
}

void Worker::act(Note& a) {
  if (!a.key.job) {
    spdlog::warn("{}: {}", a.to, a.why);
    return;
  }
  log_change(spdlog::level::info,
             fmt::format("job {} epoch {}: {}{}{}{}{}", a.key.job.value, a.key.epoch.value, a.from,
                         a.from.empty() ? "" : " -> ", a.to, a.why.empty() ? "" : ": ", a.why),
             {{"event", "attempt"},
              {"job", a.key.job.value},
              {"epoch", a.key.epoch.value},
              {"node", settings_.node},
              {"from", a.from},
              {"to", a.to},
              {"detail", a.why}});
}

}  // namespace tutti::worker
