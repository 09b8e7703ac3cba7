// The stored form of measurements: what comes back is what was put in, as precisely as it is kept.
#include "scheduler/core/series_codec.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <map>
#include <random>

namespace tutti {
namespace {

using series::Block;
using series::Key;
using series::Line;
using series::Point;

struct Decoded {
  bool whole = false, simulated = false;
  std::map<Key, std::vector<Point>> lines;
};

class Collect final : public SeriesSink {
 public:
  bool line(const Key& key, bool simulated) override {
    out.simulated = simulated;
    points = key.name == refused ? nullptr : &out.lines[key];
    return points != nullptr;
  }
  void point(const Point& point) override { points->push_back(point); }
  Decoded out;
  std::vector<Point>* points = nullptr;
  std::string refused;
};

Decoded decode(std::string_view bytes) {
  Collect sink;
  sink.out.whole = decode_blocks(bytes, sink);
  return std::move(sink.out);
}

Block block_of(std::vector<Line> lines, bool simulated = false) {
  return {
      .owner = series::of(NodeId(1)), .tier = 0, .at = {}, .simulated = simulated, .lines = std::move(lines)};
}

TEST(SeriesCodec, LinesThatAreNotWantedAreReadOver) {
  const std::vector<Line> lines = {{{"loss", 3}, {{100, 0.5, 2, 1.25}, {250, -4, 0, -2}}},
                                   {{"other", 4}, {{99, 10, 19, 15}}},
                                   {{"loss", 5}, {{100, 1, 1, 1}}}};
  Collect sink;
  sink.refused = "loss";
  EXPECT_TRUE(decode_blocks(encode_block(block_of(lines)), sink));
  ASSERT_EQ(sink.out.lines.size(), 1u);
  EXPECT_EQ(sink.out.lines.begin()->second, lines[1].points);
}

TEST(SeriesCodec, GivesBackWhatItWasGiven) {
  const std::vector<Line> lines = {
      {{"loss", 3}, {{100, 0.5, 2, 1.25}, {101, 1, 1, 1}, {250, -4, 0, -2}}},
      {{std::string(series::kStep), 3}, {{99, 10, 19, 15}}},
      {{"train/accuracy", 0}, {{100, 0.25, 0.25, 0.25}, {102, 0.75, 8192, 4096}}},
      {{std::string(series::kMemory), 17}, {{7, 0, 64.0 * (1 << 30), 1 << 20}}},
      {{std::string(series::kUtilisation), 16}, {{7, 0, 100, 97.5}, {8, 99, 99, 99}}},
      {{"none", 1}, {}},
  };
  const auto back = decode(encode_block(block_of(lines, true)));
  EXPECT_TRUE(back.whole);
  EXPECT_TRUE(back.simulated);
  EXPECT_EQ(back.lines.size(), 5u);
  for (const auto& line : lines)
    if (!line.points.empty()) {
      EXPECT_EQ(back.lines.at(line.key), line.points) << line.key.name;
    }
}

TEST(SeriesCodec, KeepsNoMorePrecisionThanItSays) {
  const auto back =
      decode(encode_block(block_of({{{std::string(series::kPower), 1}, {{1, 649.9, 651.2, 650.3}}},
                                    {{"loss", 0}, {{1, 0.1, 0.3, 0.2}}}})));
  EXPECT_EQ(back.lines.at({std::string(series::kPower), 1}).at(0), (Point{1, 650, 651, 650.5}));
  const auto loss = back.lines.at({"loss", 0}).at(0);
  EXPECT_FLOAT_EQ(static_cast<float>(loss.min), 0.1F);
  EXPECT_FLOAT_EQ(static_cast<float>(loss.mean), 0.2F);
  EXPECT_FLOAT_EQ(static_cast<float>(loss.max), 0.3F);
  EXPECT_FALSE(back.simulated);
}

TEST(SeriesCodec, WhatNoFloatHoldsComesBackAsTheLargest) {
  const auto back = decode(encode_block(block_of(
      {{{"loss", 0}, {{1, -1e300, 1e300, 0}}}, {{std::string(series::kStep), 0}, {{1, 0, 1e300, 5}}}})));
  EXPECT_TRUE(back.whole);
  EXPECT_LT(back.lines.at({"loss", 0}).at(0).min, -3e38);
  EXPECT_GT(back.lines.at({"loss", 0}).at(0).max, 3e38);
  EXPECT_GE(back.lines.at({std::string(series::kStep), 0}).at(0).max, 1e15);
}

TEST(SeriesCodec, OneBehindTheOtherIsBoth) {
  const auto first = encode_block(block_of({{{"loss", 0}, {{1, 1, 1, 1}}}}));
  const auto second = encode_block(block_of({{{"loss", 0}, {{2, 2, 2, 2}}}}));
  const auto back = decode(first + second);
  EXPECT_TRUE(back.whole);
  EXPECT_EQ(back.lines.at({"loss", 0}), (std::vector<Point>{{1, 1, 1, 1}, {2, 2, 2, 2}}));
  EXPECT_TRUE(decode("").whole);
}

TEST(SeriesCodec, DamageIsNoticedOrReadAsOtherNumbers) {
  const auto whole =
      encode_block(block_of({{{"train/loss", 3}, {{100, 1, 3, 2}, {101, 1, 3, 2}, {105, 1, 3, 2}}},
                             {{std::string(series::kMemory), 1}, {{100, 1e9, 2e9, 1e9}}}}));
  for (std::size_t n = 1; n < whole.size(); ++n) EXPECT_FALSE(decode(whole.substr(0, n)).whole) << n;
  std::mt19937 dice(7);
  for (int i = 0; i < 20'000; ++i) {
    std::string bytes = whole;
    for (auto changes = 1 + dice() % 4; changes > 0; --changes)
      bytes[dice() % bytes.size()] = static_cast<char>(dice());
    for (const auto& [key, points] : decode(bytes).lines) {
      ASSERT_TRUE(series::is_name(key.name));
      for (const Point& point : points) {
        ASSERT_LE(std::abs(point.bucket), 10'000'000'000) << "it can be a time";
        ASSERT_TRUE(std::isfinite(point.min) && std::isfinite(point.max) && std::isfinite(point.mean));
      }
    }
  }
}

// docs/operations.md says how much room it takes.
TEST(SeriesCodec, ABusyNodeTakesAFewBytesAPoint) {
  std::mt19937 dice(7);
  std::vector<Line> lines;
  constexpr int kPoints = 12;
  for (const auto name : {series::kUtilisation, series::kMemory, series::kPower, series::kTemperature})
    for (int gpu = 1; gpu <= 8; ++gpu) {
      Line line{{std::string(name), gpu}, {}};
      for (int i = 0; i < kPoints; ++i) {
        const double low = name == series::kMemory ? 61e9 : 90 + static_cast<double>(dice() % 10);
        line.points.push_back({18'000'000 + i, low, low + 2, low + 1});
      }
      lines.push_back(std::move(line));
    }
  EXPECT_LT(encode_block(block_of(lines)).size(), 32u * kPoints * 4);
}

}  // namespace
}  // namespace tutti
