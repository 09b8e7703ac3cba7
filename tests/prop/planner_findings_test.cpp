// Smallest states in which the planner once did not do what it says, found by the property tests beside this
// file; each is named for what must hold.
#include <gtest/gtest.h>

#include <algorithm>

#include "scheduler/planner/explain.h"
#include "scheduler/planner/planner.h"

namespace tutti::planner {
namespace {

using namespace std::chrono_literals;

const Instant kBegin{std::chrono::hours(24 * 365 * 50)};

class Small {
 public:
  explicit Small(std::string_view policy, QueueShare share = {}) : planner(*find_policy(policy)) {
    planner.set_queue(0, "q", share);
  }
  void node(std::vector<DeviceGroup> devices) {
    NodeDesc desc;
    desc.id = NodeId(planner.nodes().size() + 1);
    desc.name = "n" + std::to_string(desc.id.value);
    desc.queue = "q";
    desc.devices = std::move(devices);
    desc.cpus = 64;
    planner.put_node(desc);
  }
  void node(int gpus) { node({{.model = "H100", .total = gpus, .usable = gpus}}); }
  PlanJob job(int id, int gpus, Duration limit, int priority = 50, std::vector<GpuKind> kinds = {}) {
    GangAsk ask;
    ask.queue = "q";
    ask.resources.gpus = gpus;
    ask.resources.gpu_kinds = std::move(kinds);
    PlanJob out;
    out.id = JobId(id);
    out.kind = {0, 0, gpus};
    out.shape = planner.intern(ask);
    out.priority = priority;
    out.submitted = now;
    out.limit = limit;
    return out;
  }
  void submit(const PlanJob& job) { planner.submit(job, now); }
  std::vector<int> started() { return started(planner.plan(now)); }
  static std::vector<int> started(const Decisions& d) {
    std::vector<int> out;
    for (const Start& s : d.started) out.push_back(static_cast<int>(s.job.value));
    return out;
  }
  bool runs(int id) const { return planner.running().contains(JobId(id)); }

