// Everything that two schedulers, two nodes and a job can do to each other within small bounds; and every
// rule that is broken on purpose must be shown to end badly, by a shortest way.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <utility>

#include "tests/model/explorer.h"

namespace tutti::model {
namespace {

std::string text(const Report& report) {
  std::string all = report.broken + "\n";
  for (const auto& step : report.trace) all += "  " + step + "\n";
  return all;
}

// Ticks are lease = margin = R = 1: what counts is the order, not the length.
Bounds small(int faults, int losses) {
  Bounds b;
  b.lease = b.margin = b.renews = 1;
  b.terms = b.epochs = 2;
  b.faults = faults;
  b.losses = losses;
  return b;
}

TEST(Model, NothingBadWithinTheBounds) {
  for (const auto& [faults, losses] : {std::pair{0, 1}, {1, 0}}) {
    const Report report =
        explore({.bounds = small(faults, losses), .mutation = Mutation::none, .ask_every = 256});
    EXPECT_TRUE(report.complete);
    EXPECT_EQ(report.broken, "") << text(report);
    EXPECT_GT(report.states, 5000u);
    EXPECT_GT(report.asked_to_run, 20u);
    RecordProperty("states", std::to_string(report.states));
  }
}

TEST(Model, AnAcceptedJobIsInTheStore) {
  Bounds bounds = small(1, 0);
  bounds.from_submit = true;
  bounds.epochs = 1;
  const Report report = explore({.bounds = bounds, .mutation = Mutation::none, .ask_every = 0});
  EXPECT_TRUE(report.complete);
  EXPECT_EQ(report.broken, "") << text(report);
}

struct Broken {
  Mutation mutation;
  int faults, losses;
  std::string_view ends;  // how it ends
};

class BrokenRule : public ::testing::TestWithParam<Broken> {};

TEST_P(BrokenRule, IsShown) {
  const Broken& rule = GetParam();
  Bounds bounds = small(rule.faults, rule.losses);
  bounds.from_submit = rule.ends == "an accepted job is lost";
  const Report report = explore({.bounds = bounds,
                                 .mutation = rule.mutation,
                                 .ask_every = rule.mutation == Mutation::gives_up_once ? 16u : 0u});
  ASSERT_NE(report.broken.find(rule.ends), std::string::npos) << report.states << " states: " << text(report);
  EXPECT_GE(report.trace.size(), 1u);
  EXPECT_EQ(std::ranges::count(report.trace, "?"), 0) << text(report);
  RecordProperty("steps", std::to_string(report.trace.size()));
}

constexpr std::string_view kTwo = "two gangs of one job are alive", kLost = "an accepted job is lost",
                           kUnstored = "is not in the store", kStuck = "the job is never placed again",
                           kDeposed = "a deposed leader has written";

INSTANTIATE_TEST_SUITE_P(Rules, BrokenRule,
                         ::testing::Values(Broken{Mutation::no_margin, 1, 0, kTwo},
                                           Broken{Mutation::no_boot_grace, 1, 0, kTwo},
                                           Broken{Mutation::renew_unconfirmed, 1, 0, kTwo},
                                           Broken{Mutation::reads_confirm, 1, 0, kTwo},
                                           Broken{Mutation::forget_predecessors, 1, 0, kTwo},
                                           Broken{Mutation::over_unproven, 1, 0, kTwo},
                                           Broken{Mutation::old_term_writes, 1, 0, kDeposed},
                                           Broken{Mutation::order_before_commit, 1, 0, kUnstored},
                                           Broken{Mutation::answer_before_commit, 1, 0, kLost},
                                           Broken{Mutation::forgets_rows, 1, 0, kLost},
                                           Broken{Mutation::gives_up_once, 1, 0, kStuck}),
                         [](const auto& info) { return std::string(name(info.param.mutation)); });

}  // namespace
}  // namespace tutti::model
