#include "scheduler/planner/backlog.h"

#include <algorithm>
#include <cmath>
#include <queue>

#include "scheduler/model/assert.h"

namespace tutti::planner {

namespace {
constexpr int kLookedAt = 8;  // jobs of a bucket, for who waits longest
}

Duration planned_limit(Duration limit) {
  using namespace std::chrono_literals;
  if (limit == kNoLimit) return limit;
  const Duration step = limit <= 2h ? Duration(1min) : limit <= 24h ? Duration(5min) : Duration(1h);
  return std::max<Duration>((limit + step - Duration(1)) / step * step, step);
}

std::size_t Backlog::KeyHash::operator()(const Key& k) const {
  std::uint64_t h = 0;
  const auto add = [&h](std::int64_t v) {
    h = (h ^ static_cast<std::uint64_t>(v)) * 0x9E3779B97F4A7C15ULL;
    h ^= h >> 29;
  };
  for (const int v : {k.queue, k.shape, k.user, k.project, k.gpus, k.priority, k.front ? 1 : 0}) add(v);
  for (const Duration d : {k.limit, k.left, k.attained, k.known_run}) add(d.count());
  return h;
}

Backlog::Key Backlog::key_of(const Waiting& job) {
  const PlanJob& j = job.what;
  return {.queue = j.kind.queue,
          .shape = j.shape,
          .user = j.kind.user,
          .project = j.project,
          .gpus = j.kind.gpus,
          .priority = j.priority,
          .front = j.front,
          .limit = planned_limit(j.limit),
          .left = planned_limit(left_of(j, job.attained)),
          .attained = job.attained,
          .known_run = j.clairvoyant ? j.known_run : Duration::zero()};
}

// ---------------------------------------------------------------- buckets and cells

Cell& Backlog::cell_for(const Key& key) {
  Cell*& cell = cell_of_[{key.queue, key.shape, key.left}];
  if (cell == nullptr) {
    cells_.push_back(std::make_unique<Cell>());
    cell = cells_.back().get();
    cell->index = cells_.size() - 1;
    cell->queue = key.queue;
    cell->shape = key.shape;
    cell->limit = key.left;
  }
  return *cell;
}

void Backlog::drop(Cell& cell) {
  cell_of_.erase({cell.queue, cell.shape, cell.limit});
  const std::size_t i = cell.index;
  if (i + 1 != cells_.size()) {
    std::swap(cells_[i], cells_.back());
    cells_[i]->index = i;
  }
  cells_.pop_back();
}

Bucket& Backlog::bucket_for(const Waiting& job, Instant now, std::optional<double> base) {
  const Key key = key_of(job);
  auto& bucket = buckets_[key];
  if (bucket != nullptr) {
    if (now - bucket->keyed_at >= key_lasts_) rekey(*bucket, now);
    return *bucket;
  }
  bucket = std::make_unique<Bucket>();
  bucket->cell = &cell_for(key);
  bucket->turn = turn_.size();
  bucket->band = band_of(key.priority);
  bucket->front = key.front;
  bucket->priority = key.priority;
  bucket->project = key.project;
  bucket->kind = job.what.kind;
  bucket->attained = key.attained;
  bucket->known_run = key.known_run;
  bucket->limit = key.limit;
  bucket->left = key.left;
  bucket->base = base ? *base : key_of_(*bucket, now);
  bucket->keyed_at = now;
  turn_.push_back(bucket.get());
  return *bucket;
}

void Backlog::drop(Bucket& bucket) {
  Cell& cell = *bucket.cell;
  turn_[bucket.turn] = turn_.back();
  turn_[bucket.turn]->turn = bucket.turn;
  turn_.pop_back();
  buckets_.erase(Key{.queue = cell.queue,
                     .shape = cell.shape,
                     .user = bucket.kind.user,
                     .project = bucket.project,
                     .gpus = bucket.kind.gpus,
                     .priority = bucket.priority,
                     .front = bucket.front,
                     .limit = bucket.limit,
                     .left = bucket.left,
                     .attained = bucket.attained,
                     .known_run = bucket.known_run});
  if (cell.order.empty()) drop(cell);
}

Cell::Head Backlog::head_of(JobId id) const {
  const Entry& e = jobs_.at(id);
  const double key = e.bucket->base + age_rate_ * to_seconds(e.since.time_since_epoch());
  return {e.bucket->band, !e.bucket->front, key, e.rank_at, id};
}

void Backlog::unlink(Bucket& bucket) {
  if (bucket.jobs.empty()) return;
  bucket.cell->order.erase({bucket.head, &bucket});
  oldest_.erase({bucket.since, std::get<JobId>(bucket.head), &bucket});
}

void Backlog::link(Bucket& bucket) {
  if (bucket.jobs.empty()) return;
  const JobId first = bucket.jobs.begin()->second;
  bucket.head = head_of(first);
  bucket.since = Instant::max();
  int looked_at = 0;
  for (const auto& [rank, id] : bucket.jobs) {
    const Instant since = jobs_.at(id).since;
    bucket.since = std::min(bucket.since, since);
    if (since <= rank || ++looked_at == kLookedAt) break;  // those behind it have come later
  }
  bucket.cell->order.insert({bucket.head, &bucket});
  oldest_.insert({bucket.since, first, &bucket});
}

// ---------------------------------------------------------------- jobs

Backlog::Entry Backlog::entry_of(const Waiting& job, Bucket& bucket) {
  const PlanJob& j = job.what;
  return {.bucket = &bucket,
          .submitted = j.submitted,
          .since = job.since,
          .rank_at = job.rank_at,
          .preempts_from = j.preempts_from,
          .limit = j.limit,
          .preemptible = j.preemptible,
          .saves_when_asked = j.saves_when_asked,
          .clairvoyant = j.clairvoyant,
          .limit_per_run = j.limit_per_run};
}

Waiting Backlog::waiting_of(JobId id, const Entry& e) {
  const Bucket& bucket = *e.bucket;
  return {.what = {.id = id,
                   .kind = bucket.kind,
                   .project = bucket.project,
                   .shape = bucket.cell->shape,
                   .priority = bucket.priority,
                   .front = bucket.front,
                   .preemptible = e.preemptible,
                   .saves_when_asked = e.saves_when_asked,
                   .clairvoyant = e.clairvoyant,
                   .limit_per_run = e.limit_per_run,
                   .submitted = e.submitted,
                   .preempts_from = e.preempts_from,
                   .limit = e.limit,
                   .known_run = bucket.known_run},
          .attained = bucket.attained,
          .since = e.since,
          .rank_at = e.rank_at};
}

void Backlog::push(const Waiting& job, Instant now, std::optional<double> base) {
  Bucket& bucket = bucket_for(job, now, base);
  const JobId id = job.what.id;
  const std::pair place{job.rank_at, id};
  const bool fresh = jobs_.emplace(id, entry_of(job, bucket)).second;
  TUTTI_ASSERT(fresh, "a job waits once");
  const bool first =
      bucket.jobs.empty() || place < std::pair(std::get<Instant>(bucket.head), std::get<JobId>(bucket.head));
  if (first) unlink(bucket);
  bucket.jobs.insert(place);
  if (first) link(bucket);
}

std::optional<Waiting> Backlog::erase(JobId id) {
  auto entry = jobs_.find(id);
  if (entry == jobs_.end()) return std::nullopt;
  Bucket& bucket = *entry->second.bucket;
  const bool first = bucket.jobs.begin()->second == id;
  if (first) unlink(bucket);
  bucket.jobs.erase({entry->second.rank_at, id});
  Waiting job = waiting_of(id, entry->second);
  jobs_.erase(entry);
  if (first) link(bucket);
  if (bucket.jobs.empty()) drop(bucket);
  return job;
}

std::optional<Waiting> Backlog::find(JobId id) const {
  const auto found = jobs_.find(id);
  if (found == jobs_.end()) return std::nullopt;
  return waiting_of(id, found->second);
}

void Backlog::refresh(Instant now, Duration lasts, std::size_t most) {
  most = std::min(most, turn_.size());
  for (; most > 0; --most) {
    Bucket& bucket = *turn_[next_turn_++ % turn_.size()];
    if (now - bucket.keyed_at >= lasts) rekey(bucket, now);
  }
}

void Backlog::rekey(Bucket& bucket, Instant now) {
  bucket.keyed_at = now;
  const double base = key_of_(bucket, now);
  if (base == bucket.base) return;
  unlink(bucket);
  bucket.base = base;
  link(bucket);
}

// ---------------------------------------------------------------- order

std::vector<JobId> Backlog::first(std::size_t most, int queue) const {
  struct Next {
    Cell::Head head;
    const Bucket* bucket;
    RankedJobs::const_iterator at;
    bool operator>(const Next& other) const { return head > other.head; }
  };
  std::vector<Next> begins;
  begins.reserve(turn_.size());
  for (const Bucket* bucket : turn_)
    if (queue < 0 || bucket->cell->queue == queue)
      begins.push_back({bucket->head, bucket, bucket->jobs.begin()});
  std::priority_queue<Next, std::vector<Next>, std::greater<>> next_of(std::greater<>{}, std::move(begins));
  std::vector<JobId> out;
  while (!next_of.empty() && out.size() < most) {
    Next next = next_of.top();
    next_of.pop();
    out.push_back(next.at->second);
    if (++next.at == next.bucket->jobs.end()) continue;
    next.head = head_of(next.at->second);
    next_of.push(std::move(next));
  }
  return out;
}

// Nobody passes those before it in its bucket. Those that came back stand first, and may have waited less
// than those behind them, who then wait for them: the latest of their heads counts.
Cell::Head Backlog::turn_of(const Bucket& bucket, const std::pair<Instant, JobId>& place) const {
  Cell::Head turn = head_of(place.second);
  int looked_at = 0;
  for (auto at = bucket.jobs.begin(); *at != place && jobs_.at(at->second).since > at->first; ++at) {
    turn = std::max(turn, head_of(at->second));
    if (++looked_at == kLookedAt) break;
  }
  return turn;
}

// How many of the bucket's jobs.
std::size_t Backlog::before(const Cell::Head& turn, const Bucket& bucket) const {
  std::size_t low = 0, high = bucket.jobs.size();
  while (low < high) {
    const std::size_t middle = (low + high) / 2;
    if (turn_of(bucket, *bucket.jobs.find_by_order(middle)) < turn)
      low = middle + 1;
    else
      high = middle;
  }
  return low;
}

std::size_t Backlog::ahead_of(JobId id) const {
  const Entry& own = jobs_.at(id);
  const std::pair place{own.rank_at, id};
  const Cell::Head turn = turn_of(*own.bucket, place);
  std::size_t ahead = own.bucket->jobs.order_of_key(place);
  for (const Bucket* bucket : turn_)
    if (bucket != own.bucket && bucket->cell->queue == own.bucket->cell->queue && bucket->head < turn)
      ahead += before(turn, *bucket);
  return ahead;
}

}  // namespace tutti::planner
