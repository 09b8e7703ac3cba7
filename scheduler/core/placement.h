// Where a gang goes: all or nothing over nodes and their GPUs, best fit. A pure function of (cluster, shape):
// the same code answers live scheduling and `explain`.
// Rules: (1) a node is named at most once; (2) every node gives exactly `gpus` free, healthy, matching GPUs;
// (3) nodes with the fewest free GPUs that fit come first, so that whole nodes stay free for whole-node
// gangs; (4) nodes in `avoid` (they failed this job before) are taken only if nothing else fits; (5) inside a
// node the smallest NVLink island that fits; (6) ties break by id.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "scheduler/core/cluster.h"
#include "scheduler/model/job_spec.h"

namespace tutti {

// What a job needs, without who it is: jobs of equal shape fit or do not fit together.
struct Shape {
  std::string queue;
  int nodes = 1;
  Resources resources;
  std::vector<std::string> exclude_nodes;  // sorted

  static Shape of(const JobSpec&);
  std::string key() const;  // equal iff the shapes are
};

struct NodePick {
  NodeId node;
  std::vector<GpuId> gpus;
};

// Nothing if it does not fit now.
std::optional<std::vector<NodePick>> choose_nodes(const Cluster&, const Shape&,
                                                  const std::vector<NodeId>& avoid);

// Why one node cannot take one part of a gang of this shape. First of the list that applies.
enum class Blocker : std::uint8_t {
  none,               // it can
  other_queue,        // the node serves another queue
  excluded,           // named in exclude_nodes
  too_few_gpus,       // never: fewer (matching) GPUs than asked for, whatever their state
  too_small,          // never: fewer CPUs or less memory than asked for
  not_reachable,      // unreachable or dead
  not_schedulable,    // cordoned, draining, quarantined
  stale_ranks,        // ranks of a former attempt are not proven dead
  gpus_out_of_order,  // enough GPUs, but too many are quarantined or dirty
  gpus_busy,          // enough healthy GPUs, but too many are allocated
  cpus_busy,
  memory_busy
};
inline constexpr std::size_t kBlockerCount = 12;
Blocker blocker_of(const Cluster&, const Node&, const Shape&);
// It would fit if everything that runs now had ended.
bool fits_when_idle(const Cluster&, const Shape&);
int free_matching_gpus(const Cluster&, const Node&, const Resources&);
bool gpu_matches(const GpuRow&, const Resources&);
int cpus_needed(const Resources&);  // jobs without GPUs count for one CPU when they name none

}  // namespace tutti
