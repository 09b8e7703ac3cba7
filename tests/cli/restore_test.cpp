// Rows after a restore, and what of a connection string is refused. The whole way is
// tests/python/backup_test.py.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <pqxx/pqxx>

#include "cli/backup_site.h"
#include "cli/failure.h"
#include "cli/restore_rows.h"
#include "tests/store/pg_fixture.h"

namespace tutti::cli {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

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

// Of tasks without rows of their own the epochs rise too, and their ids are not given again.
TEST(RestoreRows, WaitingTasksOfAnArrayStayOneRow) {
  const auto database = test::TestPostgres::instance().create_database();
  database.sql("DELETE FROM leader");
  database.sql(
      "INSERT INTO job_array (id, last, waiting, created_at, queued_at, nodes, gpus_per_node, state, "
      "priority, queue,"
      " project, owner, reason, name, text_format, first_index, index_step, first_position, first_event, "
      "last_event,"
      " event_at, event_to, event_cause, event_detail)"
      " VALUES (11, 30, '{[11,15),[20,31)}', now(), now(), 1, 1, 1, 50, 'default', 'default', 'ann', '', "
      "'sweep',"
      " '%1$s', 0, 1, 0, 101, 120, now(), 'queued', 0, 'submitted')");
  pqxx::connection session(database.connection_string());
  const RestoreResult result =
      raise_above_the_past(session, {.taken_at = "2026-11-01 00:00:00+00", .term = 1000});
  EXPECT_EQ(result.jobs, 15);
  EXPECT_EQ(result.next_job, 30 + kJobGap + 1);
  EXPECT_THAT(database.sql("SELECT count(*) FROM job_folded WHERE epoch = " + std::to_string(kEpochGap)),
              ElementsAre("15"));
  EXPECT_THAT(database.sql("SELECT event >= 120 + " + std::to_string(kEventGap) + " FROM id_floor"),
              ElementsAre("t"));
}

std::string refusal_of(const std::string& db) {
  try {
    const BackupSite site({.data = "", .db = db}, BackupSite::For::reading);
  } catch (const Failure& e) {
    return e.what();
  }
  return "";
}

TEST(BackupSite, TellsNoPasswordOfAConnectionStringThatItCannotRead) {
  for (const char* text : {"postgresql://u:s3cr%zzet@h/d", "postgresql://u:pw@[s3cr/d",
                           "password=two s3cr host=h", "u:s3cr@h/d"}) {
    EXPECT_THAT(refusal_of(text), HasSubstr("cannot be read")) << text;
    EXPECT_THAT(refusal_of(text), Not(HasSubstr("s3cr"))) << text;
  }
  EXPECT_THAT(refusal_of("hots=h"), HasSubstr("hots")) << "what is no secret is quoted";
}

TEST(BackupSite, PutsNoPasswordOnACommandLine) {
  EXPECT_THAT(refusal_of("host=h sslpassword=s3cr"), AllOf(HasSubstr("sslpassword"), Not(HasSubstr("s3cr"))));
  EXPECT_EQ(refusal_of("host=h password=s3cr"), "");
  EXPECT_EQ(without_password("host=h password=s3cr"), "host='h'");
}

}  // namespace
}  // namespace tutti::cli
