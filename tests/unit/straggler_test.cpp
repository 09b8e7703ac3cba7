// Slow ranks: who is named, and how rarely somebody wrongly. The statistics print their figures.
#include "scheduler/core/straggler.h"

#include <gtest/gtest.h>

#include <cmath>
#include <iostream>
#include <optional>
#include <set>

#include "scheduler/core/retry.h"  // mix: numbers from a seed that are the same everywhere

namespace tutti {
namespace {

struct Dice {
  std::uint64_t at;
  double uniform() { return static_cast<double>(mix(++at) >> 11) * 0x1p-53; }
  double normal() {  // Box and Muller
    return std::sqrt(-2 * std::log(1 - uniform())) * std::cos(2 * 3.14159265358979 * uniform());
  }
};

std::vector<StragglerWatch::Change> rounds(StragglerWatch& watch, std::map<std::int32_t, double> times,
                                           int n) {
  std::vector<StragglerWatch::Change> all;
  for (int i = 0; i < n; ++i)
    for (const auto& c : watch.on_round(times)) all.push_back(c);
  return all;
}

TEST(Straggler, IsNamedAfterAWholeWindowAndNotBefore) {
  StragglerWatch watch;
  const std::map<std::int32_t, double> times{{0, 1.0}, {1, 1.0}, {2, 1.2}, {3, 1.0}};
  EXPECT_TRUE(rounds(watch, times, StragglerWatch::kRounds - 1).empty());
  const auto changes = rounds(watch, times, 1);
  ASSERT_EQ(changes.size(), 1u);
  EXPECT_EQ(changes[0].rank, 2);
  EXPECT_TRUE(changes[0].slow);
  EXPECT_NEAR(changes[0].times, 1.2, 1e-9);
  EXPECT_TRUE(rounds(watch, times, 100).empty()) << "said once";
}

TEST(Straggler, IsTakenBackWhenItKeepsUpAgain) {
  StragglerWatch watch;
  rounds(watch, {{0, 1.0}, {1, 1.0}, {2, 1.3}}, StragglerWatch::kRounds);
  const auto changes = rounds(watch, {{0, 1.0}, {1, 1.0}, {2, 1.0}}, StragglerWatch::kRounds);
  ASSERT_EQ(changes.size(), 1u);
  EXPECT_FALSE(changes[0].slow);
  EXPECT_TRUE(watch.slow().empty());
}

TEST(Straggler, OfTwoTheSlowerOne) {
  StragglerWatch watch;
  const auto changes = rounds(watch, {{0, 1.25}, {1, 1.0}}, StragglerWatch::kRounds);
  ASSERT_EQ(changes.size(), 1u);
  EXPECT_EQ(changes[0].rank, 0);
}

TEST(Straggler, WhatSlowsAllSlowsNobody) {
  StragglerWatch watch;
  std::vector<StragglerWatch::Change> all;
  for (int i = 0; i < 100; ++i) {
    const double t = 1 + (i % 7);
    for (const auto& c : watch.on_round({{0, t}, {1, t * 1.01}, {2, t * 0.99}})) all.push_back(c);
  }
  EXPECT_TRUE(all.empty());
}

TEST(Straggler, OneBadMomentIsNoStraggler) {
  StragglerWatch watch;
  std::vector<StragglerWatch::Change> all;
  for (int i = 0; i < 60; ++i)
    for (const auto& c : watch.on_round({{0, 1.0}, {1, i % 4 == 0 ? 5.0 : 1.0}, {2, 1.0}, {3, 1.0}}))
      all.push_back(c);
  EXPECT_TRUE(all.empty());
}

TEST(Straggler, SurvivesNonsense) {
  StragglerWatch watch;
  for (int i = 0; i < 50; ++i) {
    EXPECT_TRUE(watch.on_round({}).empty());
    EXPECT_TRUE(watch.on_round({{0, 1.0}}).empty());
    EXPECT_TRUE(watch.on_round({{0, NAN}, {1, 1.0}, {2, INFINITY}}).empty());
    EXPECT_TRUE(watch.on_round({{0, -1.0}, {1, 0.0}, {2, 1.0}}).empty());
  }
}

// Gangs of 4 to 64 ranks; each rank's own time varies by a constant 0-6 % and each step by 1-15 %, with one
// step in 20 three times as long somewhere. In half of the trials one rank is 20 % slower from a random round
// on. Named within 24 rounds (120 s) and right: found. Anybody else named at any time: a false alarm.
TEST(Straggler, PrecisionAndRecallOverSeededTrials) {
  int right = 0, wrong = 0, missed = 0, with = 0;
  constexpr int kTrials = 1000;
  double rounds_to_name = 0;
  for (int trial = 0; trial < kTrials; ++trial) {
    Dice dice{static_cast<std::uint64_t>(trial) * 1'000'003};
    const int ranks = 4 + static_cast<int>(dice.uniform() * 61);
    const double noise = 0.01 + 0.14 * dice.uniform();
    const bool has = trial % 2 == 0;
    const int slow = static_cast<int>(dice.uniform() * ranks);
    const int begins = static_cast<int>(dice.uniform() * 30);
    std::vector<double> own;
    for (int r = 0; r < ranks; ++r) own.push_back(1 + 0.06 * dice.uniform());
    StragglerWatch watch;
    std::optional<int> named_at;
    std::set<int> others;
    for (int round = 0; round < begins + 24; ++round) {
      const double batch = 0.5 + dice.uniform();  // of this step, for all
      std::map<std::int32_t, double> times;
      for (int r = 0; r < ranks; ++r) {
        double t = batch * own[static_cast<std::size_t>(r)] * (1 + noise * std::abs(dice.normal()));
        if (dice.uniform() < 0.05) t *= 3;
        if (has && r == slow && round >= begins) t *= 1.2;
        times[r] = t;
      }
      for (const auto& c : watch.on_round(times)) {
        if (!c.slow) continue;
        if (has && c.rank == slow && round >= begins)
          named_at = named_at.value_or(round - begins + 1);
        else
          others.insert(c.rank);
      }
    }
    with += has;
    if (has && named_at) rounds_to_name += *named_at;
    right += named_at.has_value();
    missed += has && !named_at;
    wrong += static_cast<int>(others.size());
  }
  const double precision = static_cast<double>(right) / std::max(right + wrong, 1);
  const double recall = static_cast<double>(right) / with;
  std::cout << "stragglers: " << kTrials << " trials, " << with << " with one; precision " << precision
            << ", recall " << recall << ", named after " << rounds_to_name / std::max(right, 1)
            << " rounds of 5 s on average; false " << wrong << ", missed " << missed << "\n";
  EXPECT_GE(precision, 0.95);
  EXPECT_GE(recall, 0.90);
}

}  // namespace
}  // namespace tutti
