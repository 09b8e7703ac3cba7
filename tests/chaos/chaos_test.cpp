// The judges of the campaign must notice what they are there for, and nothing else.
#include <gtest/gtest.h>

#include <set>

#include "tests/chaos/oracles.h"
#include "tests/chaos/rows.h"

namespace tutti::chaos {
namespace {

AttemptStamps attempt(int ranks, std::int64_t ended_at) {
  AttemptStamps a;
  a.job = 7;
  a.epoch = 1;
  a.ranks = ranks;
  a.running = 1'000'000;
  a.ended = ended_at != 0;
  a.ended_at = ended_at;
  return a;
}
AllLives lives(std::map<int, std::pair<std::int64_t, std::int64_t>> ranks) {
  AllLives all;
  all[7][1].ranks = std::move(ranks);
  return all;
}
constexpr std::int64_t kLimit = 8'500'000;

TEST(ChaosOracle, ARankThatLivesBeyondTheStoredEndIsSeen) {
  const auto ranks = lives({{0, {1'000'000, 5'000'000}}, {1, {1'000'000, 6'000'000}}});
  EXPECT_TRUE(judge_ends(ranks, {attempt(2, 6'010'000)}).empty());
  EXPECT_TRUE(judge_ends(ranks, {attempt(2, 0)}).empty()) << "it still runs";
  const auto found = judge_ends(ranks, {attempt(2, 5'500'000)});
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0].rule, Rule::double_run);
}

TEST(ChaosOracle, AGangThatLivesOnInPartIsSeen) {
  EXPECT_TRUE(
      judge_wholeness(lives({{0, {1, 2'000'000}}, {1, {1, 9'000'000}}}), {attempt(2, 9'100'000)}, kLimit, 0)
          .empty());
  const auto late = lives({{0, {1, 2'000'000}}, {1, {1, 12'000'000}}});
  ASSERT_EQ(judge_wholeness(late, {attempt(2, 12'100'000)}, kLimit, 0).size(), 1u);
  ASSERT_EQ(judge_wholeness(late, {attempt(2, 0)}, kLimit, 12'000'000).size(), 1u) << "and while it goes on";
  const auto half = lives({{0, {1'000'000, 12'000'000}}});
  ASSERT_EQ(judge_wholeness(half, {attempt(2, 12'100'000)}, kLimit, 0).size(), 1u) << "one has never started";
  auto starting = attempt(2, 0);
  starting.running = 0;
  EXPECT_TRUE(judge_wholeness(half, {starting}, kLimit, 12'000'000).empty());
}

TEST(ChaosFigures, QuantilesAreNearestRanks) {
  std::vector<double> values;
  for (int i = 1; i <= 200; ++i) values.push_back(i);
  EXPECT_EQ(quantile(values, 0.5), 100);
  EXPECT_EQ(quantile(values, 0.99), 198);
  EXPECT_EQ(quantile({3}, 0.99), 3);
  EXPECT_EQ(quantile({}, 0.5), 0);
}

TEST(ChaosFigures, RunsOfOneRowAddUpAndAMissedTargetShows) {
  RowFigures a;
  a.row = "A";
  a.injections = 2;
  a.seconds[Stage::fenced] = {0.1, 0.2};
  a.targets = {{Stage::fenced, 0.1, 0.4}};
  RowFigures b = a;
  b.seconds[Stage::fenced] = {0.3, 0.5};
  b.violations[Rule::double_run] = 1;
  b.failures = {"two epochs at a time"};
  a.add(b);
  EXPECT_EQ(a.injections, 4);
  EXPECT_TRUE(a.failed());
  const auto text = table({a});
  EXPECT_NE(text.find("0.200/0.500 !(0.100/0.400)"), text.npos) << text;
  EXPECT_NE(text.find("4 injections into real processes: 1 double runs"), text.npos) << text;
  const auto json = to_json({a});
  EXPECT_EQ(json.at("totals").at("double_runs").as_int64(), 1);
  EXPECT_EQ(json.at("rows").at(0).at("stages_seconds").at("fenced").at("n").to_number<int>(), 4);
}

TEST(ChaosRows, EachHasAName_AndEitherAnInjectionOrAReason) {
  std::set<std::string> names;
  for (const auto& row : rows()) {
    EXPECT_TRUE(names.insert(row.name).second) << row.name;
    EXPECT_EQ(row.inject == nullptr, row.missing != nullptr) << row.name;
    EXPECT_EQ(row.inject == nullptr, row.injections == 0) << row.name;
  }
}

}  // namespace
}  // namespace tutti::chaos
