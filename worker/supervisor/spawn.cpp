#include "worker/supervisor/spawn.h"

#include <fcntl.h>
#include <grp.h>
#include <linux/sched.h>
#include <pwd.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "worker/supervisor/files.h"

namespace tutti::supervisor {
namespace {

struct Trouble {
  char step[64];
  int error;
};

[[noreturn]] void give_up(int pipe, const char* step) {
  Trouble trouble{};
  trouble.error = errno;
  std::snprintf(trouble.step, sizeof trouble.step, "%s", step);
  (void)!write(pipe, &trouble, sizeof trouble);
  _exit(127);
}

// A plain fork, but born in its cgroup: there is no moment at which a kill of the cgroup would miss it.
pid_t fork_into(const std::string& cgroup) {
  clone_args args{};
  args.exit_signal = SIGCHLD;
  Fd dir;
  if (!cgroup.empty()) {
    dir = Fd(open(cgroup.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!dir) throw_errno("open " + cgroup);
    args.flags = CLONE_INTO_CGROUP;
    args.cgroup = static_cast<std::uint64_t>(dir.get());
  }
  return static_cast<pid_t>(syscall(SYS_clone3, &args, sizeof args));
}

void become(const User& user, int trouble) {
  if (geteuid() != 0) return;  // an unprivileged supervisor runs everything as itself
  if (setgroups(user.groups.size(), user.groups.data()) != 0) give_up(trouble, "set groups for");
  if (setresgid(user.gid, user.gid, user.gid) != 0) give_up(trouble, "set group for");
  if (setresuid(user.uid, user.uid, user.uid) != 0) give_up(trouble, "set user for");
}

void set_streams(const SpawnPlan& plan, int trouble) {
  const int in = open("/dev/null", O_RDONLY);
  if (in < 0 || dup2(in, 0) < 0) give_up(trouble, "open /dev/null for");
  int out = plan.out, err = plan.err;
  if (out < 0) {
    out = err = open(plan.log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_NOCTTY, 0644);
    if (out < 0) give_up(trouble, "open the log of");
  }
  if (dup2(out, 1) < 0 || dup2(err, 2) < 0) give_up(trouble, "redirect the output of");
}

[[noreturn]] void run_child(const SpawnPlan& plan, int trouble, pid_t parent, char* const* argv,
                            char** envp) {
  setpgid(0, 0);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  for (const int s : {SIGHUP, SIGPIPE, SIGINT, SIGTERM, SIGCHLD}) signal(s, SIG_DFL);
  poke_file("/proc/self/oom_score_adj", "0");  // ours may be lower; root only, else nothing to undo
  become(*plan.user, trouble);
  // After the change of user, which clears it; and the parent may have died before.
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(127);
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) give_up(trouble, "drop privileges of");
  umask(022);
  set_streams(plan, trouble);
  if (chdir(plan.workdir.c_str()) != 0) give_up(trouble, "enter the directory of");
  if (dup2(trouble, 3) < 0) give_up(trouble, "start");
  fcntl(3, F_SETFD, FD_CLOEXEC);
  syscall(SYS_close_range, 4u, ~0u, 0u);
  environ = envp;
  execvp(argv[0], argv);  // PATH of the new environment
  give_up(3, "start");
}

}  // namespace

User look_up_user(uid_t uid, gid_t gid) {
  User user{.uid = uid, .gid = gid, .groups = {gid}, .name = {}, .home = {}};
  if (const passwd* entry = getpwuid(uid)) {
    user.name = entry->pw_name;
    user.home = entry->pw_dir;
    int count = 256;
    std::vector<gid_t> groups(256);
    if (getgrouplist(entry->pw_name, gid, groups.data(), &count) >= 0) {
      groups.resize(static_cast<std::size_t>(count));
      user.groups = groups;
    }
  }
  return user;
}

Spawned spawn(const SpawnPlan& plan) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) throw_errno("pipe");
  Spawned child;
  child.trouble = Fd(ends[0]);
  const Fd theirs(ends[1]);
  // All memory is taken before the fork.
  std::vector<std::string> variables;
  for (const auto& [name, value] : plan.env) variables.push_back(name + "=" + value);
  std::vector<char*> argv, envp;
  for (const std::string& a : plan.argv) argv.push_back(const_cast<char*>(a.c_str()));
  for (const std::string& v : variables) envp.push_back(const_cast<char*>(v.c_str()));
  argv.push_back(nullptr);
  envp.push_back(nullptr);
  const pid_t self = getpid();
  child.pid = fork_into(plan.cgroup);
  if (child.pid == 0) run_child(plan, theirs.get(), self, argv.data(), envp.data());
  if (child.pid < 0) throw_errno("fork for " + plan.argv.front());
  setpgid(child.pid, child.pid);  // in both, so that it is so whoever runs first
  return child;
}

std::string read_trouble(const Fd& trouble) {
  Trouble what{};
  if (read(trouble.get(), &what, sizeof what) != static_cast<ssize_t>(sizeof what)) return {};
  what.step[sizeof what.step - 1] = '\0';
  return std::string("cannot ") + what.step + " it: " + std::strerror(what.error);
}

}  // namespace tutti::supervisor
