// Control plane: gangs that hang, and ranks that are slow. Workers report their part (RankReport); what it
// means for the gang is decided here, see gang_watch.h. Called with every report and, while a hang waits for
// its captures, with every tick.
#include <algorithm>
#include <cstdio>

#include "scheduler/core/control_plane.h"
#include "scheduler/core/plane_inputs.h"
#include "scheduler/core/quoted.h"
#include "scheduler/model/condition_table.h"

namespace tutti {
namespace {

// After the last node has seen the stall, for the captures; a node's own deadline is shorter.
constexpr Duration kCaptureWait = std::chrono::seconds(6);

std::string seconds(Duration d) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f s", to_seconds(d));
  return text;
}

std::string times_text(double times) {
  char text[32];
  std::snprintf(text, sizeof text, "%.2f", times);
  return text;
}

std::vector<NodeId> with_living_ranks(const AttemptRow& row) {
  std::vector<NodeId> out;
  for (const auto& m : row.gang)
    if (m.ranks > 0 && m.state != MemberState::ended) out.push_back(m.node);
  return out;
}

const GangMember* member_of(const AttemptRow& row, NodeId node) {
  const auto it = std::ranges::find(row.gang, node, &GangMember::node);
  return it == row.gang.end() ? nullptr : &*it;
}

}  // namespace

void ControlPlane::on_rank_report(Now now, NodeId node, const protocol::RankReport& report) {
  const auto deciding = note<&ControlPlane::on_rank_report>(now, node, report);
  Attempt* attempt = find_live(report.key);
  if (attempt == nullptr || member_of(attempt->row, node) == nullptr) return;  // fenced
  attempt->watch.on_report(node, report, now.mono);
  if (attempt->row.state != AttemptState::running) return;
  if (attempt->watch.may_hold_round(now.mono)) judge_stragglers(*attempt, now);
  if (attempt->hung_since || !attempt->watch.moves()) judge_hang(*attempt, now);
}

void ControlPlane::forget_reports(NodeId id) {
  for (const AttemptKey key : cluster_.nodes.at(id).members) attempts_.at(key).watch.forget(id);
}

void ControlPlane::judge_hangs(Now now) {
  const auto waiting = hung_;
  for (const AttemptKey key : waiting) {
    Attempt* attempt = find_live(key);
    if (attempt == nullptr || attempt->row.state != AttemptState::running)
      hung_.erase(key);
    else
      judge_hang(*attempt, now);
  }
}

// "GPU 1, GPU-abc", as far as ranks and GPUs go together; else "".
std::string ControlPlane::gpu_of_rank(const GangMember& member, std::int32_t rank) const {
  const std::int64_t local = std::int64_t{rank} - member.first_rank;
  const auto gpus = static_cast<std::int64_t>(member.gpus.size());
  if (member.ranks != gpus || local < 0 || local >= gpus) return "";
  const Gpu& gpu = cluster_.gpus.at(member.gpus[static_cast<std::size_t>(local)]);
  return "GPU " + std::to_string(gpu.row.index) + ", " + gpu.row.uuid;
}

std::string ControlPlane::hang_text(const Attempt& attempt, const GangWatch::Hang& hang) const {
  std::string text;
  if (hang.by_progress) {
    text = "no rank has made a step for " + seconds(hang.silent) + " (limit " + seconds(hang.limit) +
           "), at step " + std::to_string(hang.highest_step);
  } else {
    text = "none of " + std::to_string(hang.ranks) + " ranks has used CPU time, I/O or a GPU for " +
           seconds(hang.silent) + " (limit " + seconds(hang.limit) + ")";
  }
  if (!hang.suspect) return text + "; no rank stands out";
  const GangMember* member = member_of(attempt.row, hang.suspect->node);
  return "rank " + std::to_string(hang.suspect->rank) + " on " + member->node_name + " " + hang.suspect->why +
         ": " + text;
}

// "" = nothing says that it does.
std::string ControlPlane::waits_for_storage(const AttemptRow& row, const GangWatch::Hang& hang) const {
  for (const auto& m : row.gang)
    for (const auto& c : cluster_.nodes.at(m.node).conditions)
      if (c.kind == kFilesystemHang)
        return "a file system of node " + m.node_name + " does not answer" +
               (c.subject.empty() ? "" : " (" + c.subject + ")");
  return hang.in_kernel ? "its ranks wait in the kernel, as for a file system that does not answer" : "";
}

