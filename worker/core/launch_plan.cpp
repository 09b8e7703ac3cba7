#include "worker/core/launch_plan.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <set>
#include <string_view>

namespace tutti::worker {
namespace {

constexpr int kCollectiveLimit = 60;                 // seconds, the start of mpirun included
constexpr std::int64_t kImageSetupUs = 840'000'000;  // fetching takes its time; below the scheduler's 15 min

Environment shared_environment(const JobSpec& spec, const protocol::Prepare& p, const NodeFacts& facts) {
  Environment env(spec.env);
  set_identity(env, spec, p, facts);
  set_devices(env, facts);
  set_network(env, facts);
  set_capture(env, facts);
  set_checkpoint(env, spec, p, facts);
  set_slurm(env, spec, p, facts);
  env.set("MASTER_ADDR", p.gang.front().address);
  if (!spec.image.empty()) env.set("TUTTI_IMAGE", spec.image);
  return env;
}

const protocol::GangNode& here(const protocol::Prepare& p) {
  return p.gang[static_cast<std::size_t>(p.index)];
}

// A script starts its own processes: its nodes have room for as many as it asked for, whatever we start.
std::string hostfile_text(const JobSpec& spec, const protocol::Prepare& p) {
  std::string out;
  for (const auto& n : p.gang) {
    const auto slots = spec.launcher == Launcher::script ? spec.procs_per_node : n.ranks;
    out += n.address + " slots=" + std::to_string(slots) + "\n";
  }
  return out;
}

// For mpirun, orted and what they start; the rest (RANK, …) tutti-rank takes from Open MPI. Several nodes of
// one machine (and so one host name) would share /tmp/ompi.HOST.UID, and the first to end would remove it
// under the others.
void set_mpi(Environment& env, const JobSpec& spec, const protocol::Prepare& p, const NodeFacts& facts) {
  // Each rank has a user namespace of its own: none may read another's memory.
  if (!spec.image.empty()) env.set("OMPI_MCA_btl_vader_single_copy_mechanism", "none");
  env.set("NODE_RANK", p.index);
  env.set("TMPDIR", facts.dir + "/" + files::kTmp);
  env.set("OMPI_MCA_orte_keep_fqdn_hostnames", "1");
  if (facts.account.uid == 0) {
    env.set("OMPI_ALLOW_RUN_AS_ROOT", "1");
    env.set("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1");
  }
}

void set_at_launch(Environment& env, const JobSpec& spec, const protocol::Launch& launch, Instant now) {
  env.set("MASTER_PORT", launch.master_port);
  if (spec.time_limit) {
    const auto at = std::chrono::time_point_cast<std::chrono::seconds>(now + *spec.time_limit);
    env.set("TUTTI_TIME_LIMIT_AT", at.time_since_epoch().count());
  }
}

void set_rank(Environment& env, const JobSpec& spec, const protocol::Prepare& p, std::int32_t local) {
  const auto rank = here(p).first_rank + local;
  const auto& last = p.gang.back();
  env.set("RANK", rank);
  env.set("WORLD_SIZE", last.first_rank + last.ranks);
  env.set("LOCAL_RANK", local);
  env.set("LOCAL_WORLD_SIZE", here(p).ranks);
  env.set("NODE_RANK", p.index);
  env.set("GROUP_RANK", p.index);  // one group of ranks per node, as with torchrun
  if (spec.compat_slurm) {
    env.set("SLURM_PROCID", rank);
    env.set("SLURM_LOCALID", local);
  }
}

void set_torchrun(Environment& env, const protocol::Prepare& p, const protocol::Launch& launch) {
  env.set("PET_NNODES", static_cast<std::int64_t>(p.gang.size()));
  env.set("PET_NPROC_PER_NODE", here(p).ranks);
  env.set("PET_NODE_RANK", p.index);
  env.set("PET_MASTER_ADDR", p.gang.front().address);
  env.set("PET_MASTER_PORT", launch.master_port);
  env.set("PET_RDZV_BACKEND",
          "static");                 // under c10d --node_rank is ignored and MASTER_ADDR may not be rank 0
  env.set("PET_MAX_RESTARTS", "0");  // one retry engine only
  env.set("NODE_RANK", p.index);
}

std::vector<std::string> rank_argv(const JobSpec& spec, const NodeFacts& facts) {
  return {facts.rank_program, "--shell",
          rank_command(spec.run, spec.image.empty() ? facts.python : "python3")};
}

// mpirun takes the first node for its own by the address. Nodes with the same address (several workers on one
// machine) need other names, or mpirun would count them as one host; the agent is called with that name, and
// an index cannot happen to be this machine's host name, as a node's name can.
std::vector<std::string> mpi_hosts(const protocol::Prepare& p) {
  std::vector<std::string> hosts;
  std::set<std::string> taken;
  for (std::size_t i = 0; i < p.gang.size(); ++i) {
    const auto& address = p.gang[i].address;
    hosts.push_back(taken.insert(address).second ? address : "tutti-" + std::to_string(i));
  }
  return hosts;
}

bool share_an_address(const protocol::Prepare& p) {
  std::set<std::string> addresses;
  for (const auto& node : p.gang) addresses.insert(node.address);
  return addresses.size() < p.gang.size();
}

bool all_inside(const std::string& subnet, const protocol::Prepare& p) {
  return !subnet.empty() && std::all_of(p.gang.begin(), p.gang.end(), [&](const protocol::GangNode& n) {
    return in_subnet(subnet, n.address);
  });
}

std::vector<std::string> mpirun_argv(const protocol::Prepare& p, const NodeFacts& facts,
                                     const Environment& env, std::vector<std::string> program) {
  std::vector<std::string> argv = {facts.mpirun};
  const auto mca = [&](const char* name, const std::string& value) {
    argv.insert(argv.end(), {"--mca", name, value});
  };
  mca("plm_rsh_agent", facts.launch_agent);
  mca("plm_rsh_no_tree_spawn", "1");
  argv.insert(argv.end(), {"--bind-to", "none"});  // else every job of a node is pinned to core 0 upwards
  argv.insert(argv.end(), {"--map-by", "slot", "--rank-by", "slot"});  // ranks in the order of the gang
  // Shared memory is named by host, user, job and *local* rank: nodes that share a machine, and so its host
  // name, would map each other's segments and crash. They talk TCP. The user's own choice is in env, which
  // says less to mpirun than its command line.
  if (!env.values().contains("OMPI_MCA_btl")) mca("btl", share_an_address(p) ? "tcp,self" : "tcp,vader,self");
  for (const std::string name : {"btl_tcp_if", "oob_tcp_if"}) {  // the user's own choice is in env
    const auto given = [&](const char* end) { return env.values().contains("OMPI_MCA_" + name + end); };
    if (all_inside(facts.subnet, p) && !given("_include") && !given("_exclude"))
      mca((name + "_include").c_str(), facts.subnet);
  }
  mca("mpi_yield_when_idle", "1");
  mca("oob_tcp_keepalive_time", "2");  // else a cut network is noticed after ten minutes
  mca("oob_tcp_keepalive_intvl", "1");
  mca("oob_tcp_keepalive_probes", "3");
  std::string hosts;
  const auto names = mpi_hosts(p);
  for (std::size_t i = 0; i < names.size(); ++i)
    hosts += (i ? "," : "") + names[i] + ":" + std::to_string(p.gang[i].ranks);
  argv.insert(argv.end(), {"--host", hosts});
  const auto& last = p.gang.back();
  argv.insert(argv.end(), {"-np", std::to_string(last.first_rank + last.ranks)});
  for (const auto* name : {"MASTER_PORT", "TUTTI_TIME_LIMIT_AT"})
    if (env.listed().contains(name)) argv.insert(argv.end(), {"-x", name});
  for (auto& word : program) argv.push_back(std::move(word));
  return argv;
}

// The ranks; with `preflight: full` an all-reduce over the same nodes first, by the same launcher.
std::vector<std::string> mpirun_line(const JobSpec& spec, const protocol::Prepare& p, const NodeFacts& facts,
                                     const Environment& env) {
  auto ranks = mpirun_argv(p, facts, env, rank_argv(spec, facts));
  if (spec.preflight != Preflight::full) return ranks;
  std::vector<std::string> argv = {facts.preflight_program, "--limit", std::to_string(kCollectiveLimit),
                                   "--"};
  for (auto& word :
       mpirun_argv(p, facts, env, {facts.collective_check, facts.dir + "/" + files::kCollective}))
    argv.push_back(std::move(word));
  argv.emplace_back("--then");
  argv.insert(argv.end(), ranks.begin(), ranks.end());
  return argv;
}

std::vector<std::string> sorted(const std::set<std::string>& names) { return {names.begin(), names.end()}; }

}  // namespace

std::string rank_command(const std::string& run, const std::string& python) {
  const auto start = run.find_first_not_of(" \t\n");
  if (start == std::string::npos) return run;
  const auto end = std::min(run.find_first_of(" \t\n;|&", start), run.size());
  const auto word = std::string_view(run).substr(start, end - start);
  return word.ends_with(".py") ? python + " " + run.substr(start) : run;
}

bool in_subnet(const std::string& cidr, const std::string& address) {
  const auto parse = [](std::string_view s) -> std::optional<std::uint32_t> {
    std::uint32_t out = 0;
    for (int part = 0; part < 4; ++part) {
      std::uint8_t n = 0;
      const auto r = std::from_chars(s.data(), s.data() + s.size(), n);
      if (r.ec != std::errc()) return std::nullopt;
      s.remove_prefix(static_cast<std::size_t>(r.ptr - s.data()));
      if ((part < 3) != (!s.empty() && s.front() == '.')) return std::nullopt;
      if (part < 3) s.remove_prefix(1);
      out = out << 8 | n;
    }
    return s.empty() ? std::optional(out) : std::nullopt;
  };
  const auto slash = cidr.find('/');
  if (slash == std::string::npos) return false;
  const auto net = parse(std::string_view(cidr).substr(0, slash));
  const auto host = parse(address);
  unsigned bits = 0;
  const auto* last = cidr.data() + cidr.size();
  const auto r = std::from_chars(cidr.data() + slash + 1, last, bits);
  if (!net || !host || r.ec != std::errc() || r.ptr != last || bits > 32) return false;
  const auto mask = bits == 0 ? 0U : ~std::uint32_t{0} << (32 - bits);
  return (*net & mask) == (*host & mask);
}

namespace {

std::string quoted(const std::string& word) {
  std::string out = "'";
  for (const char c : word) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return out + "'";
}

container::ContainerPlan plan_container(const JobSpec& spec, const NodeFacts& facts) {
  container::ContainerPlan c;
  c.image = spec.image;
  c.tool = facts.container_tool;
  c.bubblewrap = facts.bubblewrap;
  c.cache = facts.image_cache;
  c.cache_bytes = facts.image_cache_bytes;
  c.dir = facts.dir;
  c.programs = facts.rank_program.substr(0, facts.rank_program.rfind('/'));
  c.workdir = spec.workdir;
  c.checkpoint_dir = spec.checkpoint.dir;
  c.user = facts.account.name;
  c.home = facts.account.home;
  c.uid = facts.account.uid;
  c.gid = facts.account.gid;
  c.mounts = spec.mounts;
  c.mount_folders = facts.mount_folders;
  c.closed = facts.state_dir;
  c.shm = true;
  std::set<std::string> also;
  for (const auto& d : facts.devices) {
    if (d.simulated)
      also.insert(d.device_path.substr(0, d.device_path.rfind('/')));
    else
      c.gpus = true;
  }
  if (!also.empty() && !facts.nvml_library.empty()) also.insert(facts.nvml_library);
  c.also = sorted(also);
  for (const auto& [name, value] : spec.env) c.user_variables.push_back(name);
  return c;
}

// The image is got and laid out before the job's own setup, which runs inside: one deadline, one log, and a
// failure of either is the cause `setup` with its last lines.
void add_container(const JobSpec& spec, const NodeFacts& facts, Preparation& out) {
  auto& c = out.config;
  c.setup_timeout_us = kImageSetupUs;
  c.workdir = facts.dir + "/" + files::kWork;  // the spec's may be in the image only
  if (facts.container_tool.empty() || facts.image_program.empty()) {
    c.setup =
        "echo 'this node runs no images: bubblewrap (bwrap) is not installed, or the worker has "
        "--container none' >&2; exit 1";
    return;
  }
  out.container = plan_container(spec, facts);
  c.shm_bytes = spec.resources.shm_bytes;
  const auto image = quoted(facts.image_program), dir = quoted(facts.dir);
  c.setup = image + " " + dir;
  if (!spec.setup.empty())
    c.setup += " && exec " + image + " --inside " + dir + " -- /bin/sh -c " + quoted(spec.setup);
}

}  // namespace

Preparation plan_preparation(const JobSpec& spec, const protocol::Prepare& p, const NodeFacts& facts) {
  Preparation out;
  auto env = shared_environment(spec, p, facts);
  if (spec.launcher == Launcher::mpirun) set_mpi(env, spec, p, facts);
  auto& c = out.config;
  c.key = p.key;
  c.dir = facts.dir;
  c.uid = facts.account.uid;
  c.gid = facts.account.gid;
  c.groups = facts.account.groups;
  c.user = facts.account.name;
  c.home = facts.account.home;
  c.shell = facts.account.shell;
  c.allow_root = facts.allow_root;
  c.private_tmp = spec.private_tmp;
  c.memory_bytes = spec.resources.memory_bytes;
  c.programs = facts.rank_program.substr(0, facts.rank_program.rfind('/'));
  c.workdir = spec.workdir.empty() ? facts.dir + "/" + files::kWork : spec.workdir;
  c.setup = spec.setup;
  c.env = env.values();
  for (const auto& d : facts.devices) c.devices.push_back({d.device_path, d.uuid, d.simulated});
  c.first_rank = here(p).first_rank;
  c.local_ranks = here(p).ranks;
  c.listen_agent = spec.launcher == Launcher::mpirun && p.index > 0;
  c.listen_address = here(p).address;
  c.secret = p.secret;
  c.pick_master_port = p.index == 0;
  c.lease_path = facts.lease_path;
  c.kill_mode = facts.kill_mode;
  c.cgroup_parent = facts.cgroup_parent;
  if (!spec.image.empty()) add_container(spec, facts, out);
  out.hostfile = hostfile_text(spec, p);
  out.variables = sorted(env.listed());
  return out;
}

Result<LaunchPlan> plan_launch(const JobSpec& spec, const protocol::Prepare& p,
                               const protocol::Launch& launch, const NodeFacts& facts, Instant now) {
  if (launch.endpoints.size() != p.gang.size()) {
    Error e;
    e.code = Errc::invalid_argument;
    e.message = "launch has " + std::to_string(launch.endpoints.size()) + " endpoints for a gang of " +
                std::to_string(p.gang.size());
    e.field = "endpoints";
    return e;
  }
  if (spec.preflight == Preflight::full &&
      (facts.collective_check.empty() || facts.preflight_program.empty())) {
    Error e;
    e.message = "preflight: full needs tutti-preflight and tutti-collective-check beside the worker";
    return e;
  }
  LaunchPlan plan;
  std::set<std::string> listed;
  auto env = shared_environment(spec, p, facts);
  set_at_launch(env, spec, launch, now);
  const auto add = [&](std::vector<std::string> argv, const Environment& e, std::string log, bool is_rank) {
    plan.launch.processes.push_back({std::move(argv), e.values(), std::move(log), is_rank});
    listed.insert(e.listed().begin(), e.listed().end());
  };
  const std::string logs = std::string(files::kLogs) + "/";
  const auto add_ranks = [&] {
    for (std::int32_t local = 0; local < here(p).ranks; ++local) {
      auto own = env;
      set_rank(own, spec, p, local);
      add(rank_argv(spec, facts), own, logs + "keeper-" + std::to_string(local) + ".log", true);
    }
  };
  plan.network = facts.network_why;
  switch (spec.launcher) {
    case Launcher::direct: add_ranks(); break;
    case Launcher::torchrun: {
      if (!spec.image.empty()) {
        add_ranks();
        break;
      }
      set_torchrun(env, p, launch);
      auto argv = facts.torchrun;
      argv.push_back("--no_python");
      for (auto& word : rank_argv(spec, facts)) argv.push_back(std::move(word));
      add(std::move(argv), env, logs + "launcher.log", false);
      break;
    }
    case Launcher::mpirun:
      if (p.index != 0) break;
      set_mpi(env, spec, p, facts);
      add(mpirun_line(spec, p, facts, env), env, logs + "launcher.log", false);
      for (std::size_t i = 0; const auto& host : mpi_hosts(p)) {
        plan.agents.push_back({host, launch.endpoints[i].address, launch.endpoints[i].agent_port});
        ++i;
      }
      break;
    case Launcher::script:
      if (p.index != 0) break;
      env.set("RANK", 0);  // its keeper reports under this number
      env.set("WORLD_SIZE", 1);
      add({facts.rank_program, "--shell", spec.run}, env, logs + "keeper-0.log", true);
      break;
  }
  plan.variables = sorted(listed);
  return plan;
}

}  // namespace tutti::worker
