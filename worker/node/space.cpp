#include "worker/node/space.h"

#include <algorithm>
#include <cstdio>
#include <sstream>

namespace tutti::node {
namespace {

// A job that starts writes logs, its environment and perhaps a core: a gibibyte, or a twentieth of a small
// disk.
constexpr std::uint64_t kEnoughBytes = 1ULL << 30;
constexpr std::uint64_t kEnoughFiles = 10'000;
constexpr std::int64_t kEnoughMemory = 1LL << 30;

std::uint64_t enough(std::uint64_t total, std::uint64_t most, bool was) {
  return std::min(most, total / 20) * (was ? 2 : 1);
}

}  // namespace

std::string bytes_text(std::uint64_t bytes) {
  static constexpr const char* kUnits[] = {"bytes", "KiB", "MiB", "GiB", "TiB", "PiB"};
  double value = static_cast<double>(bytes);
  std::size_t unit = 0;
  while (value >= 1024 && unit + 1 < std::size(kUnits)) value /= 1024, ++unit;
  char text[48];
  std::snprintf(text, sizeof text, unit == 0 ? "%.0f %s" : "%.1f %s", value, kUnits[unit]);
  return text;
}

std::string format_space(const Space& s) {
  return std::to_string(s.free_bytes) + " " + std::to_string(s.total_bytes) + " " +
         std::to_string(s.free_files) + " " + std::to_string(s.total_files) + " " + (s.read_only ? "1" : "0");
}

std::optional<Space> parse_space(const std::string& text) {
  std::istringstream in(text);
  Space s;
  int read_only = 0;
  if (!(in >> s.free_bytes >> s.total_bytes >> s.free_files >> s.total_files >> read_only))
    return std::nullopt;
  s.read_only = read_only != 0;
  return s;
}

std::string why_full(const Space& s, bool was) {
  if (s.total_bytes == 0 || s.free_bytes >= enough(s.total_bytes, kEnoughBytes, was)) return {};
  return bytes_text(s.free_bytes) + " of " + bytes_text(s.total_bytes) + " are free";
}

std::string why_no_files(const Space& s, bool was) {
  if (s.total_files == 0 || s.free_files >= enough(s.total_files, kEnoughFiles, was)) return {};
  return std::to_string(s.free_files) + " of " + std::to_string(s.total_files) + " inodes are free";
}

std::optional<MemoryFacts> parse_meminfo(const std::string& text) {
  MemoryFacts facts{-1, -1};
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) {
    std::istringstream fields(line);
    std::string name;
    std::int64_t kib = 0;
    if (!(fields >> name >> kib) || kib < 0 || kib > (1LL << 50)) continue;
    if (name == "MemTotal:") facts.total_bytes = kib * 1024;
    if (name == "MemAvailable:") facts.available_bytes = kib * 1024;
  }
  if (facts.total_bytes <= 0 || facts.available_bytes < 0) return std::nullopt;
  return facts;
}

std::string why_memory_low(const MemoryFacts& m, bool was) {
  const auto enough = std::min(kEnoughMemory, m.total_bytes / 50) * (was ? 2 : 1);
  if (m.available_bytes >= enough) return {};
  return bytes_text(static_cast<std::uint64_t>(m.available_bytes)) + " of " +
         bytes_text(static_cast<std::uint64_t>(m.total_bytes)) + " are available";
}

}  // namespace tutti::node
