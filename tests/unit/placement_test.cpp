// Where gangs go: the planner's nodes, as the control plane describes them.
#include <gtest/gtest.h>

#include <set>

#include "scheduler/core/plan_view.h"
#include "scheduler/planner/explain.h"

namespace tutti {
namespace {

using planner::GangAsk;
using planner::NodeBlocker;
using planner::Nodes;
using planner::Parts;

Cluster cluster_of(const std::vector<int>& gpus_per_node) {
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
      gpu.row.memory_bytes = 80LL << 30;
      node.gpus.push_back(gpu.row.id);
      know_group(node, gpu.row);
      c.gpus.emplace(gpu.row.id, gpu);
    }
    c.nodes.emplace(node.row.id, node);
  }
  return c;
}

GangAsk ask(int nodes, int gpus) {
  GangAsk a;
  a.queue = "default";
  a.nodes = nodes;
  a.resources.gpus = gpus;
  return a;
}

struct Placement : ::testing::Test {
  Cluster cluster;
  Nodes nodes;

  void begin(const std::vector<int>& gpus_per_node) {
    cluster = cluster_of(gpus_per_node);
    see();
  }
  void see() {
    for (const auto& [id, node] : cluster.nodes) nodes.put(describe(cluster, node));
  }
  void label(std::int64_t node, const std::string& key, const std::string& value) {
    cluster.nodes.at(NodeId(node)).row.labels[key] = value;
    see();
  }
  Parts choose(const GangAsk& a, const std::vector<int>& avoid = {}) {
    return nodes.choose(nodes.intern(a), avoid, nullptr);
  }
  void occupy(std::int64_t node, int gpus, std::int64_t job = 99) {
    Resources r;
    r.gpus = gpus;
    std::vector<GpuId> ids;
    const Node& n = cluster.nodes.at(NodeId(node));
    for (GpuId id : n.gpus)
      if (static_cast<int>(ids.size()) < gpus && cluster.gpus.at(id).free()) {
        cluster.gpus.at(id).holder = {JobId(job), Epoch(1)};
        ids.push_back(id);
      }
    nodes.occupy(JobId(job), Instant::max(), r, {part_of(cluster, n, *nodes.find(n.row.id), ids)});
  }
  std::set<std::int64_t> nodes_of(const Parts& parts) const {
    std::set<std::int64_t> out;
    for (const auto& p : parts) out.insert(nodes.at(p.node).desc->id.value);
    return out;
  }
  std::vector<GpuId> gpus_of(const Parts& parts) const {
    const auto& desc = *nodes.at(parts.at(0).node).desc;
    return pick_gpus(cluster, cluster.nodes.at(desc.id), parts.at(0)).gpus;
  }
  NodeBlocker blocker(std::int64_t node, const GangAsk& a) {
    return blocker_of(nodes, *nodes.find(NodeId(node)), a);
  }
};

TEST_F(Placement, IsAllOrNothing) {
  begin({8, 8});
  EXPECT_TRUE(choose(ask(3, 1)).empty());
  occupy(1, 1);
  EXPECT_TRUE(choose(ask(2, 8)).empty());
  EXPECT_EQ(choose(ask(2, 7)).size(), 2u);
}

TEST_F(Placement, FillsTheFullestNodeThatFits) {
  begin({8, 8, 8});
  occupy(2, 5);
  EXPECT_EQ(nodes_of(choose(ask(1, 3))), (std::set<std::int64_t>{2}));
  EXPECT_EQ(nodes_of(choose(ask(1, 4))), (std::set<std::int64_t>{1}));
}

TEST_F(Placement, KeepsAJobOnOneIslandAndTakesTheSmallestThatFits) {
  begin({8});
  occupy(1, 2);  // GPUs 0 and 1: island 0 has two free, island 1 four
  EXPECT_EQ(gpus_of(choose(ask(1, 2))), (std::vector{GpuId(3), GpuId(4)}));
  EXPECT_EQ(gpus_of(choose(ask(1, 4))), (std::vector{GpuId(5), GpuId(6), GpuId(7), GpuId(8)}));
  EXPECT_EQ(gpus_of(choose(ask(1, 5))).size(), 5u);
  GangAsk one_island = ask(1, 5);
  one_island.topology.require = TopologyLevel::nvlink;
  EXPECT_TRUE(choose(one_island).empty()) << "no island has five";
}

