// The cluster as the planner sees it, and back: descriptions of nodes, and the GPUs that a planned part
// means. Pure functions of the cluster.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "scheduler/core/cluster.h"
#include "scheduler/planner/nodes.h"

namespace tutti {

GpuGroup group_of(const GpuRow& gpu);
void know_group(Node& node, const GpuRow& gpu);  // before it is described

// A GPU in order, or held by a live attempt, is usable: what an attempt holds comes back when it ends.
planner::NodeDesc describe(const Cluster& cluster, const Node& node);

struct NodePick {
  NodeId node;
  std::vector<GpuId> gpus;
};
// The free GPUs of each group with the lowest indices.
NodePick pick_gpus(const Cluster& cluster, const Node& node, const planner::Part& part);
// The other way: what these GPUs of the node are to the planner.
planner::Part part_of(const Cluster& cluster, const Node& node, int index, const std::vector<GpuId>& gpus);

// Numbers for names, in the order in which they come.
class Names {
 public:
  int of(std::string_view name) {
    const auto found = numbers_.find(name);
    if (found != numbers_.end()) return found->second;
    names_.emplace_back(name);
    return numbers_.emplace(std::string(name), static_cast<int>(names_.size()) - 1).first->second;
  }
  int find(std::string_view name) const {  // -1: not known
    const auto found = numbers_.find(name);
    return found == numbers_.end() ? -1 : found->second;
  }
  const std::string& name(int number) const { return names_.at(static_cast<std::size_t>(number)); }

 private:
  std::map<std::string, int, std::less<>> numbers_;
  std::vector<std::string> names_;
};

}  // namespace tutti
