// The stored form of a Block: a few bytes for each point of time. Pure functions.
//
//   1. What is decoded differs from what was encoded by at most half of what `quantum_of` says, or by what a
//      float cannot hold.
//   2. Two encoded blocks, one after the other, are read as both: a store may append.
//   3. Damaged bytes are noticed, or read as other numbers; never anything worse.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "scheduler/model/series.h"

namespace tutti {

/// Values of that name are kept as multiples of this; 0: as floats.
double quantum_of(std::string_view name);

std::string encode_block(const series::Block& block);

using SeriesSink = std::function<void(const series::Key&, bool simulated, const series::Point&)>;
/// Hands every point to `sink`, those of a line in order. False: the rest is damaged.
bool decode_blocks(std::string_view bytes, const SeriesSink& sink);

}  // namespace tutti
