// When a disk counts as full, and a node as short of memory. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace tutti::node {

struct Space {
  std::uint64_t free_bytes = 0, total_bytes = 0;  // free: for users who are not root
  std::uint64_t free_files = 0, total_files = 0;  // total 0: the file system does not count files
  bool read_only = false;

  bool operator==(const Space&) const = default;
};
/// "FREE TOTAL FREE_FILES TOTAL_FILES RO": what tutti-node-check prints, and back.
std::string format_space(const Space&);
std::optional<Space> parse_space(const std::string& text);

/// "" = fine. `was`: it was so before; then it takes twice the room to be fine again.
std::string why_full(const Space&, bool was);
std::string why_no_files(const Space&, bool was);

struct MemoryFacts {
  std::int64_t available_bytes = 0, total_bytes = 0;
};
std::optional<MemoryFacts> parse_meminfo(const std::string& proc_meminfo);
std::string why_memory_low(const MemoryFacts&, bool was);

std::string bytes_text(std::uint64_t bytes);  // "1.5 GiB"

}  // namespace tutti::node
