#include "scheduler/core/placement.h"

#include <algorithm>
#include <functional>
#include <map>
#include <tuple>

namespace tutti {
namespace {

bool contains_ignoring_case(std::string_view text, std::string_view part) {
  auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; };
  return std::search(text.begin(), text.end(), part.begin(), part.end(),
                     [&](char a, char b) { return lower(a) == lower(b); }) != text.end();
}

struct GpuCount {
  int matching = 0;
  int usable = 0;
  int free = 0;
};

GpuCount count_gpus(const Cluster& cluster, const Node& node, const Resources& r) {
  GpuCount n;
  for (GpuId id : node.gpus) {
    const Gpu& gpu = cluster.gpus.at(id);
    if (!gpu.row.present || !gpu_matches(gpu.row, r)) continue;
    ++n.matching;
    if (gpu.usable()) ++n.usable;
    if (gpu.free()) ++n.free;
  }
  return n;
}

// The smallest island that holds all, lowest index first; else islands in order of most free.
std::vector<GpuId> choose_gpus(const Cluster& cluster, const Node& node, const Resources& r) {
  const auto wanted = static_cast<std::size_t>(r.gpus);
  std::map<int, std::vector<GpuId>> islands;
  for (GpuId id : node.gpus) {
    const Gpu& gpu = cluster.gpus.at(id);
    if (gpu.free() && gpu_matches(gpu.row, r)) islands[gpu.row.island].push_back(id);
  }
  const std::vector<GpuId>* best = nullptr;
  for (const auto& [island, free] : islands)
    if (free.size() >= wanted && (best == nullptr || free.size() < best->size())) best = &free;
  if (best != nullptr) return {best->begin(), best->begin() + r.gpus};
  std::vector<std::pair<std::size_t, int>>
      by_size;  // (size, negated island): largest first, then lowest island
  for (const auto& [island, free] : islands) by_size.emplace_back(free.size(), -island);
  std::ranges::sort(by_size, std::greater<>());
  std::vector<GpuId> out;
  for (const auto& [size, negated] : by_size)
    for (GpuId id : islands.at(-negated))
      if (out.size() < wanted) out.push_back(id);
  return out;
}

}  // namespace

Shape Shape::of(const JobSpec& spec) {
  Shape s{spec.queue, spec.nodes, spec.resources, spec.exclude_nodes};
  std::ranges::sort(s.exclude_nodes);
  return s;
}

std::string Shape::key() const {
  std::string k = queue + '\0' + std::to_string(nodes) + 'x' + std::to_string(resources.gpus) + '/' +
                  (resources.gpu_kinds.empty() ? "" : resources.gpu_kinds.front().model) + '\0' +
                  std::to_string(resources.cpus) + '/' + std::to_string(resources.memory_bytes);
  for (const auto& n : exclude_nodes) k += '\0' + n;
  return k;
}

bool gpu_matches(const GpuRow& gpu, const Resources& r) {
  return r.gpu_kinds.empty() || contains_ignoring_case(gpu.model, r.gpu_kinds.front().model);
}

int cpus_needed(const Resources& r) { return r.cpus > 0 ? r.cpus : (r.gpus == 0 ? 1 : 0); }

int free_matching_gpus(const Cluster& cluster, const Node& node, const Resources& r) {
  return count_gpus(cluster, node, r).free;
}

Blocker blocker_of(const Cluster& cluster, const Node& node, const Shape& shape) {
  const Resources& r = shape.resources;
  if (node.row.queue != shape.queue) return Blocker::other_queue;
  if (std::ranges::binary_search(shape.exclude_nodes, node.row.name)) return Blocker::excluded;
  const GpuCount gpus = count_gpus(cluster, node, r);
  if (gpus.matching < r.gpus) return Blocker::too_few_gpus;
  if (cpus_needed(r) > node.row.cpus || r.memory_bytes > node.row.memory_bytes) return Blocker::too_small;
  if (node.row.state != NodeState::reachable || !node.linked) return Blocker::not_reachable;
  if (node.row.service != NodeService::schedulable) return Blocker::not_schedulable;
  if (!node.stale.empty()) return Blocker::stale_ranks;
  if (gpus.usable < r.gpus) return Blocker::gpus_out_of_order;
  if (gpus.free < r.gpus) return Blocker::gpus_busy;
  if (cpus_needed(r) > node.row.cpus - node.cpus_used) return Blocker::cpus_busy;
  if (r.memory_bytes > node.row.memory_bytes - node.memory_used) return Blocker::memory_busy;
  return Blocker::none;
}

bool fits_when_idle(const Cluster& cluster, const Shape& shape) {
  int nodes = 0;
  for (const auto& [id, node] : cluster.nodes) {
    const Blocker b = blocker_of(cluster, node, shape);
    if (b == Blocker::none || b == Blocker::gpus_busy || b == Blocker::cpus_busy || b == Blocker::memory_busy)
      ++nodes;
  }
  return nodes >= shape.nodes;
}

std::optional<std::vector<NodePick>> choose_nodes(const Cluster& cluster, const Shape& shape,
                                                  const std::vector<NodeId>& avoid) {
  struct Candidate {
    bool avoided;
    int free;
    const Node* node;
  };
  std::vector<Candidate> candidates;
  for (const auto& [id, node] : cluster.nodes)
    if (blocker_of(cluster, node, shape) == Blocker::none)
      candidates.push_back({std::ranges::find(avoid, id) != avoid.end(),
                            free_matching_gpus(cluster, node, shape.resources), &node});
  const auto wanted = static_cast<std::size_t>(shape.nodes);
  if (candidates.size() < wanted) return std::nullopt;
  std::ranges::sort(candidates, [](const Candidate& a, const Candidate& b) {
    return std::tuple(a.avoided, a.free, a.node->row.id) < std::tuple(b.avoided, b.free, b.node->row.id);
  });
  candidates.resize(wanted);
  std::vector<NodePick> picks;
  for (const auto& c : candidates)
    picks.push_back({c.node->row.id, choose_gpus(cluster, *c.node, shape.resources)});
  return picks;
}

}  // namespace tutti
