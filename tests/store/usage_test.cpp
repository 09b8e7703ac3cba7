// One suite, two readers: sums of what was used, against numbers worked out by hand.
#include <gmock/gmock.h>

#include <array>
#include <chrono>

#include "tests/store/store_world.h"

namespace tutti {
namespace {

using std::chrono::hours;
using std::chrono::minutes;
using std::chrono::seconds;
using std::chrono::sys_days;

Instant day(int d) { return sys_days(std::chrono::year(2026) / 10 / 1) + hours(24 * (d - 1)); }
double hours_of(Duration d) { return to_seconds(d) / 3600; }

// Two days of a small cluster, times as hours since 2026-10-01:
//   job 1 (ann, nlp, queue a): submitted 8, runs 10–14 on 2 nodes × 2 GPUs, lost to a GPU fault (3 GPU-hours
//                              of it), runs again 20–28 on 1 node × 4 GPUs, succeeds.
//   job 2 (bob, nlp, queue a): submitted 9 with begin time 11, runs 12–13 on 1 node without GPUs, fails.
//   job 3 (ann, vision, queue b): submitted 30, runs since 31 on 1 node × 8 GPUs.
//   job 4 (bob, vision, queue b): submitted 32, cancelled 33 before it ran.
class UsageTest : public StoreTest {
 protected:
  UsageTest() {
    Batch b;
    submit(b, 1, "ann", "nlp", "a", 8);
    submit(b, 2, "bob", "nlp", "a", 9, R"({"name":"x","begin_time":"2026-10-01T11:00:00.000000Z"})");
    submit(b, 3, "ann", "vision", "b", 30);
    submit(b, 4, "bob", "vision", "b", 32);
    for (int gpu = 1; gpu <= 8; ++gpu) b.gpus.push_back(test::gpu(gpu, 1));
    b.nodes.push_back(node(1));
    run(b, 1, 1, 10, 14, 2, {1, 2, 3, 4}, AttemptResult::failed, Cause::gpu);
    b.attempts.back().lost_gpu = hours(3);
    run(b, 1, 2, 20, 28, 1, {1, 2, 3, 4}, AttemptResult::succeeded, Cause::none);
    run(b, 2, 1, 12, 13, 1, {}, AttemptResult::failed, Cause::user);
    run(b, 3, 1, 31, -1, 1, {1, 2, 3, 4, 5, 6, 7, 8}, AttemptResult::none, Cause::none);
    store_->commit(b);
    Batch over;
    finish(over, b.new_jobs[0], JobState::succeeded, Cause::none, 28);
    finish(over, b.new_jobs[1], JobState::failed, Cause::user, 13);
    finish(over, b.new_jobs[3], JobState::cancelled, Cause::cancelled, 33);
    store_->commit(over);
  }
  static Instant hour(int h) { return day(1) + hours(h); }
  static void submit(Batch& b, int id, const char* owner, const char* project, const char* queue, int at,
                     const char* json = R"({"name":"x"})") {
    SpecRow s = spec(id);
    s.spec_json = json;
    JobRow j = job(id);
    s.owner = j.owner = owner;
    j.project = project;
    j.queue = queue;
    s.created_at = j.created_at = j.queued_at = hour(at);
    b.new_specs.push_back(s);
    b.new_jobs.push_back(j);
  }
  static void run(Batch& b, int id, int number, int from, int to, int nodes, const std::vector<int>& gpus,
                  AttemptResult result, Cause cause) {
    AttemptRow a = attempt(id, number);
    a.number = number;
    a.placed_at = a.running_at = hour(from);
    a.gang.resize(static_cast<std::size_t>(nodes));
    if (to >= 0) {
      a.ended_at = hour(to);
      a.state = AttemptState::ended;
      a.result = result;
      a.cause = cause;
    }
    b.attempts.push_back(a);
    for (const int g : gpus) {
      AllocationRow row = allocation(g, id, number, 0);
      row.from = hour(from);
      b.opened.push_back(row);
      if (to < 0) continue;
      row.until = hour(to);
      b.closed.push_back(row);
    }
  }
  static void finish(Batch& b, JobRow row, JobState state, Cause cause, int at) {
    row.state = state;
    row.cause = cause;
    row.version = 2;
    b.done.push_back({DoneRow{row, hour(at), 0}, 1});
  }
  Usage usage(std::vector<UsageKey> by, Instant since = day(1), Instant until = day(3)) {
    UsageQuery query;
    query.since = since;
    query.until = until;
    query.by = std::move(by);
    return reader_->usage(query);
  }
};

INSTANTIATE_TEST_SUITE_P(Both, UsageTest, testing::Values(Kind::memory, Kind::postgres),
                         [](const auto& info) { return info.param == Kind::memory ? "Memory" : "Postgres"; });

TEST_P(UsageTest, TheWholeOfTwoDays) {
  const UsageRow total = usage({}).total;
  EXPECT_EQ(total.jobs, 4);
  EXPECT_EQ(total.attempts, 4);
  // 4 × 4 h + 8 h × 4 + 17 h × 8
  EXPECT_DOUBLE_EQ(hours_of(total.gpu), 16 + 32 + 136);
  // 4 h × 2 + 8 h + 1 h + 17 h
  EXPECT_DOUBLE_EQ(hours_of(total.node), 8 + 8 + 1 + 17);
  EXPECT_DOUBLE_EQ(hours_of(total.lost), 3);
  EXPECT_EQ(total.succeeded, 1);
  EXPECT_EQ(total.failed, 1);
  EXPECT_EQ(total.cancelled, 1);
  // Waits: 2 h, 1 h (its begin time does not count), 1 h.
  ASSERT_TRUE(total.wait_p50 && total.wait_p90);
  EXPECT_DOUBLE_EQ(*total.wait_p50, 3600);
  EXPECT_DOUBLE_EQ(*total.wait_p90, 3600 + 0.8 * 3600);
  EXPECT_THAT(usage({}).rows, IsEmpty());
}

TEST_P(UsageTest, ByProjectAndUser) {
  const Usage u = usage({UsageKey::project, UsageKey::user});
  ASSERT_THAT(u.rows, SizeIs(4));
  EXPECT_EQ(u.rows[0].project, "nlp");
  EXPECT_EQ(u.rows[0].user, "ann");
  EXPECT_DOUBLE_EQ(hours_of(u.rows[0].gpu), 48);
  EXPECT_EQ(u.rows[0].attempts, 2);
  EXPECT_EQ(u.rows[0].jobs, 1);
  EXPECT_EQ(u.rows[0].wait_p50, 7200) << "of its first attempt only";
  EXPECT_EQ(u.rows[1].user, "bob");
  EXPECT_EQ(u.rows[1].gpu, Duration::zero());
  EXPECT_DOUBLE_EQ(hours_of(u.rows[1].node), 1);
  EXPECT_EQ(u.rows[1].failed, 1);
  EXPECT_EQ(u.rows[2].project, "vision");
  EXPECT_DOUBLE_EQ(hours_of(u.rows[2].gpu), 136);
  EXPECT_EQ(u.rows[3].cancelled, 1);
  EXPECT_EQ(u.rows[3].jobs, 1);
  EXPECT_FALSE(u.rows[3].wait_p50) << "none was placed";
  EXPECT_EQ(u.total.jobs, 4);
}

TEST_P(UsageTest, ByDayIsCutAtMidnight) {
  const Usage u = usage({UsageKey::day});
  ASSERT_THAT(u.rows, SizeIs(2));
  EXPECT_EQ(u.rows[0].day, day(1));
  EXPECT_DOUBLE_EQ(hours_of(u.rows[0].gpu), 16 + 4 * 4);
  EXPECT_EQ(u.rows[0].attempts, 3);
  EXPECT_EQ(u.rows[0].jobs, 2);
  EXPECT_DOUBLE_EQ(hours_of(u.rows[0].lost), 3);
  EXPECT_EQ(u.rows[0].failed, 1);
  EXPECT_EQ(u.rows[1].day, day(2));
  EXPECT_DOUBLE_EQ(hours_of(u.rows[1].gpu), 4 * 4 + 136);
  EXPECT_EQ(u.rows[1].attempts, 1);
  EXPECT_EQ(u.rows[1].jobs, 3) << "job 1 ran on both days";
  EXPECT_EQ(u.rows[1].succeeded, 1);
  EXPECT_EQ(u.total.jobs, 4) << "and is one job";
  EXPECT_DOUBLE_EQ(hours_of(u.total.gpu), hours_of(u.rows[0].gpu + u.rows[1].gpu));
}

TEST_P(UsageTest, ByCause) {
  const Usage u = usage({UsageKey::cause});
  ASSERT_THAT(u.rows, SizeIs(4));
  EXPECT_EQ(u.rows[0].cause, Cause::none);
  EXPECT_DOUBLE_EQ(hours_of(u.rows[0].gpu), 32 + 136);
  EXPECT_EQ(u.rows[1].cause, Cause::user);
  EXPECT_EQ(u.rows[2].cause, Cause::gpu);
  EXPECT_DOUBLE_EQ(hours_of(u.rows[2].lost), 3);
  EXPECT_EQ(u.rows[3].cause, Cause::cancelled);
  EXPECT_EQ(u.total.lost_by[static_cast<std::size_t>(Cause::gpu)], hours(3));
  EXPECT_EQ(u.total.lost_by[static_cast<std::size_t>(Cause::user)], Duration::zero());
}

TEST_P(UsageTest, TimeIsClippedToTheInterval) {
  // Hours 11 to 12: job 1 held its GPUs all the time; nothing was placed, nothing ended.
  const UsageRow hour_11 = usage({}, hour(11), hour(12)).total;
  EXPECT_DOUBLE_EQ(hours_of(hour_11.gpu), 4);
  EXPECT_DOUBLE_EQ(hours_of(hour_11.node), 2);
  EXPECT_EQ(hour_11.attempts, 0);
  EXPECT_EQ(hour_11.jobs, 1);
  EXPECT_EQ(hour_11.lost, Duration::zero());
  // [10, 14): its end is outside, its beginning inside.
  EXPECT_EQ(usage({}, hour(10), hour(14)).total.attempts, 2);
  EXPECT_EQ(usage({}, hour(14), hour(15)).total.gpu, Duration::zero());
  // Half an hour over midnight, and one that still runs.
  EXPECT_DOUBLE_EQ(hours_of(usage({}, day(2) - minutes(15), day(2) + minutes(15)).total.gpu), 2);
  EXPECT_DOUBLE_EQ(hours_of(usage({}, hour(40), hour(41)).total.gpu), 8);
  const UsageRow before = usage({}, day(1) - hours(48), day(1)).total;
  EXPECT_EQ(before.jobs, 0);
  EXPECT_EQ(before.gpu, Duration::zero());
}

// 3 GPU-hours of four GPUs: the last three quarters of an hour before 14.
TEST_P(UsageTest, WhatWasLostIsThePartOfTheIntervalsTimeThatItIs) {
  const auto lost = [&](Instant since, Instant until) { return usage({}, since, until).total.lost; };
  EXPECT_EQ(lost(hour(10), hour(14)), hours(3));
  EXPECT_EQ(lost(hour(14), hour(15)), Duration::zero()) << "its end alone holds nothing";
  EXPECT_EQ(lost(hour(10), hour(13) + minutes(15)), Duration::zero());
  EXPECT_EQ(lost(hour(10), hour(13) + minutes(30)), hours(1));
  EXPECT_EQ(lost(hour(13) + minutes(45), day(3)), hours(1));
  const UsageRow by = usage({}, hour(13) + minutes(45), day(3)).total;
  EXPECT_EQ(by.lost_by[static_cast<std::size_t>(Cause::gpu)], hours(1));
}

// Three days of work end five minutes after midnight: most of what is lost is of the days before.
TEST_P(UsageTest, ALongRunThatFailsAfterMidnightIsNotLostOnOneDay) {
  Batch b;
  b.gpus.push_back(test::gpu(9, 1));
  submit(b, 5, "eve", "law", "a", 0);
  run(b, 5, 1, 0, 72, 1, {9}, AttemptResult::failed, Cause::gpu);
  AttemptRow& a = b.attempts.back();
  a.ended_at += minutes(5);
  a.lost_gpu = hours(60) + minutes(5);
  b.closed.back().until = a.ended_at;
  store_->commit(b);
  UsageQuery query{.since = day(1), .until = day(5), .by = {UsageKey::day}, .user = "eve"};
  const Usage u = reader_->usage(query);
  ASSERT_THAT(u.rows, SizeIs(4));
  const std::array<Duration, 4> expected{hours(12), hours(24), hours(24), minutes(5)};
  for (std::size_t i = 0; i < expected.size(); ++i) {
    EXPECT_EQ(u.rows[i].lost, expected[i]) << i;
    EXPECT_LE(u.rows[i].lost, u.rows[i].gpu) << i;
  }
  EXPECT_EQ(u.total.lost, a.lost_gpu);
  query.since = day(4);
  EXPECT_EQ(reader_->usage(query).total.lost, minutes(5));
  EXPECT_EQ(reader_->usage(query).total.gpu, minutes(5));
}

TEST_P(UsageTest, FiltersAndVisibilityHoldTogether) {
  UsageQuery query;
  query.since = day(1);
  query.until = day(3);
  query.by = {UsageKey::queue};
  query.user = "ann";
  EXPECT_THAT(reader_->usage(query).rows, SizeIs(2));
  query.project = "nlp";
  ASSERT_THAT(reader_->usage(query).rows, SizeIs(1));
  EXPECT_EQ(reader_->usage(query).rows[0].queue, "a");
  query = {};
  query.since = day(1);
  query.until = day(3);
  query.visible = Visible{.projects = {"nlp"}, .owner = "bob"};
  EXPECT_EQ(reader_->usage(query).total.jobs, 3) << "nlp's, and bob's in vision";
  query.visible = Visible{};
  EXPECT_EQ(reader_->usage(query).total.jobs, 0);
  query.visible.reset();
  query.queue = "' OR true --";
  EXPECT_EQ(reader_->usage(query).total.jobs, 0);
}

// Job 1 fails at hour 10 by a GPU and is back after 8 s, job 2 at 11 by its node and has GPUs again, no more;
// its next attempt fails at 12. Job 3 fails by its user, job 4 lost its GPU on the day before.
class RecoveryTest : public UsageTest {
 protected:
  RecoveryTest() {
    Batch b;
    for (int id = 11; id <= 14; ++id) submit(b, id, "ann", "nlp", "a", 1);
    fail(b, 11, 1, hour(10), 1, 2, Cause::gpu);
    AttemptRow next = attempt(11, 2);
    next.number = 2;
    next.placed_at = hour(10) + seconds(3);
    next.running_at = hour(10) + seconds(8);
    next.restored_at = hour(10) + seconds(20);
    b.attempts.push_back(next);
    fail(b, 12, 1, hour(11), 2, 7, Cause::node_lost);
    fail(b, 12, 2, hour(12), 3, 4, Cause::launch);
    b.attempts.back().placed_at = hour(11) + seconds(9);
    fail(b, 13, 1, hour(12), 1, 1, Cause::user);
    fail(b, 14, 1, hour(-1), 1, 1, Cause::gpu);
    store_->commit(b);
  }
  static void fail(Batch& b, int id, int number, Instant at, int decided, int fenced, Cause cause) {
    AttemptRow a = attempt(id, number);
    a.number = number;
    a.placed_at = at - minutes(5);
    a.fault_at = at;
    a.stopping_at = at + seconds(decided);
    a.ended_at = at + seconds(fenced);
    a.state = AttemptState::ended;
    a.result = AttemptResult::failed;
    a.cause = cause;
    b.attempts.push_back(a);
  }
};

INSTANTIATE_TEST_SUITE_P(Both, RecoveryTest, testing::Values(Kind::memory, Kind::postgres),
                         [](const auto& info) { return info.param == Kind::memory ? "Memory" : "Postgres"; });

TEST_P(RecoveryTest, StagesAreCountedFromTheFirstEvidence) {
  const auto times = reader_->recovery_times(day(1), day(2), {Cause::gpu, Cause::node_lost, Cause::launch});
  const auto& [decided, fenced, placed, running, restored, caught_up] = times;
  EXPECT_EQ(decided.attempts, 3);
  EXPECT_EQ(decided.p50, 2);
  EXPECT_DOUBLE_EQ(decided.p99.value(), 2 + 0.98);
  EXPECT_EQ(fenced.attempts, 3);
  EXPECT_EQ(fenced.p50, 4);
  EXPECT_EQ(placed.attempts, 2);
  EXPECT_EQ(placed.p50, 6);
  EXPECT_EQ(running.attempts, 1);
  EXPECT_EQ(running.p50, 8);
  EXPECT_EQ(running.p99, 8);
  EXPECT_EQ(restored.p50, 20);
  EXPECT_EQ(caught_up.attempts, 0);
  EXPECT_EQ(caught_up.p50, std::nullopt);
}

TEST_P(RecoveryTest, OnlyOfTheCausesAndTheIntervalThatAreAskedFor) {
  const auto fenced = [&](Instant since, Instant until, const std::vector<Cause>& causes) {
    return reader_->recovery_times(since, until, causes)[1].attempts;
  };
  EXPECT_EQ(fenced(day(1), day(2), {Cause::user}), 1);
  EXPECT_EQ(fenced(day(1), day(2), {Cause::hang}), 0);
  EXPECT_EQ(fenced(day(1), day(2), {}), 0);
  EXPECT_EQ(fenced(hour(10), hour(11), {Cause::gpu, Cause::node_lost}), 1) << "its end is not included";
  EXPECT_EQ(fenced(hour(-2), day(2), {Cause::gpu}), 2);
}

}  // namespace
}  // namespace tutti
