// tutti-shell [--environment-of PID] [--tty ROWS COLUMNS] -- program [argument…]: a person's command inside a
// running attempt, with its terminal. Started by the supervisor as any process of the attempt: its user, its
// cgroup, its environment. The descriptors 0 and 1 are a socket to the worker (shell_wire.h), who passes on
// what the person types.
//
// Invariants
// 1. Nothing of it outlives the connection: a hang-up first, SIGKILL five seconds later, to all that descends
//    from here, whatever session it has made for itself.
// 2. Nothing of it outlives the command: what that has left behind is treated likewise.
// 3. Who does not read stops us, and we stop the command: nothing is buffered but one piece each way.
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "worker/supervisor/fd.h"
#include "worker/supervisor/files.h"
#include "worker/supervisor/shell_wire.h"

using namespace tutti::supervisor;

namespace {

constexpr int kUsage = 64;
constexpr std::size_t kPiece = 16 << 10;
constexpr std::size_t kMostIn = 128 << 10;  // then the socket is not read
constexpr std::int64_t kGrace = 5'000'000;
constexpr std::int64_t kKillTime = 10'000'000;   // for what waits in the kernel
constexpr std::int64_t kFlushTime = 10'000'000;  // for the last output

struct Plan {
  bool tty = false;
  winsize size{};
  int environment_of = 0;  // a rank's program; 0: ours
  std::vector<std::string> argv;
};

// Takes the environment of that process for ours, as it was when it was started. What the supervisor has said
// of the terminal and of the attempt stays. Where it cannot be read (it does not let itself be dumped) ours
// serves.
void take_environment_of(int pid) {
  constexpr std::size_t kMost = 8 << 20;
  const auto text = read_file("/proc/" + std::to_string(pid) + "/environ", kMost);
  if (!text || text->empty()) return;
  std::vector<std::pair<std::string, std::string>> kept;
  for (const char* name : {"TERM", "TUTTI_ATTEMPT_KEY", "TUTTI_ATTEMPT_DIR"})
    if (const char* value = std::getenv(name)) kept.emplace_back(name, value);
  clearenv();
  for (std::string_view rest = *text; !rest.empty();) {
    const auto end = std::min(rest.find('\0'), rest.size());
    const auto entry = rest.substr(0, end);
    if (const auto equals = entry.find('='); equals != std::string_view::npos && equals > 0)
      setenv(std::string(entry.substr(0, equals)).c_str(), std::string(entry.substr(equals + 1)).c_str(), 1);
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  for (const auto& [name, value] : kept) setenv(name.c_str(), value.c_str(), 1);
}

std::optional<Plan> parse_arguments(int argc, char** argv) {
  Plan plan;
  int at = 1;
  if (argc > at + 1 && std::strcmp(argv[at], "--environment-of") == 0) {
    plan.environment_of = std::atoi(argv[at + 1]);
    at += 2;
  }
  if (argc > at + 2 && std::strcmp(argv[at], "--tty") == 0) {
    plan.tty = true;
    plan.size.ws_row = static_cast<unsigned short>(std::clamp(std::atoi(argv[at + 1]), 1, 10'000));
    plan.size.ws_col = static_cast<unsigned short>(std::clamp(std::atoi(argv[at + 2]), 1, 10'000));
    at += 3;
  }
  if (argc <= at + 1 || std::strcmp(argv[at], "--") != 0) return std::nullopt;
  plan.argv.assign(argv + at + 1, argv + argc);
  return plan;
}

// Of all that descends from us: orphans come to us, who are a subreaper.
void collect(pid_t parent, std::vector<pid_t>& out) {
  std::ifstream children("/proc/" + std::to_string(parent) + "/task/" + std::to_string(parent) + "/children");
  for (pid_t child = 0; children >> child;) {
    out.push_back(child);
    collect(child, out);
  }
}

std::vector<pid_t> descendants() {
  std::vector<pid_t> out;
  collect(getpid(), out);
  return out;
}

class Shell {
 public:
  Shell(Plan plan, Fd socket, Fd signals, const sigset_t& mask)
      : plan_(std::move(plan)), socket_(std::move(socket)), signals_(std::move(signals)), mask_(mask) {}

  int run() {
    if (const auto why = start(); !why.empty()) {
      to_worker_ += shell_wire::frame(shell_wire::kRefused, why);
      flush_all();
      return 1;
    }
    to_worker_ += shell_wire::frame(shell_wire::kOutput, "");
    while (!gone_ && !ended_) wait_once(-1);
    if (ended_ && !gone_) {
      read_rest();
      say_end();
      flush_all();
    }
    end_all();
    return 0;
  }

 private:
  std::string start() {
    int exec[2];
    if (pipe2(exec, O_CLOEXEC) != 0) return "no pipe";
    Fd trouble(exec[0]), theirs(exec[1]);
    Fd in, out;  // the command's ends
    if (plan_.tty) {
      in_ = Fd(posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC));
      char name[64] = {};
      if (!in_ || grantpt(in_.get()) != 0 || unlockpt(in_.get()) != 0 ||
          ptsname_r(in_.get(), name, sizeof name) != 0)
        return std::string("no terminal: ") + std::strerror(errno);
      ioctl(in_.get(), TIOCSWINSZ, &plan_.size);
      in = Fd(open(name, O_RDWR | O_NOCTTY | O_CLOEXEC));
      out_ = Fd(fcntl(in_.get(), F_DUPFD_CLOEXEC, 3));
      if (!in || !out_) return std::string("no terminal: ") + std::strerror(errno);
    } else {
      int to[2], from[2];
      if (pipe2(to, O_CLOEXEC) != 0) return "no pipe";
      in = Fd(to[0]);
      in_ = Fd(to[1]);
      if (pipe2(from, O_CLOEXEC) != 0) return "no pipe";
      out_ = Fd(from[0]);
      out = Fd(from[1]);
    }
    const pid_t self = getpid();
    child_ = fork();
    if (child_ < 0) return std::string("fork: ") + std::strerror(errno);
    if (child_ == 0) become_command(in.get(), out ? out.get() : in.get(), theirs.get(), self);
    in.reset();
    out.reset();
    theirs.reset();
    int error = 0;
    if (read(trouble.get(), &error, sizeof error) == static_cast<ssize_t>(sizeof error)) {
      waitpid(child_, nullptr, 0);
      return "cannot start " + plan_.argv.front() + ": " + std::strerror(error);
    }
    fcntl(in_.get(), F_SETFL, O_NONBLOCK);
    fcntl(out_.get(), F_SETFL, O_NONBLOCK);
    return {};
  }

  [[noreturn]] void become_command(int in, int out, int trouble, pid_t self) {
    setsid();
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != self) _exit(127);
    if (plan_.tty) ioctl(in, TIOCSCTTY, 0);
    dup2(in, 0);
    dup2(out, 1);
    dup2(out, 2);
    signal(SIGPIPE, SIG_DFL);
    signal(SIGHUP, SIG_DFL);
    sigprocmask(SIG_SETMASK, &mask_, nullptr);
    std::vector<char*> argv;
    for (auto& word : plan_.argv) argv.push_back(word.data());
    argv.push_back(nullptr);
    execvp(argv[0], argv.data());
    const int error = errno;
    (void)!write(trouble, &error, sizeof error);
    _exit(127);
  }

  // One round: whatever can move moves. `until`: CLOCK_BOOTTIME, -1 = no hurry.
  void wait_once(std::int64_t until) {
    const bool may_read_out = out_ && to_worker_.empty();
    pollfd fds[] = {{socket_.get(),
                     static_cast<short>((to_command_.size() < kMostIn ? POLLIN : 0) |
                                        (to_worker_.empty() ? 0 : POLLOUT) | POLLRDHUP),
                     0},
                    {may_read_out ? out_.get() : -1, POLLIN, 0},
                    {in_ && !to_command_.empty() ? in_.get() : -1, POLLOUT, 0},
                    {signals_.get(), POLLIN, 0}};
    int wait = -1;
    if (until >= 0)
      wait = static_cast<int>(std::clamp<std::int64_t>((until - boot_us()) / 1000 + 1, 0, 60'000));
    if (poll(fds, 4, wait) < 0) return;
    if (fds[3].revents != 0) reap();
    if ((fds[0].revents & (POLLHUP | POLLERR | POLLRDHUP)) != 0) gone_ = true;
    if (!gone_ && (fds[0].revents & POLLIN) != 0) read_socket();
    if (!gone_ && (fds[0].revents & POLLOUT) != 0) write_socket();
    if (fds[1].revents != 0) read_command();
    if (fds[2].revents != 0) write_command();
  }

  void read_socket() {
    char chunk[kPiece];
    const ssize_t n = recv(socket_.get(), chunk, sizeof chunk, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (n <= 0) {
      gone_ = true;
      return;
    }
    from_worker_.append(chunk, static_cast<std::size_t>(n));
    bool broken = false;
    while (auto frame = shell_wire::take(from_worker_, broken)) {
      if (frame->kind == shell_wire::kInput && in_) to_command_ += frame->payload;
      if (frame->kind == shell_wire::kEnd) end_of_input_ = true;
      if (frame->kind == shell_wire::kResize && frame->payload.size() == 8 && plan_.tty && out_) {
        winsize size{};
        size.ws_row = static_cast<unsigned short>(agent_wire::number(frame->payload));
        size.ws_col =
            static_cast<unsigned short>(agent_wire::number(std::string_view(frame->payload).substr(4)));
        ioctl(out_.get(), TIOCSWINSZ, &size);  // the foreground job gets SIGWINCH
      }
    }
    if (broken) gone_ = true;
    close_input_if_over();
  }

  // Of a terminal the end of the input is a character that is typed.
  void close_input_if_over() {
    if (!end_of_input_ || !to_command_.empty() || !in_) return;
    if (plan_.tty) {
      to_command_ = "\x04";
      end_of_input_ = false;
    } else {
      in_.reset();
    }
  }

  void write_command() {
    const ssize_t n = write(in_.get(), to_command_.data(), to_command_.size());
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (n < 0) {  // it reads no more; what is typed is thrown away
      in_.reset();
      to_command_.clear();
      return;
    }
    to_command_.erase(0, static_cast<std::size_t>(n));
    close_input_if_over();
  }

  void read_command() {
    char chunk[kPiece];
    const ssize_t n = read(out_.get(), chunk, sizeof chunk);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (n <= 0) {  // all its ends are closed; of a terminal that is EIO
      out_.reset();
      return;
    }
    to_worker_ +=
        shell_wire::frame(shell_wire::kOutput, std::string_view(chunk, static_cast<std::size_t>(n)));
    write_socket();
  }

  void write_socket() {
    const ssize_t n = send(socket_.get(), to_worker_.data(), to_worker_.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (n < 0)
      gone_ = true;
    else
      to_worker_.erase(0, static_cast<std::size_t>(n));
  }

  void reap() {
    signalfd_siginfo info{};
    while (read(signals_.get(), &info, sizeof info) == static_cast<ssize_t>(sizeof info))
      if (info.ssi_signo != SIGCHLD) gone_ = true;  // we are told to end
    int status = 0;
    for (pid_t pid = 0; (pid = waitpid(-1, &status, WNOHANG)) > 0;)
      if (pid == child_) {
        ended_ = true;
        status_ = status;
      }
  }

  // What the command has written before its end; what it left behind may hold the other end for ever.
  void read_rest() {
    const std::int64_t until = boot_us() + kFlushTime;
    while (!gone_ && out_ && boot_us() < until) {
      if (to_worker_.empty()) {
        pollfd more{out_.get(), POLLIN, 0};
        if (poll(&more, 1, 0) <= 0) return;
        read_command();
      } else {
        wait_once(until);
      }
    }
  }

  void say_end() {
    const bool killed = WIFSIGNALED(status_);
    const auto n = static_cast<std::uint32_t>(killed ? WTERMSIG(status_) : WEXITSTATUS(status_));
    to_worker_ += shell_wire::frame(shell_wire::kExit, (killed ? "s" : "c") + agent_wire::number(n));
  }

  void flush_all() {
    out_.reset();
    const std::int64_t until = boot_us() + kFlushTime;
    while (!gone_ && !to_worker_.empty() && boot_us() < until) wait_once(until);
  }

  void end_all() {
    in_.reset();
    out_.reset();  // of a terminal: its foreground job gets SIGHUP
    for (const pid_t pid : descendants()) {
      kill(pid, SIGHUP);
      kill(pid, SIGCONT);
    }
    std::int64_t until = boot_us() + kGrace;
    while (anything_lives() && boot_us() < until) wait_for_child(until);
    for (until = boot_us() + kKillTime; anything_lives() && boot_us() < until;
         wait_for_child(boot_us() + 10'000))
      for (const pid_t pid : descendants()) kill(pid, SIGKILL);
  }

  static bool anything_lives() {
    while (true) {
      const pid_t pid = waitpid(-1, nullptr, WNOHANG);
      if (pid > 0) continue;
      return pid == 0;  // else there is no child left
    }
  }

  void wait_for_child(std::int64_t until) {
    pollfd one{signals_.get(), POLLIN, 0};
    poll(&one, 1, static_cast<int>(std::clamp<std::int64_t>((until - boot_us()) / 1000 + 1, 0, 60'000)));
    signalfd_siginfo info{};
    while (read(signals_.get(), &info, sizeof info) == static_cast<ssize_t>(sizeof info)) {
    }
  }

  Plan plan_;
  Fd socket_, signals_;
  sigset_t mask_;  // as we got it
  Fd in_, out_;    // our ends of the command's
  pid_t child_ = 0;
  std::string from_worker_, to_command_, to_worker_;
  bool end_of_input_ = false;
  bool gone_ = false;   // nobody is at the other end
  bool ended_ = false;  // the command has
  int status_ = 0;
};

}  // namespace

int main(int argc, char** argv) {
  auto plan = parse_arguments(argc, argv);
  if (!plan) {
    std::fprintf(stderr, "usage: tutti-shell [--tty ROWS COLUMNS] -- program [argument…]\n");
    return kUsage;
  }
  Fd socket(fcntl(0, F_DUPFD_CLOEXEC, 3));
  const Fd null(open("/dev/null", O_RDWR | O_CLOEXEC));
  if (!socket || !null || dup2(null.get(), 0) < 0 || dup2(null.get(), 1) < 0) {
    std::fprintf(stderr, "tutti-shell: no socket: %s\n", std::strerror(errno));
    return 1;
  }
  if (plan->environment_of > 0) take_environment_of(plan->environment_of);
  prctl(PR_SET_CHILD_SUBREAPER, 1);
  sigset_t handled, before;
  sigemptyset(&handled);
  for (const int s : {SIGCHLD, SIGHUP, SIGTERM, SIGINT}) sigaddset(&handled, s);
  sigprocmask(SIG_BLOCK, &handled, &before);
  signal(SIGPIPE, SIG_IGN);
  Fd signals(signalfd(-1, &handled, SFD_CLOEXEC | SFD_NONBLOCK));
  return Shell(*std::move(plan), std::move(socket), std::move(signals), before).run();
}
