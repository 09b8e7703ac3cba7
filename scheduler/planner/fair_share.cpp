#include "scheduler/planner/fair_share.h"

#include <cmath>

namespace tutti::planner {

// Instead of halving the past, the present weighs twice as much each half-life; shares are the same.
double FairShare::weight(Instant at) const {
  return std::exp2(to_seconds(at - base_) / to_seconds(half_life_));
}

void FairShare::add(int account, double gpu_seconds, Instant at) {
  if (!begun_) base_ = at, begun_ = true;
  double w = weight(at);
  if (w > 1e100) {  // start a new scale long before a double is at its end
    for (auto& [who, used] : used_) used /= w;
    total_ /= w;
    base_ = at;
    w = 1;
  }
  used_[account] += gpu_seconds * w;
  total_ += gpu_seconds * w;
}

double FairShare::factor(int account) const {
  const auto found = used_.find(account);
  if (found == used_.end() || total_ <= 0) return 1;
  return std::exp2(-found->second / total_ * static_cast<double>(used_.size()));
}

}  // namespace tutti::planner