void ControlPlane::judge_hang(Attempt& attempt, Now now) {
  AttemptRow& row = attempt.row;
  const AttemptKey key{row.job, row.epoch};
  const auto members = with_living_ranks(row);
  // Of a node that is not connected nothing is known; its lease decides.
  if (!std::ranges::all_of(members, [&](NodeId id) { return cluster_.nodes.at(id).linked; })) return;
  const auto hang = attempt.watch.hang(members, now.mono);
  Job& job = jobs_.at(row.job);
  if (!hang) {
    hung_.erase(key);
    if (!attempt.hung_since) return;
    record_job(job, now,
               {.kind = "hang",
                .from = "silent",
                .to = "over",
                .detail = "it goes on, after " + seconds(now.wall - *attempt.hung_since)});
    attempt.hung_since.reset();
    attempt.hung_why.clear();
    return;
  }
  attempt.hung_why = hang_text(attempt, *hang);
  const std::string storage = waits_for_storage(row, *hang);
  if (!storage.empty()) {
    attempt.storage_seen_at = now.mono;
    attempt.hung_why += "; it is not stopped: " + storage;
  }
  if (!attempt.hung_since) {
    attempt.hung_since = now.wall - hang->silent;
    attempt.hang_seen_at = now.mono;
    record_job(job, now, {.kind = "hang", .from = "", .to = "silent", .detail = attempt.hung_why});
  }
  const HangAction otherwise = hang->by_progress ? HangAction::capture_and_restart : HangAction::capture_only;
  // A file system that stands still takes a restart down as well. When it answers again, the ranks get their
  // time anew.
  const bool spared = attempt.storage_seen_at && now.mono - *attempt.storage_seen_at <= hang->limit;
  if (spared || job.spec->hang.action.value_or(otherwise) == HangAction::capture_only) {
    hung_.erase(key);
    return;
  }
  hung_.insert(key);
  if (!hang->captured && now.mono - attempt.hang_seen_at < kCaptureWait) return;
  hung_.erase(key);
  std::string evidence = "{\"kind\":\"hang\",\"silent_seconds\":" + std::to_string(to_seconds(hang->silent)) +
                         ",\"limit_seconds\":" + std::to_string(to_seconds(hang->limit)) +
                         ",\"by\":" + (hang->by_progress ? "\"progress\"" : "\"activity\"") +
                         ",\"lowest_step\":" + std::to_string(hang->lowest_step) +
                         ",\"highest_step\":" + std::to_string(hang->highest_step) +
                         ",\"captured\":" + (hang->captured ? "true" : "false");
  if (hang->suspect) {
    const GangMember* member = member_of(row, hang->suspect->node);
    evidence += ",\"rank\":" + std::to_string(hang->suspect->rank) +
                ",\"node\":" + quoted(member->node_name) +
                ",\"gpu\":" + quoted(gpu_of_rank(*member, hang->suspect->rank));
    attempt.failed_on = hang->suspect->node;
  }
  add_evidence(row, evidence + ",\"detail\":" + quoted(attempt.hung_why) + "}");
  row.fault_at = *attempt.hung_since;
  begin_stop(attempt, Cause::hang, attempt.hung_why, "KILL", Duration::zero(), now);
}

void ControlPlane::judge_stragglers(Attempt& attempt, Now now) {
  for (const auto& c : attempt.watch.look_for_stragglers(with_living_ranks(attempt.row), now.mono)) {
    const GangMember* member = member_of(attempt.row, c.node);
    const std::string gpu = gpu_of_rank(*member, c.rank);
    std::string text = "rank " + std::to_string(c.rank) + " on " + member->node_name;
    if (!gpu.empty()) text += " (" + gpu + ")";
    text += " takes " + times_text(c.times) + " times the gang's usual " + times_text(c.usual_seconds) +
            " s for a step, over the last " + std::to_string(StragglerWatch::kRounds) + " looks";
    record_job(jobs_.at(attempt.row.job), now,
               {.kind = "straggler",
                .from = c.slow ? "" : "slow",
                .to = c.slow ? "slow" : "over",
                .detail = std::move(text)});
  }
}

}  // namespace tutti
