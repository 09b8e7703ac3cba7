// What only PostgreSQL can do to a store: cut it off in the middle of a COMMIT, make it wait, end its
// session.
#include "db/pg/pg_store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <future>

#include "db/pg/connection.h"
#include "db/pg/pg_reader.h"
#include "tests/store/cutting_proxy.h"
#include "tests/store/pg_fixture.h"
#include "tests/store/row_equality.h"
#include "tests/store/rows.h"

namespace tutti {
namespace {

using namespace tutti::test;
using std::chrono::milliseconds;
using std::chrono::steady_clock;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;

class PgStoreTest : public testing::Test {
 protected:
  db::PgStoreOptions options() const {
    db::PgStoreOptions o;
    o.connection_string = database_.connection_string();
    o.leadership_wait = milliseconds(500);
    return o;
  }
  static StoreError::Kind kind_of(const std::function<void()>& call) {
    try {
      call();
    } catch (const StoreError& e) {
      return e.kind;
    }
    ADD_FAILURE() << "no error";
    return StoreError::corrupt;
  }
  // Asks again until the query says so; a signal for "the server has come to …" does not exist.
  void wait_until_sql(const std::string& query) {
    const auto until = steady_clock::now() + std::chrono::seconds(10);
    while (database_.sql(query) != std::vector<std::string>{"t"})
      if (steady_clock::now() > until) FAIL() << "never true: " << query;
  }

  TestDatabase database_ = TestPostgres::instance().create_database();
};

// Another session that holds a row until it is destroyed.
class RowLock {
 public:
  RowLock(const std::string& connection_string, const std::string& statement)
      : connection_({connection_string, "locker", ""}) {
    connection_.run_script("BEGIN; " + statement, steady_clock::now() + std::chrono::seconds(5));
  }
  void release() { connection_.run_script("COMMIT", steady_clock::now() + std::chrono::seconds(5)); }

