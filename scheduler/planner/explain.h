// Why a job does not start now, from the planner itself.
//
// Two answers. `count_nodes` says of every node the first thing that keeps it from taking a part. `obstacles`
// is exact: a set of things such that the planner starts the job at once when all of them are gone, and does
// not when any one of them stays. It is found by trying on copies of the state. Pure, std only.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <vector>

#include "scheduler/planner/planner.h"

namespace tutti::planner {

// Why one node cannot take one part of a gang. First of the list that applies.
enum class NodeBlocker : std::uint8_t {
  none,               // it can
  other_queue,        // the node serves another queue
  excluded,           // named in exclude_nodes
  constraint,         // a label does not satisfy
  too_few_gpus,       // never: fewer (matching) GPUs than asked for, whatever their state
  too_small,          // never: fewer CPUs or less memory than asked for
  closed,             // takes no work at all: NodeDesc::closed says why
  gpus_out_of_order,  // enough GPUs, but too many are quarantined or dirty
  gpus_busy,          // enough healthy GPUs, but too many are allocated
  cpus_busy,
  memory_busy,
  reserved  // a named reservation of others
};
inline constexpr std::size_t kNodeBlockers = 12;
NodeBlocker blocker_of(const Nodes& nodes, int node, const GangAsk& ask);

struct NodeCount {
  std::array<int, kNodeBlockers> by{};
  int largest = 0;    // most matching GPUs of one node
  int ever = 0;       // nodes that could ever take a part
  int ever_near = 0;  // … in the best group of the level that the topology requires
  int now_near = 0;   // nodes that could take a part now, in the best such group
  int of(NodeBlocker b) const { return by[static_cast<std::size_t>(b)]; }
};
// Nodes that would do but are closed for this reason.
int closed_nodes(const Nodes& nodes, const GangAsk& ask, std::string_view why);
NodeCount count_nodes(const Planner& planner, const Waiting& job, Instant now);

struct Obstacle {
  enum class Kind : std::uint8_t {
    running,  // a job that runs where it would
    ahead,    // a job that waits before it and takes, or is promised, what it would
    node,     // a node that takes no work
    broken,   // a node with GPUs out of order
    quota,    // what its queue or project may hold
    window    // a named reservation
  };
  Kind kind;
  JobId job{};
  int node = -1;
  std::optional<QuotaBlock> quota{};
  std::string window{};
  bool operator==(const Obstacle& other) const {
    const auto what = [](const auto& o) {
      return o.quota ? std::pair(static_cast<int>(o.quota->kind), o.quota->who) : std::pair(-1, -1);
    };
    return kind == other.kind && job == other.job && node == other.node && window == other.window &&
           what(*this) == what(other);
  }
};
struct Obstacles {
  std::vector<Obstacle> all;
  bool exact = false;  // false: too many to be tried out, or nothing would help
};
Obstacles obstacles(const Planner& planner, JobId job, Instant now);
// What happens when these are gone: true = the planner starts the job in its next pass.
bool starts_without(const Planner& planner, JobId job, const std::vector<Obstacle>& gone, Instant now);

// The smallest change of the job itself that starts it now, one per field; what would not help is not listed.
struct Change {
  std::string field;  // "nodes", "time_limit", "priority", "resources.gpus", "topology"
  std::string to;     // as one writes it in a spec
};
std::vector<Change> changes_that_help(const Planner& planner, JobId job, Instant now);

}  // namespace tutti::planner
