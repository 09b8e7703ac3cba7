// Placement, for any cluster and any gang: whole or absent, and never more than there is.
#include <gtest/gtest.h>

#include <rapidcheck/gtest.h>

#include <algorithm>
#include <set>

#include "scheduler/core/placement.h"

namespace tutti {
namespace {

using rc::gen::inRange;

const std::vector<std::string> kModels = {"NVIDIA H100 80GB HBM3", "NVIDIA A100-SXM4-80GB"};

bool dice(int percent) { return *inRange(0, 100) < percent; }

Cluster any_cluster() {
  Cluster cluster;
  GpuId last_gpu;
  const int nodes = *inRange(0, 7);
  for (int i = 1; i <= nodes; ++i) {
    Node node;
    node.row.id = NodeId(i);
    node.row.name = "n" + std::to_string(i);
    node.row.queue = dice(85) ? "default" : "other";
    node.row.state = dice(85) ? NodeState::reachable : NodeState::unreachable;
    node.row.service = dice(85) ? NodeService::schedulable : NodeService::draining;
    node.linked = dice(90);
    if (dice(5)) node.stale.insert({JobId(99), Epoch(1)});
    node.row.cpus = *inRange(1, 65);
    node.cpus_used = *inRange(0, node.row.cpus + 1);
    node.row.memory_bytes = *inRange<std::int64_t>(0, 1000);
    node.memory_used = *inRange<std::int64_t>(0, node.row.memory_bytes + 1);
    const int gpus = *inRange(0, 9);
    for (int g = 0; g < gpus; ++g) {
      last_gpu = GpuId(last_gpu.value + 1);
      Gpu gpu;
      gpu.row.id = last_gpu;
      gpu.row.node = node.row.id;
      gpu.row.uuid = "GPU-" + to_string(last_gpu);
      gpu.row.index = g;
      gpu.row.model = kModels[static_cast<std::size_t>(*inRange(0, 2))];
      gpu.row.island = g / 4;
      gpu.row.health = dice(85) ? GpuHealth::healthy : dice(50) ? GpuHealth::dirty : GpuHealth::quarantined;
      if (dice(30)) gpu.holder = {JobId(7), Epoch(1)};
      node.gpus.push_back(last_gpu);
      cluster.gpu_by_uuid[gpu.row.uuid] = last_gpu;
      cluster.gpus.emplace(last_gpu, std::move(gpu));
    }
    cluster.node_by_name[node.row.name] = node.row.id;
    cluster.nodes.emplace(node.row.id, std::move(node));
  }
  return cluster;
}

Shape any_shape() {
  Shape shape;
  shape.queue = "default";
  shape.nodes = *inRange(1, 4);
  shape.resources.gpus = *inRange(0, 9);
  if (!dice(60)) shape.resources.gpu_kinds = {{.model = dice(50) ? "h100" : "A100"}};
  shape.resources.cpus = *inRange(0, 20);
  shape.resources.memory_bytes = *inRange<std::int64_t>(0, 300);
  if (dice(20)) shape.exclude_nodes = {"n1", "n3"};
  return shape;
}

std::vector<NodeId> any_avoid() {
  std::vector<NodeId> avoid;
  for (int i = 1; i < 7; ++i)
    if (dice(20)) avoid.push_back(NodeId(i));
  return avoid;
}

std::size_t nodes_that_fit(const Cluster& cluster, const Shape& shape) {
  return static_cast<std::size_t>(std::ranges::count_if(cluster.nodes, [&](const auto& entry) {
    return blocker_of(cluster, entry.second, shape) == Blocker::none;
  }));
}

RC_GTEST_PROP(Placement, GivesEveryNodeExactlyWhatIsAskedAndNothingThatIsNotFree, ()) {
  const Cluster cluster = any_cluster();
  const Shape shape = any_shape();
  const auto picks = choose_nodes(cluster, shape, any_avoid());
  if (!picks) return;
  RC_ASSERT(picks->size() == static_cast<std::size_t>(shape.nodes));
  std::set<NodeId> nodes;
  std::set<GpuId> gpus;
  for (const auto& pick : *picks) {
    RC_ASSERT(nodes.insert(pick.node).second);
    const Node& node = cluster.nodes.at(pick.node);
    RC_ASSERT(node.accepts_work());
    RC_ASSERT(node.row.queue == shape.queue);
    RC_ASSERT(std::ranges::find(shape.exclude_nodes, node.row.name) == shape.exclude_nodes.end());
    RC_ASSERT(node.cpus_used + cpus_needed(shape.resources) <= node.row.cpus);
    RC_ASSERT(node.memory_used + shape.resources.memory_bytes <= node.row.memory_bytes);
    RC_ASSERT(pick.gpus.size() == static_cast<std::size_t>(shape.resources.gpus));
    for (GpuId id : pick.gpus) {
      const Gpu& gpu = cluster.gpus.at(id);
      RC_ASSERT(gpus.insert(id).second);
      RC_ASSERT(gpu.row.node == pick.node);
      RC_ASSERT(gpu.row.health == GpuHealth::healthy);
      RC_ASSERT(!gpu.holder.job);
      RC_ASSERT(gpu_matches(gpu.row, shape.resources));
    }
  }
}

RC_GTEST_PROP(Placement, IsRefusedOnlyWhenTooFewNodesFit, ()) {
  const Cluster cluster = any_cluster();
  const Shape shape = any_shape();
  const bool fits = nodes_that_fit(cluster, shape) >= static_cast<std::size_t>(shape.nodes);
  RC_ASSERT(choose_nodes(cluster, shape, any_avoid()).has_value() == fits);
}

RC_GTEST_PROP(Placement, TakesANodeToAvoidOnlyWhenTheOthersDoNotDo, ()) {
  const Cluster cluster = any_cluster();
  const Shape shape = any_shape();
  const auto avoid = any_avoid();
  const auto picks = choose_nodes(cluster, shape, avoid);
  if (!picks) return;
  const auto avoided = [&](NodeId id) { return std::ranges::find(avoid, id) != avoid.end(); };
  const auto taken = static_cast<std::size_t>(
      std::ranges::count_if(*picks, [&](const NodePick& pick) { return avoided(pick.node); }));
  std::size_t good = 0;
  for (const auto& [id, node] : cluster.nodes)
    if (!avoided(id) && blocker_of(cluster, node, shape) == Blocker::none) ++good;
  const std::size_t wanted = static_cast<std::size_t>(shape.nodes);
  RC_ASSERT(taken == wanted - std::min(good, wanted));
}

RC_GTEST_PROP(Placement, StaysInsideOneIslandWhenOneHoldsAll, ()) {
  const Cluster cluster = any_cluster();
  const Shape shape = any_shape();
  RC_PRE(shape.resources.gpus > 0);
  const auto picks = choose_nodes(cluster, shape, {});
  if (!picks) return;
  for (const auto& pick : *picks) {
    std::map<int, int> free;
    for (GpuId id : cluster.nodes.at(pick.node).gpus)
      if (const Gpu& gpu = cluster.gpus.at(id); gpu.free() && gpu_matches(gpu.row, shape.resources))
        ++free[gpu.row.island];
    const bool one_holds_all =
        std::ranges::any_of(free, [&](const auto& e) { return e.second >= shape.resources.gpus; });
    std::set<int> islands;
    for (GpuId id : pick.gpus) islands.insert(cluster.gpus.at(id).row.island);
    RC_ASSERT(!one_holds_all || islands.size() == 1);
  }
}

RC_GTEST_PROP(Placement, KeysOfShapesAreEqualExactlyWhenTheShapesAre, ()) {
  const Shape a = any_shape(), b = dice(50) ? a : any_shape();
  const bool same = a.queue == b.queue && a.nodes == b.nodes && a.exclude_nodes == b.exclude_nodes &&
                    a.resources.gpus == b.resources.gpus && a.resources.gpu_kinds == b.resources.gpu_kinds &&
                    a.resources.cpus == b.resources.cpus &&
                    a.resources.memory_bytes == b.resources.memory_bytes;
  RC_ASSERT((a.key() == b.key()) == same);
}

}  // namespace
}  // namespace tutti
