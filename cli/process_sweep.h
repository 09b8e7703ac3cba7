// Finds and ends the processes that belong to one data directory of `tutti up` and are not its direct doing:
// supervisors, ranks and what they started. Used by up.cpp when it stops. One thread.
//
// A process belongs when it is an orphan of ours (`tutti up` is a subreaper), when its environment bears our
// mark, or when it is part of an attempt whose directory lies below ours. So those of an earlier `tutti up`
// that was killed are found, too.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <string>
#include <string_view>
#include <vector>

namespace tutti::cli {

inline constexpr std::string_view kUpMark = "TUTTI_UP_DATA";

struct SweepScope {
  std::string data;             // absolute: the value of the mark; attempts lie below it
  std::vector<pid_t> excepted;  // processes that are stopped in their own way
};

class Sweep {
 public:
  ~Sweep();
  Sweep(const Sweep&) = delete;
  Sweep& operator=(const Sweep&) = delete;
  // Looks now. Zombies do not count.
  explicit Sweep(const SweepScope& scope);

  std::size_t size() const { return found_.size(); }
  std::string describe() const;  // "4711 (tutti-supervisor), 4712 (python3)"
  // SIGKILL, the supervisors first: a rank that falls before its supervisor would be recorded as a failure of
  // the job, while a supervisor that vanishes is our doing and costs the job nothing.
  void kill() const;
  // False: some still live at the deadline. Reaps our orphans among them.
  bool wait(std::chrono::milliseconds at_most) const;

 private:
  struct Process {
    pid_t pid;
    int pidfd;
    std::string name;
  };
  std::vector<Process> found_;
};

// Kills until nothing is left, because a process may start another while we look. False: something survived.
bool sweep_all(const SweepScope& scope, std::chrono::milliseconds at_most);

}  // namespace tutti::cli
