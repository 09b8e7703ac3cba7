// A job as submitted, with every default filled in. Read from YAML or JSON by api/wire/job_spec_codec,
// immutable afterwards, shared by pointer: a change (control_update.cpp) makes another one. Names and meaning
// are those of the user's spec.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "scheduler/model/cron.h"
#include "scheduler/model/ids.h"
#include "scheduler/model/states.h"
#include "scheduler/model/time.h"

namespace tutti {

enum class Launcher : std::uint8_t {
  direct,    // one process per GPU, rendezvous by MASTER_ADDR, RANK, …
  mpirun,    // Open MPI starts the ranks; the workers are its remote agents
  torchrun,  // one torchrun agent per node
  script     // `run` once, on node 0
};
std::string_view name(Launcher);
std::optional<Launcher> parse_launcher(std::string_view);

// A kind of device. Of several in a spec the earlier is preferred; a gang gets one kind throughout.
struct GpuKind {
  std::string model;              // empty: any; else matched as a case-insensitive part of the device's name
  std::int64_t memory_bytes = 0;  // at least; 0: any
  bool operator==(const GpuKind&) const = default;
};

struct Resources {  // per node
  int gpus = 0;
  std::vector<GpuKind> gpu_kinds;  // in order of preference; empty: any
  int cpus = 0;                    // 0: not counted (jobs without GPUs: 1)
  std::int64_t memory_bytes = 0;   // 0: not counted
  std::int64_t shm_bytes = 0;  // with an image: of /dev/shm, for all ranks of the node; 0: half the memory
  bool operator==(const Resources&) const = default;
};

// What of the node a container sees beside what it always has (docs/containers.md).
struct Mount {
  std::string source;  // on the node
  std::string target;  // in the container
  bool read_only = false;
  bool operator==(const Mount&) const = default;
};
inline constexpr std::size_t kMaxMounts = 64;
// The label of nodes that run images, and which ones: see api/wire/spec_image.h.
inline constexpr std::string_view kContainerLabel = "container";

// How near the nodes of a gang are: each level is a group of nodes inside the next, named by the node labels
// `topology.nvlink`, `topology.rack`, `topology.block`, `topology.spine`. A node without the label is alone
// in its group of that level (nvlink), or in one with all others that lack it.
enum class TopologyLevel : std::uint8_t {
  any,
  nvlink,  // one NVLink domain: the node itself, or a rack-scale system
  rack,
  block,
  spine
};
std::string_view name(TopologyLevel);
std::optional<TopologyLevel> parse_topology_level(std::string_view);

struct Topology {
  TopologyLevel require = TopologyLevel::any;  // all nodes in one group of this level, or it waits
  TopologyLevel prefer = TopologyLevel::any;   // if there is such a group now, else the next wider
  bool spread = false;  // rather different racks, and nodes with most room (default: pack)
  bool operator==(const Topology&) const = default;
};

// On a label of the node; `driver`, `model`, `name` and `queue` are labels that every node has. Compared as
// versions ("550.54" < "550.127") where both are, else as text.
struct Constraint {
  enum class Op : std::uint8_t {
    equal,
    not_equal,
    less,
    at_most,
    more,
    at_least,
    exists
  };
  std::string label;
  Op op = Op::exists;
  std::string value;
  bool operator==(const Constraint&) const = default;
};
std::string to_string(const Constraint&);                      // as in a spec: "driver>=550"
std::optional<Constraint> parse_constraint(std::string_view);  // nullopt: not of that form

struct Backoff {
  Duration initial{};
  Duration max{};
  bool operator==(const Backoff&) const = default;
};

enum class ExitAction : std::uint8_t {
  restart,  // start again, not charged
  never     // fail, whatever the budget
};

struct RetryPolicy {
  std::map<Cause, int> budget;       // overrides of the defaults in core/retry.h; -1 = no limit
  std::map<Cause, Backoff> backoff;  // likewise
  std::map<int, ExitAction> exit_codes;
  int no_progress_limit = 3;
};

struct StopPolicy {
  std::string signal = "TERM";
  Duration grace = std::chrono::seconds(30);
};

enum class HangAction : std::uint8_t {
  capture_only,        // an event with what was found; nothing is stopped
  capture_and_restart  // then the attempt ends with cause `hang`
};
std::string_view name(HangAction);

// What happens when no rank moves any more (docs/faults.md). Nothing given: a limit learned from the steps
// that ranks tell, and a restart; without told steps a report only.
struct HangPolicy {
  std::optional<Duration> after;  // silent for so long
  std::optional<HangAction> action;
};

// What is looked at before the program starts (docs/faults.md).
enum class Preflight : std::uint8_t {
  none,
  quick,  // the nodes, each by itself: milliseconds
  full    // and an all-reduce over the whole gang, against what others of its shape have reached
};
inline constexpr auto kPreflightNames = std::to_array<std::string_view>({"none", "quick", "full"});
constexpr std::string_view name(Preflight p) { return kPreflightNames[static_cast<std::size_t>(p)]; }

struct CheckpointPolicy {
  std::string dir;  // empty: the job writes none
  // Which ones are kept; the others are deleted while the job runs. 0: all.
  int keep = 0;                 // the newest so many, and the newest that is known to be good
  std::int64_t keep_every = 0;  // and those whose step is a multiple of this; 0: none
  Duration max_interval{};      // longer without a new one is said to be overdue; zero: no such limit
};

// What another job must have done before this one may run. Of an array: all its tasks, but one that has not
// succeeded is enough for `failed`.
struct Dependency {
  enum class When : std::uint8_t {
    ok,      // it has succeeded
    any,     // it is over
    failed,  // it is over and has not succeeded
    started  // all its ranks have been up once
  };
  JobId job;  // of an array the first task's
  When when = When::ok;
  int tasks = 1;       // of the array
  std::string name{};  // as submitted; stored is the id of the newest job of that name
  bool whole_array() const { return tasks > 1; }
  bool operator==(const Dependency&) const = default;
};
std::string_view name(Dependency::When);
std::optional<Dependency::When> parse_when(std::string_view);

// This job is one task of an array. Tasks have consecutive ids; the first one's id is the array's.
struct ArrayTask {
  int index = 0;     // as the user counts
  int position = 0;  // 0 … tasks - 1
  int tasks = 1;
  int max_parallel = 0;  // so many run or wait to run at one time; 0: all
  bool operator==(const ArrayTask&) const = default;
};
// An array as submitted, before it becomes tasks.
struct ArrayPlan {
  struct Task {
    int index = 0;
    std::map<std::string, std::string> variables;  // of a matrix
  };
  std::vector<Task> tasks;
  int max_parallel = 0;
};
inline constexpr int kMaxArrayTasks = 10'000;

// A job that runs again and again: it is a template that waits for its next time, and each run is a job.
struct Schedule {
  enum class Overlap : std::uint8_t {
    skip,  // no run while the one before is not over
    queue  // it waits for the one before
  };
  std::string cron;  // as written
  Cron times;
  Overlap overlap = Overlap::skip;
};
std::string_view name(Schedule::Overlap);
std::optional<Schedule::Overlap> parse_overlap(std::string_view);
inline constexpr int kMaxQueuedRuns = 10;  // runs of one schedule that are not over

// Whom to tell of what becomes of a job.
struct Notify {
  std::vector<std::string> on;  // words of scheduler/model/notice.h: "failed", "started", "hung", …
  std::string webhook;          // its name; in a spec "webhook:ops"
  bool operator==(const Notify&) const = default;
};

// "HF_TOKEN": also the name of the variable that it becomes.
inline constexpr std::size_t kMaxSecretName = 64;
inline constexpr std::size_t kMaxSecrets = 32;          // of one job
std::string why_no_secret_name(std::string_view name);  // "" = it is one

struct JobSpec {
  std::string name;
  std::string project = "default";
  std::string queue = "default";
  int priority = 50;  // 0..100, higher first
  std::map<std::string, std::string> labels;

