// Two clocks, never mixed. `Instant` is calendar time (UTC), for people, begin times and rows.
// `Mono` is CLOCK_BOOTTIME of this machine (suspended time counts), for leases and deadlines.
// Core code is handed both in a `Now` and reads no clock itself.
#pragma once

#include <chrono>
#include <cstdint>

namespace tutti {

using Duration = std::chrono::microseconds;
using Instant = std::chrono::sys_time<Duration>;

struct BootClock {  // a tag: only shells read it
  using rep = Duration::rep;
  using period = Duration::period;
  using duration = Duration;
  using time_point = std::chrono::time_point<BootClock>;
  static constexpr bool is_steady = true;
};
using Mono = BootClock::time_point;

struct Now {
  Instant wall;
  Mono mono;
};

constexpr double to_seconds(Duration d) { return std::chrono::duration<double>(d).count(); }
constexpr Duration from_seconds(double s) {
  return std::chrono::duration_cast<Duration>(std::chrono::duration<double>(s));
}

}  // namespace tutti
