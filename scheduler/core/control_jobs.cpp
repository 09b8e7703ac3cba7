// Control plane: jobs. Submission, the requests of people, and the one place where a job's state
// changes.
#include <algorithm>

#include "scheduler/core/control_plane.h"
#include "scheduler/core/plane_inputs.h"
#include "scheduler/model/assert.h"

namespace tutti {
namespace {

// The nearest known name, for "did you mean".
std::string nearest(const std::set<std::string>& known, const std::string& word) {
  std::string best;
  std::size_t best_distance = 3;
  for (const auto& k : known) {
    std::vector<std::size_t> row(k.size() + 1);
    for (std::size_t j = 0; j <= k.size(); ++j) row[j] = j;
    for (std::size_t i = 1; i <= word.size(); ++i) {
      std::size_t diagonal = row[0];
      row[0] = i;
      for (std::size_t j = 1; j <= k.size(); ++j) {
        const std::size_t up = row[j];
        row[j] = std::min({row[j] + 1, row[j - 1] + 1, diagonal + (word[i - 1] == k[j - 1] ? 0u : 1u)});
        diagonal = up;
      }
    }
    if (row[k.size()] < best_distance) {
      best_distance = row[k.size()];
      best = k;
    }
  }
  return best;
}

template <class Rows>
std::set<std::string> names_of(const Rows& rows) {
  std::set<std::string> names;
  for (const auto& entry : rows) names.insert(entry.first);
  return names;
}

Error unknown_name(std::string field, std::string_view what, const std::set<std::string>& known,
                   const std::string& word) {
  const std::string near = nearest(known, word);
  std::string hint;
  if (!near.empty())
    hint = "did you mean '" + near + "'?";
  else
    for (const auto& k : known) hint += (hint.empty() ? "known: " : ", ") + k;
  return Error{.code = Errc::invalid_argument,
               .message = "unknown " + std::string(what) + " '" + word + "'",
               .hint = hint,
               .field = std::move(field)};
}

}  // namespace

std::optional<Error> ControlPlane::unknown_place(const JobSpec& spec) const {
  if (!shares_.queues.contains(spec.queue))
    return unknown_name("queue", "queue", names_of(shares_.queues), spec.queue);
  if (!shares_.projects.contains(spec.project))
    return unknown_name("project", "project", names_of(shares_.projects), spec.project);
  return std::nullopt;
}

// The first answer again, where the key is known.
std::optional<Result<Submitted>> ControlPlane::known_by_key(const SubmitRequest& request) const {
  if (request.idempotency_key.empty()) return std::nullopt;
  const auto known = keys_.find(request.owner, request.idempotency_key);
  if (!known) return std::nullopt;
  if (known->body_hash != request.body_hash)
    return Error{
        .code = Errc::idempotency_mismatch,
        .message = "idempotency key was used before with another body, for job " + to_string(known->job),
        .hint = "use a new Idempotency-Key for a new job",
        .field = "Idempotency-Key"};
  return Submitted{.id = known->job, .replayed = true};
}

std::optional<Error> ControlPlane::refuses(const SubmitRequest& request, Now now) const {
  const JobSpec& spec = *request.spec;
  if (auto error = unknown_place(spec)) return error;
  if (spec.deadline && *spec.deadline <= now.wall)
    return Error{.code = Errc::invalid_argument,
                 .message = "the deadline is in the past",
                 .hint = "",
                 .field = "deadline"};
  if (spec.schedule && first_run(spec, now.wall) == Instant::max())
    return Error{.code = Errc::invalid_argument,
                 .message = "'" + spec.schedule->cron + "' never comes",
                 .hint = "",
                 .field = "schedule.cron"};
  return bad_dependency(request);
}

Result<Submitted> ControlPlane::on_submit(Now now, const SubmitRequest& request) {
  const auto deciding = note<&ControlPlane::on_submit>(now, request);
  if (auto known = known_by_key(request)) return *known;
  if (auto error = refuses(request, now)) return *error;
  see_nodes();
  const Job& job = add_job(request, now);
  const int shape = planner_.intern(planner::ask_of(*job.spec, queue_of_nodes(job.row.queue)));
  return Submitted{.id = job.row.id, .state = job.row.state, .never = !planner_.could_ever(shape)};
}

// The request with the ids of those it was submitted together with.
Result<SubmitRequest> ControlPlane::resolved(const std::vector<SubmitRequest>& all, std::size_t index,
                                             const std::vector<Result<Submitted>>& earlier) const {
  SubmitRequest request = all[index];
  JobSpec spec = *request.spec;
  for (const auto& after : request.after) {
    const auto& other = earlier.at(after.request);
    if (!other)
      return Error{.code = Errc::invalid_argument,
                   .message = "it depends on '" + all[after.request].spec->name +
                              "' of the same request, which was refused: " + other.error().message,
                   .hint = "mend that one first",
                   .field = "depends_on"};
    spec.depends_on.push_back({.job = other->id, .when = after.when, .tasks = after.tasks});
  }
  request.spec_json = specs_.encode(spec);
  request.spec = std::make_shared<const JobSpec>(std::move(spec));
  return request;
}

std::vector<Result<Submitted>> ControlPlane::on_submit_all(Now now,
                                                           const std::vector<SubmitRequest>& requests) {
  const auto deciding = note<&ControlPlane::on_submit_all>(now, requests);
  std::vector<Result<Submitted>> results;
  results.reserve(requests.size());
  for (std::size_t i = 0; i < requests.size(); ++i) {
    const SubmitRequest& request = requests[i];
    if (request.task_of && (!results[*request.task_of] || results[*request.task_of]->replayed)) {
      auto as_first = results[*request.task_of];
      if (as_first)
        as_first->id = JobId(as_first->id.value + static_cast<std::int64_t>(i - *request.task_of));
      results.push_back(as_first);
      continue;
    }
    Result<SubmitRequest> whole =
        request.after.empty() ? Result<SubmitRequest>(request) : resolved(requests, i, results);
    if (!whole) {
      results.push_back(whole.error());
    } else if (request.task_of) {  // what the first one was told holds for all
      const JobId first = results[*request.task_of]->id;
      const JobRow& row = add_job(*whole, now, find_job(first)).row;
      results.push_back(Submitted{.id = row.id, .state = row.state});
    } else {
      results.push_back(on_submit(now, *whole));
    }
  }
  return results;
}

// From here on it exists.
const Job& ControlPlane::add_job(const SubmitRequest& request, Now now, const Job* first_task) {
  const JobSpec& spec = *request.spec;
  last_job_ = JobId(last_job_.value + 1);
  Job job;
  job.spec = spec_pool_.shared(request.spec_json, [&] { return request.spec; });
  JobRow& row = job.row;
  row.id = last_job_;
  row.priority = static_cast<std::int16_t>(spec.priority);
  row.queue = spec.queue;
  row.project = spec.project;
  row.owner = request.owner;
  row.nodes = spec.nodes;
  row.gpus_per_node = spec.resources.gpus;
  row.created_at = now.wall;
  row.queued_at = now.wall;
  row.state = JobState::queued;
  if (spec.schedule) {
    row.state = JobState::delayed;
    row.not_before = first_run(spec, now.wall);
    row.reason = "waits for its next run";
  } else if (spec.begin_time && *spec.begin_time > now.wall) {
    row.state = JobState::delayed;
    row.not_before = *spec.begin_time;
    row.reason = "waits for its begin time";
  }
  const bool waits = first_task != nullptr ? first_task->row.state == JobState::blocked
                                           : !unmet(job, request.past ? *request.past : Past()).empty();
  if (waits || array_is_full(job)) {
    row.state = JobState::blocked;
    row.reason = waits && first_task != nullptr ? first_task->row.reason.str() : waits_for(job);
  }
  out_.batch.new_specs.push_back(SpecRow{.id = row.id,
                                         .owner = request.owner,
                                         .name = spec.name,
                                         .spec_json = request.spec_json,
                                         .created_at = now.wall,
                                         .initial_state = row.state,
                                         .idempotency_key = request.idempotency_key,
                                         .body_hash = request.body_hash});
  if (!request.idempotency_key.empty())
    remember_key(request.owner, request.idempotency_key, {request.body_hash, row.id});
  Job& stored = jobs_.emplace(row.id, std::move(job)).first->second;
  touch(stored);
  watch_time(stored);
  if (may_run(stored.row.state)) count_task(stored, 1);
  enter(stored, now);
  record_job(stored, now,
             {.kind = "state", .from = "", .to = std::string(name(stored.row.state)), .detail = "submitted"});
  return stored;
}

// The oldest goes for it where there are too many.
void ControlPlane::remember_key(std::string_view owner, std::string_view key, KeyBook::Known known) {
  keys_.add(owner, key, known);
  while (keys_.size() > settings_.max_keys) {
    KeyBook::OwnedKey oldest = keys_.forget_oldest();
    out_.batch.forgotten_keys.push_back({std::move(oldest.owner), std::move(oldest.key)});
  }
}

Error ControlPlane::illegal(const Job& job, std::string_view verb) const {
  return Error{.code = Errc::illegal_transition,
               .message = "job " + to_string(job.row.id) + " is " + std::string(name(job.row.state)) +
                          " and cannot be " + std::string(verb),
               .hint = "",
               .field = ""};
}

Result<Job*> ControlPlane::live_job(JobId id) {
  if (auto over = is_over(id)) return *std::move(over);
  return &jobs_.at(id);
}

Result<JobId> ControlPlane::on_cancel(Now now, JobId id, std::string_view who) {
  const auto deciding = note<&ControlPlane::on_cancel>(now, id, who);
  Result<Job*> found = live_job(id);
  if (!found) return found.error();
  Job& job = **found;
  const std::string why = "cancelled by " + std::string(who);
  if (is_active(job.row.state)) {
    job.row.reason = why;
    touch(job);
    begin_stop(attempts_.at({id, job.row.epoch}), Cause::cancelled, why, job.spec->stop.signal,
               job.spec->stop.grace, now);
    return id;
  }
  if (!apply(job, JobEvent::cancel, now, Cause::cancelled, why)) return illegal(job, "cancelled");
  finish_job(job, now, 0);
  return id;
}

Result<JobId> ControlPlane::on_hold(Now now, JobId id, std::string_view reason, std::string_view who) {
  const auto deciding = note<&ControlPlane::on_hold>(now, id, reason, who);
  if (auto error = would_refuse(id, JobAct::hold, {}, now)) return *std::move(error);
  Job& job = jobs_.at(id);
  std::string why =
      who.empty() ? reason.empty() ? "held by a person" : "held" : "held by " + std::string(who);
  if (!reason.empty()) why += ": " + std::string(reason);
  if (is_active(job.row.state)) {
    job.row.reason = why;
    touch(job);
    begin_stop(attempts_.at({id, job.row.epoch}), Cause::held, why, job.spec->stop.signal,
               job.spec->stop.grace, now);
    return id;
  }
  apply(job, JobEvent::hold, now, Cause::held, why);
  return id;
}

Result<JobId> ControlPlane::on_release(Now now, JobId id, std::string_view who) {
  const auto deciding = note<&ControlPlane::on_release>(now, id, who);
  if (auto error = would_refuse(id, JobAct::release, {}, now)) return *std::move(error);
  Job& job = jobs_.at(id);
  job.row.no_progress = 0;  // a person has looked: the breaker and the budgets start anew
  job.row.spent = {};
  let_go(job, now, Cause::none, who.empty() ? "released" : "released by " + std::string(who));
  return id;
}

void ControlPlane::let_go(Job& job, Now now, Cause cause, const std::string& why) {
  if (!unmet(job).empty() || (!job.counted && array_is_full(job))) {
    apply(job, JobEvent::block, now, cause, waits_for(job));
    return;
  }
  count_task(job, 1);
  if (job.spec->schedule) job.row.not_before = first_run(*job.spec, now.wall);
  const bool early = job.row.not_before > now.wall;
  apply(job, early ? JobEvent::back_off : JobEvent::release, now, cause, why);
}

Result<JobId> ControlPlane::on_requeue(Now now, JobId id, std::string_view who) {
  const auto deciding = note<&ControlPlane::on_requeue>(now, id, who);
  if (auto error = would_refuse(id, JobAct::requeue, {}, now)) return *std::move(error);
  Job& job = jobs_.at(id);
  begin_stop(attempts_.at({id, job.row.epoch}), Cause::requeued, "requeued by " + std::string(who),
             job.spec->stop.signal, job.spec->stop.grace, now);
  return id;
}

namespace {

// What a signal cannot reach, or nothing.
std::optional<Error> deaf(const GangMember& member, const Node& node) {
  if (member.state < MemberState::running)
    return Error{
        .code = Errc::illegal_transition,
        .message = "the ranks on node " + member.node_name + " do not run yet: they would not hear it",
        .hint = "nothing was sent; try again when they do",
        .field = ""};
  if (!node.linked)
    return Error{.code = Errc::unavailable,
                 .message = "node " + member.node_name + " is not connected: its ranks would not hear it",
                 .hint = "nothing was sent; try again when it is back",
                 .field = ""};
  return std::nullopt;
}

}  // namespace

// The message may be lost with a connection, and is not repeated: a signal that comes late is another signal.
// So the history says to which nodes it was sent, and no more.
Result<JobId> ControlPlane::on_signal(Now now, JobId id, const std::string& signal, std::string_view who) {
  const auto deciding = note<&ControlPlane::on_signal>(now, id, signal, who);
  if (auto over = is_over(id)) return *std::move(over);
  const Job& job = jobs_.at(id);
  const Attempt* attempt = find_attempt({id, job.row.epoch});
  std::vector<NodeId> to;
  std::string names;
  constexpr std::size_t kNamed = 8;
  if (attempt != nullptr && attempt->row.state == AttemptState::running)
    for (const auto& member : attempt->row.gang) {
      if (member.ranks == 0 || member.state == MemberState::ended) continue;
      if (auto error = deaf(member, cluster_.nodes.at(member.node))) return *std::move(error);
      if (to.size() < kNamed) names += (to.empty() ? "" : ", ") + member.node_name;
      to.push_back(member.node);
    }
  if (to.empty()) {
    Error error = illegal(job, "sent a signal");
    error.hint = "signals go to ranks that run";
    return error;
  }
  if (to.size() > kNamed) names += " and " + std::to_string(to.size() - kNamed) + " more";
  for (const NodeId node : to) send(node, protocol::SignalRanks{{id, job.row.epoch}, signal});
  record_job(job, now,
             {.kind = "signal",
              .from = "",
              .to = signal,
              .detail = "by " + std::string(who) + "; sent to " + names});
  return id;
}

// The only place that writes a job's state.
bool ControlPlane::apply(Job& job, JobEvent event, Now now, Cause cause, std::string detail) {
  const auto to = next(kJobEdges, job.row.state, event);
  if (!to) return false;
  const JobState from = job.row.state;
  leave(job);
  touch(job);
  job.row.state = *to;
  if (cause != Cause::none) job.row.cause = cause;
  if (*to == JobState::queued || *to == JobState::starting) job.row.not_before = Instant{};
  job.row.reason = detail;
  // Its wait begins when nobody keeps it any more, for a later leader as well.
  if (*to == JobState::queued && (from == JobState::blocked || from == JobState::held) &&
      job.row.ran == Duration::zero())
    job.row.queued_at = now.wall;
  enter(job, now);
  record_job(job, now,
             {.kind = "state",
              .from = std::string(name(from)),
              .to = std::string(name(*to)),
              .detail = std::move(detail),
              .cause = cause});
  decided_.erase(array_of(job));
  if (*to == JobState::running) {
    const PastJob state = *state_of(job.row.id);
    tell_dependents(job.row.id, array_of(job), state, now);
  }
  if (*to == JobState::held && job.counted) {
    count_task(job, -1);
    next_task(array_of(job), now);
  }
  return true;
}

void ControlPlane::enter(Job& job, Now now, std::optional<Instant> since) {
  if (job.row.state == JobState::queued) {
    tell_avoided(job);
    planner_.enqueue({.what = plan_job(job),
                      .attained = job.row.ran,
                      .since = since.value_or(now.wall),
                      .rank_at = job.row.queued_at},
                     now.wall);
  } else if (job.row.state == JobState::delayed) {
    delayed_.push(job.row.id, job.row.not_before);
  } else if (job.row.state == JobState::blocked) {
    wait_for_place(job, true);
  }
}

void ControlPlane::leave(Job& job) {
  if (job.row.state == JobState::queued)
    planner_.withdraw(job.row.id), calibration_.forget(job.row.id), estimates_.erase(job.row.id);
  else if (job.row.state == JobState::delayed)
    delayed_.erase(job.row.id);
  else if (job.row.state == JobState::blocked)
    wait_for_place(job, false);
}

// The job has reached a terminal state: its row moves to job_done and memory forgets it.
void ControlPlane::finish_job(Job& job, Now now, int exit_code) {
  TUTTI_ASSERT(is_terminal(job.row.state), "only a finished job is archived");
  job.row.version = job.base_version + 1;
  Batch::JobDone done{.row = {.job = job.row, .ended_at = now.wall, .exit_code = exit_code},
                      .base_version = job.base_version};
  out_.batch.done.push_back(std::move(done));
  const JobId id = job.row.id;
  const PastJob state{job.row.state, job.row.ran > Duration::zero()};
  past_[id] = state;
  past_by_age_.push_back(id);
  const JobId array = array_of(job);
  just_ended_.push_back({.job = id, .array = array, .state = state, .freed_a_place = job.counted});
  forget_time(job);
  count_task(job, -1);
  dirty_jobs_.erase(id);
  checkpoints_.erase(id);
  jobs_.erase(id);
  decided_.erase(array);
  settle_ended(now);
}

// Who waited for those that have ended. One that ends because of it waits its turn: chains may be long.
void ControlPlane::settle_ended(Now now) {
  if (settling_) return;
  settling_ = true;
  while (!just_ended_.empty()) {
    const Ended ended = just_ended_.back();
    just_ended_.pop_back();
    tell_dependents(ended.job, ended.array, ended.state, now);
    if (ended.freed_a_place) next_task(ended.array, now);
  }
  settling_ = false;
  forget_oldest();
}

// Not before whoever waited for them has been told.
void ControlPlane::forget_oldest() {
  constexpr std::size_t kRemembered = 100'000;
  for (; past_by_age_.size() > kRemembered; past_by_age_.pop_front()) past_.erase(past_by_age_.front());
}

}  // namespace tutti
