#include "scheduler/planner/reservation.h"

#include <algorithm>

namespace tutti::planner {

namespace {

// Nodes that cannot be used now first: those that are free now are worth more to others meanwhile.
void keep_free(std::vector<int>& spare, const GangShape& shape, const Capacity& capacity) {
  int missing = shape.nodes;
  for (const bool usable_now : {false, true})
    for (std::size_t n = 0; n < spare.size() && missing > 0; ++n) {
      if (spare[n] < shape.gpus_per_node || (capacity.free()[n] >= shape.gpus_per_node) != usable_now)
        continue;
      spare[n] -= shape.gpus_per_node;
      --missing;
    }
}

}  // namespace

std::optional<Reservation> compute_reservation(const Capacity& capacity, const GangShape& shape,
                                               const std::vector<Occupied>& running) {
  Reservation out;
  out.spare = capacity.free();
  auto fitting = std::ranges::count_if(out.spare, [&](int free) { return free >= shape.gpus_per_node; });
  for (std::size_t i = 0; i < running.size();) {
    out.at = running[i].until;
    for (; i < running.size() && running[i].until == out.at; ++i)
      for (const int node : *running[i].nodes) {
        int& free = out.spare[static_cast<std::size_t>(node)];
        const bool before = free >= shape.gpus_per_node;
        free += running[i].shape.gpus_per_node;
        if (!before && free >= shape.gpus_per_node) ++fitting;
      }
    if (fitting >= shape.nodes) {
      keep_free(out.spare, shape, capacity);
      return out;
    }
  }
  return std::nullopt;
}

}  // namespace tutti::planner
