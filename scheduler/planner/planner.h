// Plans one pool: who starts now, on which nodes, and who is preempted for it. A pure function of the events
// and times it was told: no clock, no dice, no log; the same sequence gives the same decisions.
//
// One thread. Invariants:
//  1. A gang is placed whole or not at all; no GPU is given twice (Capacity asserts it).
//  2. The order is total: key, then first start or submission, then id.
//  3. A job with a reservation never starts later than it because of one that was started after the
//     reservation was made, as long as nobody runs beyond its limit.
//  4. Who has waited longer than the policy's guard goes before all others.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <tuple>
#include <unordered_map>
#include <utility>
#include <vector>

#include "scheduler/model/ids.h"
#include "scheduler/planner/capacity.h"
#include "scheduler/planner/fair_share.h"
#include "scheduler/planner/policy.h"
#include "scheduler/planner/reservation.h"
#include "scheduler/planner/run_history.h"

namespace tutti::planner {

struct PlanJob {
  JobId id;
  JobClass kind;
  Instant submitted;
  Duration limit{};
  Duration known_run{};  // clairvoyant policies only
};

struct Start {
  JobId job;
  std::vector<int> nodes;
};
// The first job that did not fit, and when it starts at the latest as long as it stays the first.
struct Promise {
  JobId job;
  Instant at;
};
struct Decisions {
  std::vector<JobId> preempted;  // first
  std::vector<Start> started;
  std::optional<Promise> promised;
  bool empty() const { return preempted.empty() && started.empty(); }
};

class Planner {
 public:
  Planner(Policy policy, Capacity capacity);

  // False: it can never run here; nothing has changed.
  bool on_submitted(const PlanJob& job, Instant now);
  void on_ended(JobId job, Instant now);  // it ran; its GPUs are free
  Decisions plan(Instant now);

  const Capacity& capacity() const { return capacity_; }
  std::size_t waiting() const { return waiting_.size(); }
  std::size_t running() const { return running_.size(); }

 private:
  struct Job {
    PlanJob what;
    GangShape shape;
    Duration attained{};  // service before `since`, if it runs
    Instant since;        // of this run, or of this wait
    Instant rank_at;      // first start, or submission
    double key = 0;       // lower first
    Instant keyed_at;
    Duration keyed_attained{};
    Instant accounted_until;  // fair share
    std::vector<int> nodes;   // while it runs
    bool guarded = false;     // runs under the guard: not preempted
  };
  using Place = std::tuple<double, Instant, JobId>;
  static Place place_of(const Job& job) { return {job.key, job.rank_at, job.what.id}; }

  static Instant latest_end(const Job& job) { return job.since + (job.what.limit - job.attained); }

  void refresh(Instant now);
  double key_of(const Job& job, Instant now) const;
  double mixed_points(const Job& job, Instant now) const;
  bool key_is_old(const Job& job, Instant now) const;
  void enqueue(Job job, Instant now);
  Job dequeue(JobId id);
  void start(JobId id, std::vector<int> nodes, bool guarded, Instant now, Decisions& out);
  void account(Job& job, Instant now);
  void preempt(JobId id, Instant now, Decisions& out);
  std::vector<JobId> guarded(Instant now) const;
  void fill(Instant now, Decisions& out);
  struct Victim {
    JobId id;
    double key;
    Instant rank_at;
    int gpus;
  };
  bool guard_allows(const Job& job) const;
  std::vector<Victim> find_victims(Instant now) const;
  std::optional<std::vector<std::size_t>> make_room(const GangShape& shape, double key,
                                                    const std::vector<Victim>& victims);
  void preempt_for_better(Instant now, Decisions& out);
  Reservation reserve(const Job& job, Instant now) const;

  Policy policy_;
  Capacity capacity_;
  RunHistory history_;
  FairShare share_;
  std::unordered_map<JobId, Job> waiting_;
  std::set<Place> order_;
  std::set<std::pair<Instant, JobId>> waits_;  // since when
  std::map<JobId, Job> running_;
  std::set<std::pair<Instant, JobId>> ends_;  // at the latest
  std::optional<Instant> refreshed_at_;
  int guarded_gpus_ = 0;
};

}  // namespace tutti::planner
