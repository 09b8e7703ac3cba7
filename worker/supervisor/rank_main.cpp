// tutti-rank [--] program…   or   tutti-rank --shell 'line': the parent of one rank.
// Started by the supervisor, by orted, by torchrun; Open MPI's ranks are orted's children, and only their own
// parent learns how they ended. Tells the supervisor over `$TUTTI_ATTEMPT_DIR/rank.sock`, writes
// logs/rank-N.log, holds the simulated devices, passes signals on. One thread.
//
// Invariants
// 1. No program runs that the supervisor does not know of: without rank.sock we exit 70; when it closes, we
// kill.
// 2. The program never outlives us (PR_SET_PDEATHSIG).
// 3. The program's end is reported before we end, and we end the same way.
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <fstream>
#include <optional>
#include <string>
#include <vector>

#include "worker/supervisor/files.h"
#include "worker/supervisor/proc_scan.h"
#include "worker/supervisor/rank_env.h"

using namespace tutti::supervisor;

namespace {

constexpr int kNoSupervisor = 70;
constexpr int kUsage = 64;
constexpr int kPassedOn[] = {SIGTERM, SIGINT, SIGUSR1, SIGUSR2};

struct Plan {
  std::vector<std::string> argv;
  bool shell = false;
  bool contained = false;  // it runs in a container, below bubblewrap's own processes
};

std::optional<Plan> parse_arguments(int argc, char** argv) {
  Plan plan;
  if (argc == 3 && std::strcmp(argv[1], "--shell") == 0) {
    plan.shell = true;
    plan.argv = {"/bin/sh", "-c", shell_line(argv[2])};
    return plan;
  }
  const int first = argc > 1 && std::strcmp(argv[1], "--") == 0 ? 2 : 1;
  plan.argv.assign(argv + std::min(first, argc), argv + argc);
  if (plan.argv.empty() || plan.argv[0].starts_with("--")) return std::nullopt;
  return plan;
}

// The ranks of an attempt with an image have a container.json: then the program is started inside, by
// tutti-image, which becomes bubblewrap.
void enter_container(Plan& plan, const std::string& dir) {
  if (access((dir + "/container.json").c_str(), F_OK) != 0) return;
  char own[4096];
  const ssize_t n = readlink("/proc/self/exe", own, sizeof own);
  const std::string path(own, n > 0 ? static_cast<std::size_t>(n) : 0);
  std::vector<std::string> argv = {path.substr(0, path.rfind('/') + 1) + "tutti-image", "--inside", dir,
                                   "--"};
  argv.insert(argv.end(), plan.argv.begin(), plan.argv.end());
  plan.argv = std::move(argv);
  plan.contained = true;
}

// One whole line by one write, so that the ranks of a job may share the file. An oracle of tests: it must be
// on disk before the program runs, so that a run cannot go unseen.
void note_interval(const RankIdentity& id, const char* what) {
  const char* path = std::getenv("TUTTI_INTERVAL_FILE");
  const char* key = std::getenv("TUTTI_ATTEMPT_KEY");
  if (path == nullptr || *path == '\0' || key == nullptr) return;
  long long job = 0, epoch = 0;
  if (std::sscanf(key, "%lld-%lld", &job, &epoch) != 2) return;
  char line[160];
  const int n = std::snprintf(line, sizeof line, "{\"job\":%lld,\"epoch\":%lld,\"rank\":%d,\"%s_us\":%lld}\n",
                              job, epoch, id.rank, what, static_cast<long long>(boot_us()));
  const Fd fd(open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666));
  if (!fd || write(fd.get(), line, static_cast<std::size_t>(n)) != n || fsync(fd.get()) != 0)
    std::fprintf(stderr, "tutti-rank: cannot write %s: %s\n", path, std::strerror(errno));
}

void hold_devices(const RankIdentity& id) {
  const char* list = std::getenv("TUTTI_SIM_DEVICES");
  if (list == nullptr) return;
  for (const std::string& path : devices_of(id, list))
    if (open(path.c_str(), O_RDONLY) <
        0)  // kept, and inherited by the program: that is what "uses the GPU" means
      std::fprintf(stderr, "tutti-rank: cannot open %s: %s\n", path.c_str(), std::strerror(errno));
}

