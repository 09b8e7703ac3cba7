// Control plane: faults of GPUs. The table judges (scheduler/model/fault_table.h); here its verdict
// is carried out: kill first, judge later. A later fault may still turn out to have been the first, and a
// fault told after the attempt has ended may still move its charge.
#include <algorithm>
#include <cmath>

#include "scheduler/core/control_plane.h"
#include "scheduler/core/plane_inputs.h"
#include "scheduler/core/quoted.h"

namespace tutti {
namespace {

constexpr Duration kCascade = std::chrono::seconds(5);  // what follows within this time is one event
constexpr Duration kAtMost = std::chrono::hours(1);     // an older stamp is a clock that is wrong

std::string words(const protocol::GpuFault& fault, const FaultRule& rule) {
  const std::string what = fault.kind == "xid" ? "Xid " + std::to_string(fault.xid) : fault.kind;
  return what + ": " + rule.meaning;
}

// 1 = it names its GPU, more = it says little, 0 = nobody is blamed.
std::int32_t shared_by(const FaultRule& rule) {
  if (rule.weight <= 0 || rule.shadow || rule.blame == FaultBlame::user) return 0;
  return static_cast<std::int32_t>(std::lround(1 / rule.weight));
}

constexpr std::string_view kWith = " (with ";  // in the reason of a GPU that had no fault of its own

}  // namespace

// All that share its NVLink, where the rule says so.
std::vector<GpuId> ControlPlane::hit_by(const Gpu& gpu, const FaultRule& rule) const {
  std::vector<GpuId> out{gpu.row.id};
  const Node* node = cluster_.find(gpu.row.node);
  if (!rule.whole_island || gpu.row.island < 0 || node == nullptr) return out;
  for (const GpuId id : node->gpus)
    if (id != gpu.row.id && cluster_.gpus.at(id).row.island == gpu.row.island) out.push_back(id);
  return out;
}

std::optional<std::string> ControlPlane::failed_gpu_of(std::string_view reason) {
  const auto at = reason.find(kWith);
  if (at == std::string_view::npos) return std::nullopt;
  reason.remove_prefix(at + kWith.size());
  return std::string(reason.substr(0, reason.find(')')));
}

std::string ControlPlane::action_of(const Evidence& e, bool folded) const {
  return fault_action(e.rule, e.braked, folded);
}

void ControlPlane::on_gpu_fault(Now now, NodeId id, const protocol::GpuFault& fault) {
  const auto deciding = note<&ControlPlane::on_gpu_fault>(now, id, fault);
  Node* node = cluster_.find(id);
  const auto known = cluster_.gpu_by_uuid.find(fault.uuid);
  if (node == nullptr || known == cluster_.gpu_by_uuid.end()) return;
  Gpu& gpu = cluster_.gpus.at(known->second);
  if (gpu.row.node != id) return;
  const FaultRule& rule = table().judge(fault.kind, fault.xid);
  const Instant seen_at = now.wall - Duration(std::clamp<std::int64_t>(fault.age_us, 0, kAtMost.count()));
  const auto near = [&](Instant other) {
    return other != Instant{} && std::chrono::abs(seen_at - other) < kCascade;
  };
  // NVML and the kernel log tell the same thing twice.
  Instant& last = gpu.seen[fault_key(fault.kind, fault.xid)];
  if (near(last)) return;
  last = seen_at;
  const std::string where =
      "GPU " + std::to_string(gpu.row.index) + " (" + gpu.row.uuid + ") of node " + node->row.name;
  Evidence e{.rule = rule, .fault = fault, .what = words(fault, rule) + " on " + where, .seen_at = seen_at};
  e.braked = rule.acts() && !rule.shadow && is_braked(rule, *node, now);
  e.acts = rule.acts() && !rule.shadow && !e.braked;
  // What follows upon a fault is its cascade. If it comes out that this one was first, it takes the blame.
  const std::int32_t blame = e.braked ? 0 : shared_by(rule);
  bool folded = near(node->last_fault_at) || near(node->blamed_at);
  if (folded && e.acts && blame > 0 && node->blamed && seen_at < node->blamed_at) {
    withdraw(node->blamed, node->blamed_gpu, now);
    folded = false;
  }
  if (e.acts) node->last_fault_at = std::max(node->last_fault_at, seen_at);

  const AttemptKey whose = holder_at(gpu, seen_at, now);
  const FaultId fault_id =
      add_fault(now, {.id = {},
                      .at = seen_at,
                      .node = id,
                      .gpu = gpu.row.id,
                      .job = whose.job,
                      .epoch = whose.epoch,
                      .fault_class = fault.kind,
                      .xid = fault.xid,
                      .action = action_of(e, folded),
                      .detail = words(fault, rule) + (fault.detail.empty() ? "" : " (" + fault.detail + ")"),
                      .rule = table().id() + " " + rule.fault,
                      .slot = gpu.row.pci,
                      .shared_by = folded ? 0 : blame})
          .id;
  if (e.acts && !folded && blame > 0) {
    node->blamed = fault_id;
    node->blamed_gpu = gpu.row.id;
    node->blamed_at = seen_at;
  }
  std::set<AttemptKey> told, told_late;
  for (const GpuId hit : hit_by(gpu, rule)) {
    Gpu& each = cluster_.gpus.at(hit);
    Attempt* attempt = find_live(each.holder);
    if (attempt == nullptr || seen_at < attempt->row.placed_at)
      fault_came_late(hit, e, fault_id, told_late, now);
    if (e.acts && rule.gpu == FaultGpu::quarantine && each.row.health != GpuHealth::quarantined)
      gpu_unhealthy(each, GpuHealth::quarantined,
                    words(fault, rule) + (hit == gpu.row.id ? "" : std::string(kWith) + gpu.row.uuid + ")"),
                    now);
    if (attempt != nullptr && told.insert(each.holder).second) fault_hits(*attempt, e, fault_id, now);
  }
  judge_history(*node, gpu.row.id, now);
}

std::string ControlPlane::evidence_of(const Evidence& e, FaultId id) const {
  const Gpu& gpu = cluster_.gpus.at(cluster_.gpu_by_uuid.at(e.fault.uuid));
  return "{\"kind\":" + quoted(e.fault.kind) + ",\"xid\":" + std::to_string(e.fault.xid) +
         ",\"gpu\":" + quoted(e.fault.uuid) +
         ",\"node\":" + quoted(cluster_.nodes.at(gpu.row.node).row.name) + ",\"fault\":" + to_string(id) +
         ",\"verdict\":" + quoted(e.rule.meaning) + ",\"blame\":" + quoted(name(e.rule.blame)) +
         ",\"table\":" + quoted(table().id()) + ",\"row\":" + quoted(e.rule.fault) +
         ",\"detail\":" + quoted(e.fault.detail) + "}";
}

ControlPlane::Event ControlPlane::event_of(const Evidence& e) {
  return {.kind = "fault",
          .from = "",
          .to = e.rule.shadow && e.rule.acts() ? "shadow"
                : e.braked                     ? "brake"
                : e.rule.job == FaultJob::stop ? "fatal"
                                               : "watch",
          .detail = e.what};
}

void ControlPlane::fault_hits(Attempt& attempt, const Evidence& e, FaultId id, Now now) {
  const FaultRule& rule = e.rule;
  add_evidence(attempt.row, evidence_of(e, id), !e.acts && !e.braked);
  touch(attempt);
  record_job(jobs_.at(attempt.row.job), now, event_of(e));
  if (rule.shadow || rule.job == FaultJob::none) return;
  if (e.braked) {
    attempt.excuse = e.what;
    attempt.excuse_at = e.seen_at;
    if (attempt.row.state == AttemptState::stopping) explain_end(attempt, e, now);
    return;
  }
  if (rule.job == FaultJob::leave) {
    leave_after_checkpoint(attempt, Cause::gpu, e.what, now);
    return;
  }
  if (attempt.row.state == AttemptState::stopping) return explain_end(attempt, e, now);
  attempt.row.fault_at = e.seen_at;
  begin_stop(attempt, Cause::gpu, e.what, "KILL", Duration::zero(), now);
}

// The gang is dying already. A fault that is the earlier evidence, or any where none was found, is the cause.
void ControlPlane::explain_end(Attempt& attempt, const Evidence& e, Now now) {
  AttemptRow& row = attempt.row;
  const CauseClass was = class_of(row.cause);
  const bool blamed_else = was == CauseClass::user || was == CauseClass::undecided;
  const bool earlier = row.cause == Cause::gpu && e.seen_at < row.fault_at;
  if ((!blamed_else && !earlier) || row.cause == Cause::time_limit) return;
  row.fault_at = std::min(row.fault_at, e.seen_at);
  record_job(jobs_.at(row.job), now,
             {.kind = "verdict",
              .from = std::string(name(row.cause)),
              .to = std::string(name(Cause::gpu)),
              .detail = e.what,
              .cause = Cause::gpu});
  row.cause = Cause::gpu;
  row.detail = e.what;
}

// A fault told after its attempt has ended. It may be one that explains the end better than what was known.
void ControlPlane::fault_came_late(GpuId gpu, const Evidence& e, FaultId id, std::set<AttemptKey>& told,
                                   Now now) {
  const AttemptKey holder = holder_at(cluster_.gpus.at(gpu), e.seen_at, now);
  const bool may_explain = (e.acts || e.braked) && e.rule.job != FaultJob::none;
  for (auto* ends : {&recent_ends_, &recent_successes_})
    for (RecentEnd& end : *ends) {
      const AttemptRow& row = end.row;
      if (!held(end, gpu, e.seen_at, now)) continue;
      const CauseClass was = class_of(row.cause);
      const bool explains = may_explain && row.result != AttemptResult::succeeded &&
                            (was == CauseClass::user || was == CauseClass::undecided) &&
                            row.cause != Cause::time_limit;
      const AttemptKey key{row.job, row.epoch};
      if ((explains || key == holder) && told.insert(key).second)
        supplement(end, evidence_of(e, id), event_of(e), now, !e.acts && !e.braked);
      if (explains) move_charge(end, Cause::gpu, e.what, now);
    }
}

// A later verdict: the attempt's row says so, and the job is no longer charged for it.
void ControlPlane::move_charge(RecentEnd& end, Cause to, const std::string& why, Now now) {
  AttemptRow& row = end.row;
  const Cause from = std::exchange(row.cause, to);
  row.detail = why;
  row.signature.clear();  // says nothing of the program any more
  out_.batch.revised.push_back(row);
  const auto found = jobs_.find(row.job);
  if (found == jobs_.end()) return;  // over: its history says what it was
  Job& job = found->second;
  for (auto& failure : job.note_trouble().failures)
    if (failure.attempt == row.number) failure.signature.clear();
  if (std::exchange(end.charged, true)) job.row.spent.take_one(static_cast<std::size_t>(from));
  job.row.spent.add_one(static_cast<std::size_t>(to));
  if (std::exchange(end.unprogressed, false) && job.row.no_progress > 0) --job.row.no_progress;
  if (std::exchange(end.doubted, false))
    if (CheckpointRow* from_there = checkpoints_[row.job].find(row.resume_path);
        from_there != nullptr && from_there->failed_restores > 0) {
      --from_there->failed_restores;
      store(*from_there);
    }
  touch(job);
  record_job(job, now,
             {.kind = "verdict",
              .from = std::string(name(from)),
              .to = std::string(name(to)),
              .detail = "attempt " + std::to_string(row.number) + ": " + why,
              .cause = to});
  free_after_verdict(job, row, from, now);
}

// It waits, or is held, for what it has not done.
void ControlPlane::free_after_verdict(Job& job, const AttemptRow& row, Cause from, Now now) {
  const int budget = budget_of(row.cause, job.spec->retry);
  const bool enough = budget >= 0 && job.row.spent[static_cast<std::size_t>(row.cause)] > budget;
  if (row.number != job.row.attempt || job.row.cause != from || enough) return;
  const std::string why =
      "again at once: attempt " + std::to_string(row.number) + " failed by " + std::string(name(row.cause));
  if (job.row.state == JobState::delayed) {
    job.row.front = true;
    job.row.not_before = Instant{};
    apply(job, JobEvent::due, now, row.cause, why);
  } else if (job.row.state == JobState::held) {  // by the breaker: what a person holds has that cause
    job.row.front = true;
    let_go(job, now, row.cause, why);
  }
}

// It ends after its next checkpoint, or after a while without one. A job that writes none lives or dies by
// its ranks.
void ControlPlane::leave_after_checkpoint(Attempt& attempt, Cause cause, const std::string& why, Now now) {
  const Job& job = jobs_.at(attempt.row.job);
  if (attempt.leave_by || attempt.row.state != AttemptState::running || job.spec->checkpoint.dir.empty())
    return;
  attempt.leave_by = now.mono + settings_.fault_checkpoint_wait;
  attempt.leave_why = why;
  attempt.leave_cause = cause;
  record_job(job, now,
             {.kind = "fault",
              .from = "",
              .to = "leave",
              .detail = "leaves after its next checkpoint: " + why,
              .cause = cause});
}

// Its GPUs that begin to fail, whoever was told of it first: a former leader, or this one before it ran.
void ControlPlane::leave_failing_gpus(Attempt& attempt, Now now) {
  for (const auto& m : attempt.row.gang)
    for (const GpuId id : m.gpus) {
      const GpuRow& gpu = cluster_.gpus.at(id).row;
      if (gpu.health != GpuHealth::quarantined) continue;
      const FaultRule& rule = table().judge_reason(gpu.health_reason);
      if (rule.job == FaultJob::leave && !rule.shadow)
        leave_after_checkpoint(attempt, Cause::gpu,
                               gpu.health_reason + " on GPU " + std::to_string(gpu.index) + " (" + gpu.uuid +
                                   ") of node " + m.node_name,
                               now);
    }
}

// The strongest that the table says of its GPUs that are set aside.
FaultJob ControlPlane::verdict_of_gpus(const AttemptRow& row) const {
  FaultJob verdict = FaultJob::none;
  for (const auto& m : row.gang)
    for (const GpuId id : m.gpus) {
      const GpuRow& gpu = cluster_.gpus.at(id).row;
      if (gpu.health == GpuHealth::quarantined)
        verdict = std::max(verdict, table().judge_reason(gpu.health_reason).job);
    }
  return verdict;
}

}  // namespace tutti
