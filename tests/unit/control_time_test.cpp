// After whom, by when, how often: dependencies, arrays, deadlines, limits, in virtual time.
#include <algorithm>

#include "tests/support/test_env.h"

namespace tutti::testing {
namespace {

using When = Dependency::When;

struct ControlTimeTest : ::testing::Test {
  TestEnv env;

  JobId after(JobId other, When when) {
    JobSpec spec = job_spec(1, 1);
    spec.depends_on = {{other, when}};
    return env.submit(spec);
  }
  std::vector<JobId> array(int tasks, int max_parallel, int gpus = 1) {
    std::vector<JobId> out;
    for (int i = 0; i < tasks; ++i) {
      JobSpec spec = job_spec(1, gpus);
      spec.array_task = ArrayTask{.index = i, .position = i, .tasks = tasks, .max_parallel = max_parallel};
      out.push_back(env.submit(spec));
    }
    return out;
  }
  std::string reason(JobId id) const {
    for (const auto& d : env.rows.done)
      if (d.row.job.id == id) return d.row.job.reason;
    return env.plane->find_job(id)->row.reason;
  }
};

TEST_F(ControlTimeTest, AJobWaitsForWhatOthersMustHaveDone) {
  const NodeId a = env.add_node("a");
  const JobId first = env.submit(job_spec(1, 8));
  const JobId ok = after(first, When::ok), any = after(first, When::any),
              started = after(first, When::started), failed = after(first, When::failed);
  for (const JobId id : {ok, any, started, failed}) EXPECT_EQ(env.state(id), JobState::blocked);
  EXPECT_EQ(env.plane->explain(ok, env.now).reasons.at(0).text, "waits for job 1 to succeed");
  const AttemptKey key = env.run(first);
  EXPECT_EQ(env.state(started), JobState::queued) << "all its ranks are up";
  EXPECT_EQ(env.state(any), JobState::blocked);
  env.end(a, key, true);
  EXPECT_EQ(env.state(ok), JobState::starting);
  EXPECT_EQ(env.state(any), JobState::starting);
  EXPECT_EQ(env.state(failed), JobState::cancelled);
  EXPECT_EQ(reason(failed), "waited for job 1 to fail, which can never be: it is succeeded");
}

TEST_F(ControlTimeTest, WhatCanNeverBeEndsTheWholeChain) {
  env.add_node("a");
  const JobId first = env.submit(job_spec(1, 8));
  std::vector<JobId> chain = {first};
  for (int i = 0; i < 2000; ++i) chain.push_back(after(chain.back(), When::ok));
  ASSERT_TRUE(env.plane->on_hold(env.now, chain[1], "later")) << "one of them is held meanwhile";
  ASSERT_TRUE(env.plane->on_release(env.now, chain[1]));
  EXPECT_EQ(env.state(chain[1]), JobState::blocked);
  const AttemptKey key = env.run(first);
  ASSERT_TRUE(env.plane->on_cancel(env.now, first, "ada"));
  env.step();
  env.end(NodeId(1), key, false);
  for (const JobId id : chain) EXPECT_EQ(env.state(id), JobState::cancelled);
}

TEST_F(ControlTimeTest, DependenciesOnTheUnknownAndTheImpossibleAreRefused) {
  env.add_node("a");
  JobSpec spec = job_spec(1, 1);
  spec.depends_on = {{JobId(99), When::ok}};
  auto r = env.try_submit(spec);
  ASSERT_FALSE(r);
  EXPECT_EQ(r.error().field, "depends_on[0]");
  const JobId over = env.submit(job_spec(1, 1));
  env.end(NodeId(1), env.run(over), true);
  spec.depends_on = {{over, When::failed}};
  EXPECT_FALSE(env.try_submit(spec));
  spec.depends_on = {{over, When::ok}};
  ASSERT_TRUE(env.try_submit(spec)) << "it has succeeded already";
}

TEST_F(ControlTimeTest, AnArrayRunsSoManyTasksAtATime) {
  const NodeId a = env.add_node("a");
  const auto tasks = array(5, 2);
  const auto in = [&](JobState s) {
    return std::ranges::count_if(tasks, [&](JobId id) { return env.state(id) == s; });
  };
  EXPECT_EQ(in(JobState::starting), 2);
  EXPECT_EQ(in(JobState::blocked), 3);
  EXPECT_EQ(reason(tasks[4]), "waits: 2 tasks of array 1 run or may run (max_parallel 2)");
  env.end(a, env.run(tasks[0]), true);
  EXPECT_EQ(env.state(tasks[2]), JobState::starting);
  EXPECT_EQ(in(JobState::blocked), 2);
  ASSERT_TRUE(env.plane->on_cancel(env.now, tasks[3], "ada")) << "one that waits";
  env.step();
  env.end(a, env.run(tasks[1]), true);
  EXPECT_EQ(env.state(tasks[4]), JobState::starting);
}

TEST_F(ControlTimeTest, WhatHasNotEndedByItsDeadlineIsOfNoUse) {
  const NodeId a = env.add_node("a");
  JobSpec spec = job_spec(1, 8);
  spec.deadline = env.now.wall + 1h;
  const JobId runs = env.submit(spec);
  const AttemptKey key = env.run(runs);
  const JobId waits = env.submit(spec);
  JobSpec held = spec;
  const JobId is_held = env.submit(held);
  ASSERT_TRUE(env.plane->on_hold(env.now, is_held, "no"));
  env.tick_alive(61min, 2s);
  EXPECT_EQ(env.state(runs), JobState::stopping);
  EXPECT_EQ(env.take<protocol::Stop>(a).signal, "TERM");
  EXPECT_EQ(env.state(waits), JobState::failed);
  EXPECT_EQ(env.state(is_held), JobState::failed);
  EXPECT_EQ(reason(waits), "its deadline has passed");
  env.end(a, key, false);
  EXPECT_EQ(env.state(runs), JobState::failed);
  spec.deadline = env.now.wall - 1s;
  EXPECT_EQ(env.try_submit(spec).error().field, "deadline");
}

TEST_F(ControlTimeTest, TheTotalLimitCountsAllAttempts) {
  const NodeId a = env.add_node("a");
  JobSpec spec = job_spec(1, 8);
  spec.total_time_limit = 1h;
  const JobId job = env.submit(spec);
  AttemptKey key = env.run(job);
  env.tick_alive(40min, 2s);
  ASSERT_TRUE(env.plane->on_requeue(env.now, job, "ada"));
  env.step();
  env.end(a, key, false);
  EXPECT_EQ(env.plane->find_job(job)->row.ran, 40min);
  env.drop_messages();
  key = env.run(job);
  env.tick_alive(19min, 2s);
  EXPECT_EQ(env.state(job), JobState::running);
  env.tick_alive(2min, 2s);
  EXPECT_EQ(env.state(job), JobState::stopping);
  EXPECT_EQ(env.plane->find_attempt(key)->row.cause, Cause::time_limit);
}

}  // namespace
}  // namespace tutti::testing
