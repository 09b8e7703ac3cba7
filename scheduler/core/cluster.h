// Nodes, GPUs and who holds them, as the leader sees them. Plain data with a few derived answers; changed
// only by the control plane, read by placement and explain. `free` and `allocated` are derived here and
// stored nowhere.
#pragma once

#include <deque>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "scheduler/model/ids.h"
#include "scheduler/model/protocol.h"
#include "scheduler/model/rows.h"

namespace tutti {

struct Gpu {
  GpuRow row;
  AttemptKey holder;  // job 0 = nobody
  // What its worker said last of its health, to this leader. A person cannot vouch against "unhealthy", and
  // only who has said it can take it back.
  enum class Said : std::uint8_t {
    nothing,
    healthy,
    unhealthy
  } said = Said::nothing;
  std::map<std::string, Instant> seen;  // fault → when it was last told, since the last reset

  bool usable() const { return row.present && row.health == GpuHealth::healthy; }
  bool free() const { return usable() && !holder.job; }
};

// GPUs that are all alike to the planner.
struct GpuGroup {
  std::string model;
  std::int64_t memory_bytes = 0;
  std::int32_t island = 0;
  bool operator==(const GpuGroup&) const = default;
};

struct NodeCondition {
  std::string kind, subject, detail;
  Instant since;
};

struct InspectionReport {
  Instant at;  // of its end
  std::string trigger;
  std::vector<protocol::CheckResult> checks;
};

struct Node {
  NodeRow row;
  std::vector<GpuId> gpus;    // present ones, in index order
  std::vector<GpuId> absent;  // no longer reported
  // Kinds of GPU that it has or had: the planner knows them by their place here, which therefore never
  // changes.
  std::vector<GpuGroup> groups;
  std::set<AttemptKey> members;  // attempts that have a part here which is not proven dead
  // Attempts of a former epoch that the worker says are still alive here: nothing is placed until they are
  // not.
  std::set<AttemptKey> stale;
  // Attempts that the worker could not prove dead, and the GPUs they may still be on: those stay dirty until
  // the worker proves it, whatever a person says of the node.
  std::map<AttemptKey, std::vector<GpuId>> unproven;
  double suspicion = 0;  // 0..0.9: fails more often than others; taken last
  // Of a fault that was acted upon: what is near to it in time is its cascade. Its first one is blamed.
  Instant last_fault_at, blamed_at;
  FaultId blamed;
  GpuId blamed_gpu;
  // Since when its faults count: a person, or its probation, has begun a new page. Not known: since the last
  // change of its service.
  std::optional<Instant> page_at{};
  std::map<std::string, Instant> reported;  // by whom, when last
  bool linked = false;                      // a connection is open (not the same as reachable)
  bool counted_lost = false;                // its present silence is in the fault ledger
  std::int32_t peer_port = 0;               // as its Hello said; 0 = none, or not registered here yet
  std::uint64_t link =
      0;  // which connection: rises with each hello, so that a late loss of an old one is told

  // What its worker (or, of its clock, the scheduler) says is wrong with it. In memory only: the worker says
  // it again with its next Hello, and takes no work before.
  std::vector<NodeCondition> conditions;
  // Of its network links, the last.
  struct LinkTrouble {
    Instant at;
    std::string what;  // "mlx5_0/1: …", or the incident's words, which begin with the link
  };
  std::optional<LinkTrouble> link_trouble;
  struct Incident {
    std::string kind, detail;
    Instant at;
  };
  std::deque<Incident> incidents;  // the newest: a worker tells them again, until it knows that they came
  std::optional<Duration> clock_ahead;  // of ours, while it is off by too much
  std::string closing;                  // kind of the first condition that keeps new work away; "" = none
  std::optional<InspectionReport> inspection;  // the last one
  std::int64_t inspection_asked = 0;           // number of the one under way, 0 = none
  Mono inspection_asked_at{}, inspect_not_before{};

  bool accepts_work() const {
    return row.state == NodeState::reachable && takes_work(row.service) && linked && stale.empty() &&
           closing.empty();
  }
};

struct Cluster {
  std::map<NodeId, Node> nodes;
  std::map<GpuId, Gpu> gpus;
  std::map<std::string, NodeId> node_by_name;
  std::map<std::string, GpuId> gpu_by_uuid;

  Node* find(NodeId id) {
    auto it = nodes.find(id);
    return it == nodes.end() ? nullptr : &it->second;
  }
  const Node* find(NodeId id) const {
    auto it = nodes.find(id);
    return it == nodes.end() ? nullptr : &it->second;
  }
  const Gpu* find_gpu(const std::string& uuid) const {
    auto it = gpu_by_uuid.find(uuid);
    return it == gpu_by_uuid.end() ? nullptr : &gpus.at(it->second);
  }
};

}  // namespace tutti
