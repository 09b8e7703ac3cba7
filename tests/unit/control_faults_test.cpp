// What is done about faults beyond the first kill, in virtual time: order of evidence, late evidence, shadow
// rules, history of GPUs and nodes, and who is charged.
#include <algorithm>

#include <map>

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
  // What the worker says of its GPUs, of those in `broken` that they are.
  void inventory(NodeId node, const std::string& name, const std::map<int, std::string>& broken = {}) {
    protocol::GpuInventory all{.driver = "", .simulated_gpus = false, .gpus = env.hello(name, 8).gpus};
    for (const auto& [index, reason] : broken) {
      auto& gpu = all.gpus.at(static_cast<std::size_t>(index));
      gpu.healthy = false;
      gpu.health_reason = reason;
    }
    env.plane->on_gpu_inventory(env.now, node, all);
    env.step();
  }
  // A worker remembers a fatal fault until the reset, and has said so.
  void reset(NodeId node, const std::string& name) {
    std::map<int, std::string> broken;
    for (const GpuId id : env.plane->cluster().find(node)->gpus)
      if (const GpuRow& gpu = env.plane->cluster().gpus.at(id).row; gpu.health == GpuHealth::quarantined)
        broken[gpu.index] = gpu.health_reason;
    inventory(node, name, broken);
    env.register_node(env.hello(name, 8));
  }
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

