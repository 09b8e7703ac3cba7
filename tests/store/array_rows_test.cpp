// Tasks of an array are one row while they wait, and nobody who reads sees a difference
// (docs/design/0021-arrays.md; array_answers_test.cpp compares all answers).
#include "db/pg/array_rows.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <iostream>

#include "db/pg/connection.h"
#include "db/pg/pg_reader.h"
#include "db/pg/pg_retention.h"
#include "db/pg/pg_store.h"
#include "tests/store/array_batches.h"
#include "tests/store/cutting_proxy.h"
#include "tests/store/pg_fixture.h"
#include "tests/store/row_equality.h"

namespace tutti::db {
namespace {

using namespace tutti::test;
using std::chrono::steady_clock;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;

constexpr int kSchema = 22;  // of this program: sql/migrations/0022_arrays.sql

class ArrayRowsTest : public testing::Test {
 protected:
  PgStoreOptions options(int schema = kSchema) const {
    PgStoreOptions o;
    o.connection_string = database_.connection_string();
    o.leadership_wait = std::chrono::milliseconds(500);
    o.schema = schema;
    return o;
  }
  // Rows of job_array, tasks in them, and rows of job, job_spec and job_event.
  std::string rows() {
    return database_
        .sql(
            "SELECT concat_ws(' ', (SELECT count(*) FROM job_array),"
            " (SELECT coalesce(sum(tutti_tasks_in(waiting)), 0) FROM job_array), (SELECT count(*) FROM job),"
            " (SELECT count(*) FROM job_spec), (SELECT count(*) FROM job_event))")
        .at(0);
  }
  static StoreError::Kind refusal(PgStore& store, const Batch& batch) {
    try {
      store.commit(batch);
    } catch (const StoreError& e) {
      return e.kind;
    }
    ADD_FAILURE() << "the batch was accepted";
    return StoreError::corrupt;
  }
  // What load() gives of the jobs of `batch`, which nothing has happened to.
  static void expect_as_submitted(const Snapshot& s, const Batch& batch) {
    ASSERT_EQ(s.jobs.size(), batch.new_jobs.size());
    for (std::size_t i = 0; i < s.jobs.size(); ++i) {
      EXPECT_EQ(s.jobs[i], batch.new_jobs[i]) << i;
      EXPECT_EQ(s.specs.of(i), batch.new_specs[i].spec_json) << i;
    }
  }
  static Batch start(const Batch& submitted, const std::vector<std::size_t>& tasks,
                     std::int64_t first_event) {
    Batch b;
    for (const std::size_t i : tasks) {
      JobRow row = submitted.new_jobs[i];
      begin_task(b, row, first_event, at(500));
      row.version = 2;
      b.jobs.push_back({row, 1});
    }
    return b;
  }
  static Batch cancel(const Batch& submitted, const std::vector<std::size_t>& tasks,
                      std::int64_t first_event) {
    Batch b;
    for (const std::size_t i : tasks) {
      DoneRow done{.job = submitted.new_jobs[i], .ended_at = at(600)};
      b.events.push_back(
          event(first_event++, done.job.id.value, std::string(name(done.job.state)), "cancelled"));
      done.job.state = JobState::cancelled;
      done.job.cause = Cause::cancelled;
      done.job.version = 2;
      b.done.push_back({done, 1});
    }
    return b;
  }
  static std::vector<std::size_t> range(std::size_t first, std::size_t end, std::size_t step = 1) {
    std::vector<std::size_t> out;
    for (; first < end; first += step) out.push_back(first);
    return out;
  }
  // Which schema versions are said to be connected.
  class Older {
   public:
    explicit Older(const TestDatabase& database) : session_({database.connection_string(), "a standby", ""}) {
      run("SELECT pg_advisory_lock_shared(73812044, 21)");
    }
    void go() { run("SELECT pg_advisory_unlock_shared(73812044, 21)"); }

