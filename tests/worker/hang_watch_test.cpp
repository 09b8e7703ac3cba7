// Does a node's part stand still? In virtual time.
#include "worker/core/hang_watch.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace tutti::worker {
namespace {

using namespace std::chrono_literals;

struct HangWatchTest : ::testing::Test {
  Mono now = Mono(1h);
  HangWatch watch{HangLimits{}, HangPolicy{}, now};

  void told(std::int32_t rank, std::int64_t step, double compute = 0.1, std::uint64_t mark = 0,
            std::int64_t total = 0) {
    watch.on_told(now, rank, Told{step, total, compute, mark, 0ms});
  }
  bool stalled() const { return watch.judge(now).stalled; }
  // Steps of `each` on `ranks` ranks, looked at twice a second.
  void train(std::int64_t from, std::int64_t to, Duration each, int ranks = 2) {
    const Mono begin = now;
    for (std::int64_t s = from; s <= to;) {
      for (int r = 0; r < ranks; ++r) told(r, s);
      now += 500ms;
      s = std::max(s, from + (now - begin) / each);
      if (each > 500ms && stalled()) ADD_FAILURE() << "a false alarm at step " << s;
    }
  }
  void wait(Duration d) { now += d; }
};

TEST_F(HangWatchTest, StallsAfterTenUsualStepsAndNotSoonerThanTenSeconds) {
  train(1, 50, 1s);
  const Mono last = now;
  while (!stalled() && now - last < 1min) wait(100ms);
  EXPECT_GE(now - last, 9s);
  EXPECT_LE(now - last, 16s) << "looks are half a second apart, so a step of 1 s may look like 1.5 s";
  EXPECT_TRUE(watch.judge(now).tells_progress);
}

TEST_F(HangWatchTest, ByTheAgeOfTheFilesALookMayBeLate) {
  for (int s = 0; s <= 40; ++s) {  // written each second, seen up to half a second later
    const Duration late(s * 37 % 5 * 100'000);
    watch.on_told(now + late, 0, Told{s, 0, 0.1, 0, late});
    now += 1s;
  }
  EXPECT_EQ(watch.judge(now).limit, 10s) << "the learned step is a second, not what the looks make of it";
  EXPECT_EQ(watch.take_rank(now, 0).step_time, 1s);
}

TEST_F(HangWatchTest, SlowStepsHaveALongLimit) {
  train(1, 10, 30s);
  wait(4min);
  EXPECT_FALSE(stalled());
  wait(2min);
  EXPECT_TRUE(stalled());
}

TEST_F(HangWatchTest, FastStepsHaveTheFloor) {
  train(0, 20'000, 1ms);
  wait(9s);
  EXPECT_FALSE(stalled());
  wait(2s);
  EXPECT_TRUE(stalled());
}

TEST_F(HangWatchTest, BeforeTheFirstStepsAreKnownWorkIsNoStall) {
  told(0, 0);
  told(1, 0);
  Duration cpu{};
  const auto compile = [&] {
    for (int i = 0; i < 600; ++i) {
      wait(1s);
      watch.on_activity(now, 2, {cpu += 500ms, 0, false});
      EXPECT_FALSE(stalled());
    }
  };
  compile();
  told(0, 1);
  told(1, 1);
  wait(2s);
  told(0, 2);
  compile();
  EXPECT_TRUE(watch.judge(now).tells_progress) << "three steps are too few, but they are told";
}

// A gang that deadlocks in its third step was never named at all.
TEST_F(HangWatchTest, BeforeTheFirstStepsAreKnownSilenceIsReportedOnly) {
  told(0, 0);
  told(0, 1);
  told(0, 2);
  watch.on_activity(now, 2, {100s, 5'000'000, false});
  for (int i = 0; i < 60; ++i) {
    EXPECT_FALSE(stalled());
    wait(1s);
    watch.on_activity(now, 2, {100s, 5'000'000, false});
  }
  EXPECT_TRUE(stalled());
  EXPECT_FALSE(watch.judge(now).tells_progress) << "nothing is ended for it";
  EXPECT_EQ(watch.judge(now).limit, 60s);
}

TEST_F(HangWatchTest, ALongFirstStepDoesNotRaiseTheLimit) {
  told(0, 0);
  wait(10min);
  for (int s = 1; s < 40; ++s) {
    told(0, s);
    wait(1s);
  }
  EXPECT_EQ(watch.judge(now).limit, 10s);
}

TEST_F(HangWatchTest, OneRankThatMovesIsEnough) {
  train(1, 50, 1s);
  for (int s = 100; s < 200; ++s) {
    told(1, s);
    wait(1s);
    EXPECT_FALSE(stalled());
  }
}

TEST_F(HangWatchTest, ASilenceThatEndedByItselfIsAllowedTwiceOver) {
  train(1, 20, 1s);
  wait(40s);  // a slow evaluation: it was called a hang, and was none
  EXPECT_TRUE(stalled());
  told(0, 21);
  told(1, 21);
  EXPECT_FALSE(stalled());
  wait(70s);
  EXPECT_FALSE(stalled());
  wait(20s);
  EXPECT_TRUE(stalled());
}

TEST_F(HangWatchTest, ARankThatWritesACheckpointMoves) {
  train(1, 20, 1s);
  std::int64_t written = 0;
  for (int i = 0; i < 300; ++i) {
    written += 20 << 20;
    watch.on_activity(now, 2, {Duration(0), written, false});
    wait(1s);
    EXPECT_FALSE(stalled()) << i;
  }
  wait(11s);
  EXPECT_TRUE(stalled());
}

TEST_F(HangWatchTest, ALittleIoDoesNotCount) {
  train(1, 20, 1s);
  std::int64_t written = 0;
  for (int i = 0; i < 20; ++i) {
    watch.on_activity(now, 2, {Duration(0), written += 4096, false});
    wait(1s);
  }
  EXPECT_TRUE(stalled());
}

TEST_F(HangWatchTest, IoCountsForHalfAnHourAtMost) {
  train(1, 20, 1s);
  std::int64_t written = 0;
  bool said = false;
  for (int i = 0; i < 31 * 60 && !said; ++i) {
    watch.on_activity(now, 2, {Duration(0), written += 20 << 20, false});
    wait(1s);
    said = stalled();
  }
  EXPECT_TRUE(said);
}

TEST_F(HangWatchTest, TheLastStepMayTakeAsLongAsItLikes) {
  for (int s = 0; s <= 20; ++s) {
    told(0, s, 0.1, 0, 20);
    wait(1s);
  }
  wait(1h);
  EXPECT_FALSE(stalled());
}

TEST_F(HangWatchTest, AFixedLimitReplacesAllThat) {
  HangWatch fixed(HangLimits{}, HangPolicy{.after = 3s, .action = {}}, now);
  fixed.on_told(now, 0, Told{0, 0, 0, 0, 0ms});
  EXPECT_FALSE(fixed.judge(now + 2s).stalled);
  EXPECT_TRUE(fixed.judge(now + 3s).stalled) << "even before the first step";
  EXPECT_EQ(fixed.judge(now).limit, 3s);
}

TEST_F(HangWatchTest, OtherMetricsAreASignOfLifeToo) {
  train(1, 20, 1s);
  for (int i = 0; i < 60; ++i) {  // an evaluation: same step, other numbers
    told(0, 20, 0.1, static_cast<std::uint64_t>(i + 1));
    wait(1s);
    EXPECT_FALSE(stalled());
  }
}

TEST_F(HangWatchTest, GarbageBreaksNothing) {
  constexpr auto kMax = std::numeric_limits<std::int64_t>::max();
  constexpr auto kMin = std::numeric_limits<std::int64_t>::min();
  const double odd[] = {NAN, INFINITY, -INFINITY, -1, 0, 1e300, 1e-300};
  int i = 0;
  for (int round = 0; round < 50; ++round)
    for (const auto step : {std::int64_t{0}, kMax, kMin, std::int64_t{-7}, std::int64_t{3}, kMax - 1}) {
      watch.on_told(now, i % 3,
                    Told{step, kMin, odd[i % 7], 0, Duration(i % 2 == 0 ? -1'000'000 : 1'000'000'000)});
      wait(700ms);
      watch.judge(now);
      const auto rank = watch.take_rank(now, i % 3);
      EXPECT_GE(rank.step, 0);
      EXPECT_GE(rank.compute, 0s);
      EXPECT_LE(rank.compute, Duration(1'000'000'000'000));
      ++i;
    }
  EXPECT_FALSE(stalled()) << "it told something new each time";
}

TEST_F(HangWatchTest, TheMeanOfItsOwnTimeIsOfTheStepsSinceTheLastReport) {
  told(0, 0, 9);
  told(0, 1, 0.2);
  told(0, 2, 0.4);
  told(0, 3, NAN);
  EXPECT_EQ(watch.take_rank(now, 0).compute, Duration(300'000));
  EXPECT_EQ(watch.take_rank(now, 0).compute, Duration(400'000)) << "no new step: the last one again";
  EXPECT_EQ(watch.take_rank(now, 5).step, -1);
}

TEST_F(HangWatchTest, WhatAFormerWorkerLearnedIsKept) {
  watch.remember({2s, 0s});
  told(0, 100);
  wait(19s);
  EXPECT_FALSE(stalled());
  wait(2s);
  EXPECT_TRUE(stalled()) << "the gang may have hung while the worker was restarted";
}

// ---------------------------------------------------------------- without told steps

TEST_F(HangWatchTest, WithoutStepsFlatForAMinute) {
  watch.on_activity(now, 4, {100s, 5'000'000, false});
  for (int i = 0; i < 59; ++i) {
    wait(1s);
    watch.on_activity(now, 4, {100s + Duration(i * 1000), 5'000'000 + i * 100, false});
    EXPECT_FALSE(stalled()) << i;
  }
  wait(2s);
  watch.on_activity(now, 4, {90s, 5'000'000, false});
  EXPECT_FALSE(stalled()) << "CPU time went back: a process has ended, so something happened";
  for (int i = 0; i < 61; ++i) {
    wait(1s);
    watch.on_activity(now, 4, {90s, 5'000'000, false});
  }
  EXPECT_TRUE(stalled());
  EXPECT_FALSE(watch.judge(now).tells_progress);
  EXPECT_EQ(watch.judge(now).limit, 60s);
}

TEST_F(HangWatchTest, WithoutStepsCpuOrIoOrAGpuInUseIsMoving) {
  Duration cpu{};
  std::int64_t io = 0;
  for (int what = 0; what < 3; ++what)
    for (int i = 0; i < 200; ++i) {
      wait(1s);
      cpu += what == 0 ? 100ms : 0ms;
      io += what == 1 ? 100'000 : 0;
      watch.on_activity(now, 4, {cpu, io, what == 2});
      EXPECT_FALSE(stalled()) << what;
    }
}

}  // namespace
}  // namespace tutti::worker
