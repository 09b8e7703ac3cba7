// Faults of a run, seeded and overlapping. `benign` ones are faults of the control plane alone, each short
// enough that no gang may notice; the others are whatever can happen to processes, machines and the network.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "tests/sim/machine.h"
#include "tests/sim/scheduler_process.h"

namespace tutti::sim {

class Faults {
 public:
  Faults(Place& place, Server& server, std::vector<std::unique_ptr<Machine>>& machines);

  void choose_versions();  // of the schedulers, before they start
  void start(Time until);
  // Everything that is broken is mended now, and nothing breaks any more.
  void heal();
  bool control_plane_down() const;  // nobody can act now

 private:
  void next(Time until);

  // storm.cpp: many at once
  void next_storm(Time until);
  void storm();
  std::vector<std::size_t> some_rack();
  void flap(std::size_t node, Time until);
  void flapping_rack();
  void switch_lost();
  void rack_without_power();
  void burst_of_xids();
  void burst_of_dead_ranks();
  void workers_of_a_rack_killed();
  void workers_of_a_rack_paused();
  // One of many: counted, not described by what it met.
  void one_of_many(const std::string& what);
  void hostile();
  std::uint64_t favourite() const;
  void benign();
  void note(const std::string& what);
  // Mended after a while, or at the end of all faults, whichever is first.
  void mend_after(Duration delay, std::function<void()> mend);

  // replica_faults.cpp: several schedulers on one store
  SchedulerProcess* acting_leader() const;  // who leads by the newest term; nullptr: nobody
  // The leader and the store do not hear each other, or it stays with a primary that was replaced. `apart`:
  // with it go some of the nodes, out of the others' reach.
  void split(bool apart, bool old_primary);
  void split_of_slow_store();
  void stale_answer();
  void fall_apart(std::size_t leader, Duration length, bool wandering);
  void wander(std::size_t leader, std::size_t node, std::size_t to);
  void fail_over(bool leader_stays_behind);
  void cut_from_workers();
  void doom();
  void jump_clocks();

  // upgrade_faults.cpp: two versions of the scheduler
  void next_upgrade(Time until);
  void replace(std::size_t turn, std::size_t first, Version with);
  bool calm() const;

  void kill_scheduler(Duration down);
  void pause_scheduler(Duration length);
  void store_down(Duration length);
  void slow_store(Duration slowest, Duration length);
  void next_commit(db::MemoryStore::Fault fault, const std::string& name);
  void cut(std::size_t node, bool up, bool down, Duration length);
  void kill_worker(std::size_t node, Duration down);
  void pause_worker(std::size_t node, Duration length);
  void cut_by_and_by(std::size_t node);
  void cut_and_restart_peers(std::size_t node);
  void kill_supervisor(std::size_t node);
  void freeze_supervisor(std::size_t node);
  bool any_frozen(std::size_t node) const;
  void kill_rank(std::size_t node);
  void power_off(std::size_t node, Duration down);
  void vouch_for(std::size_t node);
  void xid(std::size_t node);

  Place& place_;
  World& world_;
  Server& server_;
  std::vector<std::unique_ptr<Machine>>& machines_;
  Dice dice_, upgrade_dice_, person_dice_;
  bool over_ = false;
  bool split_ = false;  // a leader is on its own
  Time quiet_until_{};  // benign faults of the scheduler process stand alone
  std::vector<std::shared_ptr<std::function<void()>>> mends_;
};

}  // namespace tutti::sim
