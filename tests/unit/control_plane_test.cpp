// The life of jobs and attempts, step by step, in virtual time.
#include <algorithm>

#include "tests/support/test_env.h"

namespace tutti::testing {
namespace {

using protocol::Phase;

struct ControlPlaneTest : ::testing::Test {
  TestEnv env;
};

TEST_F(ControlPlaneTest, GangRunsFromSubmissionToSuccess) {
  const NodeId a = env.add_node("a"), b = env.add_node("b");
  const JobId job = env.submit(job_spec(2, 4));
  EXPECT_EQ(env.state(job), JobState::starting);
  const auto pa = env.take<protocol::Prepare>(a), pb = env.take<protocol::Prepare>(b);
  EXPECT_EQ(pa.gang.size(), 2u);
  EXPECT_EQ(pa.gpu_uuids.size(), 4u);
  EXPECT_EQ(pb.gang[1].first_rank, 4);
  env.expect_nothing_left();
  const AttemptKey key = env.key_of(job);
  EXPECT_EQ(key.epoch, Epoch(1));
  env.status(a, key, Phase::preparing);
  env.status(a, key, Phase::ready);
  env.expect_nothing_left();
  env.status(b, key, Phase::ready);
  const auto la = env.take<protocol::Launch>(a);
  EXPECT_EQ(la.endpoints.size(), 2u);
  EXPECT_EQ(la.master_port, 4000);
  env.take<protocol::Launch>(b);
  env.status(a, key, Phase::running);
  EXPECT_EQ(env.state(job), JobState::starting) << "not all ranks are up";
  env.status(b, key, Phase::running);
  EXPECT_EQ(env.state(job), JobState::running);
  env.end(a, key, true);
  EXPECT_EQ(env.state(job), JobState::running);
  env.end(b, key, true);
  EXPECT_EQ(env.state(job), JobState::succeeded);
  env.take<protocol::Forget>(a);
  env.take<protocol::Forget>(b);
  env.expect_nothing_left();
  EXPECT_EQ(env.rows.opened.size(), 8u);
  EXPECT_EQ(env.rows.closed.size(), 8u);
  EXPECT_EQ(env.rows.attempts.back().result, AttemptResult::succeeded);
}

TEST_F(ControlPlaneTest, EveryTransitionHasItsHistoryRow) {
  const NodeId a = env.add_node("a");
  const JobId job = env.submit(job_spec(1, 1));
  const AttemptKey key = env.run(job);
  env.end(a, key, true);
  std::vector<std::string> path;
  for (const auto& e : env.rows.events)
    if (e.job == job && e.kind == "state") path.push_back(e.from + ">" + e.to);
  EXPECT_EQ(path, (std::vector<std::string>{">queued", "queued>starting", "starting>running",
                                            "running>succeeded"}));
  for (std::size_t i = 1; i < env.rows.events.size(); ++i)
    EXPECT_LT(env.rows.events[i - 1].id, env.rows.events[i].id);
}

TEST_F(ControlPlaneTest, FailingRankStopsTheWholeGangAndFailsFast) {
  const NodeId a = env.add_node("a"), b = env.add_node("b");
  const JobId job = env.submit(job_spec(2, 8));
  const AttemptKey key = env.run(job);
  env.fail(a, key, 3, 7);
  EXPECT_EQ(env.state(job), JobState::stopping);
  EXPECT_EQ(env.take<protocol::Stop>(b).signal, "KILL");
  env.end(a, key, false);
  EXPECT_EQ(env.state(job), JobState::stopping) << "b has not proven its ranks dead";
  env.end(b, key, false);
  EXPECT_EQ(env.state(job), JobState::failed);
  EXPECT_EQ(env.rows.done.back().row.exit_code, 7);
  EXPECT_EQ(env.rows.attempts.back().cause, Cause::user);
}

TEST_F(ControlPlaneTest, NothingIsPlacedOnGpusBeforeTheKillIsProven) {
  const NodeId a = env.add_node("a");
  const JobId first = env.submit(job_spec(1, 8));
  const AttemptKey key = env.run(first);
  const JobId second = env.submit(job_spec(1, 8));
  env.fail(a, key, 0, 1);
  EXPECT_EQ(env.state(second), JobState::queued);
  env.end(a, key, false);
  EXPECT_EQ(env.state(second), JobState::starting);
}

TEST_F(ControlPlaneTest, UnprovenKillLeavesTheGpusDirty) {
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

// A node that was cordoned for another reason and then resumed gave a GPU away under a rank stuck in the
// kernel.
TEST_F(ControlPlaneTest, PersonCannotVouchForAGpuWhileTheWorkerSeesAProcessOnIt) {
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
TEST_F(ControlPlaneTest, PortsToldAgainAreStored) {
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
TEST_F(ControlPlaneTest, UnprovenEndIsNotForgottenAndItsLateProofCleansTheGpus) {
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

TEST_F(ControlPlaneTest, FatalXidKillsTheGangAndRestartsItElsewhereFromTheCheckpoint) {
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

TEST_F(ControlPlaneTest, SympatheticXidKillsNobody) {
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

TEST_F(ControlPlaneTest, RankDyingOfAnXidIsBlamedOnTheGpu) {
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

TEST_F(ControlPlaneTest, SilentNodeIsFirstSuspectedAndReplacedOnlyAfterLeaseAndMargin) {
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

TEST_F(ControlPlaneTest, OneTransactionClosesTheNodeAndEndsItsAttempts) {
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

TEST_F(ControlPlaneTest, SurvivingNodesOfAGangAreStoppedWhenOneIsLost) {
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

TEST_F(ControlPlaneTest, ReturningNodeKeepsNoGangOfAFormerEpoch) {
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

TEST_F(ControlPlaneTest, RebootProvesDeathAtOnce) {
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

TEST_F(ControlPlaneTest, ReconnectDisturbsNothingAndRepeatsWhatIsMissing) {
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

TEST_F(ControlPlaneTest, LateAndRepeatedMessagesChangeNothing) {
  const NodeId a = env.add_node("a");
  const JobId job = env.submit(job_spec(1, 4));
  const AttemptKey key = env.run(job);
  env.rows = {};
  env.status(a, key, Phase::preparing);
  env.status(a, key, Phase::ready);
  EXPECT_EQ(env.state(job), JobState::running);
  EXPECT_TRUE(env.rows.empty());
  env.expect_nothing_left();
  env.status(a, {job, Epoch(99)}, Phase::running);
  EXPECT_EQ(env.take<protocol::Stop>(a).key.epoch, Epoch(99)) << "an epoch nobody knows is stopped";
}

TEST_F(ControlPlaneTest, CheckpointOfAFencedEpochDoesNotExist) {
  const NodeId a = env.add_node("a");
  const JobId job = env.submit(job_spec(1, 4));
  const AttemptKey key = env.run(job);
  env.plane->on_checkpoint(env.now, a, {.key = {job, Epoch(7)}, .epoch_in_file = 7, .step = 9, .path = "/x"});
  env.plane->on_checkpoint(env.now, a, {.key = key, .epoch_in_file = 3, .step = 9, .path = "/y"});
  env.step();
  EXPECT_TRUE(env.rows.checkpoints.empty());
  env.plane->on_checkpoint(env.now, a, {.key = key, .epoch_in_file = 1, .step = 9, .path = "/z"});
  env.plane->on_checkpoint(env.now, a, {.key = key, .epoch_in_file = 1, .step = 9, .path = "/z"});
  env.step();
  EXPECT_EQ(env.rows.checkpoints.size(), 1u);
  EXPECT_EQ(env.plane->find_attempt(key)->row.last_step, 9) << "no work before a checkpoint is lost work";
}

TEST_F(ControlPlaneTest, CancelOfARunningJobEndsItsAttemptFirst) {
  const NodeId a = env.add_node("a");
  const JobId job = env.submit(job_spec(1, 4));
  const AttemptKey key = env.run(job);
  ASSERT_TRUE(env.plane->on_cancel(env.now, job, "ada"));
  env.step();
  EXPECT_EQ(env.state(job), JobState::stopping);
  const auto stop = env.take<protocol::Stop>(a);
  EXPECT_EQ(stop.signal, "TERM");
  EXPECT_EQ(stop.grace_us, 30'000'000);
  env.end(a, key, false);
  EXPECT_EQ(env.state(job), JobState::cancelled);
  EXPECT_FALSE(env.plane->on_cancel(env.now, job, "ada"));
}

TEST_F(ControlPlaneTest, CancelOutranksARetryThatIsUnderWay) {
  const NodeId a = env.add_node("a");
  const JobId job = env.submit(job_spec(1, 4));
  const AttemptKey key = env.run(job);
  env.plane->on_gpu_fault(env.now, a, {.uuid = "GPU-a-0", .kind = "xid", .xid = 79, .detail = ""});
  env.step();
  ASSERT_TRUE(env.plane->on_cancel(env.now, job, "ada"));
  env.end(a, key, false);
  EXPECT_EQ(env.state(job), JobState::cancelled);
}

TEST_F(ControlPlaneTest, HeldJobsWaitForAPersonAndReleaseClearsTheBudgets) {
  env.add_node("a");
  JobSpec spec = job_spec(1, 1);
  const JobId job = env.try_submit(spec).value().id;
  ASSERT_TRUE(env.plane->on_hold(env.now, job, "wait for data"));
  env.plan();
  EXPECT_EQ(env.state(job), JobState::held);
  EXPECT_EQ(env.plane->explain(job, env.now).reasons.at(0).text, "held: wait for data");
  ASSERT_TRUE(env.plane->on_release(env.now, job));
  env.plan();
  EXPECT_EQ(env.state(job), JobState::starting);
  EXPECT_FALSE(env.plane->on_release(env.now, job));
}

TEST_F(ControlPlaneTest, ExitCode85RestartsWithoutCharge) {
  const NodeId a = env.add_node("a");
  const JobId job = env.submit(job_spec(1, 4));
  const AttemptKey key = env.run(job);
  env.fail(a, key, 0, 85);
  EXPECT_GT(env.take<protocol::Stop>(a).grace_us, 0);
  env.end(a, key, false);
  EXPECT_EQ(env.state(job), JobState::starting);
  EXPECT_EQ(env.plane->find_job(job)->row.spent, (std::array<std::int16_t, kCauseCount>{}));
}

TEST_F(ControlPlaneTest, TimeLimitAsksThenFails) {
  const NodeId a = env.add_node("a");
  JobSpec spec = job_spec(1, 4);
  spec.time_limit = 10s;
  const JobId job = env.submit(spec);
  const AttemptKey key = env.run(job);
  env.tick_alive(9s);
  EXPECT_EQ(env.state(job), JobState::running);
  env.tick_alive(2s);
  EXPECT_EQ(env.take<protocol::Stop>(a).signal, "TERM");
  env.end(a, key, false);
  EXPECT_EQ(env.state(job), JobState::failed);
}

TEST_F(ControlPlaneTest, BeginTimeKeepsAJobInTheDelayHeap) {
  env.add_node("a");
  JobSpec spec = job_spec(1, 1);
  spec.begin_time = env.now.wall + 5s;
  const JobId job = env.submit(spec);
  EXPECT_EQ(env.state(job), JobState::delayed);
  env.tick_alive(4500ms);
  EXPECT_EQ(env.state(job), JobState::delayed);
  env.tick_alive(500ms);
  EXPECT_EQ(env.state(job), JobState::starting);
}

TEST_F(ControlPlaneTest, IdempotencyKeyYieldsOneJob) {
  const auto first = env.try_submit(job_spec(), "k", 1).value();
  const auto again = env.try_submit(job_spec(), "k", 1).value();
  EXPECT_EQ(first.id, again.id);
  EXPECT_TRUE(again.replayed);
  EXPECT_EQ(env.try_submit(job_spec(), "k", 2).error().code, Errc::idempotency_mismatch);
  EXPECT_EQ(env.rows.new_specs.size(), 1u);
}

TEST_F(ControlPlaneTest, UnknownQueueIsRefusedWithTheNearestName) {
  JobSpec spec = job_spec();
  spec.queue = "defualt";
  const auto r = env.try_submit(spec);
  ASSERT_FALSE(r);
  EXPECT_EQ(r.error().field, "queue");
  EXPECT_EQ(r.error().hint, "did you mean 'default'?");
}

TEST_F(ControlPlaneTest, ExplainNamesEveryReasonWithNumbers) {
  env.add_node("a");
  env.add_node("b");
  const JobId big = env.submit(job_spec(1, 8));
  (void)big;
  env.add_node("c");
  ASSERT_TRUE(env.plane->on_node_service(env.now, "c", NodeService::draining, "fan"));
  const JobId job = env.submit(job_spec(3, 8));
  const Explanation e = env.plane->explain(job, env.now);
  EXPECT_EQ(e.position, 0u);
  EXPECT_FALSE(e.never);
  std::map<std::string, std::int64_t> have;
  for (const auto& r : e.reasons) have[r.code] = r.have;
  EXPECT_EQ(have,
            (std::map<std::string, std::int64_t>{{"nodes", 1}, {"gpus_busy", 1}, {"not_schedulable", 1}}));
  const JobId never = env.submit(job_spec(1, 16));
  const Explanation n = env.plane->explain(never, env.now);
  EXPECT_TRUE(n.never);
  EXPECT_NE(n.reasons.at(0).text.find("the largest has 8"), std::string::npos) << n.reasons.at(0).text;
}

TEST_F(ControlPlaneTest, OldHeadIsNotStarvedBySmallerJobs) {
  const NodeId a = env.add_node("a");
  const JobId small = env.submit(job_spec(1, 4));
  const AttemptKey key = env.run(small);
  const JobId head = env.submit(job_spec(1, 8));
  const JobId passes = env.submit(job_spec(1, 1));
  EXPECT_EQ(env.state(passes), JobState::starting) << "a smaller job may pass at first";
  env.tick_alive(11min, 2s);
  const JobId late = env.submit(job_spec(1, 1));
  EXPECT_EQ(env.state(late), JobState::queued) << "the head has waited too long";
  const auto why = env.plane->explain(late, env.now).reasons;
  const auto guarded = std::ranges::find(why, "guarded", &Reason::code);
  ASSERT_NE(guarded, why.end()) << "a job that would fit must be told why it waits";
  EXPECT_EQ(guarded->text.substr(0, 6), "job " + to_string(head) + " ");
  env.end(a, key, true);
  EXPECT_EQ(env.state(head), JobState::queued);
  env.end(a, env.key_of(passes), true);
  EXPECT_EQ(env.state(head), JobState::starting);
}

TEST_F(ControlPlaneTest, AJobThatCanNeverRunHoldsBackNobody) {
  env.add_node("a");
  JobSpec spec = job_spec(1, 8);
  spec.resources.gpu_model = "A100";
  const JobId never = env.submit(spec);
  const JobId wide = env.submit(job_spec(5, 8));
  env.tick_alive(11min, 2s);
  const JobId late = env.submit(job_spec(1, 1));
  EXPECT_EQ(env.state(late), JobState::starting);
  EXPECT_EQ(env.state(never), JobState::queued);
  EXPECT_EQ(env.state(wide), JobState::queued);
}

TEST_F(ControlPlaneTest, ACheckpointOfNonsenseIsNone) {
  const NodeId a = env.add_node("a");
  const AttemptKey key = env.run(env.submit(job_spec(1, 4)));
  env.plane->on_checkpoint(env.now, a, {.key = key, .epoch_in_file = 1, .step = -1, .path = "/x"});
  env.plane->on_checkpoint(env.now, a, {.key = key, .epoch_in_file = 1, .step = 3, .path = ""});
  env.step();
  EXPECT_TRUE(env.rows.checkpoints.empty());
}

// The fault itself was told while the store was away, and is never said again.
TEST_F(ControlPlaneTest, AGpuThatIsSaidToBeBrokenStopsItsGang) {
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

TEST_F(ControlPlaneTest, OneCardIsNeverOfferedByTwoNodes) {
  env.add_node("a");
  auto twin = env.hello("b");
  for (int i = 0; i < 8; ++i) twin.gpus[static_cast<std::size_t>(i)].uuid = "GPU-a-" + std::to_string(i);
  env.register_node(twin);
  const JobId job = env.submit(job_spec(2, 1));
  EXPECT_EQ(env.state(job), JobState::queued) << "b has no card of its own";
}

TEST_F(ControlPlaneTest, AWorkerWithoutRecordsProvesNothingBeforeTheLeaseIsOver) {
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

TEST_F(ControlPlaneTest, ExitZeroAfterAPlannedStopIsAnObeyedOrderNotSuccess) {
  const NodeId a = env.add_node("a");
  const JobId again = env.submit(job_spec(1, 8));
  AttemptKey key = env.run(again);
  ASSERT_TRUE(env.plane->on_requeue(env.now, again, "ada"));
  env.step();
  env.end(a, key, true);
  EXPECT_NE(env.state(again), JobState::succeeded);
  const auto ended = std::ranges::find(env.rows.attempts, AttemptState::ended, &AttemptRow::state);
  ASSERT_NE(ended, env.rows.attempts.end());
  EXPECT_EQ(ended->result, AttemptResult::stopped);
  EXPECT_EQ(ended->cause, Cause::requeued);
  key = env.run(again);
  EXPECT_EQ(key.epoch, Epoch(2)) << "it runs again";
  ASSERT_TRUE(env.plane->on_cancel(env.now, again, "ada"));
  env.step();
  env.end(a, key, true);
  EXPECT_EQ(env.state(again), JobState::cancelled);

  // After a fault nobody was asked to stop: who exited 0 before the blow fell has finished.
  const JobId done = env.submit(job_spec(1, 8));
  key = env.run(done);
  protocol::GpuFault fault;
  fault.uuid = "GPU-a-0";
  fault.kind = "xid";
  fault.xid = 79;
  env.plane->on_gpu_fault(env.now, a, fault);
  env.step();
  env.end(a, key, true);
  EXPECT_EQ(env.state(done), JobState::succeeded);
}

TEST_F(ControlPlaneTest, NodeThatCannotStartAJobIsNotItsNextChoice) {
  env.add_node("a"), env.add_node("b");
  const JobId job = env.submit(job_spec(1, 8));
  const NodeId first = env.nodes_of(env.key_of(job)).front();
  protocol::AttemptStatus s;
  s.key = env.key_of(job);
  s.phase = Phase::ended;
  s.failure = protocol::Failure{};
  s.failure->kind = "launch";
  s.failure->detail = "no such directory: \"/data\"";
  s.failure->last_lines = "line one\nline two";
  s.end = protocol::End{.ok = false, .proven = true, .how = "never started"};
  env.say(first, s);
  EXPECT_EQ(env.rows.attempts.back().cause, Cause::launch);
  EXPECT_NE(env.rows.attempts.back().evidence_json.find(R"("last_lines":"line one\u000aline two")"),
            std::string::npos)
      << env.rows.attempts.back().evidence_json;
  env.tick_alive(1min);
  ASSERT_EQ(env.state(job), JobState::starting);
  EXPECT_NE(env.nodes_of(env.key_of(job)).front(), first);
}

TEST(ControlPlaneKeys, OnlyTheNewestAreRemembered) {
  ControlSettings settings;
  settings.max_keys = 2;
  TestEnv env(settings);
  const auto submitted = [&](const char* key) { return env.try_submit(job_spec(), key, 1).value(); };
  const JobId first = submitted("one").id;
  submitted("two");
  EXPECT_EQ(submitted("one").id, first);
  submitted("three");
  EXPECT_TRUE(submitted("three").replayed);
  EXPECT_TRUE(submitted("two").replayed);
  EXPECT_FALSE(submitted("one").replayed) << "the oldest has gone";
}

TEST_F(ControlPlaneTest, ScriptLauncherTellsIdleNodesWhenTheWorkIsDone) {
  const NodeId a = env.add_node("a"), b = env.add_node("b");
  JobSpec spec = job_spec(2, 8);
  spec.launcher = Launcher::script;
  const JobId job = env.submit(spec);
  const AttemptKey key = env.run(job);
  env.end(a, key, true);
  EXPECT_EQ(env.take<protocol::Stop>(b).cause, "done");
  env.end(b, key, false);
  EXPECT_EQ(env.state(job), JobState::succeeded);
}

}  // namespace
}  // namespace tutti::testing
