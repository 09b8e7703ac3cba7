// What is done about faults beyond the first kill, in virtual time: order of evidence, late evidence, shadow
// rules, history of GPUs and nodes, and who is charged.
#include <algorithm>

#include "tests/support/test_env.h"

namespace tutti::testing {
namespace {

ControlSettings with_rule(const std::string& row) {
  auto table = FaultTable::parse(
      "# version test\nfault,job,gpu,scope,blame,weight,mode,meaning\n"
      "xid:*,none,watch,gpu,unknown,0.2,on,unknown\n*,none,watch,gpu,unknown,0.1,on,unknown\n" +
      row + "\n");
  ControlSettings settings;
  settings.faults = std::make_shared<const FaultTable>(*std::move(table));
  return settings;
}

struct World {
  explicit World(ControlSettings settings = {}) : env(std::move(settings)) {}
  TestEnv env;

  void xid(NodeId node, const std::string& uuid, int n, Duration age = {}) {
    env.plane->on_gpu_fault(env.now, node,
                            {.uuid = uuid, .kind = "xid", .xid = n, .age_us = age.count(), .detail = ""});
    env.step();
  }
  void reset(NodeId, const std::string& name) { env.register_node(env.hello(name, 8)); }
  const FaultRow& last_fault() const { return env.rows.faults.back(); }
  GpuHealth health(const std::string& uuid) const { return env.plane->cluster().find_gpu(uuid)->row.health; }
  NodeService service(NodeId n) const { return env.plane->cluster().find(n)->row.service; }
  // A failure with words.
  void crash(NodeId node, AttemptKey key, int signal, const std::string& words) {
    protocol::AttemptStatus s;
    s.key = key;
    s.phase = protocol::Phase::running;
    s.failure = protocol::Failure{
        .kind = "signal", .rank = 0, .signal = signal, .detail = "crashed", .last_lines = words};
    env.say(node, s);
  }
  std::vector<EventRow> events(const std::string& kind) const {
    std::vector<EventRow> out;
    std::ranges::copy_if(env.rows.events, std::back_inserter(out),
                         [&](const EventRow& e) { return e.kind == kind; });
    return out;
  }
  const AttemptRow& ended() const { return env.rows.attempts.back(); }
};

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

TEST(Faults, AFaultToldAfterTheEndMovesTheCharge) {
  World w;
  const NodeId a = w.env.add_node("a");
  JobSpec spec = job_spec(1, 4);
  spec.retry.budget[Cause::user] = 5;
  spec.retry.backoff[Cause::user] = {60s, 60s};
  const JobId job = w.env.submit(spec);
  const AttemptKey key = w.env.run(job);
  w.env.tick_alive(10s);
  w.env.fail(a, key, 0, 1);
  w.env.end(a, key, false);
  const auto spent = [&](Cause c) {
    return w.env.plane->find_job(job)->row.spent[static_cast<std::size_t>(c)];
  };
  ASSERT_EQ(spent(Cause::user), 1);
  const std::string uuid = "GPU-a-0";
  w.env.tick_alive(2s);
  w.xid(a, uuid, 79, 2500ms);  // half a second before the rank failed
  EXPECT_EQ(spent(Cause::user), 0);
  EXPECT_EQ(spent(Cause::gpu), 1);
  ASSERT_EQ(w.events("verdict").size(), 1U);
  EXPECT_EQ(w.events("verdict")[0].from, "user");
  EXPECT_EQ(w.events("verdict")[0].to, "gpu");
}

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

TEST(Faults, TheSameCrashOnOtherHardwareIsTheProgramsAndNobodyElseIsBlamed) {
  World w;
  const NodeId a = w.env.add_node("a"), b = w.env.add_node("b");
  const JobId job = w.env.submit(job_spec(1, 8));
  AttemptKey key = w.env.run(job);
  const NodeId first = w.env.nodes_of(key)[0], second = first == a ? b : a;
  w.crash(first, key, 7, "step 17\nbus error at 0x7f3a in kernel 12");
  w.env.end(first, key, false);
  EXPECT_NE(w.env.state(job), JobState::failed);
  EXPECT_EQ(w.env.plane->ledger().lemon_failures(first).size(), 1U);
  ASSERT_TRUE(w.env.plane->on_node_service(w.env.now, first == a ? "a" : "b", NodeService::cordoned, "test"));
  w.env.tick_alive(1min, 2s);
  key = w.env.run(job);
  ASSERT_EQ(w.env.nodes_of(key)[0], second);
  w.crash(second, key, 7, "step 91\nbus error at 0x11bc in kernel 3");
  w.env.end(second, key, false);
  EXPECT_EQ(w.env.state(job), JobState::failed) << "a user error has no budget";
  EXPECT_TRUE(w.env.plane->ledger().lemon_failures(first).empty()) << "the blame is taken back";
}

TEST(Faults, TheSameCrashOnTheSameNodeProvesNothing) {
  World w;
  const NodeId a = w.env.add_node("a");
  const JobId job = w.env.submit(job_spec(1, 8));
  for (int i = 0; i < 2; ++i) {
    const AttemptKey key = w.env.run(job);
    w.crash(a, key, 7, "bus error at 0x7f3a");
    w.env.end(a, key, false);
    EXPECT_EQ(w.env.state(job), JobState::delayed);
    w.env.tick_alive(2min, 2s);
  }
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

}  // namespace
}  // namespace tutti::testing
