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

TEST_F(ControlPlaneTest, TheHeadIsPromisedAStartThatSmallerJobsKeepFree) {
  const NodeId a = env.add_node("a");
  JobSpec spec = job_spec(1, 4);
  spec.time_limit = 1h;
  const JobId small = env.submit(spec);
  const AttemptKey key = env.run(small);
  spec.resources.gpus = 8;
  const JobId head = env.submit(spec);
  spec.resources.gpus = 1;
  spec.time_limit = 30min;
  const JobId passes = env.submit(spec);
  EXPECT_EQ(env.state(passes), JobState::starting) << "it will be gone by then";
  spec.time_limit = 4h;
  const JobId late = env.submit(spec);
  EXPECT_EQ(env.state(late), JobState::queued) << "it would delay the head";
  const auto why = env.plane->explain(late, env.now, true);
  const auto backfill = std::ranges::find(why.reasons, "backfill", &Reason::code);
  ASSERT_NE(backfill, why.reasons.end()) << "a job that would fit must be told why it waits";
  EXPECT_EQ(backfill->text.substr(0, 6), "job " + to_string(head) + " ");
  ASSERT_EQ(why.blockers.size(), 1u);
  EXPECT_EQ(why.blockers[0].job, head);
  const auto shorter = std::ranges::find(why.would_help, "time_limit", &Explanation::Change::field);
  ASSERT_NE(shorter, why.would_help.end());
  EXPECT_EQ(shorter->to, "2h");
  const auto head_why = env.plane->explain(head, env.now, true);
  EXPECT_EQ(head_why.blockers.size(), 2u) << "both that run";
  env.end(a, key, true);
  EXPECT_EQ(env.state(head), JobState::queued);
  env.end(a, env.key_of(passes), true);
  EXPECT_EQ(env.state(head), JobState::starting);
}

TEST_F(ControlPlaneTest, AScavengerGivesWayAndTheCauseIsRecordedFirst) {
  const NodeId a = env.add_node("a");
  JobSpec spec = job_spec(1, 8);
  spec.priority = 5;
  const JobId scavenger = env.submit(spec);
  const AttemptKey key = env.run(scavenger);
  spec.priority = 50;
  const JobId normal = env.submit(spec);
  EXPECT_EQ(env.state(scavenger), JobState::stopping);
  EXPECT_EQ(env.take<protocol::Stop>(a).signal, "TERM");
  EXPECT_EQ(env.plane->find_attempt(key)->row.cause, Cause::preempted);
  EXPECT_EQ(env.plane->find_attempt(key)->row.detail,
            "makes way for job " + to_string(normal) + ", which is of a higher band");
  env.end(a, key, true);
  EXPECT_EQ(env.state(normal), JobState::starting);
  EXPECT_EQ(env.state(scavenger), JobState::queued);
}

TEST_F(ControlPlaneTest, AVictimThatSavesCheckpointsIsStoppedAfterItsNextOne) {
  const NodeId a = env.add_node("a");
  JobSpec spec = job_spec(1, 8);
  spec.priority = 5;
  const JobId scavenger = env.submit(spec);
  const AttemptKey key = env.run(scavenger);
  const auto save = [&](std::int64_t step) {
    env.plane->on_checkpoint(
        env.now, a, {.key = key, .epoch_in_file = 1, .step = step, .path = "/c" + std::to_string(step)});
    env.step();
  };
  save(1);
  spec.priority = 50;
  const JobId normal = env.submit(spec);
  EXPECT_EQ(env.state(scavenger), JobState::running) << "it is given a while";
  env.tick_alive(30s);
  EXPECT_EQ(env.state(scavenger), JobState::running);
  save(2);
  EXPECT_EQ(env.state(scavenger), JobState::stopping);
  env.end(a, key, true);
  EXPECT_EQ(env.state(normal), JobState::starting);
}

TEST_F(ControlPlaneTest, WhatIfAnswersForAJobThatDoesNotExistAndChangesNothing) {
  env.add_node("a");
  env.add_node("b");
  JobSpec spec = job_spec(1, 8);
  spec.time_limit = 2h;
  const JobId runs = env.submit(spec);
  env.run(runs);
  const auto fits = env.plane->simulate(spec, "ada", env.now);
  ASSERT_TRUE(fits);
  EXPECT_TRUE(fits->starts_now);
  EXPECT_EQ(fits->nodes, std::vector<std::string>{"b"});
  spec.nodes = 2;
  const auto waits = env.plane->simulate(spec, "ada", env.now);
  ASSERT_TRUE(waits);
  EXPECT_FALSE(waits->starts_now);
  ASSERT_EQ(waits->why.blockers.size(), 1u);
  EXPECT_EQ(waits->why.blockers[0].job, runs);
  ASSERT_TRUE(waits->eta);
  EXPECT_GT(waits->eta->at, env.now.wall);
  EXPECT_LE(waits->eta->from, waits->eta->at);
  EXPECT_GE(waits->eta->to, waits->eta->at);
  spec.nodes = 3;
  EXPECT_TRUE(env.plane->simulate(spec, "ada", env.now)->why.never);
  spec.queue = "nowhere";
  EXPECT_EQ(env.plane->simulate(spec, "ada", env.now).error().field, "queue");
  EXPECT_EQ(env.plane->jobs().size(), 1u);
  EXPECT_EQ(env.plane->planner().waiting(), 0u);
}

