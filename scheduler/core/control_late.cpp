// Control plane: what becomes known of an attempt after its end. A driver may be slow to speak, a node that
// was given up may be heard again. So the last row of each attempt is remembered for a while, and what is
// told of it is stored there and in the history. It ends nothing, and gives nobody a lease; checkpoints are
// not among it: one that comes after the end does not exist (control_checkpoints.cpp).
#include <algorithm>
#include <ranges>
#include <utility>

#include "scheduler/core/control_plane.h"

namespace tutti {
namespace {

constexpr Duration kRemembered = std::chrono::minutes(5);  // logs may come late
constexpr std::size_t kRecentEnds = 2000;                  // of those that went well, and of the others
constexpr Duration kDying = std::chrono::seconds(5);       // after its end what killed it may still be seen
constexpr std::size_t kEvidence = 64 * 1024, kWatchedEvidence = 16 * 1024;  // bytes

AttemptKey key_of(const AttemptRow& row) { return {row.job, row.epoch}; }

bool takes_evidence(const AttemptRow& row, bool only_watched = false) {
  return row.evidence_json.size() <= (only_watched ? kWatchedEvidence : kEvidence);
}

}  // namespace

// What ends an attempt finds room, however much was only watched before.
void ControlPlane::add_evidence(AttemptRow& row, std::string_view json_object, bool only_watched) {
  if (!takes_evidence(row, only_watched)) return;
  std::string& all = row.evidence_json;
  if (all.size() < 2) all = "[]";
  all.insert(all.size() - 1, (all.size() > 2 ? "," : "") + std::string(json_object));
}

void ControlPlane::remember_end(RecentEnd end) {
  auto& ends = end.row.result == AttemptResult::succeeded ? recent_successes_ : recent_ends_;
  const Instant at = end.row.ended_at;
  ends.push_back(std::move(end));
  while (ends.size() > kRecentEnds || at - ends.front().row.ended_at > kRemembered) ends.pop_front();
}

// nullptr: no such attempt has ended lately.
ControlPlane::RecentEnd* ControlPlane::find_end(AttemptKey key, Now now) {
  for (auto* ends : {&recent_ends_, &recent_successes_})
    for (RecentEnd& end : std::views::reverse(*ends))
      if (key_of(end.row) == key) return now.wall - end.row.ended_at <= kRemembered ? &end : nullptr;
  return nullptr;
}

bool ControlPlane::held(const RecentEnd& end, GpuId gpu, Instant at, Now now) {
  const AttemptRow& row = end.row;
  const Duration dying = row.result == AttemptResult::succeeded ? Duration::zero() : kDying;
  if (at < row.placed_at || at > row.ended_at + dying || now.wall - row.ended_at > kRemembered) return false;
  return std::ranges::any_of(
      row.gang, [&](const GangMember& m) { return std::ranges::find(m.gpus, gpu) != m.gpus.end(); });
}

// Whose it was when something befell it, which is told now.
AttemptKey ControlPlane::holder_at(const Gpu& gpu, Instant at, Now now) const {
  const auto live = attempts_.find(gpu.holder);
  if (live != attempts_.end() && at >= live->second.row.placed_at) return gpu.holder;
  const RecentEnd* last = nullptr;
  for (const auto* ends : {&recent_ends_, &recent_successes_})
    for (const RecentEnd& end : *ends)
      if (held(end, gpu.row.id, at, now) && (last == nullptr || last->row.placed_at <= end.row.placed_at))
        last = &end;
  return last == nullptr ? gpu.holder : key_of(last->row);
}

// How the part of a node that was given up had failed, before its lease was over or by that. A part that
// ended by its node's own word has told it with that.
void ControlPlane::failure_came_late(NodeId from, AttemptKey key, const protocol::Failure& failure, Now now) {
  Attempt* attempt = find_live(key);
  RecentEnd* end = attempt == nullptr ? find_end(key, now) : nullptr;
  if (attempt == nullptr && end == nullptr) return;
  const AttemptRow& row = attempt != nullptr ? attempt->row : end->row;
  const auto member = std::ranges::find(row.gang, from, &GangMember::node);
  if (member == row.gang.end() || member->how != kGivenUp) return;
  const std::string evidence = evidence_of(*member, failure);
  const bool said_again = row.evidence_json.find(evidence) != std::string::npos;
  if (said_again || !takes_evidence(row)) return;
  const Event event{
      .kind = "evidence",
      .from = "",
      .to = "",
      .detail = "node " + member->node_name + ", which had been given up, says: " + failure.detail};
  if (end != nullptr) return supplement(*end, evidence, event, now);
  add_evidence(attempt->row, evidence);
  touch(*attempt);
  record_job(jobs_.at(key.job), now, event);
}

void ControlPlane::supplement(RecentEnd& end, std::string_view json_object, Event event, Now now,
                              bool only_watched) {
  add_evidence(end.row, json_object, only_watched);
  const auto verdict = std::ranges::find_if(
      out_.batch.revised, [&](const AttemptRow& row) { return key_of(row) == key_of(end.row); });
  if (verdict != out_.batch.revised.end())
    *verdict = end.row;  // it is written last, and must have all
  else
    out_.batch.supplemented.push_back(end.row);
  add_event(about_job(key_of(end.row), end.project, end.owner), std::move(event), now);
}

}  // namespace tutti
