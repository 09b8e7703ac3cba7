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
  std::unique_ptr<Planner> p;
  int size = 8;

  void begin(std::string_view policy, int nodes, int node_size = 8) {
    p = std::make_unique<Planner>(*find_policy(policy));
    size = node_size;
    p->set_queue(0, "q");
    for (int n = 0; n < nodes; ++n) p->put_node(node(n));
  }
  NodeDesc node(int n) const {
    NodeDesc desc;
    desc.id = NodeId(n + 1);
    desc.name = "n" + std::to_string(n + 1);
    desc.queue = "q";
    desc.devices = {{.model = "H100", .total = size, .usable = size}};
    desc.cpus = 64;
    desc.memory_bytes = 1LL << 40;
    return desc;
  }
  PlanJob job(int gpus, Duration limit, int user = 0) {
    GangAsk ask;
    ask.queue = "q";
    ask.nodes = gpus < size ? 1 : (gpus + size - 1) / size;
    ask.resources.gpus = std::min(gpus, size);
    PlanJob j;
    j.id = JobId(++last);
    j.kind = {user, 0, gpus};
    j.project = user;
    j.shape = p->intern(ask);
    j.submitted = now;
    j.limit = j.known_run = limit;
    return j;
  }
  JobId submit(const PlanJob& j) {
    p->submit(j, now);
    return j.id;
  }
  JobId submit(int gpus, Duration limit, int user = 0) { return submit(job(gpus, limit, user)); }
  static std::vector<JobId> started(const Decisions& d) {
    std::vector<JobId> out;
    for (const auto& s : d.started) out.push_back(s.job);
    return out;
  }
  std::vector<JobId> start() { return started(p->plan(now)); }
  // Victims stop at once and wait again.
  std::vector<JobId> give_way(const Decisions& d) {
    std::vector<JobId> out;
    for (const auto& v : d.preempted) {
      out.push_back(v.victim);
      p->enqueue(*p->stopped(v.victim, now), now);
    }
    return out;
  }
  int free_gpus() const {
    int n = 0;
    for (int i = 0; i < p->nodes().size(); ++i) n += p->nodes().at(i).free_gpus();
    return n;
  }
};

TEST_F(PlannerTest, SmallJobsShareANodeAndWholeNodesStayFree) {
  begin("fifo", 2);
  submit(3, 1h), submit(5, 1h);
  const auto d = p->plan(now);
  ASSERT_THAT(d.started, SizeIs(2));
  EXPECT_EQ(d.started[0].parts[0].node, d.started[1].parts[0].node) << "best fit";
  const JobId gang = submit(8, 1h);
  EXPECT_THAT(start(), ElementsAre(gang));
}

TEST_F(PlannerTest, AGangStartsWholeOrNotAtAll) {
  begin("fifo", 4);
  const JobId one = submit(8, 1h);
  ASSERT_THAT(start(), ElementsAre(one));
  submit(32, 1h);
  EXPECT_TRUE(p->plan(now).empty());
  EXPECT_EQ(free_gpus(), 24) << "nothing is held for it";
  p->ended(one, now);
  EXPECT_THAT(start(), SizeIs(1));
}

TEST_F(PlannerTest, WhatCanNeverRunIsKnownAtOnceAndHoldsBackNobody) {
  begin("fair", 4);
  const PlanJob huge = job(33, 1h);
  EXPECT_FALSE(p->could_ever(huge.shape));
  submit(huge);
  const JobId small = submit(8, 100h);
  EXPECT_THAT(start(), ElementsAre(small));
}

TEST_F(PlannerTest, BackfillKeepsThePromiseToTheFirstThatWaits) {
  begin("easy", 2);
  const JobId first = submit(8, 2h);
  p->plan(now);
  const JobId head = submit(16, 1h);
  submit(8, 3h);
  const JobId fits_in = submit(8, 2h);
  const auto d = p->plan(now);
  EXPECT_THAT(started(d), ElementsAre(fits_in)) << "it ends when the first does";
  ASSERT_THAT(d.promised, SizeIs(1));
  EXPECT_EQ(d.promised[0].job, head);
  EXPECT_EQ(d.promised[0].at, now + 2h);
  now += 1h;
  p->ended(first, now), p->ended(fits_in, now);
  EXPECT_THAT(start(), ElementsAre(head)) << "sooner than promised, never later";
}

