#include "db/memory/memory_database.h"

#include <algorithm>
#include <iterator>
#include <tuple>
#include <unordered_set>

#include "db/rules.h"

namespace tutti::db {
namespace {

[[noreturn]] void conflict(const std::string& what) { throw StoreError(StoreError::conflict, what); }

bool same(const AllocationRow& a, const AllocationRow& b) {
  return a.gpu == b.gpu && a.job == b.job && a.epoch == b.epoch;
}

// [from, until) of both share an instant. An empty one shares none, as with ranges in PostgreSQL.
bool overlap(const AllocationRow& a, const AllocationRow& b) {
  const bool empty = (a.until && *a.until <= a.from) || (b.until && *b.until <= b.from);
  return !empty && (!b.until || a.from < *b.until) && (!a.until || b.from < *a.until);
}

template <class Row, class Key>
std::vector<const Row*> last_of_each(const std::vector<Row>& rows, Key key) {
  std::map<decltype(key(rows.front())), const Row*> last;
  for (const auto& row : rows) last[key(row)] = &row;
  std::vector<const Row*> out;
  for (const auto& entry : last) out.push_back(entry.second);
  return out;
}

}  // namespace

MemoryDatabase::MemoryDatabase() {
  queues_["default"].name = "default";
  projects_["default"].name = "default";
}

std::int64_t MemoryDatabase::open_session() {
  std::lock_guard lock(mutex_);
  return ++last_session_;
}
void MemoryDatabase::close_session(std::int64_t session) {
  std::lock_guard lock(mutex_);
  if (lock_owner_ == session) lock_owner_ = 0;
}
void MemoryDatabase::take_lock(std::int64_t session) {
  std::lock_guard lock(mutex_);
  if (lock_owner_ != 0 && lock_owner_ != session)
    throw StoreError(StoreError::deposed, "another session holds the leadership");
  lock_owner_ = session;
}
Term MemoryDatabase::acquire(std::int64_t session, const std::string& holder, Instant at,
                             const LeaderCard& card) {
  take_lock(session);
  std::lock_guard lock(mutex_);
  term_ = Term(term_.value + 1);
  holder_ = holder;
  since_ = at;
  terms_[term_] = {card, at};
  return term_;
}
void MemoryDatabase::end_terms_of(const std::string& instance) {
  std::lock_guard lock(mutex_);
  for (auto& [term, led] : terms_)
    if (led.card.instance == instance) led.over = true;
}
void MemoryDatabase::end_term(Term term) {
  std::lock_guard lock(mutex_);
  terms_[term].over = true;
}
Duration MemoryDatabase::predecessors_renew(Term term) const {
  std::lock_guard lock(mutex_);
  Duration longest{};
  const auto own = terms_.find(term);
  if (own == terms_.end()) return longest;
  for (auto led = terms_.begin(); led != terms_.end() && led->first < term; ++led)
    if (const auto next = std::next(led); !led->second.over && next != terms_.end())
      longest =
          std::max(longest, led->second.card.renews_for - (own->second.began_at - next->second.began_at));
  return longest;
}
std::vector<std::string> MemoryDatabase::predecessor_urls(Term term) const {
  constexpr std::size_t kMost = 8;
  std::lock_guard lock(mutex_);
  std::vector<std::string> urls;
  const auto own = terms_.find(term);
  if (own == terms_.end()) return urls;
  for (auto next = terms_.lower_bound(term); next != terms_.begin() && urls.size() < kMost; --next) {
    const Led& led = std::prev(next)->second;
    const bool renews =
        next != terms_.end() && led.card.renews_for > own->second.began_at - next->second.began_at;
    if (!led.over && renews && !led.card.url.empty() && std::ranges::find(urls, led.card.url) == urls.end())
      urls.push_back(led.card.url);
  }
  return urls;
}
LeaderView MemoryDatabase::leader() const {
  std::lock_guard lock(mutex_);
  LeaderView view{term_, holder_, since_};
  if (const auto led = terms_.find(term_); led != terms_.end()) {
    view.url = led->second.card.url;
    view.key_print = led->second.card.key_print;
    view.over = led->second.over;
  }
  return view;
}
void MemoryDatabase::add_queue(const std::string& name) {
  std::lock_guard lock(mutex_);
  queues_[name].name = name;
}
void MemoryDatabase::add_project(const std::string& name) {
  std::lock_guard lock(mutex_);
  projects_[name].name = name;
}

const JobRow* MemoryDatabase::job_row(JobId id) const {
  if (const auto live = jobs_.find(id); live != jobs_.end()) return &live->second;
  const auto done = done_.find(id);
  return done == done_.end() ? nullptr : &done->second.job;
}

Snapshot MemoryDatabase::load() const {
  std::lock_guard lock(mutex_);
  Snapshot s;
  for (const auto& [id, job] : jobs_) {
    s.jobs.push_back(job);
    const auto changed = changed_specs_.find(id);
    s.specs.add(changed == changed_specs_.end() ? specs_.at(id).spec_json : changed->second);
    if (const auto c = checkpoints_.find(id); c != checkpoints_.end())
      std::copy_if(c->second.begin(), c->second.end(), std::back_inserter(s.checkpoints),
                   [](const CheckpointRow& r) { return r.deleted_at == Instant{}; });
  }
  for (const auto& entry : open_attempts_) s.attempts.push_back(attempts_.at(entry.first));
  for (const auto& [id, job] : jobs_) {
    std::vector<AttemptRow> ended;
    for (auto a = attempts_.lower_bound({id, Epoch()}); a != attempts_.end() && a->first.job == id; ++a)
      if (a->second.result == AttemptResult::failed) ended.push_back(a->second);
    constexpr std::size_t kEnded = 3;
    for (std::size_t i = ended.size() - std::min(kEnded, ended.size()); i < ended.size(); ++i) {
      AttemptRow& past = s.past_attempts.emplace_back(std::move(ended[i]));
      past.detail.clear();  // what may be large and is not needed to go on
      past.resume_path.clear();
      past.evidence_json = "[]";
    }
  }
  for (const auto& [id, fault] : faults_)
    if (fault.shared_by > 0) s.blamed.push_back(fault);
  for (const auto& [gpu, rows] : allocations_)
    for (const auto& row : rows)
      if (!row.until) s.allocations.push_back(row);
  std::sort(s.allocations.begin(), s.allocations.end(),
            [](const auto& a, const auto& b) { return a.gpu < b.gpu; });
  for (const auto& entry : nodes_) s.nodes.push_back(entry.second);
  for (const auto& entry : gpus_) s.gpus.push_back(entry.second);
  for (const auto& [key, view] : keys_) s.keys.push_back({key.first, key.second, view.body_hash, view.job});
  std::sort(s.keys.begin(), s.keys.end(), [](const auto& a, const auto& b) { return a.job < b.job; });
  for (const auto& [id, done] : done_)
    if (done.job.ran > Duration::zero())
      s.past.push_back({.project = done.job.project,
                        .owner = done.job.owner,
                        .queue = done.job.queue,
                        .gpus = done.job.nodes * done.job.gpus_per_node,
                        .ran = done.job.ran,
                        .ended_at = done.ended_at,
                        .finished = done.job.state == JobState::succeeded});
  std::ranges::sort(s.past, {}, &Snapshot::Past::ended_at);
  constexpr std::size_t kPast = 5000;
  if (s.past.size() > kPast) s.past.erase(s.past.begin(), s.past.end() - kPast);
  for (const auto& entry : queues_) s.queues.push_back(entry.second);
  for (const auto& entry : projects_) s.projects.push_back(entry.second);
  for (const auto& entry : reservations_) s.reservations.push_back(entry.second);
  s.last_job = last_job_;
  if (!nodes_.empty()) s.last_node = nodes_.rbegin()->first;
  if (!gpus_.empty()) s.last_gpu = gpus_.rbegin()->first;
  if (!events_.empty()) {
    s.last_event = events_.rbegin()->first;
    s.written_at = events_.rbegin()->second.at;
  }
  if (!faults_.empty()) s.last_fault = faults_.rbegin()->first;
  return s;
}

void MemoryDatabase::commit(const Batch& batch, Term term) {
  require_well_formed(batch);
  std::lock_guard lock(mutex_);
  if (term != term_)
    throw StoreError(StoreError::deposed,
                     "term " + to_string(term) + " is over, the newest is " + to_string(term_));
  check(batch);
  apply(batch);
}

void MemoryDatabase::check_jobs(const Batch& b) const {
  std::unordered_set<JobId> fresh;
  std::set<std::pair<std::string, std::string>> keys;
  for (const auto& s : b.new_specs) {
    if (!fresh.insert(s.id).second || specs_.contains(s.id))
      conflict("job " + to_string(s.id) + " exists already");
    if (s.idempotency_key.empty()) continue;
    std::pair key(s.owner, s.idempotency_key);
    const auto goes = [&](const Batch::OldKey& k) { return k.owner == key.first && k.key == key.second; };
    if ((keys_.contains(key) && std::ranges::none_of(b.forgotten_keys, goes)) ||
        !keys.insert(std::move(key)).second)
      conflict("idempotency key '" + s.idempotency_key + "' of " + s.owner + " exists already");
  }
  for (const auto& [id, json] : b.changed_specs)
    if (!fresh.contains(id) && !specs_.contains(id))
      conflict("job " + to_string(id) + " has no spec to change");
  // Versions as they are after each step: a job may come, change and end within one batch.
  std::unordered_map<JobId, std::int32_t> versions;
  for (const auto& j : b.new_jobs)
    if (!versions.emplace(j.id, j.version).second) conflict("job " + to_string(j.id) + " is new twice");
  const auto version = [&](JobId id) {
    if (const auto v = versions.find(id); v != versions.end()) return v->second;
    const auto j = jobs_.find(id);
    return j == jobs_.end() ? 0 : j->second.version;
  };
  std::unordered_set<JobId> updated;
  for (const auto& u : b.jobs) {
    const bool there = jobs_.contains(u.row.id) || versions.contains(u.row.id);
    if (!updated.insert(u.row.id).second || !there || version(u.row.id) != u.base_version)
      conflict("job " + to_string(u.row.id) + " is not at version " + std::to_string(u.base_version));
    versions[u.row.id] = u.row.version;
  }
  std::unordered_set<JobId> ended;
  for (const auto& d : b.done) {
    const JobId id = d.row.job.id;
    if (!ended.insert(id).second || done_.contains(id))
      conflict("job " + to_string(id) + " has ended already");
    if (d.base_version != 0 && version(id) != d.base_version)
      conflict("job " + to_string(id) + " is not at version " + std::to_string(d.base_version));
  }
}

void MemoryDatabase::check_allocations(const Batch& b) const {
  // The rows of every GPU the batch touches, as they would be.
  std::map<GpuId, std::vector<AllocationRow>> after;
  const auto rows_of = [&](GpuId gpu) -> std::vector<AllocationRow>& {
    const auto [it, fresh] = after.try_emplace(gpu);
    if (fresh)
      if (const auto known = allocations_.find(gpu); known != allocations_.end()) it->second = known->second;
    return it->second;
  };
  const auto opened_here = [&](const AllocationRow& c) {
    return std::any_of(b.opened.begin(), b.opened.end(), [&](const auto& o) { return same(o, c); });
  };
  for (const auto& c : b.closed) {
    if (opened_here(c)) continue;
    auto& rows = rows_of(c.gpu);
    const auto row =
        std::find_if(rows.begin(), rows.end(), [&](const auto& r) { return same(r, c) && !r.until; });
    if (row == rows.end()) conflict("gpu " + to_string(c.gpu) + " is not held by job " + to_string(c.job));
    if (*c.until < row->from) throw StoreError(StoreError::corrupt, "allocation ends before it begins");
    row->until = c.until;
  }
  for (AllocationRow o : b.opened) {
    for (const auto& c : b.closed)
      if (same(o, c)) o.until = c.until;
    if (o.until && *o.until < o.from)
      throw StoreError(StoreError::corrupt, "allocation ends before it begins");
    auto& rows = rows_of(o.gpu);
    for (const auto& r : rows)
      if (same(r, o) || overlap(r, o))
        conflict("gpu " + to_string(o.gpu) + " is held by job " + to_string(r.job));
    rows.push_back(o);
  }
}

void MemoryDatabase::check_machines(const Batch& b) const {
  std::map<std::string, NodeId> names;
  std::unordered_set<NodeId> fresh;
  for (const auto* n : last_of_each(b.nodes, [](const NodeRow& r) { return r.id; })) {
    const auto known = node_by_name_.find(n->name);
    if ((known != node_by_name_.end() && known->second != n->id) || !names.emplace(n->name, n->id).second)
      conflict("node name '" + n->name + "' exists already");
    fresh.insert(n->id);
  }
  std::map<std::string, GpuId> uuids;
  for (const auto* g : last_of_each(b.gpus, [](const GpuRow& r) { return r.id; })) {
    if (!fresh.contains(g->node) && !nodes_.contains(g->node))
      conflict("gpu " + to_string(g->id) + " is on no known node");
    const auto known = gpu_by_uuid_.find(g->uuid);
    if ((known != gpu_by_uuid_.end() && known->second != g->id) || !uuids.emplace(g->uuid, g->id).second)
      conflict("gpu '" + g->uuid + "' exists already");
  }
}

void MemoryDatabase::check(const Batch& b) const {
  check_jobs(b);
  check_allocations(b);
  check_machines(b);
  for (const auto* a :
       last_of_each(b.attempts, [](const AttemptRow& r) { return AttemptKey{r.job, r.epoch}; })) {
    const auto known = attempts_.find({a->job, a->epoch});
    if (known != attempts_.end() && known->second.state == AttemptState::ended &&
        a->state != AttemptState::ended)
      conflict("attempt " + to_string(a->job) + "/" + to_string(a->epoch) + " has ended");
  }
  std::unordered_set<FaultId> faults;
  for (const auto& f : b.faults)
    if (faults_.contains(f.id) || !faults.insert(f.id).second)
      conflict("fault " + to_string(f.id) + " exists already");
  std::unordered_set<EventId> events;
  for (const auto& e : b.events)
    if (events_.contains(e.id) || !events.insert(e.id).second)
      conflict("event " + to_string(e.id) + " exists already");
}

void MemoryDatabase::apply(const Batch& b) {
  for (const auto& k : b.forgotten_keys) keys_.erase({k.owner, k.key});
  for (const auto& s : b.new_specs) {
    specs_[s.id] = s;
    ids_by_name_[s.name].insert(s.id);
    if (!s.idempotency_key.empty()) keys_[{s.owner, s.idempotency_key}] = {s.id, s.body_hash};
    last_job_ = std::max(last_job_, s.id);
  }
  for (const auto& [id, json] : b.changed_specs) changed_specs_[id] = json;
  for (const auto& q : b.queues) queues_[q.name] = q;
  for (const auto& p : b.projects) projects_[p.name] = p;
  for (const auto& r : b.reservations) reservations_[r.name] = r;
  for (const auto& name : b.removed_queues) queues_.erase(name);
  for (const auto& name : b.removed_projects) projects_.erase(name);
  for (const auto& name : b.removed_reservations) reservations_.erase(name);
  for (const auto& j : b.new_jobs) jobs_[j.id] = j;
  for (const auto& u : b.jobs) jobs_[u.row.id] = u.row;
  for (const auto& n : b.nodes) {
    auto& row = nodes_[n.id];
    node_by_name_.erase(row.name);
    row = n;
    node_by_name_[n.name] = n.id;
  }
  for (const auto& g : b.gpus) {
    auto& row = gpus_[g.id];
    gpu_by_uuid_.erase(row.uuid);
    row = g;
    gpu_by_uuid_[g.uuid] = g.id;
  }
  for (const auto* list : {&b.attempts, &b.supplemented, &b.revised})
    for (const auto& a : *list) {
      const AttemptKey key{a.job, a.epoch};
      attempts_[key] = a;
      if (a.state == AttemptState::ended)
        open_attempts_.erase(key);
      else
        open_attempts_[key] = true;
    }
  for (const auto& o : b.opened) allocations_[o.gpu].push_back(o);
  for (const auto& c : b.closed)
    for (auto& r : allocations_[c.gpu])
      if (same(r, c)) r.until = c.until;
  for (const auto& c : b.checkpoints) {
    auto& rows = checkpoints_[c.job];
    std::erase_if(rows, [&](const auto& r) { return r.path == c.path; });
    rows.insert(std::upper_bound(rows.begin(), rows.end(), c,
                                 [](const auto& x, const auto& y) {
                                   return std::tie(x.step, x.at, x.path) < std::tie(y.step, y.at, y.path);
                                 }),
                c);
  }
  for (const auto& f : b.faults) faults_[f.id] = f;
  for (const FaultId id : b.withdrawn)
    if (const auto f = faults_.find(id); f != faults_.end()) f->second.shared_by = 0;
  for (const auto& d : b.done) {
    jobs_.erase(d.row.job.id);
    done_[d.row.job.id] = d.row;
  }
  for (const auto& e : b.events) {
    events_[e.id] = e;
    if (e.job) events_of_job_[e.job].push_back(e.id);
  }
}

}  // namespace tutti::db
