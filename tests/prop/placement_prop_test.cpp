// Placement, for any cluster and any gang: whole or absent, and never more than there is.
#include <gtest/gtest.h>

#include <rapidcheck/gtest.h>

#include <algorithm>
#include <set>

#include "scheduler/core/plan_view.h"
#include "scheduler/planner/explain.h"

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
    node.row.memory_bytes = *inRange<std::int64_t>(0, 1000);
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
      know_group(node, gpu.row);
      cluster.gpu_by_uuid[gpu.row.uuid] = last_gpu;
      cluster.gpus.emplace(last_gpu, std::move(gpu));
    }
    cluster.node_by_name[node.row.name] = node.row.id;
    cluster.nodes.emplace(node.row.id, std::move(node));
  }
  return cluster;
}

// The planner's nodes for it: GPUs that somebody holds, and CPUs and memory that somebody uses.
struct Seen {
  planner::Nodes nodes;
  std::map<NodeId, int> cpus_used;
  explicit Seen(const Cluster& cluster) {
    for (const auto& [id, node] : cluster.nodes) {
      const int index = nodes.put(describe(cluster, node));
      std::vector<GpuId> held;
      for (const GpuId gpu : node.gpus)
        if (cluster.gpus.at(gpu).holder.job) held.push_back(gpu);
      Resources r;
      r.cpus = *inRange(1, node.row.cpus + 1);
      r.memory_bytes = *inRange<std::int64_t>(0, node.row.memory_bytes + 1);
      r.gpus = static_cast<int>(held.size());
      cpus_used[id] = r.cpus;
      nodes.occupy(JobId(7), Instant::max(), r, {part_of(cluster, node, index, held)});
    }
  }
};

planner::GangAsk any_ask() {
  planner::GangAsk ask;
  ask.queue = "default";
  ask.nodes = *inRange(1, 4);
  ask.resources.gpus = *inRange(0, 9);
  if (!dice(60)) ask.resources.gpu_kinds = {{.model = dice(50) ? "h100" : "A100"}};
  ask.resources.cpus = *inRange(0, 20);
  ask.resources.memory_bytes = *inRange<std::int64_t>(0, 300);
  if (dice(20)) ask.exclude_nodes = {"n1", "n3"};
  return ask;
}

std::vector<int> any_avoid(const planner::Nodes& nodes) {
  std::vector<int> avoid;
  for (int i = 0; i < nodes.size(); ++i)
    if (dice(20)) avoid.push_back(i);
  return avoid;
}

bool matches(const GpuRow& gpu, const Resources& r) {
  return r.gpu_kinds.empty() ||
         planner::kind_matches({.model = gpu.model, .memory_bytes = gpu.memory_bytes}, r.gpu_kinds.front());
}

int nodes_that_fit(const planner::Nodes& nodes, const planner::GangAsk& ask) {
  int n = 0;
  for (int i = 0; i < nodes.size(); ++i)
    if (blocker_of(nodes, i, ask) == planner::NodeBlocker::none) ++n;
  return n;
}

RC_GTEST_PROP(Placement, GivesEveryNodeExactlyWhatIsAskedAndNothingThatIsNotFree, ()) {
  const Cluster cluster = any_cluster();
  Seen seen(cluster);
  const auto ask = any_ask();
  const auto parts = seen.nodes.choose(seen.nodes.intern(ask), any_avoid(seen.nodes), nullptr);
  if (parts.empty()) return;
  RC_ASSERT(parts.size() == static_cast<std::size_t>(ask.nodes));
  std::set<NodeId> nodes;
  std::set<GpuId> gpus;
  for (const auto& part : parts) {
    const Node& node = cluster.nodes.at(seen.nodes.at(part.node).desc->id);
    const NodePick pick = pick_gpus(cluster, node, part);
    RC_ASSERT(nodes.insert(pick.node).second);
    RC_ASSERT(node.accepts_work());
    RC_ASSERT(node.row.queue == ask.queue);
    RC_ASSERT(std::ranges::find(ask.exclude_nodes, node.row.name) == ask.exclude_nodes.end());
    RC_ASSERT(seen.cpus_used[pick.node] + planner::cpus_of(ask.resources) <= node.row.cpus);
    RC_ASSERT(pick.gpus.size() == static_cast<std::size_t>(ask.resources.gpus));
    for (GpuId id : pick.gpus) {
      const Gpu& gpu = cluster.gpus.at(id);
      RC_ASSERT(gpus.insert(id).second);
      RC_ASSERT(gpu.row.node == pick.node);
      RC_ASSERT(gpu.row.health == GpuHealth::healthy);
      RC_ASSERT(!gpu.holder.job);
      RC_ASSERT(matches(gpu.row, ask.resources));
    }
  }
}

