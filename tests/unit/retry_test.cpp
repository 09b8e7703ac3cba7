#include "scheduler/core/retry.h"

#include <gtest/gtest.h>

namespace tutti {
namespace {

using namespace std::chrono_literals;

struct Retry : ::testing::Test {
  JobRow row;
  JobSpec spec;
  Instant now{24h};
  std::uint64_t dice = 0;

  Retry() {
    spec.checkpoint.dir = "/ckpt";
    spec.retry.no_progress_limit = 0;
  }
  RetryDecision ends(Cause cause, int exit_code = 0, bool progressed = false) {
    return decide_retry(row, spec, {cause, exit_code, progressed}, now, dice = mix(dice));
  }
};

TEST_F(Retry, UserFailureFailsFast) { EXPECT_EQ(ends(Cause::user, 1).then, JobEvent::fail); }

TEST_F(Retry, UserBudgetIsSpentThenFails) {
  spec.retry.budget[Cause::user] = 2;
  EXPECT_EQ(ends(Cause::user, 1).then, JobEvent::back_off);
  EXPECT_EQ(ends(Cause::user, 1).then, JobEvent::back_off);
  EXPECT_EQ(ends(Cause::user, 1).then, JobEvent::fail);
}

TEST_F(Retry, ZeroBackoffRestartsAtOnce) {
  spec.retry.budget[Cause::user] = 1;
  spec.retry.backoff[Cause::user] = {0s, 0s};
  EXPECT_EQ(ends(Cause::user, 1).then, JobEvent::requeue);
}

TEST_F(Retry, HardwareIsFreeForTheUserAndHeldAfterTwentyInADay) {
  for (int i = 0; i < 20; ++i)
    EXPECT_NE(ends(i % 2 ? Cause::gpu : Cause::node_lost).then, JobEvent::hold) << i;
  EXPECT_EQ(ends(Cause::gpu).then, JobEvent::hold);
  EXPECT_EQ(row.spent[static_cast<std::size_t>(Cause::user)], 0);
}

TEST_F(Retry, HardwareBudgetStartsAnewAfterADay) {
  for (int i = 0; i < 20; ++i) ends(Cause::gpu);
  now += 25h;
  EXPECT_NE(ends(Cause::gpu).then, JobEvent::hold);
}

TEST_F(Retry, FirstHardwareFaultRestartsAtOnceLaterOnesBackOff) {
  spec.retry.no_progress_limit = 10;
  EXPECT_EQ(ends(Cause::gpu).then, JobEvent::requeue);
  const RetryDecision second = ends(Cause::gpu);
  EXPECT_EQ(second.then, JobEvent::back_off);
  EXPECT_LE(second.delay, 5s);
}

TEST_F(Retry, ExplicitBackoffStartsAtItsInitial) {
  spec.retry.backoff[Cause::gpu] = {3s, 3s};
  const RetryDecision d = ends(Cause::gpu);
  EXPECT_EQ(d.then, JobEvent::back_off);
  EXPECT_EQ(d.delay, 3s);
}

TEST_F(Retry, InfrastructureBudgetIsResetByProgress) {
  for (int i = 0; i < 9; ++i) ends(Cause::launch);
  ends(Cause::launch, 0, true);
  for (int i = 0; i < 9; ++i) EXPECT_NE(ends(Cause::launch).then, JobEvent::hold);
  EXPECT_EQ(ends(Cause::launch).then, JobEvent::hold);
}

TEST_F(Retry, BreakerHoldsAfterAttemptsWithoutProgress) {
  spec.retry.no_progress_limit = 3;
  spec.retry.budget[Cause::user] = -1;
  EXPECT_NE(ends(Cause::user, 1).then, JobEvent::hold);
  EXPECT_NE(ends(Cause::gpu).then, JobEvent::hold);
  EXPECT_EQ(ends(Cause::user, 1).then, JobEvent::hold);
}

TEST_F(Retry, ProgressKeepsTheBreakerOpen) {
  spec.retry.no_progress_limit = 3;
  for (int i = 0; i < 15; ++i) EXPECT_NE(ends(Cause::gpu, 0, true).then, JobEvent::hold);
}

TEST_F(Retry, ExitCodesAreMapped) {
  spec.retry.exit_codes = {{42, ExitAction::never}, {7, ExitAction::restart}};
  spec.retry.budget[Cause::user] = 5;
  EXPECT_EQ(ends(Cause::user, 42).then, JobEvent::fail);
  for (int i = 0; i < 10; ++i) EXPECT_EQ(ends(Cause::user, 7).then, JobEvent::requeue);
  EXPECT_EQ(row.spent[static_cast<std::size_t>(Cause::user)], 0) << "a wanted restart is not charged";
}

TEST_F(Retry, OurOwnStopsAreNeverCharged) {
  for (auto c : {Cause::preempted, Cause::maintenance, Cause::requeued})
    for (int i = 0; i < 50; ++i) EXPECT_EQ(ends(c).then, JobEvent::requeue) << name(c);
  EXPECT_EQ(row.spent, (std::array<std::int16_t, kCauseCount>{}));
}

TEST_F(Retry, AFaultOfOursThatRepeatsBacksOffAndIsNeverHeld) {
  spec.retry.no_progress_limit = 3;
  EXPECT_EQ(ends(Cause::control).then, JobEvent::requeue);
  for (int i = 0; i < 100; ++i) {
    const RetryDecision d = ends(Cause::control);
    EXPECT_EQ(d.then, JobEvent::back_off);
    EXPECT_GE(d.delay, 500ms);
    EXPECT_LE(d.delay, 1min);
  }
  EXPECT_EQ(row.no_progress, 0);
}

TEST_F(Retry, ExitCode85WithoutProgressTripsTheBreaker) {
  spec.retry.no_progress_limit = 3;
  EXPECT_EQ(ends(Cause::requeued, 85).then, JobEvent::requeue);
  EXPECT_EQ(ends(Cause::requeued, 85).then, JobEvent::requeue);
  EXPECT_EQ(ends(Cause::requeued, 85).then, JobEvent::hold);
  for (int i = 0; i < 10; ++i) EXPECT_EQ(ends(Cause::requeued, 85, true).then, JobEvent::requeue);
}

TEST_F(Retry, HardwareFaultsBackOffAlsoWithoutCheckpoints) {
  spec.checkpoint.dir.clear();
  EXPECT_EQ(ends(Cause::gpu).then, JobEvent::requeue);
  Duration longest{};
  for (int i = 0; i < 12; ++i) longest = std::max(longest, ends(Cause::gpu).delay);
  EXPECT_GT(longest, 10s);
}

TEST_F(Retry, BackoffStaysUnderItsCeilingForEveryDie) {
  spec.retry.budget[Cause::user] = -1;
  for (int i = 0; i < 200; ++i) {
    const RetryDecision d = ends(Cause::user, 1);
    EXPECT_LE(d.delay, 10min);
    EXPECT_GE(d.delay, 0s);
  }
}

TEST_F(Retry, PeopleGetWhatTheyAskedFor) {
  EXPECT_EQ(ends(Cause::cancelled).then, JobEvent::cancel);
  EXPECT_EQ(ends(Cause::held).then, JobEvent::hold);
  EXPECT_EQ(ends(Cause::time_limit).then, JobEvent::fail);
}

}  // namespace
}  // namespace tutti
