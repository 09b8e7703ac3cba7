#include "scheduler/core/clock_watch.h"

#include <algorithm>

namespace tutti {
namespace {
constexpr Duration kTooMuch = std::chrono::seconds(1);
constexpr Duration kFineAgain = std::chrono::milliseconds(500);  // apart, or it would come and go
}  // namespace

void ClockWatch::on_heartbeat(Instant node, Instant ours) {
  ahead_[seen_++ % kSamples] = node - ours;
  if (seen_ < kSamples) return;
  const Duration least =
      *std::ranges::min_element(ahead_, {}, [](Duration d) { return std::chrono::abs(d); });
  if (std::chrono::abs(least) > (skew_ ? kFineAgain : kTooMuch))
    skew_ = least;
  else
    skew_.reset();
}

}  // namespace tutti
