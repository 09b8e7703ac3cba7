// Machines as the planner sees them: what each has, who holds it and until when, and which of them could
// take a part of a gang now. Pure, std only, one thread.
//
// Every kind of part that some job asks for (a `Need`) keeps a flag per node, "fits now", and counts of them,
// so that asking whether a gang fits costs O(1), a change on a node O(needs), and choosing O(nodes).
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "scheduler/model/ids.h"
#include "scheduler/model/job_spec.h"
#include "scheduler/model/time.h"

namespace tutti::planner {

inline constexpr std::size_t kGroups = 8;  // groups of devices per node; what is beyond joins the last
inline constexpr int kNoIsland = -1;       // devices without NVLink to any other

// Devices of one kind in one NVLink island of a node.
struct DeviceGroup {
  std::string model;
  std::int64_t memory_bytes = 0;
  int island = 0;  // or kNoIsland
  int total = 0;   // whatever their state
  int usable = 0;  // of them: in order, or held by a job
  bool operator==(const DeviceGroup&) const = default;
};

struct NodeDesc {
  NodeId id;
  std::string name;
  std::string queue;   // whose nodes it belongs to
  std::string closed;  // why it takes no work at all: "not_reachable", "not_schedulable", …; empty: it does
  std::vector<DeviceGroup> devices;
  int cpus = 0;
  std::int64_t memory_bytes = 0;
  std::map<std::string, std::string> labels;
  double suspicion = 0;    // 0..1: rather another node
  bool probation = false;  // back from repair: gangs of several nodes rather go elsewhere
  bool open() const { return closed.empty(); }
  bool operator==(const NodeDesc&) const = default;
};

// What a job takes on one node: devices by group.
struct Part {
  std::int32_t node = 0;
  std::array<std::uint8_t, kGroups> gpus{};
};
using Parts = std::vector<Part>;

// What a gang asks for. Jobs of equal asks fit or do not fit together.
struct GangAsk {
  std::string queue;  // whose nodes
  int nodes = 1;
  int min_nodes = 0;  // 0: not elastic
  Resources resources;
  Topology topology;
  std::vector<Constraint> constraints;
  std::vector<std::string> exclude_nodes;

  int fewest_nodes() const { return min_nodes > 0 ? min_nodes : nodes; }
  int gpus() const { return nodes * resources.gpus; }
  std::string key() const;  // equal iff the asks are
};
GangAsk ask_of(const JobSpec& spec, std::string queue_of_nodes);
int cpus_of(const Resources& r);  // a job without GPUs counts for one CPU when it names none

// Whether the labels of a node satisfy it. A label the node lacks satisfies only "!=".
bool satisfies(const NodeDesc& node, const Constraint& constraint);
bool kind_matches(const DeviceGroup& group, const GpuKind& kind);

// One node's part of a gang, for one kind of GPU.
struct Need {
  std::string queue;
  GpuKind kind;
  int gpus = 0, cpus = 0;
  std::int64_t memory_bytes = 0;
  bool one_island = false;  // all its GPUs in one NVLink island
  std::vector<Constraint> constraints;
  std::vector<std::string> exclude_nodes;

  std::vector<std::uint8_t> groups;  // by node: which device groups match, as bits
  std::vector<std::uint8_t> could;   // by node: would fit if it were empty and open
  std::vector<std::uint8_t> fits;    // by node: fits now
  int could_count = 0, fitting = 0;
  std::array<std::vector<int>, 4> fitting_in;  // by topology level from nvlink on, and group of nodes
  // A cache of what the machines say, by node: when it would fit, nobody starting meanwhile.
  mutable std::vector<Instant> ready;
  mutable std::vector<std::uint32_t> ready_of;  // version of the node that is from
};

struct Shape {
  GangAsk ask;
  std::vector<int> needs;  // one per kind of GPU, in order of preference
};

struct Occupant {
  JobId job;
  Instant until;  // at the latest
  Part part;
  int cpus = 0;
  std::int64_t memory_bytes = 0;
  bool leaves = false;  // has been asked to
};

struct Machine {  // a node, and who is on it
  std::shared_ptr<const NodeDesc> desc;
  std::array<std::int16_t, kGroups> usable{}, held{}, leaving{}, claimed{};
  int cpus_held = 0, cpus_leaving = 0, cpus_claimed = 0;
  std::int64_t memory_held = 0, memory_leaving = 0, memory_claimed = 0;
  std::vector<Occupant> occupants;
  std::array<int, 4> place{};  // group of nodes, by topology level from nvlink on
  std::uint32_t version = 1;   // rises with every change

