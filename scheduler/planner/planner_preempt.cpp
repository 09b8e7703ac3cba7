// Planner: who gives way to whom. By right of band and quota as soon as somebody does not fit; by the
// policy's levels at its refreshes. The victims keep their nodes until they have stopped (the caller tells),
// and what they leave is claimed for whom they left.
#include <algorithm>
#include <limits>

#include "scheduler/planner/planner_pass.h"

namespace tutti::planner {

namespace {
std::size_t ix(int i) { return static_cast<std::size_t>(i); }
constexpr double kGuardedKey = -std::numeric_limits<double>::infinity();
constexpr Duration kClaimLasts = std::chrono::minutes(15);
}  // namespace

// Which nodes would have room for a part if some of those that run left.
class Planner::RoomSearch {
 public:
  RoomSearch(const Nodes& nodes, const Need& need, const GangAsk& ask)
      : nodes_(nodes), need_(need), ask_(ask), rooms_(ix(nodes.size())), fits_(ix(nodes.size())) {
    for (int n = 0; n < nodes.size(); ++n) {
      if (need.could[ix(n)] == 0 || !nodes.at(n).desc->open()) continue;
      rooms_[ix(n)] = nodes.room_now(n, true);
      update(n);
    }
  }
  bool enough() const { return most_ >= ask_.fewest_nodes(); }
  void leave(const Running& job, const Resources& r, int sign) {
    for (const Part& part : job.parts) {
      if (need_.could[ix(part.node)] == 0 || !nodes_.at(part.node).desc->open()) continue;
      auto& room = rooms_[ix(part.node)];
      for (std::size_t g = 0; g < kGroups; ++g)
        room.gpus[g] = static_cast<std::int16_t>(room.gpus[g] + sign * part.gpus[g]);
      room.cpus += sign * cpus_of(r);
      room.memory_bytes += sign * r.memory_bytes;
      update(part.node);
    }
  }

 private:
  void update(int node) {
    const std::uint8_t fits = nodes_.place(need_, node, rooms_[ix(node)]) ? 1 : 0;
    if (fits == fits_[ix(node)]) return;
    fits_[ix(node)] = fits;
    const auto level = ask_.topology.require;
    const bool anywhere = level == TopologyLevel::any || ask_.nodes == 1;
    const auto place = ix(anywhere ? 0 : nodes_.at(node).place[static_cast<std::size_t>(level) - 1]);
    if (in_.size() <= place) in_.resize(place + 1);
    in_[place] += fits != 0 ? 1 : -1;
    if (fits != 0)
      most_ = std::max(most_, in_[place]);
    else if (in_[place] + 1 == most_)
      most_ = *std::ranges::max_element(in_);
  }

