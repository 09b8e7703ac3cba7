// The life of jobs and attempts, step by step, in virtual time.
#include <algorithm>

#include "tests/unit/control_plane_rig.h"

namespace tutti::testing {
namespace {

using protocol::Phase;

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

TEST_F(ControlPlaneTest, ASignalGoesToEveryNodeOfARunningGangAndChangesNothing) {
  const NodeId a = env.add_node("a"), b = env.add_node("b");
  const JobId job = env.submit(job_spec(2, 8));
  const AttemptKey key = env.run(job);
  env.rows = {};
  ASSERT_TRUE(env.plane->on_signal(env.now, job, "USR1", "ada: save now"));
  env.step();
  for (const NodeId node : {a, b}) {
    const auto sent = env.take<protocol::SignalRanks>(node);
    EXPECT_EQ(sent.key, key);
    EXPECT_EQ(sent.signal, "USR1");
  }
  env.expect_nothing_left();
  EXPECT_EQ(env.state(job), JobState::running);
  ASSERT_EQ(env.rows.events.size(), 1u);
  EXPECT_EQ(env.rows.events[0].kind, "signal");
  EXPECT_EQ(env.rows.events[0].to, "USR1");
  EXPECT_EQ(env.rows.events[0].detail, "by ada: save now; sent to a, b");
}

TEST_F(ControlPlaneTest, ASignalIsNotForThosePartsThatHaveEnded) {
  const NodeId a = env.add_node("a"), b = env.add_node("b");
  const JobId job = env.submit(job_spec(2, 8));
  const AttemptKey key = env.run(job);
  env.end(a, key, true);
  env.rows = {};
  ASSERT_TRUE(env.plane->on_signal(env.now, job, "USR1", "ada"));
  env.step();
  EXPECT_EQ(env.take<protocol::SignalRanks>(b).key, key);
  EXPECT_EQ(env.count<protocol::SignalRanks>(), 0u);
  ASSERT_FALSE(env.rows.events.empty());
  EXPECT_EQ(env.rows.events[0].detail, "by ada; sent to b") << "who asks sees that it was one of two";
}

TEST_F(ControlPlaneTest, ASignalIsForWhatRunsOnNodesThatHearIt) {
  const NodeId a = env.add_node("a");
  env.add_node("b");
  const JobId job = env.submit(job_spec(2, 8));
  EXPECT_EQ(env.plane->on_signal(env.now, job, "USR1", "ada").error().code, Errc::illegal_transition);
  env.run(job);
  env.plane->on_link_lost(env.now, a, env.plane->cluster().nodes.at(a).link);
  env.step();
  const auto deaf = env.plane->on_signal(env.now, job, "USR1", "ada");
  ASSERT_FALSE(deaf);
  EXPECT_EQ(deaf.error().code, Errc::unavailable);
  EXPECT_NE(deaf.error().message.find("node a"), std::string::npos) << deaf.error().message;
  ASSERT_TRUE(env.plane->on_cancel(env.now, job, "ada"));
  EXPECT_EQ(env.plane->on_signal(env.now, job, "USR1", "ada").error().code, Errc::illegal_transition);
  EXPECT_EQ(env.plane->on_signal(env.now, JobId(99), "USR1", "ada").error().code, Errc::not_found);
  env.step();
  EXPECT_EQ(env.count<protocol::SignalRanks>(), 0u);
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

TEST_F(ControlPlaneTest, ACheckpointOfNonsenseIsNone) {
  const NodeId a = env.add_node("a");
  const AttemptKey key = env.run(env.submit(job_spec(1, 4)));
  env.plane->on_checkpoint(env.now, a, {.key = key, .epoch_in_file = 1, .step = -1, .path = "/x"});
  env.plane->on_checkpoint(env.now, a, {.key = key, .epoch_in_file = 1, .step = 3, .path = ""});
  env.step();
  EXPECT_TRUE(env.rows.checkpoints.empty());
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
