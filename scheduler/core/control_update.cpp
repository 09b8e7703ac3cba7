// Control plane: what people change of a job after its submission, and what they may. The spec that holds is
// stored beside the submitted one, in the transaction of the event that tells of the change.
#include <algorithm>
#include <array>
#include <chrono>

#include "scheduler/core/control_plane.h"
#include "scheduler/core/plane_inputs.h"

namespace tutti {

namespace {

constexpr std::size_t kMaxLabels = 64;

Error refused(Errc code, std::string field, std::string message, std::string hint = {}) {
  return {.code = code, .message = std::move(message), .hint = std::move(hint), .field = std::move(field)};
}

// In the largest unit that divides it.
std::string text_of(const std::optional<Duration>& d) {
  if (!d) return "none";
  const auto micros = d->count();
  constexpr std::int64_t kSecond = 1'000'000;
  if (micros % kSecond != 0) return std::to_string(micros / 1000) + "ms";
  const auto seconds = micros / kSecond;
  if (seconds % 3600 == 0) return std::to_string(seconds / 3600) + "h";
  if (seconds % 60 == 0) return std::to_string(seconds / 60) + "m";
  return std::to_string(seconds) + "s";
}

std::string padded(std::int64_t n) { return (n < 10 ? "0" : "") + std::to_string(n); }

std::string text_of(const std::optional<Instant>& at) {
  if (!at) return "none";
  const auto day = std::chrono::floor<std::chrono::days>(*at);
  const std::chrono::year_month_day date(day);
  const std::chrono::hh_mm_ss time(std::chrono::floor<std::chrono::seconds>(*at) - day);
  return std::to_string(static_cast<int>(date.year())) + "-" + padded(static_cast<unsigned>(date.month())) +
         "-" + padded(static_cast<unsigned>(date.day())) + "T" + padded(time.hours().count()) + ":" +
         padded(time.minutes().count()) + ":" + padded(time.seconds().count()) + "Z";
}

// Every field that differs, as it was and as it is: "priority 50, time_limit none".
class Differences {
 public:
  Differences(const JobSpec& before, const JobSpec& after) {
    if (before.priority != after.priority)
      add("priority", std::to_string(before.priority), std::to_string(after.priority));
    see("time_limit", before.time_limit, after.time_limit);
    see("total_time_limit", before.total_time_limit, after.total_time_limit);
    see("begin_time", before.begin_time, after.begin_time);
    see("deadline", before.deadline, after.deadline);
    see_labels(before, after);
  }
  bool none() const { return from.empty(); }

  std::string from, to;

