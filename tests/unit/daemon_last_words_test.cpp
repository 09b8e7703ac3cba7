// A service without memory: it ends, says so, and does not get stuck on the way.
#include "daemon/last_words.h"

#include <gtest/gtest.h>

#include <csignal>
#include <functional>
#include <new>
#include <stdexcept>
#include <thread>

namespace tutti::daemon {
namespace {

constexpr const char* kLine = "tutti-x: out of memory, ends at once with status 4";

TEST(LastWordsDeathTest, EndsWithALineAndAStatusOfItsOwn) {
  EXPECT_EXIT(end_without_memory("tutti-x"), testing::ExitedWithCode(kNoMemoryStatus), kLine);
}

TEST(LastWordsDeathTest, AlsoFromAThreadThatNobodyLooksAt) {
  EXPECT_EXIT(
      {
        end_threads_without_memory("tutti-x");
        std::thread lost([] { throw std::bad_alloc(); });
        lost.join();
      },
      testing::ExitedWithCode(kNoMemoryStatus), kLine);
}

TEST(LastWordsDeathTest, AlsoFromWhereNothingMayBeThrown) {
  EXPECT_EXIT(
      {
        end_threads_without_memory("tutti-x");
        const std::function<void()> fails = [] { throw std::bad_alloc(); };
        [&]() noexcept { fails(); }();
      },
      testing::ExitedWithCode(kNoMemoryStatus), kLine);
}

TEST(LastWordsDeathTest, WhateverElseIsThrownEndsTheProcessAsEver) {
  EXPECT_EXIT(
      {
        end_threads_without_memory("tutti-x");
        std::thread lost([] { throw std::runtime_error("a bug"); });
        lost.join();
      },
      testing::KilledBySignal(SIGABRT), "");
}

}  // namespace
}  // namespace tutti::daemon
