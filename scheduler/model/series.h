// What is measured over time: whose it is, under which name, in which steps of time it is kept.
// Words only; used by scheduler/core/series_*, db/series and api/handlers/metrics.
#pragma once

#include <array>
#include <chrono>
#include <compare>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "scheduler/model/ids.h"
#include "scheduler/model/time.h"

namespace tutti::series {

enum class Kind : std::uint8_t {  // numbers are stored
  node = 1,                       // what its GPUs do; an item is a GPU
  attempt = 2                     // what its ranks tell; an item is a rank
};

struct Owner {
  Kind kind = Kind::node;
  std::int64_t id = 0;  // of the node, or of the job
  Epoch epoch{};        // of the attempt
  constexpr auto operator<=>(const Owner&) const = default;
};
constexpr Owner of(NodeId node) { return {Kind::node, node.value, {}}; }
constexpr Owner of(AttemptKey key) { return {Kind::attempt, key.job.value, key.epoch}; }

struct Key {
  std::string name;
  std::int64_t item = 0;  // GpuId, or rank
  auto operator<=>(const Key&) const = default;
};

// One bucket of time: the `bucket`th since 1970 of its tier's step.
struct Point {
  std::int64_t bucket = 0;
  double min = 0, max = 0, mean = 0;
  bool operator==(const Point&) const = default;
};

struct Line {
  Key key;
  std::vector<Point> points;  // in order of time
  bool operator==(const Line&) const = default;
};

// Finer steps are kept for a shorter time. A row of the store holds `block` of time of one owner; what is new
// is written `every` so often, and lost if the scheduler dies before.
struct Tier {
  Duration step{}, block{}, every{};
};
inline constexpr std::array<Tier, 3> kTiers = {
    {{std::chrono::seconds(10), std::chrono::minutes(30), std::chrono::minutes(2)},
     {std::chrono::minutes(1), std::chrono::hours(3), std::chrono::minutes(5)},
     {std::chrono::minutes(10), std::chrono::hours(24), std::chrono::minutes(30)}}};

// Lines of one owner and tier, all within one block of time.
struct Block {
  Owner owner;
  std::size_t tier = 0;
  Instant at;  // begin of the block
  bool simulated = false;
  std::vector<Line> lines;
};

constexpr std::int64_t bucket_of(Instant at, Duration step) {
  const auto t = at.time_since_epoch().count(), s = step.count();
  return t / s - (t % s < 0 ? 1 : 0);
}
constexpr Instant begin_of(std::int64_t bucket, Duration step) { return Instant(step * bucket); }

// Ours; what jobs tell besides is named by them.
inline constexpr std::string_view kUtilisation = "gpu_utilisation", kMemory = "gpu_memory_bytes",
                                  kPower = "gpu_power_watts", kTemperature = "gpu_temperature_celsius",
                                  kStep = "step", kStepSeconds = "step_seconds",
                                  kComputeSeconds = "compute_seconds";

inline constexpr std::size_t kMaxName = 64;
/// Letters, digits and _ - . / : only, at most kMaxName of them.
constexpr bool is_name(std::string_view name) {
  if (name.empty() || name.size() > kMaxName) return false;
  for (const char c : name) {
    const bool word = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
    if (!word && std::string_view("_-./:").find(c) == std::string_view::npos) return false;
  }
  return true;
}

/// "percent", "bytes", …; "" where the name does not say.
constexpr std::string_view unit_of(std::string_view name) {
  if (name == kUtilisation) return "percent";
  if (name == kStep) return "steps";
  constexpr std::array<std::array<std::string_view, 2>, 6> kEndings = {
      {{"_bytes_per_second", "bytes per second"},
       {"_bytes", "bytes"},
       {"_watts", "watts"},
       {"_celsius", "celsius"},
       {"_seconds", "seconds"},
       {"_percent", "percent"}}};
  for (const auto& [ending, unit] : kEndings)
    if (name.ends_with(ending)) return unit;
  return "";
}

}  // namespace tutti::series
