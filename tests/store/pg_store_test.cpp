// What only PostgreSQL can do to a store: cut it off in the middle of a COMMIT, make it wait, end its
// session.
#include "db/pg/pg_store.h"

#include <future>

#include "db/pg/pg_reader.h"
#include "tests/store/cutting_proxy.h"
#include "tests/store/pg_store_rig.h"

namespace tutti {
namespace {

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

}  // namespace
}  // namespace tutti
