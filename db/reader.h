// The read side of the job store: history and single rows for the API. Live lists come from the leader's
// memory; this is for what is finished, for standbys, and for everything asked by id.
//
// Called by: the API's pool of read threads, several at once: implementations are thread-safe and every call
// blocks, but for a bounded time. Throws StoreError (unavailable, corrupt). Std only.
// What a call returns was committed; it may be older than the leader's memory by the batch under way.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "db/store.h"
#include "db/usage.h"

namespace tutti {

inline constexpr int kMaxPage = 1000;  // larger page sizes and limits are cut to this

struct JobView {
  JobRow row;  // of job, or of job_done (then its state is terminal)
  std::string name;
  std::string spec_json;                      // as it holds now; empty in lists
  std::string submitted_json{};               // as it was submitted, if it was changed since
  JobState initial_state = JobState::queued;  // as it was submitted
  std::optional<Instant> ended_at;            // set: finished
  std::int32_t exit_code = 0;
};

struct JobFilter {                 // all given parts must hold; empty = any
  std::vector<JobState> states{};  // one of these
  std::string project{}, queue{}, owner{}, name{};
  std::optional<Instant> since{};    // created at or after
  JobId first{}, last{};             // ids from … to; 0 = any
  std::vector<JobId> ids{};          // one of these
  std::optional<Visible> visible{};  // nullopt: all
  std::vector<Cause> causes{};       // one of these
  std::string name_part{};           // somewhere in the name; letters of ASCII in either case
  std::optional<Instant> until{};    // created before
};

enum class JobKey : std::uint8_t {
  state,
  project,
  queue,
  user,
  cause,
  name
};
struct JobGroup {
  std::string key;
  std::int64_t jobs = 0;
  std::int64_t gpus = 0;  // that they ask for
};

// What somebody may see of a stretch of the history.
struct EventWindow {
  std::vector<EventRow> rows;
  EventId seen;      // all up to here was looked at: where to go on
  bool end = false;  // there was nothing more then
};
inline constexpr int kEventWindow = 10'000;  // events looked at in one call, at most

struct FaultFilter {  // id 0 = any
  NodeId node{};
  GpuId gpu{};
  JobId job{};
  std::optional<Instant> since{};  // at or after
  std::optional<Instant> until{};  // before
  std::string fault_class{};       // empty = any, likewise
  std::string action{};
};

enum class FaultKey : std::uint8_t {
  nothing,  // one group of all
  node,
  fault_class,
  gpu,
  action,
  slot  // node and PCI address: a place, whichever GPU was in it
};
struct FaultGroup {
  std::string key;  // of node and gpu the id, 0: none; of slot "id address"
  std::int64_t faults = 0;
  std::int64_t jobs_hit = 0;  // each once
};

struct KeyView {
  JobId job;
  std::uint64_t body_hash = 0;
};

struct LeaderView {
  Term term;  // 0: nobody has led yet
  std::string holder;
  Instant since;
  std::string url{};        // where it is reached; "" = it has not said
  std::string key_print{};  // LeaderCard
  bool over = false;        // it has stopped, or is known to be dead
};

using StateCounts = std::array<std::int64_t, 11>;  // index = JobState

class Reader {
 public:
  virtual ~Reader() = default;

  virtual std::optional<JobView> find_job(JobId id) = 0;  // live or finished
  virtual std::optional<KeyView> find_by_key(std::string_view owner, std::string_view key) = 0;
  virtual std::vector<JobId> resolve_name(std::string_view name, int limit) = 0;  // newest first

  // Newest first. The next page: `after` = id of the last row of this one; 0 = from the newest.
  virtual std::vector<JobView> list_jobs(const JobFilter& filter, int page_size, JobId after) = 0;
  virtual StateCounts count_by_state() = 0;
  // The largest groups first, at most so many.
  virtual std::vector<JobGroup> count_jobs(const JobFilter& filter, JobKey by, int limit) = 0;

  virtual std::vector<AttemptRow> attempts(JobId job) = 0;                             // oldest first
  virtual std::optional<AttemptRow> find_attempt(JobId job, std::int32_t number) = 0;  // 0: the newest
  virtual std::vector<CheckpointRow> checkpoints(JobId job) = 0;                       // by step

  // Oldest first, ids above `after`. all_events merges jobs' and nodes' events by id: resume of a stream.
  virtual std::vector<EventRow> job_events(JobId job, EventId after, int limit) = 0;
  /// The newest change of the job's state that is not later.
  virtual std::optional<EventRow> last_state(JobId job, Instant at) = 0;
  virtual std::vector<EventRow> all_events(EventId after, int limit) = 0;  // with project and owner of jobs
  // The same without the events of jobs that are not visible; those of nodes are for everybody.
  virtual EventWindow events_for(const Visible& who, EventId after, int limit) = 0;
  // Of one attempt, the newest; oldest of them first.
  virtual std::vector<EventRow> attempt_events(AttemptKey attempt, int limit) = 0;

  // Newest first, ids below `before` (0 = from the newest).
  virtual std::vector<FaultRow> faults(const FaultFilter& filter, int limit, FaultId before) = 0;

  // The largest groups first, at most so many.
  virtual std::vector<FaultGroup> count_faults(const FaultFilter& filter, FaultKey by, int limit) = 0;

  // Since then: nodes lost, and faults that speak against one node alone.
  virtual std::int64_t count_serious_faults(Instant since) = 0;

  virtual Usage usage(const UsageQuery& query) = 0;
  /// Of attempts that failed by one of these causes, the first evidence of which lies in [since, until).
  virtual RecoveryTimes recovery_times(Instant since, Instant until, const std::vector<Cause>& causes) = 0;

  virtual LeaderView leader() = 0;
};

}  // namespace tutti
