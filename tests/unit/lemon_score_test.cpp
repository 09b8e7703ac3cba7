#include "scheduler/core/lemon_score.h"

#include <gtest/gtest.h>

#include <cmath>

namespace tutti {
namespace {

using std::chrono::days;

const Instant kNow = Instant(days(1000));
LemonFailure ago(int d, int shared_by = 1) { return {kNow - days(d), shared_by}; }
LemonCount count(std::vector<LemonFailure> failures, int known_days = 100) {
  return count_lemon_failures(failures, kNow - days(known_days), kNow);
}
std::vector<LemonCount> fleet_with(std::vector<LemonCount> some, int nodes) {
  for (int i = 0; i < nodes; ++i) some.push_back(count({}));
  return some;
}

TEST(LemonScore, AFailureCountsHalfAfterAHalfLife) {
  EXPECT_NEAR(count({ago(0)}).failures, 1, 1e-12);
  EXPECT_NEAR(count({ago(21)}).failures, 0.5, 1e-12);
  EXPECT_NEAR(count({ago(42), ago(21)}).failures, 0.75, 1e-12);
}

TEST(LemonScore, AGangThatHasNamedNobodySharesTheBlame) {
  EXPECT_NEAR(count({ago(0, 8)}).failures, 0.125, 1e-12);
  const auto c = count({ago(21, 4)});
  ASSERT_EQ(c.terms.size(), 1u);
  EXPECT_NEAR(c.terms[0].decay, 0.5, 1e-12);
  EXPECT_NEAR(c.terms[0].weight, 0.125, 1e-12);
}

TEST(LemonScore, TheTermsAddUpToTheCount) {
  const auto c = count({ago(1), ago(3, 2), ago(30), ago(90, 16)});
  double sum = 0;
  for (const auto& t : c.terms) sum += t.weight;
  EXPECT_NEAR(sum, c.failures, 1e-12);
}

TEST(LemonScore, AFailureFromTheFutureCountsAsOfNow) {
  EXPECT_NEAR(count({{kNow + days(400), 1}}).failures, 1, 1e-12);
  EXPECT_EQ(count({}, -5).days, 0) << "a node first seen in the future has been watched for no time";
}

TEST(LemonScore, ExposureDecaysLikeFailures) {
  EXPECT_NEAR(count({}, 1).days, 1, 0.02);
  EXPECT_NEAR(count({}, 10'000).days, 21 / std::log(2.0), 1e-6);
}

TEST(LemonScore, AFleetWithoutFailuresHasNoLemon) {
  const auto nodes = fleet_with({}, 10);
  const auto s = score_lemon(nodes[0], fit_lemon_fleet(nodes));
  EXPECT_EQ(s.ratio, 1);
  EXPECT_FALSE(s.flagged);
  EXPECT_FALSE(score_lemon(count({}), fit_lemon_fleet({})).flagged);
}

TEST(LemonScore, OneFailureInALargeFleetMovesANodeLittle) {
  const auto nodes = fleet_with({count({ago(1)})}, 400);
  const auto s = score_lemon(nodes[0], fit_lemon_fleet(nodes));
  EXPECT_GT(s.ratio, 1);
  EXPECT_FALSE(s.flagged);
}

TEST(LemonScore, ANodeThatFailsEveryFewDaysAmongHealthyOnesIsFlagged) {
  std::vector<LemonCount> some = {count({ago(1), ago(4), ago(8), ago(11), ago(15)})};
  for (int i = 0; i < 40; ++i) some.push_back(count({ago(3 + i)}));
  const auto nodes = fleet_with(some, 360);
  const auto fleet = fit_lemon_fleet(nodes);
  const auto lemon = score_lemon(nodes[0], fleet), once = score_lemon(nodes[1], fleet),
             never = score_lemon(nodes.back(), fleet);
  EXPECT_TRUE(lemon.flagged) << lemon.probability;
  EXPECT_FALSE(once.flagged) << once.probability;
  EXPECT_GT(lemon.ratio, once.ratio);
  EXPECT_GT(once.ratio, never.ratio);
  EXPECT_LT(never.ratio, 1);
}

TEST(LemonScore, WhenAllFailAlikeNoneIsALemon) {
  std::vector<LemonCount> nodes;
  for (int i = 0; i < 50; ++i) nodes.push_back(count({ago(2 + i % 3), ago(9), ago(20)}));
  const auto fleet = fit_lemon_fleet(nodes);
  for (const auto& n : nodes) EXPECT_FALSE(score_lemon(n, fleet).flagged);
}

TEST(LemonScore, TheOnlyNodeIsItsOwnFleet) {
  const std::vector<LemonCount> nodes = {count({ago(0), ago(1), ago(2), ago(3), ago(4)})};
  const auto s = score_lemon(nodes[0], fit_lemon_fleet(nodes));
  EXPECT_NEAR(s.ratio, 1, 1e-9);
  EXPECT_FALSE(s.flagged);
}

TEST(LemonScore, TheShapeOfAFleetIsFoundAgain) {
  // Half of the nodes fail twice as often as the mean, the others never: rates with a variance of mean².
  std::vector<LemonCount> nodes;
  for (int i = 0; i < 500; ++i) {
    LemonCount bad, good;
    bad.days = good.days = 30;
    bad.failures = 60 + (i % 2 == 0 ? 8 : -8);  // about Poisson
    bad.squares = 60;
    nodes.push_back(bad);
    nodes.push_back(good);
  }
  const auto fleet = fit_lemon_fleet(nodes);
  EXPECT_NEAR(fleet.per_day, 1, 0.01);
  EXPECT_NEAR(fleet.shape, 1, 0.05);
}

TEST(LemonScore, GammaTail) {
  EXPECT_EQ(gamma_above(3, 0), 1);
  for (const double x : {0.01, 0.5, 1.0, 2.0, 7.0, 50.0}) {
    EXPECT_NEAR(gamma_above(1, x), std::exp(-x), 1e-12);
    EXPECT_NEAR(gamma_above(3, x), std::exp(-x) * (1 + x + x * x / 2), 1e-12);
    EXPECT_NEAR(gamma_above(0.5, x), std::erfc(std::sqrt(x)), 1e-12);
  }
  EXPECT_NEAR(gamma_above(100, 100), 0.4867, 1e-3);
}

}  // namespace
}  // namespace tutti
