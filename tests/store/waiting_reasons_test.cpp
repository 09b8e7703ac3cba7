// One suite, two stores: what was recorded of why jobs waited.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <optional>

#include "db/memory/memory_waiting_reasons.h"
#include "db/pg/pg_waiting_reasons.h"
#include "tests/store/pg_fixture.h"

namespace tutti {
namespace {

Instant at(int seconds) { return Instant(std::chrono::seconds(1'800'000'000 + seconds)); }

class WaitingReasonsTest : public testing::TestWithParam<bool> {
 protected:
  WaitingReasonsTest() {
    if (GetParam()) {
      database_.emplace(test::TestPostgres::instance().create_database());
      store_ = std::make_unique<db::PgWaitingReasons>(database_->connection_string());
    } else {
      store_ = std::make_unique<db::MemoryWaitingReasons>();
    }
  }
  std::string body(int job, int seconds) {
    const auto row = store_->find(JobId(job), at(seconds));
    return row ? row->body : "none";
  }
  std::optional<test::TestDatabase> database_;
  std::unique_ptr<WaitingReasonStore> store_;
};
INSTANTIATE_TEST_SUITE_P(Both, WaitingReasonsTest, testing::Values(false, true),
                         [](const auto& info) { return info.param ? "Postgres" : "Memory"; });

TEST_P(WaitingReasonsTest, TheNewestThatIsNotLaterOfThatJobOnly) {
  store_->add({});
  store_->add({{JobId(7), at(10), "a"}, {JobId(7), at(20), "b \"ü\n"}, {JobId(8), at(15), "c"}});
  EXPECT_EQ(body(7, 9), "none");
  EXPECT_EQ(body(7, 10), "a");
  EXPECT_EQ(body(7, 19), "a");
  EXPECT_EQ(body(7, 1000), "b \"ü\n");
  EXPECT_EQ(body(8, 1000), "c");
  EXPECT_EQ(body(9, 1000), "none");
  const auto row = store_->find(JobId(7), at(30));
  ASSERT_TRUE(row);
  EXPECT_EQ(row->at, at(20));
  EXPECT_EQ(row->job, JobId(7));
}

TEST_P(WaitingReasonsTest, WhatIsThereStays) {
  store_->add({{JobId(7), at(10), "a"}});
  store_->add({{JobId(7), at(10), "other"}, {JobId(7), at(11), "b"}});
  EXPECT_EQ(body(7, 10), "a");
  EXPECT_EQ(body(7, 11), "b");
}

TEST_P(WaitingReasonsTest, OldOnesAreForgottenInPieces) {
  for (int i = 0; i < 5; ++i) store_->add({{JobId(i + 1), at(i), "x"}});
  EXPECT_TRUE(store_->forget(at(3), 2));
  EXPECT_FALSE(store_->forget(at(3), 2));
  EXPECT_EQ(body(3, 100), "none");
  EXPECT_EQ(body(4, 100), "x");
}

}  // namespace
}  // namespace tutti
