// How things were at an earlier time, from what is stored: rows as they are now with what came later taken
// back, histories, recorded reasons. In PostgreSQL (db/pg) and in memory (db/memory); one suite
// (tests/store/history_test) holds both to the same rules.
//
// Called by: api/handlers/history, on a thread of its own, one call at a time: these read much. Every call
// blocks, but for a bounded time. Throws StoreError. Std only.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "db/reader.h"
#include "scheduler/model/rows.h"

namespace tutti {

// ---------------------------------------------------------------- nodes and GPUs

struct PastHolder {
  AttemptKey attempt;
  std::string project, owner;
  bool preflight = false;
};
struct PastGpu {
  GpuRow row;  // health, present and node as they were, the rest as it is now
  std::optional<PastHolder> holder;
};
struct PastNode {
  NodeRow row;                // state and service as they were, the rest as it is now
  std::vector<PastGpu> gpus;  // by index
};
struct PastMachines {
  std::vector<PastNode> nodes;  // by id; those that had registered
  // Before, a GPU that was away and came back is shown as if it had been there all the time. nullopt: never
  // so.
  std::optional<Instant> known_since;
};

/// The nodes of now with what came later taken back. `later`: events of the kinds node, service and gpu after
/// that instant, in order; of each thing the first one counts. Holders are not filled in.
std::vector<PastNode> taken_back(const std::vector<NodeRow>& nodes, const std::vector<GpuRow>& gpus,
                                 const std::vector<EventRow>& later, Instant at);

// ---------------------------------------------------------------- jobs

struct PastWaiting {  // one that waited
  JobRow row;         // as it is now but for state and attempt; of priority and place only now is known
  std::string name;
  Instant since;             // in this state
  std::string reasons_body;  // as recorded in this wait (waiting_reasons.h); "" = nothing
};
struct PastQueue {
  std::vector<PastWaiting> jobs;  // by priority, then by queued_at, then by id
  bool cut = false;               // there were more, of lower priority
};

struct PastJobs {
  StateCounts by_state{};
  bool ended_known = true;  // false: too many have ended to be counted
};

// ---------------------------------------------------------------- decisions

/// What the scheduler decided, or carried out for somebody: starts, stops, ends, holds, preemptions, nodes
/// and GPUs set aside. nullopt: this event only tells what happened next.
std::optional<std::string_view> decision_word(const EventRow& event);

struct Decision {
  EventRow event;
  std::string node_name;           // of a node's
  std::vector<std::string> nodes;  // of a start
};
struct DecisionQuery {
  Instant since, until;              // [since, until)
  std::optional<Visible> visible{};  // nullopt: all
  bool newest_first = false;
  EventId after{};  // the last one of the page before; 0 = from the beginning
  int limit = 200;
};
struct DecisionCount {
  std::int64_t decisions = 0, starts = 0, preemptions = 0, faults = 0;
  bool operator==(const DecisionCount&) const = default;
};

// ---------------------------------------------------------------- others

struct RanJob {  // submitted in an interval, and finished since
  Instant queued_at;
  std::string owner, queue;
  std::int32_t gpus = 0;
  Duration ran{};          // in all its attempts
  std::string time_limit;  // as its spec has it; "" = none
};
struct RanJobs {
  std::vector<RanJob> jobs;  // those that ran on GPUs, oldest first
  std::int64_t others = 0;   // without GPUs, never ran, or not finished yet
  bool cut = false;
};

struct NodeAttempt {
  AttemptRow row;  // without gang, evidence and words
  std::string job_name, project, owner;
  std::vector<std::int32_t> gpus;  // indices on that node
  Instant from;
  std::optional<Instant> until;
};

struct WaitCounts {                 // jobs by how long they waited for their first start
  std::vector<std::int64_t> below;  // one per bound, in steps; the last is of all that is longer
};

inline constexpr int kMostPastJobs = 20'000;   // that wait, or that are replayed
inline constexpr int kMostBlamed = 100'000;    // faults that a score is made of
inline constexpr int kMostHistoryPage = 1000;  // rows of one answer

class HistoryStore {
 public:
  virtual ~HistoryStore() = default;

  /// When the first event was; nullopt: there is none.
  virtual std::optional<Instant> first_event() = 0;
  /// [since, until) in so many equal pieces.
  virtual std::vector<DecisionCount> density(Instant since, Instant until, int pieces) = 0;
  virtual std::vector<Decision> decisions(const DecisionQuery& query) = 0;

  virtual PastMachines machines(Instant at) = 0;
  /// Jobs that were there or had ended by then, by state.
  virtual PastJobs jobs(Instant at) = 0;
  virtual PastQueue queue(Instant at, const std::optional<Visible>& visible, int most) = 0;
  virtual RanJobs ran(Instant since, Instant until, int most) = 0;

  /// Newest first; by the GPUs that are the node's now.
  virtual std::vector<NodeAttempt> node_attempts(NodeId node, int limit, int skip) = 0;
  /// Newest first, ids below `before` (0 = from the newest).
  virtual std::vector<EventRow> inspections(NodeId node, int limit, EventId before) = 0;
  /// Faults that speak against nodes, not older than that, oldest first: node, at and shared_by only.
  virtual std::vector<FaultRow> blamed(Instant since) = 0;
  /// Of jobs of the project that were submitted since then and have begun. `bounds` rise.
  virtual WaitCounts waits(const std::string& project, const std::optional<Visible>& visible, Instant since,
                           const std::vector<Duration>& bounds) = 0;
};

}  // namespace tutti
