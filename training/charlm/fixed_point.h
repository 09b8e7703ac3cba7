// Gradients as 64-bit integers, so that their sum over ranks does not depend on the order of addition.
// Floating-point addition is not associative: MPI_Allreduce and ncclAllReduce choose their order by message
// size, topology and algorithm, and two runs of one seed would part company in the last digit. Integers
// cannot.
//
// 2^-40 resolves what a float gradient of 1e-5 resolves (24 bits of mantissa); the clamp leaves room for 4096
// ranks.
#pragma once

#include <Eigen/Core>
#include <cmath>
#include <cstdint>
#include <span>

#include "training/charlm/exit_codes.h"

namespace tutti::charlm {

inline constexpr double kFixedPointOne = 0x1.0p40;
inline constexpr double kFixedPointLimit = 1024.0;  // also a gradient clip
inline constexpr int kMaxRanks = 4096;

inline std::int64_t to_fixed_point(float value) {
  if (!std::isfinite(value)) throw Failure(Exit::diverged, "the gradient is not finite: lower --lr");
  const double clamped =
      std::fmin(std::fmax(static_cast<double>(value), -kFixedPointLimit), kFixedPointLimit);
  return static_cast<std::int64_t>(std::nearbyint(clamped * kFixedPointOne));
}

// The mean over `ranks` of values that were summed as fixed point.
inline float mean_from_fixed_point(std::int64_t sum, int ranks) {
  return static_cast<float>(static_cast<double>(sum) / (kFixedPointOne * ranks));
}

}  // namespace tutti::charlm
