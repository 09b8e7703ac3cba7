#include "scheduler/core/plan_view.h"

#include <algorithm>
#include <tuple>

#include "scheduler/model/assert.h"

namespace tutti {

namespace {

using GroupKey = std::tuple<std::string, std::int64_t, int>;

GroupKey group_of(const GpuRow& gpu) { return {gpu.model, gpu.memory_bytes, gpu.island}; }

// Groups of a node's devices, in order; what is beyond the last that the planner counts joins it.
std::vector<GroupKey> groups_of(const Cluster& cluster, const Node& node) {
  std::vector<GroupKey> groups;
  for (const GpuId id : node.gpus) {
    const GpuRow& gpu = cluster.gpus.at(id).row;
    if (gpu.present) groups.push_back(group_of(gpu));
  }
  std::ranges::sort(groups);
  const auto [first, last] = std::ranges::unique(groups);
  groups.erase(first, last);
  return groups;
}

std::size_t slot_of(const std::vector<GroupKey>& groups, const GpuRow& gpu) {
  const auto at = std::ranges::find(groups, group_of(gpu));
  return std::min(static_cast<std::size_t>(at - groups.begin()), planner::kGroups - 1);
}

std::string closed_of(const Node& node) {
  if (node.row.state != NodeState::reachable || !node.linked) return "not_reachable";
  if (node.row.service != NodeService::schedulable) return "not_schedulable";
  if (!node.stale.empty()) return "stale_ranks";
  return "";
}

}  // namespace

planner::NodeDesc describe(const Cluster& cluster, const Node& node) {
  planner::NodeDesc desc;
  desc.id = node.row.id;
  desc.name = node.row.name;
  desc.queue = node.row.queue;
  desc.closed = closed_of(node);
  desc.cpus = node.row.cpus;
  desc.memory_bytes = node.row.memory_bytes;
  desc.labels = node.row.labels;
  if (!node.row.driver.empty()) desc.labels.emplace("driver", node.row.driver);
  const auto groups = groups_of(cluster, node);
  for (const auto& [model, memory, island] : groups)
    desc.devices.push_back({.model = model, .memory_bytes = memory, .island = island});
  for (const GpuId id : node.gpus) {
    const Gpu& gpu = cluster.gpus.at(id);
    if (!gpu.row.present) continue;
    auto& group =
        desc.devices[static_cast<std::size_t>(std::ranges::find(groups, group_of(gpu.row)) - groups.begin())];
    ++group.total;
    if (gpu.usable() || gpu.holder.job) ++group.usable;
  }
  return desc;
}

NodePick pick_gpus(const Cluster& cluster, const Node& node, const planner::Part& part) {
  NodePick pick{node.row.id, {}};
  const auto groups = groups_of(cluster, node);
  auto missing = part.gpus;
  for (const GpuId id : node.gpus) {
    const Gpu& gpu = cluster.gpus.at(id);
    if (!gpu.free()) continue;
    auto& wanted = missing[slot_of(groups, gpu.row)];
    if (wanted == 0) continue;
    --wanted;
    pick.gpus.push_back(id);
  }
  TUTTI_ASSERT(std::ranges::all_of(missing, [](int n) { return n == 0; }), "the planner gives what is free");
  return pick;
}

planner::Part part_of(const Cluster& cluster, const Node& node, int index, const std::vector<GpuId>& gpus) {
  planner::Part part{.node = index, .gpus = {}};
  const auto groups = groups_of(cluster, node);
  for (const GpuId id : gpus) ++part.gpus[slot_of(groups, cluster.gpus.at(id).row)];
  return part;
}

}  // namespace tutti
