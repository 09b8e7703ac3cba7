// The training loop: one all-reduce per step carries the gradient, the loss and the wish to stop. Run by
// main() on every rank; single-threaded.
//
// Invariants: (1) after every step all ranks hold the same bits; (2) the loss is a function of (seed, world
// size, options, text) and of nothing else: not of timing, and not of where the run was interrupted; (3) a
// planned stop takes effect on all ranks after the same step.
#pragma once

#include <cstdint>
#include <filesystem>

#include "training/charlm/collective.h"
#include "training/charlm/environment.h"

namespace tutti::charlm {

struct Options {
  std::filesystem::path data = "/usr/share/common-licenses";
  std::uint64_t steps = 400;
  int batch = 128;  // windows per rank and step
  int context = 16;
  int embed = 12;
  int hidden = 96;
  float learning_rate = 0.004F;
  std::uint64_t seed = 1;
  int step_ms = 0;                     // a step takes at least so long
  std::uint64_t checkpoint_every = 0;  // 0: only at a planned stop
  std::uint64_t log_every = 20;
};

// Returns Exit::done or Exit::restart_me. Throws Failure.
Exit train(const Options& options, const Environment& env, Collective& gang);

}  // namespace tutti::charlm
