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
  RoomSearch(const Nodes& nodes, const Need& need, const GangAsk& ask, const NodeFilter* filter)
      : nodes_(nodes),
        need_(need),
        ask_(ask),
        rooms_(ix(nodes.size())),
        counts_(ix(nodes.size())),
        fits_(ix(nodes.size())) {
    for (int n = 0; n < nodes.size(); ++n) {
      counts_[ix(n)] = need.could[ix(n)] != 0 && nodes.at(n).desc->open() &&
                       (filter == nullptr || filter->preference(n, need) >= 0);
      if (!counts_[ix(n)]) continue;
      rooms_[ix(n)] = nodes.room_now(n, true);
      update(n);
    }
  }
  bool enough() const { return most_ >= ask_.fewest_nodes(); }
  void leave(const Running& job, const Resources& r, int sign) {
    for (const Part& part : job.parts) {
      if (!counts_[ix(part.node)]) continue;
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
  std::vector<bool> counts_;  // could be used at all
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
    const double lost = what.saves_when_asked ? 0 : to_seconds(now - job.saved_at) * job.gpus;
    out.push_back({.id = id,
                   .band = band_of(what.priority),
                   .borrowed = quota_.borrowed(what.kind.queue) > 0,
                   .key = job.key,
                   .lost = lost,
                   .gpus = job.gpus,
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
      quota_.entitled(job.what.kind.queue, least_gpus(job.what)))
    return Right::quota;
  if (policy_.preempts && victim.ran_enough && victim.band >= band && victim.key > key) return Right::policy;
  return std::nullopt;
}

// For the first kind of GPU for which it can be done.
bool Planner::make_room(const Pass& pass, const Waiting& job, double key, std::vector<Victim>& candidates) {
  return std::ranges::any_of(nodes_.shape(job.what.shape).needs,
                             [&](int need) { return make_room_for(need, pass, job, key, candidates); });
}

// The first victims in order, as many as are needed and no more. False: all of them would not do. Nodes that
// others have been promised, or that are reserved for others, are no help.
bool Planner::make_room_for(int need, const Pass& pass, const Waiting& job, double key,
                            std::vector<Victim>& candidates) {
  const Shape& shape = nodes_.shape(job.what.shape);
  const auto resources_of = [&](const Running& r) -> const Resources& {
    return nodes_.shape(r.what.shape).ask.resources;
  };
  PassFilter filter;
  filter.planner = this;
  filter.pass = &pass;
  filter.job = &job;
  filter.end = after(pass.now, left_of(job.what, job.attained));
  const NodeFilter* chosen_by = windows_.empty() && !pass.kept ? nullptr : &filter;
  RoomSearch room(nodes_, nodes_.need(need), shape.ask, chosen_by);
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
  Parts parts = nodes_.choose(
      job.what.shape, avoided == avoided_.end() ? std::vector<int>{} : avoided->second, chosen_by, true);
  if (parts.empty()) {
    for (const std::size_t v : needed)
      nodes_.set_leaving(candidates[v].id, running_.at(candidates[v].id).parts, false);
    return false;
  }
  for (const std::size_t v : needed) {  // from the last to the first
    const Victim& victim = candidates[v];
    running_.at(victim.id).leaves_for = job.what.id;
    pass.out.preempted.push_back({victim.id, job.what.id, *right_over(job, victim, key)});
    candidates.erase(candidates.begin() + static_cast<std::ptrdiff_t>(v));
  }
  nodes_.claim(shape.ask.resources, parts, 1);
  claims_[job.what.id] = {std::move(parts), pass.now + kClaimLasts};
  return true;
}

// By right of band or quota, at once.
bool Planner::make_way(const Pass& pass, const Waiting& job) {
  if (band_of(job.what.priority) == Band::scavenger &&
      !quota_.entitled(job.what.kind.queue, least_gpus(job.what)))
    return false;
  auto candidates = victims(pass.pool, pass.now);
  const double never = std::numeric_limits<double>::infinity();
  std::erase_if(candidates, [&](const Victim& v) { return !right_over(job, v, never).has_value(); });
  return !candidates.empty() && make_room(pass, job, never, candidates);
}

// Every waiting job in order, those under the guard first, may stop those of a strictly worse key.
void Planner::preempt_for_better(Pass& pass) {
  Pool& pool = pass.pool;
  auto candidates = victims(pool, pass.now);
  int free = 0;
  for (int n = 0; n < nodes_.size(); ++n)
    if (nodes_.at(n).desc->queue == pool.name) free += nodes_.at(n).free_gpus();
  struct Failed {
    std::vector<int> needs;
    int nodes;
    double key;
  };
  std::vector<Failed> failed;
  pass.makes_room = true;
  pass.failed.clear();
  pass.blocked.assign(ix(nodes_.shape_count()), 0);
  const auto try_for = [&](JobId id, double key) {
    const Waiting job = *pool.backlog->find(id);
    if (claims_.contains(id)) return true;
    const Shape& shape = nodes_.shape(job.what.shape);
    const int nodes = shape.ask.fewest_nodes();
    const bool hopeless = std::ranges::any_of(
        failed, [&](const Failed& f) { return f.needs == shape.needs && nodes >= f.nodes && key >= f.key; });
    long possible = free;
    for (const Victim& v : candidates)
      if (v.key > key) possible += v.gpus;
    if (!hopeless && possible >= static_cast<long>(nodes) * shape.ask.resources.gpus &&
        make_room(pass, job, key, candidates))
      return true;
    if (!hopeless) failed.push_back({shape.needs, nodes, key});
    return false;
  };
  in_order(pass, [&](JobId id, bool guard) {
    const bool waits = pool.backlog->find(id)->what.preempts_from > pass.now;
    if (guard) {
      if (!waits && try_for(id, kGuardedKey)) guarded_claims_.insert(id);
      return true;
    }
    const Bucket& bucket = pool.backlog->bucket_of(id);
    if (waits) {
      pass.failed.insert(&bucket);
      return true;
    }
    // Who was ended by a fault goes before everybody of its band.
    if (!try_for(id, bucket.front ? kGuardedKey : bucket.base))
      pass.blocked[ix(bucket.cell->shape)] |= Pass::kAlways;
    return true;
  });
}

}  // namespace tutti::planner
