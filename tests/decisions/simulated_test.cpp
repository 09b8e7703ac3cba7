// Whole runs of the simulation, with kills, doubtful commits, silent nodes and two schedulers, are decided
// again from the decision logs of their schedulers: byte for byte the same.
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

#include "scheduler/decisions/replayer.h"
#include "tests/sim/simulation.h"

namespace tutti::decisions {
namespace {

namespace fs = std::filesystem;

struct Counts {
  std::uint64_t segments = 0, rounds = 0, decisions = 0, thrown = 0;
};

void expect_same(const fs::path& segment, std::uint64_t seed, Counts& counts) {
  Replayer replay(segment);
  if (replay.empty()) return;
  ++counts.segments;
  while (const auto round = replay.next()) {
    ++counts.rounds;
    if (round->recorded) ++counts.decisions;
    std::string inputs;
    for (const auto name : round->inputs) inputs += std::string(name) + " ";
    ASSERT_TRUE(round->same()) << "seed " << seed << ", " << segment << ", round " << round->number << " of "
                               << inputs << "\nrepeat with: ./dev sim --seed " << seed;
  }
  EXPECT_FALSE(replay.torn()) << segment;
  if (replay.thrown_away()) ++counts.thrown;
}

TEST(DecisionLogOfSimulation, EveryRunIsDecidedAgainTheSame) {
  const fs::path root = fs::temp_directory_path() / ("tutti-decisions-sim-" + std::to_string(::getpid()));
  Counts counts;
  for (std::uint64_t seed = 1; seed <= 40; ++seed) {
    const bool storm = seed % 10 == 0;
    const auto result = sim::run_simulation({.seed = seed,
                                             .canary = sim::Canary::none,
                                             .verbose = false,
                                             .nodes = storm ? 12 : 0,
                                             .storm = storm,
                                             .decisions = root.string()});
    ASSERT_FALSE(result.failure) << *result.failure;
    for (const auto& folder : fs::directory_iterator(root))
      for (const auto& segment : segments_in(folder.path())) {
        expect_same(segment, seed, counts);
        if (HasFatalFailure()) return;
      }
    fs::remove_all(root);
  }
  // A proof of nothing proves nothing.
  EXPECT_GT(counts.segments, 60u);
  EXPECT_GT(counts.decisions, 2000u);
  EXPECT_GT(counts.rounds, counts.decisions);
  EXPECT_GT(counts.thrown, 0u);
}

}  // namespace
}  // namespace tutti::decisions
