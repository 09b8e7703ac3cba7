#include "scheduler/service/replay_process.h"

#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <fstream>
#include <new>
#include <system_error>
#include <utility>

#include "db/store.h"

extern char** environ;

namespace tutti {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t kMostAnswer = 64 << 10;  // bytes
constexpr int kNoMemory = 4;                   // exit status

#if defined(__SANITIZE_ADDRESS__)
constexpr bool kTakesAllAddresses = true;  // its shadow is larger than any limit
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
constexpr bool kTakesAllAddresses = true;
#else
constexpr bool kTakesAllAddresses = false;
#endif
#else
constexpr bool kTakesAllAddresses = false;
#endif

// Before the kernel looks for a victim: where that is a whole unit (systemd's OOMPolicy), the leader would
// end with it.
void limit_memory(std::string_view megabytes) {
  std::uint64_t mb = 0;
  std::from_chars(megabytes.data(), megabytes.data() + megabytes.size(), mb);
  if (mb == 0 || kTakesAllAddresses) return;
  const rlimit limit{mb << 20, mb << 20};
  ::setrlimit(RLIMIT_AS, &limit);
}

void check(int error, const char* what) {
  if (error != 0)
    throw StoreError(StoreError::unavailable, what + (": " + std::generic_category().message(error)));
}

class Fd {
 public:
  explicit Fd(int value) : value_(value) {}
  ~Fd() { close(); }
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
  int value() const { return value_; }
  void close() {
    if (value_ >= 0) ::close(std::exchange(value_, -1));
  }

 private:
  int value_;
};

/// Ends with this object, if it has not before.
class Child {
 public:
  Child(const ReplayProcess::Program& program, int talk) {
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_init(&attributes);
    posix_spawn_file_actions_adddup2(&actions, talk, 0);
    posix_spawn_file_actions_adddup2(&actions, talk, 1);
    // Asio's sockets are not close-on-exec; in its hands they would stay open after us.
    posix_spawn_file_actions_addclosefrom_np(&actions, 3);
    sigset_t none, all;
    sigemptyset(&none);
    sigfillset(&all);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setsigdefault(&attributes, &all);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    std::vector<char*> argv;
    for (const auto& word : program.argv) argv.push_back(const_cast<char*>(word.c_str()));
    argv.push_back(nullptr);
    const int error = posix_spawn(&pid_, program.path.c_str(), &actions, &attributes, argv.data(), environ);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
    check(error, "cannot start a process for the replay");
  }
  ~Child() { end(); }
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  /// How it ended; "signal 9" where it had not.
  std::string end() {
    if (pid_ <= 0) return "";
    ::kill(pid_, SIGKILL);
    int status = 0;
    while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
    }
    pid_ = 0;
    return WIFEXITED(status) ? "exit status " + std::to_string(WEXITSTATUS(status))
                             : "signal " + std::to_string(WTERMSIG(status));
  }

 private:
  pid_t pid_ = 0;
};

/// False: not before `until`.
bool wait_for(int fd, short events, Clock::time_point until) {
  for (;;) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(until - Clock::now()).count();
    pollfd p{fd, events, 0};
    const int n = ::poll(&p, 1, static_cast<int>(std::max<std::int64_t>(0, left)));
    if (n > 0) return true;
    if (n == 0 || errno != EINTR) return false;
  }
}

// Stops where the other end has gone: then there is an answer, or none will come.
bool send_all(int fd, std::string_view text, Clock::time_point until) {
  while (!text.empty()) {
    if (!wait_for(fd, POLLOUT, until)) return false;
    const auto n = ::send(fd, text.data(), text.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n > 0) text.remove_prefix(static_cast<std::size_t>(n));
    if (n < 0 && errno != EAGAIN && errno != EINTR) break;
  }
  ::shutdown(fd, SHUT_WR);
  return true;
}

bool receive_all(int fd, std::string& into, Clock::time_point until) {
  char piece[4096];
  while (into.size() < kMostAnswer) {
    if (!wait_for(fd, POLLIN, until)) return false;
    const auto n = ::recv(fd, piece, sizeof piece, MSG_DONTWAIT);
    if (n > 0) into.append(piece, static_cast<std::size_t>(n));
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) break;
  }
  return true;
}

}  // namespace

// A replacement of the file by an upgrade does not matter: this is the one that runs.
ReplayProcess::Program ReplayProcess::this_program(std::int64_t memory_mb) {
  Program program;
  program.path = "/proc/self/exe";
  program.argv = {"tutti-scheduler", std::string(kReplayVerb), std::to_string(memory_mb)};
  return program;
}

replay::Compared ReplayProcess::compare(const replay::Comparison& comparison) const {
  const auto until = Clock::now() + comparison.patience + program_.grace;
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) check(errno, "socketpair");
  Fd ours(ends[0]), theirs(ends[1]);
  Child child(program_, theirs.value());
  theirs.close();
  std::string text;
  const bool in_time =
      send_all(ours.value(), replay::encode(comparison), until) && receive_all(ours.value(), text, until);
  const std::string how = child.end();
  if (!in_time) return {.results = {}, .given_up = true};
  auto compared = replay::decode_compared(text);
  if (!compared || (!compared->given_up && compared->results.size() != comparison.policies.size()))
    throw StoreError(
        StoreError::unavailable,
        how == "exit status " + std::to_string(kNoMemory)
            ? "the replay takes more memory than it may: ask for fewer jobs or a shorter time, or "
              "start the scheduler with a larger --replay-memory-mb"
            : "the process of the replay ended without an answer, with " + how);
  return *std::move(compared);
}

int answer_one_replay(std::string_view memory_mb) try {
  limit_memory(memory_mb);
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  ::setpriority(PRIO_PROCESS, 0, 10);
  std::ofstream("/proc/self/oom_score_adj") << 1000;  // rather this one than whoever leads
  std::string question;
  char piece[65536];
  for (;;) {
    const auto n = ::read(0, piece, sizeof piece);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;
    question.append(piece, static_cast<std::size_t>(n));
  }
  const auto comparison = replay::decode_comparison(question);
  if (!comparison) return 2;
  const std::string answer = replay::encode(replay::compare(*comparison));
  return ::send(1, answer.data(), answer.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(answer.size()) ? 0 : 1;
} catch (const std::bad_alloc&) {
  return kNoMemory;
}

}  // namespace tutti
