// Values that few rows have: they are copied with their row, and cost nothing where there is none.
#include "scheduler/model/rare.h"

#include <gtest/gtest.h>

namespace tutti {
namespace {

TEST(Rare, IsNothingUntilItIsSomething) {
  RareText text;
  EXPECT_TRUE(text.empty());
  EXPECT_EQ(text, "");
  text = "held by a person";
  const RareText copy = text;
  text = std::string("another");
  EXPECT_EQ(copy, "held by a person");
  EXPECT_EQ(text + "!", "another!");
  const RareText moved = std::move(text);
  EXPECT_EQ(moved, "another");
  RareText again = moved;
  again = {};
  EXPECT_TRUE(again.empty());
  EXPECT_EQ(again, RareText());
  EXPECT_EQ(sizeof(RareText), sizeof(void*));
}

TEST(Rare, CountsStayWithinWhatTheyCanBe) {
  RareCounts<3> counts;
  counts.take_one(1);
  EXPECT_EQ(counts[1], 0);
  counts.add_one(1);
  counts.add_one(1);
  counts.set(2, INT16_MAX);
  counts.add_one(2);
  const RareCounts<3> copy = counts;
  counts.take_one(1);
  EXPECT_EQ(copy, (std::array<std::int16_t, 3>{0, 2, INT16_MAX}));
  EXPECT_EQ(counts[1], 1);
  counts = {};
  EXPECT_EQ(counts, (RareCounts<3>()));
  EXPECT_EQ(counts, (std::array<std::int16_t, 3>{}));
}

}  // namespace
}  // namespace tutti
