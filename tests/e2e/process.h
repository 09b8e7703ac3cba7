// Processes of a test: starting them (in another network namespace if wanted), signalling them, waiting for
// their end through pidfds, finding those that somebody else started by what stands in their environment.
//
// Called by: the cluster, the tests, e2e_janitor. One thread. Every wait has a deadline.
#pragma once

#include <signal.h>
#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace tutti::e2e {

std::int64_t boot_us();  // CLOCK_BOOTTIME, the clock of leases and intervals

class Fd {
 public:
  explicit Fd(int fd = -1) : fd_(fd) {}
  ~Fd();
  Fd(Fd&& other) noexcept : fd_(other.fd_) { other.fd_ = -1; }
  Fd& operator=(Fd&& other) noexcept;
  Fd(const Fd&) = delete;
  Fd& operator=(const Fd&) = delete;
  int get() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }

 private:
  int fd_;
};

struct SpawnOptions {
  std::vector<std::string> argv;
  std::map<std::string, std::string> env;  // on top of ours
  std::string log;                         // appended to; "" = /dev/null
  std::string network;                     // network namespace; "" = ours
  std::string host;                        // host name in a UTS namespace of its own; "" = ours
};

/// A child of ours. It is killed with us, and by the destructor.
class Process {
 public:
  Process() = default;
  explicit Process(const SpawnOptions& options);
  ~Process();
  Process(Process&& other) noexcept;
  Process& operator=(Process&& other) noexcept;

  pid_t pid() const { return pid_; }
  bool running();
  void signal(int number);
  /// How it ended, in waitpid's words; nothing at the deadline.
  std::optional<int> wait(std::chrono::milliseconds deadline);
  /// SIGKILL, and until it is gone.
  void kill();

 private:
  pid_t pid_ = 0;
  Fd pidfd_;
  std::optional<int> status_;
};
std::string describe_status(int status);

/// Runs a helper to its end; its output. Throws Failure when it fails or takes longer than ten seconds.
std::string run(const std::vector<std::string>& argv, const std::map<std::string, std::string>& env = {});

/// A process that need not be our child. Its number cannot come to mean another one while this is held.
struct Seen {
  pid_t pid = 0;
  Fd pidfd;
  std::string program;  // last part of /proc/PID/exe
  std::string command;  // arguments, joined by spaces
  std::map<std::string, std::string> env;

  std::string value(const std::string& name) const;
  bool alive() const;
  void signal(int number) const;
};
/// All processes one of whose variables `name` begins with `prefix`. A process that is gone, or a zombie, is
/// none.
std::vector<Seen> find_processes(const std::string& name, const std::string& prefix);

/// Waits for the end of all of them. When each was seen to be gone (CLOCK_BOOTTIME); throws Failure.
std::vector<std::int64_t> await_deaths(const std::vector<Seen>& processes,
                                       std::chrono::milliseconds deadline);

/// SIGKILL to all that find_processes finds, again and again until there are none. False at the deadline.
bool kill_all(const std::string& name, const std::string& prefix, std::chrono::milliseconds deadline);

}  // namespace tutti::e2e
