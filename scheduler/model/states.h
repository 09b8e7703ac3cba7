// Every state machine that is stored: its states, its events, its one table of edges.
// Nobody else knows what is legal. The numbers are what SQL stores (sql/migrations has CHECK constraints
// that say the same, docs/state-machines.md is drawn from here, tests compare all three).
// To add a state: docs/checklists/state.md.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>

#include "scheduler/model/edges.h"

namespace tutti {

// ---------------------------------------------------------------- job

enum class JobState : std::uint8_t {
  queued = 1,     // in the ready heap; left by a placement, a hold, a cancel or a begin time put off
  delayed = 2,    // in the delay heap until `not_before` (begin time or back-off); left when due
  blocked = 3,    // waits for other jobs; left when they are done
  held = 4,       // waits for a person; left by release or cancel
  starting = 5,   // an attempt is placed, its ranks are not all up yet
  running = 6,    // all ranks of the attempt are up
  stopping = 7,   // the attempt is being ended; left when every rank is proven dead
  succeeded = 8,  // terminal
  failed = 9,     // terminal
  cancelled = 10  // terminal
};

enum class JobEvent : std::uint8_t {
  due,        // its `not_before` has come
  unblocked,  // all dependencies are met
  place,      // the planner gave it GPUs: an attempt begins
  started,    // all ranks are up
  stop,       // somebody or something ends the attempt
  requeue,    // the attempt has ended, again at once
  back_off,   // the attempt has ended, again later; or released, or changed, with a begin time to come
  hold,       // a person or a breaker holds it
  release,    // a person releases it
  block,      // released, but others are still to be waited for
  succeed,    // the attempt has ended well
  fail,       // the attempt has ended badly and no budget is left; or a dependency never can be met
  cancel      // a person cancels it (active jobs: after the attempt has ended)
};

inline constexpr auto kJobStates = std::to_array<JobState>(
    {JobState::queued, JobState::delayed, JobState::blocked, JobState::held, JobState::starting,
     JobState::running, JobState::stopping, JobState::succeeded, JobState::failed, JobState::cancelled});
inline constexpr auto kJobInitial =
    std::to_array<JobState>({JobState::queued, JobState::delayed, JobState::blocked, JobState::held});
inline constexpr auto kJobTerminal =
    std::to_array<JobState>({JobState::succeeded, JobState::failed, JobState::cancelled});

inline constexpr auto kJobEdges = std::to_array<Edge<JobState, JobEvent>>({
    {JobState::delayed, JobEvent::due, JobState::queued},
    {JobState::blocked, JobEvent::unblocked, JobState::queued},
    {JobState::blocked, JobEvent::back_off, JobState::delayed},
    {JobState::blocked, JobEvent::fail, JobState::failed},
    {JobState::queued, JobEvent::place, JobState::starting},
    {JobState::starting, JobEvent::started, JobState::running},
    {JobState::starting, JobEvent::stop, JobState::stopping},
    {JobState::running, JobEvent::stop, JobState::stopping},
    {JobState::running, JobEvent::succeed, JobState::succeeded},
    {JobState::stopping, JobEvent::succeed, JobState::succeeded},  // had ended by itself before the kill
    {JobState::stopping, JobEvent::requeue, JobState::queued},
    {JobState::stopping, JobEvent::back_off, JobState::delayed},
    {JobState::stopping, JobEvent::hold, JobState::held},
    {JobState::stopping, JobEvent::fail, JobState::failed},
    {JobState::stopping, JobEvent::cancel, JobState::cancelled},
    {JobState::queued, JobEvent::hold, JobState::held},
    {JobState::delayed, JobEvent::hold, JobState::held},
    {JobState::blocked, JobEvent::hold, JobState::held},
    {JobState::held, JobEvent::release, JobState::queued},
    {JobState::held, JobEvent::block, JobState::blocked},
    {JobState::queued, JobEvent::back_off, JobState::delayed},  // its begin time was put off
    {JobState::queued, JobEvent::fail, JobState::failed},       // its deadline has passed
    {JobState::delayed, JobEvent::fail, JobState::failed},      // likewise
    {JobState::held, JobEvent::fail, JobState::failed},         // likewise
    {JobState::held, JobEvent::back_off, JobState::delayed},
    {JobState::queued, JobEvent::cancel, JobState::cancelled},
    {JobState::delayed, JobEvent::cancel, JobState::cancelled},
    {JobState::blocked, JobEvent::cancel, JobState::cancelled},
    {JobState::held, JobEvent::cancel, JobState::cancelled},
});

static_assert(edges::deterministic(kJobEdges));
static_assert(edges::terminal_have_no_exit(kJobEdges, kJobTerminal));
static_assert(edges::all_reachable(kJobEdges, kJobStates, kJobInitial));
static_assert(edges::all_can_end(kJobEdges, kJobStates, kJobTerminal));

constexpr bool is_pending(JobState s) {
  return s == JobState::queued || s == JobState::delayed || s == JobState::blocked || s == JobState::held;
}
// Runs, or waits for nothing but resources or time: it counts as active in its array.
constexpr bool may_run(JobState s) {
  return s != JobState::blocked && s != JobState::held && !edges::contains(kJobTerminal, s);
}
constexpr bool is_active(JobState s) {
  return s == JobState::starting || s == JobState::running || s == JobState::stopping;
}
constexpr bool is_terminal(JobState s) { return edges::contains(kJobTerminal, s); }

// ---------------------------------------------------------------- attempt

enum class AttemptState : std::uint8_t {
  placed = 1,     // rows are written, nodes are asked to prepare
  preflight = 2,  // a node has begun to prepare
  starting = 3,   // every node is ready, every node is told to launch
  running = 4,    // every rank is up
  stopping = 5,   // some node is still to prove that its ranks are dead
  ended = 6       // terminal: no rank of this epoch lives; result, cause and evidence are set
};

enum class AttemptEvent : std::uint8_t {
  accepted,  // the first node prepares
  ready,     // the last node is ready
  started,   // the last rank is up
  stop,      // the gang is to be killed or asked to stop; the cause is recorded with it
  ended      // every node has proven its ranks dead, or its lease and the kill margin are over
};

inline constexpr auto kAttemptStates =
    std::to_array<AttemptState>({AttemptState::placed, AttemptState::preflight, AttemptState::starting,
                                 AttemptState::running, AttemptState::stopping, AttemptState::ended});
inline constexpr auto kAttemptInitial = std::to_array<AttemptState>({AttemptState::placed});
inline constexpr auto kAttemptTerminal = std::to_array<AttemptState>({AttemptState::ended});

inline constexpr auto kAttemptEdges = std::to_array<Edge<AttemptState, AttemptEvent>>({
    {AttemptState::placed, AttemptEvent::accepted, AttemptState::preflight},
    {AttemptState::preflight, AttemptEvent::ready, AttemptState::starting},
    {AttemptState::starting, AttemptEvent::started, AttemptState::running},
    {AttemptState::placed, AttemptEvent::stop, AttemptState::stopping},
    {AttemptState::preflight, AttemptEvent::stop, AttemptState::stopping},
    {AttemptState::starting, AttemptEvent::stop, AttemptState::stopping},
    {AttemptState::running, AttemptEvent::stop, AttemptState::stopping},
    {AttemptState::running, AttemptEvent::ended, AttemptState::ended},
    {AttemptState::stopping, AttemptEvent::ended, AttemptState::ended},
});

static_assert(edges::deterministic(kAttemptEdges));
static_assert(edges::terminal_have_no_exit(kAttemptEdges, kAttemptTerminal));
static_assert(edges::all_reachable(kAttemptEdges, kAttemptStates, kAttemptInitial));
static_assert(edges::all_can_end(kAttemptEdges, kAttemptStates, kAttemptTerminal));

// ---------------------------------------------------------------- node: reachability

enum class NodeState : std::uint8_t {
  reachable = 1,    // heartbeats come
  unreachable = 2,  // none for a while; its lease may still run: nothing is killed, nothing is placed on it
  dead = 3          // lease and kill margin are over: its ranks are dead, its attempts are ended
};

enum class NodeEvent : std::uint8_t {
  silence,  // no heartbeat for the suspicion time
  heard,    // a heartbeat or a registration
  expired   // lease and kill margin are over
};

inline constexpr auto kNodeStates =
    std::to_array<NodeState>({NodeState::reachable, NodeState::unreachable, NodeState::dead});
inline constexpr auto kNodeInitial = std::to_array<NodeState>({NodeState::reachable});
inline constexpr auto kNodeEdges = std::to_array<Edge<NodeState, NodeEvent>>({
    {NodeState::reachable, NodeEvent::silence, NodeState::unreachable},
    {NodeState::unreachable, NodeEvent::heard, NodeState::reachable},
    {NodeState::unreachable, NodeEvent::expired, NodeState::dead},
    {NodeState::dead, NodeEvent::heard, NodeState::reachable},
});
static_assert(edges::deterministic(kNodeEdges));
static_assert(edges::all_reachable(kNodeEdges, kNodeStates, kNodeInitial));

// Beside reachability: may new work land there? Set by people and by fault policy.
enum class NodeService : std::uint8_t {
  schedulable = 1,
  cordoned = 2,     // no new work, current work runs on
  draining = 3,     // no new work; shown until the current work is over
  quarantined = 4,  // set aside by fault policy
  probation = 5,    // back from repair: gangs of several nodes rather go elsewhere; ends by itself
  repair = 6,       // somebody works on it
  retired = 7       // a person has given it up
};

enum class ServiceEvent : std::uint8_t {
  cordon,      // a person
  drain,       // a person
  resume,      // a person vouches for it: at once, without probation
  quarantine,  // fault policy, or a person
  repair,      // a person begins
  come_back,   // a person, after repair: on probation; refused when it came back too often
  pass,        // probation is over without a failure
  retire       // a person
};
inline constexpr auto kServices = std::to_array<NodeService>(
    {NodeService::schedulable, NodeService::cordoned, NodeService::draining, NodeService::quarantined,
     NodeService::probation, NodeService::repair, NodeService::retired});
inline constexpr auto kServiceInitial = std::to_array<NodeService>({NodeService::schedulable});
inline constexpr auto kServiceEdges = std::to_array<Edge<NodeService, ServiceEvent>>({
    {NodeService::schedulable, ServiceEvent::cordon, NodeService::cordoned},
    {NodeService::schedulable, ServiceEvent::drain, NodeService::draining},
    {NodeService::schedulable, ServiceEvent::quarantine, NodeService::quarantined},
    {NodeService::schedulable, ServiceEvent::repair, NodeService::repair},
    {NodeService::schedulable, ServiceEvent::retire, NodeService::retired},
    {NodeService::cordoned, ServiceEvent::drain, NodeService::draining},
    {NodeService::cordoned, ServiceEvent::quarantine, NodeService::quarantined},
    {NodeService::cordoned, ServiceEvent::repair, NodeService::repair},
    {NodeService::cordoned, ServiceEvent::resume, NodeService::schedulable},
    {NodeService::cordoned, ServiceEvent::come_back, NodeService::probation},
    {NodeService::cordoned, ServiceEvent::retire, NodeService::retired},
    {NodeService::draining, ServiceEvent::cordon, NodeService::cordoned},
    {NodeService::draining, ServiceEvent::quarantine, NodeService::quarantined},
    {NodeService::draining, ServiceEvent::repair, NodeService::repair},
    {NodeService::draining, ServiceEvent::resume, NodeService::schedulable},
    {NodeService::draining, ServiceEvent::come_back, NodeService::probation},
    {NodeService::draining, ServiceEvent::retire, NodeService::retired},
    {NodeService::quarantined, ServiceEvent::repair, NodeService::repair},
    {NodeService::quarantined, ServiceEvent::resume, NodeService::schedulable},
    {NodeService::quarantined, ServiceEvent::come_back, NodeService::probation},
    {NodeService::quarantined, ServiceEvent::retire, NodeService::retired},
    {NodeService::repair, ServiceEvent::resume, NodeService::schedulable},
    {NodeService::repair, ServiceEvent::come_back, NodeService::probation},
    {NodeService::repair, ServiceEvent::quarantine, NodeService::quarantined},
    {NodeService::repair, ServiceEvent::retire, NodeService::retired},
    {NodeService::probation, ServiceEvent::pass, NodeService::schedulable},
    {NodeService::probation, ServiceEvent::resume, NodeService::schedulable},
    {NodeService::probation, ServiceEvent::quarantine, NodeService::quarantined},
    {NodeService::probation, ServiceEvent::cordon, NodeService::cordoned},
    {NodeService::probation, ServiceEvent::drain, NodeService::draining},
    {NodeService::probation, ServiceEvent::repair, NodeService::repair},
    {NodeService::probation, ServiceEvent::retire, NodeService::retired},
    {NodeService::retired, ServiceEvent::repair, NodeService::repair},
    {NodeService::retired, ServiceEvent::resume, NodeService::schedulable},
});
static_assert(edges::deterministic(kServiceEdges));
static_assert(edges::all_reachable(kServiceEdges, kServices, kServiceInitial));

// May new work land there, as far as its service goes?
constexpr bool takes_work(NodeService s) {
  return s == NodeService::schedulable || s == NodeService::probation;
}

// Why a GPU cannot be given away although nobody holds it. `free` and `allocated` are derived from
// allocations and never stored.
enum class GpuHealth : std::uint8_t {
  healthy = 1,
  dirty = 2,       // the death of its last ranks is not proven yet
  quarantined = 3  // a fatal fault; needs a reset or a person
};

// ---------------------------------------------------------------- checkpoint

enum class CheckpointState : std::uint8_t {
  found = 1,    // announced, its files are there in the size they should have; what is in them is not known
  good = 2,     // its checksums held, or an attempt that began from it has made a later one
  suspect = 3,  // attempts that began from it ended before a new one: used only when no other is left
  bad = 4       // terminal: damaged, or it failed again as a suspect; no attempt begins from it
};

enum class CheckpointEvent : std::uint8_t {
  verified,  // every checksum of its manifest held
  proved,    // an attempt that began from it has made a later one
  doubted,   // so many attempts in a row began from it and ended before a new one
  damaged    // a file is missing, shorter, changed, or of another epoch
};

inline constexpr auto kCheckpointStates = std::to_array<CheckpointState>(
    {CheckpointState::found, CheckpointState::good, CheckpointState::suspect, CheckpointState::bad});
inline constexpr auto kCheckpointInitial =
    std::to_array<CheckpointState>({CheckpointState::found, CheckpointState::bad});  // damaged when found
inline constexpr auto kCheckpointTerminal = std::to_array<CheckpointState>({CheckpointState::bad});

// A suspect is not cleared by checksums: they held when it was written, and it failed all the same.
inline constexpr auto kCheckpointEdges = std::to_array<Edge<CheckpointState, CheckpointEvent>>({
    {CheckpointState::found, CheckpointEvent::verified, CheckpointState::good},
    {CheckpointState::found, CheckpointEvent::proved, CheckpointState::good},
    {CheckpointState::found, CheckpointEvent::doubted, CheckpointState::suspect},
    {CheckpointState::found, CheckpointEvent::damaged, CheckpointState::bad},
    {CheckpointState::good, CheckpointEvent::doubted, CheckpointState::suspect},
    {CheckpointState::good, CheckpointEvent::damaged, CheckpointState::bad},
    {CheckpointState::suspect, CheckpointEvent::proved, CheckpointState::good},
    {CheckpointState::suspect, CheckpointEvent::doubted, CheckpointState::bad},
    {CheckpointState::suspect, CheckpointEvent::damaged, CheckpointState::bad},
});
static_assert(edges::deterministic(kCheckpointEdges));
static_assert(edges::terminal_have_no_exit(kCheckpointEdges, kCheckpointTerminal));
static_assert(edges::all_reachable(kCheckpointEdges, kCheckpointStates, kCheckpointInitial));
static_assert(edges::all_can_end(kCheckpointEdges, kCheckpointStates, kCheckpointTerminal));

// ---------------------------------------------------------------- cause and result of an attempt

enum class Cause : std::uint8_t {
  none = 0,
  user = 1,          // exit status not 0 and no hardware evidence
  oom = 2,           // its own memory limit
  gpu = 3,           // a fatal GPU fault
  node_lost = 4,     // lease and kill margin over
  fabric = 5,        // NVLink, InfiniBand
  network = 6,       //
  storage = 7,       //
  launch = 8,        // the ranks could not be started
  hang = 9,          // no progress
  unknown = 10,      // died of a signal nobody sent
  preempted = 11,    // by us, for another job
  maintenance = 12,  // a drain
  control = 13,      // a fault of ours: supervisor lost, fence unproven
  time_limit = 14,   // its own time limit
  cancelled = 15,    // by a person
  requeued = 16,     // by a person, or exit code 85: checkpointed, start me again
  held = 17          // by a person, while active
};
inline constexpr std::size_t kCauseCount = 18;

enum class AttemptResult : std::uint8_t {
  none = 0,
  succeeded = 1,
  failed = 2,
  stopped = 3
};

// ---------------------------------------------------------------- names (the same in API, UI, SQL views,
// docs)

std::string_view name(JobState);
std::string_view name(JobEvent);
std::string_view name(AttemptState);
std::string_view name(AttemptEvent);
std::string_view name(NodeState);
std::string_view name(NodeEvent);
std::string_view name(NodeService);
std::string_view name(ServiceEvent);
std::string_view name(GpuHealth);
std::string_view name(CheckpointState);
std::string_view name(CheckpointEvent);
std::string_view name(Cause);
std::string_view name(AttemptResult);

std::optional<JobState> parse_job_state(std::string_view);
std::optional<AttemptState> parse_attempt_state(std::string_view);
std::optional<NodeState> parse_node_state(std::string_view);
std::optional<NodeService> parse_node_service(std::string_view);
std::optional<GpuHealth> parse_gpu_health(std::string_view);
std::optional<CheckpointState> parse_checkpoint_state(std::string_view);
std::optional<Cause> parse_cause(std::string_view);
std::optional<AttemptResult> parse_attempt_result(std::string_view);

}  // namespace tutti