bool send_line(const Fd& socket, const std::string& line) {
  return send(socket.get(), line.data(), line.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(line.size());
}

pid_t start_program(const Plan& plan, const sigset_t& mask) {
  std::vector<char*> argv;
  for (const std::string& a : plan.argv) argv.push_back(const_cast<char*>(a.c_str()));
  argv.push_back(nullptr);
  const pid_t self = getpid();
  const pid_t pid = fork();
  if (pid != 0) return pid;
  // A group of its own: orted signals our whole group, and the program would get each signal twice.
  setpgid(0, 0);
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != self) _exit(127);
  signal(SIGPIPE, SIG_DFL);
  sigprocmask(SIG_SETMASK, &mask, nullptr);
  execvp(argv[0], argv.data());
  std::fprintf(stderr, "tutti-rank: cannot start %s: %s\n", argv[0], std::strerror(errno));
  std::fflush(stderr);
  _exit(127);
}

std::vector<pid_t> children_of(pid_t parent) {
  std::vector<pid_t> all;
  const std::string number = std::to_string(parent);
  std::ifstream children("/proc/" + number + "/task/" + number + "/children");
  for (pid_t child = 0; children >> child;) all.push_back(child);
  return all;
}

// Past bubblewrap's own processes, which would end by the signal and not pass it on.
pid_t contained_program(pid_t program) {
  for (int depth = 0; depth < 3; ++depth) {
    std::ifstream comm("/proc/" + std::to_string(program) + "/comm");
    std::string name;
    const auto children = children_of(program);
    if (!std::getline(comm, name) || name != "bwrap" || children.empty()) break;
    program = children.front();
  }
  return program;
}

// To the program; where that is a shell, to its command too, because the shell's trap waits for that. The
// shell first: its command's end must find the trap pending, or the line goes on as if nothing had been said.
void deliver(pid_t program, bool shell, int signal) {
  const auto commands = shell ? children_of(program) : std::vector<pid_t>();
  kill(program, signal);
  for (const pid_t command : commands) kill(command, signal);
}

// Its line may have put another program in its place (`exec …`).
bool is_still_the_shell(pid_t program) {
  struct stat now{}, shell{};
  const std::string proc = "/proc/" + std::to_string(program);  // in a container the shell is the image's
  return stat((proc + "/exe").c_str(), &now) == 0 && stat_in_root(proc + "/root", "bin/sh", shell) &&
         now.st_dev == shell.st_dev && now.st_ino == shell.st_ino;
}

// Nothing is to end by it, and a shell's trap would end its line: it is for the command alone.
void deliver_once(pid_t program, bool shell, int signal) {
  if (!shell || !is_still_the_shell(program)) {
    kill(program, signal);
    return;
  }
  for (const pid_t command : children_of(program)) kill(command, signal);
}

// The signal in a line `{"signal":15}` of the supervisor, or `{"once":10}`; 0 = none.
int signal_in(const std::string& line, const char* form) {
  int signal = 0;
  return std::sscanf(line.c_str(), form, &signal) == 1 && signal > 0 && signal < 65 ? signal : 0;
}

class Keeper {
 public:
  Keeper(const Plan& plan, RankIdentity id, Fd supervisor, Fd signals)
      : plan_(plan), id_(id), supervisor_(std::move(supervisor)), signals_(std::move(signals)) {}

  // Returns how the program ended, in waitpid's words.
  int watch(pid_t program) {
    program_ = program;
    while (true) {
      pollfd wait[2] = {{signals_.get(), POLLIN, 0}, {supervisor_.get(), POLLIN, 0}};
      if (poll(wait, 2, -1) < 0) continue;
      if (wait[0].revents != 0) {
        const auto status = on_signal();
        if (status) return *status;
      }
      if (wait[1].revents != 0) on_supervisor();
    }
  }

 private:
  std::optional<int> on_signal() {
    signalfd_siginfo info{};
    if (read(signals_.get(), &info, sizeof info) != static_cast<ssize_t>(sizeof info)) return std::nullopt;
    const int signal = static_cast<int>(info.ssi_signo);
    if (signal != SIGCHLD) {
      deliver(target(), plan_.shell, signal);
      return std::nullopt;
    }
    int status = 0;
    if (waitpid(program_, &status, WNOHANG) != program_) return std::nullopt;
    return status;
  }

