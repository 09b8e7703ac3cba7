// One Xid reaches us twice, from NVML and from the kernel log, in either order. This finds the pairs: by GPU,
// number and 5 s. Each report of one source takes at most one of the other away, so that a GPU which fails
// twice within 5 s is told twice. Pure; part of the worker's core.
#pragma once

#include <cstdint>
#include <deque>
#include <string>

namespace tutti::node {

class FaultPairs {
 public:
  enum class Source {
    nvml,
    kernel_log
  };
  /// Has the other source told this already?
  bool is_known(const std::string& gpu, std::int32_t xid, std::int64_t boot_us, Source source);

 private:
  struct Told {
    std::string gpu;
    std::int32_t xid = 0;
    std::int64_t boot_us = 0;
    Source source = Source::nvml;
  };
  std::deque<Told> unpaired_;  // bounded, oldest first
};

}  // namespace tutti::node
