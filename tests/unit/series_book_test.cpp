// Samples become buckets of every tier, in bounded memory.
#include "scheduler/core/series_book.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <map>
#include <set>
#include <vector>

namespace tutti {
namespace {

using namespace std::chrono_literals;
using series::Block;
using series::Point;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;

const series::Owner kNode = series::of(NodeId(97));  // its first write is a whole period after its begin
const series::Owner kAttempt = series::of(AttemptKey{JobId(96), Epoch(1)});
// The begin of a block of every tier.
const Instant kBegin{std::chrono::hours(24 * 20'000)};
constexpr std::size_t kAll = 1'000;

std::int64_t bucket(std::size_t tier, Duration after) {
  return series::bucket_of(kBegin + after, series::kTiers[tier].step);
}

struct SeriesBookTest : ::testing::Test {
  SeriesBook book;

  void add(Duration after, double value, std::string_view name = "loss", std::int64_t item = 0) {
    EXPECT_EQ(book.add(kAttempt, false, name, item, value, kBegin + after), Taken::yes);
  }
  std::vector<Point> seen(std::size_t tier, std::string_view name = "loss") {
    std::vector<Point> out;
    SeriesLook look{.tier = tier, .from = kBegin - 24h, .until = kBegin + 24h * 365};
    for (const auto& block : book.look(kAttempt, look))
      for (const auto& line : block.lines)
        if (block.tier == tier && line.key.name == name)
          out.insert(out.end(), line.points.begin(), line.points.end());
    return out;
  }
  static std::vector<Block> of_tier(const std::vector<Block>& blocks, std::size_t tier) {
    std::vector<Block> out;
    for (const auto& block : blocks)
      if (block.tier == tier) out.push_back(block);
    return out;
  }
};

TEST_F(SeriesBookTest, ASampleCountsInABucketOfEachTier) {
  add(1s, 4);
  add(9s, 2);
  add(10s, 7);
  EXPECT_THAT(seen(0), ElementsAre(Point{bucket(0, 0s), 2, 4, 3}, Point{bucket(0, 10s), 7, 7, 7}));
  EXPECT_THAT(seen(1), ElementsAre(Point{bucket(1, 0s), 2, 7, 13.0 / 3}));
  EXPECT_THAT(seen(2), ElementsAre(Point{bucket(2, 0s), 2, 7, 13.0 / 3}));
  EXPECT_THAT(seen(0, "other"), IsEmpty());
}

TEST_F(SeriesBookTest, OnlySoMuchIsCopiedForAQuestion) {
  for (int i = 0; i < 10; ++i)
    for (int item = 0; item < 5; ++item)
      for (const auto* name : {"loss", "other"}) add(i * 10s, i, name, item);
  const std::set<std::string> names = {"loss"};
  SeriesLook look{.names = &names, .from = kBegin, .until = kBegin + 60s, .items_of_name = 3, .points = 12};
  const auto blocks = book.look(kAttempt, look);
  ASSERT_EQ(blocks.size(), series::kTiers.size());
  ASSERT_EQ(blocks[0].lines.size(), 3u) << "the first items";
  for (const auto& line : blocks[0].lines) {
    EXPECT_EQ(line.key.name, "loss");
    ASSERT_EQ(line.points.size(), 5u) << "four of twelve, and the bucket under way";
    EXPECT_EQ(line.points[0].bucket, bucket(0, 30s)) << "the newest until a minute";
    EXPECT_EQ(line.points[3].bucket, bucket(0, 60s));
  }
  const std::set<std::int64_t> items = {4};
  look.items = &items;
  EXPECT_EQ(book.look(kAttempt, look)[0].lines.at(0).key.item, 4);
}

TEST_F(SeriesBookTest, ATimeWithoutSamplesIsAHole) {
  add(0s, 1);
  add(47s, 2);
  EXPECT_THAT(seen(0), ElementsAre(Point{bucket(0, 0s), 1, 1, 1}, Point{bucket(0, 40s), 2, 2, 2}));
}

TEST_F(SeriesBookTest, AClockThatGoesBackMakesNoBucketTwice) {
  add(25s, 1);
  add(3s, 3);
  add(31s, 5);
  EXPECT_THAT(seen(0), ElementsAre(Point{bucket(0, 20s), 1, 3, 2}, Point{bucket(0, 30s), 5, 5, 5}));
}

TEST_F(SeriesBookTest, AClockThatWasAheadForAMomentStopsNothing) {
  add(5s, 1);
  add(15s, 2);
  add(50h, 3);  // and 15 s is finished by it
  add(50h + 10s, 4);
  add(25s, 5);
  add(35s, 6);
  EXPECT_THAT(seen(0), ElementsAre(Point{bucket(0, 0s), 1, 1, 1}, Point{bucket(0, 10s), 2, 2, 2},
                                   Point{bucket(0, 20s), 5, 5, 5}, Point{bucket(0, 30s), 6, 6, 6}));
  EXPECT_THAT(seen(1), ElementsAre(Point{bucket(1, 0s), 1, 2, 1.5}, Point{bucket(1, 0s), 5, 6, 5.5}))
      << "of the minute there are two parts: the leap has finished the first";
  EXPECT_GT(book.take_lost(), 0u);
  EXPECT_THAT(of_tier(book.take(kBegin + 2min + 5s, kAll), 0), SizeIs(1))
      << "it is due as if nothing had been";
}

TEST_F(SeriesBookTest, WhoWasLastHeardOfInATimeToComeIsForgottenToo) {
  add(0s, 1);
  add(50h, 1);
  book.take(kBegin + 10s, kAll);
  book.take(kBegin + 10s + 3min, kAll);
  EXPECT_EQ(book.owners(), 0u);
  EXPECT_EQ(book.points(), 0u);
}

TEST_F(SeriesBookTest, OfManyPointsSomeAreTakenAndTheOthersNext) {
  for (int i = 0; i <= 600; ++i)  // while the store was away
    for (int rank = 0; rank < 4; ++rank) add(i * 10s, i, "loss", rank);
  const Instant now = kBegin + 6'000s + 5s;
  const std::size_t before = book.points();
  std::map<std::int64_t, std::vector<std::int64_t>> written;  // of tier 0, by rank
  int calls = 0;
  for (;; ++calls) {
    const auto blocks = book.take(now, kAll, 400);
    std::size_t points = 0;
    for (const auto& block : blocks)
      for (const auto& line : block.lines) {
        points += line.points.size();
        if (block.tier != 0) continue;
        for (const auto& point : line.points) written[line.key.item].push_back(point.bucket);
      }
    EXPECT_LE(points, 400u);
    if (points == 0) break;
  }
  EXPECT_EQ(calls, static_cast<int>((before + 399) / 400)) << "each has as many as it may";
  EXPECT_EQ(book.points(), 0u);
  for (int rank = 0; rank < 4; ++rank) {
    ASSERT_THAT(written[rank], SizeIs(600)) << rank;
    for (int i = 0; i < 600; ++i) EXPECT_EQ(written[rank][i], bucket(0, i * 10s));
  }
  EXPECT_EQ(book.owners(), 1u) << "it goes on";
}

TEST_F(SeriesBookTest, WhoIsGoneIsForgottenWhenAllOfItIsTaken) {
  for (int i = 0; i < 100; ++i) add(i * 10s, i);
  std::size_t points = 0;
  for (int call = 0; call < 100 && book.owners() > 0; ++call)
    for (const auto& block : book.take(kBegin + 1h, kAll, 10))
      for (const auto& line : block.lines) points += line.points.size();
  EXPECT_EQ(book.owners(), 0u);
  EXPECT_EQ(points, 100u + 17 + 2);
  EXPECT_EQ(book.lines(), 0u);
}

TEST_F(SeriesBookTest, FinishedBucketsAreTakenWhenTheirTierIsDue) {
  for (int s = 0; s <= 60; s += 5) add(std::chrono::seconds(s), s);
  EXPECT_THAT(book.take(kBegin + 1min, kAll), IsEmpty());
  for (int s = 65; s <= 125; s += 5) add(std::chrono::seconds(s), s);
  auto blocks = book.take(kBegin + 2min + 5s, kAll);
  ASSERT_THAT(blocks, SizeIs(1)) << "the coarser tiers are not due";
  EXPECT_EQ(blocks[0].owner, kAttempt);
  EXPECT_EQ(blocks[0].tier, 0u);
  EXPECT_EQ(blocks[0].at, kBegin);
  ASSERT_THAT(blocks[0].lines, SizeIs(1));
  EXPECT_THAT(blocks[0].lines[0].points, SizeIs(12)) << "that of now goes on";
  EXPECT_EQ(blocks[0].lines[0].points[1], (Point{bucket(0, 10s), 10, 15, 12.5}));
  EXPECT_THAT(seen(0), SizeIs(1)) << "what is taken is not here any more";
  EXPECT_EQ(book.points(), 2u) << "two minutes that are over";
  EXPECT_THAT(book.take(kBegin + 2min + 6s, kAll), IsEmpty());
  for (int s = 130; s <= 305; s += 5) add(std::chrono::seconds(s), s);
  blocks = of_tier(book.take(kBegin + 5min + 6s, kAll), 1);
  ASSERT_THAT(blocks, SizeIs(1));
  EXPECT_THAT(blocks[0].lines[0].points, SizeIs(5));
}

TEST_F(SeriesBookTest, PointsOnBothSidesOfABlocksEndAreTwoBlocks) {
  add(29min + 55s, 1);
  add(30min + 5s, 2);
  add(30min + 15s, 3);
  const auto blocks = of_tier(book.take_all(), 0);
  ASSERT_THAT(blocks, SizeIs(2));
  EXPECT_EQ(blocks[0].at, kBegin);
  EXPECT_THAT(blocks[0].lines[0].points, SizeIs(1));
  EXPECT_EQ(blocks[1].at, kBegin + 30min);
  EXPECT_THAT(blocks[1].lines[0].points, SizeIs(2));
}

TEST_F(SeriesBookTest, WhoIsSilentIsWrittenToTheEndAndForgotten) {
  add(0s, 1);
  EXPECT_EQ(book.owners(), 1u);
  EXPECT_THAT(book.take(kBegin + 2min, kAll), SizeIs(1)) << "it may go on";
  const auto blocks = book.take(kBegin + 3min, kAll);
  EXPECT_THAT(blocks, SizeIs(2)) << "the buckets under way of the coarser tiers";
  EXPECT_EQ(book.owners(), 0u);
  EXPECT_EQ(book.lines(), 0u);
  EXPECT_EQ(book.points(), 0u);
}

TEST_F(SeriesBookTest, OfManyOwnersSomeAreTakenAndTheOthersNext) {
  for (int i = 1; i <= 5; ++i) book.add(series::of(NodeId(97 * i)), true, series::kPower, 1, 300, kBegin);
  std::set<std::int64_t> owners;
  for (const std::size_t most : {2u, 2u, 1u}) {
    const auto blocks = book.take(kBegin + 2min, 2);
    EXPECT_THAT(blocks, SizeIs(most));
    for (const auto& block : blocks) {
      owners.insert(block.owner.id);
      EXPECT_TRUE(block.simulated);
    }
  }
  EXPECT_THAT(owners, SizeIs(5));
}

TEST_F(SeriesBookTest, NamesAreLookedAt) {
  for (const auto* name : {"train/loss", "tokens_per_s", "a.b-c:d", "0"})
    EXPECT_EQ(book.add(kNode, true, name, 0, 1, kBegin), Taken::yes) << name;
  for (const std::string& name :
       {std::string(), std::string("a b"), std::string("a\"b"), std::string("ä"), std::string(65, 'x')})
    EXPECT_EQ(book.add(kNode, true, name, 0, 1, kBegin), Taken::bad_name) << name;
  EXPECT_EQ(book.add(kNode, true, std::string(64, 'x'), 0, 1, kBegin), Taken::yes);
}

TEST_F(SeriesBookTest, WhatIsNotFiniteIsNotTaken) {
  EXPECT_EQ(book.add(kNode, true, "loss", 0, std::nan(""), kBegin), Taken::not_a_number);
  EXPECT_EQ(book.add(kNode, true, "loss", 0, std::numeric_limits<double>::infinity(), kBegin),
            Taken::not_a_number);
  EXPECT_EQ(book.owners(), 0u);
  constexpr double kHuge = std::numeric_limits<double>::max();
  for (int i = 0; i < 3; ++i) add(0s, kHuge);
  add(0s, -kHuge);
  for (const auto& point : seen(0)) EXPECT_TRUE(std::isfinite(point.mean));
}

TEST(SeriesBookBounds, OfNamesLinesAndPoints) {
  SeriesBook book({.names = 2, .lines_of_owner = 3, .lines = 4, .points = 3});
  const auto add = [&](const series::Owner& owner, std::string_view name, std::int64_t item,
                       Duration after = 0s) { return book.add(owner, false, name, item, 1, kBegin + after); };
  EXPECT_EQ(add(kAttempt, "a", 0), Taken::yes);
  EXPECT_EQ(add(kAttempt, "b", 0), Taken::yes);
  EXPECT_EQ(add(kAttempt, "c", 0), Taken::too_many_names);
  EXPECT_EQ(add(kAttempt, "a", 1), Taken::yes);
  EXPECT_EQ(add(kAttempt, "b", 1), Taken::too_many_lines) << "of this owner";
  EXPECT_EQ(add(kNode, "a", 0), Taken::yes);
  EXPECT_EQ(add(kNode, "b", 0), Taken::too_many_lines) << "of all";
  EXPECT_EQ(book.lines(), 4u);
  EXPECT_EQ(add(kAttempt, "a", 0, 5s), Taken::yes) << "those that are there go on";
  for (int i = 1; i <= 8; ++i) add(kAttempt, "a", 0, i * 10s);
  EXPECT_EQ(book.points(), 3u);
  EXPECT_EQ(book.take_lost(), 6u) << "five of ten seconds, one of a minute";
  EXPECT_EQ(book.take_lost(), 0u);
}

}  // namespace
}  // namespace tutti