RC_GTEST_PROP(Placement, IsRefusedOnlyWhenTooFewNodesFit, ()) {
  const Cluster cluster = any_cluster();
  Seen seen(cluster);
  const auto ask = any_ask();
  const int shape = seen.nodes.intern(ask);
  const bool fits = nodes_that_fit(seen.nodes, ask) >= ask.nodes;
  RC_ASSERT(seen.nodes.choose(shape, any_avoid(seen.nodes), nullptr).empty() != fits);
  RC_ASSERT(seen.nodes.fits(shape) == fits);
}

RC_GTEST_PROP(Placement, TakesANodeToAvoidOnlyWhenTheOthersDoNotDo, ()) {
  const Cluster cluster = any_cluster();
  Seen seen(cluster);
  const auto ask = any_ask();
  const auto avoid = any_avoid(seen.nodes);
  const auto parts = seen.nodes.choose(seen.nodes.intern(ask), avoid, nullptr);
  if (parts.empty()) return;
  const auto avoided = [&](int node) { return std::ranges::find(avoid, node) != avoid.end(); };
  const auto taken = std::ranges::count_if(parts, [&](const auto& p) { return avoided(p.node); });
  std::ptrdiff_t good = 0;
  for (int i = 0; i < seen.nodes.size(); ++i)
    if (!avoided(i) && blocker_of(seen.nodes, i, ask) == planner::NodeBlocker::none) ++good;
  RC_ASSERT(taken == ask.nodes - std::min<std::ptrdiff_t>(good, ask.nodes));
}

RC_GTEST_PROP(Placement, StaysInsideOneIslandWhenOneHoldsAll, ()) {
  const Cluster cluster = any_cluster();
  Seen seen(cluster);
  const auto ask = any_ask();
  RC_PRE(ask.resources.gpus > 0);
  for (const auto& part : seen.nodes.choose(seen.nodes.intern(ask), {}, nullptr)) {
    const Node& node = cluster.nodes.at(seen.nodes.at(part.node).desc->id);
    std::map<std::pair<std::string, int>, int> free;
    for (GpuId id : node.gpus)
      if (const Gpu& gpu = cluster.gpus.at(id); gpu.free() && matches(gpu.row, ask.resources))
        ++free[{gpu.row.model, gpu.row.island}];
    const bool one_holds_all =
        std::ranges::any_of(free, [&](const auto& e) { return e.second >= ask.resources.gpus; });
    std::set<int> islands;
    for (GpuId id : pick_gpus(cluster, node, part).gpus) islands.insert(cluster.gpus.at(id).row.island);
    RC_ASSERT(!one_holds_all || islands.size() == 1);
  }
}

RC_GTEST_PROP(Placement, KeysOfAsksAreEqualExactlyWhenTheAsksAre, ()) {
  const auto a = any_ask(), b = dice(50) ? a : any_ask();
  const bool same = a.queue == b.queue && a.nodes == b.nodes && a.exclude_nodes == b.exclude_nodes &&
                    a.resources == b.resources;
  RC_ASSERT((a.key() == b.key()) == same);
}

}  // namespace
}  // namespace tutti
