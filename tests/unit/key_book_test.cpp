#include "scheduler/core/key_book.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <deque>
#include <map>
#include <random>
#include <utility>

namespace tutti {
namespace {

TEST(KeyBookTest, AKeyIsFoundUntilItIsTheOldest) {
  KeyBook book;
  EXPECT_FALSE(book.find("ann", "k")) << "empty";
  book.add("ann", "k", {7, JobId(1)});
  book.add("bob", "k", {8, JobId(2)});
  book.add("ann", "k", {9, JobId(3)});
  ASSERT_TRUE(book.find("ann", "k"));
  EXPECT_EQ(book.find("ann", "k")->job, JobId(1)) << "the first one stays";
  EXPECT_EQ(book.find("bob", "k")->body_hash, 8U);
  EXPECT_FALSE(book.find("an", "nk")) << "where the owner ends counts";
  EXPECT_EQ(book.size(), 2U);
  const auto gone = book.forget_oldest();
  EXPECT_EQ(gone.owner, "ann");
  EXPECT_EQ(gone.key, "k");
  EXPECT_FALSE(book.find("ann", "k"));
  EXPECT_TRUE(book.find("bob", "k"));
}

TEST(KeyBookTest, WhatIsTooLongIsNotRemembered) {
  KeyBook book;
  book.add("ann", std::string(KeyBook::kLongest, 'x'), {1, JobId(1)});
  EXPECT_EQ(book.size(), 0U);
  const std::string longest(KeyBook::kLongest - 3, 'x');
  for (int i = 0; i < 10; ++i) book.add("an" + std::to_string(i), longest, {1, JobId(i + 1)});
  for (int i = 0; i < 10; ++i) EXPECT_EQ(book.forget_oldest().owner, "an" + std::to_string(i));
}

// Against a map and a queue, with keys that are forgotten at random over many blocks, down to none.
TEST(KeyBookTest, ItIsAMapAndAQueue) {
  std::mt19937_64 dice(20261130);
  KeyBook book;
  std::map<std::pair<std::string, std::string>, JobId> map;
  std::deque<std::pair<std::string, std::string>> queue;
  for (int step = 0; step < 60'000; ++step) {
    const bool shrinks = step / 10'000 % 2 == 1;
    if (!queue.empty() && dice() % 100 < (shrinks ? 65U : 20U)) {
      const auto gone = book.forget_oldest();
      ASSERT_EQ(std::pair(gone.owner, gone.key), queue.front());
      map.erase(queue.front());
      queue.pop_front();
    } else {
      std::pair owner_key("user" + std::to_string(dice() % 7),
                          std::string(dice() % 60, 'k') + std::to_string(dice() % 20'000));
      const JobId job(step + 1);
      book.add(owner_key.first, owner_key.second, {static_cast<std::uint64_t>(step), job});
      if (map.emplace(owner_key, job).second) queue.push_back(owner_key);
    }
    ASSERT_EQ(book.size(), map.size());
    const std::pair asked("user" + std::to_string(dice() % 7), "k" + std::to_string(dice() % 20'000));
    const auto found = map.find(asked);
    const auto known = book.find(asked.first, asked.second);
    ASSERT_EQ(known.has_value(), found != map.end());
  }
  for (const auto& [owner_key, job] : map) {
    const auto known = book.find(owner_key.first, owner_key.second);
    ASSERT_TRUE(known);
    EXPECT_EQ(known->job, job);
  }
}

}  // namespace
}  // namespace tutti
