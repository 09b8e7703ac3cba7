#include "cli/process_sweep.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <memory>
#include <optional>
#include <utility>

namespace tutti::cli {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

// In the environment of every process of an attempt (worker/supervisor).
constexpr std::string_view kAttemptDirectory = "TUTTI_ATTEMPT_DIR";

std::string read_proc(pid_t pid, const char* file) {
  const std::string path = "/proc/" + std::to_string(pid) + "/" + file;
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

struct Stat {
  std::string name;
  char state = '?';
  pid_t parent = 0;
};

// "pid (name) S parent …"; the name may hold anything, also ')'.
std::optional<Stat> read_stat(pid_t pid) {
  const std::string text = read_proc(pid, "stat");
  const auto open = text.find('('), close = text.rfind(')');
  if (open == std::string::npos || close == std::string::npos || close + 4 >= text.size())
    return std::nullopt;
  Stat stat{text.substr(open + 1, close - open - 1), text[close + 2], 0};
  std::from_chars(text.data() + close + 4, text.data() + text.size(), stat.parent);
  return stat;
}

std::string_view variable(std::string_view environment, std::string_view name) {
  while (!environment.empty()) {
    const auto end = environment.find('\0');
    const std::string_view entry = environment.substr(0, end);
    if (entry.starts_with(name) && entry.substr(name.size()).starts_with('='))
      return entry.substr(name.size() + 1);
    if (end == std::string_view::npos) break;
    environment.remove_prefix(end + 1);
  }
  return {};
}

bool belongs(pid_t pid, const Stat& stat, const SweepScope& scope) {
  if (stat.parent == getpid()) return true;
  const std::string environment = read_proc(pid, "environ");
  return variable(environment, kUpMark) == scope.data ||
         variable(environment, kAttemptDirectory).starts_with(scope.data + "/");
}

std::vector<pid_t> all_processes() {
  std::vector<pid_t> all;
  const std::unique_ptr<DIR, int (*)(DIR*)> proc(opendir("/proc"), closedir);
  if (!proc) return all;
  while (const dirent* entry = readdir(proc.get())) {
    pid_t pid = 0;
    const char* end = entry->d_name + std::strlen(entry->d_name);
    if (std::from_chars(entry->d_name, end, pid).ptr == end && pid > 1) all.push_back(pid);
  }
  return all;
}

// The kernel keeps 15 characters of a name.
bool is_supervisor(const std::string& name) { return name.starts_with("tutti-superv"); }

}  // namespace

Sweep::Sweep(const SweepScope& scope) {
  for (const pid_t pid : all_processes()) {
    if (pid == getpid() ||
        std::find(scope.excepted.begin(), scope.excepted.end(), pid) != scope.excepted.end())
      continue;
    // The descriptor first, the look second: what is killed is what was looked at.
    const int pidfd = static_cast<int>(syscall(SYS_pidfd_open, pid, 0));
    if (pidfd < 0) continue;
    const auto stat = read_stat(pid);
    if (stat && stat->state != 'Z' && stat->state != 'X' && belongs(pid, *stat, scope))
      found_.push_back({pid, pidfd, stat->name});
    else
      close(pidfd);
  }
  std::sort(found_.begin(), found_.end(), [](const Process& a, const Process& b) {
    return std::pair(!is_supervisor(a.name), a.pid) < std::pair(!is_supervisor(b.name), b.pid);
  });
}

Sweep::~Sweep() {
  for (const auto& process : found_) close(process.pidfd);
}

std::string Sweep::describe() const {
  std::string text;
  for (const auto& process : found_)
    text += (text.empty() ? "" : ", ") + std::to_string(process.pid) + " (" + process.name + ")";
  return text;
}

void Sweep::kill() const {
  for (const auto& process : found_) syscall(SYS_pidfd_send_signal, process.pidfd, SIGKILL, nullptr, 0);
}

bool Sweep::wait(milliseconds at_most) const {
  const auto until = Clock::now() + at_most;
  for (const auto& process : found_) {
    while (true) {
      pollfd ended{process.pidfd, POLLIN, 0};
      const auto left = std::chrono::ceil<milliseconds>(until - Clock::now());
      const int n = poll(&ended, 1, static_cast<int>(std::max<long long>(left.count(), 0)));
      if (n > 0) break;
      if (n == 0 && left.count() <= 0) return false;
    }
    waitpid(process.pid, nullptr, WNOHANG);  // of others than our orphans: ECHILD
  }
  return true;
}

bool sweep_all(const SweepScope& scope, milliseconds at_most) {
  const auto until = Clock::now() + at_most;
  while (true) {
    const Sweep sweep(scope);
    if (sweep.size() == 0) return true;
    sweep.kill();
    const auto left = std::chrono::ceil<milliseconds>(until - Clock::now());
    if (left.count() <= 0 || !sweep.wait(left)) return false;
  }
}

}  // namespace tutti::cli
