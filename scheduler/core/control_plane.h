// The decisions of the scheduler: events and the time go in; changed rows and messages come out. No clock, no
// socket, no SQL, no log. The shell (scheduler/service/writer) commits the rows in one transaction and only
// then lets the messages and replies go: a crash between the two must not start work twice. After a failed or
// doubtful commit the shell throws this object away and builds a new one from the rows, exactly as at boot.
// The deterministic simulation (tests/sim) drives the same object.
//
// Owned by the control thread. Invariants, asserted by `invariants_hold()`:
//  1. A job waits in the planner iff `queued`, is in the delay heap iff `delayed`.
//  2. A job has a live attempt iff it is active; its epoch is the attempt's.
//  3. A GPU's holder is a live attempt that lists it, and nobody else lists it.
//  4. A gang is placed whole or not at all.
//  5. An attempt ends only when every member has ended: by proof, or by the end of its lease and kill margin.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <tuple>
#include <unordered_map>
#include <vector>

#include "scheduler/core/checkpoint_book.h"
#include "scheduler/core/cluster.h"
#include "scheduler/core/delay_queue.h"
#include "scheduler/core/fault_ledger.h"
#include "scheduler/core/gang_watch.h"
#include "scheduler/core/key_book.h"
#include "scheduler/core/lease_table.h"
#include "scheduler/core/plan_view.h"
#include "scheduler/core/plane_witness.h"
#include "scheduler/core/retry.h"
#include "scheduler/core/spec_pool.h"
#include "scheduler/model/error.h"
#include "scheduler/model/fault_table.h"
#include "scheduler/model/protocol.h"
#include "scheduler/model/rows.h"
#include "scheduler/planner/explain.h"
#include "scheduler/planner/forecast.h"
#include "scheduler/planner/planner.h"

namespace tutti {

// When a history of faults sets a GPU or node aside; 0 = never by itself.
struct BlameLimits {
  int gpu_faults_a_day = 2;
  int node_faults_a_week = 3;
};

struct ControlSettings {
  Duration prepare_deadline = std::chrono::minutes(15);  // placed → every node ready (setup included)
  Duration launch_deadline = std::chrono::minutes(5);    // launched → every rank up
  std::size_t max_keys = 1'000'000;                      // idempotency keys remembered, the newest
  planner::Policy policy = *planner::find_policy("fair");
  bool inspect_after_failure = false;  // the nodes of an attempt that failed by no user's fault
  Duration inspect_idle_every{};       // of nodes that have nothing to do; zero: never
  Duration inspect_patience = std::chrono::minutes(2);  // for a report; then it may be asked for again
  Duration checkpoint_wait = std::chrono::minutes(2);  // a victim of preemption gets so long for its next one
  Duration fault_checkpoint_wait =
      std::chrono::minutes(30);              // likewise one that leaves a GPU that begins to fail
  std::shared_ptr<const FaultTable> faults;  // nullptr: the built-in one
  BlameLimits blame;
  Duration probation = std::chrono::hours(24);  // of a node back from repair; doubles with each return
  // A failure that is to end its job for good is judged so long after its first evidence: what a GPU's driver
  // has to say may come after the ranks have died of it. Zero: at once.
  Duration evidence_wait{};
  double requeues_a_second = 5;  // gangs that start again after faults; 0 = no limit
  double requeue_burst = 50;
  // Without a scheduler an attempt goes on so long, while its nodes acknowledge each other; 0: not at all.
  Duration continue_for = std::chrono::minutes(10);
  Duration delete_after = std::chrono::hours(1);     // a retired checkpoint
  Duration delete_again = std::chrono::minutes(10);  // the order, while no answer has come
};

// Of a planning pass: all that fit.
inline constexpr std::int32_t kAllStarts = INT32_MAX;

struct Job {
  JobRow row;
  SpecPtr spec;
  // What few jobs have: most of a million wait, and nothing has happened to them.
  struct Trouble {
    std::vector<NodeId> avoid;  // nodes that failed this job, newest last
    // Its last failures: what they looked like, and where.
    struct Failure {
      std::string signature;
      std::vector<NodeId> nodes;
      std::int32_t attempt = 0;
    };
    std::vector<Failure> failures;  // newest last; a few
    // The fault that it has not recovered from yet: when, of which cause, and how far it had come.
    Instant fault_at;
    Cause fault_cause = Cause::none;
    std::int64_t fault_step = -1;
    Instant made_way_at;  // somebody gave way for it, last
  };
  const Trouble& trouble() const {
    static const Trouble none;
    return noted ? *noted : none;
  }
  Trouble& note_trouble() {  // to be written to
    if (!noted) noted = std::make_unique<Trouble>();
    return *noted;
  }

