// tutti-preflight --limit SECONDS -- CHECK… --then PROGRAM…: runs the check to its end, then becomes the
// program. A check that fails or takes too long ends the attempt before it has begun: the launcher's failure
// is free for the user, and its log says why. POSIX only.
#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <span>
#include <string_view>
#include <vector>

namespace {

constexpr int kUsage = 64, kFailed = 97;

struct Line {
  int limit = 0;  // seconds
  std::vector<char*> check, program;
};

bool parse(std::span<char*> words, Line& line) {
  if (words.size() < 6 || std::string_view(words[1]) != "--limit" || std::string_view(words[3]) != "--")
    return false;
  const std::string_view limit = words[2];
  const auto parsed = std::from_chars(limit.data(), limit.data() + limit.size(), line.limit);
  if (parsed.ec != std::errc() || line.limit < 1 || line.limit > 3600) return false;
  auto* into = &line.check;
  for (char* word : words.subspan(4)) {
    if (std::string_view(word) == "--then" && into == &line.check)
      into = &line.program;
    else
      into->push_back(word);
  }
  if (line.check.empty() || line.program.empty()) return false;
  line.check.push_back(nullptr);
  line.program.push_back(nullptr);
  return true;
}

[[noreturn]] void become(std::vector<char*>& argv) {
  execvp(argv[0], argv.data());
  std::fprintf(stderr, "tutti-preflight: cannot start %s: %s\n", argv[0], std::strerror(errno));
  _exit(127);
}

// True: it ended well within its time. Else why has been said.
bool check(Line& line) {
  const pid_t parent = getpid();
  const pid_t pid = fork();
  if (pid < 0) {
    std::perror("tutti-preflight: fork");
    return false;
  }
  if (pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(127);
    become(line.check);
  }
  const int fd = static_cast<int>(syscall(SYS_pidfd_open, pid, 0));
  pollfd end{fd, POLLIN, 0};
  const bool ended = fd >= 0 && poll(&end, 1, line.limit * 1000) == 1;
  if (fd >= 0) close(fd);
  if (!ended) {
    std::fprintf(stderr, "tutti-preflight: the collective check did not end within %d s\n", line.limit);
    kill(pid, SIGKILL);
  }
  int status = 0;
  waitpid(pid, &status, 0);
  if (!ended) return false;
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return true;
  if (WIFSIGNALED(status))
    std::fprintf(stderr, "tutti-preflight: the collective check was killed by signal %d\n", WTERMSIG(status));
  else
    std::fprintf(stderr, "tutti-preflight: the collective check exited %d\n", WEXITSTATUS(status));
  return false;
}

}  // namespace

int main(int argc, char** argv) {
  Line line;
  if (!parse({argv, static_cast<std::size_t>(argc)}, line)) {
    std::fprintf(stderr, "usage: %s --limit SECONDS -- CHECK... --then PROGRAM...\n", argv[0]);
    return kUsage;
  }
  if (!check(line)) return kFailed;
  become(line.program);
}
