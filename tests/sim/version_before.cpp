#include "tests/sim/version_before.h"

#include <algorithm>
#include <set>
#include <utility>
#include <vector>

namespace tutti::sim {
namespace {

// The real one wants eight; arrays are small here.
constexpr std::size_t kFewest = 2;

// Of a submission: equal but for their ids, in the state in which they came, and written about once.
bool alike(const JobRow& a, const JobRow& b) {
  return b.id.value == a.id.value + 1 && a.version == 1 && b.version == 1 && a.state == b.state &&
         a.queue == b.queue && a.project == b.project && a.owner == b.owner && a.priority == b.priority &&
         a.nodes == b.nodes && a.gpus_per_node == b.gpus_per_node && a.created_at == b.created_at &&
         a.queued_at == b.queued_at && a.not_before == b.not_before && a.reason.str() == b.reason.str();
}

std::vector<std::vector<JobId>> runs_of(const Batch& batch) {
  std::map<JobId, std::string> names;
  for (const auto& spec : batch.new_specs) names[spec.id] = spec.name;
  std::set<JobId> touched;
  for (const auto& u : batch.jobs) touched.insert(u.row.id);
  for (const auto& d : batch.done) touched.insert(d.row.job.id);
  for (const auto& a : batch.attempts) touched.insert(a.job);
  for (const auto& [id, text] : batch.changed_specs) touched.insert(id);
  std::map<JobId, int> events;
  for (const auto& e : batch.events) ++events[e.job];
  std::vector<std::vector<JobId>> runs;
  const JobRow* last = nullptr;
  for (const auto& row : batch.new_jobs) {
    const bool waits = !row.epoch && row.attempt == 0 && !touched.contains(row.id) && events[row.id] == 1;
    if (!waits) {
      last = nullptr;
      continue;
    }
    if (last == nullptr || !alike(*last, row) || names[last->id] != names[row.id]) runs.emplace_back();
    runs.back().push_back(row.id);
    last = &row;
  }
  std::erase_if(runs, [](const auto& run) { return run.size() < kFewest; });
  return runs;
}

}  // namespace

bool FoldedTasks::foldable(const Batch& batch) { return !runs_of(batch).empty(); }

std::size_t FoldedTasks::fold(const Batch& batch) {
  std::size_t folded = 0;
  for (const auto& run : runs_of(batch))
    for (const JobId task : run) {
      tasks_[task] = std::ranges::find(batch.events, task, &EventRow::job)->id;
      ++folded;
    }
  return folded;
}

void FoldedTasks::unfold(const Batch& batch) {
  if (tasks_.empty()) return;
  for (const auto& u : batch.jobs) tasks_.erase(u.row.id);
  for (const auto& d : batch.done) tasks_.erase(d.row.job.id);
  for (const auto& a : batch.attempts) tasks_.erase(a.job);
  for (const auto& [id, text] : batch.changed_specs) tasks_.erase(id);
}

std::size_t FoldedTasks::unfold_all() { return std::exchange(tasks_, {}).size(); }

// Ids are given after the highest that is read: in `job_spec`, and in the tables of events.
void FoldedTasks::hide_in(Snapshot& rows) const {
  if (tasks_.empty()) return;
  std::set<EventId> events;
  for (const auto& [task, event] : tasks_) events.insert(event);
  std::vector<std::uint32_t> places;
  for (std::size_t i = 0; i < rows.jobs.size(); ++i)
    if (!tasks_.contains(rows.jobs[i].id)) places.push_back(rows.specs.places[i]);
  rows.specs.places = std::move(places);
  std::erase_if(rows.jobs, [this](const JobRow& row) { return tasks_.contains(row.id); });
  while (tasks_.contains(rows.last_job)) rows.last_job = JobId(rows.last_job.value - 1);
  while (events.contains(rows.last_event)) rows.last_event = EventId(rows.last_event.value - 1);
}

namespace before {

void forget_younger_columns(Snapshot& rows) { rows.written_at = {}; }

// It looks at a failure only while the part is one that it waits for.
protocol::AttemptStatus heard(const ControlPlane& plane, const std::string& node,
                              protocol::AttemptStatus status) {
  if (!status.failure) return status;
  const auto live = plane.attempts().find(status.key);
  if (live == plane.attempts().end()) {
    status.failure.reset();
    return status;
  }
  const auto& gang = live->second.row.gang;
  const auto member = std::ranges::find(gang, node, &GangMember::node_name);
  if (member == gang.end() || member->state == MemberState::ended) status.failure.reset();
  return status;
}

}  // namespace before
}  // namespace tutti::sim