// More kinds and islands on a node than the planner counts apart: what it cannot tell apart it does not give.
TEST_F(Placement, GivesNoSliceForAGpuHoweverManyKindsANodeHas) {
  cluster = cluster_of({16});
  Node& node = cluster.nodes.begin()->second;
  node.groups.clear();
  for (auto& [id, gpu] : cluster.gpus) {
    gpu.row.island = static_cast<int>(id.value);  // none reaches another
    if (id.value > 8) gpu.row.model += id.value % 2 == 0 ? " MIG 1g.10gb" : " MIG 3g.40gb";
    know_group(node, gpu.row);
  }
  see();
  const auto given = gpus_of(choose(ask(1, 7)));
  ASSERT_EQ(given.size(), 7U);
  for (const GpuId id : given) EXPECT_LE(id.value, 8) << "a slice";
  EXPECT_TRUE(choose(ask(1, 8)).empty()) << "the eighth cannot be told from the slices";
}

TEST_F(Placement, WithoutNvlinkThereIsNoIsland) {
  cluster = cluster_of({8});
  Node& node = cluster.nodes.begin()->second;
  node.groups.clear();
  for (auto& [id, gpu] : cluster.gpus) {
    gpu.row.island = planner::kNoIsland;
    know_group(node, gpu.row);
  }
  see();
  GangAsk linked = ask(1, 2);
  EXPECT_EQ(gpus_of(choose(linked)).size(), 2U);
  linked.topology.require = TopologyLevel::nvlink;
  EXPECT_TRUE(choose(linked).empty());
}

TEST_F(Placement, AvoidsSuspectNodesOnlyWhileItCan) {
  begin({8, 8});
  EXPECT_EQ(nodes_of(choose(ask(1, 8), {0})), (std::set<std::int64_t>{2}));
  EXPECT_EQ(nodes_of(choose(ask(2, 8), {0})), (std::set<std::int64_t>{1, 2}));
}

TEST_F(Placement, RatherNotOnASuspectedNode) {
  begin({8, 8});
  occupy(1, 4);
  auto desc = *nodes.at(0).desc;
  desc.suspicion = 0.6;
  nodes.put(desc);
  EXPECT_EQ(nodes_of(choose(ask(1, 4))), (std::set<std::int64_t>{2})) << "though it would fit better on 1";
  EXPECT_EQ(nodes_of(choose(ask(2, 4))), (std::set<std::int64_t>{1, 2}));
}

TEST_F(Placement, LeavesOutUnhealthyGpusAndNodes) {
  begin({8, 8, 8, 8});
  cluster.gpus.at(GpuId(1)).row.health = GpuHealth::quarantined;
  cluster.nodes.at(NodeId(2)).row.state = NodeState::unreachable;
  cluster.nodes.at(NodeId(3)).row.service = NodeService::draining;
  cluster.nodes.at(NodeId(4)).stale.insert({JobId(5), Epoch(1)});
  see();
  EXPECT_TRUE(choose(ask(1, 8)).empty());
  EXPECT_EQ(nodes_of(choose(ask(1, 7))), (std::set<std::int64_t>{1}));
  EXPECT_EQ(blocker(1, ask(1, 8)), NodeBlocker::gpus_out_of_order);
  for (const std::int64_t n : {2, 3, 4}) EXPECT_EQ(blocker(n, ask(1, 8)), NodeBlocker::closed);
  EXPECT_EQ(nodes.at(1).desc->closed, "not_reachable");
  EXPECT_EQ(nodes.at(2).desc->closed, "not_schedulable");
  EXPECT_EQ(nodes.at(3).desc->closed, "stale_ranks");
  EXPECT_EQ(blocker(1, ask(1, 9)), NodeBlocker::too_few_gpus);
}

TEST_F(Placement, MatchesModelsWithoutCaseAndMemory) {
  begin({8});
  GangAsk a = ask(1, 1);
  a.resources.gpu_kinds = {{.model = "h100"}};
  EXPECT_FALSE(choose(a).empty());
  a.resources.gpu_kinds = {{.model = "A100"}};
  EXPECT_TRUE(choose(a).empty());
  a.resources.gpu_kinds = {{.model = "A100"}, {.model = "", .memory_bytes = 80LL << 30}};
  EXPECT_FALSE(choose(a).empty()) << "the second choice will do";
  a.resources.gpu_kinds = {{.model = "", .memory_bytes = 81LL << 30}};
  EXPECT_TRUE(choose(a).empty());
}

