// The start that is kept free for a job that does not fit now (EASY backfill: Lifka, "The ANL/IBM SP
// scheduling system", 1995), node by node: who would still run at that time may only use what is spare then.
//
// Holds as long as nobody runs beyond its limit. Pure, std only.
#pragma once

#include <optional>
#include <utility>
#include <vector>

#include "scheduler/model/time.h"
#include "scheduler/planner/capacity.h"

namespace tutti::planner {

// A gang that runs, and when it ends at the latest.
struct Occupied {
  Instant until;
  GangShape shape;
  const std::vector<int>* nodes;
};

struct Reservation {
  Instant at;
  std::vector<int> spare;  // by node: GPUs that are free at that time and not needed for the reserved job
};

// `running` in order of `until`. nullopt: it would not fit on an empty pool.
std::optional<Reservation> compute_reservation(const Capacity& capacity, const GangShape& shape,
                                               const std::vector<Occupied>& running);

}  // namespace tutti::planner
