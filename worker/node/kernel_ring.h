// The last lines of the kernel log, for the slice that is kept with a failed attempt. Pure; filled by the
// thread that reads the log, read by the worker's, under a lock of theirs.
#pragma once

#include <cstdint>
#include <deque>
#include <string>

#include "worker/node/kernel_log.h"

namespace tutti::node {

class KernelRing {
 public:
  explicit KernelRing(std::size_t max_lines = 4096, std::size_t max_bytes = 1 << 20)
      : max_lines_(max_lines), max_bytes_(max_bytes) {}
  void add(const KernelRecord& record);
  void add_loss(std::uint64_t records, std::int64_t boot_us);  // a line that says so
  /// As dmesg prints them ("[  123.456789] text"), oldest first: those from `from` to `until`.
  std::string slice(std::int64_t from_boot_us, std::int64_t until_boot_us) const;
  std::size_t size() const { return lines_.size(); }

 private:
  struct Line {
    std::int64_t boot_us = 0;
    std::string text;
  };
  void push(Line line);

  std::size_t max_lines_, max_bytes_, bytes_ = 0;
  std::deque<Line> lines_;
};

}  // namespace tutti::node
