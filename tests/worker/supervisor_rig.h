// One attempt in a scratch directory with a real tutti-supervisor, seen as a worker sees it. Waits on
// sockets, pidfds and inotify, each with a deadline; when root, the ranks run as nobody.
#pragma once

#include <sys/types.h>

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "worker/supervisor/fd.h"
#include "worker/supervisor/messages.h"

namespace tutti::supervisor::testing {

inline constexpr int kPatienceSeconds = 20;

std::string binary(const std::string& name);  // of this build
bool cgroup2_works();

// A pinned process: whether it dies can be waited for.
class Pinned {
 public:
  explicit Pinned(pid_t pid);
  bool alive() const;
  bool dies_within(int seconds) const;

 private:
  Fd fd_;
};

class Rig {
 public:
  explicit Rig(const std::string& kill_mode = "auto", std::int64_t job = 1);
  ~Rig();  // whatever runs is killed, the directory removed
  Rig(const Rig&) = delete;

  Config config;  // to be changed before start()
  const std::string& dir() const { return config.dir; }
  std::string scratch(const std::string& name) const {
    return dir() + "/scratch/" + name;
  }  // ranks may write it

  void add_device();  // a simulated one, which ranks get in TUTTI_SIM_DEVICES
  void write_lease(std::int64_t until_us) const;

  pid_t spawn_supervisor();
  pid_t start();  // and connects
  void connect();
  void disconnect() { socket_.reset(); }
  void send(const ToSupervisor& command) const;
  void launch_ranks(const std::vector<std::string>& shell_lines);
  Process rank(std::int32_t number, std::int32_t world, const std::string& shell_line) const;

  // Throws std::runtime_error, with the last status, when it does not come.
  Status wait_for(const std::function<bool(const Status&)>& wanted, int seconds = kPatienceSeconds);
  Status wait_for_phase(protocol::Phase phase);
  Status wait_for_end() { return wait_for_phase(protocol::Phase::ended); }
  // The text of a file once it is there and ends with a newline.
  std::string wait_for_file(const std::string& path, int seconds = kPatienceSeconds) const;
  pid_t wait_for_pid(const std::string& name) const { return std::stoi(wait_for_file(scratch(name))); }

  pid_t supervisor() const { return supervisor_; }
  void kill_supervisor();  // SIGKILL, and reaped
  int wait_for_exit();     // its exit status

 private:
  pid_t supervisor_ = 0;
  Fd socket_;
  std::string text_;
  std::string last_;
};

}  // namespace tutti::supervisor::testing
