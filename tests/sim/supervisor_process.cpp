#include "tests/sim/supervisor_process.h"

#include <algorithm>
#include <cstdlib>
#include <utility>

#include "tests/sim/machine.h"

namespace tutti::sim {

using protocol::Phase;
using supervisor::Exit;

namespace {
constexpr std::int64_t kSecond = 1'000'000;
constexpr std::int64_t kProofLimit = 50 * kSecond;
constexpr int kSigKill = 9, kSigTerm = 15;
}  // namespace

namespace {
constexpr unsigned kDamagedPerMille = 60;
}

SupervisorProcess::SupervisorProcess(Machine& machine, supervisor::Config config, JobPlan plan,
                                     std::string checkpoint_dir)
    : machine_(machine),
      world_(machine.world()),
      oracle_(machine.oracle()),
      dice_(machine.dice().next(), 7),
      config_(std::move(config)),
      plan_(plan),
      checkpoint_dir_(std::move(checkpoint_dir)),
      part_(config_.local_ranks) {
  for (const auto& device : config_.devices) gpus_.push_back(device.uuid);
}

std::int64_t SupervisorProcess::boot_us() const { return machine_.boot_us(); }

void SupervisorProcess::soon(Duration delay, std::function<void()> what) {
  world_.after(delay, [self = shared_from_this(), what = std::move(what)] { self->gate(what); });
}

void SupervisorProcess::gate(std::function<void()> what) {
  if (!alive_) return;
  if (frozen_)
    deferred_.push_back(std::move(what));
  else
    what();
}

void SupervisorProcess::freeze() {
  world_.log(
      [&] { return machine_.name() + ": supervisor of " + to_string(config_.key.job) + " is frozen"; });
  frozen_ = alive_;
}

void SupervisorProcess::thaw() {
  if (!frozen_) return;
  world_.log(
      [&] { return machine_.name() + ": supervisor of " + to_string(config_.key.job) + " continues"; });
  frozen_ = false;
  const auto self = shared_from_this();
  for (auto& what : std::exchange(deferred_, {})) gate(std::move(what));
  gate([this] { turn(); });
}

void SupervisorProcess::start() {
  alive_ = true;
  soon(dice_.between(3ms, 60ms), [this] {
    listening_ = true;
    publish();
    prepare();
    turn();
  });
}

void SupervisorProcess::prepare() {
  if (config_.pick_master_port) master_port_ = 20'000 + static_cast<std::int32_t>(dice_.below(10'000));
  if (config_.setup.empty()) return part_.on_ready();
  anything_started_ = true;
  soon(plan_.setup + dice_.between(1ms, 500ms), [this] {
    if (part_.finishing()) return;
    if (dice_.chance(plan_.setup_fails_per_mille))
      part_.on_failure({.kind = "setup",
                        .exit_code = 1,
                        .boot_us = boot_us(),
                        .detail = "setup exited 1",
                        .last_lines = {}});
    else
      part_.on_ready();
    if (part_.phase() == Phase::ready && early_launch_) launch(*std::exchange(early_launch_, std::nullopt));
    turn();
  });
}

void SupervisorProcess::attach(Listener listener) {
  listener_ = std::move(listener);
  gate([this] {
    if (listener_ && !told_.empty()) listener_(status());
  });
}

void SupervisorProcess::obey(const supervisor::ToSupervisor& command) {
  if (frozen_) return gate([this, command] { obey(command); });
  if (!alive_) return;
  if (const auto* what = std::get_if<supervisor::Launch>(&command)) {
    launch(*what);
  } else if (const auto* how = std::get_if<supervisor::Stop>(&command)) {
    if (part_.finishing() || end_) return;
    const auto before = part_.stop_until();
    part_.on_stop(how->signal, how->grace_us, boot_us());
    const auto until = part_.stop_until();
    if (until != before && *until > boot_us())
      for (std::size_t i = 0; i < ranks_.size(); ++i)  // the signal
        if (ranks_[i].life != Life::dead && plan_.obeys_stop)
          soon(dice_.between(20ms, 900ms), [this, i] {
            if (ranks_[i].life != Life::up) return;
            if (ranks_[i].first) write_checkpoint(i, step_of(ranks_[i]));
            rank_exits(i, dice_.chance(300) ? Exit{.code = 85} : Exit{.signal = kSigTerm});
          });
  } else if (end_) {
    return die();
  }
  turn();
}

// ---------------------------------------------------------------- ranks

void SupervisorProcess::launch(const supervisor::Launch& what) {
  if (part_.phase() == Phase::preparing) {
    early_launch_ = what;
    return;
  }
  if (part_.phase() != Phase::ready || !part_.may_start()) return;
  part_.on_launched();
  for (const auto& process : what.processes) {
    start_rank(process);
    part_.on_process_started();
  }
}

