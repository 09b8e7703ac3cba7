#include "scheduler/core/straggler.h"

#include <algorithm>
#include <cmath>

namespace tutti {
namespace {

// The lower one of two in the middle: of a gang of two, the faster.
double median(std::vector<double> values) {
  auto middle = values.begin() + static_cast<std::ptrdiff_t>((values.size() - 1) / 2);
  std::ranges::nth_element(values, middle);
  return *middle;
}

// Standard deviation by way of the median deviation, which one straggler does not move.
double spread(const std::vector<double>& values) {
  std::vector<double> off;
  for (const double v : values) off.push_back(std::abs(v - 1));
  return 1.4826 * median(std::move(off));
}

}  // namespace

std::vector<StragglerWatch::Change> StragglerWatch::on_round(const std::map<std::int32_t, double>& times) {
  std::vector<Change> changes;
  std::erase_if(ratios_, [&](const auto& r) { return !times.contains(r.first); });
  std::erase_if(slow_, [&](const auto& r) { return !times.contains(r.first); });
  std::vector<double> values;
  for (const auto& [rank, time] : times)
    if (std::isfinite(time) && time > 0) values.push_back(time);
  if (values.size() < 2 || values.size() != times.size()) return changes;
  const double usual = median(values);
  std::map<std::int32_t, double> over_window;
  std::vector<double> whole;
  for (const auto& [rank, time] : times) {
    auto& ratios = ratios_[rank];
    ratios.push_back(time / usual);
    if (ratios.size() > kRounds) ratios.pop_front();
    if (ratios.size() < kRounds) continue;
    over_window[rank] = median({ratios.begin(), ratios.end()});
    whole.push_back(over_window[rank]);
  }
  if (whole.size() < 2) return changes;
  const double needed = std::max(kSlow, 1 + kNoise * spread(whole));
  for (const auto& [rank, ratio] : over_window) {
    const bool was = slow_.contains(rank);
    if (was ? ratio < kFast : ratio < needed) {
      if (slow_.erase(rank) > 0) changes.push_back({rank, false, ratio});
      continue;
    }
    slow_[rank] = ratio;
    if (!was) changes.push_back({rank, true, ratio});
  }
  return changes;
}

}  // namespace tutti