 private:
  db::Connection connection_;
};

TEST_F(PgStoreTest, RaisedTermDeposesALeaderWhoseSessionLives) {
  db::PgStore store(options());
  store.acquire_leadership("a");
  database_.sql("UPDATE leader SET term = term + 1");
  EXPECT_EQ(kind_of([&] { store.commit(submission(1)); }), StoreError::deposed);
  EXPECT_THAT(database_.sql("SELECT id FROM job_spec"), IsEmpty());
}

TEST_F(PgStoreTest, ASchemaMoreThanOneVersionNewerIsNotLed) {
  const int newest = std::stoi(database_.sql("SELECT max(version) FROM schema_migration").at(0));
  auto knows = options();
  knows.schema = newest - 1;
  db::PgStore older(knows);
  older.acquire_leadership("older");
  older.commit(submission(1));
  EXPECT_TRUE(older.load().newer_schema);
  EXPECT_THAT(database_.sql("SELECT objid FROM pg_locks WHERE locktype = 'advisory' AND classid = 73812044"),
              ElementsAre(std::to_string(newest - 1)));
  knows.schema = newest - 2;
  db::PgStore too_old(knows);
  EXPECT_EQ(kind_of([&] { too_old.acquire_leadership("too old"); }), StoreError::outdated)
      << "not even to wait for the lead";
  // The schema has gone on when the session comes back.
  database_.sql("INSERT INTO schema_migration VALUES (" + std::to_string(newest + 1) + ", 'next', '')");
  database_.sql("SELECT pg_terminate_backend(" + std::to_string(older.backend_pid()) + ", 5000)");
  EXPECT_EQ(kind_of([&] { too_old.acquire_leadership("too old"); }), StoreError::outdated);
  EXPECT_EQ(kind_of([&] { older.load(); }), StoreError::outdated);
  EXPECT_THAT(database_.sql("SELECT term::text FROM leader"), ElementsAre("1"));
  db::PgStore next(options());
  EXPECT_EQ(next.acquire_leadership("next"), Term(2)) << "the lock is free";
  EXPECT_FALSE(next.load().newer_schema) << "of one that does not say what it knows";
}

TEST_F(PgStoreTest, AProofIsARowThatIsWritten) {
  db::PgStore store(options());
  store.acquire_leadership("a");
  const auto proven = [&] {
    return database_.sql("SELECT count(*)::text FROM leader_term WHERE term = 1 AND proven_at IS NOT NULL");
  };
  EXPECT_TRUE(store.healthy());
  EXPECT_THAT(proven(), ElementsAre("0")) << "a read says nothing";
  store.prove_leadership();
  EXPECT_THAT(proven(), ElementsAre("1"));
  database_.sql("UPDATE leader SET term = term + 1");
  EXPECT_EQ(kind_of([&] { store.prove_leadership(); }), StoreError::deposed);
}

// As a primary that has been demoted, or that was replaced and has not been told: it answers.
TEST_F(PgStoreTest, WhoCanOnlyReadHasNotProvenThatItLeads) {
  db::PgStore store(options());
  store.acquire_leadership("a");
  database_.sql("ALTER DATABASE " + database_.name() + " SET default_transaction_read_only = on");
  database_.sql("SELECT pg_terminate_backend(" + std::to_string(store.backend_pid()) + ", 5000)");
  EXPECT_EQ(kind_of([&] { store.load(); }), StoreError::unavailable) << "its rows can be read";
  EXPECT_EQ(kind_of([&] { store.prove_leadership(); }), StoreError::unavailable);
}

// With synchronous replication the COMMIT of a server that goes on alone never ends.
TEST_F(PgStoreTest, AProofThatTheNetworkSwallowsEndsAtItsDeadline) {
  CuttingProxy proxy(TestPostgres::instance().socket_path());
  auto o = options();
  o.connection_string = proxy.connection_string(database_.name());
  o.commit_timeout = milliseconds(700);
  db::PgStore store(o);
  store.acquire_leadership("a");
  proxy.cut_at_next_commit(CuttingProxy::Cut::silence);
  EXPECT_EQ(kind_of([&] { store.prove_leadership(); }), StoreError::in_doubt);
  EXPECT_EQ(kind_of([&] { store.prove_leadership(); }), StoreError::unavailable) << "its session is gone";
  store.load();
  store.prove_leadership();
}

TEST_F(PgStoreTest, FormerTermsAreForgottenWhenNobodyWaitsForThemAnyMore) {
  {
    db::PgStore store(options());
    store.acquire_leadership("a");
  }
  database_.sql(
      "DELETE FROM leader_term; UPDATE leader SET term = 2000;"
      " INSERT INTO leader_term (term, holder, url, instance, key_print, renews_us, began_at, over_at) VALUES"
      " (1, 'crashed 1', '', '', '', 0, now() - interval '9 days', now() - interval '8 days'),"
      " (1500, 'of long ago', '', '', '', 0, now() - interval '500 days', now() - interval '401 days'),"
      " (1501, 'over', '', '', '', 0, now() - interval '100 days', now() - interval '99 days'),"
      " (1502, 'lost', '', '', '', 600000000, now() - interval '99 days', NULL),"
      " (1503, 'lost, long R', '', '', '', 604800000000, now() - interval '11 days', NULL),"
      " (1504, 'lost lately', '', '', '', 600000000, now() - interval '10 days', NULL),"
      " (1999, 'last', '', '', '', 0, now() - interval '3 days', now() - interval '2 days')");
  db::PgStore store(options());
  EXPECT_EQ(store.acquire_leadership("b"), Term(2001));
  EXPECT_THAT(database_.sql("SELECT term::text FROM leader_term ORDER BY term"),
              ElementsAre("1501", "1503", "1504", "1999", "2001"));
}

TEST_F(PgStoreTest, CutBeforeTheServerHeardIsInDoubtAndNotApplied) {
  CuttingProxy proxy(TestPostgres::instance().socket_path());
  auto o = options();
  o.connection_string = proxy.connection_string(database_.name());
  db::PgStore store(o);
  store.acquire_leadership("a");
  store.commit(submission(1));
  proxy.cut_at_next_commit(CuttingProxy::Cut::before_server);
  EXPECT_EQ(kind_of([&] { store.commit(submission(2)); }), StoreError::in_doubt);
  EXPECT_EQ(kind_of([&] { store.commit(submission(2)); }), StoreError::unavailable);
  EXPECT_THAT(store.load().jobs, ElementsAre(job(1)));
  store.commit(submission(2));
}

TEST_F(PgStoreTest, CutAfterTheServerCommittedIsInDoubtAndApplied) {
  CuttingProxy proxy(TestPostgres::instance().socket_path());
  auto o = options();
  o.connection_string = proxy.connection_string(database_.name());
  db::PgStore store(o);
  store.acquire_leadership("a");
  proxy.cut_at_next_commit(CuttingProxy::Cut::after_server);
  EXPECT_EQ(kind_of([&] { store.commit(submission(1)); }), StoreError::in_doubt);
  EXPECT_THAT(store.load().jobs, ElementsAre(job(1)));
}

TEST_F(PgStoreTest, SilentNetworkEndsAtTheDeadline) {
  CuttingProxy proxy(TestPostgres::instance().socket_path());
  auto o = options();
  o.connection_string = proxy.connection_string(database_.name());
  o.commit_timeout = milliseconds(300);
  db::PgStore store(o);
  store.acquire_leadership("a");
  proxy.cut_at_next_commit(CuttingProxy::Cut::silence);
  EXPECT_EQ(kind_of([&] { store.commit(submission(1)); }), StoreError::in_doubt);
  EXPECT_THAT(store.load().jobs, IsEmpty());
}

// The trap behind in_doubt: the old transaction is still under way at the server when the store reads back.
TEST_F(PgStoreTest, LoadAfterInDoubtWaitsUntilTheOldTransactionIsDecided) {
  CuttingProxy proxy(TestPostgres::instance().socket_path());
  auto o = options();
  o.connection_string = proxy.connection_string(database_.name());
  db::PgStore store(o);
  store.acquire_leadership("a");
  store.commit(submission(1));
  RowLock lock(database_.connection_string(), "SELECT 1 FROM job WHERE id = 1 FOR UPDATE");
  proxy.cut_at_next_commit(CuttingProxy::Cut::half_way);
  Batch b;
  b.jobs = {{full_job(1), 1}};
  auto commit = std::async(std::launch::async, [&] { return kind_of([&] { store.commit(b); }); });
  wait_until_sql(
      "SELECT count(*) > 0 FROM pg_stat_activity WHERE application_name = 'tutti-scheduler' AND "
      "wait_event_type = 'Lock' AND datname = current_database()");
  proxy.cut_now();
  EXPECT_EQ(commit.get(), StoreError::in_doubt);
  EXPECT_THAT(store.load().jobs, ElementsAre(job(1)));
  lock.release();  // had the old transaction lived on, it would come through now
  EXPECT_THAT(database_.sql("SELECT version FROM job"), ElementsAre("1"));
  store.commit(b);
  EXPECT_THAT(store.load().jobs, ElementsAre(full_job(1)));
}

TEST_F(PgStoreTest, SessionEndedBeforeCommitIsUnavailableBecauseTheServerSaidSo) {
  db::PgStore store(options());
  store.acquire_leadership("a");
  store.commit(submission(1));
  RowLock lock(database_.connection_string(), "SELECT 1 FROM job WHERE id = 1 FOR UPDATE");
  Batch b;
  b.jobs = {{full_job(1), 1}};
  const std::string pid = std::to_string(store.backend_pid());
  auto commit = std::async(std::launch::async, [&] { return kind_of([&] { store.commit(b); }); });
  wait_until_sql("SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = " + pid);
  database_.sql("SELECT pg_terminate_backend(" + pid + ", 5000)");
  EXPECT_EQ(commit.get(), StoreError::unavailable);
  lock.release();
  EXPECT_THAT(store.load().jobs, ElementsAre(job(1)));
}

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

TEST_F(PgStoreTest, StatementThatWaitsTooLongIsUnavailable) {
  auto o = options();
  o.commit_timeout = milliseconds(500);
  db::PgStore store(o);
  store.acquire_leadership("a");
  store.commit(submission(1));
  RowLock lock(database_.connection_string(), "SELECT 1 FROM job WHERE id = 1 FOR UPDATE");
  Batch b;
  b.jobs = {{full_job(1), 1}};
  EXPECT_EQ(kind_of([&] { store.commit(b); }), StoreError::unavailable);
  EXPECT_EQ(kind_of([&] { store.commit(b); }), StoreError::unavailable) << "the session is given up";
  lock.release();
  EXPECT_THAT(store.load().jobs, ElementsAre(job(1)));
  store.commit(b);
}

TEST_F(PgStoreTest, NewLeaderWaitsForACommitUnderWay) {
  db::PgStore first(options());
  first.acquire_leadership("a");
  // A commit of the first leader that has passed the check of the term, by hand.
  RowLock commit_under_way(database_.connection_string(), "SELECT tutti_check_term(1)");
  first.load();
  database_.sql("SELECT pg_terminate_backend(" + std::to_string(first.backend_pid()) + ", 5000)");
  db::PgStore second(options());
  auto acquired = std::async(std::launch::async, [&] { return second.acquire_leadership("b"); });
  wait_until_sql(
      "SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = "
      "current_database() AND query LIKE '%UPDATE leader%'");
  commit_under_way.release();
  EXPECT_EQ(acquired.get(), Term(2));
}

TEST_F(PgStoreTest, SilentLeaderLosesItsSessionWhenAsked) {
  auto o = options();
  o.leader_idle_timeout = milliseconds(200);
  db::PgStore first(o);
  first.acquire_leadership("a");
  auto patient = options();
  patient.leadership_wait = std::chrono::seconds(6);
  db::PgStore second(patient);
  EXPECT_EQ(second.acquire_leadership("b"), Term(2));
  EXPECT_EQ(kind_of([&] { first.commit({}); }), StoreError::unavailable);
  EXPECT_EQ(kind_of([&] { first.load(); }), StoreError::deposed);
}

// A million rows are looked at for longer than a frozen leader is waited for.
TEST_F(PgStoreTest, ALeaderThatWorksOnWhatItHasLoadedKeepsItsSession) {
  auto o = options();
  o.leader_idle_timeout = milliseconds(200);
  db::PgStore first(o);
  first.acquire_leadership("a");
  first.load();
  auto patient = options();
  patient.leadership_wait = std::chrono::seconds(1);
  db::PgStore second(patient);
  EXPECT_EQ(kind_of([&] { second.acquire_leadership("b"); }), StoreError::deposed);
  first.commit(submission(1));
  patient.leadership_wait = std::chrono::seconds(6);
  db::PgStore third(patient);
  EXPECT_EQ(third.acquire_leadership("c"), Term(2)) << "it has spoken, and is waited for as ever";
}

TEST_F(PgStoreTest, ConnectionStringReachesLibpqUnchanged) {
  auto o = options();
  o.connection_string =
      "host=/nonexistent," +
      TestPostgres::instance().socket_path().substr(0, TestPostgres::instance().socket_path().rfind('/')) +
      " port=5432,5432 user=postgres dbname=" + database_.name() +
      " target_session_attrs=read-write application_name=mine";
  db::PgStore store(o);
  store.acquire_leadership("a");
  EXPECT_THAT(database_.sql("SELECT application_name FROM pg_stat_activity WHERE pid = " +
                            std::to_string(store.backend_pid())),
              ElementsAre("mine"));
}

TEST_F(PgStoreTest, UnreachableServerIsUnavailable) {
  db::PgStore store("host=/nonexistent");
  EXPECT_EQ(kind_of([&] { store.acquire_leadership("a"); }), StoreError::unavailable);
  EXPECT_EQ(kind_of([&] { store.load(); }), StoreError::unavailable);
  EXPECT_FALSE(store.healthy());
  db::PgReader reader("host=/nonexistent");
  EXPECT_EQ(kind_of([&] { reader.find_job(JobId(1)); }), StoreError::unavailable);
}

TEST_F(PgStoreTest, DatabaseWithoutSchemaIsCorrupt) {
  const TestDatabase empty = TestPostgres::instance().create_empty_database();
  db::PgStore store(empty.connection_string());
  EXPECT_EQ(kind_of([&] { store.load(); }), StoreError::corrupt);
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

// An hour of the server's clock that nobody has lived through: what was written down is an hour older.
TEST_F(PgStoreTest, AStepOfTheServersClockEndsNoBeliefInALeaderOfBefore) {
  const auto store = [&](const std::string& who) {
    auto made = std::make_unique<db::PgStore>(options());
    made->introduce({.url = "http://" + who,
                     .instance = who,
                     .key_print = "print",
                     .renews_for = std::chrono::minutes(10)});
    return made;
  };
  auto lost = store("lost");
  lost->acquire_leadership("lost");
  lost.reset();
  auto next = store("next");
  next->acquire_leadership("next");
  database_.sql("UPDATE leader_term SET began_at = began_at - interval '1 hour'");
  EXPECT_GT(next->predecessors_renew(), std::chrono::minutes(9));
  EXPECT_THAT(next->predecessor_urls(), ElementsAre("http://lost"));
  auto again = store("lost");
  EXPECT_EQ(kind_of([&] { again->acquire_leadership("lost"); }), StoreError::deposed);
  EXPECT_EQ(next->predecessors_renew(), Duration::zero()) << "it has been started again";
  EXPECT_THAT(next->predecessor_urls(), IsEmpty());
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
