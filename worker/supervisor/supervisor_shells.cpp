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

constexpr int kMostNames = 1000;  // of cgroups

}  // namespace

std::string Supervisor::why_no_shell(const OpenShell& what, pid_t& rank_of) const {
  const auto phase = part_.phase();
  if ((phase != protocol::Phase::running && phase != protocol::Phase::launched) || !part_.may_start())
    return "the attempt does not run";
  const auto shells =
      std::ranges::count_if(processes_, [](const auto& p) { return p.second.role == Role::shell; });
  if (shells >= protocol::kShellsPerNode) return "too many commands run in this attempt already";
  for (const auto& [rank, state] : rank_states_) {
    if (state.ended || (what.rank >= 0 && rank != what.rank)) continue;
    // Its keeper could name anybody's process: it must be ours.
    if (state.pid <= 0 || !belongs(state.pid, config_, getpid()) || owner_of(state.pid) != config_.uid)
      continue;
    rank_of = state.pid;
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
  pid_t rank_of = 0;
  if (const auto why = why_no_shell(what, rank_of); !why.empty()) return refuse(why);
  plan.argv = what.argv;
  plan.env = config_.env;
  // It reads the rank's environment by itself, with the user's rights: of a rank that hangs that may take for
  // ever.
  if (rank_of > 0) plan.argv.insert(plan.argv.begin() + 1, {"--environment-of", std::to_string(rank_of)});
  plan.in = plan.out = socket.get();
  if (!what.term.empty()) plan.env["TERM"] = what.term;
  Running running{.role = Role::shell,
                  .name = "shell " + std::to_string(what.shell),
                  .log = config_.dir + "/logs/shell.log",
                  .trouble = {}};
  if (!cgroup_.empty()) {  // so that what it leaves behind can be found
    running.cgroup = cgroup_ + "/shell-" + std::to_string(what.shell);
    // One of that name may be left of a former worker's shell: its dead must not be mixed with our living.
    const std::string wanted = running.cgroup;
    bool made = mkdir(running.cgroup.c_str(), 0755) == 0;
    for (int i = 1; !made && errno == EEXIST && i <= kMostNames; ++i) {
      running.cgroup = wanted + "-" + std::to_string(i);
      made = mkdir(running.cgroup.c_str(), 0755) == 0;
    }
    if (!made) running.cgroup.clear();
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
