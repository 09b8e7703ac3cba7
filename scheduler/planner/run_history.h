// What run times of the past say about a job that waits or runs.
//
// Durations of ended jobs are kept per (user, size), user, (queue, size), size and of all, the last 300 each;
// the narrowest group that knows enough speaks. A job's own run time is known only when it has
// ended. Pure, std only. Gittins index: Aalto, Ayesta, Righter, "On the Gittins index in the M/G/1 queue"
// (2009).
#pragma once

#include <map>
#include <optional>
#include <tuple>
#include <vector>

#include "scheduler/model/time.h"

namespace tutti::planner {

struct JobClass {
  int user = 0;
  int queue = 0;
  int gpus = 0;
};

class RunHistory {
 public:
  void on_ended(const JobClass& job, Duration ran, Duration limit);  // Duration::max(): it had none

  // How long such a job runs, if history knows: the mean of its group, not beyond `limit`.
  std::optional<Duration> mean(const JobClass& job, Duration limit) const;
  // What part of their limits this user's jobs use, 0..1; everybody's, or 1, where nothing is known of them.
  double share_of_limit(const JobClass& job) const;
  // How much longer one runs that has run for `attained`: half of its like end within that time. Where
  // nothing is known of its like, half of what its limit leaves, or as long again.
  Duration median_left(const JobClass& job, Duration attained, Duration limit) const;
  // Chance to end per second of further service, at its best horizon: what has run for `attained` and may run
  // to `limit` is worth that much. Per second; higher first.
  double gittins_index(const JobClass& job, Duration attained, Duration limit) const;

 private:
  struct Group {
    std::vector<double> seconds;  // rings
    std::vector<double> shares;   // of limits; only of jobs that had one
    std::size_t next_second = 0, next_share = 0;
  };
  std::vector<double> left_after(const JobClass& job, double ran, double most, std::size_t enough) const;

  using Key = std::tuple<int, int, int, int>;  // kind, user, queue, gpus
  static std::vector<Key> keys_of(const JobClass& job);

  std::map<Key, Group> groups_;
};

}  // namespace tutti::planner
