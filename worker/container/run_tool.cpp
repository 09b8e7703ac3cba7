#include "worker/container/run_tool.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <stdexcept>

#include "worker/supervisor/fd.h"
#include "worker/supervisor/files.h"

namespace tutti::container {
namespace {

using supervisor::Fd;

pid_t start(const std::vector<std::string>& words, int out, bool silent) {
  std::vector<char*> argv;
  for (const auto& word : words) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  const pid_t self = getpid();
  const pid_t pid = fork();
  if (pid < 0) supervisor::throw_errno("fork");
  if (pid > 0) return pid;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != self) _exit(127);
  const int null = open("/dev/null", O_RDWR | O_CLOEXEC);
  dup2(null, 0);
  if (silent) {
    dup2(null, 1);
    dup2(null, 2);
  }
  if (out >= 0) dup2(out, 1);
  execvp(argv[0], argv.data());
  std::fprintf(stderr, "tutti-image: cannot start %s\n", argv[0]);
  _exit(127);
}

int wait_for(pid_t pid) {
  int status = 0;
  while (waitpid(pid, &status, 0) < 0)
    if (errno != EINTR) return 127;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

void check(const std::vector<std::string>& argv, int status) {
  if (status == 0) return;
  std::string line;
  for (const auto& word : argv) line += (line.empty() ? "" : " ") + word;
  throw std::runtime_error("\"" + line + "\" ended with status " + std::to_string(status));
}

}  // namespace

void run_tool(const std::vector<std::string>& argv) { check(argv, wait_for(start(argv, -1, false))); }

void run_tool(const std::vector<std::string>& argv, const std::function<void(std::string)>& on_line) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) supervisor::throw_errno("pipe");
  const Fd from(ends[0]);
  Fd to(ends[1]);
  const pid_t pid = start(argv, to.get(), false);
  to.reset();
  std::string text;
  char chunk[8192];
  for (ssize_t n; (n = read(from.get(), chunk, sizeof chunk)) != 0;) {
    if (n < 0) {
      if (errno == EINTR) continue;
      break;
    }
    text.append(chunk, static_cast<std::size_t>(n));
    std::size_t begin = 0;
    for (std::size_t end; (end = text.find('\n', begin)) != std::string::npos; begin = end + 1)
      on_line(text.substr(begin, end - begin));
    text.erase(0, begin);
  }
  check(argv, wait_for(pid));
}

bool runs_well(const std::vector<std::string>& argv) { return wait_for(start(argv, -1, true)) == 0; }

std::string find_in_path(std::string_view program) {
  const char* path = std::getenv("PATH");
  std::string_view rest = path == nullptr ? "/usr/local/bin:/usr/bin:/bin" : path;
  while (!rest.empty()) {
    const auto end = std::min(rest.find(':'), rest.size());
    std::string candidate(rest.substr(0, end));
    candidate.append("/").append(program);
    if (candidate.front() == '/' && access(candidate.c_str(), X_OK) == 0) return candidate;
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  return {};
}

}  // namespace tutti::container
