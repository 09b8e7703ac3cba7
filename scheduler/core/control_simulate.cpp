// Control plane: what would happen if. Estimates of starts, and answers for jobs that have not been
// submitted or that would be changed, all by the planner on a copy of its state; nothing here changes
// anything.
#include <algorithm>
#include <limits>

#include "scheduler/core/control_plane.h"
#include "scheduler/planner/forecast.h"

namespace tutti {

namespace {
constexpr std::size_t kTried = 1000;  // that a what-if takes along
constexpr std::size_t kShown = 50;    // others that would start sooner or later
constexpr Duration kEvery = std::chrono::seconds(30);
constexpr Duration kNoticed = std::chrono::minutes(1);
const JobId kWouldBe(std::numeric_limits<std::int64_t>::max());  // the id of a job that does not exist
}  // namespace

// ---------------------------------------------------------------- estimates

void ControlPlane::estimate_starts(Now now) {
  if (now.wall - estimated_at_ < kEvery && now.wall >= estimated_at_) return;
  estimated_at_ = now.wall;
  estimates_.clear();
  for (const std::string& pool : planner_.pools()) {
    auto forecast = planner::forecast(planner_, pool, now.wall, kEstimated);
    for (auto& [job, run] : forecast.runs) {
      const Instant start = forecast.starts.at(job);
      calibration_.estimated(job, now.wall, start);
      estimates_.emplace(job,
                         Estimate{.start = start, .runs = run.end - start, .parts = std::move(run.parts)});
    }
  }
}

std::optional<PlannedRun> ControlPlane::planned_run(JobId id, Now now) const {
  const auto known = estimates_.find(id);
  if (known == estimates_.end()) return std::nullopt;
  const Estimate& e = known->second;
  return PlannedRun{.start = eta_of(std::max(e.start, now.wall), now), .runs = e.runs, .parts = e.parts};
}

std::optional<Eta> ControlPlane::eta(JobId id, Now now, bool fresh) const {
  const auto known = estimates_.find(id);
  if (known != estimates_.end() && !fresh) return eta_of(std::max(known->second.start, now.wall), now);
  if (!fresh || !planner_.waits(id)) return std::nullopt;
  const auto starts = planner::forecast(planner_, planner_.queue_of_nodes(id), now.wall, kTried, id).starts;
  const auto start = starts.find(id);
  return start == starts.end() ? std::nullopt : std::optional(eta_of(start->second, now));
}

Eta ControlPlane::eta_of(Instant start, Now now) const {
  const auto range = calibration_.range(now.wall, start);
  return {.at = start, .from = std::max(range.from, now.wall), .to = range.to};
}

// ---------------------------------------------------------------- what if

namespace {

// Others whose estimated start moves by more than a minute.
std::vector<WhatIf::Shift> shifts(const std::map<JobId, Instant>& before,
                                  const std::map<JobId, Instant>& after, JobId self) {
  std::vector<WhatIf::Shift> out;
  for (const auto& [job, start] : before) {
    const auto now = after.find(job);
    if (job == self || now == after.end()) continue;
    if (std::max(start, now->second) - std::min(start, now->second) < kNoticed) continue;
    out.push_back({job, start, now->second});
  }
  std::ranges::sort(out, std::greater{},
                    [](const auto& s) { return std::max(s.before, s.after) - std::min(s.before, s.after); });
  if (out.size() > kShown) out.resize(kShown);
  return out;
}

}  // namespace

WhatIf ControlPlane::answer(const planner::Planner& copy, JobId id, const Starts& before, Now now) const {
  WhatIf out;
  const std::string pool = copy.queue_of_nodes(id);
  Explanation& why = out.why;
  why.job = id == kWouldBe ? JobId() : id;
  why.state = JobState::queued;
  why.position = copy.ahead_of(id);
  explain_waiting(copy, *copy.find_waiting(id), now, why, true);
  const auto trial = copy.sketch(copy.first(pool, kTried));
  const auto decisions = trial->plan(now.wall);
  for (const auto& s : decisions.started) {
    if (s.job != id) continue;
    out.starts_now = true;
    for (const auto& part : s.parts) out.nodes.push_back(copy.nodes().at(part.node).desc->name);
  }
  for (const auto& p : decisions.preempted)
    if (p.for_job == id) out.preempts.push_back(p.victim);
  const auto after = planner::forecast(copy, pool, now.wall, kTried, id).starts;
  if (const auto start = after.find(id); start != after.end()) out.eta = eta_of(start->second, now);
  out.others = shifts(before, after, id);
  return out;
}

Result<WhatIf> ControlPlane::simulate(const JobSpec& spec, std::string_view owner, Now now) const {
  if (auto error = unknown_place(spec)) return *error;
  Job job;
  job.row.id = kWouldBe;
  job.row.queue = spec.queue;
  job.row.project = spec.project;
  job.row.owner = owner;
  job.row.priority = static_cast<std::int16_t>(spec.priority);
  job.row.queued_at = now.wall;
  const std::string& pool = queue_of_nodes(spec.queue);
  const auto copy = planner_.sketch(planner_.first(pool, kTried));
  const Starts before = planner::forecast(planner_, pool, now.wall, kTried).starts;
  planner::PlanJob plan = numbered(job, spec);
  copy->set_queue(plan.kind.queue, pool, queue_share(spec.queue));
  plan.shape = copy->intern(planner::ask_of(spec, pool));
  copy->submit(plan, now.wall);
  return answer(*copy, kWouldBe, before, now);
}

Result<WhatIf> ControlPlane::simulate_change(JobId id, const JobChange& change, Now now) const {
  const Job* job = find_job(id);
  const auto waiting = planner_.find_waiting(id);
  if (id.value < 1 || id > last_job_)
    return Error{.code = Errc::not_found, .message = "no job " + to_string(id), .hint = "", .field = "id"};
  if (job == nullptr || !waiting)
    return Error{.code = Errc::illegal_transition,
                 .message = "job " + to_string(id) + " does not wait in the queue",
                 .hint = "only queued jobs can be asked about",
                 .field = "id"};
  if (auto error = refuses_change(*job, change, now)) return *error;
  const std::string pool = planner_.queue_of_nodes(id);
  auto ids = planner_.first(pool, kTried);
  if (std::ranges::find(ids, id) == ids.end()) ids.push_back(id);
  const auto copy = planner_.sketch(ids);
  const Starts before = planner::forecast(planner_, pool, now.wall, kTried, id).starts;
  planner::Waiting asked = *waiting;
  copy->withdraw(id);
  if (change.priority) asked.what.priority = *change.priority;
  JobSpec spec = changed(*job, change);
  if (change.time_limit || change.total_time_limit)
    asked.what.limit = run_limit(spec, job->row.ran).value_or(planner::kNoLimit);
  if (change.nodes) {
    spec.nodes = *change.nodes;
    spec.min_nodes = std::min(spec.min_nodes, spec.nodes);
    asked.what.kind.gpus = spec.nodes * spec.resources.gpus;
    asked.what.shape = copy->intern(planner::ask_of(spec, pool));
  }
  if (change.quota_gpus) {
    planner::QueueShare share = queue_share(job->row.queue);
    share.quota = *change.quota_gpus;
    share.lend = std::min(share.lend, share.quota);
    copy->set_queue(asked.what.kind.queue, pool, share);
  }
  if (change.max_gpus) {
    const ProjectRow& project = shares_.projects.at(job->row.project);
    copy->set_project(asked.what.project, project_names_.find(project.parent), project.weight,
                      *change.max_gpus);
  }
  if (change.begin_time && spec.begin_time && *spec.begin_time > now.wall)
    return without(*copy, id, pool, *spec.begin_time, before, now);
  copy->enqueue(asked, now.wall);
  return answer(*copy, id, before, now);
}

// It would step back until its begin time; others may gain by that. Its own start is not estimated before.
WhatIf ControlPlane::without(const planner::Planner& copy, JobId id, const std::string& pool, Instant begin,
                             const Starts& before, Now now) const {
  WhatIf out;
  out.why.job = id;
  out.why.state = JobState::delayed;
  const auto seconds = static_cast<std::int64_t>(to_seconds(begin - now.wall) + 0.999);
  out.why.reasons.push_back(
      {"delayed", "waits for its begin time; due in " + std::to_string(seconds) + " s", 0, seconds});
  out.others = shifts(before, planner::forecast(copy, pool, now.wall, kTried).starts, id);
  return out;
}

}  // namespace tutti
