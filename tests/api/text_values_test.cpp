#include "api/wire/text_values.h"

#include <gtest/gtest.h>

namespace tutti::wire {
namespace {

using namespace std::chrono_literals;

TEST(TextValues, Durations) {
  EXPECT_EQ(parse_duration("24h"), 24h);
  EXPECT_EQ(parse_duration("1h30m"), 90min);
  EXPECT_EQ(parse_duration("2d"), 48h);
  EXPECT_EQ(parse_duration("1.5h"), 90min);
  EXPECT_EQ(parse_duration("90"), 90s);
  EXPECT_EQ(parse_duration("0s"), 0s);
  EXPECT_EQ(parse_duration("7us"), 7us);
  for (const auto bad : {"", "h", "1x", "-1s", "1h 30m", "1h30", "30 1h", "1..5h", "1.h", "999999999h",
                         "1e3s", " 1s", "9223372036854775807h"})
    EXPECT_EQ(parse_duration(bad), std::nullopt) << bad;
  EXPECT_EQ(format_duration(90min), "90m");
  EXPECT_EQ(format_duration(36h), "36h");
  EXPECT_EQ(format_duration(0s), "0s");
  EXPECT_EQ(format_duration(1500ms), "1500ms");
  EXPECT_EQ(format_duration(1us), "1us");
}

TEST(TextValues, Bytes) {
  EXPECT_EQ(parse_bytes("800GB"), 800'000'000'000);
  EXPECT_EQ(parse_bytes("64 GiB"), 64LL << 30);
  EXPECT_EQ(parse_bytes("1.5GiB"), 3LL << 29);
  EXPECT_EQ(parse_bytes("12"), 12);
  EXPECT_EQ(parse_bytes("7M"), 7'000'000);
  for (const auto bad : {"", "GB", "1 2", "-1", "1XB", "99999999999TB", "1gb", "0x10"})
    EXPECT_EQ(parse_bytes(bad), std::nullopt) << bad;
  EXPECT_EQ(format_bytes(64LL << 30), "64GiB");
  EXPECT_EQ(format_bytes(800'000'000'000), "800GB");
  EXPECT_EQ(format_bytes(1), "1");
}

TEST(TextValues, Instants) {
  EXPECT_EQ(format_instant(*parse_instant("2026-11-25T01:02:03.000001Z")), "2026-11-25T01:02:03.000001Z");
  EXPECT_EQ(parse_instant("2026-10-01T04:00:00+02:00"), parse_instant("2026-10-01T02:00:00Z"));
  EXPECT_EQ(parse_instant("2026-10-01T00:00:00.5-00:30"), parse_instant("2026-10-01T00:30:00.500000Z"));
  EXPECT_EQ(format_instant(Instant(-1us)), "1969-12-31T23:59:59.999999Z");
  for (const auto bad : {"", "2026-10-01", "2026-10-01T02:00:00", "2026-13-01T00:00:00Z",
                         "2026-02-30T00:00:00Z", "2026-10-01T24:00:00Z", "2026-10-01T02:00:00Zx",
                         "2026-10-01T02:00:00.Z", "26-10-01T02:00:00Z", "2026-10-01T02:00:00+2:00"})
    EXPECT_EQ(parse_instant(bad), std::nullopt) << bad;
}

}  // namespace
}  // namespace tutti::wire
