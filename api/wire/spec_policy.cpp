#include "api/wire/spec_policy.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>
#include <string>
#include <string_view>

#include "api/wire/spec_fields.h"

namespace tutti::wire {
namespace {

namespace json = boost::json;
using namespace std::chrono_literals;

constexpr auto kSignals = std::to_array<std::string_view>(
    {"TERM", "INT", "HUP", "QUIT", "USR1", "USR2", "KILL", "ALRM", "CONT", "WINCH"});

void read_signal(SpecReader& r, const Path& at, const json::value& v, StopPolicy& into) {
  auto s = r.string(at, v, 16);
  if (!s) return;
  if (s->starts_with("SIG")) s->remove_prefix(3);
  if (std::ranges::find(kSignals, *s) == kSignals.end())
    return r.problem(at, "unknown signal " + shown(v), did_you_mean(*s, kSignals));
  into.signal = std::string(*s);
}

constexpr auto kStopFields = std::to_array<Field<StopPolicy>>({
    {"signal", read_signal},
    {"grace", read_duration<&StopPolicy::grace, 0>},
});

void read_keep_every(SpecReader& r, const Path& at, const json::value& v, CheckpointPolicy& into) {
  if (const auto n = r.integer(at, v, 0, 1'000'000'000'000)) into.keep_every = *n;
}

constexpr auto kCheckpointFields = std::to_array<Field<CheckpointPolicy>>({
    {"dir", read_absolute_path<&CheckpointPolicy::dir>},
    {"keep", read_int<&CheckpointPolicy::keep, 0, 10'000>},
    {"keep_every", read_keep_every},
    {"max_interval", read_duration<&CheckpointPolicy::max_interval, 1'000'000>},
});

constexpr auto kBackoffFields = std::to_array<Field<Backoff>>({
    {"initial", read_duration<&Backoff::initial, 0>},
    {"max", read_duration<&Backoff::max, 0>},
});

// Causes that a policy can speak about: what a person did is not retried by budget.
constexpr auto kRetriedCauses =
    std::to_array<Cause>({Cause::user, Cause::oom, Cause::gpu, Cause::node_lost, Cause::fabric,
                          Cause::network, Cause::storage, Cause::launch, Cause::hang, Cause::unknown,
                          Cause::preempted, Cause::maintenance, Cause::control, Cause::time_limit});

std::optional<Cause> read_cause(SpecReader& r, const Path& at) {
  const auto cause = parse_cause(at.key);
  if (cause && std::ranges::find(kRetriedCauses, *cause) != kRetriedCauses.end()) return cause;
  std::array<std::string_view, kRetriedCauses.size()> names;
  std::string known = "causes: ";
  for (std::size_t i = 0; i < names.size(); ++i) {
    names[i] = name(kRetriedCauses[i]);
    known += (i == 0 ? "" : ", ") + std::string(names[i]);
  }
  auto hint = did_you_mean(at.key, names);
  r.problem(at, "unknown cause", hint.empty() ? known : hint);
  return std::nullopt;
}

// Where a budget cannot be chosen, what it always is.
constexpr int kYourBudget = 1;
int fixed_budget(Cause cause) {
  if (cause == Cause::time_limit) return 0;
  const bool ours = cause == Cause::preempted || cause == Cause::maintenance || cause == Cause::control;
  return ours ? -1 : kYourBudget;
}

void read_budget(SpecReader& r, const Path& at, const json::value& v, RetryPolicy& into) {
  const auto* object = r.object(at, v);
  if (object == nullptr) return;
  for (const auto& m : *object) {
    const Path here{&at, m.key()};
    const auto cause = read_cause(r, here);
    if (!cause || m.value().is_null()) continue;
    const auto n = r.integer(here, m.value(), -1, 10'000);
    if (!n) continue;
    const int fixed = fixed_budget(*cause);
    if (fixed != kYourBudget && *n != fixed)
      r.problem(here,
                fixed == 0 ? "a job that has used up its time is not started again"
                           : "what is our fault is never charged",
                "leave it out");
    else
      into.budget[*cause] = static_cast<int>(*n);
  }
}

void read_backoff(SpecReader& r, const Path& at, const json::value& v, RetryPolicy& into) {
  const auto* object = r.object(at, v);
  if (object == nullptr) return;
  for (const auto& m : *object) {
    const Path here{&at, m.key()};
    const auto cause = read_cause(r, here);
    if (!cause || m.value().is_null()) continue;
    if (fixed_budget(*cause) != kYourBudget) {
      r.problem(here, "this cause has no back-off of yours", "leave it out");
      continue;
    }
    Backoff backoff{.initial = 10s, .max = Duration(-1)};
    const auto before = r.problems.size();
    read_fields(r, here, m.value(), backoff, kBackoffFields);
    if (backoff.max == Duration(-1)) backoff.max = std::max<Duration>(10min, backoff.initial);
    if (r.problems.size() == before && backoff.max < backoff.initial)
      r.problem(here, "max must not be less than initial");
    into.backoff[*cause] = backoff;
  }
}

void read_exit_codes(SpecReader& r, const Path& at, const json::value& v, RetryPolicy& into) {
  const auto* object = r.object(at, v);
  if (object == nullptr) return;
  for (const auto& m : *object) {
    const Path here{&at, m.key()};
    const std::string_view key = m.key();
    int number = -1;
    const auto [end, code] = std::from_chars(key.data(), key.data() + key.size(), number);
    if (code != std::errc{} || end != key.data() + key.size() || number < 1 || number > 255 ||
        key.front() == '0') {
      r.problem(here, "an exit code is a number from 1 to 255");
    } else if (number == 137 || number == 143) {
      r.problem(here, "exit codes 137 and 143 cannot be mapped",
                "they mean killed by a signal, whoever sent it");
    } else if (m.value().is_string() && m.value().get_string() == "restart") {
      into.exit_codes[number] = ExitAction::restart;
    } else if (m.value().is_string() && m.value().get_string() == "never") {
      into.exit_codes[number] = ExitAction::never;
    } else if (!m.value().is_null()) {
      r.problem(here, "must be \"restart\" or \"never\", not " + shown(m.value()));
    }
  }
}

constexpr auto kRetryFields = std::to_array<Field<RetryPolicy>>({
    {"budget", read_budget},
    {"backoff", read_backoff},
    {"exit_codes", read_exit_codes},
    {"no_progress_limit", read_int<&RetryPolicy::no_progress_limit, 0, 10'000>},
});

void read_hang_after(SpecReader& r, const Path& at, const json::value& v, HangPolicy& into) {
  if (const auto d = r.duration(at, v, std::chrono::seconds(1))) into.after = *d;
}

void read_hang_action(SpecReader& r, const Path& at, const json::value& v, HangPolicy& into) {
  const auto s = r.string(at, v, 64);
  if (!s) return;
  for (const auto action : {HangAction::capture_only, HangAction::capture_and_restart})
    if (*s == name(action)) {
      into.action = action;
      return;
    }
  r.problem(at, "must be \"capture_only\" or \"capture_and_restart\", not " + shown(v));
}

constexpr auto kHangFields =
    std::to_array<Field<HangPolicy>>({{"after", read_hang_after}, {"action", read_hang_action}});

}  // namespace

std::span<const std::string_view> signal_names() { return kSignals; }

void read_stop(SpecReader& r, const Path& at, const json::value& v, JobSpec& into) {
  read_fields(r, at, v, into.stop, kStopFields);
}

void read_checkpoint(SpecReader& r, const Path& at, const json::value& v, JobSpec& into) {
  read_fields(r, at, v, into.checkpoint, kCheckpointFields);
}

void read_retry(SpecReader& r, const Path& at, const json::value& v, JobSpec& into) {
  read_fields(r, at, v, into.retry, kRetryFields);
}

void read_hang(SpecReader& r, const Path& at, const json::value& v, JobSpec& into) {
  read_fields(r, at, v, into.hang, kHangFields);
}

}  // namespace tutti::wire
