// CLOCK_BOOTTIME in microseconds: the clock of every *_boot_us field, comparable with the kernel log and with
// other processes of the machine, and running through suspend.
#pragma once

#include <time.h>

#include <cstdint>

namespace tutti::nvml {

inline std::int64_t boot_us() {
  timespec now{};
  clock_gettime(CLOCK_BOOTTIME, &now);
  return now.tv_sec * 1'000'000LL + now.tv_nsec / 1000;
}

}  // namespace tutti::nvml
