// Makes an attempt dead on this machine and proves it. Called by the supervisor at every end, and by the
// worker for a supervisor that was itself killed. Blocks until proof or deadline; repeating it is harmless.
//
// Invariants
// 1. `proven` is never true while a process of the attempt runs: the cgroup (where there is one) says
//    `populated 0`, two scans of /proc in a row find nothing, and none has a simulated device of it open.
// 2. Nothing of another attempt is killed: a pid is checked again after its pidfd is held, and a device that
//    another supervisor has locked is left alone.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <vector>

#include "worker/supervisor/messages.h"

namespace tutti::supervisor {

struct KillResult {
  bool proven = false;
  std::string how;  // "cgroup" or "scan"; without proof, what still lives
  int killed = 0;   // by the scan; the cgroup does not count
};

// Who asks. The worker: as it stands. A supervisor: its own pid, whose descendants all belong to the attempt,
// and the devices whose locks it holds.
struct KillScope {
  pid_t supervisor = 0;
  std::vector<std::string> held_devices;
};

// `deadline_us` is CLOCK_BOOTTIME. On proof the cgroup's directory is removed.
KillResult kill_and_prove(const Config& config, std::int64_t deadline_us, const KillScope& scope = {});

}  // namespace tutti::supervisor
