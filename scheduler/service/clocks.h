// The two clocks of this machine, read only in shells.
#pragma once

#include "scheduler/model/time.h"

namespace tutti {
Instant wall_now();
Mono boot_now();  // CLOCK_BOOTTIME
inline Now now_of_machine() { return {wall_now(), boot_now()}; }
}  // namespace tutti