  std::unique_ptr<Trouble> noted;
  std::int32_t base_version = 0;  // what the store has; 0 = not stored yet
  bool counted = false;           // as a task of its array that runs or may run
  bool dirty = false;
};

struct Attempt {
  AttemptRow row;
  std::optional<Mono> deadline;   // of the present stage
  std::optional<Mono> settle_at;  // all its ranks are dead; it is judged then
  std::optional<Mono> leave_by;   // preempted: asked to stop then, or after its next checkpoint
  std::string leave_why;
  Cause leave_cause = Cause::preempted;
  NodeId failed_on;  // whose failure ended it, 0 = nobody's
  // A fault of a GPU of its that ended nothing, since its rule had acted too often: why it may yet die.
  std::string excuse;
  Instant excuse_at;
  bool dirty = false;
  bool collective_judged = false;              // its result has come, to this leader
  std::optional<protocol::Progress> progress;  // newest, not stored
  GangWatch watch;                             // what its ranks do; not stored: workers say it again
  std::optional<Instant> hung_since;           // no rank moves since then
  Mono hang_seen_at{};
  std::optional<Mono> storage_seen_at;  // its ranks waited for a file system then
  std::string hung_why;                 // in words, with the suspect
};

// A part of an attempt that we do not hear of: its node is silent, or its worker no longer knows it. It ends
// when it must be dead.
struct LostPart {
  Mono since;              // the lease that holds it was renewed then, at the latest
  bool silent = false;     // the node is; else the record of it is gone
  Duration hold{};         // its peers may hold it so long beyond that lease; zero: nobody does
  bool proven = false;     // a peer that it needs has not acknowledged it for longer than a lease
  std::string off{};       // a person says that its node has no power: who, and why
  std::int64_t asked = 0;  // number of the first question about it; what answers an older one proves nothing
  Mono ask_at{};
};

// A message to a worker. Leaves after the commit of the rows that caused it.
struct Effect {
  NodeId to;
  protocol::ToWorker message;
  SpecPtr spec;             // for Prepare: the shell puts its JSON and the attempt's secret into the message
  bool disconnect = false;  // close the node's connection instead
};

// A stage of a recovery, for the metrics: so long after the first evidence of the fault.
struct StageSample {
  std::string_view stage;  // "placed", "running", "restored", "caught_up"
  Cause cause = Cause::none;
  Duration since_fault{};
};

struct Output {
  Batch batch;
  std::vector<Effect> effects;
  std::vector<StageSample> stages;
};

// What is known of a job that others wait for.
struct PastJob {
  JobState state = JobState::queued;
  bool started = false;  // all its ranks have been up once
};

// As operators set them up, by name.
struct Shares {
  std::map<std::string, QueueRow> queues;
  std::map<std::string, ProjectRow> projects;
  std::map<std::string, ReservationRow> reservations;
};
using Warnings = std::vector<std::string>;  // of a change that was made all the same

using Past = std::map<JobId, PastJob>;

struct SubmitRequest {
  SpecPtr spec;
  std::string spec_json;
  std::string owner;
  std::string idempotency_key;  // "" = none
  std::uint64_t body_hash = 0;
  std::shared_ptr<const Past> past{};  // jobs it depends on that are over, as the rows say
  struct After {                       // depends on jobs that are submitted together with it
    std::size_t request;               // earlier in the same list; of an array its first task
    int tasks = 1;
    Dependency::When when = Dependency::When::ok;
  };
  std::vector<After> after{};
  std::optional<std::size_t> task_of{};  // a task of the array that begins with this earlier request
};
struct Submitted {
  JobId id;
  bool replayed = false;              // the key was known: this is the first answer again
  JobState state = JobState::queued;  // right after the submission; not of a replay
  bool never = false;                 // no node could ever run it; likewise
};

// Specs as the rows hold them.
struct SpecText {
  std::function<SpecPtr(std::string_view spec_json)> parse;
  std::function<std::string(const JobSpec&)> encode;
};

// One reason why a job does not run now, with its numbers.
struct Reason {
  std::string code;  // stable word: "gpus_busy", "held", "delayed", "behind", …
  std::string text;  // one sentence
  std::int64_t need = 0;
  std::int64_t have = 0;
};
struct Explanation {
  JobId job;
  JobState state = JobState::queued;
  bool never = false;                   // no node of this cluster could ever run it
  std::optional<std::size_t> position;  // 0 = next of its queue
  std::vector<Reason> reasons;          // all that bind
  // Exact, where asked for: when all of these are gone it starts at once, and not while one of them stays.
  struct Blocker {
    std::string code;
    std::string text;
    JobId job;  // 0 = none
  };
  std::vector<Blocker> blockers;
  struct Change {
    std::string field, to;
  };
  std::vector<Change> would_help;  // each alone would start it now
};

// When it will start, if nothing unforeseen happens; four of five start within the range.
struct Eta {
  Instant at, from, to;
};

// What the plan has for one that waits, as of the last estimate.
struct PlannedRun {
  Eta start;
  Duration runs{};       // as long as its like usually do
  planner::Parts parts;  // where
};

// What would become of a job, and of others because of it.
struct WhatIf {
  Explanation why;
  bool starts_now = false;
  std::vector<std::string> nodes;  // where, if now
  std::vector<JobId> preempts;     // who would have to give way first
  std::optional<Eta> eta;          // nullopt: not within the horizon
  struct Shift {
    JobId job;
    Instant before, after;  // estimated starts
  };
  std::vector<Shift> others;  // whose estimated start moves by more than a minute, the most first
};
// What a person changes of a job that was submitted. Unset: stays as it is; set to nullopt: none any more.
struct JobChange {
  std::optional<int> priority{};
  std::optional<std::optional<Duration>> time_limit{}, total_time_limit{};
  std::optional<std::optional<Instant>> begin_time{}, deadline{};
  std::map<std::string, std::optional<std::string>> labels{};
  // Only to be asked about (simulate_change): what would become of it if it, or its shares, were another.
  std::optional<int> nodes{};
  std::optional<int> quota_gpus{};  // of its queue
  std::optional<int> max_gpus{};    // of its project

