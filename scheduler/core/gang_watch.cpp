#include "scheduler/core/gang_watch.h"

#include <algorithm>
#include <utility>

namespace tutti {
namespace {

constexpr Duration kTryEvery = std::chrono::milliseconds(500);     // while a rank makes no step
constexpr Duration kRoundEvery = std::chrono::milliseconds(4500);  // reports come each 5 s

// Strongest first; 0: says nothing against it.
int suspicion(const std::string& state) {
  if (state == "T" || state == "t") return 3;
  if (state == "gone" || state == "Z") return 2;
  return state == "D" ? 1 : 0;
}

bool waits_in_kernel(const protocol::RankPulse& rank) { return rank.state == "D"; }

std::string said_of(const protocol::RankPulse& rank) {
  std::string why = rank.state == "gone" || rank.state == "Z" ? "has no living process"
                    : rank.state == "D"                       ? "waits in the kernel (D)"
                                                              : "is stopped (T)";
  if (!rank.waits_in.empty()) why += ", in " + rank.waits_in;
  return why;
}

}  // namespace

void GangWatch::on_report(NodeId node, const protocol::RankReport& report, Mono now) {
  forget(node);
  nodes_[node] = {report, now, true};
  ++fresh_;
  if (report.tells_progress && !report.stalled && !report.ranks.empty()) moving_.insert(node);
}

void GangWatch::forget(NodeId node) {
  const auto known = nodes_.find(node);
  if (known == nodes_.end()) return;
  if (known->second.fresh) --fresh_;
  nodes_.erase(known);
  moving_.erase(node);
}

bool GangWatch::may_hold_round(Mono now) const {
  return fresh_ == nodes_.size() && (!last_round_ || now - *last_round_ >= kRoundEvery) &&
         (!last_try_ || now - *last_try_ >= kTryEvery);
}

std::optional<GangWatch::Hang> GangWatch::hang(const std::vector<NodeId>& members, Mono now) const {
  Hang hang;
  if (moves()) return std::nullopt;
  for (const NodeId id : members) {
    const auto part = nodes_.find(id);
    if (part == nodes_.end()) return std::nullopt;
    hang.by_progress = hang.by_progress || part->second.report.tells_progress;
  }
  hang.captured = true;
  std::optional<Duration> least;
  std::size_t silent = 0, in_kernel = 0, nodes_in_kernel = 0;
  for (const NodeId id : members) {
    const auto& [report, at, fresh] = nodes_.at(id);
    if (std::ranges::any_of(report.ranks, waits_in_kernel)) ++nodes_in_kernel;
    if (report.ranks.empty()) continue;  // its ranks are done
    hang.ranks += report.ranks.size();
    for (const auto& rank : report.ranks) {
      if (rank.step < 0) continue;
      hang.lowest_step = hang.lowest_step < 0 ? rank.step : std::min(hang.lowest_step, rank.step);
      hang.highest_step = std::max(hang.highest_step, rank.step);
    }
    if (hang.by_progress && !report.tells_progress) continue;
    if (!report.stalled) return std::nullopt;
    hang.captured = hang.captured && report.captured;
    hang.limit = std::max(hang.limit, Duration(report.limit_us));
    for (const auto& rank : report.ranks) {
      if (hang.by_progress && rank.step < 0) continue;
      ++silent;
      if (waits_in_kernel(rank)) ++in_kernel;
      const Duration quiet = Duration(std::clamp<std::int64_t>(rank.silent_us, 0, 1LL << 50)) + (now - at);
      least = least ? std::min(*least, quiet) : quiet;
    }
  }
  if (!least) return std::nullopt;
  hang.silent = *least;
  hang.in_kernel = in_kernel == silent || nodes_in_kernel > 1;
  hang.suspect = suspect(members);
  return hang;
}

std::optional<GangWatch::Suspect> GangWatch::suspect(const std::vector<NodeId>& members) const {
  struct One {
    NodeId node;
    const protocol::RankPulse* rank;
  };
  std::vector<One> all;
  for (const NodeId id : members)
    for (const auto& rank : nodes_.at(id).report.ranks) all.push_back({id, &rank});
  std::ranges::sort(all, {}, [](const One& o) { return o.rank->rank; });
  const One* worst = nullptr;
  for (const auto& one : all)
    if (const int s = suspicion(one.rank->state);
        s > 0 && (worst == nullptr || s > suspicion(worst->rank->state)))
      worst = &one;
  if (worst != nullptr) return Suspect{worst->rank->rank, worst->node, said_of(*worst->rank)};

  std::erase_if(all, [](const One& o) { return o.rank->step < 0; });
  if (all.size() < 2) return std::nullopt;
  const auto [low, high] = std::ranges::minmax_element(all, {}, [](const One& o) { return o.rank->step; });
  if (low->rank->step < high->rank->step) {
    const auto last = low->rank->step;
    const bool one_node =
        std::ranges::all_of(all, [&](const One& o) { return o.rank->step > last || o.node == low->node; });
    if (one_node)
      return Suspect{
          low->rank->rank, low->node,
          "is behind, at step " + std::to_string(last) + " of " + std::to_string(high->rank->step)};
    return std::nullopt;  // several nodes are behind: the fault lies between them
  }
  // All wait for the same step. One that came to it without having done its work of the step before.
  std::vector<std::int64_t> own;
  for (const auto& o : all)
    if (o.rank->compute_us > 0) own.push_back(o.rank->compute_us);
  if (own.size() != all.size()) return std::nullopt;
  std::ranges::sort(own);
  const auto least = std::ranges::min_element(all, {}, [](const One& o) { return o.rank->compute_us; });
  if (own.size() < 3 || own[0] * 2 > own[own.size() / 2] || own[1] * 2 <= own[own.size() / 2])
    return std::nullopt;
  return Suspect{least->rank->rank, least->node, "did less than half of the others' work in its last step"};
}

std::vector<GangWatch::Change> GangWatch::look_for_stragglers(const std::vector<NodeId>& members, Mono now) {
  if (last_round_ && now - *last_round_ < kRoundEvery) return {};
  last_try_ = now;
  std::map<std::int32_t, double> own, walls;
  std::map<std::int32_t, std::int64_t> steps;
  std::map<std::int32_t, NodeId> where;
  for (const NodeId id : members) {
    const auto part = nodes_.find(id);
    if (part == nodes_.end() || !part->second.fresh) return {};
    for (const auto& rank : part->second.report.ranks) {
      if (rank.step < 0) continue;  // it tells nothing: of torchrun agents and launchers
      const auto before = steps_.find(rank.rank);
      if (before != steps_.end() && rank.step <= before->second) return {};
      steps[rank.rank] = rank.step;
      where[rank.rank] = id;
      if (rank.compute_us > 0) own[rank.rank] = static_cast<double>(rank.compute_us);
      if (rank.step_us > 0) walls[rank.rank] = static_cast<double>(rank.step_us);
    }
  }
  // In a collective job the wall time of a step is the same for all: only their own time tells them apart.
  const auto& times = own.size() == steps.size() ? own : walls;
  if (steps.size() < 2 || times.size() != steps.size()) return {};
  for (const NodeId id : members)
    if (std::exchange(nodes_.at(id).fresh, false)) --fresh_;
  last_round_ = now;
  steps_ = std::move(steps);
  std::vector<double> sorted;
  for (const auto& [rank, time] : times) sorted.push_back(time);
  std::ranges::sort(sorted);
  std::vector<Change> changes;
  for (const auto& c : slow_.on_round(times))
    changes.push_back({c.rank, where.at(c.rank), c.slow, c.times, sorted[(sorted.size() - 1) / 2] / 1e6});
  return changes;
}

std::map<std::int32_t, GangWatch::Straggler> GangWatch::stragglers() const {
  std::map<std::int32_t, Straggler> out;
  for (const auto& [id, part] : nodes_)
    for (const auto& rank : part.report.ranks)
      if (const auto slow = slow_.slow().find(rank.rank); slow != slow_.slow().end())
        out[rank.rank] = {id, slow->second};
  return out;
}

}  // namespace tutti
