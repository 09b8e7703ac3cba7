#include "scheduler/core/checkpoint_advice.h"

#include <algorithm>
#include <cmath>

namespace tutti {
namespace {
constexpr double kPriorNodeSeconds = 264.0 * 24 * 3600;  // one fault in so much
constexpr double kMaxSeconds = 100.0 * 365 * 24 * 3600;  // what a Duration surely holds
}  // namespace

Duration mean_time_to_fault(const FleetFaults& fleet, int nodes) {
  const double seen = std::max(fleet.node_seconds, 0.0) + kPriorNodeSeconds;
  const double faults = static_cast<double>(std::max<std::int64_t>(fleet.faults, 0)) + 1;
  return from_seconds(std::min(seen / faults / std::max(nodes, 1), kMaxSeconds));
}

Duration best_interval(Duration cost, Duration mean) {
  if (cost <= Duration::zero() || mean <= Duration::zero()) return Duration::zero();
  const Duration best = from_seconds(std::sqrt(2 * to_seconds(cost) * to_seconds(mean)));
  return std::clamp(best, std::min(cost, mean), mean);
}

double expected_loss(Duration interval, Duration cost, Duration mean) {
  if (interval <= Duration::zero() || mean <= Duration::zero()) return 0;
  const double saving = to_seconds(cost) / to_seconds(interval);
  const double again = (to_seconds(interval) / 2 + to_seconds(cost)) / to_seconds(mean);
  return std::min(saving + again, 1.0);
}

}  // namespace tutti
