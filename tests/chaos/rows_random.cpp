// Faults that overlap: three at once by plan, and whatever the dice say. After each storm everything is
// mended, both gangs must run, and the oracles are asked. Which gang may have ended is known from what was
// hit.
#include <thread>

#include "tests/chaos/rows.h"

namespace tutti::chaos {

namespace {

// A scheduler without its database does not become ready, so nobody may wait for it in a storm: it is
// started, and the end of the storm waits.
void restart_scheduler(Lab& lab) {
  auto& c = lab.cluster();
  lab.mend_later([&c] {
    if (!c.scheduler().running()) c.start_scheduler();
    c.await_linked();
  });
}

void cut_for_a_while(Lab& lab, const std::string& node) {
  auto& c = lab.cluster();
  lab.hit_node(node);
  c.cut(node);
  lab.mend_later([&c, node] { c.heal(node); });
}

void stop_database(Lab& lab) {
  auto& c = lab.cluster();
  lab.mend_later([&c] { c.postgres().start(); });
  if (lab.dice().chance(50))
    c.postgres().kill();
  else
    c.postgres().stop();
}

}  // namespace

// The scheduler is killed while PostgreSQL restarts while a node is cut off.
void overlapping(Lab& lab) {
  auto& c = lab.cluster();
  const auto node = lab.some_node(lab.gang());
  restart_scheduler(lab);
  const auto hit = lab.strike(lab.gang(), [&] { cut_for_a_while(lab, node); });
  lab.watch_unharmed(lab.dice().between(0ms, 4s));
  lab.count_injection(2);
  stop_database(lab);
  lab.watch_unharmed(lab.dice().between(0ms, 2s));
  c.kill_scheduler();
  c.postgres().start();
  lab.watch_unharmed(lab.dice().between(0ms, 500ms));
  c.start_scheduler();
  lab.await_back(hit, node);
}

void anything(Lab& lab) {
  auto& c = lab.cluster();
  auto& dice = lab.dice();
  bool database_down = false, scheduler_down = false, all_hit = false;
  restart_scheduler(lab);
  const int faults = 4 + static_cast<int>(dice.below(4));
  for (int i = 0; i < faults; ++i) {
    const auto node = dice.pick(c.nodes());
    auto& worker = c.worker(node);
    lab.count_injection();
    switch (dice.below(9)) {
      case 0:
        if (scheduler_down) break;
        scheduler_down = true;
        c.kill_scheduler();
        break;
      case 1:
        if (database_down) break;
        database_down = true;
        stop_database(lab);
        break;
      case 2: cut_for_a_while(lab, node); break;
      case 3: lab.power_off(node); break;
      case 4:
        lab.mend_later([&c, &worker] {
          if (!worker.process().running()) c.start_worker(worker);
        });
        worker.process().kill();
        lab.hit_node(node);  // it may stay away for longer than the lease
        break;
      case 5:
        lab.mend_later([&worker] { worker.process().signal(SIGCONT); });
        worker.process().signal(SIGSTOP);
        lab.hit_node(node);
        break;
      case 6:
        lab.hit_node(node);
        lab.mend_later([&c, node] { c.heal(node); });
        lab.network().lose_to(worker.number());
        break;
      case 7: {
        const int gpu = static_cast<int>(dice.below(kGpusPerNode));
        lab.hit_node(node);
        lab.mend_later([&worker, gpu] { worker.gpu_sim("reset", {"--gpu", std::to_string(gpu)}); });
        worker.xid(gpu, 79);
        break;
      }
      default: {
        auto there = e2e::find_processes("TUTTI_ATTEMPT_DIR", worker.directory() + "/");
        std::erase_if(there, [](const e2e::Seen& s) { return s.program != "e2e_rank"; });
        if (there.empty()) break;
        lab.hit_node(node);
        there[dice.below(there.size())].signal(SIGKILL);
        break;
      }
    }
    // A database that is away keeps a new scheduler from leading, and beyond its lease a gang without one
    // ends.
    if (scheduler_down && !all_hit) {
      all_hit = true;
      for (const auto& name : c.nodes()) lab.hit_node(name);
    }
    lab.watch_unharmed(dice.between(0ms, 3s));
    if (scheduler_down && !database_down && dice.chance(50)) {
      c.start_scheduler();
      scheduler_down = false;
    }
  }
}

}  // namespace tutti::chaos
