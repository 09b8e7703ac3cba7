// Numbers that a hand has written and no batch may hold: they are set right before a commit is refused for
// them.
#include "db/rules.h"

#include <limits>

#include "tests/store/checked_world.h"

namespace tutti {
namespace {

using db::SpecCheck;
using testing::AllOf;
using testing::Each;
using testing::HasSubstr;

// The next leader changes a job that was mended: what the one that looked has written is what may be changed.
void change(Store& store, JobRow row, JobState to) {
  store.acquire_leadership("again");
  const auto base = row.version++;
  row.state = to;
  row.reason.clear();
  Batch b;
  b.jobs.push_back({row, base});
  store.commit(b);
}

TEST_P(HandEditedTest, AWaitingJobWithANumberThatCannotBeIsHeldAndCanBeReleasedAndTheOthersGoOn) {
  const std::vector<std::pair<std::string, std::string>> spoiled = {
      {"nodes = 0", "its number of nodes is 0"},
      {"nodes = -3", "its number of nodes is -3"},
      {"gpus_per_node = -1", "its number of GPUs per node is -1"},
      {"version = 0", "its version is 0"},
      {"version = -2147483648", "its version is -2147483648"},
      {"version = 2147483647", "its version is 2147483647"},
      {"best_step = -2", "its best_step is -2"},
      {"no_progress = -1", "its no_progress is -1"},
      {"state = 2, not_before = '1970-01-01 00:00:00+00'", "it is delayed, but not until when"},
      {"state = 4, nodes = 0, version = 0, best_step = -9",
       "its version is 0, its number of nodes is 0, its best_step is -9"}};
  for (const auto& [set, what] : spoiled) {
    ASSERT_THAT(sql("UPDATE job SET " + set + " WHERE id = 2 RETURNING id"), SizeIs(1));
    said_.clear();
    const Snapshot s = boot();
    EXPECT_EQ(in(s, 2).state, JobState::held) << set;
    EXPECT_THAT(in(s, 2).reason, AllOf(HasSubstr(what), HasSubstr("release"))) << set;
    EXPECT_THAT(said_, ElementsAre("job 2 is held: " + what));
    EXPECT_EQ(in(s, 1).state, JobState::running) << set;
    change(*store_, in(s, 2), JobState::queued);
  }
}

// Shares are counted upwards until the top is reached.
TEST_P(HandEditedTest, ProjectsThatStandInARingAreCutApart) {
  sql("INSERT INTO project (name, parent) VALUES ('r1', ''), ('r2', 'r1'), ('r3', 'r2'), ('below', 'r3')");
  sql("UPDATE project SET parent = 'r3' WHERE name = 'r1'");
  const Snapshot s = boot();
  std::map<std::string, std::string> parents;
  for (const auto& project : s.projects) parents[project.name] = project.parent;
  EXPECT_EQ(parents["r1"], "");
  EXPECT_EQ(parents["r2"], "r1");
  EXPECT_EQ(parents["r3"], "r2");
  EXPECT_EQ(parents["below"], "r3");
  EXPECT_THAT(said_, ElementsAre("project r1 stands below itself: it is of the top level now"));
}

TEST_P(HandEditedTest, ARunningJobWhoseNumbersAreMendedRunsOn) {
  sql("UPDATE job SET version = 0, nodes = 0, best_step = -2 WHERE id = 1");
  const Snapshot s = boot();
  EXPECT_EQ(in(s, 1).state, JobState::running);
  EXPECT_EQ(in(s, 1).nodes, 1);
  EXPECT_EQ(in(s, 1).best_step, -1);
  EXPECT_THAT(s.attempts, SizeIs(1));
  EXPECT_THAT(s.allocations, SizeIs(1));
  EXPECT_THAT(
      said_, ElementsAre("job 1 is mended: its version is 0, its number of nodes is 0, its best_step is -2"));
  const auto events = reader_->job_events(JobId(1), EventId(), 100);
  ASSERT_THAT(events, SizeIs(1));
  EXPECT_EQ(events[0].kind, "repair");
  change(*store_, in(s, 1), JobState::stopping);
}

TEST_P(HandEditedTest, ARunningJobThatDoesNotFitItsAttemptWhenItIsMendedIsHeld) {
  sql("UPDATE job SET gpus_per_node = -1 WHERE id = 1");
  const Snapshot s = boot();
  EXPECT_EQ(in(s, 1).state, JobState::held);
  EXPECT_EQ(in(s, 1).gpus_per_node, 0);
  EXPECT_THAT(s.attempts, IsEmpty());
  EXPECT_THAT(s.allocations, IsEmpty());
  EXPECT_THAT(said_,
              ElementsAre("job 1 is held: its attempt has 1 GPUs on node n1, not 0; its number of GPUs per "
                          "node is -1"));
  change(*store_, in(s, 1), JobState::queued);
}

TEST_P(HandEditedTest, TheSizeOfAJobIsThatOfItsSpecWhereThereIsOne) {
  sql("UPDATE job SET gpus_per_node = -1 WHERE id = 1");
  sql("UPDATE job SET nodes = 0 WHERE id = 2");
  const Snapshot s = boot({.problem = {}, .stand_in = {}, .size = [](std::string_view) {
                             return db::JobSize{.nodes = 3, .gpus_per_node = 1};
                           }});
  EXPECT_EQ(in(s, 1).state, JobState::running) << "its attempt has one GPU, as its spec asks for";
  EXPECT_EQ(in(s, 1).gpus_per_node, 1);
  EXPECT_EQ(in(s, 2).state, JobState::held);
  EXPECT_EQ(in(s, 2).nodes, 3);
}

TEST_P(HandEditedTest, AJobThatNoBatchCanNameIsLeftOut) {
  sql("UPDATE job SET id = 0 WHERE id = 2");
  const Snapshot s = boot();
  ASSERT_THAT(s.jobs, SizeIs(1));
  EXPECT_THAT(s.specs.places, SizeIs(1));
  EXPECT_EQ(s.jobs[0].id, JobId(1));
  EXPECT_THAT(said_, ElementsAre("job 0 is left out: there is no such id, they begin at 1"));
}

TEST_P(HandEditedTest, ChargesThatAreNotOnePerCauseAreTakenAsFarAsTheyGo) {
  const auto first = [&](const std::string& written) {
    sql("UPDATE job SET spent = '" + written + "' WHERE id = 2");
    const Snapshot rows = boot();
    const auto& spent = in(rows, 2).spent.get();
    return std::vector<int>(spent.begin(), spent.begin() + 4);
  };
  EXPECT_THAT(first("{1,2}"), ElementsAre(1, 2, 0, 0));
  EXPECT_THAT(first("{}"), Each(0));
  EXPECT_THAT(first("{7,NULL,-3}"), ElementsAre(7, 0, -3, 0));
  EXPECT_THAT(first("{{1,2},{3,4}}"), ElementsAre(1, 2, 3, 4));
  EXPECT_THAT(first("[5:6]={8,9}"), ElementsAre(8, 9, 0, 0));
  std::string many = "{5";
  for (std::size_t i = 0; i < kCauseCount; ++i) many += ",6";
  EXPECT_THAT(first(many + "}"), ElementsAre(5, 6, 6, 6));
  EXPECT_THAT(said_, IsEmpty());
}

TEST_P(HandEditedTest, ForEverIsAnInstantThatOneCanCountOnFrom) {
  sql("UPDATE job SET state = 2, not_before = 'infinity', queued_at = '-infinity' WHERE id = 2");
  const Snapshot s = boot();
  EXPECT_GT(in(s, 2).not_before, at(0) + std::chrono::years(1000));
  EXPECT_LT(in(s, 2).queued_at, at(0));
  change(*store_, in(s, 2), JobState::queued);
  EXPECT_EQ(in(store_->load(), 2).not_before, in(s, 2).not_before);
}

// ---------------------------------------------------------------- epochs and allocations, on both stores

// Job 2 waits at an epoch below that of an attempt that has ended.
TEST_P(CheckedStoreTest, AnEpochBelowThatOfAnAttemptOfBeforeIsRaisedAndTheNextAttemptIsTaken) {
  Batch b;
  AttemptRow failed = running(2, 5, GpuId(2));
  failed.state = AttemptState::ended;
  failed.result = AttemptResult::failed;
  failed.cause = Cause::unknown;
  failed.ended_at = at(25);
  b.attempts.push_back(failed);
  JobRow low = in(store_->load(), 2);
  low.epoch = Epoch(4);
  low.attempt = 1;
  low.version = 2;
  b.jobs.push_back({low, 1});
  store_->commit(b);
  const Snapshot s = boot();
  EXPECT_EQ(in(s, 2).state, JobState::queued);
  ASSERT_EQ(in(s, 2).epoch, Epoch(5));
  EXPECT_THAT(said_, ElementsAre("job 2 is mended: its epoch is 4, and there was 5 already"));
  store_->acquire_leadership("again");
  Batch next;
  next.attempts.push_back(running(2, in(s, 2).epoch.value + 1, GpuId(2)));
  store_->commit(next);
}

// Attempts that were stopped are not loaded: they count all the same, and so does what they have saved.
TEST_P(CheckedStoreTest, AnEpochIsNotBelowTheNumberOfAttemptsNorThatOfACheckpoint) {
  Batch b;
  JobRow low = in(store_->load(), 2);
  low.epoch = Epoch(1);
  low.attempt = 3;
  low.version = 2;
  b.jobs.push_back({low, 1});
  store_->commit(b);
  EXPECT_EQ(in(boot(), 2).epoch, Epoch(3));
  store_->acquire_leadership("again");
  Batch saved;
  saved.checkpoints.push_back(checkpoint(2, 7, 100));
  store_->commit(saved);
  EXPECT_EQ(in(boot(), 2).epoch, Epoch(7));
}

TEST_P(CheckedStoreTest, AnEpochThatRunsIsLeftAlone) {
  Batch b;
  b.checkpoints.push_back(checkpoint(1, 7, 100));
  store_->commit(b);
  EXPECT_EQ(in(boot(), 1).epoch, Epoch(1));
  EXPECT_THAT(said_, IsEmpty());
}

TEST_P(CheckedStoreTest, AGpuGivenToALiveAttemptThatIsNotOnItIsGivenBack) {
  Batch b;
  b.opened.push_back({.gpu = GpuId(2), .job = JobId(1), .epoch = Epoch(1), .from = at(11), .until = {}});
  store_->commit(b);
  const Snapshot s = boot();
  EXPECT_EQ(in(s, 1).state, JobState::running);
  ASSERT_THAT(s.allocations, SizeIs(1));
  EXPECT_EQ(s.allocations[0].gpu, GpuId(1));
  EXPECT_THAT(said_, ElementsAre("GPU 2 is held by attempt 1/1, which is not on it: given back"));
  store_->acquire_leadership("again");
  Batch next;
  next.opened.push_back({.gpu = GpuId(2), .job = JobId(2), .epoch = Epoch(1), .from = at(1001), .until = {}});
  store_->commit(next);
}

// Its allocations are ended once, whichever way they come to be.
TEST_P(CheckedStoreTest, ASpecThatCannotBeReadAndAGpuTooManyAreMendedTogether) {
  Batch b;
  b.changed_specs[JobId(1)] = "broken";
  b.opened.push_back({.gpu = GpuId(2), .job = JobId(1), .epoch = Epoch(1), .from = at(11), .until = {}});
  store_->commit(b);
  const Snapshot s =
      boot({.problem = [](std::string_view text) { return text == "broken" ? "expected a value" : ""; },
            .stand_in = [](const JobRow&) { return std::string("{}"); }});
  EXPECT_EQ(in(s, 1).state, JobState::held);
  EXPECT_THAT(s.allocations, IsEmpty());
}

// ---------------------------------------------------------------- without a store

// One number of a job, in every state: what is to be committed is never refused for it.
TEST(CheckedNumbers, NoRepairIsRefused) {
  constexpr auto kLeast = std::numeric_limits<std::int32_t>::min(),
                 kMost = std::numeric_limits<std::int32_t>::max();
  const std::vector<void (*)(JobRow&, std::int32_t)> numbers = {
      [](JobRow& j, std::int32_t n) { j.version = n; },
      [](JobRow& j, std::int32_t n) { j.priority = static_cast<std::int16_t>(n); },
      [](JobRow& j, std::int32_t n) { j.nodes = n; },
      [](JobRow& j, std::int32_t n) { j.gpus_per_node = n; },
      [](JobRow& j, std::int32_t n) { j.no_progress = static_cast<std::int16_t>(n); },
      [](JobRow& j, std::int32_t n) { j.best_step = n; },
      [](JobRow& j, std::int32_t n) { j.attempt = n; },
      [](JobRow& j, std::int32_t n) { j.epoch = Epoch(n); }};
  int repaired = 0;
  for (int state = 1; state <= 7; ++state)
    for (const auto set : numbers)
      for (const std::int32_t n : {kLeast, -2, -1, 0, 101, kMost}) {
        Snapshot rows;
        JobRow row = job(1);
        row.state = static_cast<JobState>(state);
        row.not_before = row.state == JobState::delayed ? at(5) : Instant{};
        row.epoch = Epoch(2);
        row.attempt = 1;
        set(row, n);
        rows.jobs.push_back(row);
        rows.specs.add("{}");
        const auto repairs = db::find_repairs(rows, {}, at(1000));
        EXPECT_NO_THROW(db::require_well_formed(repairs.batch)) << state << ' ' << n;
        for (const auto& update : repairs.batch.jobs) rows.jobs[0] = update.row;
        EXPECT_TRUE(db::find_repairs(rows, {}, at(1001)).batch.empty()) << state << ' ' << n;
        repaired += repairs.batch.empty() ? 0 : 1;
      }
  EXPECT_GT(repaired, 7 * 8) << "most of these cannot be";
}

TEST(CheckedNumbers, AVersionFallsFromBeyondTheLastOneAlone) {
  Batch b;
  JobRow row = job(1);
  for (const std::int32_t base : {0, -7, db::kLastVersion + 1}) {
    b.jobs = {{row, base}};
    EXPECT_NO_THROW(db::require_well_formed(b)) << base;
  }
  for (const std::int32_t base : {1, 2, db::kLastVersion}) {
    b.jobs = {{row, base}};
    EXPECT_THROW(db::require_well_formed(b), StoreError) << base;
  }
}

}  // namespace
}  // namespace tutti
