// What the jobs of a run are like inside, by name, and the shared file system that their checkpoints lie on.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "tests/sim/world.h"

namespace tutti::sim {

struct JobPlan {
  Duration work = 10s;           // of running time until it is done, from the newest checkpoint on
  Duration checkpoint_every{};   // zero: writes none; a step is 100 ms of work
  unsigned fails_per_mille = 0;  // of a rank and attempt
  int exit_code = 1;             // when it fails
  bool obeys_stop = true;        // else it waits for SIGKILL
  Duration setup{};
  unsigned setup_fails_per_mille = 0;
};

struct StoredCheckpoint {
  std::string path;
  std::int64_t step = 0;
  std::int64_t epoch = 0;
  bool damaged = false;  // its checksums would tell
};

struct Workload {
  std::map<std::string, JobPlan> plans;                          // by the name of the job
  std::map<std::string, std::vector<StoredCheckpoint>> storage;  // by checkpoint directory
};
inline constexpr Duration kStep = 100ms;

}  // namespace tutti::sim
