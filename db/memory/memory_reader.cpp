#include "db/memory/memory_reader.h"

#include <algorithm>
#include <limits>

namespace tutti::db {
namespace {

std::size_t page(int wanted) { return static_cast<std::size_t>(std::clamp(wanted, 1, kMaxPage)); }

bool is_visible(const Visible& who, const JobRow& j) {
  return j.owner == who.owner || std::ranges::count(who.projects, j.project.str()) > 0;
}

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

bool contains(const std::string& text, const std::string& part) {
  return !std::ranges::search(text, part, {}, lower, lower).empty() || part.empty();
}

std::string key_of(JobKey by, const JobRow& j, const SpecRow& s) {
  switch (by) {
    case JobKey::state: return std::string(name(j.state));
    case JobKey::project: return j.project;
    case JobKey::queue: return j.queue;
    case JobKey::user: return j.owner;
    case JobKey::cause: return std::string(name(j.cause));
    case JobKey::name: return s.name;
  }
  return "";
}

bool passes(const JobFilter& f, const JobRow& j, const SpecRow& s) {
  return (f.states.empty() || std::find(f.states.begin(), f.states.end(), j.state) != f.states.end()) &&
         (f.project.empty() || j.project == f.project) && (f.queue.empty() || j.queue == f.queue) &&
         (f.owner.empty() || j.owner == f.owner) && (f.name.empty() || s.name == f.name) &&
         (!f.since || j.created_at >= *f.since) && (!f.until || j.created_at < *f.until) &&
         (!f.first || j.id >= f.first) && (!f.last || j.id <= f.last) &&
         (f.causes.empty() || std::ranges::count(f.causes, j.cause) > 0) && contains(s.name, f.name_part) &&
         (f.ids.empty() || std::ranges::count(f.ids, j.id) > 0) && (!f.visible || is_visible(*f.visible, j));
}

bool passes(const FaultFilter& f, const FaultRow& row) {
  return (!f.node || row.node == f.node) && (!f.gpu || row.gpu == f.gpu) && (!f.job || row.job == f.job) &&
         (!f.since || row.at >= *f.since) && (!f.until || row.at < *f.until) &&
         (f.fault_class.empty() || row.fault_class == f.fault_class) &&
         (f.action.empty() || row.action == f.action);
}

std::string key_of(FaultKey by, const FaultRow& row) {
  switch (by) {
    case FaultKey::nothing: return "";
    case FaultKey::node: return std::to_string(row.node.value);
    case FaultKey::fault_class: return row.fault_class;
    case FaultKey::gpu: return std::to_string(row.gpu.value);
    case FaultKey::action: return row.action;
    case FaultKey::slot: return row.slot.empty() ? "" : std::to_string(row.node.value) + " " + row.slot;
  }
  return "";
}

}  // namespace

std::optional<JobView> MemoryReader::find_job(JobId id) {
  std::lock_guard lock(database_->mutex_);
  JobView v;
  if (const auto j = database_->jobs_.find(id); j != database_->jobs_.end()) {
    v.row = j->second;
  } else if (const auto d = database_->done_.find(id); d != database_->done_.end()) {
    v.row = d->second.job;
    v.ended_at = d->second.ended_at;
    v.exit_code = d->second.exit_code;
  } else {
    return std::nullopt;
  }
  const SpecRow& spec = database_->specs_.at(id);
  v.name = spec.name;
  v.spec_json = spec.spec_json;
  if (const auto changed = database_->changed_specs_.find(id); changed != database_->changed_specs_.end()) {
    v.submitted_json = std::move(v.spec_json);
    v.spec_json = changed->second;
  }
  v.initial_state = spec.initial_state;
  return v;
}

std::optional<KeyView> MemoryReader::find_by_key(std::string_view owner, std::string_view key) {
  std::lock_guard lock(database_->mutex_);
  const auto it = database_->keys_.find({std::string(owner), std::string(key)});
  return it == database_->keys_.end() ? std::nullopt : std::optional(it->second);
}

std::vector<JobId> MemoryReader::resolve_name(std::string_view name, int limit) {
  std::lock_guard lock(database_->mutex_);
  std::vector<JobId> out;
  const auto ids = database_->ids_by_name_.find(std::string(name));
  if (ids == database_->ids_by_name_.end()) return out;
  for (auto it = ids->second.rbegin(); it != ids->second.rend() && out.size() < page(limit); ++it)
    out.push_back(*it);
  return out;
}

std::vector<JobView> MemoryReader::list_jobs(const JobFilter& filter, int page_size, JobId after) {
  std::lock_guard lock(database_->mutex_);
  const JobId below = after ? after : JobId(std::numeric_limits<std::int64_t>::max());
  auto live = std::make_reverse_iterator(database_->jobs_.lower_bound(below));
  auto done = std::make_reverse_iterator(database_->done_.lower_bound(below));
  std::vector<JobView> out;
  while (out.size() < page(page_size) &&
         (live != database_->jobs_.rend() || done != database_->done_.rend())) {
    JobView v;
    if (done == database_->done_.rend() || (live != database_->jobs_.rend() && live->first > done->first)) {
      v.row = (live++)->second;
    } else {
      v.row = done->second.job;
      v.ended_at = done->second.ended_at;
      v.exit_code = (done++)->second.exit_code;
    }
    const SpecRow& spec = database_->specs_.at(v.row.id);
    v.name = spec.name;
    if (passes(filter, v.row, spec)) out.push_back(std::move(v));
  }
  return out;
}

StateCounts MemoryReader::count_by_state() {
  std::lock_guard lock(database_->mutex_);
  StateCounts counts{};
  for (const auto& entry : database_->jobs_) ++counts[static_cast<std::size_t>(entry.second.state)];
  for (const auto& entry : database_->done_) ++counts[static_cast<std::size_t>(entry.second.job.state)];
  return counts;
}

std::vector<JobGroup> MemoryReader::count_jobs(const JobFilter& filter, JobKey by, int limit) {
  std::lock_guard lock(database_->mutex_);
  std::map<std::string, JobGroup> groups;
  const auto count = [&](const JobRow& job) {
    const SpecRow& spec = database_->specs_.at(job.id);
    if (!passes(filter, job, spec)) return;
    auto& group = groups[key_of(by, job, spec)];
    ++group.jobs;
    group.gpus += std::int64_t{job.nodes} * job.gpus_per_node;
  };
  for (const auto& entry : database_->jobs_) count(entry.second);
  for (const auto& entry : database_->done_) count(entry.second.job);
  std::vector<JobGroup> out;
  for (auto& [key, group] : groups) out.push_back({key, group.jobs, group.gpus});
  std::ranges::sort(out, {}, [](const JobGroup& g) { return std::pair(-g.jobs, std::string_view(g.key)); });
  if (out.size() > static_cast<std::size_t>(limit)) out.resize(static_cast<std::size_t>(limit));
  return out;
}

std::vector<AttemptRow> MemoryReader::attempts(JobId job) {
  std::lock_guard lock(database_->mutex_);
  std::vector<AttemptRow> out;
  for (auto it = database_->attempts_.lower_bound({job, Epoch(0)});
       it != database_->attempts_.end() && it->first.job == job; ++it)
    out.push_back(it->second);
  return out;
}

std::optional<AttemptRow> MemoryReader::find_attempt(JobId job, std::int32_t number) {
  const auto all = attempts(job);
  if (number == 0) return all.empty() ? std::nullopt : std::optional(all.back());
  const auto it = std::ranges::find(all, number, &AttemptRow::number);
  return it == all.end() ? std::nullopt : std::optional(*it);
}

std::vector<CheckpointRow> MemoryReader::checkpoints(JobId job) {
  std::lock_guard lock(database_->mutex_);
  const auto it = database_->checkpoints_.find(job);
  return it == database_->checkpoints_.end() ? std::vector<CheckpointRow>{} : it->second;
}

std::optional<EventRow> MemoryReader::last_state(JobId job, Instant at) {
  std::lock_guard lock(database_->mutex_);
  const auto ids = database_->events_of_job_.find(job);
  if (ids == database_->events_of_job_.end()) return std::nullopt;
  const EventRow* last = nullptr;
  for (const EventId id : ids->second) {
    const EventRow& event = database_->events_.at(id);
    if (event.kind == "state" && event.at <= at && (last == nullptr || last->id < id)) last = &event;
  }
  return last == nullptr ? std::nullopt : std::optional(*last);
}

std::vector<EventRow> MemoryReader::job_events(JobId job, EventId after, int limit) {
  std::lock_guard lock(database_->mutex_);
  std::vector<EventRow> out;
  const auto ids = database_->events_of_job_.find(job);
  if (ids == database_->events_of_job_.end()) return out;
  std::vector<EventId> sorted = ids->second;
  std::sort(sorted.begin(), sorted.end());
  for (auto it = std::upper_bound(sorted.begin(), sorted.end(), after);
       it != sorted.end() && out.size() < page(limit); ++it)
    out.push_back(database_->events_.at(*it));
  return out;
}

std::vector<EventRow> MemoryReader::all_events(EventId after, int limit) {
  std::lock_guard lock(database_->mutex_);
  std::vector<EventRow> out;
  for (auto it = database_->events_.upper_bound(after);
       it != database_->events_.end() && out.size() < page(limit); ++it)
    out.push_back(with_place(it->second));
  return out;
}

EventRow MemoryReader::with_place(EventRow event) const {
  if (const JobRow* job = event.job ? database_->job_row(event.job) : nullptr) {
    event.project = job->project;
    event.owner = job->owner;
  }
  return event;
}

EventWindow MemoryReader::events_for(const Visible& who, EventId after, int limit) {
  std::lock_guard lock(database_->mutex_);
  EventWindow out;
  out.seen = after;
  int looked_at = 0;
  for (auto it = database_->events_.upper_bound(after); it != database_->events_.end(); ++it) {
    if (looked_at++ == kEventWindow || out.rows.size() == page(limit)) return out;
    out.seen = it->first;
    const JobRow* job = database_->job_row(it->second.job);
    if (!it->second.job || (job != nullptr && is_visible(who, *job)))
      out.rows.push_back(with_place(it->second));
  }
  out.end = true;
  return out;
}

std::vector<EventRow> MemoryReader::attempt_events(AttemptKey attempt, int limit) {
  std::lock_guard lock(database_->mutex_);
  std::vector<EventRow> out;
  const auto ids = database_->events_of_job_.find(attempt.job);
  if (ids == database_->events_of_job_.end()) return out;
  std::vector<EventId> sorted = ids->second;
  std::sort(sorted.begin(), sorted.end());
  for (auto it = sorted.rbegin(); it != sorted.rend() && out.size() < page(limit); ++it)
    if (const EventRow& e = database_->events_.at(*it); e.epoch == attempt.epoch) out.push_back(e);
  std::ranges::reverse(out);
  return out;
}

std::vector<FaultRow> MemoryReader::faults(const FaultFilter& f, int limit, FaultId before) {
  std::lock_guard lock(database_->mutex_);
  std::vector<FaultRow> out;
  const FaultId below = before ? before : FaultId(std::numeric_limits<std::int64_t>::max());
  for (auto it = std::make_reverse_iterator(database_->faults_.lower_bound(below));
       it != database_->faults_.rend() && out.size() < page(limit); ++it) {
    const FaultRow& row = it->second;
    if (passes(f, row)) out.push_back(row);
  }
  return out;
}

std::vector<FaultGroup> MemoryReader::count_faults(const FaultFilter& filter, FaultKey by, int limit) {
  std::lock_guard lock(database_->mutex_);
  std::map<std::string, FaultGroup> groups;
  std::map<std::string, std::set<JobId>> hit;
  for (const auto& entry : database_->faults_) {
    if (!passes(filter, entry.second)) continue;
    const auto key = key_of(by, entry.second);
    ++groups[key].faults;
    if (entry.second.job) hit[key].insert(entry.second.job);
  }
  std::vector<FaultGroup> out;
  for (const auto& [key, group] : groups)
    out.push_back({key, group.faults, static_cast<std::int64_t>(hit[key].size())});
  std::ranges::sort(out, {},
                    [](const FaultGroup& g) { return std::pair(-g.faults, std::string_view(g.key)); });
  if (out.size() > static_cast<std::size_t>(limit)) out.resize(static_cast<std::size_t>(limit));
  return out;
}

std::int64_t MemoryReader::count_serious_faults(Instant since) {
  std::lock_guard lock(database_->mutex_);
  return std::ranges::count_if(database_->faults_, [&](const auto& entry) {
    const FaultRow& f = entry.second;
    return f.at >= since && (f.shared_by == 1 || f.fault_class == "node_lost");
  });
}

LeaderView MemoryReader::leader() { return database_->leader(); }

}  // namespace tutti::db
