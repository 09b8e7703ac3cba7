#include "scheduler/core/placement.h"

#include <gtest/gtest.h>

#include <set>

namespace tutti {
namespace {

Cluster cluster_of(std::vector<int> gpus_per_node) {
  Cluster c;
  std::int64_t gpu_id = 0, node_id = 0;
  for (int n : gpus_per_node) {
    Node node;
    node.row.id = NodeId(++node_id);
    node.row.name = "n" + std::to_string(node_id);
    node.row.cpus = 64;
    node.row.memory_bytes = 1 << 30;
    node.linked = true;
    for (int i = 0; i < n; ++i) {
      Gpu gpu;
      gpu.row.id = GpuId(++gpu_id);
      gpu.row.node = node.row.id;
      gpu.row.index = i;
      gpu.row.island = i / 4;
      gpu.row.model = "NVIDIA H100 80GB HBM3";
      node.gpus.push_back(gpu.row.id);
      c.gpus.emplace(gpu.row.id, gpu);
    }
    c.nodes.emplace(node.row.id, node);
  }
  return c;
}

void occupy(Cluster& c, std::int64_t node, int n) {
  for (GpuId id : c.nodes.at(NodeId(node)).gpus)
    if (n > 0 && c.gpus.at(id).free()) c.gpus.at(id).holder = {JobId(99), Epoch(1)}, --n;
}

Shape shape(int nodes, int gpus) {
  Shape s;
  s.queue = "default";
  s.nodes = nodes;
  s.resources.gpus = gpus;
  return s;
}

std::set<std::int64_t> nodes_of(const std::vector<NodePick>& picks) {
  std::set<std::int64_t> out;
  for (const auto& p : picks) out.insert(p.node.value);
  return out;
}

TEST(Placement, IsAllOrNothing) {
  Cluster c = cluster_of({8, 8});
  EXPECT_FALSE(choose_nodes(c, shape(3, 1), {}));
  occupy(c, 1, 1);
  EXPECT_FALSE(choose_nodes(c, shape(2, 8), {}));
  EXPECT_TRUE(choose_nodes(c, shape(2, 7), {}));
}

TEST(Placement, FillsTheFullestNodeThatFits) {
  Cluster c = cluster_of({8, 8, 8});
  occupy(c, 2, 5);
  EXPECT_EQ(nodes_of(*choose_nodes(c, shape(1, 3), {})), (std::set<std::int64_t>{2}));
  EXPECT_EQ(nodes_of(*choose_nodes(c, shape(1, 4), {})), (std::set<std::int64_t>{1}));
}

TEST(Placement, KeepsAJobOnOneIslandAndTakesTheSmallestThatFits) {
  Cluster c = cluster_of({8});
  occupy(c, 1, 2);  // GPUs 0 and 1: island 0 has two free, island 1 four
  auto two = choose_nodes(c, shape(1, 2), {});
  EXPECT_EQ((*two)[0].gpus, (std::vector{GpuId(3), GpuId(4)}));
  auto four = choose_nodes(c, shape(1, 4), {});
  EXPECT_EQ((*four)[0].gpus, (std::vector{GpuId(5), GpuId(6), GpuId(7), GpuId(8)}));
  auto five = choose_nodes(c, shape(1, 5), {});
  EXPECT_EQ((*five)[0].gpus.size(), 5u);
}

TEST(Placement, AvoidsSuspectNodesOnlyWhileItCan) {
  Cluster c = cluster_of({8, 8});
  EXPECT_EQ(nodes_of(*choose_nodes(c, shape(1, 8), {NodeId(1)})), (std::set<std::int64_t>{2}));
  EXPECT_EQ(nodes_of(*choose_nodes(c, shape(2, 8), {NodeId(1)})), (std::set<std::int64_t>{1, 2}));
}

TEST(Placement, LeavesOutUnhealthyGpusAndNodes) {
  Cluster c = cluster_of({8, 8, 8, 8});
  c.gpus.at(GpuId(1)).row.health = GpuHealth::quarantined;
  c.nodes.at(NodeId(2)).row.state = NodeState::unreachable;
  c.nodes.at(NodeId(3)).row.service = NodeService::draining;
  c.nodes.at(NodeId(4)).stale.insert({JobId(5), Epoch(1)});
  EXPECT_FALSE(choose_nodes(c, shape(1, 8), {}));
  EXPECT_EQ(nodes_of(*choose_nodes(c, shape(1, 7), {})), (std::set<std::int64_t>{1}));
  EXPECT_EQ(blocker_of(c, c.nodes.at(NodeId(1)), shape(1, 8)), Blocker::gpus_out_of_order);
  EXPECT_EQ(blocker_of(c, c.nodes.at(NodeId(2)), shape(1, 8)), Blocker::not_reachable);
  EXPECT_EQ(blocker_of(c, c.nodes.at(NodeId(3)), shape(1, 8)), Blocker::not_schedulable);
  EXPECT_EQ(blocker_of(c, c.nodes.at(NodeId(4)), shape(1, 8)), Blocker::stale_ranks);
  EXPECT_EQ(blocker_of(c, c.nodes.at(NodeId(1)), shape(1, 9)), Blocker::too_few_gpus);
}

TEST(Placement, MatchesModelsWithoutCase) {
  Cluster c = cluster_of({8});
  Shape s = shape(1, 1);
  s.resources.gpu_kinds = {{.model = "h100"}};
  EXPECT_TRUE(choose_nodes(c, s, {}));
  s.resources.gpu_kinds = {{.model = "A100"}};
  EXPECT_FALSE(choose_nodes(c, s, {}));
}

TEST(Placement, CountsCpusAndMemory) {
  Cluster c = cluster_of({8});
  Shape s = shape(1, 0);
  s.resources.cpus = 64;
  EXPECT_TRUE(choose_nodes(c, s, {}));
  c.nodes.at(NodeId(1)).cpus_used = 1;
  EXPECT_EQ(blocker_of(c, c.nodes.at(NodeId(1)), s), Blocker::cpus_busy);
  s.resources.cpus = 65;
  EXPECT_EQ(blocker_of(c, c.nodes.at(NodeId(1)), s), Blocker::too_small);
  s.resources.cpus = 1;
  s.resources.memory_bytes = 2LL << 30;
  EXPECT_EQ(blocker_of(c, c.nodes.at(NodeId(1)), s), Blocker::too_small);
}

TEST(Placement, ShapesAreEqualWhenTheirKeysAre) {
  JobSpec a, b;
  a.exclude_nodes = {"x", "y"};
  b.exclude_nodes = {"y", "x"};
  EXPECT_EQ(Shape::of(a).key(), Shape::of(b).key());
  b.resources.gpus = 1;
  EXPECT_NE(Shape::of(a).key(), Shape::of(b).key());
}

}  // namespace
}  // namespace tutti
