#include "scheduler/core/plan_view.h"

#include <algorithm>

#include "scheduler/model/assert.h"

namespace tutti {

namespace {

// Its place among the node's groups; what is beyond the last that the planner counts joins it.
std::size_t slot_of(const Node& node, const GpuRow& gpu) {
  const auto at = std::ranges::find(node.groups, group_of(gpu));
  return std::min(static_cast<std::size_t>(at - node.groups.begin()), planner::kGroups - 1);
}

std::string closed_of(const Node& node) {
  if (node.row.state != NodeState::reachable || !node.linked) return "not_reachable";
  if (!takes_work(node.row.service)) return "not_schedulable";
  if (!node.stale.empty()) return "stale_ranks";
  return node.closing;
}

}  // namespace

GpuGroup group_of(const GpuRow& gpu) { return {gpu.model, gpu.memory_bytes, gpu.island}; }

void know_group(Node& node, const GpuRow& gpu) {
  if (std::ranges::find(node.groups, group_of(gpu)) == node.groups.end())
    node.groups.push_back(group_of(gpu));
}

planner::NodeDesc describe(const Cluster& cluster, const Node& node) {
  planner::NodeDesc desc;
  desc.id = node.row.id;
  desc.name = node.row.name;
  desc.queue = node.row.queue;
  desc.closed = closed_of(node);
  desc.cpus = node.row.cpus;
  desc.memory_bytes = node.row.memory_bytes;
  desc.labels = node.row.labels;
  desc.suspicion = node.suspicion;
  desc.probation = node.row.service == NodeService::probation;
  if (!node.row.driver.empty()) desc.labels.emplace("driver", node.row.driver);
  for (const auto& [model, memory, island] : node.groups)
    desc.devices.push_back({.model = model, .memory_bytes = memory, .island = island});
  const auto count = [&](GpuId id) {
    const Gpu& gpu = cluster.gpus.at(id);
    auto& group = desc.devices[static_cast<std::size_t>(std::ranges::find(node.groups, group_of(gpu.row)) -
                                                        node.groups.begin())];
    if (gpu.row.present) ++group.total;
    if (gpu.usable() || gpu.holder.job) ++group.usable;
  };
  std::ranges::for_each(node.gpus, count);
  std::ranges::for_each(node.absent, count);
  return desc;
}

NodePick pick_gpus(const Cluster& cluster, const Node& node, const planner::Part& part) {
  NodePick pick{node.row.id, {}};
  auto missing = part.gpus;
  for (const GpuId id : node.gpus) {
    const Gpu& gpu = cluster.gpus.at(id);
    if (!gpu.free()) continue;
    auto& wanted = missing[slot_of(node, gpu.row)];
    if (wanted == 0) continue;
    --wanted;
    pick.gpus.push_back(id);
  }
  TUTTI_ASSERT(std::ranges::all_of(missing, [](int n) { return n == 0; }), "the planner gives what is free");
  return pick;
}

planner::Part part_of(const Cluster& cluster, const Node& node, int index, const std::vector<GpuId>& gpus) {
  planner::Part part{.node = index, .gpus = {}};
  for (const GpuId id : gpus) ++part.gpus[slot_of(node, cluster.gpus.at(id).row)];
  return part;
}

}  // namespace tutti
