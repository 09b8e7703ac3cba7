#include "scheduler/planner/planner.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "scheduler/model/assert.h"

namespace tutti::planner {

namespace {

constexpr double kGuardedKey = -std::numeric_limits<double>::infinity();
constexpr Duration kWaitingKeyLasts = std::chrono::minutes(10);
constexpr double kRunningKeyLasts = 1.1;  // until so much more service
// Least attained service in levels (Tiresias, NSDI '19, has two): GPU^0.5-seconds.
constexpr std::array kLevels = {600., 1800., 7200., 28'800., 115'200., 460'800., 1'843'200.};

double weight(const PlanJob& job) { return std::sqrt(static_cast<double>(std::max(1, job.kind.gpus))); }

}  // namespace

Planner::Planner(Policy policy, Capacity capacity)
    : policy_(policy), capacity_(std::move(capacity)), share_(policy.half_life) {}

// ---------------------------------------------------------------- events

bool Planner::on_submitted(const PlanJob& job, Instant now) {
  Job fresh;
  fresh.what = job;
  fresh.shape = shape_of(job.kind.gpus, capacity_.node_size());
  if (fresh.shape.nodes > capacity_.nodes()) return false;
  fresh.rank_at = job.submitted;
  enqueue(std::move(fresh), now);
  return true;
}

void Planner::on_ended(JobId id, Instant now) {
  auto node = running_.extract(id);
  TUTTI_ASSERT(!node.empty(), "only a running job ends");
  Job& job = node.mapped();
  capacity_.release(job.shape, job.nodes);
  ends_.erase({latest_end(job), id});
  if (job.guarded) guarded_gpus_ -= job.what.kind.gpus;
  account(job, now);
  history_.on_ended(job.what.kind, job.attained + (now - job.since), job.what.limit);
}

Decisions Planner::plan(Instant now) {
  Decisions out;
  const bool due = !refreshed_at_ || now - *refreshed_at_ >= policy_.refresh;
  if (due) refresh(now);
  fill(now, out);
  if (due && policy_.preempts && !waiting_.empty()) preempt_for_better(now, out);
  return out;
}

// ---------------------------------------------------------------- order

double Planner::mixed_points(const Job& job, Instant now) const {
  const PlanJob& what = job.what;
  const double usual = to_seconds(what.limit) * history_.share_of_limit(what.kind);
  const auto mean = history_.mean(what.kind, what.limit);
  const double expected = mean ? std::sqrt(to_seconds(*mean) * usual) : usual;
  const double size = std::clamp(std::log2(std::max(1e-9, expected * weight(what) / 60)) / 16, 0.0, 1.0);
  const double age = std::min(to_seconds(now - job.since) / to_seconds(policy_.age_limit), 1.0);
  return policy_.age_points * age + policy_.share_points * share_.factor(what.kind.user) +
         policy_.short_points * (1 - size);
}

double Planner::key_of(const Job& job, Instant now) const {
  const Duration attained = job.attained + (job.nodes.empty() ? Duration::zero() : now - job.since);
  switch (policy_.order) {
    case Order::arrival: return 0;
    case Order::mixed: return -mixed_points(job, now);
    case Order::attained: {
      const double service = to_seconds(attained) * weight(job.what);
      return static_cast<double>(std::ranges::count_if(kLevels, [&](double l) { return l <= service; }));
    }
    case Order::gittins: {
      const double index = history_.gittins_index(job.what.kind, attained, job.what.limit);
      return std::floor(2 * std::log2(weight(job.what) / index));
    }
    case Order::remaining: return to_seconds(job.what.known_run - attained);
    case Order::remaining_area: return to_seconds(job.what.known_run - attained) * job.what.kind.gpus;
  }
  return 0;
}

bool Planner::key_is_old(const Job& job, Instant now) const {
  switch (policy_.order) {
    case Order::arrival: return false;
    case Order::mixed: return job.nodes.empty();
    case Order::attained:
    case Order::remaining:
    case Order::remaining_area: return !job.nodes.empty();
    case Order::gittins: {
      if (job.nodes.empty()) return now - job.keyed_at >= kWaitingKeyLasts;
      const double attained = to_seconds(job.attained + (now - job.since));
      return attained >= to_seconds(job.keyed_attained) * kRunningKeyLasts;
    }
  }
  return false;
}

void Planner::refresh(Instant now) {
  refreshed_at_ = now;
  for (auto& [id, job] : running_) {
    if (policy_.order == Order::mixed) account(job, now);
    if (!key_is_old(job, now)) continue;
    job.key = key_of(job, now);
    job.keyed_attained = job.attained + (now - job.since);
  }
  for (auto& [id, job] : waiting_) {
    if (!key_is_old(job, now)) continue;
    const double key = key_of(job, now);
    job.keyed_at = now;
    if (key == job.key) continue;
    auto place = order_.extract(place_of(job));
    job.key = key;
    place.value() = place_of(job);
    order_.insert(std::move(place));
  }
}

// Who has waited too long without a break, longest first. Without preemption only the first counts: it gets
// the reservation.
std::vector<JobId> Planner::guarded(Instant now) const {
  std::vector<JobId> out;
  for (const auto& [since, id] : waits_) {
    if (now - since < policy_.guard_after) break;
    out.push_back(id);
    if (!policy_.preempts) break;
  }
  return out;
}

// One gang larger than the guard's share of all GPUs may still have its turn.
bool Planner::guard_allows(const Job& job) const {
  return guarded_gpus_ == 0 || guarded_gpus_ + job.what.kind.gpus <= policy_.guard_share * capacity_.total();
}

// ---------------------------------------------------------------- waiting and running

void Planner::enqueue(Job job, Instant now) {
  job.since = now;
  job.nodes.clear();
  job.guarded = false;
  job.key = key_of(job, now);
  job.keyed_at = now;
  order_.insert(place_of(job));
  waits_.insert({job.since, job.what.id});
  const JobId id = job.what.id;
  const bool fresh = waiting_.emplace(id, std::move(job)).second;
  TUTTI_ASSERT(fresh, "a job waits once");
}

Planner::Job Planner::dequeue(JobId id) {
  auto node = waiting_.extract(id);
  TUTTI_ASSERT(!node.empty(), "only a waiting job starts");
  order_.erase(place_of(node.mapped()));
  waits_.erase({node.mapped().since, id});
  return std::move(node.mapped());
}

void Planner::start(JobId id, std::vector<int> nodes, bool guarded, Instant now, Decisions& out) {
  Job job = dequeue(id);
  if (job.attained == Duration::zero()) job.rank_at = now;
  job.since = job.accounted_until = now;
  job.nodes = nodes;
  job.guarded = guarded;
  job.keyed_attained = job.attained;
  if (guarded) guarded_gpus_ += job.what.kind.gpus;
  ends_.insert({latest_end(job), id});
  running_.emplace(id, std::move(job));
  out.started.push_back({id, std::move(nodes)});
}

void Planner::account(Job& job, Instant now) {
  share_.add(job.what.kind.user, to_seconds(now - job.accounted_until) * job.what.kind.gpus, now);
  job.accounted_until = now;
}

// Its GPUs have been released already.
void Planner::preempt(JobId id, Instant now, Decisions& out) {
  auto node = running_.extract(id);
  Job job = std::move(node.mapped());
  account(job, now);
  ends_.erase({latest_end(job), id});
  job.attained += now - job.since;
  enqueue(std::move(job), now);
  out.preempted.push_back(id);
}

// ---------------------------------------------------------------- what starts

Reservation Planner::reserve(const Job& job, Instant now) const {
  std::vector<Occupied> running;
  running.reserve(ends_.size());
  for (const auto& [until, id] : ends_) {
    const Job& r = running_.at(id);
    running.push_back({std::max(until, now), r.shape, &r.nodes});
  }
  auto found = compute_reservation(capacity_, job.shape, running);
  TUTTI_ASSERT(found.has_value(), "what can never run was refused when it came");
  return std::move(*found);
}

void Planner::fill(Instant now, Decisions& out) {
  std::optional<Reservation> kept;
  const auto consider = [&](JobId id, bool guard) {
    const Job& job = waiting_.at(id);
    std::optional<std::vector<int>> nodes;
    if (!kept)
      nodes = capacity_.take(job.shape);
    else if (now + (job.what.limit - job.attained) <= kept->at)
      nodes = capacity_.take_before(job.shape, kept->spare);
    else
      nodes = capacity_.take_within(job.shape, kept->spare);
    if (nodes) return start(id, std::move(*nodes), guard && policy_.preempts, now, out);
    if (!policy_.reserves || kept) return;
    kept = reserve(job, now);
    out.promised = Promise{id, kept->at};
  };
  for (const JobId id : guarded(now))
    if (guard_allows(waiting_.at(id))) consider(id, true);
  for (auto place = order_.begin(); place != order_.end() && capacity_.free_total() > 0;) {
    const JobId id = std::get<JobId>(*place++);
    const Job& job = waiting_.at(id);
    if (capacity_.fits(job.shape) || (policy_.reserves && !kept))
      consider(id, false);
    else if (policy_.strict)
      return;
  }
}

// ---------------------------------------------------------------- preemption

// Who may be preempted now, the worst first. Of equally bad ones the larger first: whole nodes come free, and
// fewer are disturbed.
std::vector<Planner::Victim> Planner::find_victims(Instant now) const {
  std::vector<Victim> victims;
  for (const auto& [id, job] : running_)
    if (!job.guarded && job.since < now && now - job.since >= policy_.least_run)
      victims.push_back({id, job.key, job.rank_at, job.what.kind.gpus});
  std::ranges::sort(victims, [](const Victim& a, const Victim& b) {
    return std::tuple(-a.key, -a.gpus, b.rank_at, a.id) < std::tuple(-b.key, -b.gpus, a.rank_at, b.id);
  });
  return victims;
}

// The worst victims of a strictly worse key, as many as the shape needs: their GPUs are free afterwards.
// nullopt: all of them would not do, and nothing has changed.
std::optional<std::vector<std::size_t>> Planner::make_room(const GangShape& shape, double key,
                                                           const std::vector<Victim>& victims) {
  const auto eligible = static_cast<std::size_t>(
      std::ranges::find_if(victims, [&](const Victim& v) { return v.key <= key; }) - victims.begin());
  long possible = capacity_.free_total();
  for (std::size_t v = 0; v < eligible; ++v) possible += victims[v].gpus;
  if (possible < static_cast<long>(shape.nodes) * shape.gpus_per_node) return std::nullopt;
  std::size_t released = 0;
  for (; released < eligible && !capacity_.fits(shape); ++released) {
    const Job& running = running_.at(victims[released].id);
    capacity_.release(running.shape, running.nodes);
  }
  const bool fits = capacity_.fits(shape);
  std::vector<std::size_t> needed;
  while (released-- > 0) {  // whoever is not needed after all runs on
    const Job& running = running_.at(victims[released].id);
    capacity_.retake(running.shape, running.nodes);
    if (!fits || capacity_.fits(shape)) continue;
    capacity_.release(running.shape, running.nodes);
    needed.push_back(released);
  }
  if (!fits) return std::nullopt;
  return needed;  // from the last to the first
}

// Every waiting job in order, those under the guard before all.
void Planner::preempt_for_better(Instant now, Decisions& out) {
  std::vector<Victim> victims = find_victims(now);
  std::map<std::pair<int, int>, double> failed;  // shape → the best key for which it has failed

  const auto try_for = [&](JobId id, double key, bool guard) {
    const GangShape shape = waiting_.at(id).shape;
    if (!capacity_.fits(shape)) {
      const auto known = failed.find({shape.nodes, shape.gpus_per_node});
      if (known != failed.end() && key >= known->second) return;
      const auto needed = make_room(shape, key, victims);
      if (!needed) {
        failed[{shape.nodes, shape.gpus_per_node}] = key;
        return;
      }
      for (const std::size_t v : *needed) {
        preempt(victims[v].id, now, out);
        victims.erase(victims.begin() + static_cast<std::ptrdiff_t>(v));
      }
    }
    start(id, *capacity_.take(shape), guard, now, out);
  };

  std::vector<JobId> in_order;
  in_order.reserve(order_.size());
  for (const Place& place : order_) in_order.push_back(std::get<JobId>(place));
  for (const JobId id : guarded(now))
    if (guard_allows(waiting_.at(id))) try_for(id, kGuardedKey, true);
  for (const JobId id : in_order)
    if (const auto job = waiting_.find(id); job != waiting_.end()) try_for(id, job->second.key, false);
}

}  // namespace tutti::planner