TEST_F(ControlPlaneTest, WhatIfSaysWhoWouldWaitLongerForAHigherPriority) {
  env.add_node("a");
  JobSpec spec = job_spec(1, 8);
  spec.time_limit = 2h;
  const JobId runs = env.submit(spec);
  env.run(runs);
  const JobId first = env.submit(spec);
  env.tick_alive(2s);
  const JobId second = env.submit(spec);
  const auto same = env.plane->simulate_change(second, {.priority = 50}, env.now);
  ASSERT_TRUE(same);
  EXPECT_TRUE(same->others.empty());
  EXPECT_EQ(same->why.position, 1u);
  const auto higher = env.plane->simulate_change(second, {.priority = 80}, env.now);
  ASSERT_TRUE(higher);
  EXPECT_EQ(higher->why.position, 0u);
  ASSERT_EQ(higher->others.size(), 1u);
  EXPECT_EQ(higher->others[0].job, first);
  EXPECT_GT(higher->others[0].after, higher->others[0].before);
  EXPECT_EQ(env.plane->find_job(second)->row.priority, 50);
  EXPECT_FALSE(env.plane->simulate_change(runs, {.priority = 1}, env.now));
}

TEST_F(ControlPlaneTest, WhoWaitsIsToldWhenItStarts) {
  const NodeId a = env.add_node("a");
  JobSpec spec = job_spec(1, 8);
  spec.time_limit = 2h;
  const AttemptKey key = env.run(env.submit(spec));
  const JobId waits = env.submit(spec);
  env.tick_alive(1min);
  const auto eta = env.plane->eta(waits, env.now);
  ASSERT_TRUE(eta);
  EXPECT_GT(eta->at, env.now.wall + 30min) << "half of what the limit leaves, where nothing is known";
  EXPECT_LT(eta->at, env.now.wall + 2h);
  env.end(a, key, true);
  EXPECT_EQ(env.state(waits), JobState::starting);
}

TEST_F(ControlPlaneTest, AJobThatCanNeverRunHoldsBackNobody) {
  env.add_node("a");
  JobSpec spec = job_spec(1, 8);
  spec.resources.gpu_kinds = {{.model = "A100"}};
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

TEST_F(ControlPlaneTest, AJobThatFailsAgainAndAgainPushesOthersOutOnceAnHour) {
  const NodeId a = env.add_node("a"), b = env.add_node("b");
  JobSpec spec = job_spec(1, 8);
  spec.checkpoint.dir = "";
  spec.priority = 5;
  const JobId one = env.submit(spec), two = env.submit(spec);
  env.run(one);
  env.run(two);
  spec.priority = 50;
  const JobId normal = env.submit(spec);
  const auto break_gpu = [&](NodeId on) {
    const auto& gpu = env.plane->cluster().gpus.at(env.plane->cluster().find(on)->gpus.at(0));
    env.plane->on_gpu_fault(env.now, on, {.uuid = gpu.row.uuid, .kind = "xid", .xid = 79, .detail = ""});
    env.step();
    env.end(on, env.key_of(normal), false);
  };
  const JobId victim = env.state(one) == JobState::stopping ? one : two, other = victim == one ? two : one;
  const NodeId first = env.nodes_of(env.key_of(victim))[0], second = first == a ? b : a;
  env.end(first, env.key_of(victim), true);
  ASSERT_EQ(env.state(normal), JobState::starting);
  env.run(normal);
  break_gpu(first);
  ASSERT_EQ(env.state(normal), JobState::queued);
  EXPECT_TRUE(env.plane->find_job(normal)->row.front);
  env.tick_alive(30min, 2s);
  EXPECT_EQ(env.state(other), JobState::running) << "somebody made way for it half an hour ago";
  env.tick_alive(31min, 2s);
  EXPECT_EQ(env.state(other), JobState::stopping);
  EXPECT_EQ(env.nodes_of(env.key_of(other))[0], second);
}

}  // namespace
}  // namespace tutti::testing
