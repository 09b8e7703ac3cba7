// Nodes and GPUs that fail, fall silent, come back: what becomes of the gangs on them, in virtual time.
#include <algorithm>

#include "tests/support/test_env.h"

namespace tutti::testing {
namespace {

using protocol::Phase;

struct ControlPlaneNodes : ::testing::Test {
  TestEnv env;
};

TEST_F(ControlPlaneNodes, NothingIsPlacedOnGpusBeforeTheKillIsProven) {
  const NodeId a = env.add_node("a");
  const JobId first = env.submit(job_spec(1, 8));
  const AttemptKey key = env.run(first);
  const JobId second = env.submit(job_spec(1, 8));
  env.fail(a, key, 0, 1);
  EXPECT_EQ(env.state(second), JobState::queued);
  env.end(a, key, false);
  EXPECT_EQ(env.state(second), JobState::starting);
}

TEST_F(ControlPlaneNodes, UnprovenKillLeavesTheGpusDirty) {
  const NodeId a = env.add_node("a");
  const JobId job = env.submit(job_spec(1, 8));
  const AttemptKey key = env.run(job);
  const JobId next = env.submit(job_spec(1, 1));
  env.fail(a, key, 0, 1);
  env.end(a, key, false, false);
  EXPECT_EQ(env.state(job), JobState::failed);
  EXPECT_EQ(env.state(next), JobState::queued) << "a dirty GPU is given to nobody";
  EXPECT_FALSE(env.plane->on_node_service(env.now, "a", NodeService::draining, ""));
  env.end(a, key, false, true);  // the worker has gone on trying
  EXPECT_EQ(env.state(next), JobState::starting);
}

TEST_F(ControlPlaneNodes, AGpuThatMovesSaysFromWhere) {
  const NodeId a = env.add_node("a", 2), b = env.add_node("b", 0);
  env.plane->on_link_lost(env.now, a, env.plane->cluster().nodes.at(a).link);
  env.silent.insert(a);
  env.tick_alive(1min);
  env.rows = {};
  auto hello = env.hello("b", 0);
  hello.gpus = env.hello("a", 1).gpus;
  env.register_node(hello);
  ASSERT_EQ(env.plane->cluster().nodes.at(b).gpus.size(), 1u);
  std::string told;  // db/history.cpp reads where it was from this
  for (const auto& e : env.rows.events)
    if (e.kind == "gpu") told += to_string(e.node) + " " + e.to + ": " + e.detail + "; ";
  EXPECT_EQ(told, to_string(a) + " absent: node b has it now; " + to_string(b) +
                      " present: moved here from node a; ");
}

TEST_F(ControlPlaneNodes, ADrainWithAnEndEndsByItself) {
  const NodeId a = env.add_node("a");
  const auto service = [&] { return env.plane->cluster().find(a)->row.service; };
  const auto past = env.plane->on_node_service(env.now, "a", NodeService::draining, "fans", env.now.wall);
  ASSERT_FALSE(past);
  EXPECT_EQ(past.error().field, "until");
  ASSERT_TRUE(env.plane->on_node_service(env.now, "a", NodeService::draining, "fans", env.now.wall + 1h));
  env.step();
  const JobId job = env.submit(job_spec(1, 1));
  EXPECT_EQ(env.rows.nodes.back().service_until, env.now.wall + 1h);
  env.recover();
  env.drop_messages();
  env.register_node(env.hello("a"));
  env.tick_alive(59min, 2s);
  EXPECT_EQ(service(), NodeService::draining) << "a new leader knows of the end, and keeps to it";
  EXPECT_EQ(env.state(job), JobState::queued);
  env.tick_alive(2min, 2s);
  EXPECT_EQ(service(), NodeService::schedulable);
  EXPECT_EQ(env.plane->cluster().find(a)->row.service_until, Instant{});
  EXPECT_EQ(env.state(job), JobState::starting);
  const auto told = std::ranges::find_if(env.rows.events, [](const EventRow& e) {
    return e.kind == "service" && e.from == "draining" && e.to == "schedulable";
  });
  ASSERT_NE(told, env.rows.events.end());
  EXPECT_NE(told->detail.find("fans"), std::string::npos) << told->detail;
}

TEST_F(ControlPlaneNodes, ADrainSaidAgainWithoutAnEndStays) {
  const NodeId a = env.add_node("a");
  ASSERT_TRUE(env.plane->on_node_service(env.now, "a", NodeService::draining, "fans", env.now.wall + 1h));
  ASSERT_TRUE(env.plane->on_node_service(env.now, "a", NodeService::draining, "fans and a board"));
  env.step();
  env.tick_alive(2h, 2s);
  EXPECT_EQ(env.plane->cluster().find(a)->row.service, NodeService::draining);
  ASSERT_TRUE(env.plane->on_node_service(env.now, "a", NodeService::draining, "x", env.now.wall + 1h));
  ASSERT_TRUE(env.plane->on_node_service(env.now, "a", NodeService::quarantined, "it burns"));
  env.step();
  env.tick_alive(2h, 2s);
  EXPECT_EQ(env.plane->cluster().find(a)->row.service, NodeService::quarantined) << "the end was the drain's";
}

TEST_F(ControlPlaneNodes, ADrainThatEndsOnABadNodeLeavesItCordoned) {
  const NodeId a = env.add_node("a");
  ASSERT_TRUE(env.plane->on_node_service(env.now, "a", NodeService::draining, "fans", env.now.wall + 1h));
  protocol::NodeHealth health;
  health.conditions.push_back({"nvswitch_fatal", "", "SXid 1", 0});
  env.plane->on_node_health(env.now, a, health);
  env.step();
  env.tick_alive(61min, 2s);
  EXPECT_EQ(env.plane->cluster().find(a)->row.service, NodeService::cordoned);
  EXPECT_NE(env.plane->cluster().find(a)->row.service_reason.find("nvswitch_fatal"), std::string::npos);
}

// A node that was cordoned for another reason and then resumed gave a GPU away under a rank stuck in the
// kernel.
TEST_F(ControlPlaneNodes, PersonCannotVouchForAGpuWhileTheWorkerSeesAProcessOnIt) {
  const NodeId a = env.add_node("a");
  const JobId job = env.submit(job_spec(1, 4));
  const AttemptKey key = env.run(job);
  env.fail(a, key, 0, 1);
  env.end(a, key, false, false);
  ASSERT_TRUE(env.plane->on_node_service(env.now, "a", NodeService::cordoned, "cable"));
  ASSERT_TRUE(env.plane->on_node_service(env.now, "a", NodeService::schedulable, ""));
  const JobId whole = env.submit(job_spec(1, 8));
  EXPECT_EQ(env.state(whole), JobState::queued);
  const JobId half = env.submit(job_spec(1, 4));
  EXPECT_EQ(env.state(half), JobState::starting) << "the other GPUs are good";

  // The worker has lost its records: nobody will prove it any more, a person's word is enough.
  env.drop_messages();
  protocol::Hello hello = env.hello("a");
  hello.attempts.push_back(
      {.key = env.key_of(half), .phase = protocol::Phase::preparing, .failure = {}, .end = {}});
  env.register_node(hello);
  env.end(a, env.key_of(half), false);
  EXPECT_EQ(env.state(whole), JobState::queued);
  ASSERT_TRUE(env.plane->on_node_service(env.now, "a", NodeService::schedulable, ""));
  env.plan();
  EXPECT_EQ(env.state(whole), JobState::starting);
}

// A recovery between `ready` and the launch would have told the gang a port that nobody holds any more.
TEST_F(ControlPlaneNodes, PortsToldAgainAreStored) {
  const NodeId a = env.add_node("a");
  const JobId job = env.submit(job_spec(1, 1));
  const AttemptKey key = env.key_of(job);
  env.status(a, key, Phase::ready);
  env.rows = {};
  protocol::AttemptStatus s;
  s.key = key;
  s.phase = Phase::ready;
  s.agent_port = s.master_port = 4321;
  env.say(a, s);
  ASSERT_FALSE(env.rows.attempts.empty());
  EXPECT_EQ(env.rows.attempts.back().gang.front().master_port, 4321);
}

// Forgetting it would have left the GPU dirty until the worker's next restart (found by the simulation, seed
// 400).
TEST_F(ControlPlaneNodes, UnprovenEndIsNotForgottenAndItsLateProofCleansTheGpus) {
  const NodeId a = env.add_node("a");
  const JobId job = env.submit(job_spec(1, 8));
  const AttemptKey key = env.run(job);
  env.fail(a, key, 0, 1);
  env.drop_messages();
  env.end(a, key, false, false);
  EXPECT_EQ(env.state(job), JobState::failed);
  env.expect_nothing_left();
  const JobId next = env.submit(job_spec(1, 8));
  EXPECT_EQ(env.state(next), JobState::queued);
  env.end(a, key, false);
  EXPECT_EQ(env.take<protocol::Forget>(a).key, key);
  EXPECT_EQ(env.state(next), JobState::starting);
}

TEST_F(ControlPlaneNodes, TheProofOfOneEpochCleansNoGpuOfAnother) {
  const NodeId a = env.add_node("a", 2);
  JobSpec spec = job_spec(1, 1);
  spec.retry.budget[Cause::user] = -1;
  spec.retry.backoff[Cause::user] = {0s, 0s};
  const JobId job = env.submit(spec);
  std::vector<AttemptKey> keys;
  std::vector<GpuId> gpus;
  for (int i = 0; i < 2; ++i) {
    keys.push_back(env.run(job));
    gpus.push_back(env.plane->find_attempt(keys.back())->row.gang.front().gpus.front());
    env.fail(a, keys.back(), 0, 1);
    env.end(a, keys.back(), false, false);
  }
  ASSERT_NE(gpus[0], gpus[1]);
  const auto health = [&](GpuId id) { return env.plane->cluster().gpus.at(id).row.health; };
  ASSERT_EQ(health(gpus[0]), GpuHealth::dirty);
  ASSERT_EQ(health(gpus[1]), GpuHealth::dirty);
  env.end(a, keys[1], false);
  EXPECT_EQ(health(gpus[1]), GpuHealth::healthy);
  EXPECT_EQ(health(gpus[0]), GpuHealth::dirty) << "its own ranks may still be there";
  env.end(a, keys[0], false);
  EXPECT_EQ(health(gpus[0]), GpuHealth::healthy);
}

TEST_F(ControlPlaneNodes, FatalXidKillsTheGangAndRestartsItElsewhereFromTheCheckpoint) {
  const NodeId a = env.add_node("a"), b = env.add_node("b"), c = env.add_node("c"), d = env.add_node("d");
  JobSpec spec = job_spec(2, 4);
  spec.retry.backoff[Cause::gpu] = {3s, 3s};
  const JobId job = env.submit(spec);
  const AttemptKey key = env.run(job);
  ASSERT_EQ(env.nodes_of(key), (std::vector{a, b}));
  env.plane->on_checkpoint(env.now, a, {.key = key, .epoch_in_file = 1, .step = 40, .path = "/ckpt/step-40"});
  env.plane->on_gpu_fault(env.now, a,
                          {.uuid = "GPU-a-2", .kind = "xid", .xid = 79, .age_us = 100'000, .detail = ""});
  env.step();
  EXPECT_EQ(env.state(job), JobState::stopping);
  EXPECT_EQ(env.take<protocol::Stop>(a).cause, "gpu");
  env.take<protocol::Stop>(b);
  env.end(a, key, false);
  env.end(b, key, false);
  EXPECT_EQ(env.state(job), JobState::delayed);
  env.drop_messages();
  env.tick_alive(2500ms);
  EXPECT_EQ(env.state(job), JobState::delayed);
  env.tick_alive(1s);
  EXPECT_EQ(env.state(job), JobState::starting);
  const AttemptKey second = env.key_of(job);
  EXPECT_EQ(second.epoch, Epoch(2));
  EXPECT_EQ(env.nodes_of(second), (std::vector{b, c})) << "a has failed this job";
  EXPECT_EQ(env.take<protocol::Prepare>(b).resume_path, "/ckpt/step-40");
  const auto& attempts = env.rows.attempts;
  const auto ended =
      std::ranges::find_if(attempts, [](const AttemptRow& r) { return r.state == AttemptState::ended; });
  ASSERT_NE(ended, attempts.end());
  EXPECT_EQ(ended->cause, Cause::gpu);
  EXPECT_NE(ended->evidence_json.find("\"xid\":79"), std::string::npos);
  EXPECT_EQ(to_seconds(ended->stopping_at - ended->fault_at), 0.1);
  (void)d;
}

TEST_F(ControlPlaneNodes, SympatheticXidKillsNobody) {
  const NodeId a = env.add_node("a");
  const JobId job = env.submit(job_spec(1, 4));
  env.run(job);
  for (int xid : {45, 154, 13, 31, 63, 4711}) {
    env.plane->on_gpu_fault(env.now, a, {.uuid = "GPU-a-0", .kind = "xid", .xid = xid, .detail = ""});
    env.step();
    EXPECT_EQ(env.state(job), JobState::running) << xid;
  }
  EXPECT_EQ(env.rows.faults.size(), 6u) << "recorded all the same";
}

TEST_F(ControlPlaneNodes, RankDyingOfAnXidIsBlamedOnTheGpu) {
  const NodeId a = env.add_node("a");
  const JobId job = env.submit(job_spec(1, 4));
  const AttemptKey key = env.run(job);
  env.fail(a, key, 1, 1);
  env.plane->on_gpu_fault(env.now, a, {.uuid = "GPU-a-1", .kind = "xid", .xid = 79, .detail = ""});
  env.step();
  env.end(a, key, false);
  EXPECT_EQ(env.state(job), JobState::starting) << "three healthy GPUs are not enough, but a has eight";
  EXPECT_EQ(env.plane->find_job(job)->row.cause, Cause::gpu);
}

TEST_F(ControlPlaneNodes, SilentNodeIsFirstSuspectedAndReplacedOnlyAfterLeaseAndMargin) {
  const NodeId a = env.add_node("a");
  const JobId job = env.submit(job_spec(1, 8));
  const AttemptKey key = env.run(job);
  env.add_node("b");
  env.drop_messages();
  env.silent.insert(a);
  env.tick_alive(7s);
  EXPECT_EQ(env.plane->cluster().find(a)->row.state, NodeState::unreachable);
  EXPECT_EQ(env.state(job), JobState::running) << "suspicion kills nothing";
  env.tick_alive(1s);
  EXPECT_EQ(env.plane->cluster().find(a)->row.state, NodeState::dead);
  const AttemptKey second = env.key_of(job);
  EXPECT_NE(second, key);
  EXPECT_EQ(env.state(job), JobState::starting);
  EXPECT_FALSE(env.leases.renew(a, env.now.mono)) << "a dead node gets no acknowledgement";
}

TEST_F(ControlPlaneNodes, OneTransactionClosesTheNodeAndEndsItsAttempts) {
  const NodeId a = env.add_node("a");
  env.add_node("b", 1);
  std::vector<JobId> jobs;
  for (int i = 0; i < 8; ++i) jobs.push_back(env.submit(job_spec(1, 1)));
  for (JobId j : jobs) env.run(j);
  std::vector<JobId> behind;
  for (int i = 0; i < 10; ++i) behind.push_back(env.submit(job_spec(1, 1)));
  env.silent.insert(a);
  env.tick_alive(7s);
  env.rows = {};
  env.tick_alive(500ms);
  std::size_t ended = 0;
  for (const auto& r : env.rows.attempts) ended += r.state == AttemptState::ended;
  EXPECT_GE(ended, 7u);
  ASSERT_FALSE(env.rows.nodes.empty());
  EXPECT_EQ(env.rows.nodes[0].state, NodeState::dead);
  for (const auto& r : env.rows.attempts)
    if (r.state == AttemptState::placed)
      for (const auto& m : r.gang) EXPECT_NE(m.node, a) << "something was started on the dead node";
}

TEST_F(ControlPlaneNodes, SurvivingNodesOfAGangAreStoppedWhenOneIsLost) {
  const NodeId a = env.add_node("a"), b = env.add_node("b");
  env.add_node("c");
  const JobId job = env.submit(job_spec(2, 8));
  const AttemptKey key = env.run(job);
  ASSERT_EQ(env.nodes_of(key), (std::vector{a, b}));
  env.silent.insert(a);
  env.tick_alive(8s);
  EXPECT_EQ(env.state(job), JobState::stopping);
  EXPECT_EQ(env.take<protocol::Stop>(b).cause, "node_lost");
  env.end(b, key, false);
  EXPECT_EQ(env.state(job), JobState::starting);
}

TEST_F(ControlPlaneNodes, ReturningNodeKeepsNoGangOfAFormerEpoch) {
  const NodeId a = env.add_node("a");
  const JobId job = env.submit(job_spec(1, 8));
  const AttemptKey old = env.run(job);
  env.silent.insert(a);
  env.tick_alive(8s);
  env.silent.clear();
  env.drop_messages();
  auto hello = env.hello("a");
  protocol::AttemptStatus running;
  running.key = old;
  running.phase = Phase::running;
  hello.attempts.push_back(running);
  env.register_node(hello);
  EXPECT_EQ(env.take<protocol::Stop>(a).key, old);
  env.plan();
  EXPECT_EQ(env.state(job), JobState::queued) << "its old ranks are not proven dead yet";
  env.end(a, old, false);
  EXPECT_EQ(env.take<protocol::Forget>(a).key, old);
  EXPECT_EQ(env.state(job), JobState::starting);
}

TEST_F(ControlPlaneNodes, RebootProvesDeathAtOnce) {
  const NodeId a = env.add_node("a");
  const JobId job = env.submit(job_spec(1, 8));
  env.run(job);
  auto hello = env.hello("a");
  hello.boot_id = "boot-2";
  env.register_node(hello);
  env.plan();
  EXPECT_EQ(env.state(job), JobState::starting);
  EXPECT_EQ(env.key_of(job).epoch, Epoch(2));
  EXPECT_EQ(env.plane->find_job(job)->row.cause, Cause::node_lost);
  (void)a;
}

TEST_F(ControlPlaneNodes, ReconnectDisturbsNothingAndRepeatsWhatIsMissing) {
  const NodeId a = env.add_node("a"), b = env.add_node("b");
  const JobId job = env.submit(job_spec(2, 8));
  const AttemptKey key = env.key_of(job);
  env.drop_messages();  // Prepare to both is lost
  auto hello = env.hello("a");
  EXPECT_EQ(env.register_node(hello), a);
  EXPECT_EQ(env.take<protocol::Prepare>(a).key, key);
  protocol::AttemptStatus s;
  s.key = key;
  s.phase = Phase::ready;
  hello = env.hello("b");
  hello.attempts.push_back(s);
  env.register_node(hello);
  env.status(a, key, Phase::ready);
  EXPECT_EQ(env.count<protocol::Launch>(), 2u);
  env.drop_messages();  // Launch is lost
  hello = env.hello("a");
  hello.attempts.push_back(s);
  env.register_node(hello);
  EXPECT_EQ(env.take<protocol::Launch>(a).key, key);
  (void)b;
}

// The fault itself was told while the store was away, and is never said again.
TEST_F(ControlPlaneNodes, AGpuThatIsSaidToBeBrokenStopsItsGang) {
  const NodeId a = env.add_node("a");
  const JobId job = env.submit(job_spec(1, 4));
  const AttemptKey key = env.run(job);
  auto hello = env.hello("a");
  hello.gpus[2].healthy = false;
  hello.gpus[2].health_reason = "Xid 79: gone";
  protocol::AttemptStatus running;
  running.key = key;
  running.phase = Phase::running;
  hello.attempts.push_back(running);
  env.register_node(hello);
  EXPECT_EQ(env.state(job), JobState::stopping);
  env.end(a, key, false);
  EXPECT_EQ(env.plane->find_job(job)->row.cause, Cause::gpu);
  env.drop_messages();
  hello.gpus[2].healthy = true;  // after its reset the worker says so, and nobody has to vouch for it
  hello.attempts.clear();
  env.register_node(hello);
  EXPECT_TRUE(env.plane->cluster().find_gpu("GPU-a-2")->usable());
}

TEST_F(ControlPlaneNodes, OneCardIsNeverOfferedByTwoNodes) {
  env.add_node("a");
  auto twin = env.hello("b");
  for (int i = 0; i < 8; ++i) twin.gpus[static_cast<std::size_t>(i)].uuid = "GPU-a-" + std::to_string(i);
  env.register_node(twin);
  const JobId job = env.submit(job_spec(2, 1));
  EXPECT_EQ(env.state(job), JobState::queued) << "b has no card of its own";
}

TEST_F(ControlPlaneNodes, AWorkerWithoutRecordsProvesNothingBeforeTheLeaseIsOver) {
  const NodeId a = env.add_node("a");
  const JobId job = env.submit(job_spec(1, 8));
  const AttemptKey key = env.run(job);
  env.register_node(env.hello("a"));  // the same boot, another state directory
  EXPECT_EQ(env.state(job), JobState::stopping);
  env.end(a, key, false);  // "never started", says who knows nothing
  env.tick_alive(7s);
  EXPECT_EQ(env.state(job), JobState::stopping);
  env.tick_alive(1s);
  EXPECT_EQ(env.state(job), JobState::starting);
}

}  // namespace
}  // namespace tutti::testing
