// The first half of supervisor.h: from the configuration to running processes.
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <system_error>

#include "worker/supervisor/cgroup.h"
#include "worker/supervisor/files.h"
#include "worker/supervisor/private_tmp.h"
#include "worker/supervisor/proc_scan.h"
#include "worker/supervisor/supervisor.h"

namespace tutti::supervisor {

void Supervisor::fail_launch(const std::string& kind, const std::string& detail) {
  std::fprintf(stderr, "%s: %s\n", kind.c_str(), detail.c_str());
  part_.on_failure({.kind = kind, .boot_us = boot_us(), .detail = detail, .last_lines = {}});
}

void Supervisor::prepare() {
  std::string problem;
  try {
    if (!check_user(problem) || !choose_kill_mode(problem)) return fail_launch("launch", problem);
    secrets_ = read_secrets(config_.dir);
    mask_ = SecretMask(secrets_);
    const std::string logs = config_.dir + "/logs";
    if (mkdir(logs.c_str(), 0700) != 0 && errno != EEXIST) throw_errno("mkdir " + logs);
    give(logs);
    if (config_.private_tmp) enter_private_tmp(config_);
    if (config_.shm_bytes >= 0) mount_shm(config_);
    if (!lock_devices(problem)) return fail_launch("launch", problem);
    open_ports();
    if (config_.setup.empty())
      become_ready();
    else
      start_setup();
  } catch (const std::runtime_error& e) {
    fail_launch("launch", e.what());
  }
}

void Supervisor::give(const std::string& path) const {
  if (geteuid() == 0 && lchown(path.c_str(), user_.uid, user_.gid) != 0) throw_errno("chown " + path);
}

bool Supervisor::check_user(std::string& problem) {
  if (config_.uid == 0 && !config_.allow_root) {
    problem = "jobs never run as root";
    return false;
  }
  if (config_.private_tmp && geteuid() != 0) {
    problem = "private_tmp needs a worker that runs as root";
    return false;
  }
  if (geteuid() != 0 && config_.uid != geteuid()) {
    problem =
        "cannot run as user " + std::to_string(config_.uid) + ": we are user " + std::to_string(geteuid());
    return false;
  }
  return true;
}

bool Supervisor::choose_kill_mode(std::string& problem) {
  if (config_.kill_mode == "process-group") return true;
  cgroup_ = create_cgroup(config_, problem);
  if (!cgroup_.empty() || config_.kill_mode == "cgroup2") return !cgroup_.empty();
  std::fprintf(stderr, "no cgroup, processes are found by scanning /proc: %s\n", problem.c_str());
  return true;
}

bool Supervisor::lock_devices(std::string& problem) {
  for (const Device& device : config_.devices) {
    if (!device.simulated) continue;
    Fd fd(open(device.path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd) {
      problem = "cannot open " + device.path + ": " + std::strerror(errno);
      return false;
    }
    if (flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
      problem = device.path + " is held by";
      for (const pid_t pid : find_holders(device.path)) problem += " " + describe(pid);
      return false;
    }
    device_locks_.push_back(std::move(fd));
    held_devices_.push_back(device.path);
  }
  return true;
}

void Supervisor::open_ports() {
  if (config_.pick_master_port) reserved_port_ = reserve_port(config_.listen_address, master_port_);
  if (!config_.secret.empty()) {
    // The launch agents of our own mpirun run as the job's user and must be able to read it, nobody else.
    const std::string file = config_.dir + "/agent_secret";
    replace_file(file, config_.secret, false, 0400);
    give(file);
  }
  if (!config_.listen_agent) return;
  agents_.emplace(poller_, listen_tcp(config_.listen_address, agent_port_), config_.secret,
                  [this](const std::string& command, int out, int err, std::string& refusal) {
                    return start_agent_command(command, out, err, refusal);
                  });
}

std::map<std::string, std::string> Supervisor::complete(std::map<std::string, std::string> env) const {
  for (const auto& [name, value] : secrets_) env[name] = value;
  env.try_emplace("PATH", "/usr/local/bin:/usr/bin:/bin");
  if (!user_.home.empty()) env.try_emplace("HOME", user_.home);
  if (!user_.name.empty()) env.try_emplace("USER", user_.name);
  env[std::string(kKeyVariable)] =
      key_text(config_.key);  // the mark by which they are found: never another's
  env[std::string(kDirVariable)] = config_.dir;
  return env;
}

pid_t Supervisor::start(Running running, SpawnPlan plan) {
  plan.env = complete(std::move(plan.env));
  plan.workdir = config_.workdir.empty() ? config_.dir : config_.workdir;
  plan.user = &user_;
  plan.cgroup = running.cgroup.empty() ? cgroup_ : running.cgroup;
  plan.log = running.log;
  anything_started_ = true;
  Spawned child = spawn(plan);
  running.trouble = std::move(child.trouble);
  processes_[child.pid] = std::move(running);
  return child.pid;
}

void Supervisor::start_setup() {
  setup_until_ = boot_us() + config_.setup_timeout_us;
  SpawnPlan plan;
  plan.argv = {"/bin/sh", "-c", config_.setup};
  plan.env = config_.env;
  Running running{
      .role = Role::setup, .name = "setup", .log = config_.dir + "/logs/setup.log", .trouble = {}};
  start(std::move(running), std::move(plan));
}

void Supervisor::on_setup_ended(const Exit& exit, const std::string& trouble) {
  setup_until_.reset();
  if (exit.well()) return become_ready();
  part_.on_failure({.kind = "setup",
                    .exit_code = exit.code,
                    .signal = exit.signal,
                    .boot_us = boot_us(),
                    .detail = trouble.empty() ? "setup " + describe(exit) : "setup: " + trouble,
                    .last_lines = {}});
}

void Supervisor::become_ready() {
  part_.on_ready();
  if (early_launch_) launch(*std::exchange(early_launch_, std::nullopt));
}

void Supervisor::launch(Launch what) {
  if (part_.phase() == protocol::Phase::preparing) {
    early_launch_ = std::move(what);
    return;
  }
  if (part_.phase() != protocol::Phase::ready || !part_.may_start()) return;  // said again, or too late
  part_.on_launched();
  reserved_port_.reset();  // from now on it is rank 0's
  for (Process& process : what.processes) {
    Running running{.role = Role::launched,
                    .is_rank = process.is_rank,
                    .name = process.argv.front().substr(process.argv.front().rfind('/') + 1),
                    .log = config_.dir + "/" + (process.log.empty() ? "logs/launcher.log" : process.log),
                    .trouble = {}};
    if (const auto rank = process.env.find("RANK"); process.is_rank && rank != process.env.end()) {
      running.rank = std::atoi(rank->second.c_str());
      running.name = "the keeper of rank " + rank->second;
    }
    SpawnPlan plan;
    plan.argv = std::move(process.argv);
    plan.env = std::move(process.env);
    try {
      start(std::move(running), std::move(plan));
      part_.on_process_started();
    } catch (const std::system_error& e) {
      return fail_launch("launch", e.what());
    }
  }
}

pid_t Supervisor::start_agent_command(const std::string& command, int out, int err, std::string& refusal) {
  // Asked before our own Launch has come: node 0's mpirun was quicker than the scheduler's word to us.
  if (part_.phase() == protocol::Phase::ready) part_.on_launched();
  const bool launched =
      part_.phase() == protocol::Phase::launched || part_.phase() == protocol::Phase::running;
  if (!launched || !part_.may_start()) {
    refusal = launched ? "the attempt is being stopped" : "the attempt is not ready";
    return 0;
  }
  SpawnPlan plan;
  plan.argv = {"/bin/sh", "-c", command};
  plan.env = config_.env;
  plan.out = out;
  plan.err = err;
  try {
    const pid_t pid =
        start({.role = Role::agent, .name = "the launch agent's command", .log = {}, .trouble = {}},
              std::move(plan));
    part_.on_process_started();
    return pid;
  } catch (const std::system_error& e) {
    refusal = e.what();
    return 0;
  }
}

}  // namespace tutti::supervisor
