// A fixed set of seeds through the simulation, its determinism, and the canaries: every rule that is broken
// on purpose must be noticed within a few runs.
#include "tests/sim/simulation.h"

#include <gtest/gtest.h>

#include <map>
#include <string>
#include <utility>
#include <vector>

namespace tutti::sim {
namespace {

constexpr std::uint64_t kSeeds = 200;        // about a minute with sanitizers
constexpr std::uint64_t kCanarySeeds = 100;  // at most; most canaries die within ten

std::string how_to_repeat(std::uint64_t seed) {
  return "repeat with: ./dev sim --seed " + std::to_string(seed) + " --verbose";
}

TEST(Simulation, NoRuleIsBrokenAndEverythingComesToRest) {
  std::map<std::string, std::uint64_t> marks;
  for (std::uint64_t seed = 1; seed <= kSeeds; ++seed) {
    const RunResult result =
        run_simulation({.seed = seed, .canary = Canary::none, .verbose = false, .nodes = 0, .storm = false});
    ASSERT_FALSE(result.failure) << "seed " << seed << " at " << to_seconds(result.failed_at)
                                 << " s: " << *result.failure << "\n"
                                 << how_to_repeat(seed);
    for (const auto& [mark, n] : result.marks) marks[mark] += n;
  }
  // Seeds prove nothing about what they have not met.
  for (const char* mark : {"in doubt, applied while stopping",
                           "in doubt, not applied while stopping",
                           "in doubt, applied while placed",
                           "in doubt, not applied while starting",
                           "store down while running",
                           "welcome while recovering",
                           "scheduler killed while starting",
                           "scheduler paused for longer than a lease while running",
                           "worker killed while preflight",
                           "worker killed for longer than a lease while running",
                           "supervisor killed while running",
                           "supervisor frozen while running",
                           "worker paused while running",
                           "deposed",
                           "node without power while stopping",
                           "a person vouches that a node is off",
                           "Xid 79 while running",
                           "node cut for longer than a lease while running",
                           "node cut, towards the node for longer than a lease while running",
                           "supervisor: lease ran out",
                           "supervisor: end without proof",
                           "a rank is stuck in the kernel",
                           "adopted a living supervisor",
                           "adopted without a supervisor",
                           "adopted an end",
                           "adopted after a boot",
                           "submission replayed",
                           "an end comes after all checkpoints",
                           "a gang holds its own lease",
                           "a peer is asked",
                           "node cut from its peers as well",
                           "fault: fail-over of the store",
                           "fault: leader cut off from the store only",
                           "fault: leader cut off from workers only",
                           "fault: leader paused before it has read an answer, then cut off from the store",
                           "fault: leader with the old primary",
                           "fault: cluster apart, the leader without the store",
                           "fault: cluster apart, the leader with the old primary",
                           "fault: calendars jump",
                           "killed between commit and send",
                           "the answer of the store is lost",
                           "an old primary cannot commit",
                           "a leader believes in leases of one before it",
                           "those before it are known to be over",
                           "a leader that is not confirmed renews nothing",
                           "a leader that is not confirmed sends a worker away",
                           "a standby is asked by a worker",
                           "a node is with the new leader, and goes back",
                           "a node is heard by the new leader, and goes back",
                           "worker: redirected to the leader",
                           "worker: obeys a higher term",
                           "worker: a lower term is refused",
                           "a worker of the version before says hello",
                           "fault: rolling upgrade of the schedulers",
                           "fault: the schedulers go back to the version before",
                           "a scheduler is replaced in good order",
                           "a scheduler is killed and replaced",
                           "a scheduler of the version before leads",
                           "a leader follows one of the version before",
                           "a leader of the version before follows a newer one",
                           "tasks get their rows for a leader of the version before",
                           "an array is one row",
                           "an array is not folded beside a scheduler of the version before",
                           "cancel while stopping",
                           "requeue while starting"})
    EXPECT_GT(marks[mark], 0u) << "never met: " << mark;
}

TEST(Simulation, StormsBreakNoRule) {
  std::uint64_t injections = 0;
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    const RunResult result =
        run_simulation({.seed = seed, .canary = Canary::none, .verbose = false, .nodes = 12, .storm = true});
    ASSERT_FALSE(result.failure) << "seed " << seed << " at " << to_seconds(result.failed_at)
                                 << " s: " << *result.failure << "\nrepeat with: ./dev sim --seed " << seed
                                 << " --nodes 12 --storm --verbose";
    injections += result.injections;
  }
  EXPECT_GT(injections, 1000u);
}

TEST(Simulation, SameSeedSameRun) {
  for (std::uint64_t seed : {1u, 2u, 3u, 4u, 5u}) {
    const RunResult one = run_simulation(
                        {.seed = seed, .canary = Canary::none, .verbose = false, .nodes = 0, .storm = false}),
                    two = run_simulation(
                        {.seed = seed, .canary = Canary::none, .verbose = false, .nodes = 0, .storm = false});
    EXPECT_EQ(one.hash, two.hash) << "seed " << seed;
    EXPECT_EQ(one.events, two.events) << "seed " << seed;
    EXPECT_NE(one.hash,
              run_simulation(
                  {.seed = seed + 1000, .canary = Canary::none, .verbose = false, .nodes = 0, .storm = false})
                  .hash);
  }
}

class CanaryTest : public ::testing::TestWithParam<std::pair<Canary, std::string_view>> {};

// By the oracles: that a run does not come to rest would not be enough.
TEST_P(CanaryTest, IsNoticed) {
  for (std::uint64_t seed = 1; seed <= kCanarySeeds; ++seed) {
    const RunResult result = run_simulation(
        {.seed = seed, .canary = GetParam().first, .verbose = false, .nodes = 0, .storm = false});
    if (!result.failure || !result.failure->starts_with("I")) continue;
    RecordProperty("seed", std::to_string(seed));
    RecordProperty("failure", *result.failure);
    return;
  }
  FAIL() << GetParam().second << " was not noticed in " << kCanarySeeds << " runs";
}

INSTANTIATE_TEST_SUITE_P(Rules, CanaryTest, ::testing::ValuesIn(kCanaries),
                         [](const auto& info) { return std::string(info.param.second); });

}  // namespace
}  // namespace tutti::sim
