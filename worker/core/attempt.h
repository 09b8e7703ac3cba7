// One attempt's part on this node, as WorkerCore holds it. Included by worker_core*.cpp only.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <tuple>

#include "worker/core/worker_core.h"

namespace tutti::worker {

enum class Stage {
  spawning,    // its supervisor is being started (or adopted); left by its first status, or its death
  supervised,  // the supervisor's status is known; left by its `end`, or its death
  killing,     // the supervisor died: kill_and_prove runs; left by its result
  last_work,   // ranks dead: last checkpoint, GPUs, end of the supervisor; left when all three are done
  ended        // said, and kept until forgotten; unproven: back to last_work as soon as it is
};

struct Gate {  // the quick checks before an attempt, while they are under way
  bool shell_done = false;
  // Not yet seen to be free of others: UUID → question under way, 0: none, it is to be asked again.
  std::map<std::string, std::int64_t> gpus;
  std::string witness;  // what was seen on one of them
  Mono until{}, next_ask{}, asked_in_vain_at{};
};

struct WorkerCore::Attempt {
  Attempt(const protocol::Prepare& p, SpecPtr s) : key(p.key), prepare(p), spec(std::move(s)) {
    const bool resumes = !p.resume_path.empty() && p.index == 0 && spec && !spec->checkpoint.dir.empty();
    if (resumes) resume = Resume::wanted;
  }

  std::int32_t ranks() const {
    const auto i = static_cast<std::size_t>(prepare.index);
    return i < prepare.gang.size() ? prepare.gang[i].ranks : 0;
  }

  // It may have ranks, so that its lease counts.
  bool may_run() const { return stage == Stage::spawning || stage == Stage::supervised; }

  AttemptKey key;
  protocol::Prepare prepare;
  SpecPtr spec;
  Stage stage = Stage::spawning;
  supervisor::Status status;                             // the last one
  protocol::Phase reached = protocol::Phase::preparing;  // the furthest before its end
  std::optional<protocol::Failure> failure;
  std::optional<protocol::Launch> launch;
  std::optional<protocol::Stop> stop;
  bool launch_told = false, stop_told = false;  // over the present connection
  bool supervisor_gone = false;
  std::optional<Mono> supervisor_by;         // when it must have done what it was told
  Mono lease_until{};                        // never moves backwards; zero = none yet
  std::map<std::string, Mono> acknowledged;  // by each peer: when that was sent
  bool lease_over = false, lease_struck = false;
  bool struck = false;  // a kill of ours is under way while the supervisor lives: what it finds is no proof

  // Before its supervisor is started (stage spawning). None: passed, or there is none.
  std::optional<Gate> gate;

  protocol::End end;  // from last_work on
  bool scanned = false;
  std::map<std::string, std::int64_t>
      gpus_waited_for;      // UUID → question under way, 0: answered, not free yet
  std::string gpu_witness;  // why a GPU is not proven free
  Mono gpu_deadline{}, next_ask{}, asked_in_vain_at{}, prove_at{};
  protocol::AttemptStatus final;  // when ended

  // The check of what it begins from.
  enum class Resume : std::uint8_t {
    none,     // there is nothing to check, or it is done
    wanted,   // once its setup is over
    checking  // until resume_by
  } resume = Resume::none;
  Mono resume_by{};

  std::map<std::string, protocol::CheckpointFound> checkpoints;  // by path; bounded
  std::map<std::string, protocol::CheckpointChecked> checked;    // likewise
  std::set<std::string> refused_checkpoints;
  std::optional<protocol::CollectiveResult> collective;
  std::optional<protocol::Progress> progress;  // the last one
  Mono progress_at{};
  std::optional<protocol::AttemptStatus> reported;  // last said to the scheduler
};

inline std::int64_t boot_us(Now now) { return now.mono.time_since_epoch().count(); }

inline protocol::Failure failure(std::string kind, std::string detail, Now now) {
  protocol::Failure f;
  f.kind = std::move(kind);
  f.detail = std::move(detail);
  f.boot_us = boot_us(now);
  return f;
}

inline protocol::AttemptStatus ended(AttemptKey key, std::optional<protocol::Failure> f, bool proven,
                                     std::string how, Now now) {
  protocol::AttemptStatus s;
  s.key = key;
  s.phase = protocol::Phase::ended;
  s.failure = std::move(f);
  s.end = protocol::End{false, proven, std::move(how), boot_us(now)};
  return s;
}

// Its end is unproven, and no supervisor is left to go on trying.
inline bool needs_proof(const WorkerCore::Attempt& a) {
  return a.stage == Stage::ended && !a.final.end->proven && a.supervisor_gone;
}

// What it has left that is taken of a live attempt only: it is said before its end, over each connection.
inline bool leaves_words(const WorkerCore::Attempt& a) {
  return !a.checkpoints.empty() || a.collective || a.progress;
}

// The phase to be said while it has not ended: never `ended` before the proof is whole.
inline protocol::Phase live_phase(const WorkerCore::Attempt& a) {
  using protocol::Phase;
  if (a.resume != WorkerCore::Attempt::Resume::none && a.reached == Phase::ready) return Phase::preparing;
  return a.reached == Phase::launched && a.ranks() == 0 ? Phase::running : a.reached;
}

// What is said of it while it has not ended, or its end is not to be said yet.
inline protocol::AttemptStatus live_status(const WorkerCore::Attempt& a) {
  protocol::AttemptStatus s;
  s.key = a.key;
  s.phase = live_phase(a);
  s.agent_port = a.status.agent_port;
  s.master_port = a.status.master_port;
  s.failure = a.failure;
  return s;
}

inline std::string phase_word(const WorkerCore::Attempt& a) {
  switch (a.stage) {
    case Stage::spawning: return "preparing";
    case Stage::supervised:
      return a.status.phase == protocol::Phase::ended ? "ending"
                                                      : std::string(protocol::name(a.status.phase));
    case Stage::killing: return "killing";
    case Stage::last_work: return "ending";
    case Stage::ended: return "ended";
  }
  return "?";
}

inline bool same(const std::optional<protocol::Failure>& a, const std::optional<protocol::Failure>& b) {
  if (!a || !b) return a.has_value() == b.has_value();
  return std::tie(a->kind, a->rank, a->exit_code, a->signal, a->boot_us, a->detail) ==
         std::tie(b->kind, b->rank, b->exit_code, b->signal, b->boot_us, b->detail);
}

inline bool same(const protocol::AttemptStatus& a, const protocol::AttemptStatus& b) {
  const auto ends_differ = [&] {
    if (!a.end || !b.end) return a.end.has_value() != b.end.has_value();
    return std::tie(a.end->ok, a.end->proven, a.end->how) != std::tie(b.end->ok, b.end->proven, b.end->how);
  };
  return std::tie(a.key, a.phase, a.agent_port, a.master_port) ==
             std::tie(b.key, b.phase, b.agent_port, b.master_port) &&
         same(a.failure, b.failure) && !ends_differ();
}

}  // namespace tutti::worker
