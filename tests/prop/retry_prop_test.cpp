// What becomes of a job after an attempt, for any history: budgets are kept, delays have a ceiling, and
// nobody pays for another's fault.
#include <gtest/gtest.h>

#include <rapidcheck/gtest.h>

#include <algorithm>

#include "scheduler/core/retry.h"

namespace tutti {
namespace {

using namespace std::chrono_literals;
using rc::gen::inRange;

bool dice(int percent) { return *inRange(0, 100) < percent; }

Cause any_cause() { return static_cast<Cause>(*inRange(1, static_cast<int>(kCauseCount))); }

JobSpec any_spec() {
  JobSpec spec;
  if (dice(50)) spec.checkpoint.dir = "/ckpt";
  spec.retry.no_progress_limit = *inRange(0, 6);
  for (int i = *inRange(0, 4); i > 0; --i)  // what is our fault has no budget: the spec refuses it
    if (const Cause cause = any_cause(); class_of(cause) != CauseClass::ours)
      spec.retry.budget[cause] = *inRange(-1, 6);
  for (int i = *inRange(0, 4); i > 0; --i) {
    const Duration initial = *inRange(0, 20) * 1s;
    spec.retry.backoff[any_cause()] = {initial, *inRange(0, 100) * 1s};
  }
  if (dice(30)) spec.retry.exit_codes[*inRange(1, 4)] = dice(50) ? ExitAction::restart : ExitAction::never;
  return spec;
}

AttemptOutcome any_outcome() {
  return {.cause = any_cause(), .exit_code = *inRange(0, 4), .progressed = dice(30)};
}

Duration ceiling_of(Cause cause, const RetryPolicy& policy) {
  if (auto it = policy.backoff.find(cause); it != policy.backoff.end())
    return std::max(it->second.initial, it->second.max);
  return class_of(cause) == CauseClass::infrastructure ? Duration(5min) : Duration(10min);
}

int in_class(const JobRow& row, CauseClass wanted) {
  int n = 0;
  for (std::size_t i = 0; i < kCauseCount; ++i)
    if (class_of(static_cast<Cause>(i)) == wanted) n += row.spent[i];
  return n;
}

// A job's life: attempts end one after the other until it is over or held.
struct Life {
  JobRow row;
  JobSpec spec = any_spec();
  Instant now{std::chrono::hours(24 * 365 * 50)};

