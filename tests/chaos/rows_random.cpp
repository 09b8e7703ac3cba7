// Faults that overlap: three at once by plan, and whatever the dice say. After each storm everything is
// mended, both gangs must run, and the oracles are asked. Which gang may have ended is known from what was
// hit.
#include <utility>

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

namespace {

// One fault after the other, as the dice say; what each of them may have ended is told to the lab.
class Storm {
 public:
  explicit Storm(Lab& lab) : lab_(lab), c_(lab.cluster()), dice_(lab.dice()) {}

  void next_fault() {
    const auto node = dice_.pick(c_.nodes());
    auto& worker = c_.worker(node);
    lab_.count_injection();
    switch (dice_.below(9)) {
      case 0: kill_scheduler(); break;
      case 1: stop_the_database(); break;
      case 2: cut_for_a_while(lab_, node); break;
      case 3: lab_.power_off(node); break;
      case 4: kill_worker(node, worker); break;
      case 5: freeze_worker(node, worker); break;
      case 6: deafen(node, worker); break;
      case 7: break_gpu(node, worker); break;
      default: kill_rank(node, worker); break;
    }
  }
  // A database that is away keeps a new scheduler from leading, and beyond its lease a gang without one ends.
  void hit_all_without_scheduler() {
    if (!scheduler_down_ || std::exchange(all_hit_, true)) return;
    for (const auto& name : c_.nodes()) lab_.hit_node(name);
  }
  void perhaps_start_scheduler() {
    if (!scheduler_down_ || database_down_ || !dice_.chance(50)) return;
    c_.start_scheduler();
    scheduler_down_ = false;
  }

 private:
  void kill_scheduler() {
    if (!std::exchange(scheduler_down_, true)) c_.kill_scheduler();
  }
  void stop_the_database() {
    if (!std::exchange(database_down_, true)) stop_database(lab_);
  }
  void kill_worker(const std::string& node, e2e::Worker& worker) {
    lab_.mend_later([&c = c_, &worker] {
      if (!worker.process().running()) c.start_worker(worker);
    });
    worker.process().kill();
    lab_.hit_node(node);  // it may stay away for longer than the lease
  }
  void freeze_worker(const std::string& node, e2e::Worker& worker) {
    lab_.mend_later([&worker] { worker.process().signal(SIGCONT); });
    worker.process().signal(SIGSTOP);
    lab_.hit_node(node);
  }
  void deafen(const std::string& node, e2e::Worker& worker) {
    lab_.hit_node(node);
    lab_.mend_later([&c = c_, node] { c.heal(node); });
    lab_.network().lose_to(worker.number());
  }
  void break_gpu(const std::string& node, e2e::Worker& worker) {
    const int gpu = static_cast<int>(dice_.below(kGpusPerNode));
    lab_.hit_node(node);
    lab_.mend_later([&worker, gpu] { worker.gpu_sim("reset", {"--gpu", std::to_string(gpu)}); });
    worker.xid(gpu, 79);
  }
  void kill_rank(const std::string& node, e2e::Worker& worker) {
    auto there = e2e::find_processes("TUTTI_ATTEMPT_DIR", worker.directory() + "/");
    std::erase_if(there, [](const e2e::Seen& s) { return s.program != "e2e_rank"; });
    if (there.empty()) return;
    lab_.hit_node(node);
    there[dice_.below(there.size())].signal(SIGKILL);
  }

  Lab& lab_;
  e2e::Cluster& c_;
  Dice& dice_;
  bool database_down_ = false, scheduler_down_ = false, all_hit_ = false;
};

}  // namespace

void anything(Lab& lab) {
  restart_scheduler(lab);
  Storm storm(lab);
  const int faults = 4 + static_cast<int>(lab.dice().below(4));
  for (int i = 0; i < faults; ++i) {
    storm.next_fault();
    storm.hit_all_without_scheduler();
    lab.watch_unharmed(lab.dice().between(0ms, 3s));
    storm.perhaps_start_scheduler();
  }
}

}  // namespace tutti::chaos
