// Control plane: after whom, by when, how often. Dependencies, arrays and deadlines.
#include <algorithm>
#include <utility>

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
  const std::string who = (d.whole_array() ? "array " : "job ") + to_string(d.job);
  switch (d.when) {
    case When::ok: return who + " to succeed";
    case When::any: return who + " to end";
    case When::failed: return who + " to fail";
    case When::started: return who + " to start";
  }
  return "";
}

JobId last_of(const Dependency& d) { return JobId(d.job.value + d.tasks - 1); }
}  // namespace

std::optional<PastJob> ControlPlane::state_of(JobId id) const {
  if (const Job* job = find_job(id)) {
    const auto attempt = attempts_.find({id, job->row.epoch});
    const bool up = attempt != attempts_.end() && attempt->second.row.running_at != Instant{};
    return PastJob{job->row.state, up || job->row.ran > Duration::zero()};
  }
  const auto past = past_.find(id);
  return past == past_.end() ? std::nullopt : std::optional(past->second);
}

bool ControlPlane::has_live_task(const Dependency& d) const {
  const auto live = jobs_.lower_bound(d.job);
  return live != jobs_.end() && live->first <= last_of(d);
}

// true: met; false: it never will be; nullopt: not decided yet. Jobs that nobody knows any more count as
// met: who waited for them would have ended with them. `given`: what rows say of jobs that are over.
std::optional<bool> ControlPlane::decided(const Dependency& d, const Past& given) const {
  if (d.whole_array()) {
    if (!given.empty()) return array_decided(d, given);
    const auto [known, fresh] = decided_[d.job].try_emplace({d.tasks, d.when});
    if (fresh) known->second = array_decided(d, given);
    return known->second;
  }
  auto state = state_of(d.job);
  if (const auto row = given.find(d.job); !state && row != given.end()) state = row->second;
  return state ? met(d.when, *state) : std::optional(true);
}

std::optional<bool> ControlPlane::array_decided(const Dependency& d, const Past& given) const {
  bool open = false, one_decides = false;
  for (JobId id = d.job; id <= last_of(d); id = JobId(id.value + 1)) {
    auto state = state_of(id);
    if (const auto row = given.find(id); !state && row != given.end()) state = row->second;
    if (!state) continue;
    const auto one = met(d.when, *state);
    if (!one) open = true;
    if (one && *one == (d.when == When::failed)) one_decides = true;
  }
  if (one_decides) return d.when == When::failed;
  if (open) return std::nullopt;
  return d.when != When::failed;
}

// The same after one of its jobs has changed, without looking at all others where that can be helped.
std::optional<bool> ControlPlane::decided_by(const Dependency& d, const PastJob& changed) const {
  if (!d.whole_array()) return met(d.when, changed);
  const auto one = met(d.when, changed);
  if (d.when == When::failed && one == true) return true;
  if (d.when != When::failed && one == false) return false;
  if (d.when != When::started && has_live_task(d)) return std::nullopt;
  return decided(d, {});
}

// Of a job about to be submitted: the first dependency that makes no sense.
std::optional<Error> ControlPlane::bad_dependency(const SubmitRequest& request) const {
  const auto& all = request.spec->depends_on;
  static const Past kNone;
  const Past& past = request.past ? *request.past : kNone;
  for (std::size_t i = 0; i < all.size(); ++i) {
    const std::string field = "depends_on[" + std::to_string(i) + "]";
    if (const Job* live = find_job(all[i].job); live != nullptr && live->spec->schedule)
      return Error{.code = Errc::invalid_argument,
                   .message = "job " + to_string(all[i].job) + " is a schedule, which never ends",
                   .hint = "depend on one of its runs",
                   .field = field};
    const std::string who = (all[i].whole_array() ? "array " : "job ") + to_string(all[i].job);
    if (!state_of(all[i].job) && !past.contains(all[i].job))
      return Error{.code = Errc::invalid_argument,
                   .message = "no " + who,
                   .hint = "a job can only depend on jobs that exist",
                   .field = field};
    if (decided(all[i], past) != false) continue;
    auto state = state_of(all[i].job);
    if (!state) state = past.at(all[i].job);
    return Error{
        .code = Errc::invalid_argument,
        .message = who +
                   (all[i].whole_array() ? " has had its way" : " is " + std::string(name(state->state))) +
                   " already: the wait for it can never end",
        .hint = "",
        .field = field};
  }
  return std::nullopt;
}

