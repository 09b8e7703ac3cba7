#include "scheduler/planner/capacity.h"

#include <numeric>

#include "scheduler/model/assert.h"

namespace tutti::planner {

GangShape shape_of(int gpus, int node_size) {
  if (gpus < node_size) return {1, gpus};
  return {(gpus + node_size - 1) / node_size, node_size};
}

Capacity::Capacity(int nodes, int node_size)
    : node_size_(node_size),
      free_total_(nodes * node_size),
      free_(static_cast<std::size_t>(nodes), node_size),
      by_free_(static_cast<std::size_t>(node_size) + 1),
      at_(static_cast<std::size_t>(nodes)) {
  TUTTI_ASSERT(nodes > 0 && node_size > 0, "a pool has nodes and they have GPUs");
  auto& all = by_free_.back();
  all.resize(static_cast<std::size_t>(nodes));
  std::iota(all.begin(), all.end(), 0);
  std::iota(at_.begin(), at_.end(), 0);
}

bool Capacity::fits(const GangShape& shape) const {
  if (shape.nodes > 1 || shape.gpus_per_node == node_size_) return empty_nodes() >= shape.nodes;
  for (int f = shape.gpus_per_node; f <= node_size_; ++f)
    if (!by_free_[static_cast<std::size_t>(f)].empty()) return true;
  return false;
}

std::optional<std::vector<int>> Capacity::take(const GangShape& shape) {
  if (!fits(shape)) return std::nullopt;
  std::vector<int> nodes;
  nodes.reserve(static_cast<std::size_t>(shape.nodes));
  for (int f = shape.gpus_per_node; f <= node_size_; ++f) {
    const auto& list = by_free_[static_cast<std::size_t>(f)];
    while (!list.empty() && static_cast<int>(nodes.size()) < shape.nodes) {
      nodes.push_back(list.back());
      change(list.back(), -shape.gpus_per_node);
    }
    if (static_cast<int>(nodes.size()) == shape.nodes) return nodes;
  }
  TUTTI_ASSERT(false, "what fits can be taken");
  return std::nullopt;
}

// Nodes that fit, those with least to spare now first; either the spared ones of then or the others.
void Capacity::gather(const GangShape& shape, const std::vector<int>& spare, bool spared,
                      std::vector<int>& into) const {
  for (int f = shape.gpus_per_node; f <= node_size_; ++f)
    for (const int node : by_free_[static_cast<std::size_t>(f)]) {
      if (static_cast<int>(into.size()) == shape.nodes) return;
      if ((spare[static_cast<std::size_t>(node)] >= shape.gpus_per_node) == spared) into.push_back(node);
    }
}

std::optional<std::vector<int>> Capacity::take_within(const GangShape& shape, std::vector<int>& spare) {
  std::vector<int> nodes;
  gather(shape, spare, true, nodes);
  if (static_cast<int>(nodes.size()) < shape.nodes) return std::nullopt;
  retake(shape, nodes);
  for (const int node : nodes) spare[static_cast<std::size_t>(node)] -= shape.gpus_per_node;
  return nodes;
}

std::optional<std::vector<int>> Capacity::take_before(const GangShape& shape, const std::vector<int>& spare) {
  std::vector<int> nodes;
  gather(shape, spare, false, nodes);
  gather(shape, spare, true, nodes);
  if (static_cast<int>(nodes.size()) < shape.nodes) return std::nullopt;
  retake(shape, nodes);
  return nodes;
}

void Capacity::retake(const GangShape& shape, const std::vector<int>& nodes) {
  for (const int node : nodes) change(node, -shape.gpus_per_node);
}

void Capacity::release(const GangShape& shape, const std::vector<int>& nodes) {
  for (const int node : nodes) change(node, shape.gpus_per_node);
}

void Capacity::change(int node, int by) {
  const auto n = static_cast<std::size_t>(node);
  auto& from = by_free_[static_cast<std::size_t>(free_[n])];
  const int last = from.back();
  from[static_cast<std::size_t>(at_[n])] = last;
  at_[static_cast<std::size_t>(last)] = at_[n];
  from.pop_back();
  free_[n] += by;
  free_total_ += by;
  TUTTI_ASSERT(free_[n] >= 0 && free_[n] <= node_size_, "no GPU is given twice or returned twice");
  auto& to = by_free_[static_cast<std::size_t>(free_[n])];
  at_[n] = static_cast<int>(to.size());
  to.push_back(node);
}

}  // namespace tutti::planner
