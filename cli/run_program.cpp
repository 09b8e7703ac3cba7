#include "cli/run_program.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <system_error>

namespace tutti::cli {
namespace {

using Clock = std::chrono::steady_clock;
constexpr int kNotFound = 127;

[[noreturn]] void execute(std::vector<char*> argv, int out, bool errors) {
  const int nothing = ::open("/dev/null", O_RDWR);
  ::dup2(nothing, 0);
  ::dup2(out, 1);
  ::dup2(errors ? out : nothing, 2);
  ::setpgid(0, 0);
  ::signal(SIGPIPE, SIG_DFL);
  argv.push_back(nullptr);
  ::execvp(argv[0], argv.data());
  ::_exit(kNotFound);
}

// True: its output has ended.
bool read_until(int fd, Clock::time_point until, std::size_t most, ProgramResult& result) {
  std::array<char, 16'384> buffer{};
  for (;;) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(until - Clock::now()).count();
    if (left <= 0) return false;
    pollfd wait{.fd = fd, .events = POLLIN, .revents = 0};
    if (::poll(&wait, 1, static_cast<int>(left)) < 0 && errno != EINTR) return true;
    if (wait.revents == 0) continue;
    const auto n = ::read(fd, buffer.data(), buffer.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return true;
    const auto room = most - std::min(most, result.output.size());
    result.cut = result.cut || static_cast<std::size_t>(n) > room;
    result.output.append(buffer.data(), std::min(room, static_cast<std::size_t>(n)));
  }
}

}  // namespace

ProgramResult run_program(const std::vector<std::string>& argv, std::chrono::milliseconds deadline,
                          std::size_t most_bytes, bool errors) {
  std::vector<std::string> words = argv;
  std::vector<char*> pointers;
  for (auto& word : words) pointers.push_back(word.data());
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) throw std::system_error(errno, std::generic_category(), "pipe");
  const pid_t pid = ::fork();
  if (pid < 0) {
    const int error = errno;
    ::close(ends[0]), ::close(ends[1]);
    throw std::system_error(error, std::generic_category(), "fork");
  }
  if (pid == 0) execute(pointers, ends[1], errors);
  ::close(ends[1]);
  ProgramResult result;
  result.ended = read_until(ends[0], Clock::now() + deadline, most_bytes, result);
  ::close(ends[0]);
  if (!result.ended) {
    ::kill(-pid, SIGKILL);
    ::kill(pid, SIGKILL);
  }
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  result.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  result.found = !(result.status == kNotFound && result.output.empty());
  return result;
}

}  // namespace tutti::cli