// What it still waits for.
std::vector<const Dependency*> ControlPlane::unmet(const Job& job, const Past& given) const {
  std::vector<const Dependency*> out;
  for (const Dependency& d : job.spec->depends_on)
    if (decided(d, given) != true) out.push_back(&d);
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
  for (const Dependency& d : job.spec->depends_on) dependents_[{d.job, d.when}].insert(job.row.id);
  if (const JobId schedule = job.spec->scheduled_by) runs_[schedule].insert(job.row.id);
}

void ControlPlane::forget_time(const Job& job) {
  if (job.spec->deadline) deadlines_.erase({*job.spec->deadline, job.row.id});
  for (const Dependency& d : job.spec->depends_on)
    if (const auto found = dependents_.find({d.job, d.when}); found != dependents_.end()) {
      found->second.erase(job.row.id);
      if (found->second.empty()) dependents_.erase(found);
    }
  if (const auto runs = runs_.find(job.spec->scheduled_by); runs != runs_.end()) {
    runs->second.erase(job.row.id);
    if (runs->second.empty()) runs_.erase(runs);
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
void ControlPlane::tell_dependents(JobId id, JobId array, const PastJob& state, Now now) {
  std::set<JobId> waiting;
  for (const JobId key : {id, array})
    for (const When when : {When::ok, When::any, When::failed, When::started}) {
      const auto found = dependents_.find({key, when});
      if (found == dependents_.end()) continue;
      // Thousands may wait for one array; as a rule one task more or less decides nothing.
      const auto& one = jobs_.at(*found->second.begin()).spec->depends_on;
      const auto d =
          std::ranges::find_if(one, [&](const Dependency& o) { return o.job == key && o.when == when; });
      if (!d->whole_array() || decided_by(*d, state))
        waiting.insert(found->second.begin(), found->second.end());
    }
  for (const JobId other : waiting) tell_dependent(other, id, array, state, now);
}

// One that is held is told as well: when it is released nobody would tell it again.
void ControlPlane::tell_dependent(JobId waiting, JobId changed, JobId array, const PastJob& state, Now now) {
  const auto found = jobs_.find(waiting);
  if (found == jobs_.end()) return;
  Job& job = found->second;
  if (job.row.state != JobState::blocked && job.row.state != JobState::held) return;
  for (const Dependency& d : job.spec->depends_on) {
    const bool concerns = d.job == changed || (d.whole_array() && d.job == array);
    if (!concerns || decided_by(d, state) != false) continue;
    apply(job, JobEvent::cancel, now, Cause::cancelled,
          "waited for " + wish(d) + ", which can never be: " +
              (d.whole_array() ? "its task " + to_string(changed) : std::string("it")) + " is " +
              std::string(name(state.state)));
    finish_job(job, now, 0);
    return;
  }
  unblock(waiting, now);
}

void ControlPlane::unblock(JobId id, Now now) {
  const auto found = jobs_.find(id);
  if (found == jobs_.end() || found->second.row.state != JobState::blocked) return;
  Job& job = found->second;
  if (!unmet(job).empty() || array_is_full(job)) return;
  count_task(job, 1);
  const bool early = job.row.not_before > now.wall;
  apply(job, early ? JobEvent::back_off : JobEvent::unblocked, now, Cause::none,
        early ? "waits for its begin time" : "nothing to wait for any more");
}

// A place among the tasks of an array has come free. They all wait for the same jobs: where the first one
// still does, so do the others, and whoever decides that will tell them.
void ControlPlane::next_task(JobId array, Now now) {
  for (auto waiting = array_waiting_.find(array); waiting != array_waiting_.end();
       waiting = array_waiting_.find(array)) {
    const Job& first = jobs_.at(*waiting->second.begin());
    if (array_is_full(first) || !unmet(first).empty()) return;
    unblock(first.row.id, now);
  }
}

// Those of an array that only its max_parallel may keep.
void ControlPlane::wait_for_place(const Job& job, bool waits) {
  const auto& task = job.spec->array_task;
  if (!task || task->max_parallel == 0) return;
  const auto waiting = array_waiting_.try_emplace(array_of(job)).first;
  waits ? void(waiting->second.insert(job.row.id)) : void(waiting->second.erase(job.row.id));
  if (waiting->second.empty()) array_waiting_.erase(waiting);
}

// Jobs whose time is over: of no use any more.
void ControlPlane::end_late(Now now) {
  std::vector<JobId> late;  // one that is stopping may yet come back: it is late until it is over
  for (const auto& [at, id] : deadlines_) {
    if (at > now.wall) break;
    late.push_back(id);
  }
  for (const JobId id : late) {
    const auto found = jobs_.find(id);
    if (found == jobs_.end()) continue;
    Job& job = found->second;
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
