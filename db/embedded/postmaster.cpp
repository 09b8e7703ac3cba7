#include "db/embedded/postmaster.h"

#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <sys/inotify.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "db/embedded/embedded_postgres.h"

namespace tutti::db {
using std::chrono::milliseconds;
using std::chrono::steady_clock;

namespace {

std::vector<char*> pointers(const std::vector<std::string>& strings) {
  std::vector<char*> out;
  for (const auto& s : strings) out.push_back(const_cast<char*>(s.c_str()));
  out.push_back(nullptr);
  return out;
}

milliseconds left_of(steady_clock::time_point until) {
  return std::max(milliseconds(0), std::chrono::duration_cast<milliseconds>(until - steady_clock::now()));
}

// Owns a file descriptor.
struct Fd {
  int value;
  explicit Fd(int fd) : value(fd) {}
  ~Fd() {
    if (value >= 0) ::close(value);
  }
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
};

std::string describe_status(int status) {
  if (WIFEXITED(status)) return "exit status " + std::to_string(WEXITSTATUS(status));
  if (WIFSIGNALED(status)) return "signal " + std::to_string(WTERMSIG(status));
  return "status " + std::to_string(status);
}

}  // namespace

pid_t spawn_child(const ChildOptions& options, const OsUser& user) {
  // Everything that allocates happens before fork: other threads may hold the allocator's lock.
  auto argv = pointers(options.argv);
  auto environment = pointers(options.environment);
  const pid_t parent = ::getpid();
  const pid_t pid = ::fork();
  if (pid != 0) return pid;

  ::setsid();
  sigset_t none;
  sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  for (int s : {SIGINT, SIGTERM, SIGQUIT, SIGHUP, SIGPIPE, SIGCHLD, SIGUSR1, SIGUSR2}) ::signal(s, SIG_DFL);
  const int log = ::open(options.log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
  const int null = ::open("/dev/null", O_RDONLY);
  if (log < 0 || null < 0 || ::dup2(null, 0) < 0 || ::dup2(log, 1) < 0 || ::dup2(log, 2) < 0) ::_exit(127);
  ::close_range(3, ~0U, 0);
  if (user.change && (::setgroups(user.groups.size(), user.groups.data()) != 0 || ::setgid(user.gid) != 0 ||
                      ::setuid(user.uid) != 0))
    ::_exit(127);
  // After setuid, which clears it; then make sure that the parent did not die before it was set.
  if (options.death_signal && ::prctl(PR_SET_PDEATHSIG, options.death_signal) != 0) ::_exit(127);
  if (::getppid() != parent) ::_exit(127);
  ::umask(077);
  if (::chdir("/") != 0) ::_exit(127);
  ::execve(argv[0], argv.data(), environment.data());
  ::_exit(127);
}

bool run_to_end(const ChildOptions& options, const OsUser& user, milliseconds timeout) {
  const pid_t pid = spawn_child(options, user);
  if (pid < 0) throw EmbeddedError(std::string("cannot fork: ") + std::strerror(errno));
  Fd fd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  pollfd p{fd.value, POLLIN, 0};
  if (::poll(&p, 1, static_cast<int>(timeout.count())) <= 0) ::kill(pid, SIGKILL);
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

Postmaster::Postmaster(ChildOptions options, OsUser user, std::string data)
    : options_(std::move(options)), user_(std::move(user)), data_(std::move(data)) {
  thread_ = std::thread([this] { run(); });
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return pid_ != 0 || ended_; });
}

Postmaster::~Postmaster() {
  if (running()) ::kill(pid_, SIGKILL);
  thread_.join();
}

void Postmaster::run() {
  const pid_t pid = spawn_child(options_, user_);
  {
    std::lock_guard lock(mutex_);
    pid_ = pid;
    ended_ = pid < 0;
  }
  changed_.notify_all();
  if (pid < 0) return;
  // Waits without reaping first: while it is a zombie its number cannot be given away, so kill() under the
  // mutex never hits a stranger.
  siginfo_t info{};
  while (::waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOWAIT) < 0 && errno == EINTR) {
  }
  {
    std::lock_guard lock(mutex_);
    while (::waitpid(pid, &status_, 0) < 0 && errno == EINTR) {
    }
    ended_ = true;
  }
  changed_.notify_all();
}

bool Postmaster::running() const {
  std::lock_guard lock(mutex_);
  return pid_ > 0 && !ended_;
}

pid_t Postmaster::pid() const {
  std::lock_guard lock(mutex_);
  return ended_ ? 0 : pid_;
}

bool Postmaster::signal_and_wait(int signal, milliseconds timeout) {
  std::unique_lock lock(mutex_);
  if (ended_) return true;
  ::kill(pid_, signal);
  return changed_.wait_for(lock, timeout, [this] { return ended_; });
}

void Postmaster::wait_ready(milliseconds timeout) {
  const auto until = steady_clock::now() + timeout;
  // The server rewrites postmaster.pid as it comes up; watching its directory turns that into a signal.
  Fd watch(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
  ::inotify_add_watch(watch.value, data_.c_str(), IN_CREATE | IN_MODIFY | IN_CLOSE_WRITE | IN_MOVED_TO);
  Fd child(pid() > 0 ? static_cast<int>(::syscall(SYS_pidfd_open, pid(), 0)) : -1);
  while (true) {
    if (!running()) {
      std::lock_guard lock(mutex_);
      throw EmbeddedError("PostgreSQL ended while starting (" + describe_status(status_) +
                          "): " + tail(options_.log));
    }
    const auto lock = read_lock_file(data_);
    if (lock && lock->pid == pid() && lock->ready) return;
    const auto left = left_of(until);
    if (left.count() == 0)
      throw EmbeddedError("PostgreSQL was not ready after " + std::to_string(timeout.count()) +
                          " ms: " + tail(options_.log));
    pollfd p[2] = {{watch.value, POLLIN, 0}, {child.value, POLLIN, 0}};
    ::poll(p, 2, static_cast<int>(left.count()));
    char events[4096];
    while (::read(watch.value, events, sizeof events) > 0) {
    }
    if (p[1].revents) {  // it has ended: wait for the thread that reaps it to say so
      std::unique_lock guard(mutex_);
      changed_.wait_for(guard, left, [this] { return ended_; });
    }
  }
}

}  // namespace tutti::db