// Nobody knows when those without a limit end; the head still gets its nodes, one after the other.
TEST_F(PlannerTest, JobsWithoutALimitDoNotStarveALargeOne) {
  begin("easy", 2);
  const JobId a = submit(8, kNoLimit), b = submit(8, kNoLimit);
  p->plan(now);
  const JobId head = submit(16, kNoLimit);
  now += 10h;
  p->ended(a, now);
  const JobId late = submit(8, kNoLimit);
  EXPECT_TRUE(p->plan(now).started.empty()) << "the free node is kept for the head";
  now += 10h;
  p->ended(b, now);
  EXPECT_THAT(start(), ElementsAre(head));
  (void)late;
}

TEST_F(PlannerTest, WhoUsesMoreWaitsBehindWhoUsesLess) {
  begin("fair", 1);
  const JobId greedy = submit(8, 10h, 1);
  p->plan(now);
  now += 5h;
  submit(8, 1h, 1);
  now += 1min;
  const JobId other = submit(8, 1h, 2);
  p->plan(now);
  p->ended(greedy, now);
  EXPECT_THAT(start(), ElementsAre(other)) << "though it came later";
}

TEST_F(PlannerTest, PriorityCountsAndBandsAreStrict) {
  begin("fair", 1);
  const JobId first = submit(8, 10h);
  p->plan(now);
  std::vector<PlanJob> jobs;
  for (const int priority : {5, 50, 80, 95}) {
    jobs.push_back(job(8, priority == 95 ? 20h : 1h));
    jobs.back().priority = priority;
    jobs.back().preemptible = false;
    submit(jobs.back());
  }
  EXPECT_THAT(p->first("q", 10), ElementsAre(jobs[3].id, jobs[2].id, jobs[1].id, jobs[0].id));
  (void)first;
}

TEST_F(PlannerTest, AShortJobIsNotMadeToWaitForALongOneThatCanBePreempted) {
  begin("las", 1);
  const JobId long_one = submit(8, 100h);
  p->plan(now);
  now += 10min;
  const JobId fresh = submit(8, 1h);
  EXPECT_TRUE(p->plan(now).empty()) << "not within its first quarter of an hour";
  now += 20min;
  EXPECT_THAT(give_way(p->plan(now)), ElementsAre(long_one));
  EXPECT_THAT(start(), ElementsAre(fresh));
  now += 1min;
  p->ended(fresh, now);
  EXPECT_THAT(start(), ElementsAre(long_one));
}

// Until the victim has stopped its nodes are nobody's, and then they are that one's for whom it stopped.
TEST_F(PlannerTest, WhatAVictimLeavesIsForTheOneItLeftFor) {
  begin("las", 1);
  const JobId long_one = submit(8, 100h);
  p->plan(now);
  now += 1h;
  const JobId fresh = submit(8, 1h);
  ASSERT_THAT(p->plan(now).preempted, SizeIs(1));
  now += 10s;
  submit(4, 1h);
  EXPECT_TRUE(p->plan(now).empty());
  p->stopped(long_one, now);
  EXPECT_THAT(start(), ElementsAre(fresh));
}

TEST_F(PlannerTest, NobodyIsPreemptedForNothing) {
  begin("las", 3);
  submit(8, 100h), submit(8, 100h);
  p->plan(now);
  now += 10h;
  submit(8, 100h);
  p->plan(now);
  now += 5min;
  submit(24, 1h);
  EXPECT_TRUE(p->plan(now).empty()) << "the young one cannot be had, so the old ones are not asked either";
  EXPECT_EQ(p->running().size(), 3U);
}