  int nodes = 1;      // of the gang; of an elastic one the most
  int min_nodes = 0;  // of an elastic gang the fewest; 0: not elastic
  Resources resources;
  Topology topology;
  std::vector<Constraint> constraints;  // all must hold
  std::vector<std::string> exclude_nodes;

  std::string image;          // whose files the ranks see: api/wire/spec_image.h; empty: the node's own
  std::vector<Mount> mounts;  // with an image
  std::string workdir;
  std::map<std::string, std::string> env;
  std::vector<std::string> secrets;  // names of the project's: their values become variables at the launch
  bool private_tmp = false;          // a /tmp that no other job of the node sees, gone with the attempt
  Launcher launcher = Launcher::direct;
  int procs_per_node = 1;  // "auto" is resolved when the spec is read: one per GPU, at least 1
  std::string setup;
  std::string run;

  std::optional<Duration> time_limit;        // of one attempt's running time
  std::optional<Duration> total_time_limit;  // of all attempts together
  std::optional<Instant> begin_time;
  std::optional<Instant> deadline;  // of no use unless it has ended by then
  std::vector<Dependency> depends_on;
  std::optional<ArrayTask> array_task;
  std::optional<ArrayPlan> array;  // only until it is submitted
  std::optional<Schedule> schedule;
  JobId scheduled_by;  // this is a run of that template; 0: it is not

  bool preemptible = true;
  StopPolicy stop;
  CheckpointPolicy checkpoint;
  RetryPolicy retry;
  HangPolicy hang;
  Preflight preflight = Preflight::quick;
  std::vector<Notify> notify;
  bool compat_slurm = false;

  int fewest_nodes() const { return min_nodes > 0 ? min_nodes : nodes; }
  int ranks() const { return launcher == Launcher::script ? 1 : nodes * procs_per_node; }
};

using SpecPtr = std::shared_ptr<const JobSpec>;

}  // namespace tutti
