// The planner by hand: who starts, on which nodes, who is preempted, in a few lines each.
#include "scheduler/planner/planner.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

namespace tutti::planner {
namespace {

using namespace std::chrono_literals;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

struct PlannerTest : ::testing::Test {
  Instant now{std::chrono::hours(24 * 365 * 50)};
  std::int64_t last = 0;

  static Planner planner(std::string_view policy, int nodes, int node_size = 8) {
    return {*find_policy(policy), Capacity(nodes, node_size)};
  }
  JobId submit(Planner& p, int gpus, Duration limit, int user = 0) {
    const JobId id(++last);
    EXPECT_TRUE(p.on_submitted(
        {.id = id, .kind = {user, 0, gpus}, .submitted = now, .limit = limit, .known_run = limit}, now));
    return id;
  }
  static std::vector<JobId> started(const Decisions& d) {
    std::vector<JobId> out;
    for (const auto& s : d.started) out.push_back(s.job);
    return out;
  }
};

TEST_F(PlannerTest, SmallJobsShareANodeAndWholeNodesStayFree) {
  Planner p = planner("fifo", 2);
  submit(p, 3, 1h), submit(p, 5, 1h);
  const auto d = p.plan(now);
  ASSERT_THAT(d.started, SizeIs(2));
  EXPECT_EQ(d.started[0].nodes, d.started[1].nodes) << "best fit";
  EXPECT_EQ(p.capacity().empty_nodes(), 1);
  const JobId gang = submit(p, 8, 1h);
  EXPECT_THAT(started(p.plan(now)), ElementsAre(gang));
}

TEST_F(PlannerTest, AGangStartsWholeOrNotAtAll) {
  Planner p = planner("fifo", 4);
  const JobId one = submit(p, 8, 1h);
  ASSERT_THAT(started(p.plan(now)), ElementsAre(one));
  submit(p, 32, 1h);
  EXPECT_TRUE(p.plan(now).empty());
  EXPECT_EQ(p.capacity().free_total(), 24) << "nothing is held for it";
  p.on_ended(one, now);
  EXPECT_THAT(started(p.plan(now)), SizeIs(1));
}

TEST_F(PlannerTest, WhatCanNeverRunIsRefusedAtOnce) {
  Planner p = planner("fair", 4);
  EXPECT_FALSE(p.on_submitted(
      {.id = JobId(1), .kind = {0, 0, 33}, .submitted = now, .limit = 1h, .known_run = 1h}, now));
  EXPECT_EQ(p.waiting(), 0U);
}

TEST_F(PlannerTest, BackfillKeepsThePromiseToTheFirstThatWaits) {
  Planner p = planner("easy", 2);
  const JobId first = submit(p, 8, 2h);
  p.plan(now);
  const JobId head = submit(p, 16, 1h);
  const JobId too_long = submit(p, 8, 3h);
  const JobId fits_in = submit(p, 8, 2h);
  const auto d = p.plan(now);
  EXPECT_THAT(started(d), ElementsAre(fits_in)) << "it ends when the first does";
  ASSERT_TRUE(d.promised);
  EXPECT_EQ(d.promised->job, head);
  EXPECT_EQ(d.promised->at, now + 2h);
  now += 1h;
  p.on_ended(first, now), p.on_ended(fits_in, now);
  EXPECT_THAT(started(p.plan(now)), ElementsAre(head)) << "sooner than promised, never later";
  (void)too_long;
}

TEST_F(PlannerTest, WhoUsesMoreWaitsBehindWhoUsesLess) {
  Planner p = planner("fair", 1);
  const JobId greedy = submit(p, 8, 10h, 1);
  p.plan(now);
  now += 5h;
  const JobId again = submit(p, 8, 1h, 1);
  now += 1min;
  const JobId other = submit(p, 8, 1h, 2);
  p.plan(now);
  p.on_ended(greedy, now);
  EXPECT_THAT(started(p.plan(now)), ElementsAre(other)) << "though it came later";
  (void)again;
}

TEST_F(PlannerTest, AShortJobIsNotMadeToWaitForALongOneThatCanBePreempted) {
  Planner p = planner("las", 1);
  const JobId long_one = submit(p, 8, 100h);
  p.plan(now);
  now += 10min;
  const JobId fresh = submit(p, 8, 1h);
  EXPECT_TRUE(p.plan(now).empty()) << "not within its first quarter of an hour";
  now += 20min;
  const auto d = p.plan(now);
  EXPECT_THAT(d.preempted, ElementsAre(long_one));
  EXPECT_THAT(started(d), ElementsAre(fresh));
  now += 1min;
  p.on_ended(fresh, now);
  EXPECT_THAT(started(p.plan(now)), ElementsAre(long_one));
}

TEST_F(PlannerTest, NobodyIsPreemptedForNothing) {
  Planner p = planner("las", 3);
  submit(p, 8, 100h), submit(p, 8, 100h);
  p.plan(now);
  now += 10h;
  submit(p, 8, 100h);
  p.plan(now);
  now += 5min;
  submit(p, 24, 1h);
  EXPECT_TRUE(p.plan(now).empty()) << "the young one cannot be had, so the old ones are not asked either";
  EXPECT_EQ(p.running(), 3U);
}

TEST_F(PlannerTest, VictimsThatAreNotNeededRunOn) {
  Planner p = planner("las", 3);
  for (int i = 0; i < 6; ++i) submit(p, 4, 100h);
  p.plan(now);
  now += 10h;
  const JobId gang = submit(p, 8, 1h);
  const auto d = p.plan(now);
  EXPECT_THAT(started(d), ElementsAre(gang));
  EXPECT_THAT(d.preempted, SizeIs(2)) << "one node's worth";
}

TEST_F(PlannerTest, AfterTheGuardsTimeAJobGoesFirstAndIsNotPreempted) {
  Planner p = planner("las", 1);
  const JobId old = submit(p, 8, 100h, 1);
  p.plan(now);
  now += 9h;  // level of nine hours
  const JobId waits = submit(p, 8, 100h, 2);
  now += 1min;
  ASSERT_THAT(p.plan(now).preempted, ElementsAre(old));
  // Fresh ones keep coming and going, until the one that waits is guarded.
  std::vector<JobId> seen;
  for (int i = 0; i < 100 && p.running() > 0; ++i) {
    now += 20min;
    submit(p, 8, 10min, 3);
    for (const auto& s : p.plan(now).started) seen.push_back(s.job);
  }
  EXPECT_THAT(seen, ::testing::Contains(old)) << "it had waited for 24 h";
  (void)waits;
}

TEST(RunHistory, SpeaksFromTheNarrowestGroupThatKnowsEnough) {
  RunHistory h;
  const JobClass mine{1, 0, 8}, same_size{2, 0, 8};
  EXPECT_FALSE(h.mean(mine, 10h));
  for (int i = 0; i < 3; ++i) h.on_ended(same_size, 100s, 1000s);
  EXPECT_EQ(h.mean(mine, 10h), 100s);
  for (int i = 0; i < 3; ++i) h.on_ended(mine, 1000s, 2000s);
  EXPECT_EQ(h.mean(mine, 10h), 1000s);
  EXPECT_EQ(h.mean(mine, 10min), 10min) << "nobody runs beyond its limit";
  EXPECT_DOUBLE_EQ(h.share_of_limit(mine), 0.5);
}

// Three of four end after a minute, the other runs for ever: worth much at first, little once it has
// survived.
TEST(RunHistory, TheIndexFallsWhenTheUsualEndHasPassed) {
  RunHistory h;
  const JobClass job{1, 0, 1};
  for (int i = 0; i < 80; ++i) h.on_ended(job, i % 4 == 0 ? Duration(100h) : Duration(60s), 200h);
  const double fresh = h.gittins_index(job, 0s, 200h), survivor = h.gittins_index(job, 2min, 200h);
  EXPECT_NEAR(fresh, 0.75 / 60, 1e-9);
  EXPECT_LT(survivor, fresh / 1000);
}

TEST(FairShare, HalvesWithTimeAndCountsShares) {
  FairShare share(24h);
  const Instant begin{std::chrono::hours(24 * 365 * 50)};
  EXPECT_EQ(share.factor(1), 1);
  share.add(1, 100, begin), share.add(2, 100, begin);
  EXPECT_DOUBLE_EQ(share.factor(1), 0.5);
  share.add(2, 100, begin + 24h);  // twice as much weight as yesterday's
  EXPECT_DOUBLE_EQ(share.factor(1), std::exp2(-0.25 * 2));
  share.add(2, 1, begin + std::chrono::hours(24 * 3650));  // no overflow, ten years on
  EXPECT_GT(share.factor(1), 0.99);
}

}  // namespace
}  // namespace tutti::planner