TEST_F(Placement, CountsCpusAndMemory) {
  begin({8});
  GangAsk a = ask(1, 0);
  a.resources.cpus = 64;
  EXPECT_FALSE(choose(a).empty());
  Resources one;
  one.cpus = 1;
  nodes.occupy(JobId(1), Instant::max(), one, {{.node = 0}});
  EXPECT_EQ(blocker(1, a), NodeBlocker::cpus_busy);
  EXPECT_TRUE(choose(a).empty());
  a.resources.cpus = 65;
  EXPECT_EQ(blocker(1, a), NodeBlocker::too_small);
  a.resources.cpus = 1;
  a.resources.memory_bytes = 2LL << 30;
  EXPECT_EQ(blocker(1, a), NodeBlocker::too_small);
}

TEST_F(Placement, ComparesLabelsAsVersions) {
  begin({8});
  label(1, "driver", "550.127");
  GangAsk a = ask(1, 1);
  const auto fits = [&](const std::string& text) {
    a.constraints = {*parse_constraint(text)};
    return !choose(a).empty();
  };
  EXPECT_TRUE(fits("driver>=550.54")) << "127 is more than 54";
  EXPECT_FALSE(fits("driver<550.54"));
  EXPECT_TRUE(fits("driver"));
  EXPECT_FALSE(fits("fabric=ib")) << "a label the node lacks";
  EXPECT_TRUE(fits("fabric!=ib"));
  EXPECT_TRUE(fits("name=n1"));
  EXPECT_TRUE(fits("model!=A100"));
}

TEST_F(Placement, AGangStaysInTheSmallestRackThatHoldsIt) {
  begin({8, 8, 8, 8, 8});
  for (const std::int64_t n : {1, 2, 3}) label(n, "topology.rack", "large");
  for (const std::int64_t n : {4, 5}) label(n, "topology.rack", "small");
  EXPECT_EQ(nodes_of(choose(ask(2, 8))), (std::set<std::int64_t>{4, 5})) << "the large one stays whole";
  EXPECT_EQ(nodes_of(choose(ask(3, 8))), (std::set<std::int64_t>{1, 2, 3}));
  EXPECT_EQ(choose(ask(4, 8)).size(), 4u) << "over racks when it must";
  GangAsk within = ask(4, 8);
  within.topology.require = TopologyLevel::rack;
  EXPECT_TRUE(choose(within).empty());
  EXPECT_FALSE(nodes.could_ever(nodes.intern(within)));
  within.nodes = 3;
  occupy(1, 1);
  EXPECT_TRUE(choose(within).empty()) << "two left in the large one";
  EXPECT_TRUE(nodes.could_ever(nodes.intern(within)));
}

TEST_F(Placement, SpreadTakesDifferentRacks) {
  begin({8, 8, 8, 8});
  for (const std::int64_t n : {1, 2}) label(n, "topology.rack", "a");
  for (const std::int64_t n : {3, 4}) label(n, "topology.rack", "b");
  GangAsk apart = ask(2, 1);
  apart.topology.spread = true;
  const auto got = nodes_of(choose(apart));
  EXPECT_EQ(got, (std::set<std::int64_t>{1, 3}));
}

TEST_F(Placement, AnElasticGangTakesWhatThereIs) {
  begin({8, 8, 8});
  GangAsk elastic = ask(4, 8);
  elastic.min_nodes = 2;
  EXPECT_EQ(choose(elastic).size(), 3u);
  occupy(1, 1);
  EXPECT_EQ(choose(elastic).size(), 2u);
  occupy(2, 1);
  EXPECT_TRUE(choose(elastic).empty());
}

TEST_F(Placement, AsksAreEqualWhenTheirKeysAre) {
  JobSpec a, b;
  a.exclude_nodes = {"x", "y"};
  b.exclude_nodes = {"y", "x"};
  EXPECT_EQ(planner::ask_of(a, "q").key(), planner::ask_of(b, "q").key());
  b.resources.gpus = 1;
  EXPECT_NE(planner::ask_of(a, "q").key(), planner::ask_of(b, "q").key());
}

}  // namespace
}  // namespace tutti
