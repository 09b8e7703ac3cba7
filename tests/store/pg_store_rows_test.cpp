// What PostgreSQL makes of rows: values that a hand has written, bytes that are no text, partitions, and the
// sessions that read them.
#include <future>

#include "db/pg/connection.h"
#include "db/pg/pg_reader.h"
#include "db/pg/pg_store.h"
#include "tests/store/pg_store_rig.h"

namespace tutti {
namespace {

// A dump reads the history in the moment in which the next months' partitions are to be made.
TEST_F(PgStoreTest, AMonthThatCouldNotGetItsPartitionGetsItWhenNobodyReads) {
  db::PgStore store(options());
  store.acquire_leadership("a");
  const auto months = [&](const char* month) {
    return database_.sql(std::string("SELECT to_regclass('job_event_") + month + "') IS NOT NULL").at(0) ==
           "t";
  };
  const auto event_at = [](std::int64_t id, Instant when) {
    Batch b;
    EventRow& event = b.events.emplace_back();
    event.id = EventId(id);
    event.at = when;
    event.node = NodeId(1);
    event.kind = "node";
    event.to = "reachable";
    return b;
  };
  const Instant late = std::chrono::sys_days(std::chrono::year(2099) / 3 / 25);
  RowLock dump(database_.connection_string(), "SELECT FROM job_event");
  store.commit(event_at(1, late));
  EXPECT_FALSE(months("209904"));
  store.commit(event_at(2, late + std::chrono::minutes(1)));  // not with each commit
  dump.release();
  store.commit(event_at(3, late + std::chrono::minutes(2)));
  EXPECT_FALSE(months("209904"));
  store.commit(event_at(4, late + std::chrono::hours(1)));
  EXPECT_TRUE(months("209904"));
}

// From before the constraints: a hand has written numbers where texts belong, and no number where one does.
TEST_F(PgStoreTest, OddValuesOfOtherTablesDoNotStopALoad) {
  database_.sql(
      "ALTER TABLE node DROP CONSTRAINT node_labels_are_texts;"
      "ALTER TABLE project DROP CONSTRAINT project_weight_is_a_number;"
      "ALTER TABLE reservation DROP CONSTRAINT reservation_names_are_texts;"
      "INSERT INTO node (id, name, queue, address, boot_id, worker_version, state, service, service_reason, "
      "cpus, "
      "memory_bytes, kill_mode, driver, simulated_gpus, labels) VALUES "
      "(1, 'n', 'default', '', '', '', 1, 1, '', 1, 1, '', '', true, '{\"rack\": 7, \"zone\": \"a\"}');"
      "UPDATE project SET weight = 'NaN';"
      "INSERT INTO reservation (name, reason, nodes, projects, from_at, until_at) VALUES "
      "('r', '', '[\"n\", 2]', '[]', now(), now() + interval '1 hour');"
      "INSERT INTO project (name, weight) VALUES ('least', 1e-310)");
  // Deeper than our parser goes.
  const std::string deep = std::string(40, '[') + std::string(40, ']');
  database_.sql(
      "INSERT INTO node SELECT 2, 'deep', queue, address, boot_id, worker_version, state, service, "
      "service_reason, cpus, memory_bytes, kill_mode, driver, simulated_gpus, '{\"a\": " +
      deep +
      "}' FROM node;"
      "UPDATE reservation SET projects = '" +
      deep + "'");
  const Snapshot s = db::PgStore(options()).load();
  ASSERT_THAT(s.nodes, SizeIs(2));
  EXPECT_THAT(s.nodes[1].labels, IsEmpty());
  EXPECT_EQ(s.nodes[0].labels, (std::map<std::string, std::string>{{"rack", "7"}, {"zone", "a"}}));
  for (const auto& project : s.projects) EXPECT_EQ(project.weight, 1);
  ASSERT_THAT(s.reservations, SizeIs(1));
  EXPECT_THAT(s.reservations[0].nodes, ElementsAre("n", "2"));
  EXPECT_THAT(s.reservations[0].projects, IsEmpty());
}

TEST_F(PgStoreTest, BytesThatAreNoTextDoNotSpoilABatch) {
  db::PgStore store(options());
  store.acquire_leadership("a");
  Batch b = submission(1);
  b.new_jobs[0].reason = std::string("a\0b\xFF\xC3", 5);
  b.attempts = {full_attempt(1, 1)};
  b.attempts[0].gang[0].how = std::string("x\0\x80", 3);
  store.commit(b);
  const Snapshot s = store.load();
  EXPECT_EQ(s.jobs[0].reason, "a\uFFFDb\uFFFD\uFFFD");
  EXPECT_EQ(s.attempts[0].gang[0].how, "x\uFFFD\uFFFD");
}

// Whatever there is: it is the retention that forgets them, so that nobody waits for it.
TEST_F(PgStoreTest, TakingTheLeadForgetsNoKeys) {
  db::PgStore store(options());
  store.acquire_leadership("a");
  for (int day : {0, 1, 8}) {
    Batch b = submission(day + 1);
    b.new_specs[0].idempotency_key = "k" + std::to_string(day);
    b.new_specs[0].created_at = at(day * 86400);
    store.commit(b);
  }
  store.acquire_leadership("a");
  EXPECT_THAT(database_.sql("SELECT key FROM idempotency_key ORDER BY 1"), ElementsAre("k0", "k1", "k8"));
}

TEST_F(PgStoreTest, EventsGoToThePartitionOfTheirMonth) {
  db::PgStore store(options());
  store.acquire_leadership("a");
  Batch b;
  const auto now = std::chrono::floor<Duration>(std::chrono::system_clock::now());
  b.events = {event(1, 1, "", "queued"), event(2, 1, "queued", "held"), event(3, 1, "held", "queued")};
  b.events[0].at = now;
  store.commit(b);  // the month that was prepared when it took office …
  b.events = {event(2, 1, "queued", "held")};
  b.events[0].at = now + std::chrono::days(400);  // … and one that is made on the way
  store.commit(b);
  EXPECT_THAT(database_.sql("SELECT count(*) FROM job_event_default"), ElementsAre("2"))
      << "the two events of `at()`, whose month nobody prepared";
  EXPECT_THAT(database_.sql("SELECT count(*) FROM job_event"), ElementsAre("4"));
}

TEST_F(PgStoreTest, ReaderSurvivesARestartOfItsSessions) {
  db::PgStore store(options());
  store.acquire_leadership("a");
  store.commit(submission(1));
  db::PgReader reader(database_.connection_string());
  EXPECT_TRUE(reader.find_job(JobId(1)));
  database_.sql(
      "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = 'tutti-reader' "
      "AND datname = current_database()");
  EXPECT_TRUE(reader.find_job(JobId(1)));
}

TEST_F(PgStoreTest, ReadersShareABoundedPool) {
  db::PgStore store(options());
  store.acquire_leadership("a");
  store.commit(submission(1));
  db::PgReaderOptions o;
  o.connection_string = database_.connection_string();
  o.max_connections = 2;
  db::PgReader reader(o);
  std::vector<std::future<int>> threads;
  for (int t = 0; t < 6; ++t)
    threads.push_back(std::async(std::launch::async, [&] {
      int found = 0;
      for (int i = 0; i < 30; ++i) found += reader.find_job(JobId(1)).has_value();
      return found;
    }));
  for (auto& t : threads) EXPECT_EQ(t.get(), 30);
  EXPECT_THAT(
      database_.sql("SELECT count(*) <= 2 FROM pg_stat_activity WHERE application_name = 'tutti-reader' AND "
                    "datname = current_database()"),
      ElementsAre("t"));
}

TEST(Params, ArraysRoundTripThroughTheServer) {
  const TestDatabase database = TestPostgres::instance().create_empty_database();
  db::Connection c({database.connection_string(), "test", ""});
  const std::vector<std::optional<std::string>> texts = {"", kNastyText, std::nullopt, "NULL", "{}"};
  const std::vector<std::optional<std::string>> none;
  db::Params params;
  params.column(texts, [](const auto& t) { return t; }).column(none, [](const auto& t) { return t; });
  const db::Result r = c.run({"", "SELECT x, cardinality($2::text[]) FROM unnest($1::text[]) x"}, &params,
                             steady_clock::now() + std::chrono::seconds(5));
  ASSERT_EQ(r.rows(), 5);
  for (int i = 0; i < 5; ++i) {
    db::RowReader row(r, i);
    EXPECT_EQ(row.bytes_or_null(), texts[static_cast<std::size_t>(i)]);
    EXPECT_EQ(row.integer(), 0);
  }
}

TEST(Params, TextIsValidUtf8WithoutNul) {
  for (const char* good : {"", "a", "é", "漢", "\xF0\x9F\x8E\xBB", "\xEF\xBF\xBD"})
    EXPECT_TRUE(db::is_clean_text(good));
  for (std::string bad :
       {std::string("\0", 1), std::string("\x80"), std::string("\xC3"), std::string("\xC0\x80"),
        std::string("\xED\xA0\x80"), std::string("\xF4\x90\x80\x80"), std::string("\xE0\x80\x80")}) {
    EXPECT_FALSE(db::is_clean_text(bad));
    EXPECT_TRUE(db::is_clean_text(db::clean_text(bad)));
  }
}

}  // namespace
}  // namespace tutti