void SupervisorProcess::start_rank(const supervisor::Process& process) {
  anything_started_ = true;
  Rank rank;
  rank.number = std::atoi(process.env.at("RANK").c_str());
  rank.first = rank.number == 0;
  if (const auto resume = process.env.find("RESUME_CHECKPOINT"); resume != process.env.end())
    if (const auto at = resume->second.rfind("step-"); at != std::string::npos)
      rank.first_step = std::atoll(resume->second.c_str() + at + 5);
  const std::size_t i = ranks_.size();
  ranks_.push_back(rank);
  oracle_.rank_started(config_.key, machine_.index(), rank.number, gpus_);
  soon(dice_.between(20ms, 700ms), [this, i] {
    rank_up(i);
    turn();
  });
}

void SupervisorProcess::rank_up(std::size_t i) {
  Rank& rank = ranks_[i];
  if (rank.life != Life::starting) return;
  const auto world_size = config_.local_ranks;  // only used for launchers of one node
  if (!part_.on_rank_up(rank.number, world_size)) return;
  rank.life = Life::up;
  rank.reported = true;
  rank.up_at = world_.now();
  const auto left = std::max<Duration>(plan_.work - kStep * rank.first_step, 200ms);
  soon(left + dice_.between(0ms, 200ms), [this, i] {
    if (ranks_[i].life == Life::up) rank_exits(i, Exit{});
    turn();
  });
  if (dice_.chance(plan_.fails_per_mille))
    soon(dice_.between(10ms, left), [this, i] {
      if (ranks_[i].life == Life::up) rank_exits(i, Exit{.code = plan_.exit_code});
      turn();
    });
  if (rank.first && plan_.checkpoint_every > Duration::zero()) checkpoint_later(i);
}

std::int64_t SupervisorProcess::step_of(const Rank& rank) const {
  return rank.first_step + (world_.now() - rank.up_at) / kStep;
}

void SupervisorProcess::checkpoint_later(std::size_t i) {
  soon(plan_.checkpoint_every + dice_.between(0ms, 50ms), [this, i] {
    if (ranks_[i].life != Life::up) return;
    write_checkpoint(i, step_of(ranks_[i]));
    checkpoint_later(i);
  });
}

void SupervisorProcess::write_checkpoint(std::size_t i, std::int64_t step) {
  if (checkpoint_dir_.empty() || step <= ranks_[i].first_step) return;
  auto& dir = machine_.workload().storage[checkpoint_dir_];
  const std::string path = checkpoint_dir_ + "/step-" + std::to_string(step);
  // Written badly, or damaged soon after.
  const bool damaged = !machine_.place().benign && dice_.chance(kDamagedPerMille);
  const StoredCheckpoint written{path, step, config_.key.epoch.value, damaged};
  const auto there = std::ranges::find(dir, path, &StoredCheckpoint::path);
  if (there == dir.end())
    dir.push_back(written);
  else if (there->epoch < written.epoch)  // a later attempt passes the same step again
    *there = written;
  else
    return;
  oracle_.checkpoint_written(config_.key, path);
}

// It exits, or its death by SIGKILL is complete.
void SupervisorProcess::rank_exits(std::size_t i, Exit exit) {
  Rank& rank = ranks_[i];
  if (rank.life == Life::dead) return;
  rank.life = Life::dead;
  oracle_.rank_dead(config_.key, machine_.index(), rank.number, exit.well());
  gate([this, i, exit, when = boot_us()] {
    const Rank& ended = ranks_[i];
    part_.on_rank_ended(ended.number, exit, false, when);
    part_.on_process_ended(exit, true, ended.reported, "the keeper of rank " + std::to_string(ended.number),
                           boot_us());
    turn();
  });
}

void SupervisorProcess::strike_rank(std::size_t i) {
  Rank& rank = ranks_[i];
  if (rank.life == Life::struck || rank.life == Life::dead) return;
  rank.life = Life::struck;
  rank.stuck = !machine_.place().benign && dice_.chance(15);
  if (rank.stuck) world_.mark("a rank is stuck in the kernel");
  oracle_.rank_struck(config_.key, machine_.index(), rank.number, rank.stuck);
  world_.after(rank.stuck ? dice_.between(3s, 80s) : dice_.between(1ms, 400ms),
               [self = shared_from_this(), i] { self->rank_exits(i, Exit{.signal = kSigKill}); });
}

void SupervisorProcess::kill_a_rank(Dice& dice) {
  std::vector<std::size_t> living;
  for (std::size_t i = 0; i < ranks_.size(); ++i)
    if (ranks_[i].life == Life::up || ranks_[i].life == Life::starting) living.push_back(i);
  if (living.empty()) return;
  const std::size_t i = living[dice.below(living.size())];
  constexpr int kSegv = 11;
  rank_exits(i, Exit{.signal = dice.chance(500) ? kSigKill : kSegv});
}