   private:
    void run(const std::string& sql) {
      session_.run_script(sql, steady_clock::now() + std::chrono::seconds(5));
    }
    Connection session_;
  };

  TestDatabase database_ = TestPostgres::instance().create_database();
};

TEST_F(ArrayRowsTest, TenThousandTasksAreOneRow) {
  PgStore store(options());
  store.acquire_leadership("a");
  const Batch b = batch_of({.tasks = 10'000, .first_index = 7, .index_step = 3});
  const auto began = steady_clock::now();
  store.commit(b);
  const auto took = std::chrono::duration_cast<std::chrono::microseconds>(steady_clock::now() - began);
  EXPECT_EQ(rows(), "1 10000 0 0 0");
  expect_as_submitted(store.load(), b);
  const Snapshot s = store.load();
  EXPECT_EQ(s.last_job, JobId(10'000));
  EXPECT_EQ(s.last_event, EventId(10'000));
  EXPECT_THAT(s.keys, ElementsAre(Snapshot::Key{"ann", "key-1", 0, JobId(1)}));

  auto apart = TestPostgres::instance().create_database();
  auto o = options(kSchema - 1);
  o.connection_string = apart.connection_string();
  PgStore without(o);
  without.acquire_leadership("a");
  const auto again = steady_clock::now();
  without.commit(b);
  const auto before = std::chrono::duration_cast<std::chrono::microseconds>(steady_clock::now() - again);
  EXPECT_EQ(apart.sql("SELECT count(*)::text FROM job").at(0), "10000");
  std::cout << "[array] 10000 tasks in one commit: " << took.count() << " us as one row, " << before.count()
            << " us as 30000\n";
}

TEST_F(ArrayRowsTest, TasksGetTheirRowsWhenTheyStart) {
  PgStore store(options());
  store.acquire_leadership("a");
  const Batch b = batch_of({.first_job = 11, .tasks = 20, .first_event = 31});
  store.commit(b);
  store.commit(start(b, {0, 5, 6}, 100));
  EXPECT_EQ(rows(), "1 17 3 3 9");
  EXPECT_THAT(database_.sql("SELECT waiting::text FROM job_array"), ElementsAre("{[12,16),[18,31)}"));
  const Snapshot s = store.load();
  ASSERT_THAT(s.jobs, SizeIs(20));
  for (std::size_t i = 0; i < 20; ++i) {
    EXPECT_EQ(s.jobs[i].id, b.new_jobs[i].id);
    EXPECT_EQ(s.jobs[i].state, i == 0 || i == 5 || i == 6 ? JobState::starting : JobState::queued) << i;
    EXPECT_EQ(s.specs.of(i), b.new_specs[i].spec_json) << i;
  }
  PgReader reader(database_.connection_string());
  const auto told = reader.job_events(JobId(16), EventId(0), 10);
  ASSERT_THAT(told, SizeIs(3));
  EXPECT_EQ(told[0], b.events[5]) << "of its submission";
}

TEST_F(ArrayRowsTest, ATaskThatHasItsRowsIsAskedForOnce) {
  PgStore store(options());
  store.acquire_leadership("a");
  const Batch b = batch_of({.tasks = 20});
  store.commit(b);
  FoldedTasks tasks;
  tasks.add(JobId(1), JobId(1), JobId(20));
  const Batch first = start(b, {3, 4, 19}, 100);
  const auto unfolding = tasks.touched_by(first);
  EXPECT_THAT(unfolding.tasks, ElementsAre(JobId(4), JobId(5), JobId(20)));
  EXPECT_THAT(unfolding.arrays, ElementsAre(JobId(1)));
  tasks.remove(unfolding.tasks);
  EXPECT_EQ(tasks.ranges(), 2u);
  EXPECT_TRUE(tasks.touched_by(first).empty());
  // One that knows too much does no harm.
  store.commit(first);
  const auto again = [&] { return database_.sql("SELECT tutti_unfold('{1}', '{4,5,20}')::text").at(0); };
  EXPECT_EQ(again(), "0");
  EXPECT_EQ(rows(), "1 17 3 3 9");
}

TEST_F(ArrayRowsTest, WhenAllAreCancelledNothingOfItIsLeft) {
  PgStore store(options());
  store.acquire_leadership("a");
  const Batch b = batch_of({.tasks = 10'000});
  store.commit(b);
  std::vector<std::int64_t> took;
  for (std::size_t i = 0; i < 10'000; i += 500) {
    const auto began = steady_clock::now();
    store.commit(cancel(b, range(i, i + 500), 20'000 + static_cast<std::int64_t>(i)));
    took.push_back((steady_clock::now() - began).count());
  }
  EXPECT_EQ(rows(), "0 0 0 10000 20000");
  EXPECT_THAT(store.load().jobs, IsEmpty());
  EXPECT_EQ(database_.sql("SELECT count(*)::text FROM job_done WHERE state = 10").at(0), "10000");
  std::ranges::sort(took);
  std::cout << "[array] 500 of 10000 tasks cancelled: median " << took[took.size() / 2] / 1000 << " us\n";
}

// Whichever tasks go first, the row does not grow.
TEST_F(ArrayRowsTest, ARowInManyPiecesGivesUpTheShortOnes) {
  PgStore store(options());
  store.acquire_leadership("a");
  const Batch b = batch_of({.tasks = 2'000});
  store.commit(b);
  std::size_t most = 0;
  for (std::size_t i = 1; i < 1'999; i += 40) {
    store.commit(
        cancel(b, range(i, std::min<std::size_t>(i + 40, 1'999), 2), 20'000 + static_cast<std::int64_t>(i)));
    const auto pieces = database_.sql("SELECT count(*) FROM job_array, unnest(waiting)").at(0);
    most = std::max(most, std::stoul(pieces));
  }
  EXPECT_GT(most, 100u);
  EXPECT_LE(most, 128u);
  const Snapshot s = store.load();
  ASSERT_THAT(s.jobs, SizeIs(1'001));
  for (std::size_t i = 0; i < 1'000; ++i) EXPECT_EQ(s.jobs[i], b.new_jobs[2 * i]);
}

TEST_F(ArrayRowsTest, AChangedTaskLeavesTheOthersAlone) {
  PgStore store(options());
  store.acquire_leadership("a");
  const Batch b = batch_of({.tasks = 20});
  store.commit(b);
  Batch change;
  change.changed_specs[JobId(8)] = R"({"name":"other"})";
  store.commit(change);
  EXPECT_EQ(rows(), "1 19 1 1 1");
  const Snapshot s = store.load();
  EXPECT_EQ(s.specs.of(7), R"({"name":"other"})");
  EXPECT_EQ(s.jobs[7], b.new_jobs[7]);
  EXPECT_EQ(s.specs.of(8), b.new_specs[8].spec_json);
  const auto view = PgReader(database_.connection_string()).find_job(JobId(8));
  ASSERT_TRUE(view);
  EXPECT_EQ(view->submitted_json, b.new_specs[7].spec_json);
}

TEST_F(ArrayRowsTest, WhoBeginsAtOnceHasRowsAndThoseBehindMaxParallelAreFolded) {
  PgStore store(options());
  store.acquire_leadership("a");
  const Batch b = batch_of({.tasks = 30, .begins = 3, .max_parallel = 4});
  store.commit(b);
  EXPECT_EQ(rows(), "1 26 4 4 10") << "three run, one is alone in its state";
  expect_as_submitted(store.load(), b);
  EXPECT_THAT(database_.sql("SELECT id::text FROM job_array"), ElementsAre("5"));
}

TEST_F(ArrayRowsTest, AMatrixAndAFewTasksHaveTheirRows) {
  PgStore store(options());
  store.acquire_leadership("a");
  store.commit(batch_of({.tasks = 20, .matrix = true}));
  EXPECT_EQ(rows(), "0 0 20 20 20");
  store.commit(batch_of({.first_job = 101, .tasks = 7, .first_event = 101}));
  EXPECT_EQ(rows(), "0 0 27 27 27");
  store.commit(batch_of({.first_job = 201, .tasks = 8, .first_event = 201}));
  EXPECT_EQ(rows(), "1 8 27 27 27");
}

TEST_F(ArrayRowsTest, WhatDiffersInAnythingIsNotFolded) {
  const auto folded = [](const std::function<void(Batch&)>& change) {
    Batch b = batch_of({.tasks = 12});
    change(b);
    const Folding folding = Folding::of(b);
    std::int64_t tasks = 0;
    for (const auto& run : folding.runs()) tasks += run.size;
    return tasks;
  };
  EXPECT_EQ(folded([](Batch&) {}), 12);
  EXPECT_EQ(folded([](Batch& b) { b.new_jobs[2].priority = 51; }), 9) << "it, and too few before it";
  EXPECT_EQ(folded([](Batch& b) { b.new_jobs[2].version = 2; }), 9);
  EXPECT_EQ(folded([](Batch& b) { b.new_jobs[2].reason = "x"; }), 9);
  EXPECT_EQ(folded([](Batch& b) { b.new_jobs[2].best_step = 0; }), 9);
  EXPECT_EQ(folded([](Batch& b) { b.new_jobs[2].spent.set(1, 1); }), 9);
  EXPECT_EQ(folded([](Batch& b) { b.new_specs[2].name = "x"; }), 9);
  EXPECT_EQ(folded([](Batch& b) { b.new_specs[2].spec_json += " "; }), 9);
  EXPECT_EQ(folded([](Batch& b) { b.new_specs[2].initial_state = JobState::held; }), 9);
  EXPECT_EQ(folded([](Batch& b) { b.events[2].detail = "x"; }), 9);
  EXPECT_EQ(folded([](Batch& b) { b.events[2].id = EventId(99); }), 9);
  EXPECT_EQ(folded([](Batch& b) { b.events.push_back(event(99, 3, "", "", "update")); }), 9);
  EXPECT_EQ(folded([](Batch& b) { b.changed_specs[JobId(3)] = "{}"; }), 9);
  EXPECT_EQ(folded([](Batch& b) { b.jobs.push_back({b.new_jobs[2], 1}); }), 9);
  EXPECT_EQ(folded([](Batch& b) { b.done.push_back({{b.new_jobs[2], at(1), 0}, 0}); }), 9);
  EXPECT_EQ(folded([](Batch& b) { b.new_jobs.erase(b.new_jobs.begin() + 2); }), 9);
  EXPECT_EQ(folded([](Batch& b) { b.events.erase(b.events.begin() + 2); }), 9);
}

TEST_F(ArrayRowsTest, IdsThatAreTakenAreAConflict) {
  PgStore store(options());
  store.acquire_leadership("a");
  store.commit(submission(15));
  EXPECT_EQ(refusal(store, batch_of({.tasks = 20})), StoreError::conflict) << "by a job";
  store.commit(batch_of({.first_job = 31, .tasks = 20, .first_event = 31}));
  EXPECT_EQ(refusal(store, batch_of({.first_job = 41, .tasks = 20, .first_event = 100})),
            StoreError::conflict)
      << "by an array";
  EXPECT_EQ(rows(), "1 20 1 1 0");
}

TEST_F(ArrayRowsTest, AnUpdateOnAnotherVersionLeavesItFolded) {
  PgStore store(options());
  store.acquire_leadership("a");
  const Batch b = batch_of({.tasks = 20});
  store.commit(b);
  Batch wrong = start(b, {4}, 100);
  wrong.jobs[0].base_version = 2;
  wrong.jobs[0].row.version = 3;
  EXPECT_EQ(refusal(store, wrong), StoreError::conflict);
  EXPECT_EQ(rows(), "1 20 0 0 0");
  store.commit(start(b, {4}, 100));
  EXPECT_EQ(rows(), "1 19 1 1 3") << "it has not been taken for one with rows";
}

TEST_F(ArrayRowsTest, AfterACommitInDoubtItIsKnownWhatIsFolded) {
  for (const auto cut : {CuttingProxy::Cut::before_server, CuttingProxy::Cut::after_server}) {
    TestDatabase database = TestPostgres::instance().create_database();
    CuttingProxy proxy(TestPostgres::instance().socket_path());
    auto o = options();
    o.connection_string = proxy.connection_string(database.name());
    PgStore store(o);
    store.acquire_leadership("a");
    const bool applied = cut == CuttingProxy::Cut::after_server;
    const Batch b = batch_of({.tasks = 20});
    proxy.cut_at_next_commit(cut);
    EXPECT_EQ(refusal(store, b), StoreError::in_doubt);
    EXPECT_THAT(store.load().jobs, SizeIs(applied ? 20 : 0));
    if (!applied) store.commit(b);
    proxy.cut_at_next_commit(cut);
    EXPECT_EQ(refusal(store, start(b, {2, 3}, 100)), StoreError::in_doubt);
    const Snapshot s = store.load();
    ASSERT_THAT(s.jobs, SizeIs(20));
    EXPECT_EQ(s.jobs[2].version, applied ? 2 : 1);
    if (!applied) store.commit(start(b, {2, 3}, 100));
    store.commit(cancel(b, {4}, 200));
    EXPECT_THAT(database.sql("SELECT waiting::text FROM job_array"), ElementsAre("{[1,3),[6,21)}"));
  }
}

TEST_F(ArrayRowsTest, TheNextSchedulerGoesOnWithWhatIsFolded) {
  const Batch b = batch_of({.tasks = 20});
  {
    PgStore store(options());
    store.acquire_leadership("a");
    store.commit(b);
    store.resign();
  }
  PgStore next(options());
  next.acquire_leadership("b");
  next.commit(start(b, {1}, 100));
  EXPECT_EQ(rows(), "1 19 1 1 3") << "without having loaded";
  expect_as_submitted(next.load(), [&] {
    Batch now = b;
    now.new_jobs[1] = start(b, {1}, 100).jobs[0].row;
    return now;
  }());
}

TEST_F(ArrayRowsTest, NothingIsFoldedWhileASchedulerOfTheVersionBeforeIsConnected) {
  PgStore store(options());
  store.acquire_leadership("a");
  {
    Older standby(database_);
    store.commit(batch_of({.tasks = 20}));
    EXPECT_EQ(rows(), "0 0 20 20 20") << "though it came after the leader";
    standby.go();
  }
  store.commit(batch_of({.first_job = 101, .tasks = 20, .first_event = 101}));
  EXPECT_EQ(rows(), "1 20 20 20 20");
}

TEST_F(ArrayRowsTest, ASchedulerOfTheVersionBeforeFindsRowsWhenItTakesTheLead) {
  const Batch b = batch_of({.tasks = 200});
  PgStore store(options());
  store.acquire_leadership("a");
  store.commit(b);
  store.commit(start(b, {7}, 1000));
  store.resign();
  // What it does: it says what it knows, and raises the term.
  Connection older({database_.connection_string(), "older", ""});
  const auto soon = [] { return steady_clock::now() + std::chrono::seconds(20); };
  older.run_script("SELECT pg_advisory_lock_shared(73812044, 21)", soon());
  EXPECT_EQ(rows(), "1 199 1 1 3");
  older.run_script("UPDATE leader SET term = term + 1", soon());
  EXPECT_EQ(rows(), "0 0 200 200 202");
  older.run_script("SELECT pg_advisory_unlock_shared(73812044, 21)", soon());
  // One that knows arrays leaves them as they are, and takes over those that have rows now.
  PgStore next(options());
  next.acquire_leadership("c");
  const Snapshot s = next.load();
  ASSERT_THAT(s.jobs, SizeIs(200));
  for (std::size_t i = 0; i < 200; ++i) {
    EXPECT_EQ(s.jobs[i].version, i == 7 ? 2 : 1);
    EXPECT_EQ(s.specs.of(i), b.new_specs[i].spec_json);
  }
  next.commit(batch_of({.first_job = 301, .tasks = 20, .first_event = 2001}));
  next.resign();
  PgStore again(options());
  again.acquire_leadership("d");
  EXPECT_EQ(rows(), "1 20 200 200 202");
}

TEST_F(ArrayRowsTest, RetentionTakesTheEventAndLeavesTheTasks) {
  PgStore store(options());
  store.acquire_leadership("a");
  const Batch b = batch_of({.tasks = 20});
  store.commit(b);
  PgReader reader(database_.connection_string());
  PgRetention retention(database_.connection_string());
  EXPECT_EQ(retention.oldest(), at(100) - std::chrono::days(1));
  retention.forget(at(100), 100);
  EXPECT_THAT(reader.job_events(JobId(5), EventId(0), 10), SizeIs(1)) << "it is not older than that";
  retention.forget(at(100) + std::chrono::days(100), 100);
  EXPECT_THAT(reader.job_events(JobId(5), EventId(0), 10), IsEmpty());
  EXPECT_THAT(reader.all_events(EventId(0), 100), IsEmpty());
  EXPECT_EQ(retention.oldest(), std::nullopt);
  const Snapshot s = store.load();
  EXPECT_THAT(s.jobs, SizeIs(20));
  EXPECT_EQ(s.last_event, EventId(20)) << "its id is not given again";
  store.commit(start(b, {4}, 100));
  EXPECT_THAT(reader.job_events(JobId(5), EventId(0), 10), SizeIs(2)) << "without the old one";
}

TEST_F(ArrayRowsTest, IdsOfWhatHasGoneAreNotGivenAgain) {
  PgStore store(options());
  store.acquire_leadership("a");
  store.commit(batch_of({.tasks = 20}));
  database_.sql("SELECT tutti_raise_id_floor(); DELETE FROM job_array");
  EXPECT_EQ(store.load().last_job, JobId(20));
  EXPECT_EQ(store.load().last_event, EventId(20));
}

TEST_F(ArrayRowsTest, PeopleSeeThemInTheNamedView) {
  PgStore store(options());
  store.acquire_leadership("a");
  const Batch b = batch_of({.tasks = 20});
  store.commit(b);
  store.commit(start(b, {4}, 100));
  EXPECT_EQ(
      database_
          .sql("SELECT string_agg(id || state || name, ' ' ORDER BY id) FROM job_named WHERE id IN (4, 5)")
          .at(0),
      "4queuedsweep 5startingsweep");
  EXPECT_EQ(database_.sql("SELECT count(*)::text FROM job_named").at(0), "20");
}

TEST(TaskTextTest, GivesTextsBackByteForByte) {
  for (int i = 0; i < 50; ++i) {
    const ArrayTask task{.index = 3 + 5 * i, .position = i, .tasks = 50, .max_parallel = 4};
    const std::string first = task_text({.index = 3, .position = 0, .tasks = 50, .max_parallel = 4});
    const auto text = TaskText::of(first);
    ASSERT_TRUE(text);
    EXPECT_EQ(text->text({.index = task.index, .position = i}), task_text(task));
    EXPECT_EQ(TaskText::from_format(text->format()).text({.index = task.index, .position = i}),
              task_text(task));
  }
  EXPECT_FALSE(TaskText::of(R"({"name":"x","array":null})"));
  EXPECT_FALSE(TaskText::of(R"({"array":{"index":,"position":1}})"));
  EXPECT_FALSE(TaskText::of(R"({"array":{"index":99999999999999999999,"position":1}})"));
  EXPECT_FALSE(TaskText::of(""));
}

}  // namespace
}  // namespace tutti::db
