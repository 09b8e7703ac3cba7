// Rate limits on a clock of the test's own.
#include "api/access/rate_limit.h"

#include <gtest/gtest.h>

#include <chrono>
#include <deque>
#include <random>

namespace tutti {
namespace {

using namespace std::chrono_literals;

constexpr Mono kStart{1h};

TEST(TokenBucket, GivesTheBurstAndThenTheRate) {
  TokenBucket bucket(10, 20);
  for (int i = 0; i < 20; ++i) {
    const auto a = bucket.take("a", kStart);
    EXPECT_TRUE(a.allowed) << i;
    EXPECT_EQ(a.limit, 20);
    EXPECT_EQ(a.remaining, 19 - i);
  }
  const auto refused = bucket.take("a", kStart);
  EXPECT_FALSE(refused.allowed);
  EXPECT_EQ(refused.remaining, 0);
  EXPECT_EQ(refused.retry_after, 100ms);
  EXPECT_EQ(refused.reset, 2s);
  EXPECT_FALSE(bucket.take("a", kStart + 99ms).allowed);
  EXPECT_TRUE(bucket.take("a", kStart + 100ms).allowed);
  EXPECT_FALSE(bucket.take("a", kStart + 199ms).allowed);
}

TEST(TokenBucket, KeysHaveNothingToDoWithEachOther) {
  TokenBucket bucket(1, 1);
  EXPECT_TRUE(bucket.take("a", kStart).allowed);
  EXPECT_TRUE(bucket.take("b", kStart).allowed);
  EXPECT_FALSE(bucket.take("a", kStart).allowed);
}

TEST(TokenBucket, SavesUpNoMoreThanTheBurst) {
  TokenBucket bucket(10, 20);
  EXPECT_TRUE(bucket.take("a", kStart, 20).allowed);
  EXPECT_EQ(bucket.take("a", kStart + 24h, 0).remaining, 20);
}

TEST(TokenBucket, AClockThatGoesBackGivesNothing) {
  TokenBucket bucket(10, 1);
  EXPECT_TRUE(bucket.take("a", kStart).allowed);
  EXPECT_FALSE(bucket.take("a", kStart - 10s).allowed);
  EXPECT_FALSE(bucket.take("a", kStart + 50ms).allowed) << "the time it went back is not given twice";
  EXPECT_TRUE(bucket.take("a", kStart + 100ms).allowed);
}

TEST(TokenBucket, MoreThanTheBurstIsNever) {
  TokenBucket bucket(10, 5);
  EXPECT_EQ(bucket.take("a", kStart, 6).retry_after, kNever);
}

// In every stretch of time no more is given than the burst and what came back meanwhile; and whoever waits
// for retry_after gets one.
TEST(TokenBucket, HoldsForAnyPatternOfRequests) {
  std::mt19937_64 random(7);
  for (int round = 0; round < 50; ++round) {
    const double rate = 1 + static_cast<double>(random() % 50),
                 burst = 1 + static_cast<double>(random() % 30);
    TokenBucket bucket(rate, burst);
    std::vector<Mono> given;
    Mono now = kStart;
    for (int i = 0; i < 400; ++i) {
      now += std::chrono::microseconds(random() % 60'000);
      const auto a = bucket.take("k", now);
      if (a.allowed) {
        given.push_back(now);
        continue;
      }
      now += a.retry_after;
      ASSERT_TRUE(bucket.take("k", now).allowed);
      given.push_back(now);
    }
    for (std::size_t i = 0; i < given.size(); ++i)
      for (std::size_t j = i; j < given.size(); ++j)
        ASSERT_LE(static_cast<double>(j - i + 1), burst + rate * to_seconds(given[j] - given[i]) + 1e-3);
  }
}

TEST(SlidingWindow, CountsWithinAnyWindow) {
  SlidingWindow window(3, 60s);
  EXPECT_TRUE(window.look("u", kStart).allowed);
  EXPECT_TRUE(window.count("u", kStart).allowed);
  EXPECT_TRUE(window.count("u", kStart + 30s).allowed);
  EXPECT_TRUE(window.count("u", kStart + 40s).allowed);
  const auto refused = window.look("u", kStart + 40s);
  EXPECT_FALSE(refused.allowed);
  EXPECT_EQ(refused.remaining, 0);
  EXPECT_EQ(refused.retry_after, 20s) << "until the first one leaves the window";
  EXPECT_EQ(refused.reset, 60s);
  EXPECT_FALSE(window.look("u", kStart + 60s - 1us).allowed);
  EXPECT_TRUE(window.look("u", kStart + 60s).allowed);
  EXPECT_EQ(window.look("u", kStart + 60s).remaining, 1);
  EXPECT_TRUE(window.look("other", kStart + 40s).allowed);
}

TEST(SlidingWindow, RefusedAttemptsPushTheEndAway) {
  SlidingWindow window(2, 60s);
  window.count("u", kStart);
  window.count("u", kStart + 1s);
  EXPECT_FALSE(window.count("u", kStart + 50s).allowed);
  EXPECT_FALSE(window.look("u", kStart + 60s).allowed) << "two of the last sixty seconds: at 1 s and at 50 s";
  EXPECT_TRUE(window.look("u", kStart + 61s).allowed);
}

TEST(SlidingWindow, ForgetsOnRequest) {
  SlidingWindow window(1, 60s);
  window.count("u", kStart);
  window.forget("u");
  EXPECT_TRUE(window.look("u", kStart).allowed);
}

TEST(SlidingWindow, AgreesWithAnExactLog) {
  std::mt19937_64 random(11);
  SlidingWindow window(5, 10s);
  std::deque<Mono> log;
  Mono now = kStart;
  for (int i = 0; i < 5000; ++i) {
    now += std::chrono::microseconds(random() % 4'000'000);
    while (!log.empty() && log.front() + 10s <= now) log.pop_front();
    ASSERT_EQ(window.look("u", now).allowed, log.size() < 5) << i;
    window.count("u", now);
    log.push_back(now);
  }
}

TEST(LeakyBucket, RefusesWhatDoesNotFitAndDrainsEvenly) {
  LeakyBucket bucket(60, 60s);
  EXPECT_TRUE(bucket.pour("p", kStart, 60).allowed);
  const auto refused = bucket.pour("p", kStart, 3);
  EXPECT_FALSE(refused.allowed);
  EXPECT_EQ(refused.retry_after, 3s);
  EXPECT_EQ(refused.remaining, 0);
  EXPECT_EQ(refused.reset, 60s);
  EXPECT_TRUE(bucket.pour("p", kStart + 3s, 3).allowed);
  EXPECT_EQ(bucket.pour("p", kStart, 61).retry_after, kNever);
}

TEST(LeakyBucket, PutsInLine) {
  LeakyBucket line(5, 10s);  // one every two seconds, five may wait
  for (int i = 0; i < 5; ++i) {
    const auto turn = line.queue("hook", kStart);
    EXPECT_TRUE(turn.allowance.allowed);
    EXPECT_EQ(turn.wait, i * 2s);
  }
  EXPECT_FALSE(line.queue("hook", kStart).allowance.allowed);
  EXPECT_EQ(line.queue("hook", kStart + 2s).wait, 8s);
}

TEST(RateLimits, MemoryIsBoundedAndTheLongestUnusedKeyGoes) {
  TokenBucket bucket(1, 1, 3);
  for (const char* key : {"a", "b", "c"}) EXPECT_TRUE(bucket.take(key, kStart).allowed);
  EXPECT_FALSE(bucket.take("a", kStart).allowed);  // used last now
  EXPECT_TRUE(bucket.take("d", kStart).allowed);   // b goes
  EXPECT_EQ(bucket.keys(), 3u);
  EXPECT_FALSE(bucket.take("a", kStart).allowed);
  EXPECT_TRUE(bucket.take("b", kStart).allowed) << "forgotten, so it begins anew";
  for (int i = 0; i < 100'000; ++i) bucket.take(std::to_string(i), kStart);
  EXPECT_EQ(bucket.keys(), 3u);
}

TEST(RateLimits, LongKeysAreShortenedButNotMixedUp) {
  const std::string a = std::string(5000, 'x') + "a", b = std::string(5000, 'x') + "b";
  EXPECT_EQ(short_key(a).size(), kMaxKeyBytes);
  EXPECT_NE(short_key(a), short_key(b));
  TokenBucket bucket(1, 1);
  EXPECT_TRUE(bucket.take(a, kStart).allowed);
  EXPECT_TRUE(bucket.take(b, kStart).allowed);
  EXPECT_FALSE(bucket.take(a, kStart).allowed);
}

}  // namespace
}  // namespace tutti
