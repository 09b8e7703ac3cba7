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

// Each task that ends looks for one that may go on; none may, and nobody counts them all for that.
TEST_F(ControlTimeTest, AnArrayThatWaitsForAnArrayIsCancelledInOneGo) {
  env.add_node("a");
  const auto first = array(1000, 1);
  JobSpec spec = job_spec(1, 1);
  spec.depends_on = {{.job = first[0], .when = When::ok, .tasks = 1000}};
  std::vector<JobId> second;
  for (int i = 0; i < 1000; ++i) {
    spec.array_task = ArrayTask{.index = i, .position = i, .tasks = 1000, .max_parallel = i % 2};
    second.push_back(env.submit(spec));
  }
  for (const JobId id : second) ASSERT_TRUE(env.plane->on_cancel(env.now, id, "ada"));
  env.step();
  for (const JobId id : second) EXPECT_EQ(env.state(id), JobState::cancelled);
  EXPECT_EQ(env.state(first[0]), JobState::starting);
  EXPECT_EQ(env.state(first[1]), JobState::blocked);
}

TEST_F(ControlTimeTest, TheWaitOfOneThatWasReleasedBeginsThenForTheNextLeaderToo) {
  env.add_node("a");
  env.submit(job_spec(1, 8));
  const JobId held = env.submit(job_spec(1, 8));
  ASSERT_TRUE(env.plane->on_hold(env.now, held, "later"));
  env.tick_alive(2h, 2s);
  ASSERT_TRUE(env.plane->on_release(env.now, held));
  env.step();
  const Instant released = env.now.wall;
  env.recover();
  EXPECT_EQ(env.plane->planner().find_waiting(held)->since, released);
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

TEST_F(ControlTimeTest, DependingOnAnArrayMeansAllItsTasks) {
  const NodeId a = env.add_node("a");
  const auto tasks = array(3, 0);
  const auto after_all = [&](When when) {
    JobSpec spec = job_spec(1, 1);
    spec.depends_on = {{.job = tasks[0], .when = when, .tasks = 3}};
    return env.submit(spec);
  };
  const JobId ok = after_all(When::ok), any = after_all(When::any), failed = after_all(When::failed),
              started = after_all(When::started);
  EXPECT_EQ(reason(ok), "waits for array 1 to succeed");
  env.end(a, env.run(tasks[0]), true);
  env.run(tasks[1]);
  for (const JobId id : {ok, any, failed, started}) EXPECT_EQ(env.state(id), JobState::blocked);
  env.run(tasks[2]);
  EXPECT_EQ(env.state(started), JobState::starting) << "each has been up, one is over already";
  env.end(a, env.key_of(tasks[1]), true);
  EXPECT_EQ(env.state(any), JobState::blocked);
  env.end(a, env.key_of(tasks[2]), true);
  EXPECT_EQ(env.state(ok), JobState::starting);
  EXPECT_EQ(env.state(any), JobState::starting);
  EXPECT_EQ(env.state(failed), JobState::cancelled);
}

TEST_F(ControlTimeTest, OneTaskThatFailsDecidesForAnArray) {
  const NodeId a = env.add_node("a");
  const auto tasks = array(3, 0);
  JobSpec spec = job_spec(1, 1);
  spec.depends_on = {{.job = tasks[0], .when = When::ok, .tasks = 3}};
  const JobId ok = env.submit(spec);
  spec.depends_on = {{.job = tasks[0], .when = When::failed, .tasks = 3}};
  const JobId failed = env.submit(spec);
  const AttemptKey key = env.run(tasks[1]);
  ASSERT_TRUE(env.plane->on_cancel(env.now, tasks[1], "ada"));
  env.end(a, key, false);
  EXPECT_EQ(env.state(ok), JobState::cancelled);
  EXPECT_EQ(reason(ok), "waited for array 1 to succeed, which can never be: its task 2 is cancelled");
  EXPECT_EQ(env.state(failed), JobState::starting);
}

TEST_F(ControlTimeTest, OneThatIsHeldIsToldAsWell) {
  const NodeId a = env.add_node("a");
  const JobId first = env.submit(job_spec(1, 8));
  const JobId second = after(first, When::ok);
  ASSERT_TRUE(env.plane->on_hold(env.now, second, "later"));
  const AttemptKey key = env.run(first);
  ASSERT_TRUE(env.plane->on_cancel(env.now, first, "ada"));
  env.end(a, key, false);
  EXPECT_EQ(env.state(second), JobState::cancelled) << "released, nobody would tell it again";
}

TEST_F(ControlTimeTest, StartedMeansThatItHasBeenUpAlsoWhileItStops) {
  env.add_node("a");
  const JobId first = env.submit(job_spec(1, 4));
  env.run(first);
  ASSERT_TRUE(env.plane->on_requeue(env.now, first, "ada"));
  env.step();
  EXPECT_EQ(env.state(first), JobState::stopping);
  EXPECT_NE(env.state(after(first, When::started)), JobState::blocked);
}

TEST_F(ControlTimeTest, AHeldTaskGivesItsPlaceToTheNext) {
  env.add_node("a");
  const auto tasks = array(3, 1, 8);
  EXPECT_EQ(env.state(tasks[1]), JobState::blocked);
  env.run(tasks[0]);
  ASSERT_TRUE(env.plane->on_hold(env.now, tasks[0], "look at it"));
  env.step();
  env.end(NodeId(1), env.key_of(tasks[0]), false);
  EXPECT_EQ(env.state(tasks[0]), JobState::held);
  EXPECT_EQ(env.state(tasks[1]), JobState::starting);
  ASSERT_TRUE(env.plane->on_release(env.now, tasks[0]));
  env.step();
  EXPECT_EQ(env.state(tasks[0]), JobState::blocked) << "until there is a place again";
}

TEST_F(ControlTimeTest, ADeadlineThatPassesWhileAJobStopsIsNotForgotten) {
  const NodeId a = env.add_node("a");
  JobSpec spec = job_spec(1, 8);
  spec.deadline = env.now.wall + 1h;
  const JobId id = env.submit(spec);
  const AttemptKey key = env.run(id);
  ASSERT_TRUE(env.plane->on_requeue(env.now, id, "ada"));
  env.step();
  env.tick_alive(1h, 10s);
  EXPECT_EQ(env.state(id), JobState::stopping);
  env.end(a, key, false);
  env.tick_alive(1s);
  if (env.plane->find_job(id) != nullptr) env.end(a, env.key_of(id), false);  // placed again: stopped again
  env.tick_alive(1s);
  EXPECT_EQ(env.state(id), JobState::failed);
  EXPECT_EQ(reason(id), "its deadline has passed");
}

TEST_F(ControlTimeTest, AnArrayStandsOrFallsAsAWholeAndWhoWaitsWithIt) {
  env.add_node("a");
  const auto request = [&](JobSpec spec, std::string key) {
    SubmitRequest r;
    r.spec = std::make_shared<const JobSpec>(std::move(spec));
    r.owner = "ada";
    r.idempotency_key = std::move(key);
    return r;
  };
  const auto requests = [&](const std::string& queue) {
    std::vector<SubmitRequest> all;
    for (int i = 0; i < 3; ++i) {
      JobSpec spec = job_spec(1, 1, "sweep");
      spec.queue = queue;
      spec.array_task = ArrayTask{.index = i, .position = i, .tasks = 3, .max_parallel = 0};
      all.push_back(request(spec, i == 0 ? "sweep" : ""));
      if (i > 0) all.back().task_of = 0;
    }
    all.push_back(request(job_spec(1, 1, "report"), "report"));
    all.back().after = {{.request = 0, .tasks = 3}};
    return all;
  };
  for (const auto& r : env.plane->on_submit_all(env.now, requests("nowhere"))) EXPECT_FALSE(r);
  EXPECT_TRUE(env.plane->jobs().empty());
  const auto first = env.plane->on_submit_all(env.now, requests("default"));
  env.plan();
  ASSERT_EQ(first.size(), 4U);
  EXPECT_EQ(first[3]->state, JobState::blocked);
  EXPECT_EQ(env.plane->find_job(first[3]->id)->spec->depends_on,
            (std::vector<Dependency>{{.job = first[0]->id, .tasks = 3}}));
  const auto again = env.plane->on_submit_all(env.now, requests("default"));
  for (std::size_t i = 0; i < 4; ++i) {
    EXPECT_TRUE(again[i]->replayed);
    EXPECT_EQ(again[i]->id, first[i]->id);
  }
  EXPECT_EQ(env.plane->jobs().size(), 4U);
}

TEST_F(ControlTimeTest, AnArrayWaitsForAnArray) {
  constexpr int kTasks = 1000;  // no node: nobody starts
  const auto tasks_of = [&](int first, const std::string& name, bool waits) {
    std::vector<SubmitRequest> all;
    for (int i = 0; i < kTasks; ++i) {
      JobSpec spec = job_spec(1, 1, name);
      spec.array_task = ArrayTask{.index = i, .position = i, .tasks = kTasks, .max_parallel = 0};
      if (waits) spec.depends_on = {{.job = JobId(first), .when = When::any, .tasks = kTasks}};
      SubmitRequest r;
      r.spec = std::make_shared<const JobSpec>(std::move(spec));
      r.owner = "ada";
      if (i > 0) r.task_of = 0;
      all.push_back(std::move(r));
    }
    return env.plane->on_submit_all(env.now, all);
  };
  const auto first = tasks_of(0, "first", false), second = tasks_of(1, "second", true);
  for (const auto& r : second) EXPECT_EQ(r->state, JobState::blocked);
  EXPECT_EQ(reason(second.back()->id), "waits for array 1 to end");
  for (int i = 0; i < kTasks - 1; ++i)
    ASSERT_TRUE(env.plane->on_cancel(env.now, first[static_cast<std::size_t>(i)]->id, "ada"));
  EXPECT_EQ(env.state(second.front()->id), JobState::blocked);
  ASSERT_TRUE(env.plane->on_cancel(env.now, first.back()->id, "ada"));
  for (const auto& r : second) EXPECT_EQ(env.state(r->id), JobState::queued);
}

}  // namespace
}  // namespace tutti::testing
