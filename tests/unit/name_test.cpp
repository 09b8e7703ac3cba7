#include "scheduler/model/name.h"

#include <gtest/gtest.h>

#include <thread>
#include <vector>

namespace tutti {
namespace {

TEST(NameTest, EqualNamesAreOneText) {
  const Name a("research"), b(std::string("research")), other("ops");
  EXPECT_EQ(&a.str(), &b.str());
  EXPECT_EQ(a, b);
  EXPECT_NE(a, other);
  EXPECT_EQ(a, "research");
  EXPECT_LT(other, a) << "by text";
  EXPECT_TRUE(Name().empty());
  EXPECT_EQ(Name(""), Name());
  EXPECT_LE(sizeof(Name), sizeof(void*));
}

// More names than a thread remembers, made by several at once.
TEST(NameTest, ThreadsAgree) {
  std::vector<std::vector<const std::string*>> seen(4);
  std::vector<std::thread> threads;
  for (auto& mine : seen)
    threads.emplace_back([&mine] {
      for (int i = 0; i < 1'000; ++i) mine.push_back(&Name("user" + std::to_string(i % 500)).str());
    });
  for (auto& thread : threads) thread.join();
  for (const auto& mine : seen) EXPECT_EQ(mine, seen[0]);
  EXPECT_EQ(*seen[0][499], "user499");
}

}  // namespace
}  // namespace tutti
