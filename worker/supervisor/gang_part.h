// Decides for one node's part of a gang: when it is up, what failed first, whom to spare for how long, when
// all must die. Pure: events and the time go in, orders come out; the supervisor (supervisor.cpp) obeys. One
// thread.
//
// Invariants
// 1. `finishing` is never taken back; after it no event adds a failure and nothing may be started.
// 2. The failure told is the earliest of those seen together, and never changes afterwards.
// 3. A deadline for the kill only ever moves nearer (of several Stops the stricter wins).
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "scheduler/model/protocol.h"

namespace tutti::supervisor {

inline constexpr int kRestartExitCode = 85;  // "checkpointed, start me again": the others may finish too

// How a process ended.
struct Exit {
  int code = 0;
  int signal = 0;  // 0 = it exited
  bool well() const { return code == 0 && signal == 0; }
};
std::string describe(const Exit& exit);  // "exited 3", "was killed by signal 9"

class GangPart {
 public:
  struct Patience {
    std::int64_t restart_us = 30'000'000;  // for the other ranks once one has exited 85
    std::int64_t tail_us = 15'000'000;     // for launchers, once every rank of a single-node gang is done
    std::int64_t orphan_us = 5'000'000;    // for ranks whose launcher is gone
    // What runs here is started by another node's launchers: one that ended well before any rank came is
    // followed by the next.
    bool by_agent = false;
  };

  explicit GangPart(std::int32_t local_ranks) : GangPart(local_ranks, Patience()) {}
  GangPart(std::int32_t local_ranks, Patience patience) : local_ranks_(local_ranks), patience_(patience) {}

  // ---- events
  void on_ready();
  void on_launched();
  void on_process_started();
  // A launcher, an agent's command or a rank's keeper has ended. `detail` says which, for people. `reported`:
  // a rank under it has come up, so that the rank's own report tells what happened.
  void on_process_ended(const Exit& exit, bool is_rank, bool reported, const std::string& detail,
                        std::int64_t now);
  // False: there is no room for it (a second one of that number, or more than local_ranks).
  bool on_rank_up(std::int32_t rank, std::int32_t world_size);
  // `vanished`: its keeper is gone without a report.
  void on_rank_ended(std::int32_t rank, const Exit& exit, bool vanished, std::int64_t when);
  void on_failure(protocol::Failure failure);  // anything but a rank's end: setup, launch
  void on_lease_expired(std::int64_t now);     // kills whatever grace is running
  void on_oom(std::int32_t rank);  // the kernel killed for want of memory: renames the failure to come
  void on_stop(const std::string& signal, std::int64_t grace_us, std::int64_t now);
  // After each round of events: chooses the first failure, passes deadlines, sees the natural end.
  void settle(std::int64_t now);

  // ---- orders and answers
  protocol::Phase phase() const { return phase_; }
  bool finishing() const { return finishing_; }
  bool stopping() const { return stop_until_.has_value(); }
  bool may_start() const { return !finishing_ && !stopping(); }
  bool all_ranks_well() const;
  const std::optional<protocol::Failure>& failure() const { return failure_; }
  std::int32_t ranks_up() const { return static_cast<std::int32_t>(ranks_.size()); }
  std::int32_t ranks_done() const { return ranks_done_; }
  std::optional<std::int64_t> kill_at() const { return kill_at_; }
  std::optional<std::int64_t> stop_until() const { return stop_until_; }
  void on_ended() { phase_ = protocol::Phase::ended; }  // proven, or given up

 private:
  void kill_by(std::int64_t when);
  void note_failure(protocol::Failure failure);
  void judge(const protocol::Failure& failure, std::int64_t now);
  bool launched() const { return phase_ == protocol::Phase::launched || phase_ == protocol::Phase::running; }
  bool all_up() const { return ranks_up() >= local_ranks_; }

  const std::int32_t local_ranks_;
  const Patience patience_;
  protocol::Phase phase_ = protocol::Phase::preparing;
  bool finishing_ = false;
  std::map<std::int32_t, std::optional<Exit>> ranks_;  // those that came up
  std::int32_t ranks_done_ = 0;
  std::int32_t world_size_ = 0;  // as a rank reported it, 0 = unknown
  std::int32_t live_processes_ = 0;
  std::optional<Exit> last_process_;
  std::string last_process_detail_;
  std::optional<std::int64_t> kill_at_, stop_until_;
  std::optional<std::int64_t> orphaned_at_;     // ranks run on, all launchers are gone
  std::optional<protocol::Failure> candidate_;  // earliest of this round
  std::optional<protocol::Failure> failure_;
};

}  // namespace tutti::supervisor