 private:
  void add(std::string_view field, const std::string& was, const std::string& is) {
    for (auto [text, value] : {std::pair(&from, &was), std::pair(&to, &is)}) {
      if (!text->empty()) *text += ", ";
      text->append(field).append(" ").append(*value);
    }
  }
  template <class T>
  void see(std::string_view field, const std::optional<T>& was, const std::optional<T>& is) {
    if (was != is) add(field, text_of(was), text_of(is));
  }
  void see_labels(const JobSpec& before, const JobSpec& after) {
    const auto value = [](const JobSpec& spec, const std::string& label) {
      const auto found = spec.labels.find(label);
      return found == spec.labels.end() ? std::string("none") : "'" + found->second + "'";
    };
    std::map<std::string, std::string> all = before.labels;
    all.insert(after.labels.begin(), after.labels.end());
    for (const auto& [label, any] : all)
      if (value(before, label) != value(after, label))
        add("labels." + label, value(before, label), value(after, label));
  }
};

}  // namespace

JobSpec ControlPlane::changed(const Job& job, const JobChange& change) {
  JobSpec spec = *job.spec;
  if (change.priority) spec.priority = *change.priority;
  if (change.time_limit) spec.time_limit = *change.time_limit;
  if (change.total_time_limit) spec.total_time_limit = *change.total_time_limit;
  if (change.begin_time) spec.begin_time = *change.begin_time;
  if (change.deadline) spec.deadline = *change.deadline;
  for (const auto& [label, value] : change.labels) {
    if (value)
      spec.labels[label] = *value;
    else
      spec.labels.erase(label);
  }
  return spec;
}

// What was refused at its submission is refused now; a limit that has passed already would be an end under
// another name.
std::optional<Error> ControlPlane::refuses_change(const Job& job, const JobChange& change, Now now) const {
  const std::string who = "job " + to_string(job.row.id);
  const JobSpec spec = changed(job, change);
  if (spec.priority < 0 || spec.priority > 100)
    return refused(Errc::invalid_argument, "priority", "priority must be 0 to 100");
  if (change.begin_time && job.row.attempt > 0)
    return refused(Errc::illegal_transition, "begin_time",
                   who + " has begun already: its begin time cannot be changed any more",
                   "hold it to keep it from running");
  if (change.deadline && spec.deadline && *spec.deadline <= now.wall)
    return refused(Errc::invalid_argument, "deadline", "the deadline is in the past", "cancel it instead");
  if (change.deadline && spec.deadline && spec.schedule)
    return refused(Errc::invalid_argument, "deadline", "a deadline does not go with a schedule",
                   "total_time_limit bounds a run");
  if ((change.deadline || change.begin_time) && spec.deadline && spec.begin_time &&
      *spec.begin_time >= *spec.deadline)
    return refused(Errc::invalid_argument, change.begin_time ? "begin_time" : "deadline",
                   "the deadline would not be after the begin time");
  if (spec.schedule && change.begin_time && first_run(spec, now.wall) == Instant::max())
    return refused(Errc::invalid_argument, "begin_time",
                   "'" + spec.schedule->cron + "' never comes after that begin time");
  const bool limits = change.time_limit || change.total_time_limit;
  if (limits && spec.time_limit && spec.total_time_limit && *spec.total_time_limit < *spec.time_limit)
    return refused(Errc::invalid_argument, change.total_time_limit ? "total_time_limit" : "time_limit",
                   "total_time_limit would be less than time_limit",
                   "it counts all attempts together: change both");
  const Attempt* live = find_attempt({job.row.id, job.row.epoch});
  if (limits && live != nullptr && live->row.state == AttemptState::running)
    if (const auto limit = run_limit(spec, job.row.ran); limit && live->row.running_at + *limit <= now.wall)
      return refused(Errc::invalid_argument, change.time_limit ? "time_limit" : "total_time_limit",
                     who + " has run for " +
                         text_of(std::chrono::floor<std::chrono::seconds>(now.wall - live->row.running_at)) +
                         " already: this limit would end it at once",
                     "cancel or requeue it instead");
  if (spec.labels.size() > kMaxLabels)
    return refused(Errc::invalid_argument, "labels",
                   who + " would have " + std::to_string(spec.labels.size()) + " labels, at most " +
                       std::to_string(kMaxLabels) + " are kept");
  return std::nullopt;
}

std::optional<Error> ControlPlane::is_over(JobId id) const {
  if (jobs_.contains(id)) return std::nullopt;
  if (id.value >= 1 && id <= last_job_)
    return refused(Errc::illegal_transition, "", "job " + to_string(id) + " is already over",
                   "submit it again to run it once more");
  return refused(Errc::not_found, "id", "no job " + to_string(id));
}

std::optional<Error> ControlPlane::would_refuse(JobId id, JobAct act, const JobChange& change,
                                                Now now) const {
  if (auto over = is_over(id)) return over;
  const Job& job = jobs_.at(id);
  const JobState state = job.row.state;
  switch (act) {
    case JobAct::cancel: return std::nullopt;
    case JobAct::hold: return state == JobState::held ? std::optional(illegal(job, "held")) : std::nullopt;
    case JobAct::release:
      return state != JobState::held ? std::optional(illegal(job, "released")) : std::nullopt;
    case JobAct::requeue:
      return is_active(state) ? std::nullopt : std::optional(illegal(job, "requeued: it is not running"));
    case JobAct::update: return refuses_change(job, change, now);
  }
  return std::nullopt;
}

bool ControlPlane::is_so_already(JobId id, JobAct act, const JobChange& change) const {
  const Job* job = find_job(id);
  if (job == nullptr) return false;
  const Attempt* live = find_attempt({id, job->row.epoch});
  const bool stopping = live != nullptr && live->row.state == AttemptState::stopping;
  switch (act) {
    case JobAct::cancel: return stopping && live->row.cause == Cause::cancelled;
    case JobAct::hold:
      return job->row.state == JobState::held || (stopping && live->row.cause == Cause::held);
    case JobAct::release:
    case JobAct::requeue: return false;
    case JobAct::update: return Differences(*job->spec, changed(*job, change)).none();
  }
  return false;
}

Result<JobId> ControlPlane::on_update(Now now, JobId id, const JobChange& change, std::string_view who) {
  const auto deciding = note<&ControlPlane::on_update>(now, id, change, who);
  Result<Job*> found = live_job(id);
  if (!found) return found.error();
  Job& job = **found;
  if (auto error = refuses_change(job, change, now)) return *error;
  JobSpec spec = changed(job, change);
  Differences differences(*job.spec, spec);
  if (differences.none()) return id;
  record_job(job, now,
             {.kind = "update",
              .from = std::move(differences.from),
              .to = std::move(differences.to),
              .detail = "changed by " + std::string(who)});
  put_changes(job, change, std::move(spec), now);
  out_.batch.changed_specs[id] = specs_.encode(*job.spec);
  return id;
}

void ControlPlane::put_changes(Job& job, const JobChange& change, JobSpec spec, Now now) {
  const auto waiting = planner_.find_waiting(job.row.id);
  const auto since = waiting ? std::optional(waiting->since) : std::nullopt;
  leave(job);
  forget_time(job);
  job.spec = std::make_shared<const JobSpec>(std::move(spec));
  job.row.priority = static_cast<std::int16_t>(job.spec->priority);
  const Instant begin = job.spec->begin_time.value_or(Instant{});
  const bool later = begin > now.wall, moved = change.begin_time && !job.spec->schedule;
  if (change.begin_time && job.spec->schedule)
    job.row.not_before = first_run(*job.spec, now.wall);
  else if (moved && (later || job.row.state != JobState::delayed))
    job.row.not_before = later ? begin : Instant{};
  touch(job);
  watch_time(job);
  enter(job, now, since);
  if (is_active(job.row.state)) limit_changed(job, now);
  if (moved && later && job.row.state == JobState::queued)
    apply(job, JobEvent::back_off, now, Cause::none, "waits for its begin time");
  else if (moved && !later && job.row.state == JobState::delayed)
    apply(job, JobEvent::due, now, Cause::none, "its begin time was brought forward");
}

// Of one that runs, or is about to.
void ControlPlane::limit_changed(Job& job, Now now) {
  const auto limit = run_limit(*job.spec, job.row.ran);
  planner_.revise(job.row.id, job.row.priority, limit.value_or(planner::kNoLimit), now.wall);
  Attempt& attempt = attempts_.at({job.row.id, job.row.epoch});
  if (attempt.row.state != AttemptState::running) return;  // else its stage has another deadline
  attempt.deadline.reset();
  if (limit) attempt.deadline = now.mono + (attempt.row.running_at + *limit - now.wall);
}

}  // namespace tutti
