// Independent judges of a cluster of real processes: what the ranks themselves wrote down, the locks they
// hold, and the rows in SQL. Never what the scheduler says of itself. docs/design/0009-chaos.md: why each is
// independent.
//
// Called by: the lab, after every injection and at the end. One thread. Pure functions judge, load_… read.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "tests/chaos/figures.h"
#include "tests/e2e/cluster.h"

namespace tutti::chaos {

struct Violation {
  Rule rule;
  std::string text;
};

// One attempt as the ranks saw it: CLOCK_BOOTTIME µs by rank, from the page that each keeps mapped.
struct Lives {
  std::map<int, std::pair<std::int64_t, std::int64_t>> ranks;  // first and last sign of life
  std::int64_t first() const;
  std::int64_t last() const;   // of the rank that lived longest
  std::int64_t least() const;  // of the rank that died first
};
using AllLives = std::map<std::int64_t, std::map<std::int64_t, Lives>>;  // job → epoch
AllLives load_lives(const std::string& stamp_directory);

struct AttemptStamps {  // CLOCK_BOOTTIME µs; 0 = not reached
  std::int64_t job = 0, epoch = 0;
  int ranks = 0, gpus = 0;
  bool ended = false;
  std::int64_t placed = 0, running = 0, fault = 0, stopping = 0, ended_at = 0;
  std::string cause;
};
/// `offset`: boot clock − calendar clock, µs.
std::vector<AttemptStamps> load_attempts(e2e::Cluster& c, std::int64_t offset);
std::int64_t clock_offset();

/// No rank of an attempt lives when the store says that it has ended.
std::vector<Violation> judge_ends(const AllLives& lives, const std::vector<AttemptStamps>& attempts);
/// A gang does not live on in part for longer than `limit_us`; `now` (boot clock) for those that still run.
std::vector<Violation> judge_wholeness(const AllLives& lives, const std::vector<AttemptStamps>& attempts,
                                       std::int64_t limit_us, std::int64_t now);
/// Epochs of one job never overlap (tests/e2e/intervals.h).
std::vector<Violation> judge_epochs(const e2e::Cluster& c);
/// Locks that ranks found taken.
std::vector<Violation> judge_gpu_locks(const e2e::Cluster& c);
/// The allocation ledger, by SQL: no overlap, nothing open of what has ended, and the sums agree.
std::vector<Violation> judge_ledger(e2e::Cluster& c);
/// Name (= idempotency key) → id, as it was acknowledged: there once, and by that id.
std::vector<Violation> judge_submissions(e2e::Cluster& c,
                                         const std::map<std::string, std::int64_t>& accepted);

}  // namespace tutti::chaos
