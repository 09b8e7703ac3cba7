// Jobs that wait, in virtual time: why and until when, what if, and who makes way for them.
#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "tests/unit/control_plane_rig.h"

namespace tutti::testing {
namespace {

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
