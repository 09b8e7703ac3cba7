// Does this node's part of an attempt stand still? Pure: what was seen of the ranks and the time go in, a
// verdict comes out. One per attempt, held by worker/service, which looks about twice a second. Whether the
// gang hangs is decided by the scheduler, from the verdicts of all its nodes.
//
// Ranks that rewrite their progress file tell their steps: the usual time of a step is learned, and the node
// stands still when none of them has moved for max(factor × p99 of it, floor). Without told steps it stands
// still when CPU time, I/O and GPUs have been flat for `quiet`.
//
//   1. Lenient, because a false kill is worse than a late one: before `first_steps` are known it is judged,
//   and
//      told, as if it told no steps; never
//      sooner than twice the longest silence that ended by itself; a rank that reads or writes a lot (a
//      checkpoint, its data) moves; a rank at its last step may take as long as it likes to leave.
//   2. `after` of the job replaces all that by a fixed limit of silence.
//   3. Nothing that a program tells can break it: steps that go back, huge or not numbers only count as "it
//      told something else than before".
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <vector>

#include "scheduler/model/job_spec.h"
#include "scheduler/model/time.h"

namespace tutti::worker {

struct HangLimits {
  Duration floor = std::chrono::seconds(10);
  int factor = 10;
  std::size_t first_steps = 5;
  Duration quiet = std::chrono::seconds(60);
  Duration longest_io = std::chrono::minutes(30);  // so long reading and writing count as moving
};

/// What a rank has told, as read from its progress file.
struct Told {
  std::int64_t step = 0;
  std::int64_t total = 0;  // 0: not told
  double compute_s = 0;    // its own time in the last step; what is not above 0 is not told
  std::uint64_t mark = 0;  // changes with anything else that it tells (metrics)
  Duration age{};          // since the file was written
};

/// Sums over all local ranks. Counters may fall when a process ends.
struct Activity {
  Duration cpu{};
  std::int64_t io_bytes = 0;
  bool gpu_busy = false;
};

class HangWatch {
 public:
  HangWatch(HangLimits limits, HangPolicy policy, Mono started);

  void on_told(Mono now, std::int32_t rank, const Told&);
  void on_rank_ended(std::int32_t rank);
  void on_activity(Mono now, std::size_t living_ranks, const Activity&);

  struct Verdict {
    bool tells_progress = false;  // only a stall by told steps may end an attempt
    bool stalled = false;
    Duration limit{};  // 0: none yet
  };
  Verdict judge(Mono now) const;

  struct Rank {
    std::int64_t step = -1;  // tells none
    Duration silent{};
    Duration step_time{};  // median; 0: not known
    Duration compute{};    // mean since the last call
  };
  /// For a report; begins a new mean.
  Rank take_rank(Mono now, std::int32_t rank);

  /// To survive a restart of the worker: learned times. Zero: nothing.
  struct Learned {
    Duration p99{}, longest{};
    bool operator==(const Learned&) const = default;
  };
  Learned learned() const;
  void remember(const Learned& earlier) { earlier_ = earlier; }

 private:
  struct One {
    Told told;
    Mono moved{};                // its last change
    bool has_moved = false;      // since it was first seen: `moved` is the end of a whole step
    std::deque<Duration> steps;  // newest last, bounded
    double compute_sum = 0;
    int compute_n = 0;
    double compute_last = 0;
  };
  Duration learned_limit() const;

  const HangLimits limits_;
  const HangPolicy policy_;
  std::map<std::int32_t, One> ranks_;  // that tell
  Duration longest_{};                 // silence of all that ended by itself
  Mono last_move_{};                   // of any rank
  Mono last_io_{};
  Learned earlier_;
  // Without told steps: flat since then, against this.
  Mono flat_since_{};
  Activity flat_from_;
  std::int64_t io_seen_ = 0;
};

}  // namespace tutti::worker
