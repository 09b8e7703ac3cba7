#include "tests/e2e/process.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <utility>

#include "tests/e2e/failure.h"

extern char** environ;

namespace tutti::e2e {

using std::chrono::milliseconds;

void await_true(const std::string& what, milliseconds deadline, const std::function<bool()>& condition,
                const std::function<std::string()>& state) {
  const auto until = Clock::now() + deadline;
  std::string last;
  while (true) {
    try {
      if (condition()) return;
      last.clear();
    } catch (const Unreachable& e) {
      last = e.what();
    }
    if (Clock::now() >= until) break;
    ::poll(nullptr, 0, 10);
  }
  std::string text = "not within " + std::to_string(deadline.count()) + " ms: " + what;
  if (!last.empty()) text += "\n  last: " + last;
  try {
    if (state) text += "\n  now: " + state();
  } catch (const std::exception& e) {
    text += std::string("\n  now: ") + e.what();
  }
  throw Failure(text);
}

std::int64_t boot_us() {
  timespec t{};
  clock_gettime(CLOCK_BOOTTIME, &t);
  return t.tv_sec * 1'000'000LL + t.tv_nsec / 1000;
}

Fd::~Fd() {
  if (fd_ >= 0) close(fd_);
}
Fd& Fd::operator=(Fd&& other) noexcept {
  std::swap(fd_, other.fd_);
  return *this;
}

namespace {

Fd open_pidfd(pid_t pid) { return Fd(static_cast<int>(syscall(SYS_pidfd_open, pid, 0))); }

int left_ms(Clock::time_point until) {
  const auto left = std::chrono::ceil<milliseconds>(until - Clock::now()).count();
  return static_cast<int>(std::max<long long>(left, 0));
}

bool wait_readable(int fd, Clock::time_point until) {
  pollfd p{fd, POLLIN, 0};
  while (true) {
    const int n = poll(&p, 1, left_ms(until));
    if (n > 0) return true;
    if (n == 0) return false;
    if (errno != EINTR) throw Failure(std::string("poll: ") + std::strerror(errno));
  }
}

std::vector<char*> pointers(std::vector<std::string>& words) {
  std::vector<char*> out;
  for (auto& w : words) out.push_back(w.data());
  out.push_back(nullptr);
  return out;
}

std::vector<std::string> complete_environment(const std::map<std::string, std::string>& more) {
  std::vector<std::string> out;
  for (char** e = environ; *e != nullptr; ++e) {
    const std::string entry = *e;
    if (!more.contains(entry.substr(0, entry.find('=')))) out.push_back(entry);
  }
  for (const auto& [name, value] : more) out.push_back(name + "=" + value);
  return out;
}

// Between fork and exec only system calls: other threads may have held locks when we forked.
struct Prepared {
  std::vector<char*> argv, env;
  int out = -1, network = -1;
  const std::string* host = nullptr;
  pid_t parent = 0;
};
[[noreturn]] void become(const Prepared& p) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != p.parent) _exit(127);
  if (p.network >= 0 && setns(p.network, CLONE_NEWNET) != 0) _exit(126);
  if (!p.host->empty() && (unshare(CLONE_NEWUTS) != 0 || sethostname(p.host->data(), p.host->size()) != 0))
    _exit(126);
  dup2(p.out, 1);
  dup2(p.out, 2);
  const int null = open("/dev/null", O_RDONLY);
  dup2(null, 0);
  syscall(SYS_close_range, 3u, ~0u, 0u);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
  signal(SIGPIPE, SIG_DFL);
  execvpe(p.argv[0], p.argv.data(), p.env.data());
  _exit(127);
}

pid_t spawn(const SpawnOptions& options, int out) {
  Fd network;
  if (!options.network.empty()) {
    network = Fd(open(("/run/netns/" + options.network).c_str(), O_RDONLY | O_CLOEXEC));
    if (!network) throw Failure("no network namespace " + options.network);
  }
  auto argv = options.argv;
  auto env = complete_environment(options.env);
  Prepared p;
  p.argv = pointers(argv);
  p.env = pointers(env);
  p.out = out;
  p.network = network.get();
  p.host = &options.host;
  p.parent = getpid();
  const pid_t pid = fork();
  if (pid == 0) become(p);
  if (pid < 0) throw Failure(std::string("fork: ") + std::strerror(errno));
  return pid;
}

}  // namespace

Process::Process(const SpawnOptions& options) {
  const std::string log = options.log.empty() ? "/dev/null" : options.log;
  const Fd out(open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644));
  if (!out) throw Failure("cannot open " + log + ": " + std::strerror(errno));
  pid_ = spawn(options, out.get());
  pidfd_ = open_pidfd(pid_);
}

Process::Process(Process&& other) noexcept
    : pid_(std::exchange(other.pid_, 0)),
      pidfd_(std::move(other.pidfd_)),
      status_(std::exchange(other.status_, std::nullopt)) {}
Process::~Process() {
  if (pid_ != 0) kill();
}
Process& Process::operator=(Process&& other) noexcept {
  if (this == &other) return *this;
  if (pid_ != 0) kill();
  pid_ = std::exchange(other.pid_, 0);
  pidfd_ = std::move(other.pidfd_);
  status_ = std::exchange(other.status_, std::nullopt);
  return *this;
}

bool Process::running() { return pid_ != 0 && !wait(milliseconds(0)); }

void Process::signal(int number) {
  if (running()) ::kill(pid_, number);  // ours and not reaped: the number is still its own
}

std::optional<int> Process::wait(milliseconds deadline) {
  if (status_ || pid_ == 0) return status_;
  if (!wait_readable(pidfd_.get(), Clock::now() + deadline)) return std::nullopt;
  int status = 0;
  if (waitpid(pid_, &status, 0) == pid_) status_ = status;
  return status_;
}

