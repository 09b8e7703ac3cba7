// Migrations: forward only, once each, and nothing half done.
#include "db/migrate/migrate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <libpq-fe.h>

#include <functional>
#include <optional>
#include <thread>

#include "tests/store/pg_fixture.h"

// libpqxx 6 forgets the last answer of a session that is lost in the middle of a statement.
extern "C" const char* __lsan_default_suppressions();
extern "C" const char* __lsan_default_suppressions() { return "leak:libpqxx"; }

namespace tutti::db {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::ThrowsMessage;

class MigrateTest : public testing::Test {
 protected:
  test::TestDatabase database_ = test::TestPostgres::instance().create_empty_database();
  std::string where() const { return database_.connection_string(); }
  std::vector<Migration> two_ = {{1, "a", "CREATE TABLE a (x int)"}, {2, "b", "CREATE TABLE b (x int)"}};
};

class Session {
 public:
  explicit Session(const std::string& where) : session_(PQconnectdb(where.c_str())) {}
  ~Session() { PQfinish(session_); }
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;
  void run(const std::string& text) const {
    PGresult* result = PQexec(session_, text.c_str());
    const auto status = PQresultStatus(result);
    EXPECT_TRUE(status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK) << PQerrorMessage(session_);
    PQclear(result);
  }

 private:
  PGconn* session_;
};

// Somebody reads a table in a transaction that does not end.
class LockedTable {
 public:
  LockedTable(const std::string& where, const std::string& table) : session_(where) {
    session_.run("BEGIN");
    session_.run("LOCK TABLE " + table + " IN ACCESS SHARE MODE");
  }
  void let_go() const { session_.run("COMMIT"); }

