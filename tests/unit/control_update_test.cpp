// What people change of a job after its submission, in every state, in virtual time.
#include "tests/support/test_env.h"

namespace tutti::testing {
namespace {

struct ControlUpdateTest : ::testing::Test {
  TestEnv env;

  Result<JobId> update(JobId id, const JobChange& change) {
    auto done = env.plane->on_update(env.now, id, change, "ada");
    env.plan();
    return done;
  }
  Instant in(Duration d) const { return env.now.wall + d; }
  const JobRow& row(JobId id) const { return env.plane->find_job(id)->row; }
  std::string last_update() const {
    for (auto e = env.rows.events.rbegin(); e != env.rows.events.rend(); ++e)
      if (e->kind == "update") return e->from + " → " + e->to + " (" + e->detail + ")";
    return "";
  }
};

TEST_F(ControlUpdateTest, AHigherPriorityGoesFirst) {
  env.add_node("a");
  const JobId runs = env.submit(job_spec(1, 8));
  const JobId first = env.submit(job_spec(1, 8)), second = env.submit(job_spec(1, 8));
  EXPECT_EQ(env.plane->explain(second, env.now).position, 1u);
  ASSERT_TRUE(update(second, {.priority = 80}));
  EXPECT_EQ(env.plane->explain(second, env.now).position, 0u);
  EXPECT_EQ(env.plane->explain(first, env.now).position, 1u);
  EXPECT_EQ(last_update(), "priority 50 → priority 80 (changed by ada)");
  const AttemptKey key = env.run(runs);
  env.end(env.nodes_of(key).front(), key, true);
  EXPECT_EQ(env.state(second), JobState::starting);
  EXPECT_EQ(env.state(first), JobState::queued);
}

TEST_F(ControlUpdateTest, ChangedRowsAndSpecsAreWrittenTogether) {
  const JobId id = env.submit(job_spec(1, 8));
  (void)env.plane->take_output();
  ASSERT_TRUE(env.plane->on_update(env.now, id, {.priority = 80}, "ada"));
  const Batch batch = env.plane->take_output().batch;
  ASSERT_EQ(batch.jobs.size(), 1u);
  EXPECT_EQ(batch.jobs[0].row.priority, 80);
  EXPECT_EQ(batch.jobs[0].row.version, batch.jobs[0].base_version + 1);
  EXPECT_EQ(batch.changed_specs.size(), 1u);
  EXPECT_EQ(batch.events.size(), 1u);
  ASSERT_TRUE(env.plane->on_update(env.now, id, {.priority = 80}, "ada"));
  EXPECT_TRUE(env.plane->take_output().batch.empty()) << "it is so already";
}

TEST_F(ControlUpdateTest, ARunningJobIsGivenMoreTimeOrLess) {
  env.add_node("a");
  JobSpec spec = job_spec(1, 8);
  spec.time_limit = 1h;
  const JobId id = env.submit(spec);
  const AttemptKey key = env.run(id);
  env.tick_alive(30min, 10s);
  const auto passed = update(id, {.time_limit = std::optional<Duration>(20min)});
  ASSERT_FALSE(passed);
  EXPECT_EQ(passed.error().message, "job 1 has run for 30m already: this limit would end it at once");
  ASSERT_TRUE(update(id, {.time_limit = std::optional<Duration>(2h)}));
  EXPECT_EQ(env.plane->planner().running().at(id).what.limit, Duration(2h));
  env.tick_alive(80min, 10s);
  EXPECT_EQ(env.state(id), JobState::running) << "beyond its first limit";
  env.tick_alive(11min, 10s);
  EXPECT_EQ(env.state(id), JobState::stopping);
  EXPECT_EQ(env.plane->find_attempt(key)->row.cause, Cause::time_limit);
}

TEST_F(ControlUpdateTest, ALimitTakenAwayOrSetHoldsForTheNextLeader) {
  env.add_node("a");
  const JobId id = env.submit(job_spec(1, 8));
  env.run(id);
  ASSERT_TRUE(update(id, {.total_time_limit = std::optional<Duration>(10min)}));
  env.recover();
  env.tick_alive(9min, 10s);
  EXPECT_EQ(env.state(id), JobState::running);
  ASSERT_TRUE(update(id, {.total_time_limit = std::optional<Duration>()}));
  env.tick_alive(30min, 10s);
  EXPECT_EQ(env.state(id), JobState::running);
}

TEST_F(ControlUpdateTest, AScavengerThatIsRaisedIsNotStoppedForOthers) {
  env.add_node("a");
  JobSpec low = job_spec(1, 8);
  low.priority = 5;
  const JobId id = env.submit(low);
  env.run(id);
  ASSERT_TRUE(update(id, {.priority = 60}));
  env.submit(job_spec(1, 8));
  env.tick_alive(10min, 10s);
  EXPECT_EQ(env.state(id), JobState::running);
  ASSERT_TRUE(update(id, {.priority = 5}));
  env.tick_alive(10min, 10s);
  EXPECT_NE(env.state(id), JobState::running) << "now it makes way";
}

TEST_F(ControlUpdateTest, TheBeginTimeMovesBothWays) {
  env.add_node("a");
  env.submit(job_spec(1, 8));
  const JobId id = env.submit(job_spec(1, 8));
  ASSERT_EQ(env.state(id), JobState::queued);
  ASSERT_TRUE(update(id, {.begin_time = std::optional(in(1h))}));
  EXPECT_EQ(env.state(id), JobState::delayed);
  EXPECT_EQ(row(id).not_before, in(1h));
  ASSERT_TRUE(update(id, {.begin_time = std::optional(in(2h))}));
  EXPECT_EQ(row(id).not_before, in(2h));
  env.recover();
  env.tick_alive(90min, 10s);
  EXPECT_EQ(env.state(id), JobState::delayed);
  ASSERT_TRUE(update(id, {.begin_time = std::optional<Instant>()}));
  EXPECT_EQ(env.state(id), JobState::queued);
  EXPECT_NE(last_update().find("→ begin_time none"), std::string::npos) << last_update();
}

TEST_F(ControlUpdateTest, ABeginTimeOfOneThatIsHeldOrBlockedCountsWhenItIsFree) {
  env.add_node("a");
  const JobId first = env.submit(job_spec(1, 8));
  JobSpec after = job_spec(1, 8);
  after.depends_on = {{first, Dependency::When::any}};
  const JobId blocked = env.submit(after), held = env.submit(job_spec(1, 8));
  ASSERT_TRUE(env.plane->on_hold(env.now, held, "", "ada"));
  ASSERT_TRUE(update(blocked, {.begin_time = std::optional(in(1h))}));
  ASSERT_TRUE(update(held, {.begin_time = std::optional(in(1h))}));
  EXPECT_EQ(env.state(blocked), JobState::blocked);
  ASSERT_TRUE(env.plane->on_release(env.now, held, "ada"));
  env.plan();
  EXPECT_EQ(env.state(held), JobState::delayed);
  const AttemptKey key = env.run(first);
  env.end(env.nodes_of(key).front(), key, true);
  EXPECT_EQ(env.state(blocked), JobState::delayed);
}

TEST_F(ControlUpdateTest, WhatHasBegunHasNoBeginTimeAnyMore) {
  env.add_node("a");
  const JobId id = env.submit(job_spec(1, 8));
  const auto refused = update(id, {.begin_time = std::optional(in(1h))});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Errc::illegal_transition);
}

TEST_F(ControlUpdateTest, ADeadlineEndsItAndIsForgottenWhenItIsTakenAway) {
  const JobId a = env.submit(job_spec(1, 8)), b = env.submit(job_spec(1, 8));
  for (const JobId id : {a, b}) ASSERT_TRUE(update(id, {.deadline = std::optional(in(1h))}));
  ASSERT_TRUE(update(b, {.deadline = std::optional<Instant>()}));
  EXPECT_FALSE(update(a, {.deadline = std::optional(in(-1h))}));
  env.tick(61min);
  EXPECT_EQ(env.state(a), JobState::failed);
  EXPECT_EQ(env.state(b), JobState::queued);
}

TEST_F(ControlUpdateTest, AScheduleTakesItsNextTimeFromItsBegin) {
  JobSpec spec = job_spec(1, 1);
  spec.schedule = Schedule{.cron = "0 * * * *", .times = *parse_cron("0 * * * *"), .overlap = {}};
  const JobId id = env.submit(spec);
  const Instant soon = row(id).not_before;
  ASSERT_TRUE(update(id, {.begin_time = std::optional(in(24h))}));
  EXPECT_GE(row(id).not_before, in(24h));
  ASSERT_TRUE(update(id, {.begin_time = std::optional<Instant>()}));
  EXPECT_EQ(row(id).not_before, soon);
  EXPECT_FALSE(update(id, {.deadline = std::optional(in(24h))})) << "it never ends";
}

TEST_F(ControlUpdateTest, LabelsAreSetAndRemovedOneByOne) {
  JobSpec spec = job_spec(1, 8);
  spec.labels = {{"a", "1"}, {"b", "2"}};
  const JobId id = env.submit(spec);
  ASSERT_TRUE(update(id, {.labels = {{"a", "3"}, {"b", std::nullopt}, {"c", "4"}}}));
  EXPECT_EQ(env.plane->find_job(id)->spec->labels,
            (std::map<std::string, std::string>{{"a", "3"}, {"c", "4"}}));
  EXPECT_EQ(last_update(),
            "labels.a '1', labels.b '2', labels.c none → labels.a '3', labels.b none, "
            "labels.c '4' (changed by ada)");
  JobChange many;
  for (int i = 0; i < 64; ++i) many.labels["x" + std::to_string(i)] = "y";
  EXPECT_FALSE(update(id, many)) << "66 are too many";
}

// What it says it would refuse is what it refuses, in every state.
TEST_F(ControlUpdateTest, APreviewTellsTheTruth) {
  env.add_node("a");
  const JobId runs = env.submit(job_spec(1, 8));
  env.run(runs);
  JobSpec later = job_spec(1, 8);
  later.begin_time = in(1h);
  JobSpec after = job_spec(1, 8);
  after.depends_on = {{runs, Dependency::When::any}};
  const JobId waits = env.submit(job_spec(1, 8)), held = env.submit(job_spec(1, 8));
  const std::vector<JobId> all = {runs, waits, held, env.submit(later), env.submit(after), JobId(99)};
  ASSERT_TRUE(env.plane->on_hold(env.now, held, "", "ada"));
  const JobChange change{.begin_time = std::optional(in(3h))};
  for (const auto act : {JobAct::update, JobAct::release, JobAct::requeue, JobAct::hold, JobAct::cancel})
    for (const JobId id : all) {
      const bool refused = env.plane->would_refuse(id, act, change, env.now).has_value();
      Result<JobId> done = id;
      switch (act) {
        case JobAct::cancel: done = env.plane->on_cancel(env.now, id, "ada"); break;
        case JobAct::hold: done = env.plane->on_hold(env.now, id, "", "ada"); break;
        case JobAct::release: done = env.plane->on_release(env.now, id, "ada"); break;
        case JobAct::requeue: done = env.plane->on_requeue(env.now, id, "ada"); break;
        case JobAct::update: done = env.plane->on_update(env.now, id, change, "ada"); break;
      }
      EXPECT_EQ(refused, !done.has_value()) << static_cast<int>(act) << " " << id.value;
      env.step();
    }
}

}  // namespace
}  // namespace tutti::testing
