// Durations, sizes and instants as people write them, and the one canonical way in which we write them back.
// Used by job_spec_codec and api/handlers. Pure; any thread. format then parse gives the same value.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "scheduler/model/time.h"

namespace tutti::wire {

inline constexpr Duration kMaxDuration = std::chrono::hours(24 * 3660);  // ten years

/// "24h", "90s", "1h30m", "500ms", "2d", "1.5h"; without a unit: seconds. Not negative, at most kMaxDuration.
std::optional<Duration> parse_duration(std::string_view text);
std::optional<Duration> duration_from_seconds(double seconds);
/// One number in the largest unit that divides it: "36h", "90s", "1500ms", "0s".
std::string format_duration(Duration d);

/// "800GB", "64GiB", "512M" (= MB), "1048576".
std::optional<std::int64_t> parse_bytes(std::string_view text);
std::string format_bytes(std::int64_t bytes);

/// RFC 3339 with an offset: "2026-10-01T02:00:00Z", "2026-10-01T04:00:00.25+02:00".
std::optional<Instant> parse_instant(std::string_view text);
/// UTC with microseconds: "2026-11-25T01:02:03.000001Z".
std::string format_instant(Instant at);

}  // namespace tutti::wire
