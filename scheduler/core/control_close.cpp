// Control plane: the end of an attempt, once every member has ended. What becomes of its GPUs and of its job.
#include <algorithm>
#include <utility>

#include "scheduler/core/control_plane.h"
#include "scheduler/core/gentle_stop.h"
#include "scheduler/core/lost_work.h"
#include "scheduler/core/retry.h"
#include "scheduler/model/assert.h"

namespace tutti {

// Every member has ended. GPUs go back, the job goes where its cause sends it.
void ControlPlane::close_attempt(AttemptKey key, Now now) {
  Attempt& attempt = attempts_.at(key);
  AttemptRow& row = attempt.row;
  Job& job = jobs_.at(key.job);
  // Ranks that were told to stop and exited 0 have checkpointed, not finished: then the order counts.
  const bool all_ok =
      !stops_gently(row.cause) && std::ranges::all_of(row.gang, [](const GangMember& m) { return m.ok; });
  if (row.state == AttemptState::preflight) apply(attempt, AttemptEvent::ready, now, "");
  if (row.state == AttemptState::starting) {  // ended so fast that we never saw it run
    apply(attempt, AttemptEvent::started, now, "");
    apply(job, JobEvent::started, now, Cause::none, "");
  }
  const bool gpu_failed = give_back_gpus(row, now);
  if (!all_ok) {
    excuse_end(attempt, gpu_failed, now);
    charge_or_forgive(job, attempt, now);
  }
  row.result = all_ok ? AttemptResult::succeeded
               : class_of(row.cause) == CauseClass::ours || class_of(row.cause) == CauseClass::person
                   ? AttemptResult::stopped
                   : AttemptResult::failed;
  if (all_ok) row.cause = Cause::none;
  if (row.running_at != Instant{}) job.row.ran += std::max(now.wall - row.running_at, Duration(1));
  inspect_after(row, now);
  const CheckpointBook& book = checkpoints_[key.job];
  const CheckpointRow* from = book.find(row.resume_path);
  const bool damaged = row.cause == Cause::storage && row.running_at == Instant{} && from != nullptr &&
                       from->state == CheckpointState::bad;
  const AttemptOutcome outcome{.cause = row.cause,
                               .exit_code = row.exit_code,
                               .progressed = mark_resumed(job, row, all_ok, now),
                               .damaged_checkpoint = damaged};
  const bool doubted = !all_ok && !outcome.progressed && row.running_at != Instant{} && from != nullptr &&
                       from->failed_restores > 0;
  apply(attempt, AttemptEvent::ended, now, row.detail);
  std::vector<CheckpointRow> saved;
  for (const auto& [path, checkpoint] : book.rows()) saved.push_back(checkpoint);
  if (const auto lost = compute_lost_work(row, saved)) row.lost_gpu = from_seconds(lost->gpu_seconds);
  out_.batch.attempts.push_back(row);
  RecentEnd end{.row = row, .project = job.row.project, .owner = job.row.owner, .doubted = doubted};
  const NodeId failed_on = attempt.failed_on;
  forget_lost_parts(key);
  dirty_attempts_.erase(key);
  attempts_.erase(key);

  if (all_ok) {
    planner_.ended(key.job, now.wall);
    job.row.cause = Cause::none;
    apply(job, JobEvent::succeed, now, Cause::none, "");
    finish_job(job, now, 0);
    return remember_end(std::move(end));
  }
  planner_.stopped(key.job, now.wall);
  if (!damaged) avoid_after(job, end.row, failed_on);
  remember_failure(job, end.row);
  send_on(job, std::move(end), outcome, now);
}

// True: one of them is set aside for a fault.
bool ControlPlane::give_back_gpus(const AttemptRow& row, Now now) {
  const AttemptKey key{row.job, row.epoch};
  bool failed = false;
  for (const auto& m : row.gang) {
    for (GpuId id : m.gpus) {
      Gpu& gpu = cluster_.gpus.at(id);
      gpu.holder = {};
      if (gpu.row.health == GpuHealth::quarantined) failed = true;
      out_.batch.closed.push_back({.gpu = id,
                                   .job = key.job,
                                   .epoch = key.epoch,
                                   .from = row.placed_at,
                                   .until = std::max(now.wall, row.placed_at)});
    }
    capacity_changed(m.node);
    // Who could not prove it keeps the record and goes on trying; its late proof cleans the GPUs.
    if (!cluster_.nodes.at(m.node).unproven.contains(key)) send(m.node, protocol::Forget{key});
  }
  return failed;
}

// Where an attempt that has not succeeded sends its job: on, held, or to its end.
void ControlPlane::send_on(Job& job, RecentEnd end, const AttemptOutcome& outcome, Now now) {
  const AttemptRow& ended = end.row;
  const auto spent = [&] { return job.row.spent[static_cast<std::size_t>(ended.cause)]; };
  const auto spent_before = spent(), unprogressed_before = job.row.no_progress;
  const std::uint64_t dice = mix(static_cast<std::uint64_t>(ended.job.value) * 0x10001ULL +
                                 static_cast<std::uint64_t>(ended.epoch.value));
  RetryDecision decision = decide_retry(job.row, *job.spec, outcome, now.wall, dice);
  end.charged = spent() > spent_before;
  end.unprogressed = job.row.no_progress > unprogressed_before;
  const CauseClass c = class_of(ended.cause);
  const bool after_a_fault =
      c == CauseClass::hardware || c == CauseClass::infrastructure || ended.cause == Cause::control;
  if (const Duration turn =
          decision.then == JobEvent::requeue && after_a_fault ? wait_for_turn(now) : Duration();
      turn > Duration::zero())
    decision = {JobEvent::back_off, turn, decision.reason + "; many start again, its turn comes"};
  const bool goes_on = decision.then == JobEvent::requeue || decision.then == JobEvent::back_off;
  // A victim of preemption stands at the head of its like by its age; at the front of all it would push out
  // the one it made way for.
  job.row.front = goes_on && ended.cause != Cause::preempted;
  if (decision.then == JobEvent::back_off) job.row.not_before = now.wall + decision.delay;
  const bool late = job.spec->deadline && *job.spec->deadline <= now.wall && goes_on;
  std::string why =
      decision.reason.empty() || ended.cause == Cause::time_limit ? ended.detail : decision.reason;
  if (late) why = "its deadline has passed";
  const bool legal =
      apply(job, late ? JobEvent::fail : decision.then, now, late ? Cause::time_limit : ended.cause, why);
  TUTTI_ASSERT(legal, "a stopping job can go wherever a retry sends it");
  if (is_terminal(job.row.state)) finish_job(job, now, ended.exit_code);
  remember_end(std::move(end));
}

// Where it would rather not go next time: nodes that are broken, the one that could not start it or is
// suspected, and all of them where nobody knows which it was. Judged by what rows say, so that a new leader,
// to whom no node has spoken yet, comes to the same.
void ControlPlane::avoid_after(Job& job, const AttemptRow& ended, NodeId failed_on) {
  const Cause cause = ended.cause;
  const bool one_is_to_blame = cause == Cause::launch || cause == Cause::control || cause == Cause::hang ||
                               cause == Cause::fabric || cause == Cause::network ||
                               (cause == Cause::storage && ended.running_at == Instant{});
  const bool any_may_be = cause == Cause::unknown || (cause == Cause::hang && !failed_on);
  for (const auto& m : ended.gang) {
    const NodeRow& node = cluster_.nodes.at(m.node).row;
    const bool broken =
        class_of(cause) == CauseClass::hardware &&
        (node.state != NodeState::reachable || !takes_work(node.service) ||
         std::ranges::any_of(m.gpus, [&](GpuId id) { return !cluster_.gpus.at(id).usable(); }));
    if ((broken || any_may_be || (one_is_to_blame && m.node == failed_on)) &&
        !std::ranges::count(job.trouble().avoid, m.node))
      job.note_trouble().avoid.push_back(m.node);
  }
  // To avoid nearly all of them says nothing any more: the newest count.
  const std::size_t most = std::max(ended.gang.size(), cluster_.nodes.size() / 2);
  if (job.trouble().avoid.size() <= most) return;
  auto& avoid = job.note_trouble().avoid;
  avoid.erase(avoid.begin(), avoid.end() - static_cast<std::ptrdiff_t>(most));
}

void ControlPlane::tell_avoided(const Job& job) {
  std::vector<int> avoid;
  for (const NodeId id : job.trouble().avoid)
    if (const auto node = planner_.nodes().find(id)) avoid.push_back(*node);
  planner_.avoid(job.row.id, std::move(avoid));
}

}  // namespace tutti
