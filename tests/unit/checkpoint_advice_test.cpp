#include "scheduler/core/checkpoint_advice.h"

#include <gtest/gtest.h>

#include <cmath>

namespace tutti {
namespace {

using namespace std::chrono_literals;
constexpr double kDay = 24 * 3600;

TEST(CheckpointAdvice, AFleetWithoutHistoryFailsAsPublishedOnesDo) {
  EXPECT_NEAR(to_seconds(mean_time_to_fault({}, 1)) / kDay, 264, 0.1);
  EXPECT_NEAR(to_seconds(mean_time_to_fault({}, 132)) / kDay, 2, 0.01);
}

TEST(CheckpointAdvice, WhatTheFleetHasSeenOutweighsThat) {
  const FleetFaults seen{999, 1000 * 10 * kDay};  // a fault in ten node-days
  EXPECT_NEAR(to_seconds(mean_time_to_fault(seen, 1)) / kDay, 10, 0.3);
  EXPECT_LT(mean_time_to_fault(seen, 64), mean_time_to_fault(seen, 8));
  EXPECT_GT(mean_time_to_fault({-5, -1}, 0), 0s) << "nonsense in, no nonsense out";
}

TEST(CheckpointAdvice, TheBestIntervalIsYoungsAndLosesLeast) {
  const Duration cost = 60s, mean = 20h;
  const Duration best = best_interval(cost, mean);
  EXPECT_NEAR(to_seconds(best), std::sqrt(2.0 * 60 * 72000), 0.01);
  for (const Duration other : {best / 2, best * 3 / 4, best * 3 / 2, best * 2})
    EXPECT_LT(expected_loss(best, cost, mean), expected_loss(other, cost, mean));
}

TEST(CheckpointAdvice, HasLimits) {
  EXPECT_EQ(best_interval(0s, 1h), 0s) << "no cost is known, no advice";
  EXPECT_EQ(best_interval(10min, 11min), 11min) << "never longer than the time to the next fault";
  EXPECT_LE(expected_loss(1s, 1h, 1s), 1.0);
  EXPECT_EQ(expected_loss(0s, 1s, 1h), 0.0);
}

}  // namespace
}  // namespace tutti