  const Nodes& nodes_;
  const Need& need_;
  const GangAsk& ask_;
  std::vector<Nodes::Room> rooms_;
  std::vector<std::uint8_t> fits_;
  std::vector<int> in_;  // fitting nodes, by group of nodes
  int most_ = 0;
};

// Who runs on the nodes of the pool and may be stopped at all: who would lose nothing he has a right to
// first.
std::vector<Planner::Victim> Planner::victims(const Pool& pool, Instant now) const {
  std::vector<Victim> out;
  for (const auto& [id, job] : running_) {
    const PlanJob& what = job.what;
    if (!what.preemptible || job.guarded || job.leaves_for ||
        pools_[ix(queue_pool_[ix(what.kind.queue)])].name != pool.name)
      continue;
    const double lost = what.saves_when_asked ? 0 : to_seconds(now - job.saved_at) * what.kind.gpus;
    out.push_back({.id = id,
                   .band = band_of(what.priority),
                   .borrowed = quota_.borrowed(what.kind.queue) > 0,
                   .key = job.key,
                   .lost = lost,
                   .gpus = what.kind.gpus,
                   .rank_at = job.rank_at,
                   .ran_enough = job.since < now && now - job.since >= policy_.least_run});
  }
  // Of equally bad ones who loses least, then the larger: whole nodes come free, and fewer are disturbed.
  std::ranges::sort(out, {}, [](const Victim& v) {
    return std::tuple(v.band != Band::scavenger, !v.borrowed, -v.key, v.lost, -v.gpus,
                      -v.rank_at.time_since_epoch(), -v.id.value);
  });
  return out;
}

std::optional<Right> Planner::right_over(const Waiting& job, const Victim& victim, double key) const {
  const Band band = band_of(job.what.priority);
  if (victim.band == Band::scavenger && band != Band::scavenger) return Right::band;
  const int from = running_.at(victim.id).what.kind.queue;
  if (victim.borrowed && from != job.what.kind.queue && victim.band >= band &&
      quota_.entitled(job.what.kind.queue, job.what.kind.gpus))
    return Right::quota;
  if (policy_.preempts && victim.ran_enough && victim.band >= band && victim.key > key) return Right::policy;
  return std::nullopt;
}

// The first victims in order, as many as are needed and no more. False: all of them would not do.
bool Planner::make_room(const Waiting& job, double key, std::vector<Victim>& candidates, Instant now,
                        Decisions& out) {
  const Shape& shape = nodes_.shape(job.what.shape);
  const auto resources_of = [&](const Running& r) -> const Resources& {
    return nodes_.shape(r.what.shape).ask.resources;
  };
  RoomSearch room(nodes_, nodes_.need(shape.needs.front()), shape.ask);
  std::vector<std::size_t> chosen;
  for (std::size_t v = 0; v < candidates.size() && !room.enough(); ++v) {
    const Running& victim = running_.at(candidates[v].id);
    if (!right_over(job, candidates[v], key)) continue;
    room.leave(victim, resources_of(victim), 1);
    chosen.push_back(v);
  }
  if (!room.enough()) return false;
  std::vector<std::size_t> needed;
  for (auto v = chosen.rbegin(); v != chosen.rend(); ++v) {  // whoever is not needed after all runs on
    const Running& victim = running_.at(candidates[*v].id);
    room.leave(victim, resources_of(victim), -1);
    if (room.enough()) continue;
    room.leave(victim, resources_of(victim), 1);
    needed.push_back(*v);
  }
  for (const std::size_t v : needed)
    nodes_.set_leaving(candidates[v].id, running_.at(candidates[v].id).parts, true);
  const auto avoided = avoided_.find(job.what.id);
  Pass pass{.pool = pool_of(job.what.kind.queue), .now = now, .out = out};
  PassFilter filter;
  filter.planner = this;
  filter.pass = &pass;
  filter.job = &job;
  filter.end = after(now, left_of(job.what, job.attained));
  Parts parts =
      nodes_.choose(job.what.shape, avoided == avoided_.end() ? std::vector<int>{} : avoided->second,
                    windows_.empty() ? nullptr : &filter, true);
  if (parts.empty()) {
    for (const std::size_t v : needed)
      nodes_.set_leaving(candidates[v].id, running_.at(candidates[v].id).parts, false);
    return false;
  }
  for (const std::size_t v : needed) {  // from the last to the first
    const Victim& victim = candidates[v];
    running_.at(victim.id).leaves_for = job.what.id;
    out.preempted.push_back({victim.id, job.what.id, *right_over(job, victim, key)});
    candidates.erase(candidates.begin() + static_cast<std::ptrdiff_t>(v));
  }
  nodes_.claim(shape.ask.resources, parts, 1);
  claims_[job.what.id] = {std::move(parts), now + kClaimLasts};
  return true;
}

// By right of band or quota, at once.
bool Planner::make_way(Pool& pool, const Waiting& job, Instant now, Decisions& out) {
  if (band_of(job.what.priority) == Band::scavenger &&
      !quota_.entitled(job.what.kind.queue, job.what.kind.gpus))
    return false;
  auto candidates = victims(pool, now);
  const double never = std::numeric_limits<double>::infinity();
  std::erase_if(candidates, [&](const Victim& v) { return !right_over(job, v, never).has_value(); });
  return !candidates.empty() && make_room(job, never, candidates, now, out);
}

// Every waiting job in order, those under the guard before all, may stop those of a strictly worse key.
void Planner::preempt_for_better(Pool& pool, Instant now, Decisions& out) {
  auto candidates = victims(pool, now);
  int free = 0;
  for (int n = 0; n < nodes_.size(); ++n)
    if (nodes_.at(n).desc->queue == pool.name) free += nodes_.at(n).free_gpus();
  struct Failed {
    int need, nodes;
    double key;
  };
  std::vector<Failed> failed;
  const auto try_for = [&](JobId id, double key) {
    const Waiting& job = *pool.backlog->find(id);
    if (claims_.contains(id)) return true;
    const Shape& shape = nodes_.shape(job.what.shape);
    const int need = shape.needs.front(), nodes = shape.ask.fewest_nodes();
    const bool hopeless = std::ranges::any_of(
        failed, [&](const Failed& f) { return f.need == need && nodes >= f.nodes && key >= f.key; });
    long possible = free;
    for (const Victim& v : candidates)
      if (v.key > key) possible += v.gpus;
    if (!hopeless && possible >= static_cast<long>(nodes) * shape.ask.resources.gpus &&
        make_room(job, key, candidates, now, out))
      return true;
    if (!hopeless) failed.push_back({need, nodes, key});
    return false;
  };
  for (const JobId id : guarded(pool, now))
    if (guard_allows(pool.backlog->find(id)->what) && try_for(id, kGuardedKey)) guarded_claims_.insert(id);
  Pass pass{.pool = pool, .now = now, .out = out, .makes_room = true};
  pass.blocked.resize(ix(nodes_.shape_count()));
  while (const auto next = best(pass)) {
    const Bucket& bucket = pool.backlog->bucket_of(*next);
    // Who was ended by a fault goes before everybody of its band.
    if (!try_for(*next, bucket.front ? kGuardedKey : bucket.base))
      pass.blocked[ix(bucket.cell->shape)] |= Pass::kAlways;
  }
}

}  // namespace tutti::planner
