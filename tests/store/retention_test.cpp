// History that is old enough goes, what has not ended stays, and no id comes twice for it.
#include "db/pg/pg_retention.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <libpq-fe.h>
#include <zlib.h>

#include <boost/json/parse.hpp>
#include <sstream>

#include "db/pg/pg_store.h"
#include "scheduler/service/history_archive.h"
#include "tests/store/pg_fixture.h"

namespace tutti::db {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

constexpr int kMost = 100;

class RetentionTest : public testing::Test {
 protected:
  test::TestDatabase database_ = test::TestPostgres::instance().create_database();
  PgRetention retention_{database_.connection_string()};

  static Instant at(const std::string& date) {
    std::istringstream in(date);
    int year = 0, month = 0, day = 0;
    char dash = 0;
    in >> year >> dash >> month >> dash >> day;
    return std::chrono::sys_days(std::chrono::year(year) / month / day);
  }
  void job(int id, const std::string& ended) {
    const std::string i = std::to_string(id);
    database_.sql("INSERT INTO job_spec VALUES (" + i + ", 'ann', 'x', '{}', '" + ended + "', 1)");
    database_.sql(
        "INSERT INTO job_done (id, created_at, queued_at, ended_at, epoch, best_step, version, nodes,"
        " gpus_per_node, attempt, exit_code, state, cause, priority, no_progress, front, queue, project, "
        "owner, reason)"
        " VALUES (" +
        i + ", '" + ended + "', '" + ended + "', '" + ended +
        "', 1, -1, 3, 1, 1, 1, 0, 8, 0, 50, 0, false, 'default', 'default', 'ann', '')");
    database_.sql(
        "INSERT INTO attempt (job, epoch, number, state, result, cause, detail, evidence_json, gang, "
        "resume_path,"
        " resume_step, last_step, exit_code, ended_at) VALUES (" +
        i +
        ", 1, 1, 6, 1, 0, '', '[]', '[]', '', -1, -1, 0,"
        " '" +
        ended + "')");
    database_.sql("INSERT INTO allocation VALUES (" + i + ", 1, 7, '" + ended + "', '" + ended + "')");
    database_.sql("INSERT INTO checkpoint (job, epoch, step, path, bytes, shards, at) VALUES (" + i +
                  ", 1, 1, '/c', 1, 1, '" + ended + "')");
  }
  // Jobs 1 to `most`, which never ran.
  void many_jobs(int most, const std::string& ended) {
    const std::string when = "'" + ended + "'",
                      ids = " FROM generate_series(1, " + std::to_string(most) + ") i";
    database_.sql("INSERT INTO job_spec SELECT i, 'ann', 'x', '{}', " + when + ", 1" + ids);
    database_.sql(
        "INSERT INTO job_done (id, created_at, queued_at, ended_at, epoch, best_step, version, nodes,"
        " gpus_per_node, attempt, exit_code, state, cause, priority, no_progress, front, queue, project, "
        "owner, reason) SELECT i, " +
        when + ", " + when + ", " + when +
        ", 0, -1, 3, 1, 1, 0, 0, 10, 0, 50, 0, false, 'default', 'default', 'ann', ''" + ids);
  }
  void event(int id, const std::string& when) {
    const std::string head = std::to_string(id) + ", '" + when + "', 1, ";
    database_.sql("INSERT INTO job_event VALUES (" + head + "NULL, NULL, 0, 'update', '', '', '')");
    database_.sql("INSERT INTO node_event VALUES (" + std::to_string(id + 1) + ", '" + when +
                  "', 1, NULL, 0, 'service', '', '', '')");
  }
  std::vector<std::string> ids(const std::string& table, const std::string& column = "id") {
    return database_.sql("SELECT " + column + " FROM " + table + " ORDER BY 1");
  }
};

TEST_F(RetentionTest, FinishedJobsGoWithAllThatIsToldOfThem) {
  job(1, "2020-01-10");
  job(2, "2020-03-10");
  const Forgotten gone = retention_.forget(at("2020-02-01"), kMost);
  EXPECT_EQ(gone.jobs, 1);
  EXPECT_FALSE(gone.more);
  for (const char* table : {"job_spec", "job_done"}) EXPECT_THAT(ids(table), ElementsAre("2")) << table;
  for (const char* table : {"attempt", "allocation", "checkpoint"})
    EXPECT_THAT(ids(table, "job"), ElementsAre("2")) << table;
}

TEST_F(RetentionTest, WhatHasNotEndedStaysHoweverOldItIs) {
  database_.sql("INSERT INTO job_spec VALUES (5, 'ann', 'x', '{}', '2001-01-01', 1)");
  database_.sql(
      "INSERT INTO job (id, created_at, queued_at, version, nodes, gpus_per_node, state, priority, queue, "
      "project, owner)"
      " VALUES (5, '2001-01-01', '2001-01-01', 1, 1, 1, 1, 50, 'default', 'default', 'ann')");
  retention_.forget(at("2020-02-01"), kMost);
  EXPECT_THAT(ids("job_spec"), ElementsAre("5"));
  EXPECT_THAT(ids("job"), ElementsAre("5"));
}

TEST_F(RetentionTest, ALittleAtATime) {
  for (int i = 1; i <= 5; ++i) job(i, "2020-01-1" + std::to_string(i));
  const Forgotten first = retention_.forget(at("2020-02-01"), 2);
  EXPECT_EQ(first.jobs, 2);
  EXPECT_TRUE(first.more);
  EXPECT_THAT(ids("job_done"), ElementsAre("3", "4", "5"));  // the oldest first
}

TEST_F(RetentionTest, AMonthOfEventsGoesAsAWholeWhenAllOfItIsOld) {
  for (const char* month : {"2020-01-15", "2020-03-15"})
    database_.sql(std::string("SELECT job_event_make_partitions('") + month + "')");
  event(10, "2020-01-20");
  event(20, "2020-03-20");
  EXPECT_EQ(retention_.forget(at("2020-01-31"), kMost).partition, "");  // its last day is still to be kept
  const Forgotten gone = retention_.forget(at("2020-02-01"), kMost);
  EXPECT_EQ(gone.partition, "job_event_202001");
  EXPECT_TRUE(gone.more);
  EXPECT_THAT(ids("job_event"), ElementsAre("20"));
  EXPECT_THAT(ids("node_event"), ElementsAre("21"));
}

TEST_F(RetentionTest, EventsWithoutAMonthOfTheirOwnGoRowByRow) {
  event(10, "2019-01-20");
  event(20, "2019-06-20");
  retention_.forget(at("2019-03-01"), kMost);
  EXPECT_THAT(ids("job_event"), ElementsAre("20"));
}

TEST_F(RetentionTest, AReaderOfEventsIsNotWaitedForAndKeepsNobodyWaiting) {
  database_.sql("SELECT job_event_make_partitions('2020-01-15')");
  PGconn* reader = PQconnectdb(database_.connection_string().c_str());
  PQclear(PQexec(reader, "BEGIN"));
  PQclear(PQexec(reader, "SELECT count(*) FROM job_event"));
  const auto began = std::chrono::steady_clock::now();
  EXPECT_EQ(retention_.forget(at("2021-01-01"), kMost).partition, "");
  EXPECT_LT(std::chrono::steady_clock::now() - began, std::chrono::seconds(5));
  PQclear(PQexec(reader, "COMMIT"));
  PQfinish(reader);
  EXPECT_EQ(retention_.forget(at("2021-01-01"), kMost).partition, "job_event_202001");
}

TEST_F(RetentionTest, NoIdComesTwiceThoughAllRowsAreGone) {
  job(41, "2020-01-10");
  event(500, "2020-01-10");
  database_.sql(
      "INSERT INTO fault (id, at, fault_class, xid, action, detail) VALUES (77, '2020-01-10', 'xid', 79, '', "
      "'')");
  retention_.forget(at("2020-02-01"), kMost);
  EXPECT_THAT(ids("job_spec"), IsEmpty());
  EXPECT_THAT(ids("fault"), IsEmpty());
  PgStore store(database_.connection_string());
  store.acquire_leadership("test");
  const Snapshot snapshot = store.load();
  EXPECT_EQ(snapshot.last_job, JobId(41));
  EXPECT_EQ(snapshot.last_event, EventId(501));
  EXPECT_EQ(snapshot.last_fault, FaultId(77));
}

class KeysTest : public RetentionTest {
 protected:
  void key(const std::string& name, const std::string& age) {
    database_.sql("INSERT INTO idempotency_key VALUES ('ann', '" + name + "', 1, 1, now() - interval '" +
                  age + "')");
  }
};

TEST_F(KeysTest, GoAWeekAfterTheyWereWrittenALittleAtATime) {
  for (const char* old : {"a", "b", "c"}) key(old, "8 days");
  key("young", "6 days");
  key("new", "1 minute");
  EXPECT_EQ(retention_.forget_keys(2), 2);
  EXPECT_EQ(retention_.forget_keys(2), 1);
  EXPECT_EQ(retention_.forget_keys(2), 0);
  EXPECT_THAT(ids("idempotency_key", "key"), ElementsAre("new", "young"));
}

TEST_F(KeysTest, OneThatIsDatedAheadEndsNoOther) {
  key("ahead", "-8 days");
  key("new", "1 minute");
  key("old", "8 days");
  EXPECT_EQ(retention_.forget_keys(kMost), 1);
  EXPECT_THAT(ids("idempotency_key", "key"), ElementsAre("ahead", "new"));
}

TEST_F(KeysTest, StayWhileNobodyWritesAny) {
  key("a", "30 days");
  key("b", "29 days");
  EXPECT_EQ(retention_.forget_keys(kMost), 0);
}

TEST_F(RetentionTest, TellsTheServersTime) {
  const Instant before = retention_.clock();
  const auto there =
      std::stoll(database_.sql("SELECT floor(extract(epoch FROM clock_timestamp()))::bigint")[0]);
  EXPECT_LE(std::chrono::floor<std::chrono::seconds>(before).time_since_epoch().count(), there);
  EXPECT_GT(std::chrono::floor<std::chrono::seconds>(before).time_since_epoch().count(), there - 60);
}

// What was archived of the rows above, packed and as JSON.
boost::json::array unpacked(const std::string& path) {
  boost::json::array out;
  gzFile file = gzopen(path.c_str(), "rb");
  if (file == nullptr) return out;
  std::string line(1 << 16, '\0');
  while (gzgets(file, line.data(), static_cast<int>(line.size())) != nullptr)
    out.push_back(boost::json::parse(line.c_str()));
  EXPECT_EQ(gzclose(file), Z_OK);
  return out;
}

TEST_F(RetentionTest, IsWrittenToFilesWholeBeforeItGoes) {
  database_.sql("SELECT job_event_make_partitions('2020-01-15')");
  for (int i = 1; i <= 5; ++i) job(i, "2020-01-1" + std::to_string(i));
  job(6, "2020-02-01");
  event(10, "2019-12-20");  // in no month of its own
  event(20, "2020-01-20");
  database_.sql(
      "INSERT INTO fault (id, at, fault_class, xid, action, detail) VALUES (77, '2020-01-10', 'xid', 79, '', "
      "'')");
  const test::TemporaryDirectory folder;
  HistoryArchive archive(std::make_shared<PgRetention>(database_.connection_string()),
                         {.directory = folder.path(), .page = 2});
  std::optional<Instant> written;
  while (!written) written = archive.advance(at("2020-02-20"));
  EXPECT_EQ(*written, at("2020-02-01"));

  const auto jobs = unpacked(folder.path() + "/2020-01-jobs.jsonl.gz");
  ASSERT_EQ(jobs.size(), 5U);
  const auto& first = jobs[0].as_object();
  EXPECT_EQ(first.at("id"), 1);
  EXPECT_EQ(first.at("state"), "succeeded");
  EXPECT_EQ(first.at("cause"), "none");
  EXPECT_EQ(first.at("spec").at("spec_json"), "{}");
  ASSERT_EQ(first.at("attempts").as_array().size(), 1U);
  EXPECT_EQ(first.at("attempts").at(0).at("result"), "succeeded");
  EXPECT_EQ(first.at("attempts").at(0).at("state"), "ended");
  EXPECT_EQ(first.at("allocations").at(0).at("gpu"), 7);
  EXPECT_EQ(first.at("checkpoints").at(0).at("state"), "found");
  EXPECT_EQ(jobs[4].at("id"), 5);
  EXPECT_EQ(unpacked(folder.path() + "/2020-01-events.jsonl.gz").at(0).at("id"), 20);
  EXPECT_EQ(unpacked(folder.path() + "/2019-12-events.jsonl.gz").at(0).at("id"), 10);
  EXPECT_EQ(unpacked(folder.path() + "/2020-01-node-events.jsonl.gz").at(0).at("id"), 21);
  EXPECT_EQ(unpacked(folder.path() + "/2020-01-faults.jsonl.gz").at(0).at("xid"), 79);
  EXPECT_THAT(unpacked(folder.path() + "/2020-02-jobs.jsonl.gz"), IsEmpty()) << "its month is not over";

  while (retention_.forget(*written, kMost).more) {
  }
  EXPECT_THAT(ids("job_done"), ElementsAre("6"));
  EXPECT_THAT(ids("job_event"), IsEmpty());
  EXPECT_THAT(ids("fault"), IsEmpty());
}

TEST_F(RetentionTest, APageOfJobsIsBoundedInNumberAndSize) {
  many_jobs(203, "2020-01-10");
  const auto page = [&](int after) {
    return retention_.read(HistoryPart::jobs, {at("2020-01-10"), after}, at("2020-01-11"), 2'000);
  };
  EXPECT_EQ(page(0).lines.size(), 200U);
  EXPECT_EQ(page(0).last.id, 200);
  EXPECT_EQ(page(200).lines.size(), 3U);
  EXPECT_THAT(page(203).lines, IsEmpty());

  database_.sql("UPDATE job_spec SET spec_json = repeat('x', 10000000) WHERE id > 200");
  EXPECT_EQ(page(200).lines.size(), 2U) << "the second brings it to its size";
  EXPECT_EQ(page(200).last.id, 202);
  EXPECT_EQ(page(202).lines.size(), 1U);
}

TEST_F(RetentionTest, SmallPagesOfJobsLoseNone) {
  many_jobs(203, "2020-01-10");
  const test::TemporaryDirectory folder;
  HistoryArchive archive(std::make_shared<PgRetention>(database_.connection_string()),
                         {.directory = folder.path()});
  std::optional<Instant> written;
  while (!written) written = archive.advance(at("2020-02-20"));
  EXPECT_EQ(unpacked(folder.path() + "/2020-01-jobs.jsonl.gz").size(), 203U);
}

TEST_F(RetentionTest, TheOldestOfAllIsNotOverlooked) {
  EXPECT_EQ(retention_.oldest(), std::nullopt);
  job(1, "2020-03-10");
  EXPECT_LE(*retention_.oldest(), at("2020-03-10"));
  event(10, "2019-06-20");
  EXPECT_LE(*retention_.oldest(), at("2019-06-20"));
}

// Every table is in one of these lists: whoever adds one says how its rows end.
TEST_F(RetentionTest, EveryTableHasABound) {
  const std::vector<std::string> all = database_.sql(
      "SELECT c.relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
      " WHERE n.nspname = 'public' AND c.relkind IN ('r', 'p') AND NOT c.relispartition ORDER BY 1");
  const std::vector<std::string> by_age{
      "allocation",     "attempt",          "audit",           "checkpoint",  "fault",      "idempotency_key",
      "job_done",       "job_event",        "job_spec",        "leader_term", "node_event", "series_block",
      "waiting_reason", "webhook_delivery", "console_session", "join_token",  "spec_text"};
  const std::vector<std::string> as_many_as_there_are{
      "account", "account_role",    "api_token", "gpu",   "job",         "job_array",
      "node",    "node_credential", "project",   "queue", "reservation", "schema_migration",
      "secret",  "webhook"};
  const std::vector<std::string> one_row{"account_revision", "history_known", "id_floor", "leader",
                                         "webhook_cursor"};
  std::vector<std::string> known;
  for (const auto* list : {&by_age, &as_many_as_there_are, &one_row})
    known.insert(known.end(), list->begin(), list->end());
  for (const auto& table : all)
    EXPECT_THAT(known, testing::Contains(table)) << "docs/backup.md says how each table is bounded";
}

}  // namespace
}  // namespace tutti::db
