#include "scheduler/planner/ranked_jobs.h"

#include <gtest/gtest.h>

#include <random>
#include <set>

namespace tutti::planner {
namespace {

RankedJobs::Place place(std::int64_t at, std::int64_t id) {
  return {Instant(std::chrono::seconds(at)), JobId(id)};
}

TEST(RankedJobsTest, WhoComesLastIsAppendedToFullBlocks) {
  RankedJobs jobs;
  for (int i = 0; i < 2'000; ++i) jobs.insert(place(i, i + 1));
  EXPECT_EQ(jobs.size(), 2'000U);
  EXPECT_EQ(jobs.order_of_key(place(1'500, 1'501)), 1'500U);
  EXPECT_EQ(*jobs.find_by_order(1'999), place(1'999, 2'000));
  EXPECT_EQ(jobs.find_by_order(2'000), jobs.end());
  EXPECT_EQ(jobs.order_of_key(place(9'999, 1)), 2'000U) << "one that is not there";
  jobs.erase(place(7, 1)), jobs.erase(place(9'999, 1));
  EXPECT_EQ(jobs.size(), 2'000U) << "nobody of that place";
}

// Against a set: inserted and erased at random, in runs that fill and empty blocks.
TEST(RankedJobsTest, ItIsASetWithNumbers) {
  std::mt19937_64 dice(20261130);
  RankedJobs jobs;
  std::set<RankedJobs::Place> set;
  for (int step = 0; step < 40'000; ++step) {
    const bool shrinks = step / 8'000 % 2 == 1;
    const auto p =
        place(static_cast<std::int64_t>(dice() % 3'000), static_cast<std::int64_t>(dice() % 5 + 1));
    if (dice() % 100 < (shrinks ? 80U : 30U)) {
      const auto gone = shrinks && !set.empty() ? *set.begin() : p;
      jobs.erase(gone);
      set.erase(gone);
    } else if (set.insert(p).second) {
      jobs.insert(p);
    }
    ASSERT_EQ(jobs.size(), set.size());
    if (step % 50 != 0) continue;
    ASSERT_TRUE(std::ranges::equal(std::vector(set.begin(), set.end()), [&] {
      std::vector<RankedJobs::Place> seen;
      for (const auto& at : jobs) seen.push_back(at);
      return seen;
    }()));
    const auto before = static_cast<std::size_t>(std::distance(set.begin(), set.lower_bound(p)));
    ASSERT_EQ(jobs.order_of_key(p), before);
    if (before < set.size()) ASSERT_EQ(*jobs.find_by_order(before), *set.lower_bound(p));
  }
}

}  // namespace
}  // namespace tutti::planner
