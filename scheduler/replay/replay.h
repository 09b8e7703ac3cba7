// A workload under a policy, in virtual time: the same planner that runs live, fed with submissions and ends.
//
// Jobs keep their work over a preemption and pay `restart_cost` when they start again. Run times do not
// depend on where a job runs, or beside whom. Deterministic: the same trace, options and seed give the same
// result.
#pragma once

#include <cstdint>
#include <functional>
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
  // Nodes that fail. Their gangs lose what they did since their last checkpoint, are known to be dead after
  // `detection`, and go to the front.
  std::vector<NodeFault> faults;
  Duration checkpoint_every = std::chrono::minutes(30);
  Duration detection = std::chrono::seconds(10);
  std::function<bool()> give_up{};  // asked before each step; unset: never
  std::size_t etas = 0;             // so many of the jobs that wait are told when they will start
};

// What was said to a job that waited, and what came of it.
struct EtaOutcome {
  Duration estimated{};  // wait
  Duration low{}, high{};
  Duration by_limits{};  // its wait if everybody ran to the limit: from now to then is what limits alone know
  Duration real{};
};

struct JobOutcome {
  Instant submitted;
  Instant first_start;
  Instant ended;
  int preemptions = 0;
  int interruptions = 0;  // by faults
  bool never = false;     // it does not fit this cluster at all
};

struct ReplayResult {
  std::vector<JobOutcome> jobs;   // as in the trace
  double busy_gpu_seconds = 0;    // while jobs arrive
  double arrival_seconds = 0;     // from the first submission to the last
  double idle_while_waiting = 0;  // share of all GPU time while jobs arrive
  // Share of all GPU time that was idle though the first that waited needs no more GPUs than were free: they
  // were on too many nodes.
  double fragmented = 0;
  double held_gpu_seconds = 0;        // by anybody, to the end
  double useful_gpu_seconds = 0;      // of them, work that was not lost and no restart
  std::vector<double> restart_waits;  // seconds in the queue of gangs that a fault has ended
  std::vector<EtaOutcome> etas;
  std::uint64_t decisions = 0;  // passes of the planner
  bool given_up = false;        // the rest means nothing
};

ReplayResult replay(const Trace& trace, const ReplayOptions& options);

}  // namespace tutti::replay