  bool asks_only() const { return nodes || quota_gpus || max_gpus; }
  bool empty() const {
    return !priority && !time_limit && !total_time_limit && !begin_time && !deadline && labels.empty() &&
           !asks_only();
  }
};
// What people do to a job.
enum class JobAct : std::uint8_t {
  cancel,
  hold,
  release,
  requeue,
  update
};

class ControlPlane {
 public:
  // `leases` outlives this object. Nodes of the snapshot that are not dead are granted a lease from `now`,
  // since a former leader may have renewed it up to this moment.
  ControlPlane(ControlSettings settings, const Snapshot& snapshot, SpecText specs, LeaseTable& leases,
               Now now);

  // From now on it is told all that changes this object, and what comes of it. Outlives it.
  void watched_by(PlaneWitness* witness) { witness_ = witness; }

  // ---- requests of people. An error changes nothing.
  Result<Submitted> on_submit(Now, const SubmitRequest&);
  // One result per request. An array stands or falls as a whole, and who waits for a refused one is refused.
  std::vector<Result<Submitted>> on_submit_all(Now, const std::vector<SubmitRequest>&);
  Result<JobId> on_cancel(Now, JobId, std::string_view who);
  Result<JobId> on_hold(Now, JobId, std::string_view reason, std::string_view who = {});
  Result<JobId> on_release(Now, JobId, std::string_view who = {});
  Result<JobId> on_requeue(Now, JobId, std::string_view who);
  // To every rank of a running attempt; nothing ends by it. All of its nodes must be heard.
  Result<JobId> on_signal(Now, JobId, const std::string& signal, std::string_view who);
  // With an event that says every field from → to; a change that changes nothing writes nothing.
  Result<JobId> on_update(Now, JobId, const JobChange&, std::string_view who);
  // A person's command inside a running attempt, `what` "begun" or "ended": for the history.
  Result<JobId> on_exec(Now, AttemptKey, std::string_view what, std::string detail);
  Result<Warnings> on_put_queue(Now, const QueueRow&, std::string_view who);
  Result<Warnings> on_remove_queue(Now, const std::string& name, std::string_view who);
  Result<Warnings> on_put_project(Now, const ProjectRow&, std::string_view who);
  Result<Warnings> on_remove_project(Now, const std::string& name, std::string_view who);
  Result<Warnings> on_put_reservation(Now, const ReservationRow&, std::string_view who);
  Result<Warnings> on_remove_reservation(Now, const std::string& name, std::string_view who);
  // `until`: of draining and cordoned, then it takes work again by itself; the epoch: when somebody says so.
  Result<NodeId> on_node_service(Now, const std::string& node, NodeService, std::string_view reason,
                                 Instant until = {});
  Result<NodeId> on_node_report(Now, const std::string& node, std::string_view who, std::string_view reason);
  Result<NodeId> on_inspect(Now, const std::string& node);  // its report comes later
  // A person vouches that a node which is not heard has no power, or that none of its processes lives: its
  // work is given up at once. Errc::conflict while it is connected, or was heard within lease and margin.
  Result<NodeId> on_node_off(Now, const std::string& node, std::string_view who, std::string_view reason);

