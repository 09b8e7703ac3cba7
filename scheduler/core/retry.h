// What becomes of a job whose attempt has ended: again at once, again later, held for a person, or over.
// A pure function of the job's row, its policy, the cause and a die. Budgets are per cause: hardware and
// infrastructure are never charged to the user (docs/faults.md has the table).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "scheduler/model/job_spec.h"
#include "scheduler/model/rows.h"

namespace tutti {

enum class CauseClass : std::uint8_t {
  user,            // user, oom, time_limit
  hardware,        // gpu, node_lost, fabric: 20 per job in 24 h, then held
  infrastructure,  // network, storage, launch: 10 in a row without progress, then held
  undecided,       // hang, unknown: 3
  ours,            // preempted, maintenance, control, requeued: free, at the front, at once
  person           // cancelled, held
};
CauseClass class_of(Cause);

// Attempts a cause may spend before the job fails or is held; -1 = no limit.
int budget_of(Cause, const RetryPolicy&);

struct RetryDecision {
  JobEvent then = JobEvent::fail;  // requeue | back_off | hold | fail | cancel
  Duration delay{};                // for back_off
  std::string reason;              // one line for people: "retry 2 of 3 for cause unknown in 8.1 s"
};

struct AttemptOutcome {
  Cause cause = Cause::unknown;
  std::int32_t exit_code = 0;
  bool progressed = false;          // registered a checkpoint newer than the one it started from
  bool damaged_checkpoint = false;  // never ran: what it was to start from is damaged, and marked bad
};

// Charges `row` (spent, no_progress, hardware window) and says what is next. `dice` is uniform in 2^64:
// derived from (job, epoch) by the caller, so that the same history decides the same.
RetryDecision decide_retry(JobRow& row, const JobSpec& spec, const AttemptOutcome& outcome, Instant now,
                           std::uint64_t dice);

// How one cause stands: what it may still cost, and what its next failure would mean.
struct BudgetState {
  Cause cause = Cause::unknown;
  int limit = 0;  // -1: none
  int used = 0;   // hardware without a limit of its own: of all three causes together
  std::optional<Duration>
      window{};  // what is older does not count; nullopt: until the next progress, or ever
  std::optional<Duration> next_delay{};  // at most so long before it starts again; nullopt: it would not
};
// Of all causes that are charged, in their order.
std::vector<BudgetState> retry_budgets(const JobRow& row, const JobSpec& spec, Instant now);

// splitmix64 (Steele, Lea, Flood 2014): a well-mixed number from a counter.
std::uint64_t mix(std::uint64_t x);

}  // namespace tutti
