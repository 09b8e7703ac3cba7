// One node's part of the evidence of an attempt: what is in its directory, bounded and without secrets, as
// gzip-compressed tar members. Blocking, local disk; runs on the worker's thread for the disk.
//
// The parts of several nodes, one after the other, are one archive: each is a gzip member of its own and has
// no end-of-archive mark, which the scheduler appends. So it need not unpack anything.
//
//   nodes/<node>/node.json   what the node knows: ranks with exit codes and signals, first failure, end
//   nodes/<node>/logs/…      the last 256 KiB of each rank, of the launcher and of the setup
//   nodes/<node>/evidence/…  hang-N/ (tutti-capture), gpu_before.json, gpu_after.json, kernel.log of a
//   failure nodes/<node>/capture/…   NCCL's log and the flight recorder's dumps
#pragma once

#include <cstdint>
#include <mutex>
#include <string>
#include <vector>

#include "scheduler/model/redact.h"
#include "worker/service/attempt_dir.h"
#include "worker/service/settings.h"

namespace tutti::worker {

struct EvidenceBounds {
  std::size_t part = 32 << 20;        // of one attempt, before compression
  std::size_t log_tail = 256 << 10;   // of one rank
  std::size_t file = 8 << 20;         // of one dump
  std::uintmax_t total = 1ULL << 30;  // of all sealed parts of a node: the oldest go
};

class EvidenceStore {
 public:
  EvidenceStore(const Settings& settings, const AttemptDirs& dirs, EvidenceBounds bounds = {});

  /// Its end is committed, nothing more will come: kept even when its directory is not.
  void seal(AttemptKey);
  /// A piece of it (data in base64); of a living attempt a part as it is now.
  protocol::LogChunk read(const protocol::ReadLog&);

 private:
  std::string sealed_path(AttemptKey) const;
  void write(AttemptKey, const std::string& path);
  void prune();

  const Settings& settings_;
  const AttemptDirs& dirs_;
  const EvidenceBounds bounds_;
  std::string root_;
  std::mutex one_writer_;
};

}  // namespace tutti::worker
