// Control plane: time passes, and the planner's decisions are carried out.
#include <algorithm>

#include "scheduler/core/control_plane.h"
#include "scheduler/core/plane_inputs.h"

namespace tutti {

namespace {
constexpr Duration kMadeWayEvery = std::chrono::hours(1);  // for one job that restarts after faults

NodeId slowest_of(const AttemptRow& row) {
  return std::ranges::min_element(row.gang, {}, &GangMember::state)->node;
}
}  // namespace

void ControlPlane::on_tick(Now now, std::int32_t most_starts) {
  const auto deciding = note<&ControlPlane::on_tick>(now, most_starts);
  while (auto due = delayed_.pop_due(now.wall)) {
    Job& job = jobs_.at(*due);
    if (job.spec->schedule) {
      run_schedule(job, now);
      continue;
    }
    job.row.not_before = Instant{};
    apply(job, JobEvent::due, now, Cause::none, "due");
  }
  for (auto& [id, node] : cluster_.nodes) {
    if (node.row.state == NodeState::dead) continue;
    if (now.mono - leases_.heard_at(id) >= leases_.settings().suspicion)
      set_node_state(node, NodeEvent::silence, now, "no heartbeat");
    // One that was revoked before this plane was built from rows is as silent as it was: the table outlives
    // us.
    if (now.mono >= leases_.expires_at(id) && (leases_.held(id) || !silent_.contains(id)))
      expire_lease(node, now);
  }
  end_lost_parts(now);
  declare_dead(now);
  judge_lost(now);
  judge_clocks(now);
  inspect_idle(now);
  end_late(now);
  judge_hangs(now);
  expire_reservations(now);
  end_services(now);
  weigh_lemons(now);
  delete_retired(now);
  std::vector<AttemptKey> late, leaving, settled;
  for (const auto& [key, attempt] : attempts_)
    if (attempt.settle_at && now.mono >= *attempt.settle_at) settled.push_back(key);
  for (const AttemptKey key : settled) close_attempt(key, now);
  for (const auto& [key, attempt] : attempts_)
    if (attempt.leave_by && now.mono >= *attempt.leave_by) leaving.push_back(key);
  for (const AttemptKey key : leaving) leave_now(attempts_.at(key), now);
  for (const auto& [key, attempt] : attempts_)
    if (attempt.deadline && now.mono >= *attempt.deadline) late.push_back(key);
  for (AttemptKey key : late) {
    Attempt& attempt = attempts_.at(key);
    attempt.deadline.reset();
    const StopPolicy& stop = jobs_.at(key.job).spec->stop;
    switch (attempt.row.state) {
      case AttemptState::placed:
      case AttemptState::preflight:
        attempt.failed_on = slowest_of(attempt.row);
        begin_stop(attempt, Cause::launch, "not every node became ready in time", "KILL", Duration::zero(),
                   now);
        break;
      case AttemptState::starting:
        attempt.failed_on = slowest_of(attempt.row);
        begin_stop(attempt, Cause::launch, "not every rank came up in time", "KILL", Duration::zero(), now);
        break;
      case AttemptState::running:
        begin_stop(attempt, Cause::time_limit, "time limit reached", stop.signal, stop.grace, now);
        break;
      case AttemptState::stopping:
      case AttemptState::ended: break;
    }
  }
  if (most_starts > 0) plan(now, most_starts);
  if (planner_.waiting() > 0) estimate_starts(now);
}

// ---------------------------------------------------------------- what the planner is told

// Numbers for its names; those that are not known yet have none.
planner::PlanJob ControlPlane::numbered(const Job& job, const JobSpec& spec) const {
  return {.id = job.row.id,
          .kind = {user_names_.find(job.row.owner), queue_names_.find(job.row.queue),
                   spec.nodes * spec.resources.gpus},
          .project = project_names_.find(job.row.project),
          .priority = job.row.priority,
          .front = job.row.front,
          .preemptible = spec.preemptible,
          .limit_per_run = true,
          .submitted = job.row.queued_at,
          .preempts_from = preempts_from(job),
          .limit = run_limit(spec, job.row.ran).value_or(planner::kNoLimit)};
}

// A restart after a fault stands at the front of its band. One that fails again and again must not push
// somebody out each time.
Instant ControlPlane::preempts_from(const Job& job) {
  const CauseClass c = class_of(job.row.cause);
  const bool after_a_fault = c == CauseClass::hardware || c == CauseClass::infrastructure;
  if (!job.row.front || !after_a_fault || job.trouble().made_way_at == Instant{}) return {};
  return job.trouble().made_way_at + kMadeWayEvery;
}

planner::PlanJob ControlPlane::plan_job(const Job& job) {
  user_names_.of(job.row.owner);
  if (!shares_.queues.contains(job.row.queue) || !shares_.projects.contains(job.row.project)) {
    shares_.queues.emplace(job.row.queue, QueueRow{.name = job.row.queue, .nodes_of = ""});
    shares_.projects.emplace(job.row.project, ProjectRow{.name = job.row.project, .parent = ""});
    see_shares();
  }
  planner::PlanJob plan = numbered(job, *job.spec);
  const std::string& queue = queue_of_nodes(job.row.queue);
  if (last_shape_.spec != job.spec || last_shape_.queue != queue)  // a million may come with one spec
    last_shape_ = {job.spec, queue, planner_.intern(planner::ask_of(*job.spec, queue))};
  plan.shape = last_shape_.shape;
  return plan;
}

void ControlPlane::see_nodes() {
  bool fresh = false;
  for (const NodeId id : std::exchange(unseen_, {})) {
    const Node* node = cluster_.find(id);
    if (node == nullptr) continue;
    fresh = fresh || !planner_.nodes().find(id);
    planner_.put_node(describe(cluster_, *node));
  }
  if (fresh && !shares_.reservations.empty()) see_shares();
}

// An attempt that ran before this leader did.
void ControlPlane::adopt(const Job& job, const Attempt& attempt) {
  planner::Parts parts;
  for (const auto& m : attempt.row.gang)
    parts.push_back(part_of(cluster_, cluster_.nodes.at(m.node), *planner_.nodes().find(m.node), m.gpus));
  const Instant since = attempt.row.running_at == Instant{} ? attempt.row.placed_at : attempt.row.running_at;
  planner_.adopt(plan_job(job), std::move(parts), since, job.row.queued_at, job.row.ran);
}

// ---------------------------------------------------------------- what it decides

void ControlPlane::plan(Now now, std::int32_t most_starts) {
  const auto deciding = note<&ControlPlane::plan>(now, most_starts);
  see_nodes();
  const planner::Decisions decisions = planner_.plan(now.wall, static_cast<std::size_t>(most_starts));
  for (const auto& start : decisions.started) start_planned(start, now);
  for (const auto& preemption : decisions.preempted) give_way(preemption, now);
}

void ControlPlane::start_planned(const planner::Start& start, Now now) {
  std::vector<NodePick> picks;
  for (const auto& part : start.parts) {
    const NodeId id = planner_.nodes().at(part.node).desc->id;
    picks.push_back(pick_gpus(cluster_, cluster_.nodes.at(id), part));
  }
  calibration_.started(start.job, now.wall);
  start_attempt(jobs_.at(start.job), picks, now);
}

// The victim is asked to stop: at once, or where it saves checkpoints after its next one, which it gets a
// while for. The cause is recorded before the signal.
void ControlPlane::give_way(const planner::Preemption& p, Now now) {
  const Job& victim = jobs_.at(p.victim);
  Attempt& attempt = attempts_.at({p.victim, victim.row.epoch});
  if (const auto whom = jobs_.find(p.for_job); whom != jobs_.end())
    whom->second.note_trouble().made_way_at = now.wall;
  attempt.leave_why = "makes way for job " + to_string(p.for_job);
  switch (p.right) {
    case planner::Right::policy: attempt.leave_why += ", which the policy prefers"; break;
    case planner::Right::band: attempt.leave_why += ", which is of a higher band"; break;
    case planner::Right::quota: attempt.leave_why += ", whose queue takes back what it has lent"; break;
  }
  attempt.leave_cause = Cause::preempted;
  const auto book = checkpoints_.find(p.victim);
  const bool saves = book != checkpoints_.end() && !book->second.rows().empty() &&
                     attempt.row.state == AttemptState::running;
  attempt.leave_by = saves ? now.mono + settings_.checkpoint_wait : now.mono;
  record_job(victim, now,
             {.kind = "preempt",
              .from = "",
              .to = "",
              .detail = attempt.leave_why + (saves ? "; waits for its next checkpoint" : ""),
              .cause = Cause::preempted});
  if (!saves) leave_now(attempt, now);
}

void ControlPlane::leave_now(Attempt& attempt, Now now) {
  const StopPolicy& stop = jobs_.at(attempt.row.job).spec->stop;
  attempt.leave_by.reset();
  begin_stop(attempt, attempt.leave_cause, attempt.leave_why, stop.signal, stop.grace, now);
}

Duration ControlPlane::next_wake(Now now) const {
  Duration wait = std::chrono::milliseconds(250);  // leases and deadlines are looked at so often
  if (auto due = delayed_.earliest()) wait = std::min(wait, *due - now.wall);
  for (const auto& [key, attempt] : attempts_)
    for (const auto& at : {attempt.deadline, attempt.leave_by, attempt.settle_at})
      if (at) wait = std::min(wait, *at - now.mono);
  return std::max(wait, Duration::zero());
}

}  // namespace tutti
