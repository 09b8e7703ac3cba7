// What the end of an attempt has cost: the work after its last checkpoint, which is done again. A plain
// function.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "scheduler/model/rows.h"

namespace tutti {

struct LostWork {
  std::int64_t steps = 0;
  double seconds = 0;      // of running time
  double gpu_seconds = 0;  // the same, for each of its GPUs
};

/// Between the newest checkpoint that the attempt has left (else the one it began from) and the first
/// evidence of its end. nullopt: it has not ended, or has done all its work. `checkpoints` are the job's; bad
/// ones save nothing.
std::optional<LostWork> compute_lost_work(const AttemptRow& attempt,
                                          const std::vector<CheckpointRow>& checkpoints);

}  // namespace tutti
