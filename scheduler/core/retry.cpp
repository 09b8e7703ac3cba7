#include "scheduler/core/retry.h"

#include <algorithm>
#include <cstdio>

namespace tutti {
namespace {

using namespace std::chrono_literals;

constexpr Duration kHardwareWindow = std::chrono::hours(24);

struct Delay {
  Duration floor{};
  Duration ceiling{};
};

Duration doubled(Duration initial, Duration max, int n) {
  Duration d = initial;
  for (int i = 0; i < n && d < max; ++i) d *= 2;
  return std::min(d, max);
}

// Full jitter below the doubling ceiling. A back-off that the user wrote starts at their `initial`.
Delay delay_of(Cause cause, const RetryPolicy& policy, int before) {
  if (auto it = policy.backoff.find(cause); it != policy.backoff.end())
    return {it->second.initial,
            doubled(it->second.initial, std::max(it->second.max, it->second.initial), before)};
  switch (class_of(cause)) {
    case CauseClass::user: return {0us, doubled(10s, 10min, before)};
    case CauseClass::hardware: return before == 0 ? Delay{} : Delay{0us, doubled(5s, 10min, before - 1)};
    case CauseClass::infrastructure: return {0us, doubled(15s, 5min, before)};
    case CauseClass::undecided: return {0us, doubled(10s, 10min, before)};
    case CauseClass::ours:
    case CauseClass::person: return {};
  }
  return {};
}

std::string seconds_text(Duration d) {
  char buffer[32];
  std::snprintf(buffer, sizeof buffer, "%.1f s", to_seconds(d));
  return buffer;
}

// The breaker: so many attempts in a row without a new checkpoint. A job that writes none is judged only by
// causes that would repeat on any hardware.
bool breaker_counts(Cause cause, const JobSpec& spec) {
  switch (class_of(cause)) {
    case CauseClass::ours:
    case CauseClass::person: return false;
    case CauseClass::infrastructure: return false;  // an outage ends; its budget is the bound
    case CauseClass::hardware: return !spec.checkpoint.dir.empty();
    case CauseClass::user:
    case CauseClass::undecided: return true;
  }
  return true;
}

std::int16_t spent_in_class(const JobRow& row, CauseClass c) {
  int n = 0;
  for (std::size_t i = 0; i < kCauseCount; ++i)
    if (class_of(static_cast<Cause>(i)) == c) n += row.spent[i];
  return static_cast<std::int16_t>(std::min(n, 32767));
}

void charge(JobRow& row, Cause cause, Instant now) {
  if (class_of(cause) == CauseClass::hardware && now - row.hardware_window_at > kHardwareWindow) {
    row.hardware_window_at = now;
    for (std::size_t i = 0; i < kCauseCount; ++i)
      if (class_of(static_cast<Cause>(i)) == CauseClass::hardware) row.spent.set(i, 0);
  }
  row.spent.add_one(static_cast<std::size_t>(cause));
}

// Counts one more attempt without progress. True: the breaker trips.
bool no_progress_any_more(JobRow& row, const JobSpec& spec) {
  if (row.no_progress < 32767) ++row.no_progress;
  return spec.retry.no_progress_limit > 0 && row.no_progress >= spec.retry.no_progress_limit;
}

RetryDecision held_without_progress(const JobRow& row) {
  return {JobEvent::hold,
          {},
          "held: " + std::to_string(row.no_progress) +
              " attempts in a row without progress; release it to go on"};
}

// Never charged and never held, but a fault of ours that repeats must not spin: the first time at once, then
// between half and all of 1 s doubling to 1 min.
RetryDecision again_after_our_fault(JobRow& row, bool progressed, std::uint64_t dice) {
  constexpr auto kOurs = static_cast<std::size_t>(Cause::control);
  if (progressed) row.spent.set(kOurs, 0);
  row.spent.add_one(kOurs);
  const int times = row.spent[kOurs];
  if (times == 1) return {JobEvent::requeue, {}, "again at once, at the front: cause control"};
  const Duration ceiling = doubled(1s, 1min, times - 2);
  const Duration wait =
      ceiling / 2 +
      Duration(static_cast<Duration::rep>(dice % static_cast<std::uint64_t>((ceiling / 2).count() + 1)));
  return {JobEvent::back_off, wait, "again in " + seconds_text(wait) + ": cause control"};
}

RetryDecision out_of_budget(Cause cause, int budget) {
  const std::string n = std::to_string(budget);
  const std::string c(name(cause));
  switch (class_of(cause)) {
    case CauseClass::user:
    case CauseClass::undecided:
      return {JobEvent::fail, {}, "no retry left for cause " + c + " (budget " + n + ")"};
    case CauseClass::hardware:
      return {JobEvent::hold, {}, "held: " + n + " hardware faults in 24 h; release it to go on"};
    case CauseClass::infrastructure:
      return {JobEvent::hold,
              {},
              "held: " + n + " infrastructure failures without progress; release it to go on"};
    case CauseClass::ours:
    case CauseClass::person: break;
  }
  return {JobEvent::fail, {}, "no retry left for cause " + c};
}

}  // namespace

CauseClass class_of(Cause cause) {
  switch (cause) {
    case Cause::user:
    case Cause::oom:
    case Cause::time_limit: return CauseClass::user;
    case Cause::gpu:
    case Cause::node_lost:
    case Cause::fabric: return CauseClass::hardware;
    case Cause::network:
    case Cause::storage:
    case Cause::launch: return CauseClass::infrastructure;
    case Cause::none:
    case Cause::hang:
    case Cause::unknown: return CauseClass::undecided;
    case Cause::preempted:
    case Cause::maintenance:
    case Cause::control:
    case Cause::requeued: return CauseClass::ours;
    case Cause::cancelled:
    case Cause::held: return CauseClass::person;
  }
  return CauseClass::undecided;
}

int budget_of(Cause cause, const RetryPolicy& policy) {
  if (auto it = policy.budget.find(cause); it != policy.budget.end()) return it->second;
  switch (class_of(cause)) {
    case CauseClass::user: return 0;
    case CauseClass::hardware: return 20;
    case CauseClass::infrastructure: return 10;
    case CauseClass::undecided: return 3;
    case CauseClass::ours:
    case CauseClass::person: return -1;
  }
  return 0;
}

std::vector<BudgetState> retry_budgets(const JobRow& row, const JobSpec& spec, Instant now) {
  std::vector<BudgetState> out;
  for (std::size_t i = 1; i < kCauseCount; ++i) {
    const auto cause = static_cast<Cause>(i);
    const CauseClass c = class_of(cause);
    if (c == CauseClass::ours || c == CauseClass::person) continue;
    const bool hardware = c == CauseClass::hardware;
    BudgetState state{.cause = cause, .limit = budget_of(cause, spec.retry), .used = row.spent[i]};
    if (cause == Cause::time_limit) state.limit = 0;  // whatever its policy says: a limit is one
    if (hardware) {
      state.window = kHardwareWindow;
      if (!spec.retry.budget.contains(cause)) state.used = spent_in_class(row, c);
      if (now - row.hardware_window_at > kHardwareWindow) state.used = 0;  // as the next charge will see it
    }
    if (state.limit < 0 || state.used < state.limit) {
      const int before = breaker_counts(cause, spec) ? row.no_progress : state.used;
      state.next_delay = delay_of(cause, spec.retry, before).ceiling;
    }
    out.push_back(state);
  }
  return out;
}

std::uint64_t mix(std::uint64_t x) {
  x += 0x9e3779b97f4a7c15ULL;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
  return x ^ (x >> 31);
}

RetryDecision decide_retry(JobRow& row, const JobSpec& spec, const AttemptOutcome& outcome, Instant now,
                           std::uint64_t dice) {
  Cause cause = outcome.cause;
  if (cause == Cause::cancelled) return {JobEvent::cancel, {}, row.reason};
  if (cause == Cause::held) return {JobEvent::hold, {}, row.reason};
  if (cause == Cause::time_limit) return {JobEvent::fail, {}, "time limit reached"};
  // Bounded by the number of checkpoints: each such end takes one away.
  if (outcome.damaged_checkpoint)
    return {JobEvent::requeue, {}, "again at once, from an earlier checkpoint: not charged"};
  if (class_of(cause) == CauseClass::user) {
    if (auto it = spec.retry.exit_codes.find(outcome.exit_code); it != spec.retry.exit_codes.end()) {
      if (it->second == ExitAction::never)
        return {JobEvent::fail, {}, "exit code " + std::to_string(outcome.exit_code) + " is never retried"};
      cause = Cause::requeued;
    }
  }
  if (outcome.progressed) {
    row.no_progress = 0;
    for (std::size_t i = 0; i < kCauseCount; ++i)
      if (class_of(static_cast<Cause>(i)) == CauseClass::infrastructure) row.spent.set(i, 0);
  }
  // A wanted restart that gets nowhere is a loop all the same.
  if (cause == Cause::requeued && outcome.exit_code != 0 && !outcome.progressed &&
      no_progress_any_more(row, spec))
    return held_without_progress(row);
  if (cause == Cause::control) return again_after_our_fault(row, outcome.progressed, dice);
  if (cause == Cause::preempted)
    return {JobEvent::requeue, {}, "waits again: it made way for another, and is not charged"};
  if (class_of(cause) == CauseClass::ours)
    return {JobEvent::requeue, {}, "again at once, at the front: cause " + std::string(name(cause))};

  charge(row, cause, now);
  const int budget = budget_of(cause, spec.retry);
  const int spent = class_of(cause) == CauseClass::hardware && !spec.retry.budget.contains(cause)
                        ? spent_in_class(row, CauseClass::hardware)
                        : row.spent[static_cast<std::size_t>(cause)];
  if (budget >= 0 && spent > budget) return out_of_budget(cause, budget);

  // What does not count as lack of progress backs off all the same.
  const bool by_count = !breaker_counts(cause, spec);
  const int before = by_count ? spent - 1 : row.no_progress;
  if (!outcome.progressed && breaker_counts(cause, spec) && no_progress_any_more(row, spec))
    return held_without_progress(row);
  const Delay delay = delay_of(cause, spec.retry, before);
  const auto range = static_cast<std::uint64_t>((delay.ceiling - delay.floor).count());
  const Duration wait =
      delay.floor + Duration(range == 0 ? 0 : static_cast<Duration::rep>(dice % (range + 1)));
  const std::string of = budget < 0 ? "no limit" : std::to_string(spent) + " of " + std::to_string(budget);
  const std::string text = "retry (" + of + ") for cause " + std::string(name(cause));
  if (wait <= Duration::zero()) return {JobEvent::requeue, {}, text + ", at once"};
  return {JobEvent::back_off, wait, text + " in " + seconds_text(wait)};
}

}  // namespace tutti
