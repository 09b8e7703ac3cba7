// Plans pools of nodes: who starts now and where, who gives way for it, and what the first that waits is
// promised. A pure function of the events and times it was told: no clock, no dice, no log; the same sequence
// gives the same decisions. The live scheduler, explain, estimates, what-if, replay and simulation all run
// it.
//
// One thread. Invariants:
//  1. A gang is placed whole or not at all; nothing is given twice (Nodes asserts it).
//  2. The order is total: band, restarts after faults, the policy's key and age, first start or submission,
//  id.
//  3. A job with a promised start never starts later than it because of one that was started after the
//     promise, as long as nobody runs beyond its limit.
//  4. Who has waited longer than the policy's guard goes before all others of its band.
//  5. No queue or project holds more than Quota allows.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "scheduler/model/ids.h"
#include "scheduler/planner/backlog.h"
#include "scheduler/planner/fair_share.h"
#include "scheduler/planner/nodes.h"
#include "scheduler/planner/policy.h"
#include "scheduler/planner/quota.h"
#include "scheduler/planner/run_history.h"

namespace tutti::planner {

struct Start {
  JobId job;
  Parts parts;
};
// Why somebody gives way.
enum class Right : std::uint8_t {
  policy,  // the policy prefers the other by a level
  band,    // a scavenger, or work of a lower band
  quota    // runs on what another queue has lent and now needs
};
struct Preemption {
  JobId victim;
  JobId for_job;
  Right right;
};
// The first job that did not fit, and when it starts at the latest as long as it stays the first.
struct Promise {
  JobId job;
  Instant at;
  std::vector<int> nodes;  // kept free for it from then on
  std::string queue_of_nodes;
};
struct Decisions {
  std::vector<Preemption> preempted;
  std::vector<Start> started;
  std::vector<Promise> promised;  // one per pool at most
  bool empty() const { return preempted.empty() && started.empty(); }
};

// A named reservation: from `from` to `until` only these projects may use these nodes.
struct Window {
  std::string name;
  Instant from, until;
  std::vector<int> nodes;
  std::set<int> projects;
};

struct Running {
  PlanJob what;
  Parts parts;
  int gpus = 0;         // held: of an elastic gang those it got
  Duration attained{};  // before this run
  Instant since;
  Instant rank_at;
  Instant until;     // of this run at the latest; estimated where there is no limit
  Instant saved_at;  // of its last checkpoint, or `since`
  double key = 0;    // the policy's, as of `keyed_at`
  Duration keyed_attained{};
  Instant accounted_until;
  bool guarded = false;  // started under the guard: not preempted
  JobId leaves_for;      // has been asked to give way for it
};

class Planner {
 public:
  explicit Planner(Policy policy);
  // A copy to try things on: the nodes, all that runs, and of those that wait only these. Their keys stay as
  // they are now, and nothing that happens to the copy teaches this one anything.
  std::unique_ptr<Planner> sketch(const std::vector<JobId>& waiting) const;

  // ---- what there is. Queues and projects are numbers of the caller's.
  int put_node(const NodeDesc& desc);
  void set_queue(int queue, const std::string& queue_of_nodes, QueueShare share = {});
  void set_project(int project, int parent, double weight, int max_gpus);
  void lift(const QuotaBlock& block);  // on copies: as if it were not there
  void drop_window(const std::string& name) {
    std::erase_if(windows_, [&](const auto& w) { return w.name == name; });
  }
  void set_windows(std::vector<Window> windows) { windows_ = std::move(windows); }
  int intern(const GangAsk& ask) { return nodes_.intern(ask); }
  int least_gpus(const PlanJob& job) const;  // an elastic gang starts with its fewest nodes
  bool could_ever(int shape) const { return nodes_.could_ever(shape); }

  // ---- what happens
  void submit(PlanJob job, Instant now) {
    enqueue({.what = job, .since = now, .rank_at = job.submitted}, now);
  }
  void enqueue(Waiting job, Instant now);        // as it is: one that ran before, or a new leader's
  bool withdraw(JobId id);                       // waits no longer
  void avoid(JobId id, std::vector<int> nodes);  // nodes that failed it
  void adopt(const PlanJob& job, Parts parts, Instant since, Instant rank_at, Duration attained);  // it runs
  void began(JobId id, Instant now);  // all its ranks are up: its limit counts from here
  void checkpointed(JobId id, Instant at);
  void revise(JobId id, int priority, Duration limit, Instant now);  // of one that runs
  // One of a former leader's days: for fair share, and where it ended by itself for history.
  void remember(const JobClass& kind, int project, Duration ran, Instant ended, bool finished);
  void ended(JobId id, Instant now);                      // for good: history learns from it
  std::optional<Waiting> stopped(JobId id, Instant now);  // its GPUs are free; to be enqueued again, or not
  Decisions plan(Instant now, std::size_t most_starts = SIZE_MAX);