 private:
  Session session_;
};

// Statistics of the server come a moment later; it is asked again until then.
bool comes_true(const std::function<bool()>& holds) {
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (!holds()) {
    if (std::chrono::steady_clock::now() > until) return false;
    std::this_thread::yield();
  }
  return true;
}

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

TEST_F(MigrateTest, ADatabaseOneVersionNewerIsLeftAsItIs) {
  migrate(where(), two_);
  const auto older = migrate(where(), {two_[0]});
  EXPECT_EQ(older.to, 2) << "which tells the one that asks";
  EXPECT_THAT(older.applied, IsEmpty());
  EXPECT_THAT(pending_migrations(where(), {two_[0]}), IsEmpty());
  auto edited = two_[0];
  edited.sql += " ";
  EXPECT_THAT([&] { migrate(where(), {edited}); }, ThrowsMessage<SchemaRefused>(HasSubstr("another text")));
}

TEST_F(MigrateTest, ADatabaseTwoVersionsNewerIsRefused) {
  auto three = two_;
  three.push_back({3, "c", "CREATE TABLE c (x int)"});
  migrate(where(), three);
  EXPECT_THAT([&] { migrate(where(), {two_[0]}); },
              ThrowsMessage<SchemaRefused>(
                  AllOf(HasSubstr("is at schema version 3, this binary knows 1 and serves 2"),
                        HasSubstr("install the newer binary"))));
}

// As the session of a scheduler does (db/pg/pg_store.cpp; tests/store/pg_store_test.cpp has the real one).
TEST_F(MigrateTest, TheSchemaGoesOneVersionPastWhatAConnectedSchedulerKnows) {
  auto three = two_;
  three.push_back({3, "c", "CREATE TABLE c (x int)"});
  migrate(where(), {two_[0]});
  std::optional<Session> scheduler(std::in_place, where());
  scheduler->run("SELECT pg_advisory_lock_shared(73812044, 1)");
  EXPECT_THAT([&] { migrate(where(), three); },
              ThrowsMessage<SchemaRefused>(
                  AllOf(HasSubstr("knows schema version 1 is connected, and serves 2 at most"),
                        HasSubstr("would make it version 3"))));
  EXPECT_THAT(database_.sql("SELECT max(version) FROM schema_migration"), ElementsAre("1"))
      << "not half of it either";
  EXPECT_THAT(migrate(where(), two_).applied, ElementsAre("0002 b"));
  EXPECT_THAT([&] { migrate(where(), three); }, ThrowsMessage<SchemaRefused>(HasSubstr("is connected")));
  scheduler.reset();
  EXPECT_TRUE(comes_true([&] {
    return database_.sql(
               "SELECT count(*) FROM pg_locks WHERE classid = 73812044 AND locktype = 'advisory'")[0] == "0";
  }));
  EXPECT_THAT(migrate(where(), three).applied, ElementsAre("0003 c"));
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

TEST_F(MigrateTest, WaitsForALockInTurnsAndGoesOnWhenItIsFree) {
  migrate(where(), {two_[0]});
  std::vector<Migration> locking = {two_[0], {2, "b", "ALTER TABLE a ADD y int"}};
  const LockedTable reader(where(), "a");
  MigrateResult result;
  std::exception_ptr failure;
  std::thread other([&] {
    try {
      result = migrate(where(), locking, {.lock = std::chrono::milliseconds(50)});
    } catch (...) {
      failure = std::current_exception();
    }
  });
  // It has been refused once: what it had begun is rolled back, and so is to be seen as an aborted
  // transaction.
  EXPECT_TRUE(comes_true([&] {
    return database_.sql(
               "SELECT xact_rollback > 0 FROM pg_stat_database WHERE datname = current_database()")[0] == "t";
  }));
  reader.let_go();
  other.join();
  EXPECT_EQ(failure, nullptr);
  EXPECT_THAT(result.applied, ElementsAre("0002 b"));
}

TEST_F(MigrateTest, SaysWhoHoldsTheTableWhenTimeIsUp) {
  migrate(where(), {two_[0]});
  std::vector<Migration> locking = {two_[0], {2, "b", "CREATE TABLE half (x int); ALTER TABLE a ADD y int"}};
  const LockedTable reader(where() + " application_name=an-analyst", "a");
  EXPECT_THAT(
      [&] {
        migrate(where(), locking,
                {.lock = std::chrono::milliseconds(20), .all = std::chrono::milliseconds(300)});
      },
      ThrowsMessage<MigrateError>(AllOf(HasSubstr("0002 b failed and was rolled back: a table is in use"),
                                        HasSubstr("an-analyst"), HasSubstr("pg_terminate_backend"))));
  EXPECT_THAT(database_.sql("SELECT to_regclass('half') IS NULL"), ElementsAre("t"));
  EXPECT_THAT(database_.sql("SELECT version FROM schema_migration"), ElementsAre("1"));
}

// The server loses the session in the middle of a migration: nothing of it is there, and the next start does
// it all.
TEST_F(MigrateTest, LosingTheSessionHalfWayLeavesNothingAndTheNextStartGoesOn) {
  auto dying = two_;
  dying.push_back({3, "half", "CREATE TABLE half (x int); SELECT pg_terminate_backend(pg_backend_pid())"});
  EXPECT_THAT([&] { migrate(where(), dying); }, ThrowsMessage<MigrateError>(HasSubstr("0003 half")));
  EXPECT_THAT(database_.sql("SELECT to_regclass('half') IS NULL"), ElementsAre("t"));
  EXPECT_THAT(database_.sql("SELECT version FROM schema_migration ORDER BY 1"), ElementsAre("1", "2"));
  dying[2].sql = "CREATE TABLE half (x int)";
  EXPECT_THAT(migrate(where(), dying).applied, ElementsAre("0003 half"));
}

// The rows of the cluster stand aside, and what would take their place never came.
TEST_F(MigrateTest, SchemaThatARestoreLeftEmptyIsNotFilled) {
  migrate(where(), two_);
  database_.sql("ALTER SCHEMA public RENAME TO tutti_replaced");
  database_.sql("CREATE SCHEMA public");
  const auto refused = ThrowsMessage<MigrateError>(
      AllOf(HasSubstr("a restore was cut off: run it again"), HasSubstr("tutti restore BACKUP --replace")));
  EXPECT_THAT([&] { migrate(where(), two_); }, refused);
  EXPECT_THAT([&] { pending_migrations(where(), two_); }, refused);
  EXPECT_THAT(database_.sql("SELECT to_regclass('schema_migration') IS NULL"), ElementsAre("t"));
  database_.sql("DROP SCHEMA public");
  database_.sql("ALTER SCHEMA tutti_replaced RENAME TO public");
  EXPECT_THAT(migrate(where(), two_).applied, IsEmpty());
}

TEST_F(MigrateTest, PasswordOfAStringThatCannotBeReadIsNotSaid) {
  EXPECT_THAT([] { migrate("postgresql://u:s3cr%zzet@h/d"); },
              ThrowsMessage<MigrateError>(AllOf(HasSubstr("cannot be read"), Not(HasSubstr("s3cr")))));
}

TEST_F(MigrateTest, UnreachableServerIsSaid) {
  EXPECT_THAT([] { migrate("host=/nonexistent dbname=x"); },
              ThrowsMessage<MigrateError>(HasSubstr("cannot migrate the database")));
}

}  // namespace
}  // namespace tutti::db
