// Migrations: forward only, once each, and nothing half done.
#include "db/migrate/migrate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "tests/store/pg_fixture.h"

namespace tutti::db {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::ThrowsMessage;

class MigrateTest : public testing::Test {
 protected:
  test::TestDatabase database_ = test::TestPostgres::instance().create_empty_database();
  std::string where() const { return database_.connection_string(); }
  std::vector<Migration> two_ = {{1, "a", "CREATE TABLE a (x int)"}, {2, "b", "CREATE TABLE b (x int)"}};
};

TEST_F(MigrateTest, FreshDatabaseGetsEverythingAndASecondRunNothing) {
  const auto first = migrate(where());
  EXPECT_EQ(first.from, 0);
  EXPECT_EQ(first.to, static_cast<int>(embedded_migrations().size()));
  EXPECT_EQ(first.applied.size(), embedded_migrations().size());
  const auto second = migrate(where());
  EXPECT_EQ(second.from, first.to);
  EXPECT_THAT(second.applied, IsEmpty());
  EXPECT_THAT(database_.sql("SELECT name FROM queue UNION ALL SELECT name FROM project"),
              ElementsAre("default", "default"));
}

TEST_F(MigrateTest, PendingOnesAreNamedWithoutApplyingThem) {
  migrate(where(), {two_[0]});
  EXPECT_THAT(pending_migrations(where(), two_), ElementsAre("0002 b"));
  EXPECT_THAT(database_.sql("SELECT to_regclass('b') IS NULL"), ElementsAre("t"));
}

TEST_F(MigrateTest, EditedMigrationIsRefused) {
  migrate(where(), two_);
  auto edited = two_;
  edited[0].sql += " ";
  EXPECT_THAT([&] { migrate(where(), edited); },
              ThrowsMessage<MigrateError>(HasSubstr("0001 a was applied with another text")));
}

TEST_F(MigrateTest, NewerDatabaseIsRefused) {
  migrate(where(), two_);
  EXPECT_THAT([&] { migrate(where(), {two_[0]}); },
              ThrowsMessage<MigrateError>(HasSubstr("install the newer binary")));
}

TEST_F(MigrateTest, FailingMigrationLeavesNothingOfItselfAndKeepsEarlierOnes) {
  auto bad = two_;
  bad.push_back({3, "half", "CREATE TABLE half (x int); SELECT 1/0"});
  EXPECT_THAT([&] { migrate(where(), bad); },
              ThrowsMessage<MigrateError>(HasSubstr("0003 half failed and was rolled back")));
  EXPECT_THAT(database_.sql("SELECT to_regclass('half') IS NULL"), ElementsAre("t"));
  EXPECT_THAT(database_.sql("SELECT version FROM schema_migration ORDER BY 1"), ElementsAre("1", "2"));
  bad[2].sql = "CREATE TABLE half (x int)";
  EXPECT_THAT(migrate(where(), bad).applied, ElementsAre("0003 half"));
}

TEST_F(MigrateTest, TwoAtOnceApplyEachMigrationOnce) {
  std::vector<Migration> slow = {{1, "slow", "CREATE TABLE s (x int); SELECT pg_sleep(0.1)"}};
  MigrateResult results[2];
  std::thread other([&] { results[0] = migrate(where(), slow); });
  results[1] = migrate(where(), slow);
  other.join();
  EXPECT_EQ(results[0].applied.size() + results[1].applied.size(), 1U);
}

TEST_F(MigrateTest, UnreachableServerIsSaid) {
  EXPECT_THAT([] { migrate("host=/nonexistent dbname=x"); },
              ThrowsMessage<MigrateError>(HasSubstr("cannot migrate the database")));
}

}  // namespace
}  // namespace tutti::db
