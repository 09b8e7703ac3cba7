// One workload under several policies, as it is asked of another process: question and answer as text. A bug
// of the planner under odd jobs ends that process, and not the one that leads.
//
// Called by: scheduler/service/replay_process (both ends), tests. Pure, std only.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "scheduler/planner/policy.h"
#include "scheduler/replay/trace.h"

namespace tutti::replay {

struct Comparison {
  Trace trace;
  std::vector<planner::Policy> policies;  // those that find_policy knows
  int nodes = 1, node_size = 8;
  Duration patience = std::chrono::seconds(10);  // for all of it
};

// What is told of a Report.
struct PolicyResult {
  double wait_mean_seconds = 0, wait_p50_seconds = 0, wait_p90_seconds = 0, wait_p99_seconds = 0;
  double utilisation = 0, goodput = 0;
  std::uint64_t preemptions = 0, jobs = 0, never = 0;
  bool operator==(const PolicyResult&) const = default;
};

struct Compared {
  std::vector<PolicyResult> results;  // one per policy
  bool given_up = false;              // it took longer than it may; there are no results then
};

Compared compare(const Comparison& comparison);

std::string encode(const Comparison& comparison);
std::string encode(const Compared& compared);
/// Nothing: it is cut, or not such a text.
std::optional<Comparison> decode_comparison(std::string_view text);
std::optional<Compared> decode_compared(std::string_view text);

}  // namespace tutti::replay
