// A workload under a policy, in virtual time: the same planner that runs live, fed with submissions and ends.
//
// Jobs keep their work over a preemption and pay `restart_cost` when they start again. Run times do not
// depend on where a job runs, or beside whom. Deterministic: the same trace, options and seed give the same
// result.
#pragma once

#include <cstdint>
#include <vector>

#include "scheduler/planner/policy.h"
#include "scheduler/replay/trace.h"

namespace tutti::replay {

struct ReplayOptions {
  planner::Policy policy;
  int nodes = 1;
  int node_size = 8;
  Duration restart_cost = std::chrono::seconds(60);
  Duration shake{};  // every submission is late by a random time below this
  std::uint64_t seed = 1;
};

struct JobOutcome {
  Instant submitted;
  Instant first_start;
  Instant ended;
  int preemptions = 0;
  bool never = false;  // it does not fit this cluster at all
};

struct ReplayResult {
  std::vector<JobOutcome> jobs;   // as in the trace
  double busy_gpu_seconds = 0;    // while jobs arrive
  double arrival_seconds = 0;     // from the first submission to the last
  double idle_while_waiting = 0;  // share of all GPU time while jobs arrive
  std::uint64_t decisions = 0;    // passes of the planner
};

ReplayResult replay(const Trace& trace, const ReplayOptions& options);

}  // namespace tutti::replay
