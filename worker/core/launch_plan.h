// What an attempt needs on one node: first what the supervisor is told when it starts (plan_preparation),
// then which processes it starts with which variables (plan_launch). Pure functions of the job spec, the
// scheduler's messages and facts about the node; worker/service writes the files and speaks to the
// supervisor.
//
// How the four launchers start ranks:
//   direct    every node: one tutti-rank per rank, with RANK and so on.
//   torchrun  every node: one torchrun agent (static rendezvous, no inner restarts), ranks under tutti-rank.
//   mpirun    first node: mpirun, which starts the remote ranks through tutti-launch-agent in place of ssh.
//             Other nodes: nothing; their supervisor lets the agent in. Paths and GPUs differ per node, so
//             a rank inherits the variables of its own node's supervisor (Config::env, known before
//             `ready`); only what is known at the launch and is the same everywhere travels with -x.
//             With an image: one tutti-rank per rank, as direct, since an agent outside could not start ranks
//             inside and one inside would be the image's.
//   script    first node: one process. Other nodes: nothing; they run until they are told to stop.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "scheduler/model/error.h"
#include "scheduler/model/job_spec.h"
#include "scheduler/model/protocol.h"
#include "worker/container/container_plan.h"
#include "worker/core/environment.h"
#include "worker/supervisor/messages.h"

namespace tutti::worker {

struct Preparation {
  supervisor::Config config;
  std::string hostfile;
  std::vector<std::string> variables;  // names of those Tutti set
  std::optional<container::ContainerPlan> container;
};
Preparation plan_preparation(const JobSpec&, const protocol::Prepare&, const NodeFacts&);

struct AgentHost {  // for endpoints.json: where the launch agent finds the host that mpirun names
  std::string host;
  std::string address;
  std::int32_t port = 0;
};
struct LaunchPlan {
  supervisor::Launch launch;
  std::vector<AgentHost> agents;       // empty: no endpoints.json
  std::vector<std::string> variables;  // names of those Tutti set, over all processes
  std::string network;                 // which interface and adapters were chosen, and why
};
/// An error: the launch message does not fit the preparation.
Result<LaunchPlan> plan_launch(const JobSpec&, const protocol::Prepare&, const protocol::Launch&,
                               const NodeFacts&, Instant now);

/// `run` as a shell line: "train.py -x" becomes "/usr/bin/python3 train.py -x".
std::string rank_command(const std::string& run, const std::string& python);

/// Is this IPv4 address inside the CIDR? False for anything malformed.
bool in_subnet(const std::string& cidr, const std::string& address);

}  // namespace tutti::worker
