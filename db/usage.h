// What was used, by whom: sums over the rows of attempts, allocations and ended jobs. Std only.
//
// Every figure is of an interval [since, until). Time that was held is clipped to it, and a day's share of it
// to that day; what happens at an instant (an attempt is placed, a job ends) counts where that instant lies.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "scheduler/model/ids.h"
#include "scheduler/model/states.h"
#include "scheduler/model/time.h"

namespace tutti {

// Whose jobs somebody may see: those of these projects, and their own.
struct Visible {
  std::vector<std::string> projects{};
  std::string owner{};
};

enum class UsageKey : std::uint8_t {
  project,
  user,  // who owns the job
  queue,
  day,   // in UTC
  cause  // why the attempt, or the job, ended; none: well, or it has not ended
};

inline constexpr std::size_t kMaxUsageRows = 10'000;

struct UsageQuery {
  Instant since, until;                    // until: not later than now
  std::vector<UsageKey> by{};              // each at most once, in this order
  std::string project{}, user{}, queue{};  // "" = any
  std::optional<Visible> visible{};        // nullopt: all
};

struct UsageRow {
  // Of what it is; empty where the query does not group by that.
  std::string project{}, user{}, queue{};
  Instant day{};
  Cause cause = Cause::none;

  std::int64_t jobs = 0;      // that held something, were placed or ended in the interval
  std::int64_t attempts = 0;  // placed in it
  Duration gpu{};             // GPU time allocated
  Duration node{};            // time of whole nodes or parts of them, one for each member of a gang
  // The part of `gpu` after the last checkpoint of attempts that have failed or were stopped: to be done again.
  // It is the last part of what each of their GPUs was held for, so it is cut at the interval's ends, and at
  // midnight, like that. Never more than `gpu`; it grows when an attempt that ran in the interval ends later.
  Duration lost{};
  std::array<Duration, kCauseCount> lost_by{};
  std::int64_t succeeded = 0, failed = 0, cancelled = 0;  // jobs that ended in it
  // From the begin of the wait to the placement of the first attempt, of those placed in it; nullopt: none.
  std::optional<double> wait_p50{}, wait_p90{};  // seconds
};

// How far a job has come back after a fault; the words of tutti_recovery_stage_seconds.
enum class RecoveryStage : std::uint8_t {
  decided,   // of the attempt that failed: the scheduler knows, and acts
  fenced,    // every rank of it is proven dead
  placed,    // of the next attempt: it has GPUs
  running,   // all its ranks are up
  restored,  // its first step beyond the one it began from
  caught_up  // it is as far as the one before was
};
inline constexpr std::array<std::string_view, 6> kRecoveryStages{"decided", "fenced",   "placed",
                                                                 "running", "restored", "caught_up"};

struct StageTimes {
  std::int64_t attempts = 0;           // that have come so far
  std::optional<double> p50{}, p99{};  // seconds since the first evidence of the fault; nullopt: none has
};
using RecoveryTimes = std::array<StageTimes, kRecoveryStages.size()>;  // by RecoveryStage

struct Usage {
  std::vector<UsageRow> rows;  // by their keys; at most kMaxUsageRows
  UsageRow total;
  bool cut = false;  // there are more
};

}  // namespace tutti
