// Whether a node's wall clock agrees with ours, by the times in its heartbeats. A heartbeat that was long
// under way makes the node's clock look slow, never fast for long: the smallest difference of several counts.
// Used by the worker hub, one per connection; pure. Leases never look at wall clocks.
#pragma once

#include <array>
#include <cstddef>
#include <optional>

#include "scheduler/model/time.h"

namespace tutti {

class ClockWatch {
 public:
  /// `node`: as the heartbeat says; `ours`: when it came.
  void on_heartbeat(Instant node, Instant ours);
  /// How far its clock is ahead of ours, as long as that is more than a second.
  std::optional<Duration> skew() const { return skew_; }

 private:
  static constexpr std::size_t kSamples = 5;
  std::array<Duration, kSamples> ahead_{};
  std::size_t seen_ = 0;
  std::optional<Duration> skew_;
};

}  // namespace tutti
