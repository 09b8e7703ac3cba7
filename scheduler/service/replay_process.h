// A replay in a process of its own. The planner runs there over jobs that production may never have seen
// under such a policy: an assertion that fails, or memory that runs out, ends that process alone.
//
// Called by: parts.cpp, main.cpp (the other end), tests. Blocks, so on the thread of replays; not fork, which
// copies the locks of other threads, but the program itself, started anew.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "scheduler/replay/comparison.h"

namespace tutti {

/// What the program is started with to answer one question (scheduler/main.cpp); for nobody else.
inline constexpr std::string_view kReplayVerb = "answer-one-replay";

class ReplayProcess {
 public:
  struct Program {
    std::string path;
    std::vector<std::string> argv;
    /// Beside the patience of the question: to start, read and write.
    std::chrono::milliseconds grace = std::chrono::seconds(5);
  };
  /// `memory_mb`: MiB of address space that it may take; 0 = as much as there is.
  static Program this_program(std::int64_t memory_mb = 4096);

  explicit ReplayProcess(Program program) : program_(std::move(program)) {}
  /// Throws StoreError{unavailable} where the process ends without an answer; what it said is in our log.
  replay::Compared compare(const replay::Comparison& comparison) const;

 private:
  Program program_;
};

/// The other end: reads a question from descriptor 0 and writes the answer to 1. The exit status.
/// `memory_mb`: as it was started with.
int answer_one_replay(std::string_view memory_mb);

}  // namespace tutti
