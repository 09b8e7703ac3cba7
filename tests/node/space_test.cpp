// When a disk is full and memory is low; and that they are fine again only with room to spare.
#include "worker/node/space.h"

#include <gtest/gtest.h>

namespace tutti::node {
namespace {

constexpr std::uint64_t kGib = 1ULL << 30;

Space disk(std::uint64_t free_gib, std::uint64_t total_gib) {
  Space s;
  s.free_bytes = free_gib * kGib;
  s.total_bytes = total_gib * kGib;
  s.free_files = 1'000'000;
  s.total_files = 2'000'000;
  return s;
}

TEST(Space, IsFullBelowAGibibyteAndFineAboveTwo) {
  EXPECT_EQ(why_full(disk(1, 1000), false), "");
  auto s = disk(1, 1000);
  --s.free_bytes;
  EXPECT_EQ(why_full(s, false), "1024.0 MiB of 1000.0 GiB are free");
  EXPECT_NE(why_full(disk(1, 1000), true), "") << "it was full: a byte more is not enough";
  EXPECT_EQ(why_full(disk(2, 1000), true), "");
}

TEST(Space, OfASmallDiskIsATwentieth) {
  Space s;
  s.total_bytes = 100 << 20;
  s.free_bytes = 5 << 20;
  EXPECT_EQ(why_full(s, false), "");
  --s.free_bytes;
  EXPECT_NE(why_full(s, false), "");
  s.free_bytes = 0;
  EXPECT_EQ(why_full(s, false), "0 bytes of 100.0 MiB are free");
}

TEST(Space, OfFilesIsApartAndNotCountedEverywhere) {
  auto s = disk(100, 1000);
  s.free_files = 9'999;
  EXPECT_EQ(why_full(s, false), "");
  EXPECT_EQ(why_no_files(s, false), "9999 of 2000000 inodes are free");
  s.total_files = s.free_files = 0;
  EXPECT_EQ(why_no_files(s, false), "");
}

TEST(Space, GoesThereAndBackAsText) {
  auto s = disk(3, 7);
  s.read_only = true;
  EXPECT_EQ(parse_space(format_space(s)), s);
  EXPECT_FALSE(parse_space("1 2 3"));
  EXPECT_FALSE(parse_space("/tmp: No such file or directory"));
}

TEST(Memory, IsLowBelowAFiftiethOrAGibibyte) {
  const auto facts = parse_meminfo("MemTotal:       1048576 kB\nMemFree: 1 kB\nMemAvailable:     20000 kB\n");
  ASSERT_TRUE(facts);
  EXPECT_EQ(facts->total_bytes, 1 << 30);
  EXPECT_NE(why_memory_low(*facts, false), "");
  EXPECT_EQ(why_memory_low({600'000'000, 1 << 30}, false), "");
  EXPECT_FALSE(parse_meminfo(""));
  EXPECT_FALSE(parse_meminfo("MemTotal: x kB\nMemAvailable: 5 kB"));
}

}  // namespace
}  // namespace tutti::node
