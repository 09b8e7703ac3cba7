#include "worker/core/environment.h"

#include <algorithm>

namespace tutti::worker {

void Environment::set(const std::string& name, std::string value) {
  if (user_->contains(name)) return;
  values_[name] = std::move(value);
  listed_.insert(name);
}

void Environment::set_base(const std::string& name, std::string value) {
  if (!user_->contains(name)) values_[name] = std::move(value);
}

namespace {

template <class List, class Text>
std::string joined(const List& list, char separator, Text text) {
  std::string out;
  for (const auto& item : list) {
    if (!out.empty()) out += separator;
    out += text(item);
  }
  return out;
}

std::string node_list(const protocol::Prepare& p) {
  return joined(p.gang, ',', [](const protocol::GangNode& n) { return n.node; });
}

}  // namespace

void set_identity(Environment& env, const JobSpec& spec, const protocol::Prepare& p, const NodeFacts& facts) {
  env.set_base("PATH", facts.path);
  env.set_base("HOME", facts.account.home);
  env.set_base("USER", facts.account.name);
  env.set_base("LOGNAME", facts.account.name);
  env.set_base("SHELL", login_shell(facts.account.shell));
  env.set_base("LANG", "C.UTF-8");
  env.set("TUTTI_JOB_ID", p.key.job.value);
  env.set("TUTTI_JOB_NAME", spec.name);
  env.set("TUTTI_ATTEMPT", p.attempt);
  env.set("TUTTI_RESTART_COUNT", p.attempt - 1);
  env.set("TUTTI_EPOCH", p.key.epoch.value);
  env.set("TUTTI_NODELIST", node_list(p));
  env.set("TUTTI_NUM_NODES", static_cast<std::int64_t>(p.gang.size()));
  env.set("TUTTI_GPUS_PER_NODE", spec.resources.gpus);
  env.set("TUTTI_HOSTFILE", facts.dir + "/" + files::kHostfile);
  env.set("TUTTI_RESTART_CAUSE", p.restart_cause);
}

// Indices, not UUIDs: some frameworks parse integers. Slices (MIG) have no index to CUDA, only their UUID.
// All GPUs of the allocation stay visible to every rank; LOCAL_RANK chooses (peer-to-peer needs that).
// Without GPUs the variable is empty, which hides all of them.
void set_devices(Environment& env, const NodeFacts& facts) {
  if (!facts.devices.empty()) env.set("CUDA_DEVICE_ORDER", "PCI_BUS_ID");
  if (!facts.devices.empty() || facts.node_has_gpus)
    env.set("CUDA_VISIBLE_DEVICES", joined(facts.devices, ',', [](const DeviceFact& d) {
              return d.uuid.starts_with("MIG-") ? d.uuid : std::to_string(d.index);
            }));
  const bool simulated = std::any_of(facts.devices.begin(), facts.devices.end(),
                                     [](const DeviceFact& d) { return d.simulated; });
  if (simulated)
    env.set("TUTTI_SIM_DEVICES",
            joined(facts.devices, ',', [](const DeviceFact& d) { return d.device_path; }));
}

// To NCCL a name is the beginning of names, unless "=" stands before it: eth1 would be eth10 and eth1.100 as
// well. Gloo and Open MPI take names as they are. UCX and Open MPI get the ports of NCCL, unless the user has
// said with other words which network they are to use.
void set_network(Environment& env, const NodeFacts& facts) {
  if (!facts.interface.empty()) {
    env.set("NCCL_SOCKET_IFNAME", "=" + facts.interface);
    env.set("GLOO_SOCKET_IFNAME", facts.interface);
  }
  if (facts.ib_hcas.empty()) return;
  env.set("NCCL_IB_HCA", facts.ib_hcas);
  const std::string ports = facts.ib_hcas.substr(facts.ib_hcas.starts_with('=') ? 1 : 0);
  const auto given = [&](const char* name) { return env.values().contains(name); };
  if (!given("UCX_TLS")) env.set("UCX_NET_DEVICES", ports);
  if (!given("OMPI_MCA_btl_openib_if_exclude")) env.set("OMPI_MCA_btl_openib_if_include", ports);
}

// On unless refused, which the user does by giving his own value. The dump needs a buffer size above 0.
void set_capture(Environment& env, const NodeFacts& facts) {
  if (facts.devices.empty()) return;
  const auto folder = facts.dir + "/" + files::kCapture;
  env.set("NCCL_DEBUG", "WARN");
  env.set("NCCL_DEBUG_FILE", folder + "/nccl.%h.%p.log");
  env.set("TORCH_NCCL_TRACE_BUFFER_SIZE", "2000");
  env.set("TORCH_NCCL_DUMP_ON_TIMEOUT", "1");
  env.set("TORCH_NCCL_DEBUG_INFO_TEMP_FILE", folder + "/nccl_trace_rank_");
  env.set("TORCH_FR_DUMP_TEMP_FILE", folder + "/nccl_trace_rank_");  // its newer name
}

void set_checkpoint(Environment& env, const JobSpec& spec, const protocol::Prepare& p,
                    const NodeFacts& facts) {
  if (!spec.checkpoint.dir.empty()) env.set("CHECKPOINT_DIR", spec.checkpoint.dir);
  env.set("RESUME_CHECKPOINT", p.resume_path);
  if (const auto slash = facts.rank_program.rfind('/'); slash != std::string::npos)
    env.set("TUTTI_CHECKPOINT_TOOL", facts.rank_program.substr(0, slash) + "/tutti-checkpoint");
  env.set("TUTTI_PROGRESS_FILE", facts.dir + "/" + files::kProgress + "/rank-%r.json");
  env.set("TUTTI_STOP_FILE", facts.dir + "/" + files::kStop);
  env.set("TUTTI_STOP_DEADLINE_FILE", facts.dir + "/" + files::kStopDeadline);
}

void set_slurm(Environment& env, const JobSpec& spec, const protocol::Prepare& p, const NodeFacts& facts) {
  if (!spec.compat_slurm) return;
  env.set("SLURM_JOB_ID", p.key.job.value);
  env.set("SLURM_NNODES", static_cast<std::int64_t>(p.gang.size()));
  env.set("SLURM_JOB_NODELIST", node_list(p));
  env.set("SLURM_NODEID", p.index);
  std::int64_t ranks = 0;  // an elastic gang has fewer than it could
  for (const auto& m : p.gang) ranks += m.ranks;
  env.set("SLURM_NTASKS", ranks);
  if (spec.array_task) env.set("SLURM_ARRAY_TASK_ID", spec.array_task->index);
  env.set("SLURM_GPUS_ON_NODE", static_cast<std::int64_t>(facts.devices.size()));
  env.set("SLURM_RESTART_COUNT", p.attempt - 1);
}

}  // namespace tutti::worker
