// One whole run: a cluster, its clients, its faults; then everything is mended and must come to rest. Used by
// the program (main.cpp) and the tests (sim_test.cpp).
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "tests/sim/canary.h"
#include "tests/sim/world.h"

namespace tutti::sim {

struct RunOptions {
  std::uint64_t seed = 1;
  Canary canary = Canary::none;
  bool verbose = false;
  int nodes = 0;       // 0: two to five, as the seed says
  bool storm = false;  // many faults at once
  // What is decided is written below it, a folder for each scheduler (scheduler/decisions); "" = nowhere.
  std::string decisions{};
};

struct RunResult {
  std::optional<std::string> failure;
  Time failed_at{};
  std::uint64_t events = 0;
  std::uint64_t injections = 0;
  std::uint64_t hash = 0;
  Time length{};
  std::map<std::string, std::uint64_t> marks;
};

RunResult run_simulation(const RunOptions& options);

}  // namespace tutti::sim
