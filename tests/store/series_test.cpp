// One suite, two stores: what was measured.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <optional>

#include "db/memory/memory_series.h"
#include "db/pg/pg_series.h"
#include "tests/store/pg_fixture.h"

namespace tutti {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;
using testing::IsEmpty;

const series::Owner kNode = series::of(NodeId(7));
const series::Owner kAttempt = series::of(AttemptKey{JobId(7), Epoch(2)});
const series::Owner kLater = series::of(AttemptKey{JobId(7), Epoch(3)});

Instant at(Duration after) { return Instant(1'800'000'000s) + after; }

class SeriesTest : public testing::TestWithParam<bool> {
 protected:
  SeriesTest() {
    if (GetParam()) {
      database_.emplace(test::TestPostgres::instance().create_database());
      store_ = std::make_unique<db::PgSeries>(database_->connection_string());
    } else {
      store_ = std::make_unique<db::MemorySeries>();
    }
  }
  std::vector<SeriesRow> find(std::vector<series::Owner> owners, Duration from = 0s, Duration until = 24h,
                              Duration step = 10s, int most = 100) {
    return store_->find({std::move(owners), step, at(from), at(until)}, most);
  }
  std::optional<test::TestDatabase> database_;
  std::unique_ptr<SeriesStore> store_;
};
INSTANTIATE_TEST_SUITE_P(Both, SeriesTest, testing::Values(false, true),
                         [](const auto& info) { return info.param ? "Postgres" : "Memory"; });

TEST_P(SeriesTest, FindsByOwnerStepAndTime) {
  const std::string bytes("\x00\xff\x80 '\"\\", 7);
  const SeriesRow node{kNode, 10s, at(0s), bytes}, next{kNode, 10s, at(30min), "n2"},
      minute{kNode, 60s, at(0s), "m"}, attempt{kAttempt, 10s, at(0s), "a"}, later{kLater, 10s, at(0s), "l"};
  store_->add({});
  store_->add({next, attempt, later, minute, node});
  EXPECT_THAT(find({kNode}), ElementsAre(node, next));
  EXPECT_THAT(find({kAttempt, kNode}), ElementsAre(node, next, attempt)) << "by owner and time";
  EXPECT_THAT(find({kNode}, 0s, 30min), ElementsAre(node)) << "not until";
  EXPECT_THAT(find({kNode}, 1s), ElementsAre(next));
  EXPECT_THAT(find({kNode}, 0s, 24h, 60s), ElementsAre(minute));
  EXPECT_THAT(find({kNode, kAttempt, kLater}, 0s, 24h, 10s, 2), ElementsAre(node, next));
  EXPECT_THAT(find({series::of(NodeId(8))}), IsEmpty());
  EXPECT_THAT(find({}), IsEmpty());
}

TEST_P(SeriesTest, WhatComesLaterIsAppended) {
  store_->add({{kNode, 10s, at(0s), "a"}, {kAttempt, 10s, at(0s), "x"}});
  store_->add({{kNode, 10s, at(0s), "b"}, {kNode, 10s, at(30min), "c"}});
  EXPECT_THAT(find({kNode}),
              ElementsAre(SeriesRow{kNode, 10s, at(0s), "ab"}, SeriesRow{kNode, 10s, at(30min), "c"}));
  EXPECT_THAT(find({kAttempt}), ElementsAre(SeriesRow{kAttempt, 10s, at(0s), "x"}));
}

TEST_P(SeriesTest, SaysHowLongTheyAreTogether) {
  store_->add({{kNode, 10s, at(0s), std::string(70'000, 'x')}, {kNode, 10s, at(30min), "abc"}});
  store_->add({{kNode, 60s, at(0s), "m"}, {kAttempt, 10s, at(0s), "a"}});
  const auto bytes = [&](std::vector<series::Owner> owners, Duration until) {
    return store_->bytes({std::move(owners), 10s, at(0s), at(until)});
  };
  EXPECT_EQ(bytes({kNode}, 24h), 70'003);
  EXPECT_EQ(bytes({kNode}, 30min), 70'000);
  EXPECT_EQ(bytes({kNode, kAttempt}, 24h), 70'004);
  EXPECT_EQ(bytes({kLater}, 24h), 0);
}

TEST_P(SeriesTest, OldOnesAreForgottenInPiecesTierByTier) {
  for (int i = 0; i < 5; ++i)
    store_->add({{kNode, 10s, at(i * 30min), "x"}, {kNode, 60s, at(i * 30min), "y"}});
  EXPECT_TRUE(store_->forget(10s, at(90min), 2));
  EXPECT_FALSE(store_->forget(10s, at(90min), 2));
  EXPECT_EQ(find({kNode}).size(), 2u);
  EXPECT_EQ(find({kNode}, 0s, 24h, 60s).size(), 5u);
}

TEST_P(SeriesTest, ALongBodyComesBackWhole) {
  std::string body;
  for (int i = 0; i < 100'000; ++i) body += static_cast<char>(i * 7 + i / 256);
  store_->add({{kNode, 600s, at(0s), body}});
  const auto found = find({kNode}, 0s, 24h, 600s);
  ASSERT_EQ(found.size(), 1u);
  EXPECT_TRUE(found[0].body == body);
}

}  // namespace
}  // namespace tutti
