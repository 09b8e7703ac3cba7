// A replay by hand: what a fault costs, where GPUs are in fragments, what pictures are made of.
#include "scheduler/replay/replay.h"

#include <gtest/gtest.h>

#include "cli/plot.h"
#include "scheduler/replay/report.h"

namespace tutti::replay {
namespace {

using namespace std::chrono_literals;

TraceJob job(Duration at, int gpus, Duration ran) {
  return {.submitted = at, .gpus = gpus, .ran = ran, .limit = ran + 1h};
}

ReplayOptions options(int nodes) {
  ReplayOptions o;
  o.policy = *planner::find_policy("easy");
  o.nodes = nodes;
  return o;
}

// One node of three fails after 100 minutes: the gang loses the ten since its last checkpoint, is known to be
// dead ten seconds later, starts on the spare one at once and pays a minute for that.
TEST(ReplayFaults, AGangLosesWhatItDidSinceItsLastCheckpoint) {
  Trace trace;
  trace.jobs = {job(0s, 16, 5h), job(60s, 16, 1h)};
  auto o = options(3);
  o.faults = {{.node = 0, .at = 100min, .down = 24h}};
  const auto r = replay(trace, o);
  EXPECT_EQ(r.jobs[0].interruptions, 1);
  EXPECT_EQ(r.jobs[0].ended - r.jobs[0].submitted, 5h + 10min + 10s + 1min);
  ASSERT_EQ(r.restart_waits.size(), 1u);
  EXPECT_EQ(r.restart_waits[0], 0) << "it is the first, and there is a spare node";
  EXPECT_EQ(r.jobs[1].first_start, r.jobs[0].ended);
  const Report report = report_of(trace, o, r);
  EXPECT_NEAR(report.goodput, 6.0 * 16 / ((5 + 1 + (10 * 60 + 10 + 60) / 3600.0) * 16), 1e-9);
}

TEST(ReplayFaults, ANodeThatIsDownTakesNothingAndComesBack) {
  Trace trace;
  trace.jobs = {job(0s, 8, 1h), job(10min, 8, 1h)};
  auto o = options(1);
  o.faults = {{.node = 0, .at = 65min, .down = 55min},
              {.node = 0, .at = 70min, .down = 10min},
              {.node = 7, .at = 1min, .down = 1h}};
  const auto r = replay(trace, o);
  EXPECT_EQ(r.jobs[1].interruptions, 1);
  EXPECT_EQ(r.jobs[1].ended - r.jobs[0].submitted, 2h + 1h + 1min)
      << "from the beginning: it had saved nothing yet";
}

// Two nodes half full: eight GPUs are free and the job that wants eight waits.
TEST(ReplayFragments, IdleGpusOnTooManyNodesAreCounted) {
  Trace trace;
  trace.jobs = {job(0s, 4, 2h),      job(0s, 8, 1h), job(1s, 4, 2h),
                job(2s, 4, 1h + 2s), job(3s, 8, 1h), job(3h, 1, 1s)};
  const auto r = replay(trace, options(2));
  EXPECT_GT(r.fragmented, 0);
  EXPECT_LE(r.fragmented, r.idle_while_waiting);
}

TEST(Replay, GivesUpWhenItIsTold) {
  Trace trace;
  for (int i = 0; i < 100; ++i) trace.jobs.push_back(job(std::chrono::seconds(i), 8, 1h));
  auto o = options(1);
  int asked = 0;
  o.give_up = [&asked] { return ++asked > 10; };
  EXPECT_TRUE(replay(trace, o).given_up);
  EXPECT_EQ(asked, 11);
  o.give_up = nullptr;
  EXPECT_FALSE(replay(trace, o).given_up);
}

TEST(Faults, BrokenRowsAreNamedAndTheRestGoesOn) {
  const auto f = parse_faults("node,fail_s,down_s,level,class\n3,10,20,x,y\nx,1,1\n1,-5,1\n2,5\n0,5,7\n");
  ASSERT_EQ(f.faults.size(), 2u);
  EXPECT_EQ(f.faults[0].node, 0);
  EXPECT_EQ(f.faults[1].down, 20s);
  ASSERT_EQ(f.problems.size(), 3u);
  EXPECT_EQ(f.problems[0].line, 3u);
  EXPECT_EQ(f.problems[1].reason, "fail_s is not a number of seconds");
  EXPECT_EQ(f.problems[2].reason, "down_s is not a number of seconds");
}

TEST(Pictures, HaveALineForEveryPolicyAndEscapeNames) {
  const std::string svg = cli::waits_svg({{"a<b", {0, 10, 100}}, {"c", {5}}, {"empty", {}}});
  std::size_t lines = 0;
  for (std::size_t at = 0; (at = svg.find("<polyline", at)) != std::string::npos; ++at) ++lines;
  EXPECT_EQ(lines, 2u);
  EXPECT_NE(svg.find("a&lt;b"), std::string::npos);
  EXPECT_TRUE(svg.ends_with("</svg>\n"));
}

}  // namespace
}  // namespace tutti::replay
