// The judge of schedules must notice each rule that is broken.
#include "tests/sim/schedule_oracle.h"

#include <gtest/gtest.h>

#include "api/wire/job_spec_codec.h"

namespace tutti::sim {
namespace {

using namespace std::chrono_literals;
constexpr JobId kPlan{1};

class Schedules : public ::testing::Test {
 protected:
  void SetUp() override { submit(Schedule::Overlap::skip); }

  void submit(Schedule::Overlap overlap) {
    oracle_ = {};
    JobSpec spec;
    spec.name = "again";
    spec.run = "true";
    spec.schedule = Schedule{.cron = "* * * * *", .times = *parse_cron("* * * * *"), .overlap = overlap};
    Batch b;
    b.new_specs.push_back(stored(kPlan, spec));
    b.new_jobs.push_back(row(kPlan, JobState::delayed, 60s));
    ASSERT_EQ(oracle_.committed(b), "");
  }
  static SpecRow stored(JobId id, const JobSpec& spec) {
    SpecRow r;
    r.id = id;
    r.name = spec.name;
    r.spec_json = wire::encode_spec(spec);
    return r;
  }
  static JobRow row(JobId id, JobState state, Duration due = {}) {
    JobRow r;
    r.id = id;
    r.state = state;
    if (due != Duration{}) r.not_before = kSchedulerEpoch + due;
    return r;
  }
  // The template fires at `at`, and waits for `next`; a run of its own, or a skip.
  static Batch fires(Duration at, Duration next, std::optional<JobId> run) {
    Batch b;
    b.jobs.push_back({row(kPlan, JobState::delayed, next), 1});
    EventRow e;
    e.at = kSchedulerEpoch + at;
    e.job = kPlan;
    e.kind = "schedule";
    e.to = run ? "run" : "skipped";
    b.events.push_back(e);
    if (run) {
      JobSpec spec;
      spec.name = "again";
      spec.run = "true";
      spec.scheduled_by = kPlan;
      b.new_specs.push_back(stored(*run, spec));
      b.new_jobs.push_back(row(*run, JobState::queued));
    }
    return b;
  }
  static Batch ends(JobId run) {
    Batch b;
    Batch::JobDone d;
    d.row.job = row(run, JobState::succeeded);
    d.base_version = 1;
    b.done.push_back(d);
    return b;
  }
  ScheduleOracle oracle_;
};

TEST_F(Schedules, OneRunAfterTheOtherIsFine) {
  EXPECT_EQ(oracle_.committed(fires(60s, 120s, JobId{2})), "");
  EXPECT_EQ(oracle_.committed(ends(JobId{2})), "");
  EXPECT_EQ(oracle_.committed(fires(120500ms, 180s, JobId{3})), "");
  EXPECT_EQ(oracle_.committed(fires(180s, 240s, std::nullopt)), "") << "skipped: a run is open";
}
TEST_F(Schedules, TimesThatWereMissedAreOneRun) {
  EXPECT_EQ(oracle_.committed(fires(250s, 300s, JobId{2})), "");
}
TEST_F(Schedules, TooEarly) { EXPECT_NE(oracle_.committed(fires(59s, 120s, JobId{2})), ""); }
TEST_F(Schedules, ATimeTwice) {
  EXPECT_EQ(oracle_.committed(fires(60s, 120s, JobId{2})), "");
  EXPECT_EQ(oracle_.committed(ends(JobId{2})), "");
  Batch back;  // a scheduler that goes on from an old memory
  back.jobs.push_back({row(kPlan, JobState::delayed, 60s), 2});
  EXPECT_EQ(oracle_.committed(back), "");
  EXPECT_NE(oracle_.committed(fires(61s, 120s, JobId{3})), "");
}
TEST_F(Schedules, ATimeThatIsLeftOut) { EXPECT_NE(oracle_.committed(fires(60s, 180s, JobId{2})), ""); }
TEST_F(Schedules, ATimeWithoutItsRun) {
  auto batch = fires(60s, 120s, JobId{2});
  batch.new_specs.clear();
  batch.new_jobs.clear();
  EXPECT_NE(oracle_.committed(batch), "");
}
TEST_F(Schedules, ARunWithoutItsTime) {
  auto batch = fires(60s, 120s, JobId{2});
  batch.events.clear();
  EXPECT_NE(oracle_.committed(batch), "");
}
TEST_F(Schedules, ASkipWithoutAReason) { EXPECT_NE(oracle_.committed(fires(60s, 120s, std::nullopt)), ""); }
TEST_F(Schedules, ARunBesideAnother) {
  EXPECT_EQ(oracle_.committed(fires(60s, 120s, JobId{2})), "");
  EXPECT_NE(oracle_.committed(fires(120s, 180s, JobId{3})), "");
}
TEST_F(Schedules, QueuedRunsMayWaitAndMayNotOverlap) {
  submit(Schedule::Overlap::queue);
  EXPECT_EQ(oracle_.committed(fires(60s, 120s, JobId{2})), "");
  EXPECT_EQ(oracle_.committed(fires(120s, 180s, JobId{3})), "");
  Batch b;
  b.jobs.push_back({row(JobId{2}, JobState::running), 1});
  EXPECT_EQ(oracle_.committed(b), "");
  b.jobs[0].row = row(JobId{3}, JobState::starting);
  EXPECT_NE(oracle_.committed(b), "");
}
TEST_F(Schedules, ATimeThatIsLeftLying) {
  EXPECT_EQ(oracle_.overdue(kSchedulerEpoch + 59s, false, 10s), "");
  EXPECT_EQ(oracle_.overdue(kSchedulerEpoch + 61s, false, 10s), "");
  EXPECT_EQ(oracle_.overdue(kSchedulerEpoch + 80s, true, 10s), "") << "nobody led";
  EXPECT_EQ(oracle_.overdue(kSchedulerEpoch + 81s, false, 10s), "");
  EXPECT_NE(oracle_.overdue(kSchedulerEpoch + 92s, false, 10s), "");
}

}  // namespace
}  // namespace tutti::sim
