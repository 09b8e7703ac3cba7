// Points of several sources become lines that can be drawn.
#include "scheduler/core/series_merge.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tutti {
namespace {

using namespace std::chrono_literals;
using series::Key;
using series::Point;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;

const series::Owner kNode = series::of(NodeId(5));
const series::Owner kAttempt = series::of(AttemptKey{JobId(5), Epoch(1)});
const Instant kBegin{std::chrono::hours(24 * 20'000)};

SeriesQuery query(Duration range, std::int64_t points = 2'000) {
  SeriesQuery q;
  q.parts = {{kAttempt, {}}, {kNode, std::set<std::int64_t>{7, 8}}};
  q.from = kBegin;
  q.until = kBegin + range;
  q.points = points;
  return q;
}

Point at(Duration after, double min, double max, double mean, std::size_t tier = 0) {
  return {series::bucket_of(kBegin + after, series::kTiers[tier].step), min, max, mean};
}
Point at(Duration after, double value) { return at(after, value, value, value); }

std::vector<std::int64_t> buckets(const SeriesFound::Line& line) {
  std::vector<std::int64_t> out;
  for (const auto& value : line.values) out.push_back(value.bucket);
  return out;
}

TEST(SeriesMerge, PutsPointsTogetherInAnyOrder) {
  SeriesMerge merge(query(60s, 3), 0);  // buckets of 20 s
  merge.add(kAttempt, {"loss", 0}, false, at(50s, 1, 9, 4));
  merge.add(kAttempt, {"loss", 0}, false, at(0s, 2, 4, 3));
  merge.add(kAttempt, {"loss", 0}, false, at(10s, 1, 5, 2));
  const auto found = merge.take();
  EXPECT_EQ(found.bucket, 20s);
  EXPECT_EQ(found.from, kBegin);
  EXPECT_FALSE(found.cut);
  ASSERT_THAT(found.lines, SizeIs(1));
  EXPECT_THAT(buckets(found.lines[0]), ElementsAre(0, 2)) << "a hole stays one";
  EXPECT_EQ(found.lines[0].values[0].min, 1);
  EXPECT_EQ(found.lines[0].values[0].max, 5);
  EXPECT_EQ(found.lines[0].values[0].mean, 2.5);
}

TEST(SeriesMerge, APointThatComesTwiceChangesNothing) {
  SeriesMerge merge(query(60s), 0);
  for (int i = 0; i < 2; ++i) merge.add(kAttempt, {"loss", 0}, false, at(0s, 2, 4, 3));
  const auto found = merge.take();
  ASSERT_THAT(found.lines.at(0).values, SizeIs(1));
  EXPECT_EQ(found.lines[0].values[0].min, 2);
  EXPECT_EQ(found.lines[0].values[0].max, 4);
  EXPECT_EQ(found.lines[0].values[0].mean, 3);
}

TEST(SeriesMerge, NeverMorePointsThanAskedFor) {
  for (const std::int64_t points : {1, 2, 3, 7, 100, 2'000})
    for (const auto range : {1s, 10s, 61s, 599s, 3600s}) {
      auto q = query(range, points);
      q.from += 7s;
      q.until += 7s;
      SeriesMerge merge(q, 0);
      for (Duration t = 0s; t < range + 20s; t += 10s) merge.add(kAttempt, {"loss", 0}, false, at(t, 1));
      const auto found = merge.take();
      EXPECT_EQ(found.from, kBegin) << "where the step that it falls into begins";
      EXPECT_EQ(found.bucket % 10s, 0s);
      ASSERT_THAT(found.lines, SizeIs(1));
      EXPECT_LE(found.lines[0].values.size(), static_cast<std::size_t>(points)) << range.count();
      EXPECT_LT(found.from + found.bucket * found.lines[0].values.back().bucket, q.until);
    }
}

TEST(SeriesMerge, OnlyWhatWasAskedFor) {
  auto q = query(60s);
  q.names = {"loss", std::string(series::kPower)};
  SeriesMerge merge(q, 0);
  merge.add(kAttempt, {"loss", 0}, false, at(0s, 1));
  merge.add(kAttempt, {"other", 0}, false, at(0s, 1));
  merge.add(kAttempt, {"loss", 0}, false, at(60s, 1));
  merge.add(kAttempt, {"loss", 0}, false, at(-10s, 1));
  EXPECT_FALSE(merge.take().simulated);
  merge.add(kNode, {std::string(series::kPower), 7}, true, at(0s, 1));
  merge.add(kNode, {std::string(series::kPower), 9}, true, at(0s, 1));
  merge.add(series::of(NodeId(6)), {std::string(series::kPower), 7}, true, at(0s, 1));
  const auto found = merge.take();
  ASSERT_THAT(found.lines, SizeIs(2));
  EXPECT_EQ(found.lines[0].kind, series::Kind::node);
  EXPECT_EQ(found.lines[0].key, (Key{std::string(series::kPower), 7}));
  EXPECT_EQ(found.lines[1].key, (Key{"loss", 0}));
  EXPECT_THAT(found.lines[1].values, SizeIs(1));
  EXPECT_TRUE(found.simulated);
}

TEST(SeriesMerge, OfTooManyItemsTheFirstStay) {
  SeriesMerge merge(query(60s), 0, {.items = 3, .names = 2, .values = 1'000});
  for (const int rank : {9, 2, 5, 1, 7}) merge.add(kAttempt, {"loss", rank}, false, at(0s, rank));
  merge.add(kAttempt, {"a", 0}, false, at(0s, 1));
  merge.add(kAttempt, {"b", 0}, false, at(0s, 1));
  const auto found = merge.take();
  EXPECT_TRUE(found.cut);
  std::vector<std::string> shown;
  for (const auto& line : found.lines) shown.push_back(line.key.name + std::to_string(line.key.item));
  EXPECT_THAT(shown, ElementsAre("a0", "loss1", "loss2", "loss5"));
}

TEST(SeriesMerge, WithManyLinesTheBucketsBecomeLonger) {
  SeriesMerge merge(query(3600s, 360), 0, {.items = 100, .names = 10, .values = 1'000});
  for (int rank = 0; rank < 20; ++rank)
    for (Duration t = 0s; t < 3600s; t += 10s) merge.add(kAttempt, {"loss", rank}, false, at(t, rank));
  const auto found = merge.take();
  ASSERT_THAT(found.lines, SizeIs(20));
  std::size_t values = 0;
  for (const auto& line : found.lines) values += line.values.size();
  EXPECT_LE(values, 1'000u);
  EXPECT_EQ(found.bucket, 80s);
  EXPECT_THAT(found.lines[19].values, SizeIs(45));
  EXPECT_EQ(found.lines[19].values[44].mean, 19);
  EXPECT_FALSE(found.cut);
}

TEST(ChooseTier, ByPointsAgeAndRows) {
  const std::vector<Duration> kept = {24h, 24h * 14, 24h * 365};
  const auto tier = [&](Duration range, std::int64_t points, Duration ago = 0s, std::size_t rows = 2'048) {
    return choose_tier(query(range, points), kept, kBegin + range + ago, rows);
  };
  EXPECT_EQ(tier(1h, 2'000), 0u);
  EXPECT_EQ(tier(1h, 60), 1u);
  EXPECT_EQ(tier(1h, 6), 2u);
  EXPECT_EQ(tier(1h, 2'000, 30h), 1u) << "the finest is not kept for so long";
  EXPECT_EQ(tier(1h, 2'000, 24h * 20), 2u);
  EXPECT_EQ(tier(1h, 2'000, 24h * 999), 2u);
  EXPECT_EQ(tier(20h, 5'000, 0s, 50), 1u) << "42 blocks of two owners are too many";
  EXPECT_EQ(tier(20h, 5'000, 0s, 10), 2u);
}

}  // namespace
}  // namespace tutti