  // ---- what is
  const Policy& policy() const { return policy_; }
  const Nodes& nodes() const { return nodes_; }
  const Quota& quota() const { return quota_; }
  const FairShare& shares() const { return share_; }
  const RunHistory& history() const { return *history_; }
  const std::vector<Window>& windows() const { return windows_; }
  bool keeps_out(const Window& window, int node, const Waiting& job, Instant now) const;
  const std::string& queue_of_nodes(JobId waiting) const;
  std::vector<std::string> pools() const;  // names of the queues that have nodes
  std::size_t waiting() const;
  const std::map<JobId, Running>& running() const { return running_; }
  std::optional<Waiting> find_waiting(JobId id) const;
  bool waits(JobId id) const { return pool_with(id) != nullptr; }
  std::vector<JobId> claimants() const;   // for whom others give way
  std::vector<Promise> promises() const;  // of the last pass
  // Who goes before all others of its band, of the pool in which this one waits.
  std::vector<JobId> guarded_beside(JobId waiting, Instant now) const;
  std::size_t ahead_of(JobId id) const;
  std::vector<JobId> first(const std::string& queue_of_nodes, std::size_t most, int queue = -1) const;

 private:
  struct Pool {
    std::string name;
    std::unique_ptr<Backlog> backlog;
    std::optional<Promise> promise;  // of the last pass
  };
  struct Claim {  // nodes on which others give way for it
    Parts parts;
    Instant until;
  };
  struct Reservation;
  struct Pass;
  struct PassFilter;
  struct Victim;
  class RoomSearch;

  // planner.cpp
  int pool_named(const std::string& queue_of_nodes);
  bool member_of(const Window& window, int project) const;
  Pool& pool_of(int queue) {
    return pools_[static_cast<std::size_t>(queue_pool_.at(static_cast<std::size_t>(queue)))];
  }
  Pool* pool_with(JobId id);
  const Pool* pool_with(JobId id) const;
  double base_of(const Bucket& bucket, Instant now) const;
  double key_of(const Running& job, Instant now) const;
  double policy_key(const JobClass& kind, int project, int priority, Duration attained, Duration limit,
                    Duration known_run) const;
  double mixed_points(const JobClass& kind, int project, int priority, Duration limit) const;
  void refresh(Instant now);
  void account(Running& job, Instant now);
  int account_of(int project, int user);
  Duration expected_run(const PlanJob& job) const;
  void hold(Running job);
  void ends_at(Running& job, Instant until);
  Running release(JobId id, Instant now);
  void drop_claim(JobId id);

  // planner_fill.cpp
  void fill(Pass& pass);
  void in_order(Pass& pass, const std::function<bool(JobId, bool guard)>& turn);
  void start_claims(Pass& pass);
  std::vector<JobId> guarded(const Pool& pool, Instant now) const;
  bool guard_allows(const PlanJob& job) const;
  std::optional<JobId> unclaimed(const Bucket& bucket) const;
  std::optional<JobId> best(Pass& pass) const;
  bool consider(Pass& pass, JobId id, bool guard);
  Parts choose_in(Pass& pass, const Waiting& job) const;
  bool reserve(Pass& pass, const Waiting& job) const;
  Instant ready_for(int need, int node, const Waiting& job, Instant now) const;
  void start(Pass& pass, JobId id, Parts parts, bool guard);
  bool may_use(int node, int project, Instant end, Instant now) const;
  bool owns(int node, int project, Instant now) const;
  bool allowed(const Cell& cell, const Bucket& bucket) const;

  // planner_preempt.cpp
  void preempt_for_better(Pass& pass);
  bool make_way(const Pass& pass, const Waiting& job);
  std::vector<Victim> victims(const Pool& pool, Instant now) const;
  std::optional<Right> right_over(const Waiting& job, const Victim& victim, double key) const;
  bool make_room(const Pass& pass, const Waiting& job, double key, std::vector<Victim>& candidates);
  bool make_room_for(int need, const Pass& pass, const Waiting& job, double key,
                     std::vector<Victim>& candidates);

  Policy policy_;
  Nodes nodes_;
  Quota quota_;
  std::shared_ptr<RunHistory> history_;
  bool sketch_ = false;
  FairShare share_;
  std::vector<Window> windows_;
  std::vector<Pool> pools_;
  std::vector<int> queue_pool_;  // by queue
  std::vector<int> project_parent_;
  std::map<std::pair<int, int>, int> accounts_;  // of fair share, by project and user
  std::map<int, int> project_account_;
  std::map<JobId, Running> running_;
  std::set<std::pair<Instant, JobId>> open_ended_;  // without a limit, by their estimated end
  std::map<JobId, Claim> claims_;
  std::set<JobId> guarded_claims_;
  std::map<JobId, std::vector<int>> avoided_;
  std::optional<Instant> refreshed_at_;
  int guarded_gpus_ = 0;
  int scavengers_ = 0;  // that run
};

}  // namespace tutti::planner
