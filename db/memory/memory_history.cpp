// The same answers as db/pg/pg_history.cpp, row by row.
#include "db/memory/memory_history.h"

#include <algorithm>
#include <limits>
#include <set>
#include <tuple>

#include "db/memory/memory_specs.h"

namespace tutti::db {
namespace {

std::size_t page(int wanted) { return static_cast<std::size_t>(std::clamp(wanted, 1, kMostHistoryPage)); }

bool is_visible(const std::optional<Visible>& who, const JobRow& j) {
  return !who || j.owner == who->owner || std::ranges::count(who->projects, j.project.str()) > 0;
}

std::size_t piece_of(Instant at, Instant since, Instant until, int pieces) {
  return static_cast<std::size_t>((at - since).count() * pieces / (until - since).count());
}

bool in_preflight(const AttemptRow& a, Instant at) {
  if (a.preflight_at == Instant{} || a.preflight_at > at) return false;
  for (const Instant next : {a.starting_at, a.stopping_at, a.ended_at})
    if (next != Instant{}) return next > at;
  return true;
}

bool has_run(const JobRow& j) { return j.ran > Duration::zero() && j.gpus_per_node > 0; }

}  // namespace

const std::string& MemoryHistory::spec_json(JobId job) const {
  const auto changed = database_->changed_specs_.find(job);
  return changed == database_->changed_specs_.end() ? spec(job).spec_json : changed->second;
}

// ---------------------------------------------------------------- decisions

std::optional<Instant> MemoryHistory::first_event() {
  std::lock_guard lock(database_->mutex_);
  std::optional<Instant> of_jobs, of_nodes;
  for (const auto& [id, e] : database_->events_) {
    auto& first = e.job ? of_jobs : of_nodes;
    if (!first) first = e.at;
  }
  if (!of_jobs || !of_nodes) return of_jobs ? of_jobs : of_nodes;
  return std::min(*of_jobs, *of_nodes);
}

std::vector<DecisionCount> MemoryHistory::density(Instant since, Instant until, int pieces) {
  std::lock_guard lock(database_->mutex_);
  std::vector<DecisionCount> out(static_cast<std::size_t>(pieces));
  const auto within = [&](Instant at) { return at >= since && at < until; };
  for (const auto& [id, e] : database_->events_) {
    const auto word = within(e.at) ? decision_word(e) : std::nullopt;
    if (!word) continue;
    auto& piece = out.at(piece_of(e.at, since, until, pieces));
    ++piece.decisions;
    piece.starts += *word == "start" ? 1 : 0;
    piece.preemptions += *word == "preempt" ? 1 : 0;
  }
  for (const auto& [id, f] : database_->faults_)
    if (within(f.at)) ++out.at(piece_of(f.at, since, until, pieces)).faults;
  return out;
}

std::vector<Decision> MemoryHistory::decisions(const DecisionQuery& q) {
  std::lock_guard lock(database_->mutex_);
  std::vector<Decision> out;
  const auto look_at = [&](const EventRow& e) {
    if (e.at < q.since || e.at >= q.until || !decision_word(e) || out.size() == page(q.limit)) return;
    if (q.after && (q.newest_first ? e.id >= q.after : e.id <= q.after)) return;
    const JobRow* job = e.job ? database_->job_row(e.job) : nullptr;
    if (e.job && (job == nullptr || !is_visible(q.visible, *job))) return;
    Decision d{e, "", {}};
    if (const auto node = database_->nodes_.find(e.node); node != database_->nodes_.end())
      d.node_name = node->second.name;
    const auto attempt = database_->attempts_.find({e.job, e.epoch});
    if (*decision_word(e) == "start" && attempt != database_->attempts_.end())
      for (const auto& member : attempt->second.gang) d.nodes.push_back(member.node_name);
    out.push_back(std::move(d));
  };
  if (q.newest_first)
    for (auto e = database_->events_.rbegin(); e != database_->events_.rend(); ++e) look_at(e->second);
  else
    for (const auto& [id, e] : database_->events_) look_at(e);
  return out;
}

// ---------------------------------------------------------------- nodes and GPUs

std::optional<PastHolder> MemoryHistory::holder(GpuId gpu, Instant at) const {
  const auto rows = database_->allocations_.find(gpu);
  if (rows == database_->allocations_.end()) return std::nullopt;
  for (const auto& row : rows->second) {
    if (row.from > at || (row.until && *row.until <= at)) continue;
    PastHolder holder;
    holder.attempt = {row.job, row.epoch};
    if (const JobRow* job = database_->job_row(row.job)) {
      holder.project = job->project;
      holder.owner = job->owner;
    }
    const auto attempt = database_->attempts_.find(holder.attempt);
    holder.preflight = attempt != database_->attempts_.end() && in_preflight(attempt->second, at);
    return holder;
  }
  return std::nullopt;
}

PastMachines MemoryHistory::machines(Instant at) {
  std::lock_guard lock(database_->mutex_);
  std::vector<NodeRow> nodes;
  std::vector<GpuRow> gpus;
  std::vector<EventRow> later;
  for (const auto& [id, row] : database_->nodes_) nodes.push_back(row);
  for (const auto& [id, row] : database_->gpus_) gpus.push_back(row);
  for (const auto& [id, e] : database_->events_)
    if (!e.job && e.at > at) later.push_back(e);
  PastMachines out{taken_back(nodes, gpus, later, at), std::nullopt};
  for (auto& node : out.nodes)
    for (auto& gpu : node.gpus) gpu.holder = holder(gpu.row.id, at);
  return out;
}

// ---------------------------------------------------------------- jobs

const EventRow* MemoryHistory::last_state(JobId job, Instant at) const {
  const auto ids = database_->events_of_job_.find(job);
  if (ids == database_->events_of_job_.end()) return nullptr;
  const EventRow* last = nullptr;
  for (const EventId id : ids->second) {
    const EventRow& e = database_->events_.at(id);
    if (e.kind == "state" && e.at <= at && (last == nullptr || last->id < id)) last = &e;
  }
  return last;
}

template <class Each>
void MemoryHistory::each_job_at(Instant at, Each each) const {
  for (const auto& [id, row] : database_->jobs_)
    if (row.created_at <= at) each(row);
  for (const auto& [id, row] : database_->done_)
    if (row.ended_at > at && row.job.created_at <= at) each(row.job);
}

PastJobs MemoryHistory::jobs(Instant at) {
  std::lock_guard lock(database_->mutex_);
  PastJobs out;
  const auto count = [&](JobState state) { ++out.by_state[static_cast<std::size_t>(state)]; };
  each_job_at(at, [&](const JobRow& row) {
    const EventRow* last = last_state(row.id, at);
    const auto state = last == nullptr ? std::nullopt : parse_job_state(last->to);
    if (state) count(*state);
  });
  for (const auto& [id, row] : database_->done_)
    if (row.ended_at <= at) count(row.job.state);
  return out;
}

PastQueue MemoryHistory::queue(Instant at, const std::optional<Visible>& visible, int most) {
  std::lock_guard lock(database_->mutex_);
  std::vector<const JobRow*> there;
  each_job_at(at, [&](const JobRow& row) {
    if (is_visible(visible, row)) there.push_back(&row);
  });
  std::ranges::sort(there, {}, [](const JobRow* j) { return std::tuple(-j->priority, j->queued_at, j->id); });
  PastQueue out;
  const auto bound = static_cast<std::size_t>(std::clamp(most, 1, kMostPastJobs));
  out.cut = there.size() > bound;
  if (out.cut) there.resize(bound);
  for (const JobRow* row : there) {
    const EventRow* last = last_state(row->id, at);
    const auto state = last == nullptr ? std::nullopt : parse_job_state(last->to);
    if (!state || !is_pending(*state)) continue;
    PastWaiting job{*row, spec(row->id).name, last->at, ""};
    job.row.state = *state;
    job.row.attempt = 0;
    for (auto a = database_->attempts_.lower_bound({row->id, Epoch(0)});
         a != database_->attempts_.end() && a->first.job == row->id; ++a)
      if (a->second.placed_at <= at) job.row.attempt = a->second.number;
    const auto recorded = reasons_ && *state == JobState::queued ? reasons_->find(row->id, at) : std::nullopt;
    if (recorded && recorded->at >= job.since) job.reasons_body = recorded->body;
    out.jobs.push_back(std::move(job));
  }
  return out;
}

RanJobs MemoryHistory::ran(Instant since, Instant until, int most) {
  std::lock_guard lock(database_->mutex_);
  RanJobs out;
  const auto within = [&](const JobRow& j) { return j.created_at >= since && j.created_at < until; };
  for (const auto& [id, j] : database_->jobs_) out.others += within(j) ? 1 : 0;
  std::vector<const JobRow*> rows;
  for (const auto& [id, done] : database_->done_) {
    if (!within(done.job)) continue;
    if (has_run(done.job))
      rows.push_back(&done.job);
    else
      ++out.others;
  }
  std::ranges::sort(rows, {}, [](const JobRow* j) { return std::pair(j->queued_at, j->id); });
  const auto bound = static_cast<std::size_t>(std::clamp(most, 1, kMostPastJobs));
  out.cut = rows.size() > bound;
  if (out.cut) rows.resize(bound);
  for (const JobRow* j : rows)
    out.jobs.push_back({j->queued_at, j->owner, j->queue, j->nodes * j->gpus_per_node, j->ran,
                        text_field_in(spec_json(j->id), "time_limit")});
  return out;
}

WaitCounts MemoryHistory::waits(const std::string& project, const std::optional<Visible>& visible,
                                Instant since, const std::vector<Duration>& bounds) {
  std::lock_guard lock(database_->mutex_);
  WaitCounts out{std::vector<std::int64_t>(bounds.size() + 1)};
  for (const auto& [id, s] : database_->specs_) {
    const JobRow* job = database_->job_row(id);
    if (job == nullptr || job->project != project || job->created_at < since || !is_visible(visible, *job))
      continue;
    const auto first = database_->attempts_.lower_bound({id, Epoch(0)});
    if (first == database_->attempts_.end() || first->first.job != id) continue;
    const Instant placed = first->second.placed_at;
    const Instant queued = job->queued_at > placed ? job->created_at : job->queued_at;
    const Instant ready = std::max(queued, begin_time_in(spec_json(id)));
    const Duration wait = std::max(Duration::zero(), placed - ready);
    ++out.below.at(static_cast<std::size_t>(std::ranges::upper_bound(bounds, wait) - bounds.begin()));
  }
  return out;
}

// ---------------------------------------------------------------- of one node

std::vector<NodeAttempt> MemoryHistory::node_attempts(NodeId node, int limit, int skip) {
  std::lock_guard lock(database_->mutex_);
  std::map<AttemptKey, NodeAttempt> all;
  std::set<AttemptKey> open;
  for (const auto& [id, gpu] : database_->gpus_) {
    const auto rows = database_->allocations_.find(id);
    if (gpu.node != node || rows == database_->allocations_.end()) continue;
    for (const auto& held : rows->second) {
      const AttemptKey key{held.job, held.epoch};
      const auto attempt = database_->attempts_.find(key);
      const JobRow* job = database_->job_row(held.job);
      if (attempt == database_->attempts_.end() || job == nullptr) continue;
      NodeAttempt& a = all[key];
      a.from = a.gpus.empty() ? held.from : std::min(a.from, held.from);
      if (held.until) a.until = std::max(a.until.value_or(*held.until), *held.until);
      if (!held.until) open.insert(key);
      a.gpus.push_back(gpu.index);
      const AttemptRow& row = attempt->second;
      a.row.job = key.job;
      a.row.epoch = key.epoch;
      a.row.number = row.number;
      a.row.result = row.result;
      a.row.cause = row.cause;
      a.job_name = spec(key.job).name;
      a.project = job->project;
      a.owner = job->owner;
    }
  }
  std::vector<NodeAttempt> out;
  for (auto& [key, a] : all) {
    if (open.contains(key)) a.until.reset();
    std::ranges::sort(a.gpus);
    out.push_back(std::move(a));
  }
  std::ranges::sort(out, std::greater{},
                    [](const NodeAttempt& a) { return std::tuple(a.from, a.row.job, a.row.epoch); });
  out.erase(out.begin(), out.begin() + std::min<std::ptrdiff_t>(std::max(skip, 0), std::ssize(out)));
  if (out.size() > page(limit)) out.resize(page(limit));
  return out;
}

std::vector<EventRow> MemoryHistory::inspections(NodeId node, int limit, EventId before) {
  std::lock_guard lock(database_->mutex_);
  std::vector<EventRow> out;
  const EventId below = before ? before : EventId(std::numeric_limits<std::int64_t>::max());
  for (auto e = std::make_reverse_iterator(database_->events_.lower_bound(below));
       e != database_->events_.rend() && out.size() < page(limit); ++e)
    if (e->second.node == node && !e->second.job && e->second.kind == "inspection") out.push_back(e->second);
  return out;
}

std::vector<FaultRow> MemoryHistory::blamed(Instant since) {
  std::lock_guard lock(database_->mutex_);
  std::vector<FaultRow> out;
  for (const auto& [id, f] : database_->faults_) {
    if (f.shared_by <= 0 || !f.node || f.at < since) continue;
    FaultRow row;
    row.node = f.node;
    row.at = f.at;
    row.shared_by = f.shared_by;
    out.push_back(std::move(row));
  }
  return out;
}

}  // namespace tutti::db
