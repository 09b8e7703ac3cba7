#include "worker/supervisor/spawn.h"

#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/sched.h>
#include <pwd.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "worker/supervisor/files.h"

namespace tutti::supervisor {
namespace {

constexpr rlim_t kOpenFiles = 65'536, kMostFiles = 1 << 20;  // more than the kernel allows is not taken

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

// Only a privileged process may raise the hard ones. InfiniBand pins memory, and a rank of a large gang has a
// socket to each other one.
void set_limits() {
  const rlimit any{RLIM_INFINITY, RLIM_INFINITY};
  setrlimit(RLIMIT_MEMLOCK, &any);
  rlimit files{};
  if (getrlimit(RLIMIT_NOFILE, &files) != 0) return;
  files.rlim_max = std::max(files.rlim_max, kMostFiles);
  files.rlim_cur = std::max(files.rlim_cur, kOpenFiles);
  setrlimit(RLIMIT_NOFILE, &files);
}

// A core dump of a rank is as large as the memory of the machine, and has its secrets in it. `ulimit -c` in
// the job takes it back.
void no_core() {
  rlimit limit{};
  if (getrlimit(RLIMIT_CORE, &limit) != 0) return;
  limit.rlim_cur = 0;
  setrlimit(RLIMIT_CORE, &limit);
}

void drop_capabilities(int trouble) {
  prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
  // In a container that may not do this there are few of them to begin with, and no_new_privs keeps a program
  // from all of them.
  for (unsigned long cap = 0; cap <= 63; ++cap) prctl(PR_CAPBSET_DROP, cap, 0, 0, 0);
  // The inheritable ones are the only ones that a change of user leaves.
  __user_cap_header_struct head{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct data[2] = {};
  if (syscall(SYS_capget, &head, data) != 0) give_up(trouble, "read the capabilities of");
  data[0].inheritable = data[1].inheritable = 0;
  if (syscall(SYS_capset, &head, data) != 0) give_up(trouble, "drop the capabilities of");
}

void become(const User& user, int trouble) {
  no_core();
  if (geteuid() != 0) return;  // an unprivileged supervisor runs everything as itself
  set_limits();
  if (user.uid != 0) drop_capabilities(trouble);
  if (setgroups(user.groups.size(), user.groups.data()) != 0) give_up(trouble, "set groups for");
  if (setresgid(user.gid, user.gid, user.gid) != 0) give_up(trouble, "set group for");
  if (setresuid(user.uid, user.uid, user.uid) != 0) give_up(trouble, "set user for");
  uid_t uids[3];
  gid_t gids[3];
  errno = EPERM;
  if (getresuid(&uids[0], &uids[1], &uids[2]) != 0 || getresgid(&gids[0], &gids[1], &gids[2]) != 0)
    give_up(trouble, "see the user of");
  for (int i = 0; i < 3; ++i)
    if (uids[i] != user.uid || gids[i] != user.gid) give_up(trouble, "become the user of");
}

void set_streams(const SpawnPlan& plan, int trouble) {
  const int in = plan.in >= 0 ? plan.in : open("/dev/null", O_RDONLY);
  if (in < 0 || dup2(in, 0) < 0) give_up(trouble, "open /dev/null for");
  int out = plan.out, err = plan.err;
  if (out < 0) {
    out = err = open(plan.log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_NOCTTY, 0644);
    if (out < 0) give_up(trouble, "open the log of");
  } else if (err < 0) {
    err = open(plan.log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_NOCTTY, 0644);
    if (err < 0) give_up(trouble, "open the log of");
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
  User user{.uid = uid, .gid = gid, .groups = {gid}, .name = {}, .home = {}, .shell = {}};
  if (const passwd* entry = getpwuid(uid)) {
    user.name = entry->pw_name;
    user.home = entry->pw_dir;
    user.shell = entry->pw_shell;
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
