// Which ranks of a gang are slower than the others: each round gives every rank's own time for a step, and a
// rank is slow once it has been so, against the gang's median, over a whole window. Pure; held by GangWatch.
//
//   1. Ranks are compared within a round only: what slows all of them (a long batch) slows nobody.
//   2. Nothing is said before kRounds rounds, and within the noise of the gang nobody is slow.
//   3. `slow` begins at kSlow and ends under kFast: no flapping between the two.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <vector>

namespace tutti {

class StragglerWatch {
 public:
  static constexpr std::size_t kRounds = 12;  // of 5 s or a step each, whichever is longer
  // A rank 20 % slower is to be found, and half of those would be missed by asking for the full 20 %.
  static constexpr double kSlow = 1.15, kFast = 1.08;
  static constexpr double kNoise = 4;  // so many standard deviations of the others' values

  struct Change {
    std::int32_t rank = 0;
    bool slow = false;
    double times = 1;  // its step against the gang's median, over the window
  };

  /// Rank → time of one step, any unit. Ranks that are not in it are forgotten; fewer than two say nothing.
  std::vector<Change> on_round(const std::map<std::int32_t, double>& times);
  /// Rank → how many times slower.
  const std::map<std::int32_t, double>& slow() const { return slow_; }

 private:
  std::map<std::int32_t, std::deque<double>> ratios_;
  std::map<std::int32_t, double> slow_;
};

}  // namespace tutti