void Process::kill() {
  signal(SIGKILL);
  wait(milliseconds(10'000));
}

std::string describe_status(int status) {
  if (WIFSIGNALED(status)) return "signal " + std::to_string(WTERMSIG(status));
  return "exit " + std::to_string(WEXITSTATUS(status));
}

std::string run(const std::vector<std::string>& argv, const std::map<std::string, std::string>& env) {
  std::string command;
  for (const auto& word : argv) command += (command.empty() ? "" : " ") + word;
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) throw Failure("pipe2");
  const Fd in(ends[0]);
  SpawnOptions options;
  options.argv = argv;
  options.env = env;
  pid_t pid = 0;
  {
    const Fd out(ends[1]);
    pid = spawn(options, out.get());
  }
  const Fd pidfd = open_pidfd(pid);
  const auto until = Clock::now() + std::chrono::seconds(30);
  std::string text;
  bool in_time = true;
  while ((in_time = wait_readable(in.get(), until))) {
    char chunk[4096];
    const ssize_t n = read(in.get(), chunk, sizeof chunk);
    if (n <= 0) break;
    text.append(chunk, static_cast<std::size_t>(n));
  }
  if (!in_time || !wait_readable(pidfd.get(), until)) ::kill(pid, SIGKILL);
  int status = 0;
  waitpid(pid, &status, 0);
  if (status != 0) throw Failure(command + ": " + describe_status(status) + ": " + text);
  return text;
}

// ---------------------------------------------------------------- processes of others

namespace {

std::string slurp(const std::string& path) {
  // Not a stream: a process that goes while it is read is an error of read(2), which a stream throws.
  std::string text;
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return text;
  char buffer[4096];
  for (ssize_t n = 0; (n = ::read(fd, buffer, sizeof buffer)) > 0;)
    text.append(buffer, static_cast<std::size_t>(n));
  ::close(fd);
  return text;
}

std::map<std::string, std::string> parse_environment(const std::string& text) {
  std::map<std::string, std::string> env;
  for (std::size_t at = 0; at < text.size();) {
    const auto end = std::min(text.find('\0', at), text.size());
    const auto entry = text.substr(at, end - at);
    if (const auto eq = entry.find('='); eq != entry.npos) env[entry.substr(0, eq)] = entry.substr(eq + 1);
    at = end + 1;
  }
  return env;
}

}  // namespace

std::string Seen::value(const std::string& name) const {
  const auto it = env.find(name);
  return it == env.end() ? std::string() : it->second;
}
bool Seen::alive() const { return !wait_readable(pidfd.get(), Clock::now()); }
void Seen::signal(int number) const { syscall(SYS_pidfd_send_signal, pidfd.get(), number, nullptr, 0); }

std::vector<Seen> find_processes(const std::string& name, const std::string& prefix) {
  std::vector<Seen> found;
  DIR* proc = opendir("/proc");
  if (proc == nullptr) throw Failure("cannot read /proc");
  const std::string wanted = name + "=" + prefix;
  while (const dirent* entry = readdir(proc)) {
    const pid_t pid = std::atoi(entry->d_name);
    if (pid <= 0) continue;
    const std::string dir = "/proc/" + std::string(entry->d_name);
    std::string text = slurp(dir + "/environ");
    if (!text.starts_with(wanted) && text.find('\0' + wanted) == text.npos) continue;
    Seen seen;
    seen.pid = pid;
    seen.pidfd = open_pidfd(pid);
    // Once more, now that the number is held: it may have become another's meanwhile.
    if (!seen.pidfd || (text = slurp(dir + "/environ")).find(wanted) == text.npos || !seen.alive()) continue;
    char exe[4096];
    const ssize_t n = readlink((dir + "/exe").c_str(), exe, sizeof exe);
    seen.program.assign(exe, static_cast<std::size_t>(std::max<ssize_t>(n, 0)));
    seen.program.erase(0, seen.program.rfind('/') + 1);
    seen.command = slurp(dir + "/cmdline");
    std::replace(seen.command.begin(), seen.command.end(), '\0', ' ');
    seen.env = parse_environment(text);
    found.push_back(std::move(seen));
  }
  closedir(proc);
  return found;
}

std::vector<std::int64_t> await_deaths(const std::vector<Seen>& processes, milliseconds deadline) {
  const auto until = Clock::now() + deadline;
  std::vector<std::int64_t> when(processes.size(), 0);
  while (true) {
    std::vector<pollfd> fds;
    std::vector<std::size_t> which;
    for (std::size_t i = 0; i < processes.size(); ++i)
      if (when[i] == 0) {
        fds.push_back({processes[i].pidfd.get(), POLLIN, 0});
        which.push_back(i);
      }
    if (fds.empty()) return when;
    if (poll(fds.data(), fds.size(), left_ms(until)) == 0) {
      std::string text = "still alive after " + std::to_string(deadline.count()) + " ms:";
      for (const auto i : which)
        text += " " + std::to_string(processes[i].pid) + " (" + processes[i].command + ")";
      throw Failure(text);
    }
    const auto now = boot_us();
    for (std::size_t i = 0; i < fds.size(); ++i)
      if (fds[i].revents != 0) when[which[i]] = now;
  }
}

bool kill_all(const std::string& name, const std::string& prefix, milliseconds deadline) {
  const auto until = Clock::now() + deadline;
  while (true) {
    const auto found = find_processes(name, prefix);
    if (found.empty()) return true;
    if (Clock::now() >= until) return false;
    for (const auto& process : found) process.signal(SIGKILL);
    for (const auto& process : found) wait_readable(process.pidfd.get(), until);
  }
}

}  // namespace tutti::e2e