  void on_supervisor() {
    char chunk[256];
    const ssize_t n = recv(supervisor_.get(), chunk, sizeof chunk, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (n <= 0) {  // nobody watches over this rank any more: it must not run
      std::fprintf(stderr, "tutti-rank: the supervisor is gone, killing rank %d\n", id_.rank);
      kill(program_, SIGKILL);
      _exit(kNoSupervisor);
    }
    text_.append(chunk, static_cast<std::size_t>(n));
    for (std::size_t end; (end = text_.find('\n')) != std::string::npos;) {
      const std::string line = text_.substr(0, end);
      if (const int signal = signal_in(line, "{\"signal\":%d}")) deliver(target(), plan_.shell, signal);
      if (const int signal = signal_in(line, "{\"once\":%d}")) deliver_once(target(), plan_.shell, signal);
      text_.erase(0, end + 1);
    }
    if (text_.size() > 1024) text_.clear();  // not a line of ours
  }

  pid_t target() const { return plan_.contained ? contained_program(program_) : program_; }

  const Plan& plan_;
  RankIdentity id_;
  Fd supervisor_, signals_;
  pid_t program_ = 0;
  std::string text_;
};

[[noreturn]] void end_likewise(const ShellExit& exit) {
  if (exit.signal == 0) _exit(exit.code);
  const rlimit no_core{0, 0};
  setrlimit(RLIMIT_CORE, &no_core);  // the program's own is enough
  signal(exit.signal, SIG_DFL);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  kill(getpid(), exit.signal);
  _exit(128 + exit.signal);  // a signal that does not kill by default
}

}  // namespace

int main(int argc, char** argv) {
  auto plan = parse_arguments(argc, argv);
  if (!plan) {
    std::fprintf(stderr,
                 "usage: tutti-rank [--] program [argument…]\n       tutti-rank --shell 'run line'\n");
    return kUsage;
  }
  const RankIdentity id = read_identity([](const char* name) { return std::getenv(name); });
  const char* dir = std::getenv("TUTTI_ATTEMPT_DIR");
  if (dir == nullptr || id.rank < 0) {
    std::fprintf(stderr, "tutti-rank: %s is not set\n", dir == nullptr ? "TUTTI_ATTEMPT_DIR" : "RANK");
    return kNoSupervisor;
  }
  Fd socket;
  try {
    socket = connect_unix(dir, "rank.sock");
  } catch (const std::exception& e) {
    std::fprintf(stderr, "tutti-rank: no supervisor: %s\n", e.what());
    return kNoSupervisor;
  }
  const std::string log = std::string(dir) + "/logs/rank-" + std::to_string(id.rank) + ".log";
  const Fd out(open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644));
  if (!out || dup2(out.get(), 1) < 0 || dup2(out.get(), 2) < 0) {
    std::fprintf(stderr, "tutti-rank: cannot open %s: %s\n", log.c_str(), std::strerror(errno));
    return kNoSupervisor;
  }
  for (const auto& [name, value] : variables_to_set(id, [](const char* name) { return std::getenv(name); }))
    setenv(name.c_str(), value.c_str(), 1);
  hold_devices(id);
  enter_container(*plan, dir);

  signal(SIGPIPE, SIG_IGN);
  sigset_t handled, before;
  sigemptyset(&handled);
  sigaddset(&handled, SIGCHLD);
  for (const int s : kPassedOn) sigaddset(&handled, s);
  sigprocmask(SIG_BLOCK, &handled, &before);
  Fd signals(signalfd(-1, &handled, SFD_CLOEXEC));

  note_interval(id, "start");
  const pid_t program = start_program(*plan, before);
  if (program < 0) {
    std::fprintf(stderr, "tutti-rank: fork: %s\n", std::strerror(errno));
    return kNoSupervisor;
  }
  send_line(socket, "{\"rank\":" + std::to_string(id.rank) + ",\"pid\":" + std::to_string(program) +
                        ",\"world\":" + std::to_string(id.world) +
                        ",\"boot_us\":" + std::to_string(boot_us()) + "}\n");
  const int report_fd = dup(socket.get());  // the keeper owns the other
  fcntl(report_fd, F_SETFD, FD_CLOEXEC);
  const Fd report(report_fd);
  Keeper keeper(*plan, id, std::move(socket), std::move(signals));
  const int status = keeper.watch(program);
  ShellExit exit;
  if (WIFSIGNALED(status))
    exit.signal = WTERMSIG(status);
  else
    exit = plan->shell ? read_shell_status(WEXITSTATUS(status)) : ShellExit{WEXITSTATUS(status), 0};
  const std::int64_t when = boot_us();
  note_interval(id, "stop");
  send_line(report, "{\"rank\":" + std::to_string(id.rank) + ",\"exit\":" + std::to_string(exit.code) +
                        ",\"signal\":" + std::to_string(exit.signal) +
                        ",\"boot_us\":" + std::to_string(when) + "}\n");
  end_likewise(exit);
}
