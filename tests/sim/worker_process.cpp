#include "tests/sim/worker_process.h"

#include <algorithm>
#include <utility>
#include <variant>

#include "api/wire/job_spec_codec.h"
#include "api/wire/messages.h"
#include "scheduler/core/lease_table.h"
#include "scheduler/model/fault_table.h"
#include "worker/core/launch_plan.h"

namespace tutti::sim {

using worker::Adopted;

namespace {
constexpr Duration kBackOffMin = 100ms;
constexpr Duration kKillDeadline = 4s;

bool is_fatal(std::string_view kind, std::int32_t xid) {
  return FaultTable::built_in().judge(kind, xid).gpu == FaultGpu::quarantine;
}
}  // namespace

WorkerProcess::WorkerProcess(Machine& machine)
    : machine_(machine), world_(machine.world()), dice_(world_.dice(200 + machine.index())) {}

void WorkerProcess::soon(Duration delay, std::function<void()> what) {
  world_.after(delay, [this, life = life_, what = std::move(what)] {
    if (life == life_ && alive_) gate(what);
  });
}

void WorkerProcess::gate(std::function<void()> what) {
  if (paused_)
    deferred_.push_back(std::move(what));
  else
    what();
}

void WorkerProcess::pause() {
  world_.log([&] { return machine_.name() + ": worker is paused"; });
  paused_ = true;
}

void WorkerProcess::resume() {
  if (!paused_) return;
  world_.log([&] { return machine_.name() + ": worker continues"; });
  paused_ = false;
  for (auto& what : std::exchange(deferred_, {})) what();
}

// ---------------------------------------------------------------- life

void WorkerProcess::build_core(bool remember_epochs) {
  worker::CoreSettings settings;
  settings.fatal = &is_fatal;
  settings.gate = true;
  settings.self.worker_version = "sim";
  settings.self.node = machine_.name();
  settings.self.address = "10.0.0." + std::to_string(1 + machine_.index());
  settings.self.boot_id = machine_.boot_id();
  settings.self.cpus = 64;
  settings.self.memory_bytes = 1LL << 40;
  settings.self.kill_mode = "cgroup2";
  settings.self.peer_port = 1;
  settings.started = machine_.canary() == Canary::acks_forgotten ? Mono{} : clock().mono;
  core_ = std::make_unique<worker::WorkerCore>(std::move(settings));
  auto& disk = machine_.disk();
  const bool former_boot = !disk.boot_id.empty() && disk.boot_id != machine_.boot_id();
  if (former_boot)
    disk.lease_us = 0;
  else
    core_->gpus().remember(disk.gpu_health);
  core_->restore_lease(Mono(Duration(disk.lease_us)));
  recover(former_boot, remember_epochs);
  disk.boot_id = machine_.boot_id();
}

void WorkerProcess::start() {
  alive_ = true;
  ++life_;
  tick_at_ = {};
  back_off_ = kBackOffMin;
  welcomed_ = client_open_ = false;
  build_core(machine_.canary() != Canary::forget_epochs);
  settle();
  look_at_jobs();
  start_probe();
  soon(10s, [this] {  // the probe does not say which GPUs there are
    if (!client_open_) connect();
  });
}

void WorkerProcess::end(bool machine_lives) {
  alive_ = paused_ = false;
  ++life_;
  deferred_.clear();
  for (auto& [key, local] : locals_)
    if (local.connected) local.supervisor->attach(nullptr);
  locals_.clear();
  watches_.clear();
  being_killed_.clear();
  core_.reset();
  probe_up_ = false;
  if (link_) link_->vanish(Side::worker, machine_lives);
  link_.reset();
  ++connection_;
}

void WorkerProcess::recover(bool former_boot, bool remember_epochs) {
  if (machine_.canary() == Canary::no_adoption) {
    for (auto& [key, dir] : machine_.disk().attempts) dir.retired = true;
    return;
  }
  for (auto& [key, dir] : machine_.disk().attempts) {
    if (dir.retired) {
      if (remember_epochs) core_->forget_epoch(key);
      continue;
    }
    Adopted found;
    found.prepare = std::get<protocol::Prepare>(wire::decode_to_worker(dir.prepare).value());
    found.spec = parse(found.prepare.spec_json);
    if (!dir.end.empty())
      found.recorded_end = std::get<protocol::AttemptStatus>(wire::decode_from_worker(dir.end).value());
    if (!dir.state.empty()) found.last_status = supervisor::decode_status(dir.state);
    found.former_boot = former_boot;
    if (!former_boot) found.lease_until = Mono(Duration(dir.lease_us));
    const auto supervisor = machine_.supervisor_of(key);
    found.supervisor_alive = !former_boot && supervisor && supervisor->alive();
    if (found.supervisor_alive) open_local(key, supervisor);
    core_->adopt(clock(), found);
    world_.mark(found.former_boot        ? "adopted after a boot"
                : found.recorded_end     ? "adopted an end"
                : found.supervisor_alive ? "adopted a living supervisor"
                                         : "adopted without a supervisor");
    if (found.supervisor_alive && found.recorded_end && found.recorded_end->end->proven) {
      worker::TellSupervisor quit{key, supervisor::Quit{}};
      act(quit);
    }
  }
}

void WorkerProcess::settle() {
  if (settling_) return;
  settling_ = true;
  for (auto actions = core_->take_actions(); !actions.empty(); actions = core_->take_actions())
    for (auto& action : actions) std::visit([this](auto& a) { act(a); }, action);
  settling_ = false;
  arm();
}

void WorkerProcess::arm() {
  const Time when = world_.now() + core_->next_wake(clock()) + 1us;
  if (tick_at_ > world_.now() && tick_at_ <= when) return;  // an earlier one looks again
  tick_at_ = when;
  soon(when - world_.now(), [this, armed = ++tick_] {
    if (armed != tick_) return;
    tick_at_ = {};
    core_->on_tick(clock());
    settle();
  });
}

// ---------------------------------------------------------------- actions

void WorkerProcess::act(worker::Send& a) {
  if (auto* said = std::get_if<protocol::PeerSilence>(&a.message)) {
    world_.mark("a peer is asked");
    if (machine_.canary() == Canary::silence_guessed) said->silent_us += 20'000'000;
  }
  if (auto* hello = std::get_if<protocol::Hello>(&a.message);
      hello != nullptr && machine_.canary() == Canary::end_first)
    for (auto& status : hello->attempts) status = core_->status_of(status.key);
  if (machine_.old_version()) {  // what a worker of the version before does not say
    if (auto* hello = std::get_if<protocol::Hello>(&a.message)) {
      world_.mark("a worker of the version before says hello");
      hello->health.reset();
    }
    if (auto* beat = std::get_if<protocol::Heartbeat>(&a.message)) {
      beat->term.reset();
      beat->wall_us.reset();
      beat->loads.reset();
    }
  }
  if (link_) link_->send(Side::worker, wire::encode(a.message));
}

worker::NodeFacts WorkerProcess::facts_of(AttemptKey key) const {
  worker::NodeFacts f;
  f.dir = "/var/lib/tutti/attempts/" + to_string(key.job) + "-" + to_string(key.epoch);
  f.devices = core_->devices_of(key);
  f.node_has_gpus = !machine_.gpus().empty();
  f.rank_program = "tutti-rank";
  return f;
}

void WorkerProcess::act(worker::SpawnSupervisor& a) {
  const auto view = core_->find(a.key);
  if (!view) return;
  auto preparation = worker::plan_preparation(*view->spec, *view->prepare, facts_of(a.key));
  auto& dir = machine_.disk().attempts[a.key];
  dir.prepare = wire::encode(protocol::ToWorker(*view->prepare));
  dir.config = supervisor::encode(preparation.config);
  dir.lease_us = core_->lease_until_boot_us(a.key);
  if (!machine_.place().benign && dice_.chance(5)) {  // no memory, no disk
    world_.mark("a supervisor cannot be started");
    return core_->on_launch_failed(clock(), a.key, "fork: Cannot allocate memory", false);
  }
  open_local(a.key, machine_.spawn_supervisor(supervisor::decode_config(dir.config), view->spec->name,
                                              view->spec->checkpoint.dir));
}

void WorkerProcess::act(worker::LaunchRanks& a) {
  const auto view = core_->find(a.key);
  if (!view) return;
  auto plan = worker::plan_launch(*view->spec, *view->prepare, a.launch, facts_of(a.key), clock().wall);
  if (!plan) return core_->on_launch_failed(clock(), a.key, plan.error().message, true);
  worker::TellSupervisor tell{a.key, std::move(plan->launch)};
  act(tell);
}

void WorkerProcess::act(worker::TellSupervisor& a) {
  const auto it = locals_.find(a.key);
  if (it == locals_.end()) return;
  const bool blind = machine_.canary() == Canary::lease_from_ack || machine_.canary() == Canary::ignore_lease;
  if (const auto* stop = std::get_if<supervisor::Stop>(&a.command);
      blind && stop != nullptr && stop->cause == "lease")
    return;  // the second pair of eyes is shut as well
  it->second.waiting.push_back(a.command);
  flush_local(it->second);
}

void WorkerProcess::act(worker::KillAndProve& a) {
  if (!being_killed_.insert(a.key).second) return;
  const bool blind = machine_.canary() == Canary::lease_from_ack ||
                     machine_.canary() == Canary::ignore_lease || machine_.canary() == Canary::no_second_look;
  const auto supervisor = machine_.supervisor_of(a.key);
  if (blind && supervisor && supervisor->alive())  // the blow after the lease: that eye is shut as well
    return soon(1ms, [this, key = a.key] {
      being_killed_.erase(key);
      core_->on_killed(clock(), key, false, "blind");
      settle();
    });
  kill_until(a.key, world_.now() + kKillDeadline);
}

void WorkerProcess::act(worker::KillSupervisor& a) {
  world_.mark("worker: late supervisor killed");
  if (const auto supervisor = machine_.supervisor_of(a.key); supervisor && supervisor->alive())
    supervisor->kill();
}

void WorkerProcess::kill_until(AttemptKey key, Time deadline) {
  soon(dice_.between(1ms, 100ms), [this, key, deadline] {
    const auto supervisor = machine_.supervisor_of(key);
    const bool proven =
        !supervisor || supervisor->kill_and_look() || machine_.canary() == Canary::proof_without_death;
    if (!proven && world_.now() < deadline) return kill_until(key, deadline);
    world_.mark(proven ? "worker: killed and proven" : "worker: kill without proof");
    being_killed_.erase(key);
    core_->on_killed(clock(), key, proven, proven ? "cgroup" : "processes are left");
    settle();
  });
}

void WorkerProcess::act(worker::FinalScan& a) {
  // A file server that hangs must not hold the end up.
  const bool hangs = !machine_.place().benign && dice_.chance(10);
  soon(hangs ? Duration(10s) : dice_.between(1ms, 80ms), [this, key = a.key, hangs] {
    if (hangs)
      machine_.oracle().checkpoints_cannot_be_read(key);
    else
      scan(key);
    core_->on_final_scan(clock(), key);
    settle();
  });
}

void WorkerProcess::act(worker::AskProcesses& a) {
  if (!probe_up_) return;
  soon(dice_.between(1ms, 60ms), [this, uuid = a.uuid, id = a.id] {
    nvml::Processes answer;
    answer.id = id;
    answer.uuid = uuid;
    const auto& gpus = machine_.gpus();
    const auto gpu = std::ranges::find(gpus, uuid, &SimGpu::uuid);
    if (gpu != gpus.end() && gpu->lost)
      answer.error = "GPU is lost";
    else
      answer.pids = machine_.canary() == Canary::proof_without_death ? std::vector<unsigned>()
                                                                     : machine_.processes_on(uuid);
    probe_says(std::move(answer));
  });
}

void WorkerProcess::act(worker::RecordEnd& a) {
  auto& dir = machine_.disk().attempts[a.status.key];
  if (dir.prepare.empty()) {  // refused before it began: there is no directory
    machine_.disk().attempts.erase(a.status.key);
    return;
  }
  dir.end = wire::encode(protocol::FromWorker(a.status));
}

void WorkerProcess::act(worker::Retire& a) {
  locals_.erase(a.key);
  watches_.erase(a.key);
  if (const auto dir = machine_.disk().attempts.find(a.key); dir != machine_.disk().attempts.end())
    dir->second.retired = true;
}

// Now and then the quick look finds something, or does not come back within the gate's time.
void WorkerProcess::act(worker::RunGate& a) {
  const bool benign = machine_.place().benign;
  const bool hangs = !benign && dice_.chance(3);
  const bool fails = !benign && dice_.chance(5);
  soon(hangs ? Duration(20s) : dice_.between(1ms, 60ms), [this, key = a.key, fails] {
    core_->on_gate(clock(), key, fails ? "scratch: create a file: No space left on device" : "");
    settle();
  });
}

void WorkerProcess::act(worker::RunInspection& a) {
  soon(dice_.between(10ms, 2s), [this, request = a.request] {
    protocol::InspectionReport report;
    report.request = request.request;
    report.trigger = request.trigger;
    report.checks = core_->check_gpus();
    const auto now = clock();
    core_->on_inspection(now, std::move(report), now.wall, false);
    settle();
  });
}

void WorkerProcess::act(worker::SetLease& a) {
  machine_.disk().lease_us = machine_.canary() == Canary::lease_from_ack
                                 ? machine_.boot_us() + Duration(LeaseSettings{}.lease).count()
                                 : a.until_boot_us;
}

void WorkerProcess::act(worker::SetAttemptLease& a) {
  const auto dir = machine_.disk().attempts.find(a.key);
  if (dir == machine_.disk().attempts.end()) return;
  dir->second.lease_us = machine_.canary() == Canary::lease_from_ack
                             ? machine_.boot_us() + Duration(LeaseSettings{}.lease).count()
                             : a.until_boot_us;
  if (a.until_boot_us > machine_.disk().lease_us) world_.mark("a gang holds its own lease");
}

void WorkerProcess::act(worker::SaveHealth&) { machine_.disk().gpu_health = core_->gpus().remembered(); }

void WorkerProcess::act(worker::Note& a) {
  world_.log([&] {
    return machine_.name() + ": job " + to_string(a.key.job) + "/" + to_string(a.key.epoch) + " " + a.from +
           " -> " + a.to + " " + a.why;
  });
}

}  // namespace tutti::sim
