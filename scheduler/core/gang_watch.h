// What the ranks of one attempt do, put together from the reports of its nodes: whether the whole gang hangs,
// whom to suspect, who is slow. Pure; held by Attempt. Nothing of it is stored: workers say it again.
//
//   1. A gang hangs only if every node with living ranks has reported since it was connected, and every one
//      of them whose ranks tell progress is stalled (where none tells any: every one). One node that moves is
//      enough to say no: a false kill is worse than a late one.
//   2. Nobody is suspected without a reason of its own: it is stopped, or waits in the kernel, or is behind.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "scheduler/core/straggler.h"
#include "scheduler/model/ids.h"
#include "scheduler/model/protocol.h"
#include "scheduler/model/time.h"

namespace tutti {

class GangWatch {
 public:
  struct Suspect {
    std::int32_t rank = 0;
    NodeId node;
    std::string why;  // "is stopped (T)", "is the last, at step 12 of others' 13"
  };
  struct Hang {
    bool by_progress = false;  // told steps stand still; else: no CPU time, I/O or GPU use
    bool captured = false;     // on all nodes
    Duration silent{};         // since when nothing has moved
    Duration limit{};          // the longest of the nodes'
    std::int64_t lowest_step = -1, highest_step = -1;
    std::size_t ranks = 0;
    // All silent ranks wait in the kernel, or some on several nodes do: what is common to them does not
    // answer.
    bool in_kernel = false;
    std::optional<Suspect> suspect;
  };
  struct Straggler {
    NodeId node;
    double times = 1;
  };
  struct Change {
    std::int32_t rank = 0;
    NodeId node;
    bool slow = false;
    double times = 1;
    double usual_seconds = 0;  // the median rank's step
  };

  void on_report(NodeId, const protocol::RankReport&, Mono now);
  /// It is connected anew and will say again what it has, or its ranks have ended.
  void forget(NodeId node);
  /// A node's ranks that tell progress are not stalled: the gang does not hang, whatever the others say. Each
  /// node of a large gang reports every few seconds, and this is the answer nearly always.
  bool moves() const { return !moving_.empty(); }
  /// All that have reported have done so anew; see look_for_stragglers.
  bool may_hold_round(Mono now) const;

  /// `members`: nodes whose ranks live.
  std::optional<Hang> hang(const std::vector<NodeId>& members, Mono now) const;

  /// A round is held when all members have reported anew and all ranks have made a step since the last one.
  std::vector<Change> look_for_stragglers(const std::vector<NodeId>& members, Mono now);
  std::map<std::int32_t, Straggler> stragglers() const;

 private:
  struct Part {
    protocol::RankReport report;
    Mono at{};
    bool fresh = true;  // not in a round yet
  };
  std::optional<Suspect> suspect(const std::vector<NodeId>& members) const;

  std::map<NodeId, Part> nodes_;
  std::set<NodeId> moving_;
  std::size_t fresh_ = 0;         // of nodes_
  std::optional<Mono> last_try_;  // to hold a round
  StragglerWatch slow_;
  std::optional<Mono> last_round_;
  std::map<std::int32_t, std::int64_t> steps_;  // at the last round
};

}  // namespace tutti