// The worker tells Xid 48 of one GPU first; the kernel log is read later and says that another came before.
TEST(Faults, TheGpuThatWasFirstIsBlamedHoweverLateItIsTold) {
  World w;
  const NodeId a = w.env.add_node("a");
  w.xid(a, "GPU-a-2", 48, 1s);
  w.xid(a, "GPU-a-3", 79, 2500ms);
  ASSERT_EQ(w.env.rows.faults.size(), 2u);
  EXPECT_EQ(w.env.rows.faults[0].shared_by, 0);
  EXPECT_EQ(w.env.rows.faults[1].shared_by, 1);
  const Gpu* second = w.env.plane->cluster().find_gpu("GPU-a-2");
  const Gpu* first = w.env.plane->cluster().find_gpu("GPU-a-3");
  EXPECT_EQ(w.env.plane->ledger().of_gpu(second->row.id, Instant{}), 0);
  EXPECT_EQ(w.env.plane->ledger().of_gpu(first->row.id, Instant{}), 1);
  w.xid(a, "GPU-a-4", 79, 30min);
  EXPECT_EQ(w.env.rows.faults[2].shared_by, 1) << "half an hour before is another event";
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

TEST(Faults, TwoSignalsFromOutsideAreNoSignatureOfTheProgram) {
  World w;
  const NodeId a = w.env.add_node("a"), b = w.env.add_node("b");
  for (const auto& [signal, words] : {std::pair(15, "terminated"), std::pair(7, "")}) {
    const JobId job = w.env.submit(job_spec(1, 8));
    for (int i = 0; i < 2; ++i) {
      const AttemptKey key = w.env.run(job);
      const NodeId on = w.env.nodes_of(key)[0];
      ASSERT_EQ(on, i == 0 ? a : b) << "after an unknown failure it rather goes elsewhere";
      w.crash(on, key, signal, words);
      w.env.end(on, key, false);
      EXPECT_EQ(w.env.state(job), JobState::delayed) << signal;
      w.env.tick_alive(2min, 2s);
    }
    ASSERT_TRUE(w.env.plane->on_cancel(w.env.now, job, "test"));
    w.env.step();
    const AttemptKey key = w.env.key_of(job);
    w.env.end(w.env.nodes_of(key)[0], key, true);
  }
}

TEST(Faults, WhatItSaidWhenHardwareFailedIsNoSignature) {
  World w;
  const NodeId a = w.env.add_node("a"), b = w.env.add_node("b");
  const JobId job = w.env.submit(job_spec(1, 8));
  AttemptKey key = w.env.run(job);
  ASSERT_EQ(w.env.nodes_of(key)[0], a);
  w.crash(a, key, 7, "bus error");
  w.xid(a, "GPU-a-0", 79, 1s);  // while it dies
  w.env.end(a, key, false);
  key = w.env.run(job);
  ASSERT_EQ(w.env.nodes_of(key)[0], b);
  w.crash(b, key, 7, "bus error");
  w.env.end(b, key, false);
  EXPECT_EQ(w.env.state(job), JobState::delayed) << "the first was the GPU's";
}

TEST(Faults, ALateVerdictFreesTheJobAndTakesBackWhatItDid) {
  World w;
  const NodeId a = w.env.add_node("a");
  JobSpec spec = job_spec(1, 4);
  spec.retry.budget[Cause::user] = 5;
  spec.retry.no_progress_limit = 1;
  const JobId job = w.env.submit(spec);
  const AttemptKey key = w.env.run(job);
  w.env.tick_alive(10s);
  w.env.fail(a, key, 0, 1);
  w.env.end(a, key, false);
  ASSERT_EQ(w.env.state(job), JobState::held) << "no progress";
  w.xid(a, "GPU-a-0", 79, 500ms);
  EXPECT_EQ(w.env.state(job), JobState::queued);
  EXPECT_TRUE(w.env.plane->find_job(job)->row.front);
  EXPECT_EQ(w.env.plane->find_job(job)->row.no_progress, 0);
}

TEST(Faults, WhatWasNotChargedIsNotGivenBack) {
  World w;
  const NodeId a = w.env.add_node("a");
  JobSpec spec = job_spec(1, 4);
  spec.retry.budget[Cause::user] = 5;
  spec.retry.backoff[Cause::user] = {1s, 1s};
  spec.retry.exit_codes[3] = ExitAction::restart;
  const JobId job = w.env.submit(spec);
  AttemptKey key = w.env.run(job);
  w.env.fail(a, key, 0, 1);
  w.env.end(a, key, false);
  w.env.tick_alive(6s);
  key = w.env.run(job);
  w.env.tick_alive(6s);
  w.env.fail(a, key, 0, 3);  // wanted: free
  w.env.end(a, key, false);
  const std::string uuid = w.env.plane->cluster().gpus.at(w.env.rows.opened.back().gpu).row.uuid;
  const auto spent = [&] {
    return w.env.plane->find_job(job)->row.spent[static_cast<std::size_t>(Cause::user)];
  };
  ASSERT_EQ(spent(), 1);
  w.env.tick_alive(1s);
  w.xid(a, uuid, 79, 1500ms);
  EXPECT_EQ(spent(), 1);
}

TEST(Faults, AFailureThatWouldEndItsJobWaitsForAFaultThatExplainsIt) {
  ControlSettings settings;
  settings.evidence_wait = 2s;
  World w(settings);
  const NodeId a = w.env.add_node("a");
  const auto fail = [&](JobId job) {
    const AttemptKey key = w.env.run(job);
    w.env.fail(a, key, 0, 1);
    w.env.end(a, key, false);
    return key;
  };
  const JobId hit = w.env.submit(job_spec(1, 2)), own = w.env.submit(job_spec(1, 2));
  fail(hit);
  fail(own);
  EXPECT_EQ(w.env.state(own), JobState::stopping);
  w.env.tick_alive(1s);
  w.xid(a, "GPU-a-0", 79, 1100ms);
  w.env.tick_alive(1500ms);
  EXPECT_EQ(w.env.state(own), JobState::failed);
  EXPECT_NE(w.env.state(hit), JobState::failed);
  const JobId cpu = w.env.submit(job_spec(1, 0));
  fail(cpu);
  EXPECT_EQ(w.env.state(cpu), JobState::failed) << "no GPU can explain it";
  const JobId last = w.env.submit(job_spec(1, 2));
  fail(last);
  w.env.recover();
  w.env.tick_alive(1s);
  EXPECT_EQ(w.env.state(last), JobState::failed) << "a new leader ends it";
}

TEST(Faults, AFailureOnTheNetworkIsNotTheProgramsWhenALinkWasInTrouble) {
  World w;
  const NodeId a = w.env.add_node("a"), b = w.env.add_node("b"), c = w.env.add_node("c");
  const auto trouble = [&](NodeId node, const std::string& link) {
    protocol::NodeHealth h;
    h.incidents.push_back({"link_flap", link + " went down (1: DOWN)", 0});
    w.env.plane->on_node_health(w.env.now, node, h);
    w.env.step();
  };
  const JobId job = w.env.submit(job_spec(2, 8));
  AttemptKey key = w.env.run(job);
  ASSERT_EQ(w.env.nodes_of(key), (std::vector{a, b}));
  trouble(b, "mlx5_0/1");
  w.env.tick_alive(9min, 2s);
  w.env.fail(a, key, 0, 1);
  EXPECT_EQ(w.env.plane->find_attempt(key)->row.cause, Cause::fabric);
  w.env.end(a, key, false);
  w.env.end(b, key, false);
  w.env.tick_alive(1min, 2s);
  key = w.env.run(job);
  EXPECT_EQ(w.env.nodes_of(key), (std::vector{a, c})) << "without the node of that link";
  trouble(c, "eth0");
  w.env.fail(a, key, 0, 1);
  EXPECT_EQ(w.env.plane->find_attempt(key)->row.cause, Cause::network);
  w.env.end(a, key, false);
  w.env.end(c, key, false);
  w.env.tick_alive(11min, 2s);
  key = w.env.run(job);
  w.env.fail(w.env.nodes_of(key)[0], key, 0, 1);
  EXPECT_EQ(w.env.plane->find_attempt(key)->row.cause, Cause::user) << "that is long ago";
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

TEST(Faults, NodesThatAreLostTogetherAreNotBlamedAndIdleOnesNeither) {
  World w;
  const NodeId a = w.env.add_node("a"), b = w.env.add_node("b"), c = w.env.add_node("c");
  const NodeId d = w.env.add_node("d");
  const JobId job = w.env.submit(job_spec(3, 8));
  const AttemptKey key = w.env.run(job);
  const auto blamed = [&](NodeId n) {
    return std::ranges::count_if(w.env.rows.faults,
                                 [&](const FaultRow& f) { return f.node == n && f.shared_by > 0; });
  };
  w.env.silent.insert(a);
  w.env.tick_alive(3s);
  w.env.silent.insert(b);  // three seconds later
  w.env.tick_alive(20s);
  EXPECT_EQ(blamed(a) + blamed(b), 0) << "the first one's blame is taken back";
  w.env.end(c, key, false);
  w.env.silent.insert(d);
  w.env.tick_alive(20s);
  EXPECT_EQ(blamed(d), 0) << "nothing ran there";
  const JobId alone = w.env.submit(job_spec(1, 8));
  w.env.run(alone);
  w.env.silent.insert(c);
  w.env.tick_alive(20s);
  EXPECT_EQ(blamed(c), 1);
}

// A pilot job of another scheduler has ended, or a machine has left: that is no fault, and nobody else's
// either.
TEST(Faults, ARetiredNodeThatFallsSilentIsNoLostOne) {
  World w;
  const NodeId a = w.env.add_node("a"), running = w.env.add_node("running"), gone = w.env.add_node("gone");
  const JobId job = w.env.submit(job_spec(1, 8)), other = w.env.submit(job_spec(1, 8));
  ASSERT_EQ(w.env.nodes_of(w.env.run(job)), std::vector{a});
  ASSERT_EQ(w.env.nodes_of(w.env.run(other)), std::vector{running});
  ASSERT_TRUE(w.env.plane->on_node_service(w.env.now, "running", NodeService::retired, "leaves"));
  for (const NodeService s : {NodeService::draining, NodeService::retired})
    ASSERT_TRUE(w.env.plane->on_node_service(w.env.now, "gone", s, "the pilot ends"));
  w.env.step();
  for (const NodeId id : {a, gone, running}) w.env.silent.insert(id);
  w.env.tick_alive(30s);
  EXPECT_EQ(w.env.plane->cluster().find(gone)->row.state, NodeState::dead);
  const auto faults = [&](NodeId n) { return std::ranges::count(w.env.rows.faults, n, &FaultRow::node); };
  EXPECT_EQ(faults(gone), 0);
  EXPECT_EQ(faults(running), 0) << "whoever retires a node that works takes that";
  ASSERT_EQ(faults(a), 1);
  EXPECT_EQ(w.last_fault().shared_by, 1) << "it fell silent alone: those that were to go are not its company";
}

TEST(Faults, ForgivenessIsStored) {
  World w;
  const NodeId a = w.env.add_node("a"), b = w.env.add_node("b");
  const JobId job = w.env.submit(job_spec(1, 8));
  for (const NodeId on : {a, b}) {
    const AttemptKey key = w.env.run(job);
    ASSERT_EQ(w.env.nodes_of(key)[0], on);
    w.crash(on, key, 7, "bus error");
    w.env.end(on, key, false);
    w.env.tick_alive(1min, 2s);
  }
  EXPECT_EQ(w.env.state(job), JobState::failed);
  w.env.recover();
  EXPECT_TRUE(w.env.plane->ledger().lemon_failures(a).empty());
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