void SupervisorProcess::gpu_failed(const std::string& uuid, Dice& dice) {
  if (std::ranges::find(gpus_, uuid) == gpus_.end() || !dice.chance(600)) return;
  soon(dice.between(5ms, 3s), [this] {
    for (std::size_t i = 0; i < ranks_.size(); ++i)
      if (ranks_[i].life == Life::up) return rank_exits(i, Exit{.code = 1});
  });
}

bool SupervisorProcess::uses(const std::string& uuid) const {
  return std::ranges::find(gpus_, uuid) != gpus_.end() && any_alive();
}

bool SupervisorProcess::any_alive() const {
  return std::ranges::any_of(ranks_, [](const Rank& r) { return r.life != Life::dead; });
}

std::optional<std::int64_t> SupervisorProcess::step() const {
  if (ranks_.empty() || ranks_[0].life != Life::up) return std::nullopt;
  return step_of(ranks_[0]);
}

// ---------------------------------------------------------------- each round, and the end

std::int64_t SupervisorProcess::lease_us() const { return machine_.disk().attempts.at(config_.key).lease_us; }

void SupervisorProcess::turn() {
  if (!alive_) return;
  const std::int64_t now = boot_us();
  if (!part_.finishing() && machine_.canary() != Canary::ignore_lease && now >= lease_us()) {
    world_.log([&] {
      return machine_.name() + ": the lease has run out under " + to_string(config_.key.job) + "/" +
             to_string(config_.key.epoch);
    });
    world_.mark("supervisor: lease ran out");
    oracle_.lease_ran_out(config_.key, machine_.index());
    part_.on_lease_expired(now);
  }
  part_.settle(now);
  if (part_.finishing()) strike();
  publish();
  if (part_.finishing() && !(end_ && end_->proven) && now >= prove_at_) prove();
  arm();
}

void SupervisorProcess::arm() {
  std::optional<std::int64_t> next;
  const auto sooner = [&](std::int64_t when) { next = std::min(next.value_or(when), when); };
  if (!part_.finishing()) {
    if (machine_.canary() != Canary::ignore_lease) sooner(lease_us());
    if (part_.kill_at()) sooner(*part_.kill_at());
  } else if (!(end_ && end_->proven)) {
    sooner(std::max(prove_at_, boot_us() + 1));
  }
  if (!next) return;
  const Time when = machine_.when(*next);
  world_.at(std::max(when, world_.now() + 1us), [self = shared_from_this(), armed = ++armed_] {
    if (armed == self->armed_) self->gate([me = self.get()] { me->turn(); });
  });
}

void SupervisorProcess::strike() {
  if (struck_at_) return;
  struck_at_ = boot_us();
  for (std::size_t i = 0; i < ranks_.size(); ++i) strike_rank(i);
}

void SupervisorProcess::prove() {
  if (!anything_started_) return end(true, "never started");
  const std::int64_t now = boot_us();
  if (!any_alive() || machine_.canary() == Canary::proof_without_death) return end(true, "cgroup");
  prove_at_ = now + (end_ ? kSecond : kSecond / 50);
  if (!end_ && now >= *struck_at_ + kProofLimit) end(false, "processes are left in the cgroup");
}

void SupervisorProcess::end(bool proven, const std::string& how) {
  if (!proven) world_.mark("supervisor: end without proof");
  end_ = protocol::End{part_.all_ranks_well() && !part_.failure(), proven, how, boot_us()};
  part_.on_ended();
  publish();
}

supervisor::Status SupervisorProcess::status() const {
  supervisor::Status s;
  s.phase = part_.phase();
  s.master_port = master_port_;
  s.ranks_up = part_.ranks_up();
  s.ranks_done = part_.ranks_done();
  s.kill_mode = "cgroup2";
  s.failure = part_.failure();
  s.end = end_;
  s.pid = 1;
  return s;
}

void SupervisorProcess::publish() {
  if (!listening_) return;
  const auto now = status();
  std::string text = encode(now);
  if (text == told_) return;
  told_ = std::move(text);
  machine_.disk().attempts[config_.key].state = told_;
  if (listener_) listener_(now);
}

void SupervisorProcess::kill() {
  if (!alive_) return;
  die();
  for (std::size_t i = 0; i < ranks_.size(); ++i) strike_rank(i);  // they die with their parent
}

void SupervisorProcess::die() {
  alive_ = frozen_ = false;
  deferred_.clear();
  listener_ = nullptr;
  for (auto& told : std::exchange(watchers_, {})) told();
}

void SupervisorProcess::power_off() {
  alive_ = frozen_ = false;
  deferred_.clear();
  listener_ = nullptr;
  watchers_.clear();
  for (std::size_t i = 0; i < ranks_.size(); ++i) rank_exits(i, Exit{.signal = kSigKill});
}

bool SupervisorProcess::kill_and_look() {
  for (std::size_t i = 0; i < ranks_.size(); ++i) strike_rank(i);
  return !any_alive();
}

}  // namespace tutti::sim
