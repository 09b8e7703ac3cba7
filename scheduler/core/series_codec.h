// The stored form of a Block: a few bytes for each point of time. Pure functions.
//
//   1. What is decoded differs from what was encoded by at most half of what `quantum_of` says, or by what a
//      float cannot hold.
//   2. Two encoded blocks, one after the other, are read as both: a store may append.
//   3. Damaged bytes are noticed, or read as other numbers; never anything worse.
#pragma once

#include <string>
#include <string_view>

#include "scheduler/model/series.h"

namespace tutti {

/// Values of that name are kept as multiples of this; 0: as floats.
double quantum_of(std::string_view name);

std::string encode_block(const series::Block& block);

/// Takes what is decoded: of each line that it wants the points, in order.
class SeriesSink {
 public:
  virtual ~SeriesSink() = default;
  virtual bool line(const series::Key& key, bool simulated) = 0;  // the key stays until the next line
  virtual void point(const series::Point& point) = 0;
};
/// False: the rest is damaged.
bool decode_blocks(std::string_view bytes, SeriesSink& sink);

}  // namespace tutti
