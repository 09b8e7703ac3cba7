// `tutti simulate`: a recorded workload under the planner's policies, in virtual time, side by side. Needs no
// server. Called by main.cpp.
#pragma once

#include <cstdint>
#include <iosfwd>
#include <string>
#include <vector>

#include "cli/render.h"

namespace tutti::cli {

struct SimulateOptions {
  std::string trace;    // CSV, plain or gzip; columns in scheduler/replay/trace.h
  std::string cluster;  // YAML: {nodes: 74, gpus_per_node: 8}; empty: the two below
  int nodes = 0, gpus_per_node = 8;
  std::vector<std::string> policies;  // empty: easy, fair, checkpoint
  double from = 0, to = 0;            // seconds of the trace; 0, 0 = all of it
  double load = 0;                    // press submissions together to this; 0 = as recorded
  int runs = 3;                       // the first as recorded, the others with submissions shaken
  double shake = 600;                 // seconds, at most
  std::uint64_t seed = 1;
  std::string faults;                              // CSV of node faults
  double fault_speed = 1;                          // times in it are divided by this
  double checkpoint_every = 1800, detection = 10;  // seconds
  int etas = 0;                                    // so many jobs are told when they will start
  std::string plot;                                // folder for SVG files
  double restart_cost = 60;                        // seconds that a preempted job pays when it starts again
};

int run_simulate(const SimulateOptions& options, bool json, const Look& look, std::ostream& out,
                 std::ostream& err);

}  // namespace tutti::cli
