// Part of supervisor.h: people's commands inside the attempt. They are children as any other, so they are
// killed with it and counted in its proof; but the gang neither waits for them nor fails with them.
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <system_error>

#include "worker/supervisor/cgroup.h"
#include "worker/supervisor/files.h"
#include "worker/supervisor/proc_scan.h"
#include "worker/supervisor/shell_wire.h"
#include "worker/supervisor/supervisor.h"

namespace tutti::supervisor {
namespace {

constexpr std::size_t kMaxEnvironment = 8 << 20;

// As the kernel keeps it: of the program as it was started.
std::map<std::string, std::string> environment_of(pid_t pid) {
  std::map<std::string, std::string> out;
  const auto text = read_file("/proc/" + std::to_string(pid) + "/environ", kMaxEnvironment);
  for (std::string_view rest = text ? std::string_view(*text) : std::string_view(); !rest.empty();) {
    const auto end = std::min(rest.find('\0'), rest.size());
    const auto entry = rest.substr(0, end);
    if (const auto equals = entry.find('='); equals != std::string_view::npos && equals > 0)
      out.emplace(entry.substr(0, equals), entry.substr(equals + 1));
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  return out;
}

}  // namespace

std::string Supervisor::why_no_shell(const OpenShell& what, std::map<std::string, std::string>& env) const {
  const auto phase = part_.phase();
  if ((phase != protocol::Phase::running && phase != protocol::Phase::launched) || !part_.may_start())
    return "the attempt does not run";
  const auto shells =
      std::ranges::count_if(processes_, [](const auto& p) { return p.second.role == Role::shell; });
  if (shells >= protocol::kShellsPerNode) return "too many commands run in this attempt already";
  env = config_.env;
  for (const auto& [rank, state] : rank_states_) {
    if (state.ended || (what.rank >= 0 && rank != what.rank)) continue;
    // Its keeper could name anybody's process: it must be ours.
    if (state.pid <= 0 || !belongs(state.pid, config_, getpid()) || owner_of(state.pid) != config_.uid)
      continue;
    if (auto own = environment_of(state.pid); !own.empty()) env = std::move(own);
    return {};
  }
  return what.rank >= 0 ? "rank " + std::to_string(what.rank) + " does not run here" : std::string();
}

void Supervisor::open_shell(const OpenShell& what) {
  Fd socket;
  try {
    socket = connect_unix(config_.dir, what.socket);  // ours alone can: nobody of the attempt takes its place
  } catch (const std::system_error& e) {
    std::fprintf(stderr, "shell: %s\n", e.what());  // the worker is gone
    return;
  }
  const auto refuse = [&](const std::string& why) {
    const auto text = shell_wire::frame(shell_wire::kRefused, why);
    (void)!write(socket.get(), text.data(), text.size());
  };
  SpawnPlan plan;
  if (const auto why = why_no_shell(what, plan.env); !why.empty()) return refuse(why);
  plan.argv = what.argv;
  plan.in = plan.out = socket.get();
  if (!what.term.empty()) plan.env["TERM"] = what.term;
  Running running{.role = Role::shell,
                  .name = "shell " + std::to_string(what.shell),
                  .log = config_.dir + "/logs/shell.log",
                  .trouble = {}};
  if (!cgroup_.empty()) {  // so that what it leaves behind can be found
    running.cgroup = cgroup_ + "/shell-" + std::to_string(what.shell);
    if (mkdir(running.cgroup.c_str(), 0755) != 0 && errno != EEXIST) running.cgroup.clear();
  }
  try {
    start(std::move(running), std::move(plan));
  } catch (const std::system_error& e) {
    refuse(e.what());
  }
}

// It has seen to its own by itself, unless somebody killed it.
void Supervisor::on_shell_ended(const Running& shell) const {
  if (shell.cgroup.empty()) return;
  kill_cgroup(shell.cgroup);
  remove_cgroup(shell.cgroup);  // later with the attempt's, if the dead are still in it
}

}  // namespace tutti::supervisor
