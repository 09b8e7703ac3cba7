// Texts of specs that come more than once stand in spec_text, and nobody who reads sees a difference.
#include "db/pg/spec_texts.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "db/checked_store.h"
#include "db/pg/connection.h"
#include "db/pg/pg_reader.h"
#include "db/pg/pg_store.h"
#include "tests/store/pg_fixture.h"
#include "tests/store/rows.h"

namespace tutti::db {
namespace {

using namespace tutti::test;
using testing::Each;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;

const std::string kText =
    R"({"name":"sweep","run":"python3 train.py","labels":{"why":")" + std::string(100, 'x') + "\"}}";

class SpecTextsTest : public testing::Test {
 protected:
  PgStoreOptions options(int schema = 0) const {
    PgStoreOptions o;
    o.connection_string = database_.connection_string();
    o.leadership_wait = std::chrono::milliseconds(500);
    o.schema = schema;
    return o;
  }
  static Batch submissions(std::int64_t first, std::int64_t last, const std::string& text) {
    Batch b;
    for (auto id = first; id <= last; ++id) {
      b.new_specs.push_back(spec(id));
      b.new_specs.back().spec_json = text;
      b.new_jobs.push_back(job(id));
    }
    return b;
  }
  std::vector<std::string> places() {
    return database_.sql(
        "SELECT CASE WHEN spec_hash IS NULL THEN 'own' ELSE 'shared' END FROM job_spec ORDER BY id");
  }
  std::string texts() { return database_.sql("SELECT count(*)::text FROM spec_text").at(0); }
  void expect_all_read(PgStore& store, std::size_t jobs) {
    const Snapshot s = store.load();
    ASSERT_THAT(s.jobs, SizeIs(jobs));
    PgReader reader(database_.connection_string());
    for (std::size_t i = 0; i < jobs; ++i) {
      EXPECT_EQ(s.specs.of(i), kText) << i;
      EXPECT_EQ(reader.find_job(s.jobs[i].id)->spec_json, kText);
    }
  }

  TestDatabase database_ = TestPostgres::instance().create_database();
};

TEST_F(SpecTextsTest, TheSecondJobOfATextRefersToIt) {
  PgStore store(options());
  store.acquire_leadership("a");
  store.commit(submissions(1, 3, kText));
  store.commit(submissions(4, 4, kText));
  EXPECT_THAT(places(), ElementsAre("own", "shared", "shared", "shared"));
  EXPECT_EQ(texts(), "1");
  expect_all_read(store, 4);
  PgStore next(options());
  store.resign();
  next.acquire_leadership("b");
  next.commit(submissions(5, 6, kText));
  EXPECT_EQ(texts(), "1") << "another process finds it there";
  expect_all_read(next, 6);
}

TEST_F(SpecTextsTest, AChangedJobLeavesTheOthersAlone) {
  PgStore store(options());
  store.acquire_leadership("a");
  store.commit(submissions(1, 3, kText));
  Batch b;
  b.changed_specs[JobId(2)] = R"({"name":"other"})";
  store.commit(b);
  const Snapshot s = store.load();
  EXPECT_EQ(s.specs.of(1), R"({"name":"other"})");
  EXPECT_EQ(s.specs.of(2), kText);
  const auto view = PgReader(database_.connection_string()).find_job(JobId(2));
  EXPECT_EQ(view->spec_json, R"({"name":"other"})");
  EXPECT_EQ(view->submitted_json, kText);
}

TEST_F(SpecTextsTest, ShortTextsAndSingleOnesStayWithTheirJobs) {
  PgStore store(options());
  store.acquire_leadership("a");
  store.commit(submissions(1, 3, R"({"name":"x"})"));
  for (int id = 4; id < 8; ++id) store.commit(submissions(id, id, kText + std::to_string(id)));
  EXPECT_THAT(places(), Each("own"));
  EXPECT_EQ(texts(), "0");
}

// What was put there by a transaction that failed is not there: the next one puts it there again.
TEST_F(SpecTextsTest, AFailedBatchPutsNothingThere) {
  PgStore store(options());
  store.acquire_leadership("a");
  Batch twice = submissions(1, 2, kText);
  twice.new_jobs.push_back(job(1));
  EXPECT_THROW(store.commit(twice), StoreError);
  EXPECT_EQ(texts(), "0");
  store.commit(submissions(1, 3, kText));
  expect_all_read(store, 3);
}

TEST_F(SpecTextsTest, AJobWhoseTextIsGoneSaysSo) {
  PgStore store(options());
  store.acquire_leadership("a");
  store.commit(submissions(1, 2, kText));
  database_.sql("DELETE FROM spec_text");
  EXPECT_EQ(store.load().specs.of(0), kText);
  EXPECT_EQ(store.load().specs.of(1), kNoText);
  database_.sql("DELETE FROM job_spec WHERE id = 1");
  EXPECT_EQ(store.load().specs.of(0), kNoSpec);
}

TEST_F(SpecTextsTest, TextsGoWhenNoJobHasThemAnyMore) {
  PgStore store(options());
  store.acquire_leadership("a");
  store.commit(submissions(1, 3, kText));
  const auto forget = [&] { return database_.sql("SELECT tutti_forget_texts(100)::text").at(0); };
  EXPECT_EQ(forget(), "0") << "used today";
  database_.sql("UPDATE spec_text SET used_at = used_at - interval '1 year'");
  EXPECT_EQ(forget(), "0") << "jobs have it, whatever its date says";
  database_.sql("DELETE FROM job; DELETE FROM job_spec");
  EXPECT_EQ(forget(), "1");
  EXPECT_EQ(texts(), "0");
}

TEST(KnownTextsTest, ATextInUseIsSaidToBeSoOnceADay) {
  KnownTexts known;
  SpecRow row = spec(1);
  row.spec_json = kText;
  const std::vector<const SpecRow*> one{&row};
  EXPECT_FALSE(known.split(one, at(0)).refers[0]) << "for the first time";
  EXPECT_THAT(known.split(one, at(1)).texts, SizeIs(1));
  EXPECT_THAT(known.split(one, at(3)).texts, SizeIs(1)) << "nothing came of it";
  known.committed();
  EXPECT_THAT(known.split(one, at(4)).texts, IsEmpty());
  EXPECT_THAT(known.split(one, at(3 + 24 * 3600)).texts, SizeIs(1)) << "a day later";
  known.forget();
  EXPECT_FALSE(known.split(one, at(5)).refers[0]);
}

}  // namespace
}  // namespace tutti::db
