#include "scheduler/service/clocks.h"

#include <ctime>

namespace tutti {

Instant wall_now() { return std::chrono::time_point_cast<Duration>(std::chrono::system_clock::now()); }

Mono boot_now() {
  timespec t{};
  ::clock_gettime(CLOCK_BOOTTIME, &t);
  return Mono(std::chrono::seconds(t.tv_sec) +
              std::chrono::duration_cast<Duration>(std::chrono::nanoseconds(t.tv_nsec)));
}

}  // namespace tutti
