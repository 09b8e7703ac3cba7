// The worker process, part 2: what is on its machine. Supervisors, the probe, checkpoints.
#include <algorithm>

#include "tests/sim/worker_process.h"

namespace tutti::sim {
namespace {
constexpr Duration kScanEvery = 500ms;
}

// ---------------------------------------------------------------- supervisors

void WorkerProcess::open_local(AttemptKey key, const std::shared_ptr<SupervisorProcess>& supervisor) {
  const auto number = next_local_++;
  locals_[key] = LocalLink{.supervisor = supervisor, .number = number, .waiting = {}};
  connect_local(key, number);
  watch_death(key, number);
}

void WorkerProcess::connect_local(AttemptKey key, std::uint64_t number) {
  soon(dice_.between(100us, 5ms), [this, key, number] {
    const auto it = locals_.find(key);
    if (it == locals_.end() || it->second.number != number || !it->second.supervisor->alive()) return;
    if (!it->second.supervisor->listening()) return connect_local(key, number);
    it->second.connected = true;
    it->second.supervisor->attach([this, key, number, life = life_](const supervisor::Status& status) {
      const auto local = locals_.find(key);
      if (life != life_ || local == locals_.end() || local->second.number != number) return;
      local->second.last_up = std::max(local->second.last_up, world_.now() + dice_.between(50us, 2ms));
      const bool first = std::exchange(local->second.first, false);
      // As text, like everything that leaves a process.
      soon(local->second.last_up - world_.now(),
           [this, key, number, text = supervisor::encode(status), first] {
             const auto now_open = locals_.find(key);
             if (now_open == locals_.end() || now_open->second.number != number) return;
             core_->on_supervisor_status(clock(), key, supervisor::decode_status(text), first);
             settle();
           });
    });
    flush_local(it->second);
  });
}

void WorkerProcess::flush_local(LocalLink& link) {
  if (!link.connected) return;
  for (const auto& command : link.waiting) {
    link.last_down = std::max(link.last_down, world_.now() + dice_.between(50us, 2ms));
    // What is in the socket arrives although we die meanwhile.
    world_.at(link.last_down, [supervisor = link.supervisor, text = supervisor::encode(command)] {
      supervisor->obey(supervisor::decode_command(text));
    });
  }
  link.waiting.clear();
}

// By its pidfd; after what it has said last.
void WorkerProcess::watch_death(AttemptKey key, std::uint64_t number) {
  locals_.at(key).supervisor->when_dead([this, key, number, life = life_] {
    if (life != life_ || !alive_) return;
    const auto it = locals_.find(key);
    if (it == locals_.end() || it->second.number != number) return;
    const Time heard = std::max(it->second.last_up, world_.now()) + dice_.between(100us, 20ms);
    soon(heard - world_.now(), [this, key, number] {
      const auto local = locals_.find(key);
      if (local == locals_.end() || local->second.number != number) return;
      locals_.erase(local);
      core_->on_supervisor_gone(clock(), key);
      settle();
    });
  });
}

// ---------------------------------------------------------------- the probe

void WorkerProcess::start_probe() {
  probe_last_ = {};
  soon(dice_.between(30ms, 400ms), [this, probe = ++probe_] {
    if (probe != probe_) return;
    probe_up_ = true;
    core_->on_probe(clock(), machine_.inventory());
    for (const auto& gpu : machine_.gpus())
      if (gpu.lost) {  // a condition that holds is told by every new probe
        nvml::Fault fault;
        fault.uuid = gpu.uuid;
        fault.kind = nvml::FaultKind::gpu_lost;
        fault.boot_us = machine_.boot_us();
        fault.detail = "simulated";
        core_->on_probe(clock(), fault);
      }
    settle();
    if (!client_open_) connect();
  });
}

void WorkerProcess::crash_probe() {
  if (!alive_ || !probe_up_) return;
  probe_up_ = false;
  ++probe_;
  core_->on_probe_lost(clock());
  settle();
  soon(dice_.between(100ms, 2s), [this] { start_probe(); });
}

void WorkerProcess::on_driver(const nvml::Message& message) {
  if (!alive_ || !probe_up_) return;  // events that nobody listens for are lost
  probe_last_ = std::max(probe_last_, world_.now() + dice_.between(1ms, 20ms));
  soon(probe_last_ - world_.now(), [this, message, probe = probe_] {
    if (probe == probe_) probe_says(message);
  });
}

void WorkerProcess::probe_says(nvml::Message message) {
  if (!probe_up_) return;
  core_->on_probe(clock(), message);
  settle();
}

// ---------------------------------------------------------------- checkpoints and progress

void WorkerProcess::look_at_jobs() {
  for (const auto key : core_->attempts()) {
    const auto view = core_->find(key);
    if (view->ended || !view->spec) continue;
    if (view->phase != protocol::Phase::launched && view->phase != protocol::Phase::running) continue;
    if (const auto supervisor = machine_.supervisor_of(key))
      if (const auto step = supervisor->step()) {
        protocol::Progress progress;
        progress.key = key;
        progress.step = *step;
        core_->on_progress(clock(), progress);
      }
    scan(key);
  }
  settle();
  soon(kScanEvery, [this] { look_at_jobs(); });
}

void WorkerProcess::scan(AttemptKey key) {
  const auto view = core_->find(key);
  if (!view || !view->spec || view->prepare->index != 0 || view->spec->checkpoint.dir.empty()) return;
  auto& watch = watches_[key];
  for (const auto& stored : machine_.workload().storage[view->spec->checkpoint.dir]) {
    if (stored.epoch < key.epoch.value || !watch.seen.insert({stored.path, stored.epoch}).second) continue;
    protocol::CheckpointFound found;
    found.key = key;
    found.epoch_in_file = stored.epoch;
    found.step = stored.step;
    found.path = stored.path;
    found.bytes = 1 << 20;
    found.shards = 1;
    // A part of the damage is seen at once (a shard is short), a part by checksums, a part by nobody in time.
    if (stored.damaged && dice_.chance(200)) found.problem = "a shard is short";
    if (core_->on_checkpoint(clock(), found) && dice_.chance(700)) verify(key, found);
  }
}

StoredCheckpoint* WorkerProcess::stored(AttemptKey key, const std::string& path, std::int64_t epoch) {
  const auto view = core_->find(key);
  if (!view || !view->spec) return nullptr;
  auto& dir = machine_.workload().storage[view->spec->checkpoint.dir];
  const auto it = std::ranges::find(dir, path, &StoredCheckpoint::path);
  return it == dir.end() || it->epoch != epoch ? nullptr : &*it;
}

void WorkerProcess::verify(AttemptKey key, const protocol::CheckpointFound& found) {
  soon(dice_.between(10ms, 5s), [this, key, found] {
    const auto* c = stored(key, found.path, found.epoch_in_file);
    if (c == nullptr) return;
    using protocol::CheckpointVerdict;
    core_->on_checkpoint_checked(
        clock(), {key, found.epoch_in_file, found.step, found.path,
                  c->damaged ? CheckpointVerdict::damaged : CheckpointVerdict::verified, "simulated"});
    settle();
  });
}

void WorkerProcess::act(worker::CheckResume& a) {
  if (!machine_.place().benign && dice_.chance(20))
    return;  // the file server hangs: the core's deadline counts
  soon(dice_.between(1ms, 300ms), [this, key = a.key] {
    const auto view = core_->find(key);
    if (!view) return;
    worker::ResumeCheck result;
    const auto* c = stored(key, view->prepare->resume_path, view->prepare->resume_epoch);
    if (c == nullptr || c->damaged) {
      world_.mark("worker: damaged checkpoint seen before a launch");
      result = {worker::ResumeCheck::What::damaged, c == nullptr ? "is missing" : "its data have changed",
                false};
    }
    core_->on_resume_checked(clock(), key, result);
    settle();
  });
}

void WorkerProcess::act(worker::DeleteFiles& a) {
  soon(dice_.between(1ms, 2s), [this, order = a.order] {
    const auto view = core_->find(order.key);
    if (!view || !view->spec) return;
    auto& dir = machine_.workload().storage[view->spec->checkpoint.dir];
    const bool fails = !machine_.place().benign && dice_.chance(100);
    if (!fails) {
      const auto gone = std::erase_if(
          dir, [&](const auto& c) { return c.path == order.path && c.epoch == order.epoch_in_file; });
      if (gone > 0) world_.mark("worker: checkpoint deleted");
    }
    core_->on_checkpoint_deleted(
        {order.key, order.epoch_in_file, order.path, !fails, fails ? "read-only" : ""});
    settle();
  });
}

}  // namespace tutti::sim