  // ---- workers
  NodeId on_hello(Now, const protocol::Hello&);
  void on_link_lost(Now, NodeId, std::uint64_t link);  // ignored unless `link` is the newest one of the node
  void on_heard(Now, NodeId);  // after a renewed lease, only needed while the node is not `reachable`
  void on_attempt_status(Now, NodeId, const protocol::AttemptStatus&);
  void on_gpu_fault(Now, NodeId, const protocol::GpuFault&);
  void on_gpu_inventory(Now, NodeId, const protocol::GpuInventory&);
  void on_checkpoint(Now, NodeId, const protocol::CheckpointFound&);
  void on_checkpoint_checked(Now, NodeId, const protocol::CheckpointChecked&);
  void on_checkpoint_deleted(Now, NodeId, const protocol::CheckpointDeleted&);
  void on_progress(Now, NodeId, const protocol::Progress&);
  void on_rank_report(Now, NodeId, const protocol::RankReport&);
  void on_node_health(Now, NodeId, const protocol::NodeHealth&);
  // The node's wall clock against ours, by its heartbeats; nullopt: they agree (again).
  void on_clock_skew(Now, NodeId, std::optional<Duration> ahead);
  void on_inspection(Now, NodeId, const protocol::InspectionReport&);
  void on_peer_silence(Now, NodeId, const protocol::PeerSilence&);
  void on_collective_result(Now, NodeId, const protocol::CollectiveResult&);

  // ---- time
  static Instant first_run(const JobSpec& scheduled, Instant after);
  // Due jobs, silent nodes, deadlines; then a planning pass, unless it may start nothing.
  void on_tick(Now, std::int32_t most_starts = kAllStarts);
  void plan(Now, std::int32_t most_starts = kAllStarts);  // places what can be placed
  Duration next_wake(Now) const;  // how long nothing will happen by itself, at most a quarter of a second

  // Changed rows and messages since the last call.
  Output take_output();
  // Of how many jobs it would have rows.
  std::size_t changed_jobs() const { return dirty_jobs_.size() + out_.batch.done.size(); }

  // ---- reading (what memory says; may be ahead of the store by the batch under way)
  const Job* find_job(JobId) const;
  std::vector<JobId> array_tasks(JobId task) const;  // all of its array that are not over
  const Attempt* find_attempt(AttemptKey) const;
  const Cluster& cluster() const { return cluster_; }
  const planner::Planner& planner() const { return planner_; }
  const DelayQueue& delayed() const { return delayed_; }
  const std::map<JobId, Job>& jobs() const { return jobs_; }
  const std::map<AttemptKey, Attempt>& attempts() const { return attempts_; }
  EventId last_event() const { return last_event_; }  // what is read here is as of this one
  Explanation explain(JobId, Now, bool exactly = false) const;
  // Why a waiting job can never start on the nodes there are, which is only a small part of explain(): said
  // in the answer to its submission. nullopt: it can, or it does not wait.
  std::optional<std::string> never_starts(JobId, Now) const;
  // Of one that is ready, and of all that ask for the same: what binds but its place in the order.
  std::vector<Reason> explain_kind(const planner::Waiting&, Now) const;
  // Those that wait, in order; queue "" = of all.
  std::vector<JobId> waiting_in_order(const std::string& queue, std::size_t most) const;
  const Shares& shares() const { return shares_; }
  int gpus_held(const std::string& queue, const std::string& project) const;  // "" = any
  std::string waits_for(const Job&) const;                                    // of a blocked one, in words
  // Of those at the head of the queue, at most half a minute old; fresh: of any, computed now.
  std::optional<Eta> eta(JobId, Now, bool fresh = false) const;
  static constexpr std::size_t kEstimated =
      500;  // jobs at the head of each pool that are estimated every time
  std::optional<PlannedRun> planned_run(JobId, Now) const;
  std::optional<double> eta_coverage() const { return calibration_.coverage(); }
  Result<WhatIf> simulate(const JobSpec&, std::string_view owner, Now) const;
  Result<WhatIf> simulate_change(JobId, const JobChange&, Now) const;
  // What on_cancel, …, on_update would answer, without doing it. nullopt: it would be done.
  std::optional<Error> would_refuse(JobId, JobAct, const JobChange&, Now) const;
  // It is as wanted already: nothing would change.
  bool is_so_already(JobId, JobAct, const JobChange&) const;
  bool invariants_hold(std::string* why = nullptr) const;
  const FaultTable& table() const { return settings_.faults ? *settings_.faults : FaultTable::built_in(); }
  const FaultLedger& ledger() const { return ledger_; }
  LemonScore lemon_score(NodeId) const;  // as of the last minute

