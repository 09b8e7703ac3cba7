// Between the thread that reads the kernel log and its user: records go in, and what they say comes out in
// one piece, when the user comes for it. Records are parsed as they go in, so that a storm of messages that
// say nothing costs the user nothing, and one that does is bounded and counted. Any thread.
//
//   1. Findings come out once, in the order of the log; those that do not fit are counted.
//   2. What lay in the log before we opened it is news only if no former reader can have told it: if its
//   number
//      is above the last one told, where that is known, else if it is not older than we are.
//   3. `told_up_to` of what comes out covers all that has come out, and nothing that has not.
#pragma once

#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "worker/node/kernel_log.h"
#include "worker/node/kernel_ring.h"

namespace tutti::node {

class KernelInbox {
 public:
  KernelInbox(std::int64_t started_boot_us, std::optional<std::uint64_t> told_up_to,
              std::size_t max_findings = 1024)
      : started_us_(started_boot_us), told_up_to_(told_up_to), max_findings_(max_findings) {}

  /// True: the user is to be told that there is something; he has not been since he last came.
  bool add(const KernelRecord& record, bool live);
  bool add_loss(std::uint64_t records, std::int64_t boot_us);  // 0: unknown how many

  struct News {
    std::vector<KernelFinding> findings;
    std::uint64_t lost_records = 0;           // overwritten before they were read
    bool some_lost = false;                   // and nobody knows how many
    std::uint64_t dropped = 0;                // findings that did not fit
    std::optional<std::uint64_t> told_up_to;  // number of the last record read
  };
  News take();
  std::string slice(std::int64_t from_boot_us, std::int64_t until_boot_us) const;

 private:
  bool ring_bell() { return !std::exchange(rung_, true); }

  const std::int64_t started_us_;
  mutable std::mutex mutex_;
  std::optional<std::uint64_t> told_up_to_;
  const std::size_t max_findings_;
  KernelLogParser parser_;
  KernelRing ring_;
  News news_;
  bool rung_ = false;
};

}  // namespace tutti::node
