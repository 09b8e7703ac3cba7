// What is done at once about faults beyond the first kill, in virtual time: rules and shadow rules, order of
// evidence, brakes, and jobs that are led away.
#include <algorithm>

#include "tests/unit/faults_world.h"

namespace tutti::testing {
namespace {

TEST(Faults, EveryVerdictNamesItsTableAndRow) {
  World w;
  const NodeId a = w.env.add_node("a");
  w.xid(a, "GPU-a-0", 79);
  EXPECT_EQ(w.last_fault().rule, FaultTable::built_in().id() + " xid:79");
  EXPECT_EQ(w.last_fault().shared_by, 1);
  EXPECT_EQ(w.health("GPU-a-0"), GpuHealth::quarantined);
  w.xid(a, "GPU-a-1", 54321);
  EXPECT_EQ(w.last_fault().rule, FaultTable::built_in().id() + " xid:*");
  EXPECT_EQ(w.health("GPU-a-1"), GpuHealth::healthy);
}

TEST(Faults, AShadowRuleOnlySaysWhatItWouldHaveDone) {
  World w(with_rule("xid:79,stop,quarantine,gpu,hardware,1,shadow,off the bus"));
  const NodeId a = w.env.add_node("a");
  const JobId job = w.env.submit(job_spec(1, 8));
  w.env.run(job);
  w.xid(a, "GPU-a-0", 79);
  EXPECT_EQ(w.env.state(job), JobState::running);
  EXPECT_EQ(w.health("GPU-a-0"), GpuHealth::healthy);
  EXPECT_EQ(w.last_fault().action, "shadow: quarantine, stop");
  EXPECT_EQ(w.last_fault().shared_by, 0);
}

// Xid 79 at +1.0 s gave 154 on all GPUs at +1.7 s and 45 on others at +2.5 s; they may be told in any order.
TEST(Faults, TheFirstEvidenceOfACascadeIsTheCauseHoweverItArrives) {
  World w;
  const NodeId a = w.env.add_node("a");
  const JobId job = w.env.submit(job_spec(1, 8));
  w.env.run(job);
  w.xid(a, "GPU-a-5", 45, 200ms);
  w.xid(a, "GPU-a-5", 154, 300ms);
  EXPECT_EQ(w.env.state(job), JobState::running) << "symptoms never win";
  w.xid(a, "GPU-a-2", 48, 100ms);
  EXPECT_EQ(w.env.state(job), JobState::stopping);
  w.xid(a, "GPU-a-3", 79, 1700ms);
  w.env.end(a, w.env.key_of(job), false);
  const auto& row = *std::ranges::find_if(w.env.rows.attempts,
                                          [](const AttemptRow& r) { return r.state == AttemptState::ended; });
  EXPECT_NE(row.detail.find("Xid 79"), std::string::npos) << row.detail;
  EXPECT_EQ(to_seconds(w.env.now.wall - row.fault_at), 1.7);
  EXPECT_EQ(std::ranges::count_if(w.env.rows.faults, [](const FaultRow& f) { return f.shared_by == 1; }), 1)
      << "one event, blamed once";
}

TEST(Faults, ToldTwiceByDriverAndKernelLogIsOnce) {
  World w;
  const NodeId a = w.env.add_node("a");
  w.xid(a, "GPU-a-0", 79);
  w.xid(a, "GPU-a-0", 79, 400ms);
  EXPECT_EQ(w.env.rows.faults.size(), 1U);
  w.reset(a, "a");
  w.xid(a, "GPU-a-0", 79);
  EXPECT_EQ(w.env.rows.faults.size(), 2U) << "after a reset it is another one";
}

TEST(Faults, NvlinkErrorsTakeTheWholeIsland) {
  World w;
  const NodeId a = w.env.add_node("a");  // islands of four
  w.xid(a, "GPU-a-1", 74);
  for (int g = 0; g < 8; ++g)
    EXPECT_EQ(w.health("GPU-a-" + std::to_string(g)), g < 4 ? GpuHealth::quarantined : GpuHealth::healthy)
        << g;
}

TEST(Faults, AFaultThatGetsWorseSlowlyLetsTheJobSaveFirst) {
  World w;
  const NodeId a = w.env.add_node("a");
  const JobId job = w.env.submit(job_spec(1, 8));
  const AttemptKey key = w.env.run(job);
  w.xid(a, "GPU-a-0", 64);
  EXPECT_EQ(w.env.state(job), JobState::running);
  EXPECT_EQ(w.health("GPU-a-0"), GpuHealth::quarantined) << "nothing new on it";
  w.env.plane->on_checkpoint(w.env.now, a, {key, key.epoch.value, 10, "/ckpt/10", 1, 1});
  w.env.step();
  EXPECT_EQ(w.env.state(job), JobState::stopping);
  w.env.end(a, key, false);
  EXPECT_EQ(w.env.plane->find_job(job)->row.spent[static_cast<std::size_t>(Cause::gpu)], 1);
}

TEST(Faults, OneRuleNeverEmptiesTheCluster) {
  World w;
  std::vector<NodeId> nodes;
  for (int n = 0; n < 8; ++n) nodes.push_back(w.env.add_node("n" + std::to_string(n)));
  for (int round = 0; round < 3; ++round) {
    for (std::size_t n = 0; n < nodes.size(); ++n)
      w.xid(nodes[n], "GPU-n" + std::to_string(n) + "-" + std::to_string(round), 79);
    w.env.tick_alive(10s);
  }
  const auto aside =
      std::ranges::count_if(nodes, [&](NodeId n) { return w.service(n) == NodeService::quarantined; });
  EXPECT_EQ(aside, 2);
  EXPECT_EQ(w.events("brake").size(), 6U) << "a person is told of the others";
}

TEST(Faults, ManyRestartsAtOnceWaitForTheirTurn) {
  ControlSettings settings;
  settings.requeue_burst = 3;
  settings.requeues_a_second = 1;
  World w(settings);
  const NodeId a = w.env.add_node("a");
  std::vector<JobId> jobs;
  for (int i = 0; i < 8; ++i) jobs.push_back(w.env.submit(job_spec(1, 1)));
  for (const JobId id : jobs) w.env.run(id);
  for (std::size_t i = 0; i < jobs.size(); ++i) {
    w.xid(a, "GPU-a-" + std::to_string(i), 79);
    w.env.end(a, w.env.key_of(jobs[i]), false);
  }
  const auto in = [&](JobState s) {
    return std::ranges::count_if(jobs, [&](JobId id) { return w.env.state(id) == s; });
  };
  EXPECT_EQ(in(JobState::queued), 3);
  EXPECT_EQ(in(JobState::delayed), 5);
  w.env.tick_alive(6s);
  EXPECT_EQ(in(JobState::queued), 8);
}

TEST(Faults, WhatWasLostIsCounted) {
  World w;
  const NodeId a = w.env.add_node("a");
  const JobId job = w.env.submit(job_spec(1, 4));
  const AttemptKey key = w.env.run(job);
  w.env.tick_alive(100s, 2s);
  w.env.plane->on_checkpoint(w.env.now, a, {key, key.epoch.value, 10, "/ckpt/10", 1, 1});
  w.env.tick_alive(40s, 2s);
  w.xid(a, "GPU-a-0", 79);
  w.env.end(a, key, false);
  const auto row = std::ranges::find_if(w.env.rows.attempts,
                                        [](const AttemptRow& r) { return r.state == AttemptState::ended; });
  EXPECT_EQ(to_seconds(row->lost_gpu), 160);
}

TEST(Faults, AShadowRuleStaysOneWhenTheWorkerSaysItsGpuIsBroken) {
  World w(with_rule("xid:79,stop,quarantine,gpu,hardware,1,shadow,off the bus"));
  const NodeId a = w.env.add_node("a");
  const JobId job = w.env.submit(job_spec(1, 8));
  w.env.run(job);
  w.inventory(a, "a", {{0, "Xid 79: gone"}});
  EXPECT_EQ(w.env.state(job), JobState::running);
  EXPECT_EQ(w.health("GPU-a-0"), GpuHealth::healthy);
}

TEST(Faults, AWorkerIsToldAnEmptyListWhereNothingQuarantines) {
  World w(with_rule("xid:79,stop,quarantine,gpu,hardware,1,shadow,off the bus"));
  const NodeId id = w.env.plane->on_hello(w.env.now, w.env.hello("a"));
  w.env.step();
  const auto welcome = w.env.take<protocol::Welcome>(id);
  ASSERT_TRUE(welcome.quarantining.has_value());
  EXPECT_TRUE(welcome.quarantining->empty());
}

TEST(Faults, AShadowRuleBeginsNoCascade) {
  World w(with_rule(
      "xid:48,stop,quarantine,gpu,hardware,1,shadow,ECC\nxid:79,stop,quarantine,gpu,hardware,1,on,bus"));
  const NodeId a = w.env.add_node("a");
  w.xid(a, "GPU-a-2", 48);
  w.xid(a, "GPU-a-3", 79);
  EXPECT_EQ(w.last_fault().shared_by, 1);
}

TEST(Faults, ARuleThatWouldActOnManyNodesIsKeptFromIt) {
  World w;
  std::vector<NodeId> nodes;
  for (int n = 0; n < 5; ++n) nodes.push_back(w.env.add_node("n" + std::to_string(n)));
  std::vector<JobId> jobs;
  for (int n = 0; n < 5; ++n) jobs.push_back(w.env.submit(job_spec(1, 8)));
  for (const JobId job : jobs) w.env.run(job);
  for (std::size_t n = 0; n < 5; ++n) w.xid(nodes[n], "GPU-n" + std::to_string(n) + "-0", 79);
  const auto running =
      std::ranges::count_if(jobs, [&](JobId id) { return w.env.state(id) == JobState::running; });
  EXPECT_EQ(running, 3) << "two nodes may be hit by one row within ten minutes";
  EXPECT_EQ(w.last_fault().action, "brake: quarantine, stop");
  EXPECT_EQ(w.last_fault().shared_by, 0);
  w.inventory(nodes[4], "n4", {{0, "Xid 79: bus"}});
  EXPECT_EQ(w.health("GPU-n4-0"), GpuHealth::healthy) << "not by the worker's word either";
  EXPECT_EQ(w.events("brake").size(), 3u) << "once for each node";
  // A fault that was not acted upon may have been one all the same.
  const AttemptKey key = w.env.key_of(jobs[4]);
  const NodeId on = w.env.nodes_of(key)[0];
  w.env.fail(on, key, 0, 1);
  w.env.end(on, key, false);
  EXPECT_NE(w.env.state(jobs[4]), JobState::failed);
  EXPECT_EQ(w.env.plane->find_job(jobs[4])->row.spent[static_cast<std::size_t>(Cause::gpu)], 1);
  w.env.tick_alive(11min, 2s);
  w.xid(nodes[3], "GPU-n3-1", 79);
  EXPECT_EQ(w.health("GPU-n3-1"), GpuHealth::quarantined);
}

TEST(Faults, AJobLeavesAFailingGpuThoughItWasToldBeforeItRanOrToAFormerLeader) {
  World w;
  const NodeId a = w.env.add_node("a");
  const JobId early = w.env.submit(job_spec(1, 4));
  w.xid(a, "GPU-a-0", 64);  // it is being prepared
  AttemptKey key = w.env.run(early);
  EXPECT_TRUE(w.env.plane->find_attempt(key)->leave_by);
  w.env.recover();
  ASSERT_FALSE(w.env.plane->find_attempt(key)->leave_by);
  auto hello = w.env.hello("a");
  hello.gpus[0].healthy = false;
  hello.gpus[0].health_reason = "Xid 64: remap failure";
  protocol::AttemptStatus s;
  s.key = key;
  s.phase = protocol::Phase::running;
  hello.attempts = {s};
  w.env.register_node(hello);
  EXPECT_TRUE(w.env.plane->find_attempt(key)->leave_by);
  w.env.drop_messages();
  w.env.plane->on_checkpoint(w.env.now, a, {key, key.epoch.value, 10, "/ckpt/10", 1, 1});
  w.env.step();
  EXPECT_EQ(w.env.take<protocol::Stop>(a).signal, "TERM");
  w.env.register_node(hello);
  EXPECT_EQ(w.env.take<protocol::Stop>(a).signal, "TERM") << "a reconnection takes no grace away";
}

TEST(Faults, ANewLeaderKnowsWhereAJobRatherDoesNotGo) {
  World w;
  const NodeId a = w.env.add_node("a"), b = w.env.add_node("b");
  const JobId job = w.env.submit(job_spec(2, 8));
  const AttemptKey key = w.env.run(job);
  w.xid(a, "GPU-a-0", 79);
  for (const NodeId n : {a, b}) w.env.end(n, key, false);
  ASSERT_EQ(w.env.state(job), JobState::queued);
  EXPECT_EQ(w.env.plane->find_job(job)->trouble().avoid, std::vector{a});
  w.env.recover();
  EXPECT_EQ(w.env.plane->find_job(job)->trouble().avoid, std::vector{a})
      << "and not all nodes, since none is linked";
}

TEST(Faults, WhatEndsAnAttemptFindsRoomInItsEvidence) {
  World w;
  const NodeId a = w.env.add_node("a");
  const JobId job = w.env.submit(job_spec(1, 8));
  const AttemptKey key = w.env.run(job);
  for (int i = 0; i < 500; ++i) {
    w.xid(a, "GPU-a-0", 31);
    w.env.tick_alive(6s, 2s);
  }
  w.xid(a, "GPU-a-0", 79);
  const std::string& evidence = w.env.plane->find_attempt(key)->row.evidence_json;
  EXPECT_LT(evidence.size(), 20u * 1024);
  EXPECT_NE(evidence.find("\"xid\":79"), std::string::npos);
}

TEST(Faults, ARecoveryIsMeasuredOnceOverAChangeOfLeader) {
  World w;
  const NodeId a = w.env.add_node("a");
  w.env.add_node("b");
  const JobId job = w.env.submit(job_spec(1, 8));
  AttemptKey key = w.env.run(job);
  const auto step = [&](std::int64_t n) {
    w.env.plane->on_progress(w.env.now, w.env.nodes_of(key)[0], {.key = key, .step = n, .metrics = {}});
  };
  step(10);
  w.xid(a, "GPU-a-0", 79);
  w.env.end(a, key, false);
  key = w.env.run(job);
  step(11);
  w.env.step();
  EXPECT_NE(w.env.rows.attempts.back().caught_up_at, Instant{}) << "stored at once";
  w.env.recover();
  w.env.tick_alive(1h, 2s);
  step(12);
  EXPECT_TRUE(w.env.plane->take_output().stages.empty());
}

}  // namespace
}  // namespace tutti::testing