 private:
  struct Event {  // details of a history row
    std::string kind, from, to, detail;
    Cause cause = Cause::none;
  };
  // plane_inputs.h: first thing in every public method that changes something
  class Deciding;
  template <auto Method, class... A>
  [[nodiscard]] Deciding note(Now, const A&... arguments);

  // control_plane.cpp: from rows
  void restore_cluster(const Snapshot&, Now);
  void restore_jobs(const Snapshot&, Now);
  void restore_attempts(const Snapshot&, Now);
  // control_rows.cpp: bookkeeping of what has changed
  void touch(Job&);
  void touch(Attempt&);
  void touch_node(NodeId id) { dirty_nodes_.insert(id); }
  void touch_gpu(GpuId id) { dirty_gpus_.insert(id); }
  static EventRow about_job(AttemptKey, Name project, Name owner);
  void add_event(EventRow about, Event, Now);
  void record_job(const Job&, Now, Event);
  void record_node(NodeId, Now, Event);
  void send(NodeId to, protocol::ToWorker message, SpecPtr spec = nullptr);
  void capacity_changed(NodeId);

  // control_jobs.cpp
  bool apply(Job&, JobEvent, Now, Cause, std::string detail);
  void enter(Job&, Now, std::optional<Instant> since = std::nullopt);  // it waits since then, else since now
  void leave(Job&);
  Result<Job*> live_job(JobId);
  std::optional<Error> is_over(JobId) const;              // or never was
  void let_go(Job&, Now, Cause, const std::string& why);  // one that was held
  Error illegal(const Job&, std::string_view verb) const;
  std::optional<Error> unknown_place(const JobSpec&) const;  // its queue or project
  std::optional<Error> refuses(const SubmitRequest&, Now) const;
  std::optional<Result<Submitted>> known_by_key(const SubmitRequest&) const;
  Result<SubmitRequest> resolved(const std::vector<SubmitRequest>&, std::size_t index,
                                 const std::vector<Result<Submitted>>& earlier) const;
  const Job& add_job(const SubmitRequest&, Now, const Job* first_task = nullptr);
  void finish_job(Job&, Now, int exit_code);
  void settle_ended(Now);
  void remember_key(std::string_view owner, std::string_view key, KeyBook::Known known);

  // control_attempts.cpp
  bool apply(Attempt&, AttemptEvent, Now, std::string detail);
  void start_attempt(Job&, const std::vector<NodePick>&, Now);
  void send_prepare(const Attempt&, const Job&, std::size_t index);
  void send_launch(const Attempt&, NodeId to);
  void advance(Attempt&, Now);
  void begin_stop(Attempt&, Cause, std::string detail, std::string signal, Duration grace, Now);
  void send_stop(const Attempt&, NodeId to, std::string signal, Duration grace);
  static std::string evidence_of(const GangMember&, const protocol::Failure&);
  void member_failed(Attempt&, GangMember&, const protocol::Failure&, Now);
  void end_member(Attempt&, GangMember&, bool ok, bool proven, std::string how, Now);
  void proven_late(Node&, AttemptKey, Now);
  void close_attempt(AttemptKey, Now);
  bool give_back_gpus(const AttemptRow&, Now);
  struct RecentEnd;
  void send_on(Job&, RecentEnd, const AttemptOutcome&, Now);
  bool awaits_evidence(Attempt&, Now) const;
  void avoid_after(Job&, const AttemptRow& ended, NodeId failed_on);
  void tell_avoided(const Job&);
  Attempt* find_live(AttemptKey);
  void repeat_orders(Attempt&, GangMember&, Now);
  static void add_evidence(AttemptRow&, std::string_view json_object, bool only_watched = false);
  void note_step(Attempt&, std::int64_t step, Now);

