// The variables that a process of a job gets. Rule: a value the user gave is never overwritten, and what was
// set is listed for the attempt's record. Built by launch_plan.cpp; plain values.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>

#include "scheduler/model/job_spec.h"
#include "scheduler/model/protocol.h"
#include "worker/core/account.h"

namespace tutti::worker {

class Environment {
 public:
  explicit Environment(const std::map<std::string, std::string>& user) : values_(user), user_(&user) {}

  /// Tutti's value, unless the user gave one.
  void set(const std::string& name, std::string value);
  void set(const std::string& name, std::int64_t value) { set(name, std::to_string(value)); }
  /// What any login would have (PATH, HOME): not listed.
  void set_base(const std::string& name, std::string value);

  const std::map<std::string, std::string>& values() const { return values_; }
  const std::set<std::string>& listed() const { return listed_; }

 private:
  std::map<std::string, std::string> values_;
  const std::map<std::string, std::string>* user_;  // outlives this
  std::set<std::string> listed_;
};

/// A GPU of this node, as far as a launch needs it.
struct DeviceFact {
  std::string uuid;
  std::int32_t index = 0;
  std::string device_path;
  bool simulated = false;
};

/// What this node adds to a launch: gathered by worker/service.
struct NodeFacts {
  std::string dir;  // the attempt's directory
  Account account{.name = "root", .groups = {}};
  std::string path = "/usr/local/bin:/usr/bin:/bin";
  bool allow_root = false;                           // its uid may be 0
  std::vector<DeviceFact> devices;                   // the allocation on this node, in index order
  bool node_has_gpus = false;                        // a job without GPUs must not see those of others
  std::string interface;                             // that has the node's address; "" = not known
  std::string subnet;                                // of it, CIDR; likewise
  std::string ib_hcas;                               // "=mlx5_0:1,mlx5_1:1"; "" = none
  std::string network_why;                           // how those were chosen, for the record
  std::string rank_program;                          // path of tutti-rank
  std::string launch_agent;                          // path of tutti-launch-agent
  std::vector<std::string> torchrun = {"torchrun"};  // how to call it
  std::string mpirun = "mpirun";
  std::string python = "/usr/bin/python3";
  std::string preflight_program;  // path of tutti-preflight
  std::string collective_check;   // what it starts on every rank; "" = there is none
  std::string lease_path, kill_mode = "auto", cgroup_parent;
  // For jobs with an image.
  std::string image_program;   // path of tutti-image
  std::string container_tool;  // "podman", …; "" = this node runs no images
  std::string bubblewrap, image_cache, state_dir;
  std::int64_t image_cache_bytes = 0;
  std::vector<std::string> mount_folders;
  std::string nvml_library;  // the double's, with simulated GPUs
};

/// Names of files and folders in an attempt's directory that user programs see.
namespace files {
inline constexpr auto kHostfile = "hostfile";
inline constexpr auto kEndpoints = "endpoints.json";
inline constexpr auto kAgentSecret = "agent_secret";    // read by tutti-launch-agent
inline constexpr auto kStop = "stop";                   // comes into being when a stop is wanted
inline constexpr auto kStopDeadline = "stop_deadline";  // until when, Unix seconds
inline constexpr auto kLogs = "logs";
inline constexpr auto kProgress = "progress";
inline constexpr auto kTmp = "tmp";
inline constexpr auto kWork = "work";  // where a job without a workdir runs
inline constexpr auto kCapture = "capture";
inline constexpr auto kCollective = "progress/collective.json";  // what the all-reduce of the gang reached
}  // namespace files

/// The variables that all processes of the attempt on this node share. Those that are known at the launch
/// only (MASTER_PORT, TUTTI_TIME_LIMIT_AT) and those of one rank are not among them.
void set_identity(Environment&, const JobSpec&, const protocol::Prepare&, const NodeFacts&);
void set_devices(Environment&, const NodeFacts&);
void set_network(Environment&, const NodeFacts&);
void set_capture(Environment&, const NodeFacts&);
void set_checkpoint(Environment&, const JobSpec&, const protocol::Prepare&, const NodeFacts&);
void set_slurm(Environment&, const JobSpec&, const protocol::Prepare&, const NodeFacts&);

}  // namespace tutti::worker
