// Control plane: attempts, from placement to the last proof of death.
#include <algorithm>
#include <array>
#include <tuple>

#include "scheduler/core/control_plane.h"
#include "scheduler/core/gentle_stop.h"
#include "scheduler/core/plane_inputs.h"
#include "scheduler/core/quoted.h"
#include "scheduler/core/retry.h"
#include "scheduler/model/assert.h"

namespace tutti {
namespace {

using protocol::Phase;

MemberState member_state_of(Phase phase) {
  switch (phase) {
    case Phase::preparing: return MemberState::preparing;
    case Phase::ready: return MemberState::ready;
    case Phase::launched: return MemberState::launched;
    case Phase::running: return MemberState::running;
    case Phase::ended: return MemberState::ended;
  }
  return MemberState::asked;
}

bool all_at_least(const AttemptRow& row, MemberState state) {
  return std::ranges::all_of(row.gang, [&](const GangMember& m) { return m.state >= state; });
}

GangMember* member_on(AttemptRow& row, NodeId node) {
  auto it = std::ranges::find(row.gang, node, &GangMember::node);
  return it == row.gang.end() ? nullptr : &*it;
}

// First light's attribution: what the evidence of one failing rank says by itself.
Cause cause_of(const protocol::Failure& f) {
  if (f.kind == "oom") return Cause::oom;
  if (f.kind == "launch" || f.kind == "setup" || f.kind == "secret") return Cause::launch;
  if (f.kind == "checkpoint" || f.kind == "storage") return Cause::storage;
  if (f.kind == "supervisor") return Cause::control;
  if (f.kind == "lease") return Cause::node_lost;
  if (f.kind == "exit") return f.exit_code == 85 ? Cause::requeued : Cause::user;
  if (f.kind == "signal") {
    // Sent by somebody who left no trace, or (SIGILL, SIGBUS) what broken memory, a full /dev/shm or a lost
    // file looks like as well: whether it is the program's own shows when it is so elsewhere too.
    constexpr auto kUndecided = std::to_array<int>({4, 7, 9, 15});
    return std::ranges::find(kUndecided, f.signal) != kUndecided.end() ? Cause::unknown : Cause::user;
  }
  return Cause::unknown;
}

std::string unproven_reason(AttemptKey key) {
  return "death of job " + to_string(key.job) + " epoch " + to_string(key.epoch) + " not proven";
}

}  // namespace

Attempt* ControlPlane::find_live(AttemptKey key) {
  auto it = attempts_.find(key);
  return it == attempts_.end() ? nullptr : &it->second;
}

// The only place that writes an attempt's state.
bool ControlPlane::apply(Attempt& attempt, AttemptEvent event, Now now, std::string detail) {
  AttemptRow& row = attempt.row;
  const auto to = next(kAttemptEdges, row.state, event);
  if (!to) return false;
  const AttemptState from = row.state;
  row.state = *to;
  touch(attempt);
  attempt.deadline.reset();
  switch (*to) {
    case AttemptState::placed: break;
    case AttemptState::preflight:
      row.preflight_at = now.wall;
      attempt.deadline = now.mono + settings_.prepare_deadline;
      break;
    case AttemptState::starting:
      row.starting_at = now.wall;
      attempt.deadline = now.mono + settings_.launch_deadline;
      break;
    case AttemptState::running: {
      row.running_at = now.wall;
      const auto limit = run_limit(*jobs_.at(row.job).spec, jobs_.at(row.job).row.ran);
      if (limit) attempt.deadline = now.mono + *limit;
      planner_.began(row.job, now.wall);
      Job& job = jobs_.at(row.job);
      stage(job, "running", now);
      if (job.noted && job.noted->fault_step < 0)
        job.noted->fault_at = {};  // it told no step before it failed: nothing more to wait for
      break;
    }
    case AttemptState::stopping: row.stopping_at = now.wall; break;
    case AttemptState::ended: row.ended_at = now.wall; break;
  }
  record_job(jobs_.at(row.job), now,
             {.kind = "attempt",
              .from = std::string(name(from)),
              .to = std::string(name(*to)),
              .detail = std::move(detail),
              .cause = row.cause});
  return true;
}

void ControlPlane::start_attempt(Job& job, const std::vector<NodePick>& picks, Now now) {
  Attempt attempt;
  AttemptRow& row = attempt.row;
  row.job = job.row.id;
  row.epoch = Epoch(job.row.epoch.value + 1);
  row.number = job.row.attempt + 1;
  row.placed_at = now.wall;
  row.evidence_json = "[]";
  const AttemptKey key{row.job, row.epoch};
  const JobSpec& spec = *job.spec;
  int rank = 0;
  for (const auto& pick : picks) {
    Node& node = *cluster_.find(pick.node);
    const bool first = row.gang.empty();
    const int ranks = spec.launcher == Launcher::script ? (first ? 1 : 0) : spec.procs_per_node;
    row.gang.push_back(GangMember{.node = pick.node,
                                  .node_name = node.row.name,
                                  .gpus = pick.gpus,
                                  .first_rank = rank,
                                  .ranks = ranks,
                                  .address = node.row.address,
                                  .how = {}});
    rank += ranks;
    for (GpuId id : pick.gpus) {
      Gpu& gpu = cluster_.gpus.at(id);
      TUTTI_ASSERT(gpu.free(), "a GPU is given away once");
      gpu.holder = key;
      out_.batch.opened.push_back(
          {.gpu = id, .job = row.job, .epoch = row.epoch, .from = now.wall, .until = {}});
    }
    node.members.insert(key);
  }
  if (std::ranges::all_of(row.gang,
                          [&](const auto& m) { return cluster_.nodes.at(m.node).peer_port != 0; })) {
    row.continue_for = settings_.continue_for;
    if (row.continue_for > Duration::zero()) row.witness = choose_witness(row.gang);
  }
  job.row.epoch = row.epoch;
  job.row.attempt = row.number;
  choose_resume(job, row, now);
  row.last_step = row.resume_step;
  std::string where;
  for (const auto& m : row.gang) where += (where.empty() ? "" : ", ") + m.node_name;
  attempt.deadline = now.mono + settings_.prepare_deadline;
  auto [it, inserted] = attempts_.emplace(key, std::move(attempt));
  TUTTI_ASSERT(inserted, "epochs are used once");
  touch(it->second);
  apply(job, JobEvent::place, now, Cause::none, "on " + where);
  record_job(job, now, {.kind = "attempt", .from = "", .to = "placed", .detail = "on " + where});
  stage(job, "placed", now);
  for (std::size_t i = 0; i < it->second.row.gang.size(); ++i) send_prepare(it->second, job, i);
}

void ControlPlane::send_prepare(const Attempt& attempt, const Job& job, std::size_t index) {
  protocol::Prepare p;
  p.key = {attempt.row.job, attempt.row.epoch};
  p.attempt = attempt.row.number;
  p.owner = job.row.owner;
  for (const auto& m : attempt.row.gang)
    p.gang.push_back({m.node_name, m.address, m.first_rank, m.ranks, cluster_.nodes.at(m.node).peer_port});
  p.hold = hold_of(attempt.row);
  p.index = static_cast<std::int32_t>(index);
  const GangMember& member = attempt.row.gang[index];
  for (GpuId id : member.gpus) p.gpu_uuids.push_back(cluster_.gpus.at(id).row.uuid);
  p.resume_path = attempt.row.resume_path;
  if (const CheckpointRow* from = checkpoints_[attempt.row.job].find(attempt.row.resume_path)) {
    p.resume_step = from->step;
    p.resume_epoch = from->epoch.value;
  }
  if (attempt.row.number > 1) p.restart_cause = name(job.row.cause);
  send(member.node, std::move(p), job.spec);
}

void ControlPlane::send_launch(const Attempt& attempt, NodeId to) {
  protocol::Launch launch;
  launch.key = {attempt.row.job, attempt.row.epoch};
  launch.master_port = attempt.row.gang.front().master_port;
  for (const auto& m : attempt.row.gang) launch.endpoints.push_back({m.address, m.agent_port});
  send(to, std::move(launch));
}

void ControlPlane::send_stop(const Attempt& attempt, NodeId to, std::string signal, Duration grace) {
  send(to, protocol::Stop{.key = {attempt.row.job, attempt.row.epoch},
                          .cause = std::string(name(attempt.row.cause)),
                          .signal = std::move(signal),
                          .grace_us = grace.count()});
}

// Whatever the attempt waits for may be complete now.
void ControlPlane::advance(Attempt& attempt, Now now) {
  AttemptRow& row = attempt.row;
  if (row.state == AttemptState::placed &&
      std::ranges::any_of(row.gang, [](const GangMember& m) { return m.state >= MemberState::preparing; }))
    apply(attempt, AttemptEvent::accepted, now, "");
  if (row.state == AttemptState::preflight && all_at_least(row, MemberState::ready)) {
    apply(attempt, AttemptEvent::ready, now, "every node is ready");
    for (const auto& m : row.gang) send_launch(attempt, m.node);
  }
  if (row.state == AttemptState::starting && all_at_least(row, MemberState::running)) {
    apply(attempt, AttemptEvent::started, now, "every rank is up");
    apply(jobs_.at(row.job), JobEvent::started, now, Cause::none, "");
    leave_failing_gpus(attempt, now);
  }
  // All ranks have done their work: nodes that hold GPUs without ranks are told so.
  if (row.state == AttemptState::running || row.state == AttemptState::starting) {
    const bool done = std::ranges::all_of(row.gang, [](const GangMember& m) {
      return m.ranks == 0 || (m.state == MemberState::ended && m.ok);
    });
    if (done)
      for (const auto& m : row.gang)
        if (m.ranks == 0 && m.state != MemberState::ended)
          send(m.node,
               protocol::Stop{.key = {row.job, row.epoch}, .cause = "done", .signal = "KILL", .grace_us = 0});
  }
  if (all_at_least(row, MemberState::ended) && !awaits_evidence(attempt, now))
    close_attempt({row.job, row.epoch}, now);
}

// Its ranks died of what a GPU fault looks like as well, and that would be the end of the job: the fault may
// still be told.
bool ControlPlane::awaits_evidence(Attempt& attempt, Now now) const {
  const AttemptRow& row = attempt.row;
  if (row.state != AttemptState::stopping || (row.cause != Cause::user && row.cause != Cause::unknown))
    return false;
  const Duration left = row.stopping_at + settings_.evidence_wait - now.wall;
  const Job& job = jobs_.at(row.job);
  const auto& retry = job.spec->retry;
  const int budget = budget_of(row.cause, retry);
  const bool last = budget >= 0 && job.row.spent[static_cast<std::size_t>(row.cause)] >= budget;
  if (left <= Duration::zero() || !last || job.spec->resources.gpus == 0 ||
      (row.cause == Cause::user && retry.exit_codes.contains(row.exit_code)))
    return false;
  attempt.settle_at = now.mono + left;
  return true;
}

void ControlPlane::on_attempt_status(Now now, NodeId node_id, const protocol::AttemptStatus& status) {
  const auto deciding = note<&ControlPlane::on_attempt_status>(now, node_id, status);
  Node* node = cluster_.find(node_id);
  if (node == nullptr) return;
  Attempt* attempt = find_live(status.key);
  GangMember* member = attempt == nullptr ? nullptr : member_on(attempt->row, node_id);
  if (member == nullptr || member->state == MemberState::ended) {
    // A former epoch, or one that we have counted as dead here: it must end, and then be forgotten.
    if (status.failure) failure_came_late(node_id, status.key, *status.failure, now);
    if (status.phase == Phase::ended && status.end && status.end->proven) {
      if (node->stale.erase(status.key) > 0) capacity_changed(node_id);
      proven_late(*node, status.key, now);
      if (member == nullptr) send(node_id, protocol::Forget{status.key});
    } else if (!node->unproven.contains(status.key)) {  // else its GPUs are dirty, the others may be used
      node->stale.insert(status.key);
      if (status.phase != Phase::ended)
        send(node_id, protocol::Stop{.key = status.key, .cause = "control", .signal = "KILL", .grace_us = 0});
    }
    return;
  }
  if (lost_parts_.contains({status.key, node_id}))
    return;  // it knows nothing of it: what it says proves nothing
  const auto before = std::tuple(member->state, member->agent_port, member->master_port);
  if (const MemberState said = member_state_of(status.phase);
      said > member->state && said != MemberState::ended)
    member->state = said;
  if (status.agent_port != 0) member->agent_port = status.agent_port;
  if (status.master_port != 0) member->master_port = status.master_port;
  if (std::tuple(member->state, member->agent_port, member->master_port) != before) touch(*attempt);
  if (status.failure) member_failed(*attempt, *member, *status.failure, now);
  if (status.phase == Phase::ended) {
    const protocol::End end = status.end.value_or(protocol::End{});
    const bool ok = (end.ok || member->ranks == 0) && !status.failure;
    if (!end.proven) node->unproven[status.key] = member->gpus;
    end_member(*attempt, *member, ok, end.proven, end.how, now);
  }
  advance(*attempt, now);
}

std::string ControlPlane::evidence_of(const GangMember& member, const protocol::Failure& failure) {
  return "{\"kind\":" + quoted(failure.kind) + ",\"node\":" + quoted(member.node_name) +
         ",\"rank\":" + std::to_string(failure.rank) + ",\"exit_code\":" + std::to_string(failure.exit_code) +
         ",\"signal\":" + std::to_string(failure.signal) + ",\"detail\":" + quoted(failure.detail) +
         ",\"last_lines\":" + quoted(failure.last_lines) + "}";
}

void ControlPlane::member_failed(Attempt& attempt, GangMember& member, const protocol::Failure& failure,
                                 Now now) {
  if (member.exit_code != 0 || member.signal != 0 || !member.how.empty()) return;  // said before
  member.exit_code = failure.exit_code;
  member.signal = failure.signal;
  member.how = "failing";
  touch(attempt);
  if (attempt.row.state == AttemptState::stopping || attempt.row.state == AttemptState::ended) return;
  attempt.failed_on = failure.kind == "secret" ? NodeId() : member.node;  // no node has a part in that
  add_evidence(attempt.row, evidence_of(member, failure));
  attempt.row.exit_code = failure.signal != 0 ? 128 + failure.signal : failure.exit_code;
  sign(attempt, failure);
  if (attempt.row.fault_at == Instant{}) attempt.row.fault_at = now.wall;
  if (failure.kind == "checkpoint") resume_damaged(attempt, failure, now);
  std::string detail = failure.rank >= 0 ? "rank " + std::to_string(failure.rank) + " on " : "on ";
  detail += member.node_name + ": " + failure.detail;
  Cause cause = cause_of(failure);
  if (cause == Cause::user || cause == Cause::unknown)
    if (const GangMember* with = with_link_trouble(attempt.row)) {
      const std::string& link = cluster_.nodes.at(with->node).link_trouble->what;
      // InfiniBand ports are named "device/port".
      cause = link.substr(0, link.find_first_of(" :")).find('/') == std::string::npos ? Cause::network
                                                                                      : Cause::fabric;
      detail += "; node " + with->node_name + " had trouble with its network just before: " + link;
      attempt.failed_on = with->node;
    }
  const bool gently = stops_gently(cause);  // exit code 85: the others are writing their last checkpoint
  const JobSpec& spec = *jobs_.at(attempt.row.job).spec;
  begin_stop(attempt, cause, std::move(detail), gently ? spec.stop.signal : "KILL",
             gently ? spec.stop.grace : Duration::zero(), now);
}

// The gang is to end. The cause is recorded first, in the same transaction that lets the orders go.
void ControlPlane::begin_stop(Attempt& attempt, Cause cause, std::string detail, std::string signal,
                              Duration grace, Now now) {
  AttemptRow& row = attempt.row;
  Job& job = jobs_.at(row.job);
  const bool person = cause == Cause::cancelled || cause == Cause::held;
  attempt.leave_by.reset();
  if (row.state == AttemptState::stopping) {
    if (person && row.cause != Cause::cancelled) {  // what a person wants outranks what was about to happen
      row.cause = cause;
      row.detail = detail;
      touch(attempt);
      record_job(job, now,
                 {.kind = "attempt", .from = "stopping", .to = "stopping", .detail = detail, .cause = cause});
    }
    return;
  }
  row.cause = cause;
  row.detail = detail;
  if (row.fault_at == Instant{}) row.fault_at = now.wall;
  apply(attempt, AttemptEvent::stop, now, detail);
  apply(job, JobEvent::stop, now, cause, detail);
  for (const auto& m : row.gang)
    if (m.state != MemberState::ended) send_stop(attempt, m.node, signal, grace);
}

void ControlPlane::end_member(Attempt& attempt, GangMember& member, bool ok, bool proven, std::string how,
                              Now now) {
  const AttemptKey key{attempt.row.job, attempt.row.epoch};
  member.state = MemberState::ended;
  member.ok = ok;
  member.how = std::move(how);
  attempt.watch.forget(member.node);
  touch(attempt);
  Node& node = cluster_.nodes.at(member.node);
  node.members.erase(key);
  if (!proven) {
    member.how = "unproven: " + member.how;
    for (GpuId id : member.gpus)
      gpu_unhealthy(cluster_.gpus.at(id), GpuHealth::dirty, unproven_reason(key), now);
  }
  if (!ok && attempt.row.state != AttemptState::stopping)
    begin_stop(attempt, Cause::unknown, "on " + member.node_name + ": ended without a reason", "KILL",
               Duration::zero(), now);
}

// What could not be proven when it ended is proven now: its GPUs are clean.
void ControlPlane::proven_late(Node& node, AttemptKey key, Now now) {
  node.unproven.erase(key);
  // By their reason, which is a row: `unproven` does not live through a restart of the scheduler.
  const std::string reason = unproven_reason(key);
  for (GpuId id : node.gpus)
    if (Gpu& gpu = cluster_.gpus.at(id);
        gpu.row.health == GpuHealth::dirty && gpu.row.health_reason == reason)
      gpu_unhealthy(gpu, GpuHealth::healthy, "", now);
}

void ControlPlane::on_progress(Now now, NodeId node, const protocol::Progress& progress) {
  const auto deciding = note<&ControlPlane::on_progress>(now, node, progress);
  Attempt* attempt = find_live(progress.key);
  if (attempt == nullptr || member_on(attempt->row, node) == nullptr) return;
  note_step(*attempt, progress.step, now);
  attempt->progress = progress;
}

// The newest step is stored with the next change; a stage of the recovery at once, or the next leader would
// count it again.
void ControlPlane::note_step(Attempt& attempt, std::int64_t step, Now now) {
  AttemptRow& row = attempt.row;
  Job& job = jobs_.at(row.job);
  row.last_step = std::max(row.last_step, step);
  if (row.restored_at == Instant{} && row.last_step > row.resume_step) {
    row.restored_at = now.wall;
    touch(attempt);
    stage(job, "restored", now);
  }
  if (row.caught_up_at == Instant{} && row.last_step > job.trouble().fault_step) {
    row.caught_up_at = now.wall;
    touch(attempt);
    stage(job, "caught_up", now);
    if (job.noted) job.noted->fault_at = {};
  }
}

// After a reconnect: say again what this member has to do.
void ControlPlane::repeat_orders(Attempt& attempt, GangMember& member, Now now) {
  if (attempt.row.state == AttemptState::stopping) {
    const StopPolicy& stop = jobs_.at(attempt.row.job).spec->stop;
    const Duration left = attempt.row.stopping_at + stop.grace - now.wall;
    const bool leaves = attempt.row.cause == Cause::gpu && verdict_of_gpus(attempt.row) == FaultJob::leave;
    if ((stops_gently(attempt.row.cause) || leaves) && left > Duration::zero())
      send_stop(attempt, member.node, stop.signal, left);
    else
      send_stop(attempt, member.node, "KILL", Duration::zero());
  } else if (attempt.row.state == AttemptState::starting &&
             (member.state == MemberState::ready || member.state == MemberState::preparing)) {
    send_launch(attempt, member.node);
  } else if (member.state == MemberState::asked) {
    const Job& job = jobs_.at(attempt.row.job);
    for (std::size_t i = 0; i < attempt.row.gang.size(); ++i)
      if (attempt.row.gang[i].node == member.node) send_prepare(attempt, job, i);
  }
}

}  // namespace tutti
