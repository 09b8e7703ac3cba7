// Control plane: what has changed since the last commit, as rows and messages.
#include <utility>

#include "scheduler/core/control_plane.h"
#include "scheduler/core/plane_inputs.h"

namespace tutti {

void ControlPlane::touch(Job& job) {
  if (job.dirty) return;
  job.dirty = true;
  dirty_jobs_.insert(job.row.id);
}

void ControlPlane::touch(Attempt& attempt) {
  attempt.dirty = true;
  dirty_attempts_.insert({attempt.row.job, attempt.row.epoch});
}

EventRow ControlPlane::about_job(AttemptKey key, Name project, Name owner) {
  EventRow about;
  about.job = key.job;
  about.epoch = key.epoch;
  about.project = project;
  about.owner = owner;
  return about;
}

void ControlPlane::add_event(EventRow about, Event event, Now now) {
  last_event_ = EventId(last_event_.value + 1);
  about.id = last_event_;
  about.at = now.wall;
  about.kind = std::move(event.kind);
  about.from = std::move(event.from);
  about.to = std::move(event.to);
  about.cause = event.cause;
  about.detail = std::move(event.detail);
  out_.batch.events.push_back(std::move(about));
}

void ControlPlane::record_job(const Job& job, Now now, Event event) {
  add_event(about_job({job.row.id, job.row.epoch}, job.row.project, job.row.owner), std::move(event), now);
}

void ControlPlane::record_node(NodeId node, Now now, Event event) {
  EventRow about;
  about.node = node;
  add_event(std::move(about), std::move(event), now);
}

// Its end may come when the job is no more.
Result<JobId> ControlPlane::on_exec(Now now, AttemptKey key, std::string_view what, std::string detail) {
  const auto deciding = note<&ControlPlane::on_exec>(now, key, what, detail);
  const Attempt* attempt = find_attempt(key);
  if (what == "begun" && (attempt == nullptr || attempt->row.state != AttemptState::running))
    return Error{.code = Errc::illegal_transition,
                 .message = "the attempt of job " + to_string(key.job) + " does not run any more",
                 .hint = "commands run inside of running attempts only",
                 .field = ""};
  add_event(about_job(key, {}, {}),
            {.kind = "exec", .from = "", .to = std::string(what), .detail = std::move(detail)}, now);
  return key.job;
}

void ControlPlane::send(NodeId to, protocol::ToWorker message, SpecPtr spec) {
  out_.effects.push_back(
      {.to = to, .message = std::move(message), .spec = std::move(spec), .disconnect = false});
}

void ControlPlane::capacity_changed(NodeId node) { unseen_.insert(node); }

Output ControlPlane::take_output() {
  Output out = std::exchange(out_, {});
  for (JobId id : dirty_jobs_) {
    auto it = jobs_.find(id);
    if (it == jobs_.end()) continue;  // finished in this batch: its row is in `done`
    Job& job = it->second;
    job.dirty = false;
    if (job.base_version == 0) {
      job.row.version = 1;
      out.batch.new_jobs.push_back(job.row);
    } else {
      job.row.version = job.base_version + 1;
      out.batch.jobs.push_back({job.row, job.base_version});
    }
    job.base_version = job.row.version;
  }
  dirty_jobs_.clear();
  for (AttemptKey key : dirty_attempts_) {
    auto it = attempts_.find(key);
    if (it == attempts_.end()) continue;  // ended in this batch: already in `attempts`
    it->second.dirty = false;
    out.batch.attempts.push_back(it->second.row);
  }
  dirty_attempts_.clear();
  for (NodeId id : std::exchange(dirty_nodes_, {})) out.batch.nodes.push_back(cluster_.nodes.at(id).row);
  for (GpuId id : std::exchange(dirty_gpus_, {})) out.batch.gpus.push_back(cluster_.gpus.at(id).row);
  if (witness_ != nullptr) witness_->decided(out);
  return out;
}

}  // namespace tutti