TEST_F(PlannerTest, VictimsThatAreNotNeededRunOn) {
  begin("las", 3);
  for (int i = 0; i < 6; ++i) submit(4, 100h);
  p->plan(now);
  now += 10h;
  const JobId gang = submit(8, 1h);
  EXPECT_THAT(give_way(p->plan(now)), SizeIs(2)) << "one node's worth";
  EXPECT_THAT(start(), ::testing::Contains(gang));
}

// Of two that the policy thinks the same of, the one that has just saved its work gives way.
TEST_F(PlannerTest, TheVictimIsTheOneThatLosesLeast) {
  begin("las", 2);
  const JobId a = submit(8, 100h), b = submit(8, 100h);
  p->plan(now);
  now += 10h;
  p->checkpointed(a, now - 1h);
  p->checkpointed(b, now - 1min);
  submit(8, 1h);
  EXPECT_THAT(give_way(p->plan(now)), ElementsAre(b));
}

TEST_F(PlannerTest, AfterTheGuardsTimeAJobGoesFirstAndIsNotPreempted) {
  begin("las", 1);
  const JobId old = submit(8, 100h, 1);
  p->plan(now);
  now += 9h;  // level of nine hours
  submit(8, 100h, 2);
  now += 1min;
  ASSERT_THAT(give_way(p->plan(now)), ElementsAre(old));
  // Fresh ones keep coming and going, until the one that waits is guarded.
  std::vector<JobId> seen;
  for (int i = 0; i < 100; ++i) {
    for (const JobId id : start()) seen.push_back(id);
    now += 20min;
    submit(8, 10min, 3);
    give_way(p->plan(now));
  }
  EXPECT_THAT(seen, ::testing::Contains(old)) << "it had waited for 24 h";
}

// ---------------------------------------------------------------- shares and reservations

TEST_F(PlannerTest, AQueueBorrowsWhatOthersDoNotUseAndGivesItBack) {
  begin("fair", 2);
  p->set_queue(0, "q", {.quota = 8, .borrow = 8, .lend = 8});
  p->set_queue(1, "q", {.quota = 8, .borrow = 0, .lend = 8});
  const JobId own = submit(8, 10h), borrowed = submit(8, 10h);
  EXPECT_THAT(start(), ElementsAre(own, borrowed));
  now += 1h;
  PlanJob theirs = job(8, 1h);
  theirs.kind.queue = 1;
  submit(theirs);
  const auto d = p->plan(now);
  ASSERT_THAT(d.preempted, SizeIs(1));
  EXPECT_EQ(d.preempted[0].right, Right::quota);
  give_way(d);
  EXPECT_THAT(start(), ElementsAre(theirs.id));
  EXPECT_EQ(p->quota().used_by_queue(0), 8);
}

TEST_F(PlannerTest, NobodyHoldsMoreThanQuotasAllow) {
  begin("fair", 4);
  p->set_queue(0, "q", {.quota = 8, .borrow = 4, .lend = 8});
  p->set_queue(1, "q", {.quota = 16, .borrow = 0, .lend = 2});
  for (int i = 0; i < 5; ++i) submit(4, 1h);
  EXPECT_THAT(start(), SizeIs(2)) << "the other lends two, and these jobs take four";
  const auto block = p->quota().blocks(0, 0, 4);
  ASSERT_TRUE(block);
  EXPECT_EQ(block->kind, QuotaBlock::Kind::lenders);
  p->set_queue(1, "q", {.quota = 16, .borrow = 0, .lend = 8});
  EXPECT_THAT(start(), SizeIs(1)) << "its own limit of borrowing";
  EXPECT_EQ(p->quota().blocks(0, 0, 4)->kind, QuotaBlock::Kind::queue);
}

TEST_F(PlannerTest, AProjectsMaximumHoldsForItsChildren) {
  begin("fair", 4);
  p->set_project(1, -1, 1, 16);
  p->set_project(2, 1, 1, -1);
  p->set_project(3, 1, 1, -1);
  submit(8, 1h, 2), submit(8, 1h, 3), submit(8, 1h, 2);
  EXPECT_THAT(start(), SizeIs(2));
  EXPECT_EQ(p->quota().used_by_project(1), 16);
}

