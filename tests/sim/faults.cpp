#include "tests/sim/faults.h"

#include <set>
#include <utility>

#include "tests/sim/worker_process.h"

namespace tutti::sim {
namespace {
constexpr Duration kUsualStore = 3ms;
constexpr Duration kLeaderIdle = 6s;
}  // namespace

Faults::Faults(Place& place, Server& server, std::vector<std::unique_ptr<Machine>>& machines)
    : place_(place),
      world_(place.network.world()),
      server_(server),
      machines_(machines),
      dice_(world_.dice(2)),
      upgrade_dice_(world_.dice(5)),
      person_dice_(world_.dice(6)) {}

void Faults::start(Time until) {
  if (place_.rolling) next_upgrade(until);
  if (place_.storm)
    next_storm(until);
  else
    next(until);
}

void Faults::next(Time until) {
  world_.after(dice_.between(200ms, 6s), [this, until] {
    if (over_ || world_.now() >= until) return;
    if (place_.benign)
      benign();
    else
      hostile();
    next(until);
  });
}

bool Faults::control_plane_down() const {
  if (!server_.up) return true;
  const SchedulerProcess* leader = acting_leader();
  return leader == nullptr || leader->plane() == nullptr || leader->waits_for_others() || split_;
}

void Faults::mend_after(Duration delay, std::function<void()> mend) {
  auto once = std::make_shared<std::function<void()>>(std::move(mend));
  mends_.push_back(once);
  world_.after(delay, [once] {
    if (auto f = std::exchange(*once, nullptr)) f();
  });
}

void Faults::heal() {
  over_ = true;
  world_.log([] { return std::string("---- everything is mended"); });
  server_.next_fault = db::MemoryStore::Fault::none;
  for (auto& mend : std::exchange(mends_, {}))
    if (auto f = std::exchange(*mend, nullptr)) f();
}

// A scheduler that starts now has the rows at once, and its workers.
bool Faults::calm() const {
  if (!server_.up || server_.slowest > kUsualStore) return false;
  for (std::size_t i = 0; i < machines_.size(); ++i)
    if (!place_.network.reachable(i)) return false;
  return true;
}

// What the fault met, for the list of what was covered.
void Faults::note(const std::string& what) {
  world_.log([&] { return "---- fault: " + what; });
  world_.mark("fault: " + what);
  world_.injected();
  for (const auto* s : place_.schedulers) {
    if (s->plane() == nullptr) continue;
    std::set<std::string> met;
    for (const auto& [key, attempt] : s->plane()->attempts())
      met.insert(std::string(name(attempt.row.state)));
    for (const auto& state : met) world_.mark(what + " while " + state);
  }
}

void Faults::benign() {
  const auto node = dice_.below(machines_.size());
  const auto kind = dice_.below(place_.schedulers.size() > 1 ? 10 : 8);
  // Losses of the scheduler process or of commits leave no room for a second fault within a lease.
  if (world_.now() < quiet_until_) return;
  Duration down{};
  switch (kind) {
    case 0:
      if (!calm()) return;
      // Attempts that hold their own leases live through a long absence.
      down = server_.continue_for > 1min && dice_.chance(400) ? dice_.between(6s, 40s)
                                                              : dice_.between(100ms, 1200ms);
      quiet_until_ = world_.now() + down + 14s;
      return kill_scheduler(down);
    case 1: return next_commit(db::MemoryStore::Fault::unavailable, "commit refused");
    case 2: return next_commit(db::MemoryStore::Fault::in_doubt_applied, "in doubt, applied");
    case 3: return next_commit(db::MemoryStore::Fault::in_doubt_not_applied, "in doubt, not applied");
    case 4:
    case 5: {
      const Duration length = dice_.between(500ms, 30s);
      return store_down(length);
    }
    case 6:
      return slow_store(dice_.chance(500) ? dice_.between(50ms, 400ms) : dice_.between(1s, 9s),
                        dice_.between(1s, 20s));
    case 8:
      if (!server_.up || server_.slowest > kUsualStore) return;
      quiet_until_ = world_.now() + 20s;
      return fail_over(false);
    case 9:
      // The others lead meanwhile, or wait for its session to end; its workers stay with it for R.
      quiet_until_ = world_.now() + 40s;
      return split(false, false);
    default: {
      const bool long_one = server_.continue_for > 1min && dice_.chance(300);
      return cut(node, dice_.chance(700), dice_.chance(700),
                 long_one ? dice_.between(2s, 30s) : dice_.between(50ms, 2s));
    }
  }
}

// The weather in which a broken rule shows soon, 0 = any.
std::uint64_t Faults::favourite() const {
  switch (place_.canary) {
    case Canary::lease_from_ack: return 16;
    case Canary::no_second_look: return 17;
    case Canary::forget_epochs: return 18;
    case Canary::ignore_lease: return 11;
    case Canary::free_unproven: return 9;
    case Canary::silence_guessed: return 12;
    case Canary::acks_forgotten: return 18;
    case Canary::renew_unconfirmed:
    case Canary::forget_predecessors:
    case Canary::one_instance: return 20;
    case Canary::settle_by_hello:
    case Canary::falling_terms: return 20;
    case Canary::reads_confirm: return 21;
    case Canary::confirmed_when_heard: return 24;
    case Canary::old_term_writes: return 1;
    case Canary::in_doubt_denied: return 4;
    case Canary::untold_term: return 20;
    case Canary::none:
    case Canary::speak_before_commit:
    case Canary::short_lease:
    case Canary::no_margin:
    case Canary::no_boot_grace:
    case Canary::proof_without_death:
    case Canary::no_adoption:
    case Canary::end_first:
    case Canary::blind_recovery:
    case Canary::not_unfolded: return 0;
  }
  return 0;
}

void Faults::hostile() {
  const auto node = dice_.below(machines_.size());
  std::uint64_t kind = dice_.below(place_.schedulers.size() > 1 ? 28 : 20);
  if (favourite() != 0 && dice_.chance(400)) kind = favourite();
  switch (kind) {
    case 0: return kill_scheduler(dice_.chance(500) ? dice_.between(10ms, 3s) : dice_.between(3s, 20s));
    case 1: return pause_scheduler(dice_.chance(500) ? dice_.between(10ms, 4s) : dice_.between(4s, 20s));
    case 2: return store_down(dice_.between(100ms, 20s));
    case 3: return slow_store(dice_.between(50ms, 5s), dice_.between(1s, 15s));
    case 4: return next_commit(db::MemoryStore::Fault::in_doubt_applied, "in doubt, applied");
    case 5: return next_commit(db::MemoryStore::Fault::in_doubt_not_applied, "in doubt, not applied");
    case 6: return next_commit(db::MemoryStore::Fault::unavailable, "commit refused");
    case 7: return kill_worker(node, dice_.chance(700) ? dice_.between(10ms, 3s) : dice_.between(3s, 20s));
    case 8: return kill_supervisor(node);
    case 9: return kill_rank(node);
    case 10: return power_off(node, dice_.between(500ms, 30s));
    case 11:
      return cut(node, true, true, dice_.chance(500) ? dice_.between(50ms, 2s) : dice_.between(2s, 25s));
    case 12: return cut(node, true, false, dice_.between(100ms, 15s));
    case 13: return cut(node, false, true, dice_.between(100ms, 15s));
    case 14: return xid(node);
    case 15: return pause_worker(node, dice_.chance(500) ? dice_.between(10ms, 4s) : dice_.between(4s, 15s));
    case 16: return cut_by_and_by(node);
    case 17: return freeze_supervisor(node);
    case 18: return cut_and_restart_peers(node);
    case 20: return split(true, false);
    case 21: return split(true, true);
    case 22: return split(false, dice_.chance(400));
    case 23: return fail_over(false);
    case 24: {
      const bool stale = place_.canary == Canary::confirmed_when_heard || upgrade_dice_.chance(400);
      return stale ? stale_answer() : split_of_slow_store();
    }
    case 25: return cut_from_workers();
    case 26: return doom();
    case 27: return jump_clocks();
    default: {
      note("burst of repeated orders and connections");
      for (int i = 0; i < 8; ++i)
        world_.after(dice_.between(0ms, 2s), [this] {
          for (auto* s : place_.schedulers) s->repeat_an_order(dice_);
        });
      if (auto* worker = machines_[node]->worker(); worker != nullptr && worker->alive()) worker->drop_link();
      if (dice_.chance(300))
        if (auto* worker = machines_[node]->worker()) worker->crash_probe();
      return;
    }
  }
}

void Faults::kill_scheduler(Duration down) {
  auto* s = place_.schedulers[dice_.below(place_.schedulers.size())];
  if (!s->alive()) return;
  note(down > 6s ? "scheduler killed for longer than a lease" : "scheduler killed");
  s->kill();
  mend_after(down, [s] {
    if (!s->alive()) s->start();
  });
}

void Faults::pause_scheduler(Duration length) {
  auto* s = place_.schedulers[dice_.below(place_.schedulers.size())];
  if (!s->alive() || s->paused()) return;
  note(length > 6s ? "scheduler paused for longer than a lease" : "scheduler paused");
  s->pause();
  mend_after(length, [s] { s->resume(); });
  // The server ends the session of a leader that says nothing, later than workers leave it: the other leads.
  if (place_.schedulers.size() > 1)
    world_.after(kLeaderIdle, [s] {
      if (s->paused()) s->cut_session();
    });
}

void Faults::store_down(Duration length) {
  if (!server_.up) return;
  note("store down");
  server_.up = false;
  for (auto* s : place_.schedulers) s->server_changed();
  mend_after(length, [this] {
    server_.up = true;
    for (auto* s : place_.schedulers) s->server_changed();
  });
}

void Faults::slow_store(Duration slowest, Duration length) {
  note("slow commits");
  server_.slowest = slowest;
  mend_after(length, [this] { server_.slowest = kUsualStore; });
}

void Faults::next_commit(db::MemoryStore::Fault fault, const std::string& name) {
  note(name);
  server_.next_fault = fault;
}

void Faults::cut(std::size_t node, bool up, bool down, Duration length) {
  if (!up && !down) up = down = true;
  note(std::string(up && down ? "node cut"
                   : up       ? "node cut, towards the scheduler"
                              : "node cut, towards the node") +
       (length <= 2s  ? " for a moment"
        : length > 6s ? " for longer than a lease"
                      : ""));
  world_.log(
      [&] { return "     node n" + std::to_string(node) + " for " + std::to_string(length / 1ms) + " ms"; });
  const bool peers = up && down && !place_.benign && dice_.chance(500);
  if (peers) world_.mark("node cut from its peers as well");
  if (up) place_.network.cut(node, Side::worker);
  if (down) place_.network.cut(node, Side::scheduler);
  if (peers) place_.network.cut_peers(node);
  machines_[node]->oracle().node_is_cut(node, true);
  mend_after(length, [this, node, up, down, peers] {
    if (up) place_.network.heal(node, Side::worker);
    if (down) place_.network.heal(node, Side::scheduler);
    if (peers) place_.network.heal_peers(node);
    machines_[node]->oracle().node_is_cut(node, false);
  });
}

void Faults::kill_worker(std::size_t node, Duration down) {
  auto* worker = machines_[node]->worker();
  if (worker == nullptr || !worker->alive() || any_frozen(node)) return;
  note(down > 6s ? "worker killed for longer than a lease" : "worker killed");
  machines_[node]->kill_worker();
  mend_after(down, [m = machines_[node].get()] { m->start_worker(); });
}

void Faults::pause_worker(std::size_t node, Duration length) {
  auto* worker = machines_[node]->worker();
  if (worker == nullptr || !worker->alive() || any_frozen(node)) return;
  note(length > 6s ? "worker paused for longer than a lease" : "worker paused");
  worker->pause();
  mend_after(length, [worker] { worker->resume(); });
}

// One direction first, then the other; the first comes back while the second is still away: what had been
// said meanwhile arrives late.
void Faults::cut_by_and_by(std::size_t node) {
  note("node cut, one direction after the other");
  const Side first = dice_.chance(700) ? Side::scheduler : Side::worker;
  place_.network.cut(node, first);
  mend_after(dice_.between(1500ms, 3500ms), [this, node, first] { place_.network.heal(node, first); });
  const Duration until_second = dice_.between(1ms, 1s), length = dice_.between(3s, 20s);
  world_.after(until_second, [this, node, first, length] {
    if (over_) return;
    place_.network.cut(node, other(first));
    mend_after(length, [this, node, first] { place_.network.heal(node, other(first)); });
  });
}

// Its peers still hear it; then all their workers start anew, while the scheduler asks them about it.
void Faults::cut_and_restart_peers(std::size_t node) {
  note("node cut from the scheduler while its peers' workers start anew");
  place_.network.cut(node, Side::worker);
  mend_after(dice_.between(10s, 25s), [this, node] { place_.network.heal(node, Side::worker); });
  world_.after(dice_.between(6s, 12s), [this, node] {
    for (std::size_t i = 0; i < machines_.size() && !over_; ++i)
      if (i != node) kill_worker(i, dice_.between(10ms, 1500ms));
  });
}

void Faults::kill_supervisor(std::size_t node) {
  std::vector<SupervisorProcess*> living;
  for (const auto& [key, supervisor] : machines_[node]->supervisors())
    if (supervisor->alive()) living.push_back(supervisor.get());
  if (living.empty()) return;
  note("supervisor killed");
  living[dice_.below(living.size())]->kill();
}

// Who watches a node's lease are its supervisors and its worker. That both are away at once is not survived
// yet (docs/design/0002-fence.md), so it is not asked for here.
bool Faults::any_frozen(std::size_t node) const {
  for (const auto& [key, supervisor] : machines_[node]->supervisors())
    if (supervisor->frozen()) return true;
  return false;
}

void Faults::freeze_supervisor(std::size_t node) {
  const auto* worker = machines_[node]->worker();
  if (worker == nullptr || !worker->alive() || worker->paused() || worker->core()->lease_until_boot_us() == 0)
    return;
  std::vector<std::shared_ptr<SupervisorProcess>> living;
  for (const auto& [key, supervisor] : machines_[node]->supervisors())
    if (supervisor->alive()) living.push_back(supervisor);
  if (living.empty()) return;
  note("supervisor frozen");
  auto victim = living[dice_.below(living.size())];
  victim->freeze();
  const bool cut_too = dice_.chance(place_.canary == Canary::no_second_look ? 1000 : 300);
  if (cut_too) cut(node, true, true, dice_.between(8s, 20s));
  mend_after(cut_too ? dice_.between(7s, 14s) : dice_.between(500ms, 9s), [victim] { victim->thaw(); });
}

void Faults::kill_rank(std::size_t node) {
  std::vector<SupervisorProcess*> living;
  for (const auto& [key, supervisor] : machines_[node]->supervisors())
    if (supervisor->alive()) living.push_back(supervisor.get());
  if (living.empty()) return;
  note("rank killed");
  living[dice_.below(living.size())]->kill_a_rank(dice_);
}

void Faults::power_off(std::size_t node, Duration down) {
  if (!machines_[node]->powered()) return;
  note("node without power");
  machines_[node]->power_off();
  if (down > 8s && person_dice_.chance(700)) vouch_for(node);
  mend_after(down, [m = machines_[node].get()] {
    if (!m->powered()) m->boot();
  });
}

// A person who tells the truth says so to whoever leads.
void Faults::vouch_for(std::size_t node) {
  world_.after(person_dice_.between(8s, 20s), [this, m = machines_[node].get()] {
    if (over_ || m->powered()) return;
    for (auto* s : place_.schedulers) {
      if (!s->leads() || s->is_before()) continue;
      Command off;
      off.decide = [this, name = m->name()](ControlPlane& plane, Now now) -> std::function<void()> {
        const auto known = plane.cluster().node_by_name.find(name);
        const bool waited_for = known != plane.cluster().node_by_name.end() &&
                                plane.cluster().nodes.at(known->second).row.state != NodeState::dead;
        if (plane.on_node_off(now, name, "eve", "no power") && waited_for)
          world_.mark("a person vouches that a node is off");
        return [] {};
      };
      s->gate([s, off] { s->post(off); });
    }
  });
}

void Faults::xid(std::size_t node) {
  constexpr unsigned kNumbers[] = {13, 31, 48, 79, 79, 94, 119};
  const unsigned number = kNumbers[dice_.below(std::size(kNumbers))];
  if (machines_[node]->gpus().empty()) return;
  note("Xid " + std::to_string(number));
  machines_[node]->xid(dice_.below(machines_[node]->gpus().size()), number);
}

}  // namespace tutti::sim
