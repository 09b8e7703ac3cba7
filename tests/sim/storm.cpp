// Faults, part 2: storms. Whole racks whose links flap, a switch or the power of a rack that goes, bursts of
// Xids and of dead ranks, workers of a rack that are killed together; and with them, as ever, the scheduler
// and the store.
//
// Left out, as in faults.cpp, is what the fence does not survive yet (docs/design/0002-fence.md): a frozen
// supervisor beside a dead worker.
#include <algorithm>

#include "tests/sim/faults.h"
#include "tests/sim/worker_process.h"

namespace tutti::sim {
namespace {
constexpr std::size_t kRack = 40;
}

void Faults::one_of_many(const std::string& what) {
  world_.mark("storm: " + what);
  world_.injected();
}

void Faults::next_storm(Time until) {
  world_.after(machines_.size() > 100 ? dice_.between(50ms, 1s) : dice_.between(10ms, 1s), [this, until] {
    if (over_ || world_.now() >= until) return;
    storm();
    next_storm(until);
  });
}

void Faults::storm() {
  switch (dice_.below(14)) {
    case 0:
    case 1:
    case 2: return flapping_rack();
    case 3: return switch_lost();
    case 4: return rack_without_power();
    case 5:
    case 6: return burst_of_xids();
    case 7:
    case 8: return burst_of_dead_ranks();
    case 9: return workers_of_a_rack_killed();
    case 10: return workers_of_a_rack_paused();
    case 11: return kill_scheduler(dice_.between(10ms, 3s));
    default: {
      constexpr db::MemoryStore::Fault kFaults[] = {db::MemoryStore::Fault::in_doubt_applied,
                                                    db::MemoryStore::Fault::in_doubt_not_applied,
                                                    db::MemoryStore::Fault::unavailable};
      if (dice_.chance(300)) return store_down(dice_.between(100ms, 4s));
      return next_commit(kFaults[dice_.below(3)], "commit refused or in doubt");
    }
  }
}

// Of a small cluster: some of its nodes.
std::vector<std::size_t> Faults::some_rack() {
  std::vector<std::size_t> nodes;
  const std::size_t size = std::min(kRack, std::max<std::size_t>(machines_.size() / 2, 1));
  const std::size_t first = dice_.below((machines_.size() + size - 1) / size) * size;
  for (std::size_t n = first; n < std::min(first + size, machines_.size()); ++n) nodes.push_back(n);
  return nodes;
}

void Faults::flap(std::size_t node, Time until) {
  if (over_ || world_.now() >= until) return;
  one_of_many("a link flaps");
  const bool up = dice_.chance(700), down = !up || dice_.chance(700);
  const Duration length = dice_.chance(900) ? dice_.between(20ms, 1s) : dice_.between(1s, 3s);
  if (up) place_.network.cut(node, Side::worker);
  if (down) place_.network.cut(node, Side::scheduler);
  mend_after(length, [this, node, up, down] {
    if (up) place_.network.heal(node, Side::worker);
    if (down) place_.network.heal(node, Side::scheduler);
  });
  world_.after(length + dice_.between(100ms, 3s), [this, node, until] { flap(node, until); });
}

void Faults::flapping_rack() {
  const Time until = world_.now() + dice_.between(3s, 12s);
  for (const auto node : some_rack()) flap(node, until);
}

void Faults::switch_lost() {
  const Duration length = dice_.chance(500) ? dice_.between(500ms, 5s) : dice_.between(5s, 15s);
  for (const auto node : some_rack()) {
    one_of_many(length > 6s ? "a link is lost with its switch, for longer than a lease"
                            : "a link is lost with its switch");
    place_.network.cut(node, Side::worker);
    place_.network.cut(node, Side::scheduler);
    place_.network.cut_peers(node);
    mend_after(length, [this, node] {
      place_.network.heal_peers(node);
      place_.network.heal(node, Side::worker);
      place_.network.heal(node, Side::scheduler);
    });
  }
}

void Faults::rack_without_power() {
  for (const auto node : some_rack()) {
    if (!machines_[node]->powered()) continue;
    one_of_many("a node loses its power with its rack");
    machines_[node]->power_off();
    mend_after(dice_.between(1s, 12s), [m = machines_[node].get()] {
      if (!m->powered()) m->boot();
    });
  }
}

void Faults::burst_of_xids() {
  constexpr unsigned kNumbers[] = {48, 79, 94, 95, 119};
  const std::size_t n = std::max<std::size_t>(machines_.size() / 50, 1);
  for (std::size_t i = 0; i < n; ++i) {
    auto& machine = *machines_[dice_.below(machines_.size())];
    if (!machine.powered() || machine.gpus().empty()) continue;
    one_of_many("a GPU fails in a burst");
    machine.xid(dice_.below(machine.gpus().size()), kNumbers[dice_.below(std::size(kNumbers))]);
  }
}

void Faults::burst_of_dead_ranks() {
  const unsigned share = machines_.size() > 100 ? 100 : 500;
  for (auto& machine : machines_)
    for (const auto& [key, supervisor] : machine->supervisors()) {
      if (!supervisor->alive() || !dice_.chance(share)) continue;
      const bool rank = dice_.chance(800);
      one_of_many(rank ? "a rank is killed in a burst" : "a supervisor is killed in a burst");
      if (rank)
        supervisor->kill_a_rank(dice_);
      else
        supervisor->kill();
      break;
    }
}

void Faults::workers_of_a_rack_killed() {
  for (const auto node : some_rack()) {
    auto* worker = machines_[node]->worker();
    if (worker == nullptr || !worker->alive() || any_frozen(node)) continue;
    one_of_many("a worker is killed with its rack's");
    machines_[node]->kill_worker();
    mend_after(dice_.between(10ms, 4s), [m = machines_[node].get()] { m->start_worker(); });
  }
}

void Faults::workers_of_a_rack_paused() {
  const Duration length = dice_.between(100ms, 8s);
  for (const auto node : some_rack()) {
    auto* worker = machines_[node]->worker();
    if (worker == nullptr || !worker->alive() || worker->paused() || any_frozen(node)) continue;
    one_of_many("a worker is paused with its rack's");
    worker->pause();
    mend_after(length, [worker] { worker->resume(); });
  }
}

}  // namespace tutti::sim
