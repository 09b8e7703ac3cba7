// GPUs of a pool of like nodes, as the planner counts them: how many are free on each, and which nodes to
// take. Part of a node goes where it leaves least (best fit), whole nodes are taken from those that are
// empty, so empty nodes stay empty as long as they can.
//
// Pure, std only, one thread. Placing and releasing cost O(nodes of the job).
#pragma once

#include <optional>
#include <vector>

namespace tutti::planner {

// What a job takes: the same number of GPUs on each of so many nodes, all at the same time.
struct GangShape {
  int nodes = 1;
  int gpus_per_node = 0;
  friend bool operator==(const GangShape&, const GangShape&) = default;
};

// A gang that fills nodes takes whole ones; a smaller one shares a node.
GangShape shape_of(int gpus, int node_size);

class Capacity {
 public:
  Capacity(int nodes, int node_size);

  int nodes() const { return static_cast<int>(free_.size()); }
  int node_size() const { return node_size_; }
  int total() const { return nodes() * node_size_; }
  int free_total() const { return free_total_; }
  const std::vector<int>& free() const { return free_; }  // by node
  int empty_nodes() const { return static_cast<int>(by_free_.back().size()); }

  bool fits(const GangShape& shape) const;
  // Nothing is taken when it does not fit.
  std::optional<std::vector<int>> take(const GangShape& shape);
  // Only nodes of which `spare[node]` is at least what is asked there; `spare` is lowered by what is taken.
  std::optional<std::vector<int>> take_within(const GangShape& shape, std::vector<int>& spare);
  // For who will be gone by then: nodes first that are spoken for, so that the spare ones stay for who will
  // not.
  std::optional<std::vector<int>> take_before(const GangShape& shape, const std::vector<int>& spare);
  void retake(const GangShape& shape, const std::vector<int>& nodes);  // exactly these, which are free
  void release(const GangShape& shape, const std::vector<int>& nodes);

 private:
  void change(int node, int by);
  void gather(const GangShape& shape, const std::vector<int>& spare, bool spared,
              std::vector<int>& into) const;

  int node_size_;
  int free_total_;
  std::vector<int> free_;                  // by node
  std::vector<std::vector<int>> by_free_;  // nodes by their number of free GPUs
  std::vector<int> at_;                    // position of a node in its list
};

}  // namespace tutti::planner