  int usable_gpus() const;
  int free_gpus() const;  // in order and not held
};

// Which nodes may be used, and which rather: asked per node. Negative: no; lower first.
struct NodeFilter {
  virtual int preference(int node, const Need& need) const = 0;
  virtual ~NodeFilter() = default;
};

class Nodes {
 public:
  // ---- machines
  int put(const NodeDesc& desc);  // new, or changed; returns its index
  std::optional<int> find(NodeId id) const;
  int size() const { return static_cast<int>(nodes_.size()); }
  const Machine& at(int node) const { return nodes_[static_cast<std::size_t>(node)]; }
  int usable_gpus(const std::string& queue) const;

  // ---- asks
  int intern(const GangAsk& ask);  // the shape's number
  const Shape& shape(int s) const { return shapes_[static_cast<std::size_t>(s)]; }
  int shape_count() const { return static_cast<int>(shapes_.size()); }
  const Need& need(int n) const { return needs_[static_cast<std::size_t>(n)]; }
  bool fits(int shape) const;        // now, whatever is reserved
  bool could_ever(int shape) const;  // on nodes as they are, all empty and in service

  // ---- holding
  void occupy(JobId job, Instant until, const Resources& r, const Parts& parts);
  void vacate(JobId job, const Parts& parts);
  void set_leaving(JobId job, const Parts& parts, bool leaves);
  void claim(const Resources& r, const Parts& parts, int sign);  // kept for who will start there

  // ---- choosing. Empty: does not fit. `soon`: with what those who leave will free.
  Parts choose(int shape, const std::vector<int>& avoid, const NodeFilter* filter, bool soon = false) const;
  // Enough is free on all of them.
  bool is_free(const Resources& r, const Parts& parts) const;

  // When node `n` will fit `need`: min() = now, max() = not by anybody's end.
  Instant ready_at(int need, int n) const;
  // What is free on a node once all have gone who must be gone by `at`.
  struct Room {
    std::array<std::int16_t, kGroups> gpus{};
    int cpus = 0;
    std::int64_t memory_bytes = 0;
  };
  Room room_at(int node, Instant at) const;
  Room room_now(int node, bool soon) const;
  std::optional<Part> place(const Need& need, int node, const Room& room) const;

 private:
  struct Candidate;
  void describe(Need& need, int node);
  void refit(int node);
  void count(Need& need, int node, int by);
  bool fits_now(const Need& need, int node) const;
  int find_need(const Need& like);
  Parts choose_for(const Need& need, const GangAsk& ask, const std::vector<int>& avoid,
                   const NodeFilter* filter, bool soon) const;
  std::vector<Candidate> candidates(const Need& need, int wanted, const std::vector<int>& avoid,
                                    const NodeFilter* filter, bool soon) const;
  Parts best_of(std::vector<Candidate> from, const GangAsk& ask) const;
  void pick_near(std::vector<Candidate>& from, const GangAsk& ask) const;
  void pick_apart(std::vector<Candidate>& from, int wanted) const;
  int place_of(std::size_t level, const NodeDesc& desc);

  std::vector<Machine> nodes_;
  std::unordered_map<NodeId, int> index_;
  std::vector<Shape> shapes_;
  std::unordered_map<std::string, int> shape_of_;
  std::vector<Need> needs_;
  std::unordered_map<std::string, int> need_of_;
  std::array<std::unordered_map<std::string, int>, 4> places_;
  bool has_places_ = false;  // some node says where it stands
};

}  // namespace tutti::planner
