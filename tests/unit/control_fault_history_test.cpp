// GPUs and nodes that were at fault before, in virtual time: who stays out, for how long, on whose word it
// comes back, and what people report.
#include <algorithm>

#include "tests/unit/faults_world.h"

namespace tutti::testing {
namespace {

TEST(Faults, AGpuAtFaultTwiceADayStaysOutUntilAPersonSaysOtherwise) {
  World w;
  const NodeId a = w.env.add_node("a");
  w.xid(a, "GPU-a-0", 79);
  w.reset(a, "a");
  EXPECT_EQ(w.health("GPU-a-0"), GpuHealth::healthy);
  w.env.tick_alive(1h, 2s);
  w.xid(a, "GPU-a-0", 94);
  w.reset(a, "a");
  EXPECT_EQ(w.health("GPU-a-0"), GpuHealth::quarantined);
  w.env.recover();
  w.reset(a, "a");
  EXPECT_EQ(w.health("GPU-a-0"), GpuHealth::quarantined) << "for the next leader too";
  ASSERT_TRUE(w.env.plane->on_node_service(w.env.now, "a", NodeService::schedulable, ""));
  w.env.step();
  EXPECT_EQ(w.health("GPU-a-0"), GpuHealth::healthy);
  w.env.tick_alive(1min, 2s);
  w.xid(a, "GPU-a-0", 94);
  w.reset(a, "a");
  EXPECT_EQ(w.health("GPU-a-0"), GpuHealth::healthy) << "what was before counts no more";
}

TEST(Faults, ANodeAtFaultThreeTimesAWeekIsSetAsideAndComesBackOnProbation) {
  World w;
  const NodeId a = w.env.add_node("a");
  w.env.add_node("b");
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(w.service(a), NodeService::schedulable);
    w.xid(a, "GPU-a-" + std::to_string(i), 79);
    w.env.tick_alive(1min, 2s);
  }
  EXPECT_EQ(w.service(a), NodeService::quarantined);
  const auto say = [&](NodeService s) { return w.env.plane->on_node_service(w.env.now, "a", s, "new card"); };
  ASSERT_TRUE(say(NodeService::repair));
  ASSERT_TRUE(say(NodeService::probation));
  w.env.step();
  w.reset(a, "a");
  EXPECT_EQ(w.service(a), NodeService::probation);
  w.env.tick_alive(25h, 2min);
  EXPECT_EQ(w.service(a), NodeService::schedulable);
}

// The end of a drain began a new page, and a node one fault short of being set aside came back spotless.
TEST(Faults, FaultsFromBeforeADrainThatEndsByItselfStillCount) {
  World w;
  const NodeId a = w.env.add_node("a");
  w.env.add_node("b");
  for (int i = 0; i < 2; ++i) {
    w.xid(a, "GPU-a-" + std::to_string(i), 79);
    w.env.tick_alive(1min, 2s);
  }
  ASSERT_TRUE(
      w.env.plane->on_node_service(w.env.now, "a", NodeService::draining, "fans", w.env.now.wall + 10min));
  w.env.step();
  w.env.tick_alive(11min, 2s);
  ASSERT_EQ(w.service(a), NodeService::schedulable);
  w.xid(a, "GPU-a-2", 79);
  EXPECT_EQ(w.service(a), NodeService::quarantined);
}

TEST(Faults, ANodeThatFailedOftenWhileItDrainedIsSetAsideWhenThatEnds) {
  World w;
  const NodeId a = w.env.add_node("a");
  w.env.add_node("b");
  ASSERT_TRUE(
      w.env.plane->on_node_service(w.env.now, "a", NodeService::draining, "fans", w.env.now.wall + 10min));
  w.env.step();
  for (int i = 0; i < 3; ++i) {
    w.xid(a, "GPU-a-" + std::to_string(i), 79);
    w.env.tick_alive(1min, 2s);
  }
  ASSERT_EQ(w.service(a), NodeService::draining);
  w.env.tick_alive(11min, 2s);
  EXPECT_EQ(w.service(a), NodeService::quarantined);
}

TEST(Faults, AFaultOnProbationEndsItAtOnceAndTheNextIsTwiceAsLong) {
  World w;
  const NodeId a = w.env.add_node("a");
  const auto say = [&](NodeService s) { return w.env.plane->on_node_service(w.env.now, "a", s, "because"); };
  ASSERT_TRUE(say(NodeService::repair));
  ASSERT_TRUE(say(NodeService::probation));
  w.env.tick_alive(1min, 2s);
  w.xid(a, "GPU-a-0", 79);
  EXPECT_EQ(w.service(a), NodeService::quarantined);
  ASSERT_TRUE(say(NodeService::probation));
  EXPECT_EQ(w.env.plane->cluster().find(a)->row.service_until - w.env.now.wall, 48h);
}

TEST(Faults, GangsOfSeveralNodesRatherGoElsewhereThanToANodeOnProbation) {
  World w;
  const NodeId a = w.env.add_node("a"), b = w.env.add_node("b"), c = w.env.add_node("c");
  ASSERT_TRUE(w.env.plane->on_node_service(w.env.now, "a", NodeService::repair, "fan"));
  ASSERT_TRUE(w.env.plane->on_node_service(w.env.now, "a", NodeService::probation, "new fan"));
  w.env.step();
  const JobId gang = w.env.submit(job_spec(2, 8));
  EXPECT_EQ(w.env.nodes_of(w.env.key_of(gang)), (std::vector<NodeId>{b, c}));
  const JobId one = w.env.submit(job_spec(1, 8));
  EXPECT_EQ(w.env.nodes_of(w.env.key_of(one)), std::vector<NodeId>{a}) << "small work tries it";
}

TEST(Faults, AReportCountsOnceADayAndMovesTheScore) {
  World w;
  const NodeId a = w.env.add_node("a");
  for (int n = 0; n < 20; ++n) w.env.add_node("n" + std::to_string(n));
  EXPECT_FALSE(w.env.plane->on_node_report(w.env.now, "a", "ada", ""));
  EXPECT_FALSE(w.env.plane->on_node_report(w.env.now, "nobody", "ada", "slow"));
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(w.env.plane->on_node_report(w.env.now, "a", "ada", "slow"));
  w.env.step();
  EXPECT_EQ(w.env.plane->ledger().lemon_failures(a).size(), 1U);
  for (const char* who : {"bob", "eve", "joe", "sue", "tom", "ann", "kim", "lee"})
    ASSERT_TRUE(w.env.plane->on_node_report(w.env.now, "a", who, "slow"));
  w.env.tick_alive(2min, 2s);
  EXPECT_GT(w.env.plane->cluster().find(a)->suspicion, 0.0);
  const JobId job = w.env.submit(job_spec(20, 8));
  const auto nodes = w.env.nodes_of(w.env.key_of(job));
  EXPECT_EQ(std::ranges::count(nodes, a), 0) << "taken last";
}

TEST(Faults, AnIslandStaysSetAsideUntilTheGpuThatFailedIsBack) {
  World w;
  const NodeId a = w.env.add_node("a");
  const auto island = [&] {
    int n = 0;
    for (int g = 0; g < 4; ++g) n += w.health("GPU-a-" + std::to_string(g)) == GpuHealth::quarantined ? 1 : 0;
    return n;
  };
  w.xid(a, "GPU-a-1", 74);
  w.inventory(a, "a", {{1, "Xid 74: NVLink error"}});
  EXPECT_EQ(island(), 4) << "the others were never said to be broken";
  w.env.recover();
  auto hello = w.env.hello("a");
  hello.gpus[1].healthy = false;
  hello.gpus[1].health_reason = "Xid 74: NVLink error";
  w.env.register_node(hello);
  EXPECT_EQ(island(), 4) << "nor to the next leader";
  w.inventory(a, "a");
  EXPECT_EQ(island(), 0) << "its reset is theirs";
  w.xid(a, "GPU-a-2", 74);
  w.inventory(a, "a");
  EXPECT_EQ(island(), 4) << "a worker that has not said that it is broken cannot say that it is mended";
  auto boot = w.env.hello("a");
  boot.boot_id = "boot-2";
  w.env.register_node(boot);
  EXPECT_EQ(island(), 0);
}

TEST(Faults, ARepeatOffenderStaysOutForLongerThanADay) {
  World w;
  const NodeId a = w.env.add_node("a");
  w.xid(a, "GPU-a-0", 79);
  w.reset(a, "a");
  w.env.tick_alive(1h, 2s);
  w.xid(a, "GPU-a-0", 94);
  w.inventory(a, "a", {{0, "Xid 94: ECC"}});
  w.env.tick_alive(25h, 2min);
  w.reset(a, "a");
  EXPECT_EQ(w.health("GPU-a-0"), GpuHealth::quarantined);
  w.env.recover();
  auto boot = w.env.hello("a");
  boot.boot_id = "boot-2";
  w.env.register_node(boot);
  EXPECT_EQ(w.health("GPU-a-0"), GpuHealth::quarantined) << "for the next leader, and over a reboot";
  ASSERT_TRUE(w.env.plane->on_node_service(w.env.now, "a", NodeService::schedulable, ""));
  w.env.step();
  EXPECT_EQ(w.health("GPU-a-0"), GpuHealth::healthy);
}

TEST(Faults, APersonsWordBeforeTheResetCountsAtTheReset) {
  World w;
  const NodeId a = w.env.add_node("a");
  w.xid(a, "GPU-a-0", 79);
  w.reset(a, "a");
  w.env.tick_alive(1min, 2s);
  w.xid(a, "GPU-a-0", 94);
  w.inventory(a, "a", {{0, "Xid 94: ECC"}});
  ASSERT_TRUE(w.env.plane->on_node_service(w.env.now, "a", NodeService::schedulable, ""));
  w.env.step();
  EXPECT_EQ(w.health("GPU-a-0"), GpuHealth::quarantined) << "it is broken";
  w.env.tick_alive(1s);
  w.inventory(a, "a");
  EXPECT_EQ(w.health("GPU-a-0"), GpuHealth::healthy);
}

TEST(Faults, WhoComesBackAfterFourWeeksBeginsAnew) {
  World w;
  const NodeId a = w.env.add_node("a");
  const auto say = [&](NodeService s) {
    ASSERT_TRUE(w.env.plane->on_node_service(w.env.now, "a", s, "because"));
    w.env.step();
  };
  const auto returns = [&] { return w.env.plane->cluster().find(a)->row.returns; };
  say(NodeService::repair);
  say(NodeService::probation);
  say(NodeService::repair);
  say(NodeService::probation);
  EXPECT_EQ(returns(), 2);
  w.env.tick_alive(std::chrono::days(30), 1h);
  say(NodeService::repair);
  w.env.recover();
  say(NodeService::probation);
  EXPECT_EQ(returns(), 1);
}

TEST(Faults, ManyVoicesADayAreNotCountedNorKept) {
  World w;
  const NodeId a = w.env.add_node("a");
  for (int i = 0; i < 100; ++i)
    ASSERT_TRUE(w.env.plane->on_node_report(w.env.now, "a", "user-" + std::to_string(i), "slow"));
  w.env.step();
  EXPECT_EQ(w.env.rows.faults.size(), 10u);
  w.env.tick_alive(25h, 2min);
  ASSERT_TRUE(w.env.plane->on_node_report(w.env.now, "a", "user-99", "slow"));
  w.env.step();
  EXPECT_EQ(w.env.rows.faults.size(), 11u);
  EXPECT_EQ(w.env.plane->cluster().find(a)->reported.size(), 1u);
}

}  // namespace
}  // namespace tutti::testing
