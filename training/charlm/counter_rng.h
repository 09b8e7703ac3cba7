// Random numbers without state: every value is a function of (seed, stream, step, index).
// A run that resumes at step N draws exactly what the uninterrupted run drew there, so a checkpoint holds no
// generator state, and ranks need not talk to draw different samples.
#pragma once

#include <cstdint>

namespace tutti::charlm {

// What a number is for; two purposes never share a sequence.
enum class Stream : std::uint64_t {
  weights = 1,
  samples = 2,
};

// The finaliser of splitmix64: every input bit changes every output bit.
constexpr std::uint64_t mix(std::uint64_t x) {
  x += 0x9e3779b97f4a7c15ULL;
  x = (x ^ (x >> 30U)) * 0xbf58476d1ce4e5b9ULL;
  x = (x ^ (x >> 27U)) * 0x94d049bb133111ebULL;
  return x ^ (x >> 31U);
}

constexpr std::uint64_t random_bits(std::uint64_t seed, Stream stream, std::uint64_t step,
                                    std::uint64_t index) {
  return mix(mix(mix(mix(seed) ^ static_cast<std::uint64_t>(stream)) ^ step) ^ index);
}

// In [0, bound); the bias of the remainder is below bound / 2^64.
constexpr std::uint64_t random_below(std::uint64_t bound, std::uint64_t bits) { return bits % bound; }

// In [-1, 1), exact in double, so that it is the same on every machine.
constexpr double random_signed_unit(std::uint64_t bits) {
  return static_cast<double>(bits >> 11U) * 0x1.0p-52 - 1.0;
}

}  // namespace tutti::charlm
