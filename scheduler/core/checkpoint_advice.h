// How often a job should save, from what saving costs and how often it will be interrupted. Plain functions.
#pragma once

#include <cstdint>

#include "scheduler/model/time.h"

namespace tutti {

/// What the fleet has been through.
struct FleetFaults {
  std::int64_t faults = 0;  // that end a gang
  double node_seconds = 0;  // over which they were counted
};

/// Mean time between faults of a gang of that many nodes. A young or lucky fleet has seen few faults or none,
/// so one fault in 264 node-days is assumed beforehand (419 interruptions in 54 days of 2,048 nodes, as
/// published of the training of Llama 3) and counts less the more has been seen.
Duration mean_time_to_fault(const FleetFaults& fleet, int nodes);

/// Young's first-order optimum, sqrt(2 * cost * M) (CACM 17:9, 1974; Daly 2006 for its limits): at least the
/// cost itself, at most M. Zero when the cost is not known.
Duration best_interval(Duration cost, Duration mean_time_to_fault);

/// Share of the time that goes into saving and into doing again what was lost, at this interval.
double expected_loss(Duration interval, Duration cost, Duration mean_time_to_fault);

}  // namespace tutti
