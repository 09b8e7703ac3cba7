// Who has used how much lately: GPU-seconds per account, halved every half-life (Slurm's multifactor plugin
// has the same idea). Pure, std only.
#pragma once

#include <unordered_map>

#include "scheduler/model/time.h"

namespace tutti::planner {

class FairShare {
 public:
  explicit FairShare(Duration half_life) : half_life_(half_life) {}

  void add(int account, double gpu_seconds, Instant at);
  // 1 = has used nothing, 1/2 = exactly its share among all that have used something, towards 0 beyond.
  double factor(int account) const;

 private:
  double weight(Instant at) const;  // of usage at that time, on a scale that never needs decay

  Duration half_life_;
  Instant base_{};
  bool begun_ = false;
  std::unordered_map<int, double> used_;
  double total_ = 0;
};

}  // namespace tutti::planner