  // control_hang.cpp
  void judge_hang(Attempt&, Now);
  void judge_hangs(Now);  // those that wait for captures
  void judge_stragglers(Attempt&, Now);
  std::string hang_text(const Attempt&, const GangWatch::Hang&) const;
  std::string waits_for_storage(const AttemptRow&, const GangWatch::Hang&) const;
  std::string gpu_of_rank(const GangMember&, std::int32_t rank) const;
  void forget_reports(NodeId);  // of a node that will say anew what it has
  // control_checkpoints.cpp
  bool apply(const Job&, CheckpointRow&, CheckpointEvent, Now, std::string detail);
  void store(const CheckpointRow&);
  void remark(const Job&, const CheckpointRow&, Now, std::string detail);
  void register_checkpoint(Job&, Attempt&, const protocol::CheckpointFound&, Now);
  void choose_resume(Job&, AttemptRow&, Now);
  void resume_damaged(Attempt&, const protocol::Failure&, Now);
  bool mark_resumed(Job&, const AttemptRow& ended, bool ok, Now);
  void retire_old(const Job&, const AttemptRow&, Now);
  void delete_retired(Now);
  void watch_retired(const CheckpointRow&, Instant at);

  // control_plan.cpp
  planner::PlanJob plan_job(const Job&);
  planner::PlanJob numbered(const Job&, const JobSpec&) const;
  static Instant preempts_from(const Job&);
  const std::string& queue_of_nodes(const std::string& queue) const;
  planner::QueueShare queue_share(const std::string& queue) const;
  void see_nodes();
  void see_shares();
  void start_planned(const planner::Start&, Now);
  void give_way(const planner::Preemption&, Now);
  void leave_now(Attempt&, Now);
  void adopt(const Job&, const Attempt&);

  // control_update.cpp
  std::optional<Error> refuses_change(const Job&, const JobChange&, Now) const;
  static JobSpec changed(const Job&, const JobChange&);
  void put_changes(Job&, const JobChange&, JobSpec, Now);
  void limit_changed(Job&, Now);

  // control_explain.cpp
  void explain_waiting(const planner::Planner&, const planner::Waiting&, Now, Explanation&,
                       bool exactly) const;
  void explain_nodes(const planner::Planner&, const planner::Waiting&, Now, Explanation&) const;
  void explain_never(const Job&, Now, Explanation&) const;
  void explain_order(const planner::Planner&, const planner::Waiting&, Now, Explanation&) const;
  void explain_exactly(const planner::Planner&, const planner::Waiting&, Now, Explanation&) const;
  std::string quota_text(const planner::QuotaBlock&, int gpus) const;
  std::string obstacle_text(const planner::Obstacle&, int gpus) const;

  // control_shares.cpp
  void expire_reservations(Now);

  // control_time.cpp
  std::optional<PastJob> state_of(JobId) const;
  std::optional<bool> decided(const Dependency&, const Past& given) const;
  std::optional<bool> array_decided(const Dependency&, const Past& given) const;
  std::optional<bool> decided_by(const Dependency&, const PastJob& changed) const;
  bool has_live_task(const Dependency&) const;
  std::optional<Error> bad_dependency(const SubmitRequest&) const;
  std::vector<const Dependency*> unmet(const Job&, const Past& given = {}) const;
  static JobId array_of(const Job&);
  static std::optional<Duration> run_limit(const JobSpec&, Duration ran);  // of its next run
  int array_active(JobId array) const;
  bool array_is_full(const Job&) const;
  void watch_time(const Job&);
  void forget_time(const Job&);
  void count_task(Job&, int by);
  void tell_dependents(JobId, JobId array, const PastJob& state, Now);
  void tell_dependent(JobId, JobId changed, JobId array, const PastJob& state, Now);
  void unblock(JobId, Now);
  void next_task(JobId array, Now);
  void forget_oldest();
  void wait_for_place(const Job&, bool waits);
  void end_late(Now);

  // control_schedule.cpp
  void run_schedule(Job&, Now);
  JobSpec run_of(const Job& scheduled) const;

