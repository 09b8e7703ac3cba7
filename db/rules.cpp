#include "db/rules.h"

#include <algorithm>
#include <limits>
#include <type_traits>
#include <unordered_set>

namespace tutti::db {
namespace {

[[noreturn]] void refuse(const std::string& what) { throw StoreError(StoreError::corrupt, what); }

template <class State, class Event, std::size_t N, std::size_t I>
bool legal_pair(const std::array<Edge<State, Event>, N>& table, const std::array<State, I>& initial,
                std::string_view from, std::string_view to) {
  if (from.empty()) {
    for (State s : initial)
      if (name(s) == to) return true;
    return false;
  }
  for (const auto& e : table)
    if (name(e.from) == from && name(e.to) == to) return true;
  return false;
}

void check_job(const JobRow& j, bool finished) {
  const std::string who = "job " + to_string(j.id) + ": ";
  if (j.id.value <= 0) refuse(who + "id must be positive");
  if (j.version < 1) refuse(who + "version must be at least 1");
  if (is_terminal(j.state) != finished)
    refuse(who + "state " + std::string(name(j.state)) +
           (finished ? " is not terminal" : " is terminal, so the job must be in `done`"));
  if (j.priority < 0 || j.priority > 100) refuse(who + "priority must be 0 to 100");
  if (j.nodes < 1) refuse(who + "nodes must be at least 1");
  if (j.gpus_per_node < 0) refuse(who + "gpus per node must not be negative");
  // The epoch of a job that was never placed may be above 0: a restore raises it
  // (docs/design/0018-backup.md).
  if (j.epoch.value < 0 || j.attempt < 0 || (j.attempt > 0 && !j.epoch))
    refuse(who + "epoch and attempt must not be negative, and an attempt has an epoch");
  if (is_active(j.state) && j.attempt == 0)
    refuse(who + "state " + std::string(name(j.state)) + " needs an attempt");
  if (j.state == JobState::delayed && j.not_before == Instant{}) refuse(who + "delayed needs not_before");
  if (j.no_progress < 0 || j.best_step < -1) refuse(who + "no_progress and best_step are out of range");
}

void check_attempt(const AttemptRow& a) {
  const std::string who = "attempt " + to_string(a.job) + "/" + to_string(a.epoch) + ": ";
  if (a.job.value <= 0 || a.epoch.value <= 0 || a.number < 1)
    refuse(who + "job, epoch, number must be positive");
  const bool ended = a.state == AttemptState::ended;
  if (ended != (a.ended_at != Instant{})) refuse(who + "ended_at is set exactly when it has ended");
  if (ended != (a.result != AttemptResult::none)) refuse(who + "result is set exactly when it has ended");
  if ((a.result == AttemptResult::failed || a.result == AttemptResult::stopped) && a.cause == Cause::none)
    refuse(who + "a failed or stopped attempt needs a cause");
}

}  // namespace

std::string mend_job(JobRow& j) {
  std::string said;
  const auto name_it = [&](std::string_view what, std::int64_t was) {
    said += (said.empty() ? "its " : ", its ") + std::string(what) + " is " + std::to_string(was);
  };
  const auto mend = [&](std::string_view what, auto& number, std::int64_t least, std::int64_t most) {
    const std::int64_t was = number;
    if (was >= least && was <= most) return;
    name_it(what, was);
    number = static_cast<std::decay_t<decltype(number)>>(std::clamp(was, least, most));
  };
  constexpr std::int64_t kAny = std::numeric_limits<std::int64_t>::max();
  if (j.version > kLastVersion) {
    name_it("version", j.version);
    j.version = 1;
  }
  mend("version", j.version, 1, kLastVersion);
  mend("priority", j.priority, 0, 100);
  mend("number of nodes", j.nodes, 1, kAny);
  mend("number of GPUs per node", j.gpus_per_node, 0, kAny);
  mend("no_progress", j.no_progress, 0, kAny);
  mend("best_step", j.best_step, -1, kAny);
  mend("number of attempts", j.attempt, is_active(j.state) ? 1 : 0, kAny);
  mend("epoch", j.epoch.value, j.attempt > 0 ? 1 : 0, kAny);
  if (j.state == JobState::delayed && j.not_before == Instant{})
    said += std::string(said.empty() ? "" : ", ") + "it is delayed, but not until when";
  return said;
}

bool legal_event_pair(std::string_view kind, std::string_view from, std::string_view to) {
  if (kind == "state") return legal_pair(kJobEdges, kJobInitial, from, to);
  // A remark about one that stays where it is ("connection lost") has from = to.
  if (kind == "attempt") return from == to || legal_pair(kAttemptEdges, kAttemptInitial, from, to);
  if (kind == "checkpoint") return from == to || legal_pair(kCheckpointEdges, kCheckpointInitial, from, to);
  if (kind == "node") return from == to || legal_pair(kNodeEdges, kNodeInitial, from, to);
  return true;
}

void require_well_formed(const Batch& b) {
  std::unordered_set<JobId> with_spec;
  for (const auto& s : b.new_specs) {
    if (s.id.value <= 0) refuse("spec without a job id");
    if (s.owner.size() + s.idempotency_key.size() > 1024)
      refuse("job " + to_string(s.id) + ": owner and idempotency key together exceed 1024 bytes");
    if (!edges::contains(kJobInitial, s.initial_state))
      refuse("job " + to_string(s.id) + ": a job cannot begin as " + std::string(name(s.initial_state)));
    with_spec.insert(s.id);
  }
  for (const auto& [id, json] : b.changed_specs)
    if (id.value <= 0 || json.empty())
      refuse("job " + to_string(id) + ": a changed spec needs an id and a text");
  std::unordered_set<JobId> ended_at_once;
  for (const auto& d : b.done)
    if (d.base_version == 0) ended_at_once.insert(d.row.job.id);
  for (const auto& j : b.new_jobs) {
    if (!with_spec.contains(j.id)) refuse("job " + to_string(j.id) + ": new, but without a spec");
    // A job that ends in the batch that brings it may be listed here too; its row in `done` is what counts.
    if (is_terminal(j.state) && !ended_at_once.contains(j.id))
      refuse("job " + to_string(j.id) + ": new and terminal, but not in `done`");
    check_job(j, is_terminal(j.state));
  }
  for (const auto& u : b.jobs) {
    check_job(u.row, false);
    if (u.row.version <= u.base_version && u.base_version <= kLastVersion)
      refuse("job " + to_string(u.row.id) + ": version must rise");
  }
  for (const auto& d : b.done) {
    check_job(d.row.job, true);
    if (d.base_version < 0) refuse("job " + to_string(d.row.job.id) + ": base version must not be negative");
    if (d.base_version == 0 && !with_spec.contains(d.row.job.id))
      refuse("job " + to_string(d.row.job.id) + ": ends at once, but without a spec");
  }
  for (const auto& a : b.attempts) check_attempt(a);
  for (const auto& a : b.opened)
    if (a.until && *a.until < a.from)
      refuse("allocation of gpu " + to_string(a.gpu) + ": ends before it begins");
  for (const auto& a : b.closed)
    if (!a.until || *a.until < a.from)
      refuse("allocation of gpu " + to_string(a.gpu) + ": closed without an end, or before it began");
  for (const auto& n : b.nodes)
    if (n.id.value <= 0 || n.name.empty()) refuse("node " + to_string(n.id) + ": needs an id and a name");
  for (const auto& g : b.gpus)
    if (g.id.value <= 0 || g.node.value <= 0 || g.uuid.empty())
      refuse("gpu " + to_string(g.id) + ": needs an id, a node and a UUID");
  for (const auto& c : b.checkpoints)
    if (c.job.value <= 0 || c.epoch.value <= 0 || c.path.empty() || c.step < 0)
      refuse("checkpoint of job " + to_string(c.job) + ": needs an epoch, a step and a path");
    else if (c.failed_restores < 0 || c.cost < Duration::zero() ||
             (c.retired_at == Instant{} && (c.deleting || c.deleted_at != Instant{})))
      refuse("checkpoint of job " + to_string(c.job) +
             ": counts must not be negative, and only a retired one is deleted");
  for (const auto& f : b.faults)
    if (f.id.value <= 0 || f.fault_class.empty())
      refuse("fault " + to_string(f.id) + ": needs an id and a class");
  for (const auto& e : b.events) {
    const std::string who = "event " + to_string(e.id) + ": ";
    if (e.id.value <= 0 || e.kind.empty()) refuse(who + "needs an id and a kind");
    if (!e.job && !e.node && e.kind != "share") refuse(who + "is about no job and no node");
    if (!legal_event_pair(e.kind, e.from, e.to))
      refuse(who + "no edge of " + e.kind + " leads from '" + e.from + "' to '" + e.to + "'");
  }
}

}  // namespace tutti::db
