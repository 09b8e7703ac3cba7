// Jobs that run again and again, in virtual time: when, how often at once, and what becomes of missed times.
#include <algorithm>

#include "tests/support/test_env.h"

namespace tutti::testing {
namespace {

using Overlap = Schedule::Overlap;

struct ControlScheduleTest : ::testing::Test {
  TestEnv env;
  NodeId node = env.add_node("a");

  static JobSpec scheduled(const std::string& cron, Overlap overlap = Overlap::skip) {
    JobSpec spec = job_spec(1, 1, "nightly");
    spec.schedule = Schedule{.cron = cron, .times = *parse_cron(cron), .overlap = overlap};
    return spec;
  }
  // In whole steps of the clock, as a leader ticks.
  void pass(Duration d) { env.tick_alive(d, 10s); }
  std::vector<JobId> runs_of(JobId schedule) const {
    std::vector<JobId> out;
    for (const auto& [id, job] : env.plane->jobs())
      if (job.spec->scheduled_by == schedule) out.push_back(id);
    return out;
  }
  std::vector<std::string> told(JobId schedule) const {
    std::vector<std::string> out;
    for (const auto& e : env.rows.events)
      if (e.job == schedule && e.kind == "schedule") out.push_back(e.to);
    return out;
  }
  void finish(JobId run) { env.end(node, env.run(run), true); }
};

TEST_F(ControlScheduleTest, EachRunIsAJobOfItsOwnAndTheScheduleGoesOn) {
  const JobId id = env.submit(scheduled("*/10 * * * *"));
  EXPECT_EQ(env.state(id), JobState::delayed);
  EXPECT_EQ(env.plane->find_job(id)->row.not_before, env.now.wall + 10min)
      << "the clock begins on a full hour";
  pass(9min);
  EXPECT_TRUE(runs_of(id).empty());
  pass(1min);
  ASSERT_EQ(runs_of(id).size(), 1U);
  const JobId run = runs_of(id)[0];
  EXPECT_EQ(env.state(run), JobState::starting);
  EXPECT_EQ(env.state(id), JobState::delayed);
  EXPECT_EQ(env.plane->find_job(run)->spec->name, "nightly");
  EXPECT_FALSE(env.plane->find_job(run)->spec->schedule);
  finish(run);
  pass(10min);
  ASSERT_EQ(runs_of(id).size(), 1U);
  EXPECT_NE(runs_of(id)[0], run);
  EXPECT_EQ(told(id), (std::vector<std::string>{"run", "run"}));
}

TEST_F(ControlScheduleTest, SkipStartsNothingWhileARunIsNotOver) {
  const JobId id = env.submit(scheduled("*/10 * * * *"));
  pass(10min);
  const JobId first = runs_of(id).at(0);
  env.run(first);
  pass(20min);
  EXPECT_EQ(runs_of(id), std::vector<JobId>{first});
  EXPECT_EQ(told(id), (std::vector<std::string>{"run", "skipped", "skipped"}));
  env.end(node, env.key_of(first), true);
  pass(10min);
  EXPECT_EQ(runs_of(id).size(), 1U) << "and goes on when it is";
}

TEST_F(ControlScheduleTest, QueueLetsRunsWaitForEachOtherUpToABound) {
  const JobId id = env.submit(scheduled("*/10 * * * *", Overlap::queue));
  pass(10min);
  const JobId first = runs_of(id).at(0);
  env.run(first);
  pass(10min * (kMaxQueuedRuns + 3));
  const auto runs = runs_of(id);
  ASSERT_EQ(runs.size(), static_cast<std::size_t>(kMaxQueuedRuns));
  for (std::size_t i = 1; i < runs.size(); ++i) EXPECT_EQ(env.state(runs[i]), JobState::blocked);
  env.fail(node, env.key_of(first), 0, 1);
  ASSERT_TRUE(env.plane->on_cancel(env.now, first, "ada"));
  env.step();
  env.end(node, env.key_of(first), false);
  EXPECT_EQ(env.state(runs[1]), JobState::starting) << "whatever became of the one before";
  EXPECT_EQ(env.state(runs[2]), JobState::blocked);
}

TEST_F(ControlScheduleTest, QueueStartsNothingBesideARunThatGoesOnWhenTheOneBetweenIsCancelled) {
  const JobId id = env.submit(scheduled("*/10 * * * *", Overlap::queue));
  pass(10min);
  const JobId first = runs_of(id).at(0);
  env.run(first);
  pass(20min);
  const auto runs = runs_of(id);
  ASSERT_EQ(runs.size(), 3U);
  ASSERT_TRUE(env.plane->on_cancel(env.now, runs[1], "ada"));
  env.step();
  EXPECT_EQ(env.state(runs[2]), JobState::blocked);
  env.end(node, env.key_of(first), true);
  EXPECT_EQ(env.state(runs[2]), JobState::starting);
}

TEST_F(ControlScheduleTest, ANewLeaderKnowsWhichRunsAreOpen) {
  const JobId id = env.submit(scheduled("*/10 * * * *", Overlap::queue));
  const JobId skips = env.submit(scheduled("*/10 * * * *", Overlap::skip));
  pass(10min);
  for (const JobId schedule : {id, skips}) env.run(runs_of(schedule).at(0));
  pass(10min);
  env.recover();
  pass(10min);
  EXPECT_EQ(runs_of(skips).size(), 1U);
  const auto runs = runs_of(id);
  ASSERT_EQ(runs.size(), 3U) << "no time twice, none lost";
  EXPECT_EQ(env.state(runs[1]), JobState::blocked);
  EXPECT_EQ(env.state(runs[2]), JobState::blocked);
}

TEST_F(ControlScheduleTest, NobodyCanWaitForTheScheduleItself) {
  const JobId id = env.submit(scheduled("*/10 * * * *"));
  JobSpec after = job_spec(1, 1, "after");
  after.depends_on = {{.job = id}};
  const auto r = env.try_submit(after);
  ASSERT_FALSE(r);
  EXPECT_EQ(r.error().field, "depends_on[0]");
  EXPECT_NE(r.error().hint.find("one of its runs"), std::string::npos);
}

TEST_F(ControlScheduleTest, TimesThatWereMissedAreOneRun) {
  const JobId id = env.submit(scheduled("*/10 * * * *", Overlap::queue));
  env.leases.renew(node, env.now.mono + 5h);
  env.tick(5h);  // nobody led
  EXPECT_EQ(runs_of(id).size(), 1U);
  EXPECT_GT(env.plane->find_job(id)->row.not_before, env.now.wall);
}

TEST_F(ControlScheduleTest, HeldItDoesNotRunAndReleasedItWaitsForItsNextTime) {
  const JobId id = env.submit(scheduled("*/10 * * * *"));
  ASSERT_TRUE(env.plane->on_hold(env.now, id, "not this week"));
  env.step();
  pass(1h);
  EXPECT_TRUE(runs_of(id).empty());
  pass(3min);
  ASSERT_TRUE(env.plane->on_release(env.now, id));
  env.step();
  EXPECT_EQ(env.state(id), JobState::delayed);
  EXPECT_EQ(env.plane->find_job(id)->row.not_before, env.now.wall + 7min);
  ASSERT_TRUE(env.plane->on_cancel(env.now, id, "ada"));
  env.step();
  EXPECT_EQ(env.state(id), JobState::cancelled);
  pass(1h);
  EXPECT_TRUE(runs_of(id).empty());
}

TEST_F(ControlScheduleTest, ItBeginsAtItsBeginTimeAndNotBefore) {
  JobSpec spec = scheduled("0 * * * *");
  spec.begin_time = env.now.wall + 3h;
  const JobId id = env.submit(spec);
  EXPECT_EQ(env.plane->find_job(id)->row.not_before, env.now.wall + 3h) << "which is itself one";
}

TEST_F(ControlScheduleTest, OneThatNeverComesIsRefused) {
  const auto r = env.try_submit(scheduled("0 0 30 2 *"));
  ASSERT_FALSE(r);
  EXPECT_EQ(r.error().field, "schedule.cron");
}

}  // namespace
}  // namespace tutti::testing
