// What people ask of a replay. Definitions stand beside the fields. Pure, std only.
#pragma once

#include <cstdint>

#include "scheduler/replay/replay.h"

namespace tutti::replay {

struct Spread {
  double mean = 0, p50 = 0, p90 = 0, p99 = 0, max = 0;
};

struct Report {
  std::uint64_t jobs = 0;
  std::uint64_t never = 0;        // could not run on this cluster
  Spread wait_seconds;            // completion minus run time: also what preemption cost
  Spread completion_seconds;      // from submission to end
  double bounded_slowdown = 0;    // mean of max(1, completion / max(run, 10 s))
  double utilisation = 0;         // busy share of all GPU time, while jobs arrive
  double idle_while_waiting = 0;  // idle share of it while somebody waited
  double fairness = 0;            // Jain's index over users of (sum of run times / sum of completion times)
  double makespan_seconds = 0;    // first submission to last end
  std::uint64_t preemptions = 0;
  double fragmented = 0;  // ReplayResult::fragmented
  double goodput = 0;     // useful share of all GPU time that was held: no lost work, no restarts
  std::uint64_t interruptions = 0;
  Spread restart_wait_seconds;  // in the queue, of gangs that a fault has ended
  // Of those that waited and were told when they would start.
  std::uint64_t etas = 0;
  double eta_coverage = 0;              // share that started within the range
  double eta_range_seconds = 0;         // its median width
  double eta_limits_range_seconds = 0;  // median of what limits alone can say: between now and then
};

Report report_of(const Trace& trace, const ReplayOptions& options, const ReplayResult& result);
Report mean_of(const std::vector<Report>& runs);

}  // namespace tutti::replay