TEST_F(PlannerTest, ReservedNodesAreForTheirProjectsAndForWhoIsGoneBefore) {
  begin("fair", 1);
  p->set_windows({{.name = "course", .from = now + 2h, .until = now + 4h, .nodes = {0}, .projects = {7}}});
  const JobId too_long = submit(8, 3h, 1);
  EXPECT_THAT(start(), IsEmpty());
  const JobId fits = submit(8, 2h, 2);
  EXPECT_THAT(start(), ElementsAre(fits));
  now += 2h;
  p->ended(fits, now);
  EXPECT_THAT(start(), IsEmpty());
  const JobId member = submit(8, 1h, 7);
  EXPECT_THAT(start(), ElementsAre(member));
  now += 2h;
  p->ended(member, now);
  EXPECT_THAT(start(), ElementsAre(too_long));
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

TEST(GpuKinds, SlicesAreGivenOnlyToWhoAsksForThem) {
  const DeviceGroup whole{.model = "NVIDIA H100 80GB HBM3", .memory_bytes = 80LL << 30};
  const DeviceGroup slice{.model = "NVIDIA H100 80GB HBM3 MIG 1g.10gb", .memory_bytes = 10LL << 30};
  for (const char* any : {"", "H100", "80GB", "h100 80gb"}) {
    EXPECT_TRUE(kind_matches(whole, {.model = any})) << any;
    EXPECT_FALSE(kind_matches(slice, {.model = any})) << any;
  }
  for (const char* sliced : {"1g.10gb", "MIG", "mig 1g", "H100 80GB HBM3 MIG"}) {
    EXPECT_FALSE(kind_matches(whole, {.model = sliced})) << sliced;
    EXPECT_TRUE(kind_matches(slice, {.model = sliced})) << sliced;
  }
  EXPECT_FALSE(kind_matches(slice, {.model = "2g.20gb"}));
  EXPECT_FALSE(kind_matches(slice, {.model = "", .memory_bytes = 1LL << 30}))
      << "memory alone asks for a whole GPU";
  EXPECT_FALSE(kind_matches(slice, {.model = "MIG", .memory_bytes = 20LL << 30}));
}

TEST_F(PlannerTest, WhoHasHadItsTurnLatelyStopsNobodyAndKeepsItsPlace) {
  begin("fair", 1);
  PlanJob scavenger = job(8, 10h);
  scavenger.priority = 5;
  submit(scavenger);
  ASSERT_THAT(start(), SizeIs(1));
  PlanJob again = job(8, 1h);
  again.front = true;
  again.preempts_from = now + 1h;
  submit(again);
  EXPECT_THAT(p->plan(now).preempted, IsEmpty());
  const JobId other = submit(job(8, 1h));
  EXPECT_THAT(p->first("q", 3), ElementsAre(again.id, other));
  EXPECT_THAT(p->plan(now).preempted, IsEmpty()) << "the node is promised to the first";
  p->stopped(scavenger.id, now);
  EXPECT_THAT(start(), ElementsAre(again.id));
}

TEST_F(PlannerTest, WhoHasHadItsTurnMayStopOthersLater) {
  for (const char* policy : {"fair", "las"}) {
    begin(policy, 1);
    PlanJob first = job(8, 100h);
    first.priority = policy == std::string_view("fair") ? 5 : 50;
    submit(first);
    ASSERT_THAT(start(), SizeIs(1)) << policy;
    now += 1h;
    PlanJob again = job(8, 1h);
    again.front = true;
    again.preempts_from = now + 1h;
    submit(again);
    EXPECT_THAT(p->plan(now).preempted, IsEmpty()) << policy;
    now += 61min;
    EXPECT_THAT(p->plan(now).preempted, SizeIs(1)) << policy;
  }
}

}  // namespace
}  // namespace tutti::planner