  Planner planner;
  Instant now = kBegin;
};

using Ids = std::vector<int>;

// Of two claims on one node each alone has room when the first victim has left: both are started.
TEST(PlannerFindings, TwoClaimsOnOneNodeDoNotBothTakeTheFirstRoom) {
  Small s("fair");
  s.node(2);
  for (const int scavenger : {1, 2}) s.submit(s.job(scavenger, 1, 10h, 0));
  ASSERT_EQ(s.started(), (Ids{1, 2}));
  for (const int better : {3, 4}) s.submit(s.job(better, 1, 10h));
  ASSERT_EQ(s.planner.plan(s.now).preempted.size(), 2u);
  s.planner.stopped(JobId(1), s.now);
  EXPECT_EQ(s.started().size(), 1u);
  EXPECT_LE(s.planner.nodes().at(0).held[0], 2);
}

// A later job of two kinds is let in because one of them fits beside the promise, and gets the other.
TEST(PlannerFindings, AKindThatFitsBesideAPromiseDoesNotOpenItsNodeToOtherKinds) {
  Small s("easy");
  s.node({{.model = "H100", .total = 4, .usable = 4}, {.model = "A100", .total = 4, .usable = 4}});
  s.submit(s.job(1, 2, 1h, 50, {{.model = "H100"}}));
  ASSERT_EQ(s.started(), (Ids{1}));
  s.submit(s.job(2, 4, 1h, 50, {{.model = "H100"}}));
  s.submit(s.job(3, 2, 10h, 50, {{.model = "H100"}, {.model = "A100"}}));
  const Decisions d = s.planner.plan(s.now);
  ASSERT_EQ(d.promised.size(), 1u);
  EXPECT_EQ(d.promised.front().at, s.now + 1h);
  s.now += 1h;
  s.planner.ended(JobId(1), s.now);
  s.planner.plan(s.now);
  EXPECT_TRUE(s.runs(2));  // as was promised
}

// Explain plans with those before it in order; one under the guard comes before it all the same.
TEST(PlannerFindings, ExplainKnowsOfTheGuard) {
  Small s("fair");
  s.node(2);
  s.planner.adopt(s.job(1, 1, 100h), {{.node = 0, .gpus = {1}}}, s.now, s.now, {});
  s.submit(s.job(2, 2, 48h));
  s.now += 73h;
  const PlanJob late = s.job(3, 1, 47h, 60);
  s.submit(late);
  ASSERT_EQ(s.planner.first("q", 1), std::vector{late.id});
  ASSERT_EQ(s.started(), Ids{});
  const Obstacles found = obstacles(s.planner, late.id, s.now);
  EXPECT_FALSE(starts_without(s.planner, late.id, {}, s.now));
  ASSERT_EQ(found.all.size(), 1u);
}

// The guard looks at the oldest only. When a quota blocks that one, nobody is guarded.
TEST(PlannerFindings, AnOldJobThatAQuotaBlocksDoesNotTakeTheGuardFromOthers) {
  Small s("fair");
  s.planner.set_queue(1, "q", {.quota = 0, .borrow = 0});
  s.node(2);
  s.planner.adopt(s.job(1, 1, 100h), {{.node = 0, .gpus = {1}}}, s.now, s.now, {});
  PlanJob blocked = s.job(2, 1, 48h);
  blocked.kind.queue = 1;
  s.submit(blocked);
  s.now += 1s;
  s.submit(s.job(3, 2, 48h));
  s.now += 73h;
  s.submit(s.job(4, 1, 47h, 60));
  const Decisions d = s.planner.plan(s.now);
  EXPECT_EQ(s.started(d), Ids{});
  ASSERT_EQ(d.promised.size(), 1u);
  EXPECT_EQ(d.promised.front().job, JobId(3));
}

// Nor does one that no node could ever hold.
TEST(PlannerFindings, AnOldJobThatNeverFitsDoesNotTakeTheGuardFromOthers) {
  Small s("fair");
  s.node(2);
  s.planner.adopt(s.job(1, 1, 100h), {{.node = 0, .gpus = {1}}}, s.now, s.now, {});
  s.submit(s.job(2, 3, 48h));
  s.now += 1s;
  s.submit(s.job(3, 2, 48h));
  s.now += 73h;
  s.submit(s.job(4, 1, 47h, 60));
  const Decisions d = s.planner.plan(s.now);
  EXPECT_EQ(s.started(d), Ids{});
  ASSERT_EQ(d.promised.size(), 1u);
  EXPECT_EQ(d.promised.front().job, JobId(3));
}

// A bucket's wait is that of its first by submission, who may have come to wait later than the others.
TEST(PlannerFindings, WhoWaitsLongestIsGuardedThoughOneSubmittedEarlierCameLater) {
  Small s("fair");
  s.node(2);
  s.planner.adopt(s.job(1, 1, 100h), {{.node = 0, .gpus = {1}}}, s.now, s.now, {});
  PlanJob held = s.job(2, 2, 48h);  // submitted first, held back for long
  s.now += 1s;
  s.submit(s.job(3, 2, 48h));
  s.now += 73h;
  s.submit(held);
  s.submit(s.job(4, 1, 47h, 60));
  EXPECT_EQ(s.started(), Ids{});  // the promise is to one that needs both GPUs
}

// Bands are strict; an old scavenger goes before an urgent job.
TEST(PlannerFindings, AScavengerUnderTheGuardDoesNotGoBeforeUrgentJobs) {
  for (const char* policy : {"fair", "checkpoint"}) {
    Small s(policy);
    s.node(1);
    s.submit(s.job(1, 1, 100h, 50));
    ASSERT_EQ(s.started(), (Ids{1}));
    s.submit(s.job(2, 1, 1h, 0));
    s.now += 73h;
    s.planner.ended(JobId(1), s.now);
    s.submit(s.job(3, 1, 1h, 95));
    EXPECT_EQ(s.started(), (Ids{3})) << policy;
  }
}

// Under the guard of a policy without promises a gang waits for all its room at one time: one job after the
// other takes what comes free, and none of them has run long enough to be stopped.
TEST(PlannerFindings, AGangUnderTheGuardStartsThoughShortJobsComeWithoutEnd) {
  Small s("checkpoint");
  s.node(2);
  s.submit(s.job(1, 1, 10min));
  s.started();
  s.now += 5min;
  s.submit(s.job(2, 1, 10min));
  s.started();
  s.submit(s.job(10'000, 2, 1h));
  const Instant since = s.now;
  for (int id = 3; !s.runs(10'000) && s.now < since + 100h; ++id) {
    s.submit(s.job(id, 1, 10min));
    s.now += 5min;
    s.planner.ended(JobId(id - 2), s.now);
    s.started();
  }
  EXPECT_TRUE(s.runs(10'000));
}

// Limits are planned rounded up, wherever they are compared with a promise: 80 s are two minutes.
TEST(PlannerFindings, WhetherAJobIsBackfilledDoesNotDependOnAnotherOfItsAsk) {
  for (const bool with_other : {false, true}) {
    Small s("easy");
    s.node(8);
    s.planner.adopt(s.job(1, 4, 90s), {{.node = 0, .gpus = {4}}}, s.now, s.now, {});
    s.submit(s.job(2, 8, 1h));
    if (with_other) s.submit(s.job(3, 4, 10min));
    s.submit(s.job(4, 4, 80s));
    EXPECT_EQ(s.started(), Ids{}) << with_other;
  }
}

}  // namespace
}  // namespace tutti::planner
