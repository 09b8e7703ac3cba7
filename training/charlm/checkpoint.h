// Checkpoints by the contract with the scheduler: shards first, COMPLETE.json last, and only then does the
// checkpoint exist. Called by the training loop on every rank at the same step.
//
// Invariants: (1) COMPLETE.json is present only while all shards it counts are whole and durable; (2) the
// shards hold slices of one array (parameters, then both moments), so a gang of another size can resume from
// them; (3) loading checks every shard's checksum and that model, seed and text are ours, and never falls
// back silently.
#pragma once

#include <cstdint>
#include <filesystem>

#include "training/charlm/adam.h"
#include "training/charlm/collective.h"

namespace tutti::charlm {

// What a checkpoint must have in common with the run that loads it.
struct RunIdentity {
  std::uint64_t model = 0;  // ModelShape::fingerprint()
  std::uint64_t text = 0;   // Corpus::fingerprint()
  std::uint64_t seed = 0;
};

// One rank's part; returns its size in bytes. Throws Failure{io}.
std::uint64_t write_shard(const std::filesystem::path& step_dir, const TrainingState& state,
                          const RunIdentity& identity, int shard, int shards);

// All of it: every rank writes its shard, rank 0 commits. Returns on all ranks after the commit.
// Throws Failure{io}, and Failure{diverged} if the ranks' states are not the same.
void save_checkpoint(Collective& gang, const std::filesystem::path& checkpoint_dir,
                     const TrainingState& state, const RunIdentity& identity, std::int64_t epoch);

// Throws Failure{checkpoint_refused} with the reason.
TrainingState load_checkpoint(const std::filesystem::path& step_dir, const RunIdentity& identity,
                              std::size_t parameters);

std::uint64_t fingerprint_of(const TrainingState& state);

}  // namespace tutti::charlm
