// When did which epoch of a job run? From what tutti-rank wrote into $TUTTI_INTERVAL_FILE (start and stop of
// each rank's program) and from the stamps of e2e_rank (its last sign of life, also when it was killed).
#pragma once

#include <cstdint>
#include <map>
#include <string>

namespace tutti::e2e {

struct Interval {
  std::int64_t first_us = 0;  // the first rank was started
  std::int64_t last_us = 0;   // some rank was certainly alive
  int starts = 0;
};
using Intervals = std::map<std::int64_t, std::map<std::int64_t, Interval>>;  // job → epoch

Intervals read_intervals(const std::string& interval_file, const std::string& stamp_directory);

/// "" = of each job every epoch began after all former ones were over.
std::string find_overlap(const Intervals& intervals);

}  // namespace tutti::e2e
