// What must be true of jobs that run again and again, judged from the transactions alone, in the order in
// which the store applied them (so over any number of schedulers):
//  1. a time fires at most once, and never before it has come: a run, or a skip with its reason;
//  2. a run comes in the transaction that says so, and the next time is the first one after it: none is left
//  out
//     (those that passed meanwhile are one run together, docs/shares.md);
//  3. runs of one schedule never overlap; with `skip` none even waits beside one that is not over;
//  4. nothing is skipped without a run, or with `queue` ten, that are not over;
//  5. a time that has come is not left lying while somebody leads.
#pragma once

#include <map>
#include <set>
#include <string>

#include "scheduler/model/rows.h"

namespace tutti::sim {

inline constexpr Instant kSchedulerEpoch{
    std::chrono::hours(24 * 365 * 56)};  // the schedulers' calendar at time 0

class ScheduleOracle {
 public:
  /// "" = all is well, else which rule was broken.
  std::string committed(const Batch& batch);
  /// Every second. `excused`: nobody can act now.
  std::string overdue(Instant now, bool excused, Duration limit);

 private:
  struct Plan {
    Schedule schedule;
    Instant begin;  // of the template; its times count from here on
    JobState state = JobState::delayed;
    Instant due;  // the next time, by its row
    std::set<Instant> fired;
    std::map<JobId, JobState> runs;  // those that are not over
    Instant late_since;
  };
  void see_specs(const Batch& batch);
  std::string see_states(const Batch& batch);
  std::string see_firings(const Batch& batch, const std::map<JobId, Plan>& before);

  std::map<JobId, Plan> plans_;
  std::map<JobId, JobId> plan_of_;  // run → template
};

}  // namespace tutti::sim
