// What the core of a worker wants done. Carried out by worker/service in order; each may be repeated.
#pragma once

#include <cstdint>
#include <string>
#include <variant>

#include "scheduler/model/protocol.h"
#include "worker/supervisor/messages.h"

namespace tutti::worker {

struct Send {  // to the scheduler, over the link that is up now
  protocol::FromWorker message;
};
struct SpawnSupervisor {  // make the attempt's directory and files, start its supervisor
  AttemptKey key;
};
struct LaunchRanks {  // plan the launch, write its files, tell the supervisor
  AttemptKey key;
  protocol::Launch launch;
};
struct TellSupervisor {
  AttemptKey key;
  supervisor::ToSupervisor command;
};
struct KillAndProve {  // the supervisor is dead, or late: do its last work; answer with on_killed
  AttemptKey key;
};
struct KillSupervisor {  // it lives, and does not do what it was told; its death is told as any other's
  AttemptKey key;
};
struct FinalScan {  // last look for checkpoints and what else its ranks left; answer with on_final_scan
  AttemptKey key;
};
struct AskProcesses {  // the probe: who uses this GPU?
  std::string uuid;
  std::int64_t id = 0;
};
struct RecordEnd {  // durably, before it is said: after a restart the attempt must not seem alive
  protocol::AttemptStatus status;
};
struct CheckResume {  // what the attempt begins from, now that its setup is done; answer: on_resume_checked
  AttemptKey key;
};
struct DeleteFiles {  // of a checkpoint; answer: on_checkpoint_deleted
  protocol::DeleteCheckpoint order;
};
struct Retire {  // its end is committed: the directory is kept for its logs only
  AttemptKey key;
};
struct RunGate {  // the quick checks before an attempt; answer with on_gate
  AttemptKey key;
};
struct RunInspection {  // all checks; answer with on_inspection
  protocol::Inspect request;
};
struct SetLease {  // of the node
  std::int64_t until_boot_us = 0;
};
struct SetAttemptLease {
  AttemptKey key;
  std::int64_t until_boot_us = 0;
};
struct PingPeer {
  protocol::PeerPing ping;
  std::string address;
  std::int32_t port = 0;  // 0: wherever it last spoke from
};
struct SaveHealth {};  // of the GPUs
struct Note {          // one log line: job attempt from to why
  AttemptKey key;
  std::string from, to, why;
};

/// What came of CheckResume.
struct ResumeCheck {
  enum class What : std::uint8_t {
    usable,
    damaged,     // nothing may begin from it, on any node
    unreachable  // this node cannot say: the folder is missing, or does not answer
  } what = What::usable;
  std::string why;
  bool whole = true;  // usable, and all its checksums have been compared
};

using Action = std::variant<Send, SpawnSupervisor, LaunchRanks, TellSupervisor, KillAndProve, KillSupervisor,
                            FinalScan, AskProcesses, RecordEnd, CheckResume, DeleteFiles, Retire, RunGate,
                            RunInspection, SetLease, SetAttemptLease, PingPeer, SaveHealth, Note>;

}  // namespace tutti::worker
