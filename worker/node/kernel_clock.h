// The stamps of the kernel log in CLOCK_BOOTTIME. The kernel stamps records by a clock of its own, which
// stands still while the machine sleeps and is not disciplined: after weeks it is seconds or minutes off, and
// an Xid would seem to have come before or after the death that it explains. Pure; used by the thread that
// reads.
//
//   1. A record cannot have been read before it was written: the smallest (arrival - stamp) seen is the
//      difference of the clocks, and at most the time between writing and reading too large.
//   2. Counted without the time that the machine has slept, so that waking up begins nothing anew.
//   3. It may grow again by what two clocks drift apart, no faster.
//   4. What lay in the log before we came says how large the difference is at most, and is itself only moved
//      to the past by it: by how much to the future is not known yet.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>

namespace tutti::node {

struct Arrival {                  // of a record, at us
  std::int64_t boot_us = 0;       // CLOCK_BOOTTIME
  std::int64_t suspended_us = 0;  // by how much that is ahead of CLOCK_MONOTONIC: the time slept
};

class KernelClock {
 public:
  /// `live`: it was written just now, not found in the log when we opened it.
  std::int64_t to_boot_us(std::int64_t stamp_us, const Arrival& at, bool live) {
    const std::int64_t seen = at.boot_us - at.suspended_us - stamp_us;
    if (seen < -kMostAhead) return at.boot_us;  // no clock is so far ahead: what is not the kernel's wrote it
    const std::int64_t grown = smallest_ ? *smallest_ + (at.boot_us - seen_at_us_) / kDriftParts : seen;
    smallest_ = std::min(seen, grown);
    seen_at_us_ = at.boot_us;
    live_ = live_ || live;
    return stamp_us + (live_ ? *smallest_ + at.suspended_us : std::min<std::int64_t>(*smallest_, 0));
  }

 private:
  static constexpr std::int64_t kMostAhead = 3'600'000'000;
  static constexpr std::int64_t kDriftParts = 5'000;  // 200 parts in a million
  std::optional<std::int64_t> smallest_;
  std::int64_t seen_at_us_ = 0;
  bool live_ = false;  // one has come
};

}  // namespace tutti::node
