// Rows after a restore, and what of a connection string is refused. The whole way is tests/python/backup_test.py.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <pqxx/pqxx>

#include "cli/restore_rows.h"
#include "tests/store/pg_fixture.h"

namespace tutti::cli {
namespace {

using testing::ElementsAre;

// With the secret of production, a scheduler of a drill would end the leader of production by a word.
TEST(RestoreRows, NoLeaderOfBeforeIsReachedButItsTimeIsStillWaitedFor) {
  const auto database = test::TestPostgres::instance().create_database();
  database.sql(
      "INSERT INTO leader_term (term, holder, url, instance, key_print, renews_us, began_at)"
      " VALUES (3, 'production', 'http://production:7070', 'i', 'k', 600000000, now())");
  database.sql("DELETE FROM leader");
  pqxx::connection session(database.connection_string());
  raise_above_the_past(session, {.taken_at = "2026-11-01 00:00:00+00", .term = 1000});
  EXPECT_THAT(database.sql("SELECT term FROM leader"), ElementsAre("1000"));
  EXPECT_THAT(database.sql("SELECT url = '' AND over_at IS NULL AND renews_us = 600000000 FROM leader_term"),
              ElementsAre("t"));
}

}  // namespace
}  // namespace tutti::cli
