// Faults, part 3: of several schedulers on one store (docs/design/0016-replicas.md). The leader and the store
// do not hear each other; the primary is replaced, and the old one lives on with the leader; the cluster
// falls apart, so that some nodes hear the old leader only and others the new one only, and a node changes
// sides and comes back; a leader dies between its commit and what it would have said; calendars jump.
#include "tests/sim/faults.h"
#include "tests/sim/worker_process.h"

namespace tutti::sim {

SchedulerProcess* Faults::acting_leader() const {
  if (!server_.up) return nullptr;
  const Term newest = server_.database->leader().term;
  for (auto* s : place_.schedulers)
    if (s->leads() && s->term() == newest && s->has_store() && !s->paused()) return s;
  return nullptr;
}

void Faults::split(bool apart, bool old_primary) {
  SchedulerProcess* leader = acting_leader();
  if (leader == nullptr || split_ || place_.schedulers.size() < 2) return;
  std::size_t at = 0;
  while (place_.schedulers[at] != leader) ++at;
  const Duration length = place_.benign                   ? dice_.between(2s, 15s)
                          : place_.canary != Canary::none ? dice_.between(40s, 60s)
                                                          : dice_.between(3s, 45s);
  note(old_primary
           ? (apart ? "cluster apart, the leader with the old primary" : "leader with the old primary")
           : (apart ? "cluster apart, the leader without the store" : "leader cut off from the store only"));
  split_ = true;
  if (old_primary) {
    fail_over(true);
  } else {
    // By keepalive; at once, when the server itself was ended meanwhile.
    leader->cut_store(place_.canary == Canary::none && dice_.chance(500) ? dice_.between(1s, 11s)
                                                                         : dice_.between(0ms, 1s));
  }
  if (apart) fall_apart(at, length, true);
  mend_after(length, [this, leader, old_primary] {
    split_ = false;
    if (old_primary)
      leader->rejoin();
    else
      leader->heal_store();
  });
}

// Answers that take as long as that come when the lead is long lost.
void Faults::split_of_slow_store() {
  slow_store(9s, dice_.between(10s, 14s));
  world_.after(dice_.between(5s, 9s), [this] {
    if (!over_) split(true, false);
  });
}

// What confirmed the lead lies there and is read only when the process goes on, before its workers have left
// it: it has been followed meanwhile, and nobody can tell it.
void Faults::stale_answer() {
  SchedulerProcess* leader = acting_leader();
  if (leader == nullptr || split_ || place_.schedulers.size() < 2) return;
  leader->pause_before_next_answer([this, leader] {
    const bool vain = over_ || split_;
    if (!vain) {
      note("leader paused before it has read an answer, then cut off from the store");
      std::size_t at = 0;
      while (place_.schedulers[at] != leader) ++at;
      const Duration length =
          place_.canary != Canary::none ? dice_.between(40s, 60s) : dice_.between(6s, 45s);
      split_ = true;
      leader->cut_store(0ms);
      fall_apart(at, length, false);
      mend_after(length, [this, leader] {
        split_ = false;
        leader->heal_store();
      });
    }
    mend_after(vain ? Duration(0ms) : dice_.between(2700ms, 2950ms), [leader] { leader->resume(); });
  });
}

void Faults::fall_apart(std::size_t leader, Duration length, bool wandering) {
  const bool peers = dice_.chance(500);
  for (std::size_t node = 0; node < machines_.size(); ++node) {
    const bool with_it = dice_.chance(500);
    std::vector<std::size_t> away;
    for (std::size_t s = 0; s < place_.schedulers.size(); ++s)
      if ((s == leader) != with_it) away.push_back(s);
    for (const std::size_t s : away)
      for (const Side side : {Side::worker, Side::scheduler}) place_.network.cut(node, s, side);
    if (peers) place_.network.put_on_side(node, with_it ? 1 : 0);
    mend_after(length, [this, node, away] {
      place_.network.put_on_side(node, 0);
      for (const std::size_t s : away)
        for (const Side side : {Side::worker, Side::scheduler}) place_.network.heal(node, s, side);
    });
    if (!wandering || !with_it || !dice_.chance(700)) continue;
    for (std::size_t s = 0; s < place_.schedulers.size(); ++s)
      if (s != leader) wander(leader, node, s);
  }
}

// A node of the old leader's side is with the new one for a moment, which is heard or does not hear back.
void Faults::wander(std::size_t leader, std::size_t node, std::size_t to) {
  world_.after(dice_.between(2s, 12s), [this, leader, node, to] {
    auto* worker = machines_[node]->worker();
    if (over_ || !split_ || worker == nullptr || !worker->alive() || worker->paused()) return;
    if (!place_.schedulers[to]->leads()) return;
    const bool one_way = dice_.chance(500);
    world_.mark(one_way ? "a node is heard by the new leader, and goes back"
                        : "a node is with the new leader, and goes back");
    for (const Side side : {Side::worker, Side::scheduler}) place_.network.heal(node, to, side);
    const auto deaf = std::make_shared<bool>(false);
    if (one_way)
      worker->when_connected(to, [this, node, to, deaf] {
        if (over_ || std::exchange(*deaf, true)) return;
        place_.network.cut(node, to, Side::scheduler);
      });
    worker->go_to(to);
    // Cut again with the mending of the whole, whichever is first.
    world_.after(one_way ? dice_.between(300ms, 1500ms) : dice_.between(1s, 3s),
                 [this, leader, node, to, deaf] {
                   place_.network.cut(node, to, Side::worker);
                   if (!std::exchange(*deaf, true)) place_.network.cut(node, to, Side::scheduler);
                   if (auto* back = machines_[node]->worker(); back != nullptr) back->go_to(leader);
                 });
  });
}

// Its standby has every commit that was acknowledged; what was under way happened or did not. All sessions
// end, but perhaps the leader's, with a primary that does not know.
void Faults::fail_over(bool leader_stays_behind) {
  if (!server_.up) return;
  if (!leader_stays_behind) note("fail-over of the store");
  SchedulerProcess* leader = acting_leader();
  if (leader_stays_behind && leader != nullptr) leader->stay_behind(server_.database->load());
  server_.up = false;
  for (auto* s : place_.schedulers) s->server_changed();
  mend_after(dice_.between(300ms, 5s), [this] {
    server_.up = true;
    for (auto* s : place_.schedulers) s->server_changed();
  });
}

void Faults::cut_from_workers() {
  SchedulerProcess* leader = acting_leader();
  if (leader == nullptr) return;
  std::size_t at = 0;
  while (place_.schedulers[at] != leader) ++at;
  note("leader cut off from workers only");
  const Duration length = dice_.between(500ms, 20s);
  const bool all = dice_.chance(600);
  for (std::size_t node = 0; node < machines_.size(); ++node) {
    if (!all && !dice_.chance(500)) continue;
    for (const Side side : {Side::worker, Side::scheduler}) place_.network.cut(node, at, side);
    mend_after(length, [this, node, at] {
      for (const Side side : {Side::worker, Side::scheduler}) place_.network.heal(node, at, side);
    });
  }
}

void Faults::doom() {
  SchedulerProcess* leader = acting_leader();
  if (leader == nullptr) return;
  note("scheduler to be killed after its next commit");
  leader->die_after_next_commit();
}

// By steps of a time service, of one process's machine. Leases never look at calendars.
void Faults::jump_clocks() {
  note("calendars jump");
  place_.schedulers[dice_.below(place_.schedulers.size())]->jump_clock(dice_.between(0ms, 2s) - 1s);
  machines_[dice_.below(machines_.size())]->jump_clock(dice_.between(0ms, 60s) - 30s);
}

}  // namespace tutti::sim
