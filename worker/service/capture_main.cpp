// tutti-capture: writes down what the ranks of an attempt are doing, into a folder, before somebody kills
// them. A process of its own because anything here may hang; the worker kills it (its whole session) at its
// deadline, so what matters most is written first.
//
//   rank-N.proc.txt    of each process: state, program, working directory; of each thread where it waits
//   rank-N.stacks.txt  backtraces by eu-stack or gdb, where one is installed and the kernel lets the job's
//                      own user attach (never more than that: a debugger reads what the job wrote)
//   ncclras.txt        what NCCL's own monitor says, where its client is installed
//
//
// It sends no signal that a program could die of. A debugger stops its target by SIGSTOP, though; one that is
// killed before it has let go leaves it stopped, or stopped as soon as it wakes:
//
//   1. No debugger comes near a process of which a thread waits in the kernel (D) or is stopped (T).
//   2. After a debugger that did not end by itself, its target is sent SIGCONT. (If we are killed ourselves,
//      the worker does that.)
#include <dirent.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <map>
#include <string>
#include <vector>

#include "worker/service/rank_procs.h"
#include "worker/supervisor/fd.h"
#include "worker/supervisor/files.h"

namespace {

using tutti::supervisor::Fd;
using tutti::supervisor::read_file;
using Clock = std::chrono::steady_clock;

constexpr std::size_t kMaxThreads = 512;
constexpr std::size_t kMaxText = 1 << 20;         // of one file
constexpr std::size_t kTogether = 4;              // debuggers at one time
constexpr std::chrono::milliseconds kDeath{200};  // for killed debuggers to go

struct Options {
  std::string debugger;  // "" = eu-stack or gdb
  std::string dir;
  uid_t uid = 0;
  gid_t gid = 0;
  bool stacks = false;
  int deadline_ms = 4000;
  std::vector<std::string> ranks;  // "RANK:PID"
};

std::string link_of(const std::string& path) {
  char target[4096];
  const auto n = readlink(path.c_str(), target, sizeof target);
  return n > 0 ? std::string(target, static_cast<std::size_t>(n)) : std::string("?");
}

std::string indented(const std::string& text) {
  std::string out = "      ";
  for (const char c : text) (out += c) += c == '\n' ? "      " : "";
  while (!out.empty() && (out.back() == ' ' || out.back() == '\n')) out.pop_back();
  return out + "\n";
}

void describe_thread(const std::string& task, const std::string& tid, std::string& out) {
  const auto line = [&](const char* leaf) {
    auto text = read_file(task + "/" + leaf, 4096).value_or("?");
    while (!text.empty() && text.back() == '\n') text.pop_back();
    return text;
  };
  const std::string stat = line("stat");
  const auto name_end = stat.rfind(')');
  out += "    thread " + tid + " (" + line("comm") + ") state " +
         (name_end != std::string::npos && name_end + 2 < stat.size() ? stat.substr(name_end + 2, 1) : "?") +
         ", waits in " + line("wchan") + ", syscall " + line("syscall") + "\n";
  if (const auto stack = read_file(task + "/stack", 8192); stack && !stack->empty()) out += indented(*stack);
}

void describe_process(pid_t pid, std::string& out) {
  const std::string proc = "/proc/" + std::to_string(pid);
  const auto status = read_file(proc + "/status", 8192);
  if (!status) {
    out += "  process " + std::to_string(pid) + " has gone\n";
    return;
  }
  out += "  process " + std::to_string(pid) + "\n    program " + link_of(proc + "/exe") + "\n    directory " +
         link_of(proc + "/cwd") + "\n" + indented(*status);
  DIR* tasks = opendir((proc + "/task").c_str());
  std::size_t n = 0;
  while (const dirent* entry = tasks == nullptr ? nullptr : readdir(tasks)) {
    if (entry->d_name[0] == '.') continue;
    if (++n > kMaxThreads || out.size() > kMaxText) break;
    describe_thread(proc + "/task/" + entry->d_name, entry->d_name, out);
  }
  if (tasks != nullptr) closedir(tasks);
}

void write_proc(const Options& o, const std::string& rank, pid_t program) {
  std::string out = "rank " + rank + "\n";
  for (const pid_t pid : tutti::worker::processes_under(program))
    if (out.size() < kMaxText) describe_process(pid, out);
  tutti::supervisor::replace_file(o.dir + "/rank-" + rank + ".proc.txt", out, false, 0600);
}

// As the job's user, its output into `file`. 0 = could not be started.
pid_t start(const Options& o, const std::vector<std::string>& argv, const std::string& file) {
  const Fd out(open(file.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!out) return 0;
  std::vector<char*> args;
  for (const auto& a : argv) args.push_back(const_cast<char*>(a.c_str()));
  args.push_back(nullptr);
  const pid_t pid = fork();
  if (pid != 0) return std::max(pid, 0);
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  const bool ours =
      geteuid() != 0 || (setgroups(0, nullptr) == 0 && setgid(o.gid) == 0 && setuid(o.uid) == 0);
  const Fd null(open("/dev/null", O_RDWR));
  rlimit size{8 << 20, 8 << 20};
  setrlimit(RLIMIT_FSIZE, &size);
  if (!ours || chdir("/") != 0 || dup2(null.get(), 0) < 0 || dup2(out.get(), 1) < 0 || dup2(out.get(), 2) < 0)
    _exit(126);
  clearenv();
  setenv("PATH", "/usr/local/bin:/usr/bin:/bin", 1);
  setenv("LANG", "C.UTF-8", 1);
  setenv("HOME", "/nonexistent", 1);  // no debugger's own start files
  execvp(args[0], args.data());
  _exit(127);
}

std::string find(const char* name) {
  for (const char* dir : {"/usr/local/bin/", "/usr/bin/", "/bin/"})
    if (access((std::string(dir) + name).c_str(), X_OK) == 0) return std::string(dir) + name;
  return {};
}

std::vector<std::string> stack_command(const Options& o, pid_t pid) {
  if (!o.debugger.empty()) return {o.debugger, std::to_string(pid)};
  if (const auto eu = find("eu-stack"); !eu.empty()) return {eu, "-p", std::to_string(pid), "-n", "64"};
  const auto gdb = find("gdb");
  if (gdb.empty()) return {};
  return {gdb,    "-nx",
          "-nh",  "--batch",
          "-iex", "set auto-load off",
          "-iex", "set debuginfod enabled off",
          "-iex", "set pagination off",
          "-p",   std::to_string(pid),
          "-ex",  "thread apply all bt 48"};
}

struct Debugger {
  pid_t target = 0;  // 0: it has none
};
using Running = std::map<pid_t, Debugger>;

// Waits for one of them; false: the deadline has come.
bool reap_one(Running& running, Clock::time_point until) {
  while (!running.empty()) {
    int status = 0;
    const pid_t pid = waitpid(-1, &status, WNOHANG);
    if (const auto found = running.find(pid); pid > 0 && found != running.end()) {
      const bool let_go = WIFEXITED(status) && WEXITSTATUS(status) == 0;
      if (!let_go && found->second.target != 0) kill(found->second.target, SIGCONT);
      running.erase(found);
      return true;
    }
    if (Clock::now() >= until) return false;
    poll(nullptr, 0, 10);
  }
  return true;
}

// The kernel lets go of what they held when they have died, so their targets are woken after that.
void kill_all(Running& running) {
  for (const auto& [pid, debugger] : running) kill(pid, SIGKILL);
  const auto until = Clock::now() + kDeath;
  while (!running.empty() && reap_one(running, until)) {
  }
  // One that does not die: what it has sent is taken back; more it will not send.
  for (const auto& [pid, debugger] : running)
    if (debugger.target != 0) kill(debugger.target, SIGCONT);
}

void write_stacks(const Options& o, const std::string& rank, pid_t program, Running& running,
                  Clock::time_point until) {
  int part = 0;
  for (const pid_t pid : tutti::worker::processes_under(program)) {
    const auto command = stack_command(o, pid);
    if (command.empty() || ++part > 8) break;
    while (running.size() >= kTogether)
      if (!reap_one(running, until)) break;
    if (Clock::now() >= until) break;
    const std::string file =
        o.dir + "/rank-" + rank + (part > 1 ? "-" + std::to_string(part) : "") + ".stacks.txt";
    if (const auto why = tutti::worker::why_not_to_stop(pid); !why.empty()) {
      tutti::supervisor::replace_file(file, "no backtrace: " + why + "\n", false, 0600);
      continue;
    }
    if (const pid_t child = start(o, command, file); child > 0) running[child] = {pid};
  }
}

int capture(const Options& o) {
  const auto until = Clock::now() + std::chrono::milliseconds(o.deadline_ms);
  std::vector<std::pair<std::string, pid_t>> ranks;
  for (const auto& text : o.ranks) {
    const auto colon = text.find(':');
    if (colon == std::string::npos) continue;
    ranks.emplace_back(text.substr(0, colon), std::atoi(text.c_str() + colon + 1));
  }
  for (const auto& [rank, pid] : ranks) write_proc(o, rank, pid);
  Running running;
  if (const auto ras = find("ncclras"); !ras.empty())
    if (const pid_t pid = start(o, {ras, "-v", "-t", "2"}, o.dir + "/ncclras.txt"); pid > 0)
      running[pid] = {};
  if (o.stacks)
    for (const auto& [rank, program] : ranks) write_stacks(o, rank, program, running, until);
  while (!running.empty() && reap_one(running, until)) {
  }
  const bool late = !running.empty();
  kill_all(running);
  return late ? 1 : 0;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"what ranks are doing, before they are killed"};
  Options o;
  app.add_option("--dir", o.dir, "folder for the files")->required();
  app.add_option("--uid", o.uid, "the job's user")->required();
  app.add_option("--gid", o.gid, "and group")->required();
  app.add_flag("--stacks", o.stacks, "backtraces too: a debugger stops the ranks for a moment");
  app.add_option("--debugger", o.debugger, "program that is given a PID and prints its backtraces");
  app.add_option("--deadline-ms", o.deadline_ms, "for all of it")->check(CLI::Range(100, 60'000));
  app.add_option("rank", o.ranks, "RANK:PID");
  CLI11_PARSE(app, argc, argv);
  try {
    return capture(o);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "tutti-capture: %s\n", e.what());
    return 1;
  }
}
