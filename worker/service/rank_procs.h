// The processes of a rank, from /proc: its program and what descends from it. Blocking, but only files of
// /proc that do not wait for the process. Called by the worker (what ranks use) and by tutti-capture.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "scheduler/model/time.h"

namespace tutti::worker {

/// Itself first; at most 64. A process that ends meanwhile is left out.
std::vector<pid_t> processes_under(pid_t program);

/// Why no debugger may attach to it: a thread waits in the kernel or is stopped (or traced), so that the
/// debugger's SIGSTOP would stay pending, and might outlive it. "" = none.
std::string why_not_to_stop(pid_t pid);

struct RankUse {
  Duration cpu{};  // with that of its children that have ended
  std::int64_t io_bytes = 0;
  // "T" if one of them is stopped, "D" if its program waits in the kernel, "gone" without a living process,
  // else the program's own: "R", "S".
  std::string state;
  std::string waits_in;  // kernel function, of the process that gave the state; "" = it runs, or unknown
};
RankUse look_at_rank(pid_t program);

}  // namespace tutti::worker