  // control_faults.cpp
  std::vector<GpuId> hit_by(const Gpu&, const FaultRule&) const;
  struct Evidence {  // of a fault, as it is judged
    const FaultRule& rule;
    const protocol::GpuFault& fault;
    std::string what;  // in words, with the GPU
    Instant seen_at;
    bool acts = false;    // the rule does something, and may
    bool braked = false;  // it would, but did so on too many nodes already
  };
  std::string action_of(const Evidence&, bool folded) const;
  std::string evidence_of(const Evidence&, FaultId) const;
  static Event event_of(const Evidence&);
  void fault_hits(Attempt&, const Evidence&, FaultId, Now);
  void explain_end(Attempt&, const Evidence&, Now);
  void fault_came_late(GpuId, const Evidence&, FaultId, std::set<AttemptKey>& told, Now);
  void move_charge(RecentEnd&, Cause to, const std::string& why, Now);
  AttemptKey holder_at(const Gpu&, Instant, Now) const;
  // control_late.cpp
  static constexpr std::string_view kGivenUp = "lease";  // how a part has ended that nobody hears of
  void remember_end(RecentEnd);
  RecentEnd* find_end(AttemptKey, Now);
  static bool held(const RecentEnd&, GpuId, Instant at, Now);
  void failure_came_late(NodeId from, AttemptKey, const protocol::Failure&, Now);
  void supplement(RecentEnd&, std::string_view json_object, Event, Now, bool only_watched = false);
  void free_after_verdict(Job&, const AttemptRow&, Cause from, Now);
  void leave_after_checkpoint(Attempt&, Cause, const std::string& why, Now);
  void leave_failing_gpus(Attempt&, Now);
  FaultJob verdict_of_gpus(const AttemptRow&) const;
  static std::optional<std::string> failed_gpu_of(std::string_view health_reason);

  // control_ends.cpp
  void sign(Attempt&, const protocol::Failure&);
  std::optional<int> same_failure_elsewhere(const Job&, const AttemptRow&) const;
  void excuse_end(Attempt&, bool gpu_failed, Now);
  void charge_or_forgive(Job&, Attempt&, Now);
  void blame_unknown(const AttemptRow&, Now);
  void remember_failure(Job&, const AttemptRow&);
  void remember_past(const std::vector<AttemptRow>& ended);
  void stage(Job&, std::string_view stage, Now);
  Duration wait_for_turn(Now);

  // control_blame.cpp
  FaultRow& add_fault(Now, FaultRow);
  bool apply_service(Node&, ServiceEvent, Now, const std::string& reason);
  void trust_gpus(Node&, Now);
  void end_services(Now);
  static Instant page_of(const Node&, Instant at_the_latest);
  bool is_repeat_offender(const Gpu&, Instant now) const;
  static bool waits_for_a_person(const GpuRow&);
  void keep_for_a_person(Gpu&, Now);
  void let_it_come_back(Gpu&, Now);
  void withdraw(FaultId, GpuId, Now);
  bool is_braked(const FaultRule&, const Node&, Now);
  void judge_history(Node&, GpuId, Now);
  void set_aside(Node&, const std::string& why, Now);
  void weigh_lemons(Now);

  // control_simulate.cpp
  using Starts = std::map<JobId, Instant>;
  void estimate_starts(Now);
  Eta eta_of(Instant start, Now) const;
  WhatIf answer(const planner::Planner& copy, JobId, const Starts& before, Now) const;
  WhatIf without(const planner::Planner& copy, JobId, const std::string& pool, Instant begin,
                 const Starts& before, Now) const;

  // control_nodes.cpp
  void register_gpus(Node&, const std::vector<protocol::GpuInfo>&, bool new_boot, Now);
  Gpu* register_gpu(Node&, const protocol::GpuInfo&, Now);
  void hear_health(Node&, Gpu&, const protocol::GpuInfo&, bool new_boot, Now);
  void gpu_unhealthy(Gpu&, GpuHealth, std::string reason, Now);
  void gpu_is_back(Gpu&, Now);
  void set_node_state(Node&, NodeEvent, Now, std::string detail);
  void reconcile_members(Node&, const protocol::Hello&, bool same_machine, bool new_boot, Now);

  // control_preflight.cpp
  struct Compared {
    std::string text;
    bool slow = false;  // well below what others of its shape have reached
  };
  std::optional<Compared> compare(const AttemptRow&, const protocol::CollectiveResult&);

  // control_silence.cpp
  using PartId = std::pair<AttemptKey, NodeId>;
  NodeId choose_witness(const std::vector<GangMember>& gang) const;
  protocol::GangHold hold_of(const AttemptRow&) const;
  void expire_lease(Node&, Now, const std::string& off = {});
  void end_lost_parts(Now);
  void forget_lost_parts(AttemptKey);
  bool must_be_dead(const LostPart&, Now) const;
  void ask_peers(const Attempt&, NodeId, LostPart&, Now);
  void count_node_lost(Node&, Now);
  void declare_dead(Now);
  void declare_dead(Node&, const std::string& why, Now);
  void judge_lost(Now);

  // control_conditions.cpp
  void replace_conditions(Node&, std::vector<NodeCondition> now_true, Now);
  const GangMember* with_link_trouble(const AttemptRow&) const;
  void judge_clocks(Now);
  void see_closing(Node&);
  void explain_conditions(const planner::Nodes&, const planner::GangAsk&, Explanation&) const;

