// Control plane, part 9: after whom, by when, how often. Dependencies, arrays and deadlines.
#include <algorithm>

#include "scheduler/core/control_plane.h"

namespace tutti {

namespace {
using When = Dependency::When;

// nullopt: not decided yet.
std::optional<bool> met(When when, const PastJob& job) {
  if (when == When::started && job.started) return true;
  if (!is_terminal(job.state)) return std::nullopt;
  switch (when) {
    case When::ok: return job.state == JobState::succeeded;
    case When::any: return true;
    case When::failed: return job.state != JobState::succeeded;
    case When::started: return job.started;
  }
  return std::nullopt;
}

std::string wish(const Dependency& d) {
  switch (d.when) {
    case When::ok: return "job " + to_string(d.job) + " to succeed";
    case When::any: return "job " + to_string(d.job) + " to end";
    case When::failed: return "job " + to_string(d.job) + " to fail";
    case When::started: return "job " + to_string(d.job) + " to start";
  }
  return "";
}
}  // namespace

std::optional<PastJob> ControlPlane::state_of(JobId id) const {
  if (const Job* job = find_job(id))
    return PastJob{job->row.state, job->row.state == JobState::running || job->row.ran > Duration::zero()};
  const auto past = past_.find(id);
  return past == past_.end() ? std::nullopt : std::optional(past->second);
}

// Of a job about to be submitted: the first dependency that makes no sense.
std::optional<Error> ControlPlane::bad_dependency(const SubmitRequest& request) const {
  const auto& all = request.spec->depends_on;
  for (std::size_t i = 0; i < all.size(); ++i) {
    const std::string field = "depends_on[" + std::to_string(i) + "]";
    const auto given = request.past.find(all[i].job);
    auto state = state_of(all[i].job);
    if (!state && given != request.past.end()) state = given->second;
    if (!state)
      return Error{.code = Errc::invalid_argument,
                   .message = "no job " + to_string(all[i].job),
                   .hint = "a job can only depend on jobs that exist",
                   .field = field};
    if (met(all[i].when, *state) == false)
      return Error{.code = Errc::invalid_argument,
                   .message = "job " + to_string(all[i].job) + " is " + std::string(name(state->state)) +
                              " already: the wait for it can never end",
                   .hint = "",
                   .field = field};
  }
  return std::nullopt;
}

// What it still waits for. Those that nobody knows any more were met: else it would have failed with them.
std::vector<const Dependency*> ControlPlane::unmet(const Job& job) const {
  std::vector<const Dependency*> out;
  for (const Dependency& d : job.spec->depends_on) {
    const auto state = state_of(d.job);
    if (state && met(d.when, *state) != true) out.push_back(&d);
  }
  return out;
}

JobId ControlPlane::array_of(const Job& job) {
  const auto& task = job.spec->array_task;
  return task ? JobId(job.row.id.value - task->position) : JobId();
}

std::optional<Duration> ControlPlane::run_limit(const JobSpec& spec, Duration ran) {
  auto limit = spec.time_limit;
  if (const auto total = spec.total_time_limit) {
    const Duration left = std::max(*total - ran, Duration(std::chrono::seconds(1)));
    limit = limit ? std::min(*limit, left) : left;
  }
  return limit;
}

// Tasks of its array that run or may run.
int ControlPlane::array_active(JobId array) const {
  const auto counted = array_active_.find(array);
  return counted == array_active_.end() ? 0 : counted->second;
}

bool ControlPlane::array_is_full(const Job& job) const {
  const auto& task = job.spec->array_task;
  return task && task->max_parallel > 0 && array_active(array_of(job)) >= task->max_parallel;
}

std::string ControlPlane::waits_for(const Job& job) const {
  std::string text;
  for (const Dependency* d : unmet(job)) text += (text.empty() ? "waits for " : ", ") + wish(*d);
  if (text.empty() && array_is_full(job))
    text = "waits: " + std::to_string(array_active(array_of(job))) + " tasks of array " +
           to_string(array_of(job)) + " run or may run (max_parallel " +
           std::to_string(job.spec->array_task->max_parallel) + ")";
  return text;
}

void ControlPlane::watch_time(const Job& job) {
  if (job.spec->deadline) deadlines_.insert({*job.spec->deadline, job.row.id});
  for (const Dependency& d : job.spec->depends_on) dependents_[d.job].insert(job.row.id);
  if (const JobId array = array_of(job); array && job.row.state == JobState::blocked)
    array_waiting_[array].insert(job.row.id);
}

void ControlPlane::forget_time(const Job& job) {
  if (job.spec->deadline) deadlines_.erase({*job.spec->deadline, job.row.id});
  for (const Dependency& d : job.spec->depends_on)
    if (const auto found = dependents_.find(d.job); found != dependents_.end()) {
      found->second.erase(job.row.id);
      if (found->second.empty()) dependents_.erase(found);
    }
  if (const JobId array = array_of(job)) {
    array_waiting_[array].erase(job.row.id);
    if (array_waiting_[array].empty()) array_waiting_.erase(array);
  }
}

// A task counts against max_parallel from the moment it may run until it is over.
void ControlPlane::count_task(Job& job, int by) {
  const JobId array = array_of(job);
  if (!array || job.counted == (by > 0)) return;
  job.counted = by > 0;
  int& active = array_active_[array];
  active += by;
  if (active == 0) array_active_.erase(array);
}

// Something about this job has changed that others may wait for.
void ControlPlane::tell_dependents(JobId id, Now now) {
  const auto found = dependents_.find(id);
  if (found == dependents_.end()) return;
  const PastJob state = *state_of(id);
  for (const JobId waiting : std::set(found->second)) {
    const auto job = jobs_.find(waiting);
    if (job == jobs_.end() || job->second.row.state != JobState::blocked) continue;
    for (const Dependency& d : job->second.spec->depends_on) {
      if (d.job != id || met(d.when, state) != false) continue;
      apply(job->second, JobEvent::cancel, now, Cause::cancelled,
            "waited for " + wish(d) + ", which can never be: it is " + std::string(name(state.state)));
      finish_job(job->second, now, 0);
      break;
    }
    unblock(waiting, now);
  }
}

void ControlPlane::unblock(JobId id, Now now) {
  const auto found = jobs_.find(id);
  if (found == jobs_.end() || found->second.row.state != JobState::blocked) return;
  Job& job = found->second;
  if (!unmet(job).empty() || array_is_full(job)) return;
  count_task(job, 1);
  if (const JobId array = array_of(job)) array_waiting_[array].erase(id);
  const bool early = job.row.not_before > now.wall;
  apply(job, early ? JobEvent::back_off : JobEvent::unblocked, now, Cause::none,
        early ? "waits for its begin time" : "nothing to wait for any more");
}

// A place among the tasks of an array has come free.
void ControlPlane::next_task(JobId array, Now now) {
  const auto waiting = array_waiting_.find(array);
  if (waiting == array_waiting_.end()) return;
  for (const JobId id : std::set(waiting->second)) {
    const Job& job = jobs_.at(id);
    if (array_is_full(job)) return;
    unblock(id, now);
  }
}

// Jobs whose time is over: of no use any more.
void ControlPlane::end_late(Now now) {
  while (!deadlines_.empty() && deadlines_.begin()->first <= now.wall) {
    const JobId id = deadlines_.begin()->second;
    deadlines_.erase(deadlines_.begin());
    Job& job = jobs_.at(id);
    const std::string why = "its deadline has passed";
    if (is_active(job.row.state)) {
      begin_stop(attempts_.at({id, job.row.epoch}), Cause::time_limit, why, job.spec->stop.signal,
                 job.spec->stop.grace, now);
    } else if (apply(job, JobEvent::fail, now, Cause::time_limit, why)) {
      finish_job(job, now, 0);
    }
  }
}

}  // namespace tutti
