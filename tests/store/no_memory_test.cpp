// PostgreSQL spoken to by a process that runs out of memory: every allocation of a call fails in turn. What
// failed was done whole or not at all, and the session that may be in the middle of an answer is not used
// again.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <new>

#include "db/pg/pg_accounts.h"
#include "db/pg/pg_reader.h"
#include "db/pg/pg_store.h"
#include "tests/store/pg_fixture.h"
#include "tests/store/rows.h"
#include "tests/support/failing_new.h"

namespace tutti {
namespace {

using namespace tutti::test;
using testing::ElementsAre;
using testing::SizeIs;

class NoMemoryTest : public testing::Test {
 protected:
  db::PgStoreOptions options() const {
    db::PgStoreOptions o;
    o.connection_string = database_.connection_string();
    o.leadership_wait = std::chrono::seconds(2);
    return o;
  }

  // Calls it until it gets through without one of its allocations having failed; `after` each time that one
  // has. How often that was.
  static int fail_each_allocation(const std::function<void()>& call, const std::function<void()>& after) {
    int failures = 0;
    for (std::int64_t nth = 0;; nth = next_allocation(nth)) {
      fail_allocation(nth);
      try {
        call();
      } catch (const std::bad_alloc&) {  // as announced
      } catch (const StoreError& e) {
        stop_failing();
        ADD_FAILURE() << "allocation " << nth << ": not told as what it is: " << e.what();
      }
      if (!stop_failing()) return failures;
      ++failures;
      after();
      if (HasFailure()) return failures;
    }
  }

  TestDatabase database_ = TestPostgres::instance().create_database();
};

TEST_F(NoMemoryTest, CommitIsAppliedWholeOrNotAtAllAndTheNextOneGoesThrough) {
  db::PgStore store(options());
  store.acquire_leadership("a");
  std::int64_t next = 1;
  const auto number = [&](const std::string& table) {
    return std::stoll(database_.sql("SELECT count(*)::text FROM " + table)[0]);
  };
  const int failures = fail_each_allocation(
      [&] {
        Batch batch = submission(next);
        store.commit(batch);
      },
      [&] {
        const Snapshot rows = store.load();
        EXPECT_EQ(number("job"), number("job_spec")) << "half of a batch";
        next = static_cast<std::int64_t>(rows.jobs.size()) + 1;
        store.commit(submission(next));
        ++next;
        EXPECT_THAT(store.load().jobs, SizeIs(static_cast<std::size_t>(next - 1)));
      });
  EXPECT_GT(failures, 20) << "this test has lost its subject";
}

TEST_F(NoMemoryTest, LoadFailsAndTheNextOneReadsEverything) {
  db::PgStore store(options());
  store.acquire_leadership("a");
  for (const std::int64_t id : {1, 2, 3}) store.commit(submission(id));
  std::optional<Snapshot> rows;
  const int failures = fail_each_allocation([&] { rows = store.load(); },
                                            [&] {
                                              EXPECT_THAT(store.load().jobs, SizeIs(3));
                                              store.commit({});
                                            });
  EXPECT_GT(failures, 20);
  ASSERT_TRUE(rows);
  EXPECT_THAT(rows->jobs, SizeIs(3));
}

// Each session that is not given back is one less for everybody.
TEST_F(NoMemoryTest, ReaderAnswersHoweverOftenItHasFailed) {
  db::PgStore store(options());
  store.acquire_leadership("a");
  store.commit(submission(1));
  db::PgReaderOptions few;
  few.connection_string = database_.connection_string();
  few.max_connections = 2;
  db::PgReader reader(few);
  const int failures = fail_each_allocation([&] { reader.find_job(JobId(1)); },
                                            [&] { EXPECT_TRUE(reader.find_job(JobId(1)).has_value()); });
  EXPECT_GT(failures, few.max_connections);
}

TEST_F(NoMemoryTest, WhatStandsBesideTheJobsIsAskedOnASessionOfItsOwnThatIsWhole) {
  db::PgAccounts accounts(database_.connection_string());
  const int failures =
      fail_each_allocation([&] { accounts.load(); }, [&] { EXPECT_NO_THROW(accounts.load()); });
  EXPECT_GT(failures, 0);
}

}  // namespace
}  // namespace tutti
