// Control plane, part 11: faults of GPUs. The table judges (scheduler/model/fault_table.h); here its verdict
// is carried out: kill first, judge later. A later fault may still turn out to have been the first, and a
// fault told after the attempt has ended may still move its charge.
#include <algorithm>
#include <cmath>

#include "scheduler/core/control_plane.h"
#include "scheduler/core/quoted.h"

namespace tutti {
namespace {

constexpr Duration kCascade = std::chrono::seconds(5);      // what follows within this time is one event
constexpr Duration kAfterTheEnd = std::chrono::minutes(5);  // logs may come late
constexpr Duration kAtMost = std::chrono::hours(1);         // an older stamp is a clock that is wrong
constexpr std::size_t kRecentEnds = 2000;

std::string words(const protocol::GpuFault& fault, const FaultRule& rule) {
  const std::string what = fault.kind == "xid" ? "Xid " + std::to_string(fault.xid) : fault.kind;
  return what + ": " + rule.meaning;
}

// 1 = it names its GPU, more = it says little, 0 = nobody is blamed.
std::int32_t shared_by(const FaultRule& rule) {
  if (rule.weight <= 0 || rule.shadow || rule.blame == FaultBlame::user) return 0;
  return static_cast<std::int32_t>(std::lround(1 / rule.weight));
}

std::string action_of(const FaultRule& rule) {
  std::string action(name(rule.gpu));
  if (rule.job != FaultJob::none) action += ", " + std::string(name(rule.job));
  return rule.shadow ? "shadow: " + action : action;
}

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

void ControlPlane::on_gpu_fault(Now now, NodeId id, const protocol::GpuFault& fault) {
  Node* node = cluster_.find(id);
  const auto known = cluster_.gpu_by_uuid.find(fault.uuid);
  if (node == nullptr || known == cluster_.gpu_by_uuid.end()) return;
  Gpu& gpu = cluster_.gpus.at(known->second);
  if (gpu.row.node != id) return;
  const FaultRule& rule = table().judge(fault.kind, fault.xid);
  const Instant seen_at = now.wall - Duration(std::clamp<std::int64_t>(fault.age_us, 0, kAtMost.count()));
  const std::string key = fault_key(fault.kind, fault.xid);
  // NVML and the kernel log tell the same thing twice.
  Instant& last = gpu.seen[key];
  if (last != Instant{} && seen_at - last < kCascade && last - seen_at < kCascade) return;
  last = seen_at;
  const bool folded = seen_at - node->last_fault_at < kCascade && node->last_fault_at != Instant{};
  if (rule.acts()) node->last_fault_at = std::max(node->last_fault_at, seen_at);

  FaultRow& row =
      add_fault(now, {.id = {},
                      .at = seen_at,
                      .node = id,
                      .gpu = gpu.row.id,
                      .job = gpu.holder.job,
                      .epoch = gpu.holder.epoch,
                      .fault_class = fault.kind,
                      .xid = fault.xid,
                      .action = folded && rule.acts() ? "folded: " + action_of(rule) : action_of(rule),
                      .detail = words(fault, rule) + (fault.detail.empty() ? "" : " (" + fault.detail + ")"),
                      .rule = table().id() + " " + rule.fault,
                      .slot = gpu.row.pci,
                      .shared_by = folded ? 0 : shared_by(rule)});
  const FaultId fault_id = row.id;
  const std::string where =
      "GPU " + std::to_string(gpu.row.index) + " (" + gpu.row.uuid + ") of node " + node->row.name;
  const std::string what = words(fault, rule) + " on " + where;
  std::set<AttemptKey> told;
  for (const GpuId hit : hit_by(gpu, rule)) {
    Gpu& each = cluster_.gpus.at(hit);
    Attempt* attempt = find_live(each.holder);
    if (rule.acts() && !rule.shadow && (attempt == nullptr || seen_at < attempt->row.placed_at))
      fault_came_late(hit, rule, what, seen_at, now);
    if (attempt != nullptr && told.insert(each.holder).second)
      fault_hits(*attempt, rule, fault, fault_id, what, seen_at, now);
    if (rule.gpu == FaultGpu::quarantine && !rule.shadow && each.row.health != GpuHealth::quarantined)
      gpu_unhealthy(each, GpuHealth::quarantined, words(fault, rule), now);
  }
  judge_history(*node, gpu.row.id, now);
}

void ControlPlane::fault_hits(Attempt& attempt, const FaultRule& rule, const protocol::GpuFault& fault,
                              FaultId id, const std::string& what, Instant seen_at, Now now) {
  const Gpu& gpu = cluster_.gpus.at(cluster_.gpu_by_uuid.at(fault.uuid));
  add_evidence(attempt, "{\"kind\":" + quoted(fault.kind) + ",\"xid\":" + std::to_string(fault.xid) +
                            ",\"gpu\":" + quoted(fault.uuid) +
                            ",\"node\":" + quoted(cluster_.nodes.at(gpu.row.node).row.name) +
                            ",\"fault\":" + to_string(id) + ",\"verdict\":" + quoted(rule.meaning) +
                            ",\"blame\":" + quoted(name(rule.blame)) + ",\"table\":" + quoted(table().id()) +
                            ",\"row\":" + quoted(rule.fault) + ",\"detail\":" + quoted(fault.detail) + "}");
  touch(attempt);
  const Job& job = jobs_.at(attempt.row.job);
  record_job(job, now,
             {.kind = "fault",
              .from = "",
              .to = rule.shadow && rule.acts()   ? "shadow"
                    : rule.job == FaultJob::stop ? "fatal"
                                                 : "watch",
              .detail = what});
  if (rule.shadow || rule.job == FaultJob::none) return;
  if (rule.job == FaultJob::leave) {
    leave_after_checkpoint(attempt, Cause::gpu, what, now);
    return;
  }
  AttemptRow& row = attempt.row;
  if (row.state != AttemptState::stopping) {
    row.fault_at = seen_at;
    begin_stop(attempt, Cause::gpu, what, "KILL", Duration::zero(), now);
    return;
  }
  // The gang is dying already. A fault that is the earlier evidence, or any where none was found, is the
  // cause.
  const CauseClass was = class_of(row.cause);
  const bool blamed_else = was == CauseClass::user || was == CauseClass::undecided;
  const bool earlier = row.cause == Cause::gpu && seen_at < row.fault_at;
  if ((!blamed_else && !earlier) || row.cause == Cause::time_limit) return;
  row.fault_at = std::min(row.fault_at, seen_at);
  record_job(job, now,
             {.kind = "verdict",
              .from = std::string(name(row.cause)),
              .to = std::string(name(Cause::gpu)),
              .detail = what,
              .cause = Cause::gpu});
  row.cause = Cause::gpu;
  row.detail = what;
}

// A fault told after its attempt has ended, for a reason that it explains better.
void ControlPlane::fault_came_late(GpuId gpu, const FaultRule& rule, const std::string& what, Instant seen_at,
                                   Now now) {
  for (AttemptRow& row : recent_ends_) {
    const CauseClass was = class_of(row.cause);
    const bool explains = was == CauseClass::user || was == CauseClass::undecided;
    const bool held = std::ranges::any_of(
        row.gang, [&](const GangMember& m) { return std::ranges::find(m.gpus, gpu) != m.gpus.end(); });
    if (!held || !explains || row.cause == Cause::time_limit || rule.job == FaultJob::none) continue;
    if (seen_at < row.placed_at || seen_at > row.ended_at + kCascade ||
        now.wall - row.ended_at > kAfterTheEnd)
      continue;
    move_charge(row, Cause::gpu, what, now);
  }
}

// A later verdict: the attempt's row says so, and the job is no longer charged for it.
void ControlPlane::move_charge(AttemptRow& row, Cause to, const std::string& why, Now now) {
  const Cause from = std::exchange(row.cause, to);
  row.detail = why;
  out_.batch.revised.push_back(row);
  const auto found = jobs_.find(row.job);
  if (found == jobs_.end()) return;  // over: its history says what it was
  Job& job = found->second;
  auto& spent = job.row.spent[static_cast<std::size_t>(from)];
  if (spent > 0) --spent;
  auto& charged = job.row.spent[static_cast<std::size_t>(to)];
  if (charged < 32767) ++charged;
  if (job.row.no_progress > 0) --job.row.no_progress;
  touch(job);
  record_job(job, now,
             {.kind = "verdict",
              .from = std::string(name(from)),
              .to = std::string(name(to)),
              .detail = "attempt " + std::to_string(row.number) + ": " + why,
              .cause = to});
}

void ControlPlane::remember_end(const AttemptRow& row) {
  recent_ends_.push_back(row);
  while (recent_ends_.size() > kRecentEnds || row.ended_at - recent_ends_.front().ended_at > kAfterTheEnd)
    recent_ends_.pop_front();
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

}  // namespace tutti