  // control_inspection.cpp
  void ask_inspection(Node&, std::string trigger, Now);
  void inspect_after(const AttemptRow& failed, Now);
  void inspect_idle(Now);

  ControlSettings settings_;
  SpecText specs_;
  SpecPool spec_pool_;
  LeaseTable& leases_;
  std::map<JobId, Job> jobs_;                              // unfinished
  std::map<AttemptKey, Attempt> attempts_;                 // live
  std::set<AttemptKey> hung_;                              // of them: no rank moves
  std::map<std::string, std::deque<double>> collectives_;  // shape of gang → what the last ones reached
  std::map<PartId, LostPart> lost_parts_;
  std::set<NodeId> silent_;  // their lease is over, and they are not dead yet
  std::int64_t last_question_ = 0;
  Cluster cluster_;
  DelayQueue delayed_;
  planner::Planner planner_;
  Names queue_names_, project_names_, user_names_;  // the planner's numbers
  struct KnownShape {
    SpecPtr spec;
    std::string queue;
    int shape = 0;  // the planner's number; it forgets none
  };
  KnownShape last_shape_;
  planner::Calibration calibration_;
  struct Estimate {
    Instant start;
    Duration runs{};
    planner::Parts parts;
  };
  std::map<JobId, Estimate> estimates_;  // as of estimated_at_
  Instant estimated_at_;
  std::set<NodeId> unseen_;  // changed since the planner was told
  Shares shares_;
  std::set<std::pair<Instant, JobId>> deadlines_;
  // What is known of whole arrays until one of their tasks changes: thousands may wait for one.
  using Decided = std::map<std::pair<int, Dependency::When>, std::optional<bool>>;
  mutable std::map<JobId, Decided> decided_;
  // Job, or first task of an array, and what it must have done → those that wait for that.
  std::map<std::pair<JobId, Dependency::When>, std::set<JobId>> dependents_;
  std::map<JobId, std::set<JobId>> runs_;           // schedule → its runs that are not over
  std::map<JobId, std::set<JobId>> array_waiting_;  // blocked tasks of arrays with max_parallel
  std::map<JobId, int> array_active_;
  std::unordered_map<JobId, PastJob> past_;  // the newest that have ended
  std::deque<JobId> past_by_age_;
  struct Ended {
    JobId job, array;
    PastJob state;
    bool freed_a_place = false;
  };
  std::vector<Ended> just_ended_;
  bool settling_ = false;
  KeyBook keys_;  // at most settings_.max_keys
  FaultLedger ledger_;
  std::map<NodeId, LemonScore> lemons_;
  Instant lemons_at_;
  std::vector<Instant> set_aside_;  // nodes by rule, lately
  struct RuleUse {                  // lately: nodes where a row of the fault table acted, or was kept from it
    std::map<NodeId, Instant> acted, braked;
  };
  std::map<std::string, RuleUse> rule_use_;
  std::set<NodeId> skewed_;       // their clocks are off from ours
  bool own_clock_wrong_ = false;  // those of most nodes are, to the same side
  struct Lost {                   // a node, lately
    NodeId node;
    Mono heard_at;
    FaultId blamed;  // 0 = it is not
    std::optional<Mono> judge_at;
  };
  std::vector<Lost> lost_lately_;
  struct RecentEnd {  // of which more may still become known
    AttemptRow row;
    Name project, owner;        // of its job, which may be over
    bool charged = false;       // to its cause
    bool unprogressed = false;  // counted for the breaker
    bool doubted = false;       // counted against the checkpoint that it began from
  };
  // Kept apart, so that many short jobs that go well do not push out one whose charge may still move.
  std::deque<RecentEnd> recent_ends_, recent_successes_;
  double requeue_tokens_ = 0;
  Mono requeue_tokens_at_;
  std::map<JobId, CheckpointBook> checkpoints_;
  std::set<std::tuple<Instant, JobId, std::string>> retired_;  // when to look at that path again
  JobId last_job_;
  NodeId last_node_;
  GpuId last_gpu_;
  EventId last_event_;
  FaultId last_fault_;
  std::int64_t last_inspection_ = 0;

  Output out_;
  std::set<JobId> dirty_jobs_;
  std::set<AttemptKey> dirty_attempts_;
  std::set<NodeId> dirty_nodes_;
  std::set<GpuId> dirty_gpus_;

  PlaneWitness* witness_ = nullptr;
  int deciding_ = 0;  // public methods under way, one inside the other
};

}  // namespace tutti
