// Planner: one pass over a pool. Who fits starts, in order; the first that does not fit is promised a start,
// and those behind it may only use what does not delay it (EASY backfill: Lifka, "The ANL/IBM SP scheduling
// system", 1995), node by node.
#include <algorithm>

#include "scheduler/model/assert.h"
#include "scheduler/planner/planner_pass.h"

namespace tutti::planner {

namespace {
std::size_t ix(int i) { return static_cast<std::size_t>(i); }
}  // namespace

// ---------------------------------------------------------------- what may be used

bool Planner::member_of(const Window& w, int project) const {
  for (int p = project; p >= 0; p = ix(p) < project_parent_.size() ? project_parent_[ix(p)] : -1)
    if (w.projects.contains(p)) return true;
  return false;
}

bool Planner::may_use(int node, int project, Instant end, Instant now) const {
  return std::ranges::none_of(windows_, [&](const Window& w) {
    return w.until > now && end > w.from && std::ranges::find(w.nodes, node) != w.nodes.end() &&
           !member_of(w, project);
  });
}

bool Planner::owns(int node, int project, Instant now) const {
  return std::ranges::any_of(windows_, [&](const Window& w) {
    return w.from <= now && now < w.until && std::ranges::find(w.nodes, node) != w.nodes.end() &&
           member_of(w, project);
  });
}

bool Planner::keeps_out(const Window& w, int node, const Waiting& job, Instant now) const {
  return w.until > now && after(now, left_of(job.what, job.attained)) > w.from &&
         std::ranges::find(w.nodes, node) != w.nodes.end() && !member_of(w, job.what.project);
}

// Nodes of the promised start are for those who will be gone by then, and those first, so that the others
// stay for who will not; or for who fits beside it.
int Planner::PassFilter::preference(int node, const Need& need) const {
  if (!planner->windows_.empty()) {
    if (!planner->may_use(node, job->what.project, end, pass->now)) return -1;
    if (planner->owns(node, job->what.project, pass->now))
      return 0;  // no promise to others stands above that
  }
  const Reservation* kept = pass->kept && pass->kept->job != job->what.id ? &*pass->kept : nullptr;
  const auto reserved = kept == nullptr ? nullptr : kept->spare_on(node);
  if (end_before) return reserved != nullptr ? 0 : 1;
  if (reserved == nullptr) return 0;
  const Nodes& nodes = planner->nodes_;
  const auto part = nodes.place(need, node, nodes.room_now(node, false));
  return part && kept->fits_beside(*reserved, *part, need) ? 0 : -1;
}

bool Planner::allowed(const Cell& cell, const Bucket& bucket) const {
  const GangAsk& ask = nodes_.shape(cell.shape).ask;
  const int least = ask.min_nodes > 0 ? ask.min_nodes * ask.resources.gpus : bucket.kind.gpus;
  return !quota_.blocks(cell.queue, bucket.project, least).has_value();
}

// ---------------------------------------------------------------- the pass

void Planner::fill(Pass& pass) {
  pass.blocked.resize(ix(nodes_.shape_count()));
  pass.pool.promise.reset();
  start_claims(pass);
  in_order(pass, [&](JobId id, bool guard) {
    if (pass.full()) return false;
    const bool started = consider(pass, id, guard);
    return started || guard || !policy_.strict;
  });
  if (pass.kept) pass.out.promised.push_back(*pass.pool.promise);
}

// Everybody who may still fit, in order, until `turn` says no; of each band those under the guard first.
void Planner::in_order(Pass& pass, const std::function<bool(JobId, bool guard)>& turn) {
  const auto long_waiting = guarded(pass.pool, pass.now);
  const auto band = [&](JobId id) { return pass.pool.backlog->bucket_of(id).band; };
  auto under_guard = long_waiting.begin();
  for (;;) {
    const auto next = best(pass);
    if (under_guard != long_waiting.end() && (!next || band(*under_guard) <= band(*next))) {
      const JobId id = *under_guard++;
      if (guard_allows(pass.pool.backlog->find(id)->what)) turn(id, true);
    } else if (!next || !turn(*next, false)) {
      return;
    }
  }
}

// The first job of a bucket for which nobody gives way already.
std::optional<JobId> Planner::unclaimed(const Bucket& bucket) const {
  for (const auto& [rank, id] : bucket.jobs)
    if (claims_.empty() || !claims_.contains(id)) return id;
  return std::nullopt;
}

// The first job in order of those that may still fit.
std::optional<JobId> Planner::best(Pass& pass) const {
  std::optional<JobId> best;
  Cell::Head best_head;
  for (const auto& cell : pass.pool.backlog->cells()) {
    if (cell->order.empty() || (best && cell->order.begin()->first >= best_head)) continue;
    auto& blocked = pass.blocked[ix(cell->shape)];
    if ((blocked & Pass::kAlways) != 0) continue;
    const bool must_fit = !pass.makes_room && !policy_.strict && (pass.kept.has_value() || !policy_.reserves);
    if (must_fit && !nodes_.fits(cell->shape)) {
      if (!pass.may_preempt(*this)) blocked |= Pass::kAlways;
      if (blocked != 0) continue;
    }
    const bool before = !pass.kept || after(pass.now, cell->limit) <= pass.kept->at;
    if (!before && (blocked & Pass::kBeside) != 0) continue;
    for (const auto& [head, bucket] : cell->order) {
      if (best && head >= best_head) break;
      if (pass.failed.contains(bucket) || !allowed(*cell, *bucket)) continue;
      const auto first = unclaimed(*bucket);
      if (!first) continue;
      const Cell::Head own = *first == std::get<JobId>(head) ? head : pass.pool.backlog->head_of(*first);
      if (best && own >= best_head) continue;
      best = first;
      best_head = own;
      break;
    }
  }
  return best;
}

Parts Planner::choose_in(Pass& pass, const Waiting& job) const {
  if (!nodes_.fits(job.what.shape)) return {};
  static const std::vector<int> kNone;
  const auto avoided = avoided_.find(job.what.id);
  const auto& avoid = avoided == avoided_.end() ? kNone : avoided->second;
  PassFilter filter;
  filter.planner = this;
  filter.pass = &pass;
  filter.job = &job;
  filter.end = after(pass.now, left_of(job.what, job.attained));
  // As it is planned, like all of its cell.
  filter.end_before =
      pass.kept && after(pass.now, pass.pool.backlog->bucket_of(job.what.id).cell->limit) <= pass.kept->at;
  const bool free_choice = !pass.kept && windows_.empty();
  return nodes_.choose(job.what.shape, avoid, free_choice ? nullptr : &filter);
}

// True: it has started.
bool Planner::consider(Pass& pass, JobId id, bool guard) {
  const Waiting job = *pass.pool.backlog->find(id);
  if (claims_.contains(id)) return false;
  const Bucket& bucket = pass.pool.backlog->bucket_of(id);
  if (guard && !allowed(*bucket.cell, bucket)) return false;
  Parts parts = choose_in(pass, job);
  if (!parts.empty()) {
    start(pass, id, std::move(parts), guard && policy_.preempts);
    return true;
  }
  if (guard && policy_.preempts) {  // a gang gets its room at one time, however soon others would end
    if (!pass.kept) reserve(pass, job);
    return false;
  }
  auto& blocked = pass.blocked[ix(job.what.shape)];
  // One that may not preempt now does not keep others of its shape from it.
  const bool may_preempt = pass.may_preempt(*this);
  const bool waits = may_preempt && job.what.preempts_from > pass.now;
  if (may_preempt && !waits && make_way(pass, job)) return false;
  if (policy_.reserves && !pass.kept && reserve(pass, job)) {
    blocked |= waits || nodes_.fits(job.what.shape) ? 0 : Pass::kAlways;
    pass.failed.insert(&bucket);
    return false;
  }
  if (waits || (!windows_.empty() && nodes_.fits(job.what.shape)))
    pass.failed.insert(&bucket);
  else if (pass.kept && after(pass.now, bucket.cell->limit) > pass.kept->at && nodes_.fits(job.what.shape))
    blocked |= Pass::kBeside;
  else
    blocked |= Pass::kAlways;
  return false;
}

void Planner::start(Pass& pass, JobId id, Parts parts, bool guard) {
  const Waiting waiting = *pass.pool.backlog->find(id);
  drop_claim(id);
  pass.pool.backlog->erase(id);
  const GangAsk& ask = nodes_.shape(waiting.what.shape).ask;
  while (ask.min_nodes > 0 && static_cast<int>(parts.size()) > ask.min_nodes &&
         quota_.blocks(waiting.what.kind.queue, waiting.what.project,
                       static_cast<int>(parts.size()) * ask.resources.gpus))
    parts.pop_back();
  Running job;
  job.what = waiting.what;
  job.parts = parts;
  job.attained = job.keyed_attained = waiting.attained;
  job.since = job.saved_at = job.accounted_until = pass.now;
  job.rank_at = waiting.attained == Duration::zero() ? pass.now : waiting.rank_at;
  job.guarded = guard;
  job.key = key_of(job, pass.now);
  hold(std::move(job));
  if (pass.kept)
    pass.kept->taken(ask.resources, parts, after(pass.now, left_of(waiting.what, waiting.attained)));
  pass.out.started.push_back({id, std::move(parts)});
}

// Those for whom others have left. A claim that nobody's leaving has filled in time is given up.
void Planner::start_claims(Pass& pass) {
  const auto ready = [&](JobId id, const Claim& c) {
    const Bucket& bucket = pass.pool.backlog->bucket_of(id);
    return nodes_.is_free(nodes_.shape(bucket.cell->shape).ask.resources, c.parts) &&
           allowed(*bucket.cell, bucket);
  };
  for (auto claim = claims_.begin(); claim != claims_.end();) {
    const auto& [id, c] = *claim++;
    if (pass.full()) return;
    if (!pass.pool.backlog->contains(id)) continue;
    if (ready(id, c))
      start(pass, id, Parts(c.parts), guarded_claims_.contains(id));
    else if (c.until <= pass.now)
      drop_claim(id);
  }
}

// Who has waited too long without a break, band by band, longest first; those whom quota or the cluster
// itself keeps waiting have nothing to gain. Without preemption the first of each band counts: it gets the
// promise.
std::vector<JobId> Planner::guarded(const Pool& pool, Instant now) const {
  std::vector<JobId> out;
  for (const auto& [since, first, bucket] : pool.backlog->oldest()) {
    if (now - since < policy_.guard_after) break;
    const bool enough = !policy_.preempts && std::ranges::any_of(out, [&](JobId id) {
      return pool.backlog->bucket_of(id).band == bucket->band;
    });
    if (enough || !allowed(*bucket->cell, *bucket) || !nodes_.could_ever(bucket->cell->shape)) continue;
    for (const auto& [rank, id] : bucket->jobs) {  // the first stands for all: it may have come back lately
      if (id != first && now - pool.backlog->find(id)->since < policy_.guard_after) break;
      out.push_back(id);
      if (!policy_.preempts) break;
    }
  }
  std::ranges::sort(out, {}, [&](JobId id) {
    return std::tuple(pool.backlog->bucket_of(id).band, pool.backlog->find(id)->since, id);
  });
  return out;
}

// One gang larger than the guard's share of all GPUs may still have its turn.
bool Planner::guard_allows(const PlanJob& job) const {
  if (guarded_gpus_ == 0 || policy_.guard_share >= 1) return true;
  const auto& pool = pools_[ix(queue_pool_[ix(job.kind.queue)])];
  return guarded_gpus_ + least_gpus(job) <= policy_.guard_share * nodes_.usable_gpus(pool.name);
}

// ---------------------------------------------------------------- the promised start

// When at the latest it fits, and on which nodes: those that cannot be used now first, since those that are
// free are worth more to others meanwhile. False: never by anybody's end.
bool Planner::reserve(Pass& pass, const Waiting& job) const {
  const Shape& shape = nodes_.shape(job.what.shape);
  const auto level = shape.ask.topology.require;
  const bool anywhere = level == TopologyLevel::any || shape.ask.nodes == 1;
  const auto place_of = [&](int node) {
    return anywhere ? 0 : nodes_.at(node).place[static_cast<std::size_t>(level) - 1];
  };
  const int wanted = shape.ask.fewest_nodes();
  std::optional<Reservation> best;
  int best_place = 0;
  std::vector<std::vector<Instant>> ready(1);  // by group of nodes
  for (const int n : shape.needs) {
    for (auto& in : ready) in.clear();
    for (int node = 0; node < nodes_.size(); ++node) {
      const Instant when = ready_for(n, node, job, pass.now);
      if (when == Instant::max()) continue;
      const auto place = ix(place_of(node));
      if (ready.size() <= place) ready.resize(place + 1);
      ready[place].push_back(when);
    }
    for (std::size_t place = 0; place < ready.size(); ++place) {
      auto& in = ready[place];
      if (static_cast<int>(in.size()) < wanted) continue;
      std::ranges::nth_element(in, in.begin() + (wanted - 1));
      const Instant when = in[ix(wanted - 1)];
      if (best && best->at <= when) continue;
      best = Reservation{.job = job.what.id, .at = when, .need = n, .nodes = {}, .index = {}};
      best_place = static_cast<int>(place);
    }
  }
  if (!best) return false;
  for (const bool free_now : {false, true})
    for (int node = 0; node < nodes_.size() && static_cast<int>(best->nodes.size()) < wanted; ++node)
      if ((nodes_.need(best->need).fits[ix(node)] != 0) == free_now && place_of(node) == best_place &&
          ready_for(best->need, node, job, pass.now) <= best->at)
        best->nodes.push_back({node, {}, {}});
  best->keep(nodes_);
  Promise promise{.job = job.what.id, .at = best->at, .nodes = {}, .queue_of_nodes = pass.pool.name};
  for (const auto& r : best->nodes) promise.nodes.push_back(r.node);
  pass.pool.promise = std::move(promise);
  pass.kept = std::move(best);
  return true;
}

// When the node has room for a part, and no reservation of others stands in the way.
Instant Planner::ready_for(int need, int node, const Waiting& job, Instant now) const {
  Instant when = nodes_.ready_at(need, node);
  if (when == Instant::max()) return when;
  when = std::max(when, now);
  for (bool moved = true; moved;) {
    moved = false;
    for (const Window& w : windows_)
      if (keeps_out(w, node, job, when)) when = w.until, moved = true;
  }
  return when;
}

// ---------------------------------------------------------------- a reservation

void Planner::Reservation::keep(const Nodes& all) {
  for (auto& r : nodes) {
    r.spare = all.room_at(r.node, at);
    const auto part = all.place(all.need(need), r.node, r.spare);
    TUTTI_ASSERT(part.has_value(), "a node that is ready has room");
    r.part = *part;
    for (std::size_t g = 0; g < kGroups; ++g)
      r.spare.gpus[g] = static_cast<std::int16_t>(r.spare.gpus[g] - r.part.gpus[g]);
    r.spare.cpus -= all.need(need).cpus;
    r.spare.memory_bytes -= all.need(need).memory_bytes;
    index.emplace(r.node, &r - nodes.data());
  }
}

const Planner::Reservation::OnNode* Planner::Reservation::spare_on(int node) const {
  const auto found = index.find(node);
  return found == index.end() ? nullptr : &nodes[static_cast<std::size_t>(found->second)];
}

bool Planner::Reservation::fits_beside(const OnNode& on, const Part& part, const Need& need) const {
  for (std::size_t g = 0; g < kGroups; ++g)
    if (part.gpus[g] > 0 && on.spare.gpus[g] < part.gpus[g]) return false;
  return on.spare.cpus >= need.cpus && on.spare.memory_bytes >= need.memory_bytes;
}

// Somebody has started; what may run on beyond the promised start lowers what is spare then.
void Planner::Reservation::taken(const Resources& r, const Parts& parts, Instant until) {
  if (until <= at) return;
  for (const Part& part : parts) {
    const auto found = index.find(part.node);
    if (found == index.end()) continue;
    OnNode& on = nodes[static_cast<std::size_t>(found->second)];
    for (std::size_t g = 0; g < kGroups; ++g)
      on.spare.gpus[g] = static_cast<std::int16_t>(on.spare.gpus[g] - part.gpus[g]);
    on.spare.cpus -= cpus_of(r);
    on.spare.memory_bytes -= r.memory_bytes;
  }
}

// Somebody may be asked to give way.
bool Planner::Pass::may_preempt(const Planner& planner) const {
  if (planner.scavengers_ > 0) return true;
  for (std::size_t q = 0; q < planner.queue_pool_.size(); ++q)
    if (planner.quota_.borrowed(static_cast<int>(q)) > 0) return true;
  return false;
}

}  // namespace tutti::planner
