// The processes `tutti up` keeps alive: started, noticed when they end, started again with back-off. Used by
// up.cpp. One thread, which must be the one that lives as long as the process (PR_SET_PDEATHSIG).
//
// Invariants
// 1. A child that has lived for kSteady is started again at once; one that ends sooner waits twice as long
// each time.
// 2. When `tutti up` is killed, its children get SIGTERM. They have process groups of their own, so that
// Ctrl-C
//    reaches `tutti up` alone and the order of stopping is ours.
// 3. Nothing is inherited but the three standard descriptors.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace tutti::cli {

using SteadyTime = std::chrono::steady_clock::time_point;

struct ChildPlan {
  std::string name;  // "scheduler", "worker n1"
  std::vector<std::string> argv;
  std::vector<std::pair<std::string, std::string>> environment;  // added to ours
  std::string log;                                               // file that takes its output, appended
};

inline constexpr std::chrono::seconds kSteady{10};
// How long to wait after the n-th end in a row that came too soon: nothing, 0.2 s, 0.4 s, … 10 s.
std::chrono::milliseconds restart_pause(int failures);
// "exit code 3", "signal 9 (Killed)".
std::string describe_end(int wait_status);

// Forks and executes. Throws std::system_error. A program that cannot be executed ends with 127 and a line in
// its log.
pid_t spawn(const ChildPlan& plan);

class Child {
 public:
  explicit Child(ChildPlan plan) : plan_(std::move(plan)) {}

  const ChildPlan& plan() const { return plan_; }
  void replan(ChildPlan plan) { plan_ = std::move(plan); }  // for the next start
  pid_t pid() const { return pid_; }                        // 0: not running
  bool running() const { return pid_ != 0; }
  int early_ends() const { return early_ends_; }
  std::optional<SteadyTime> start_at() const { return start_at_; }

  void start(SteadyTime now);
  void schedule(SteadyTime at) { start_at_ = at; }
  // It has been reaped. `again`: plan the next start.
  void ended(SteadyTime now, bool again);
  void signal(int number) const;

 private:
  ChildPlan plan_;
  pid_t pid_ = 0;
  SteadyTime started_at_{};
  int early_ends_ = 0;
  std::optional<SteadyTime> start_at_;
};

}  // namespace tutti::cli