  Life() { row.id = JobId(1); }
  RetryDecision end(const AttemptOutcome& outcome) {
    now += *inRange(0, 3600) * 1s;
    return decide_retry(row, spec, outcome, now, *rc::gen::arbitrary<std::uint64_t>());
  }
};

RC_GTEST_PROP(Retry, GoesOnOnlyWithinTheBudgetOfTheCause, ()) {
  Life life;
  for (int n = *inRange(1, 60); n > 0; --n) {
    const AttemptOutcome outcome = any_outcome();
    const auto decision = life.end(outcome);
    const int budget = budget_of(outcome.cause, life.spec.retry);
    const bool goes_on = decision.then == JobEvent::requeue || decision.then == JobEvent::back_off;
    const int spent =
        class_of(outcome.cause) == CauseClass::hardware && !life.spec.retry.budget.contains(outcome.cause)
            ? in_class(life.row, CauseClass::hardware)
            : life.row.spent[static_cast<std::size_t>(outcome.cause)];
    if (goes_on && budget >= 0) RC_ASSERT(spent <= budget);
    if (!goes_on) break;
  }
}

RC_GTEST_PROP(Retry, DelaysStayBetweenZeroAndTheirCeiling, ()) {
  Life life;
  for (int n = *inRange(1, 40); n > 0; --n) {
    const AttemptOutcome outcome = any_outcome();
    const auto decision = life.end(outcome);
    RC_ASSERT(decision.delay >= Duration::zero());
    RC_ASSERT(decision.delay <= ceiling_of(outcome.cause, life.spec.retry));
    RC_ASSERT((decision.delay > Duration::zero()) == (decision.then == JobEvent::back_off));
  }
}

// With the same die, and nothing else between: a later retry never waits less under its ceiling.
RC_GTEST_PROP(Retry, TheCeilingNeverFallsWithoutProgress, ()) {
  const Cause cause = *rc::gen::element(Cause::user, Cause::unknown, Cause::hang, Cause::launch, Cause::gpu);
  JobSpec spec;
  spec.retry.no_progress_limit = 0;
  spec.checkpoint.dir = "/ckpt";
  spec.retry.budget[cause] = -1;
  JobRow row;
  const Instant now(std::chrono::hours(24 * 365 * 50));
  constexpr int kDice = 200;
  Duration before{};
  for (int n = 0; n < 12; ++n) {
    Duration longest{};
    for (int i = 0; i < kDice; ++i) {
      JobRow copy = row;
      const auto decision =
          decide_retry(copy, spec, {.cause = cause}, now, mix(static_cast<std::uint64_t>(i)));
      longest = std::max(longest, decision.delay);
    }
    // The longest of many throws is near its ceiling; ceilings double or stay.
    RC_ASSERT(longest * 10 >= before * 9);
    before = longest;
    decide_retry(row, spec, {.cause = cause}, now, 0);
  }
}

RC_GTEST_PROP(Retry, OurFaultsAndPeopleAreNeverCharged, ()) {
  Life life;
  for (int n = *inRange(0, 10); n > 0; --n) life.end(any_outcome());
  const JobRow before = life.row;
  const Cause cause = *rc::gen::element(Cause::preempted, Cause::maintenance, Cause::control, Cause::requeued,
                                        Cause::cancelled, Cause::held);
  const auto decision = life.end({.cause = cause, .exit_code = 0, .progressed = false});
  auto spent = life.row.spent;  // faults of ours are counted for their back-off, not against a budget
  constexpr auto kOurs = static_cast<std::size_t>(Cause::control);
  spent.set(kOurs, before.spent[kOurs]);
  RC_ASSERT(spent == before.spent);
  RC_ASSERT(life.row.no_progress == before.no_progress);
  if (cause == Cause::cancelled)
    RC_ASSERT(decision.then == JobEvent::cancel);
  else if (cause == Cause::held)
    RC_ASSERT(decision.then == JobEvent::hold);
  else if (cause == Cause::control)
    RC_ASSERT(decision.then == JobEvent::requeue || decision.then == JobEvent::back_off);
  else
    RC_ASSERT(decision.then == JobEvent::requeue);
}

RC_GTEST_PROP(Retry, UserBudgetIsNotTouchedByAnyOtherCause, ()) {
  Life life;
  for (int n = *inRange(1, 40); n > 0; --n) {
    const auto user = life.row.spent[static_cast<std::size_t>(Cause::user)];
    const AttemptOutcome outcome = any_outcome();
    life.end(outcome);
    if (outcome.cause != Cause::user)
      RC_ASSERT(life.row.spent[static_cast<std::size_t>(Cause::user)] == user);
  }
}

RC_GTEST_PROP(Retry, BreakerHoldsAfterTheLimitAndNeverBefore, ()) {
  Life life;
  for (int n = *inRange(1, 60); n > 0; --n) {
    const auto decision = life.end(any_outcome());
    const int limit = life.spec.retry.no_progress_limit;
    const bool goes_on = decision.then == JobEvent::requeue || decision.then == JobEvent::back_off;
    if (limit > 0 && goes_on) RC_ASSERT(life.row.no_progress < limit);
    if (!goes_on) break;
  }
}

RC_GTEST_PROP(Retry, SameHistoryDecidesTheSame, ()) {
  Life life;
  for (int n = *inRange(0, 10); n > 0; --n) life.end(any_outcome());
  const AttemptOutcome outcome = any_outcome();
  const auto throw_of_dice = *rc::gen::arbitrary<std::uint64_t>();
  JobRow a = life.row, b = life.row;
  const auto one = decide_retry(a, life.spec, outcome, life.now, throw_of_dice);
  const auto two = decide_retry(b, life.spec, outcome, life.now, throw_of_dice);
  RC_ASSERT(one.then == two.then);
  RC_ASSERT(one.delay == two.delay);
  RC_ASSERT(a.spent == b.spent);
}

}  // namespace
}  // namespace tutti
