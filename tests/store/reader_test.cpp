// One suite, two readers: lists, pages, names and counts, as REST shows them.
#include "db/reader.h"

#include <chrono>
#include <map>

#include "tests/store/store_world.h"

namespace tutti {
namespace {

class ReaderTest : public StoreTest {
 protected:
  // Jobs 1..10; odd ones have failed. 1–5 are of ann and project a, the others of bob and b.
  ReaderTest() {
    Batch b;
    for (int i = 1; i <= 10; ++i) {
      SpecRow s = spec(i);
      JobRow j = job(i);
      s.name = i % 2 ? "train" : "eval";
      s.owner = j.owner = i <= 5 ? "ann" : "bob";
      j.project = i <= 5 ? "a" : "b";
      j.queue = i == 10 ? "big" : "default";
      b.new_specs.push_back(s);
      b.new_jobs.push_back(j);
    }
    store_->commit(b);
    Batch end;
    for (const auto& j : b.new_jobs) {
      if (j.id.value % 2 == 0) continue;
      DoneRow done{j, at(100), 1};
      done.job.state = JobState::failed;
      done.job.version = 2;
      end.done.push_back({done, 1});
    }
    store_->commit(end);
  }
  std::vector<std::int64_t> ids(const JobFilter& f, int page = 100, std::int64_t after = 0) {
    std::vector<std::int64_t> out;
    for (const auto& v : reader_->list_jobs(f, page, JobId(after))) out.push_back(v.row.id.value);
    return out;
  }
};

INSTANTIATE_TEST_SUITE_P(Both, ReaderTest, testing::Values(Kind::memory, Kind::postgres),
                         [](const auto& info) { return info.param == Kind::memory ? "Memory" : "Postgres"; });

TEST_P(ReaderTest, PagesGoFromNewestToOldestWithoutGapOrRepeat) {
  EXPECT_THAT(ids({}, 4), ElementsAre(10, 9, 8, 7));
  EXPECT_THAT(ids({}, 4, 7), ElementsAre(6, 5, 4, 3));
  EXPECT_THAT(ids({}, 4, 3), ElementsAre(2, 1));
  EXPECT_THAT(ids({}, 4, 1), IsEmpty());
}

TEST_P(ReaderTest, FiltersHoldTogether) {
  JobFilter f;
  f.states = {JobState::failed};
  EXPECT_THAT(ids(f), ElementsAre(9, 7, 5, 3, 1));
  f.owner = "ann";
  EXPECT_THAT(ids(f), ElementsAre(5, 3, 1));
  f.since = at(3);
  EXPECT_THAT(ids(f), ElementsAre(5, 3));
  f.states = {JobState::queued, JobState::failed};
  EXPECT_THAT(ids(f, 2), ElementsAre(5, 4));
  f.until = at(5);
  EXPECT_THAT(ids(f, 2), ElementsAre(4, 3)) << "before that instant, not at it";
  EXPECT_THAT(ids({.states = {JobState::queued}}), ElementsAre(10, 8, 6, 4, 2));
  EXPECT_THAT(ids({.states = {JobState::running}}), IsEmpty());
  EXPECT_THAT(ids({.project = "b", .queue = "big"}), ElementsAre(10));
  EXPECT_THAT(ids({.owner = "bob", .name = "train"}), ElementsAre(9, 7));
}

TEST_P(ReaderTest, PartsOfNamesAndCausesAreFound) {
  EXPECT_THAT(ids({.name_part = "RAI"}), ElementsAre(9, 7, 5, 3, 1));
  EXPECT_THAT(ids({.owner = "bob", .name_part = "val"}), ElementsAre(10, 8, 6));
  EXPECT_THAT(ids({.name_part = "t%n"}), IsEmpty());
  EXPECT_EQ(ids({.causes = {Cause::none}}).size() + ids({.causes = {Cause::gpu, Cause::oom}}).size(),
            ids({}).size());
}

TEST_P(ReaderTest, JobsAreCountedInGroups) {
  const auto groups = [&](const JobFilter& f, JobKey by, int limit = 10) {
    std::vector<std::pair<std::string, std::int64_t>> out;
    for (const auto& g : reader_->count_jobs(f, by, limit)) out.emplace_back(g.key, g.jobs);
    return out;
  };
  using Pair = std::pair<std::string, std::int64_t>;
  EXPECT_THAT(groups({}, JobKey::state), testing::UnorderedElementsAre(Pair("queued", 5), Pair("failed", 5)));
  EXPECT_THAT(groups({}, JobKey::queue), ElementsAre(Pair("default", 9), Pair("big", 1)));
  EXPECT_THAT(groups({}, JobKey::queue, 1), ElementsAre(Pair("default", 9)));
  EXPECT_THAT(groups({.states = {JobState::failed}}, JobKey::user),
              ElementsAre(Pair("ann", 3), Pair("bob", 2)));
  EXPECT_THAT(groups({.owner = "ann"}, JobKey::name), ElementsAre(Pair("train", 3), Pair("eval", 2)));
  EXPECT_THAT(groups({}, JobKey::project), ElementsAre(Pair("a", 5), Pair("b", 5)));
  std::int64_t gpus = 0, asked = 0;
  for (const auto& g : reader_->count_jobs({}, JobKey::cause, 10)) gpus += g.gpus;
  for (const auto& v : reader_->list_jobs({}, 100, JobId(0))) asked += v.row.nodes * v.row.gpus_per_node;
  EXPECT_EQ(gpus, asked);
}

// What is asked for is compared, never read as SQL: such a name finds nothing, or the job that has it.
TEST_P(ReaderTest, TextThatWouldBreakOutOfAStatementIsOnlyText) {
  const std::string malice[] = {"' OR '1'='1",
                                "train' --",
                                "'; DROP TABLE job; --",
                                "\\'; SELECT pg_sleep(10); --",
                                "' UNION SELECT 1,2,3 --",
                                "%",
                                "train%",
                                "_rain",
                                "$1",
                                "E'\\x74'",
                                "NULL",
                                kNastyText};
  std::int64_t next = 100;
  for (const auto& text : malice) {
    for (JobFilter f : {JobFilter{.project = text}, JobFilter{.queue = text}, JobFilter{.owner = text},
                        JobFilter{.name = text}})
      EXPECT_THAT(ids(f), IsEmpty()) << text;
    EXPECT_THAT(reader_->resolve_name(text, 5), IsEmpty()) << text;
    EXPECT_FALSE(reader_->find_by_key("ann", text)) << text;
    EXPECT_FALSE(reader_->find_by_key(text, "k")) << text;
    Batch b;
    SpecRow s = spec(++next);
    JobRow j = job(next);
    s.name = j.project = j.queue = text;
    s.owner = j.owner = text;
    b.new_specs.push_back(s);
    b.new_jobs.push_back(j);
    store_->commit(b);
    EXPECT_THAT(ids({.project = text, .queue = text, .owner = text, .name = text}), ElementsAre(next))
        << text;
    EXPECT_THAT(reader_->resolve_name(text, 5), ElementsAre(JobId(next))) << text;
  }
  EXPECT_THAT(ids({.owner = "ann"}), ElementsAre(5, 4, 3, 2, 1)) << "nothing else has happened";
}

TEST_P(ReaderTest, WhatIsNotVisibleIsNotThere) {
  JobFilter f;
  f.visible = Visible{.projects = {"a"}, .owner = "ann"};
  EXPECT_THAT(ids(f), ElementsAre(5, 4, 3, 2, 1));
  f.visible = Visible{.projects = {"b"}, .owner = "ann"};
  EXPECT_THAT(ids(f), SizeIs(10)) << "one's own in every project";
  f.visible = Visible{.projects = {}, .owner = "bob"};
  EXPECT_THAT(ids(f, 3), ElementsAre(10, 9, 8));
  f.project = "a";
  EXPECT_THAT(ids(f), IsEmpty());
  f = {};
  f.visible = Visible{};
  EXPECT_THAT(ids(f), IsEmpty());
}

TEST_P(ReaderTest, JobsByTheirIds) {
  JobFilter f;
  f.ids = {JobId(3), JobId(99), JobId(8)};
  EXPECT_THAT(ids(f), ElementsAre(8, 3));
  f.visible = Visible{.projects = {"b"}, .owner = ""};
  EXPECT_THAT(ids(f), ElementsAre(8));
}

TEST_P(ReaderTest, ListsCarryNamesAndEnds) {
  const auto views = reader_->list_jobs({}, 2, JobId(0));
  ASSERT_THAT(views, SizeIs(2));
  EXPECT_EQ(views[0].name, "eval");
  EXPECT_FALSE(views[0].ended_at);
  EXPECT_EQ(views[1].name, "train");
  EXPECT_EQ(views[1].ended_at, at(100));
  EXPECT_EQ(views[1].exit_code, 1);
}

TEST_P(ReaderTest, NamesResolveToTheNewest) {
  EXPECT_THAT(reader_->resolve_name("train", 2), ElementsAre(JobId(9), JobId(7)));
  EXPECT_THAT(reader_->resolve_name("trai", 2), IsEmpty());
}

TEST_P(ReaderTest, CountsAreByState) {
  const auto counts = reader_->count_by_state();
  EXPECT_EQ(counts[static_cast<std::size_t>(JobState::queued)], 5);
  EXPECT_EQ(counts[static_cast<std::size_t>(JobState::failed)], 5);
  EXPECT_EQ(counts[static_cast<std::size_t>(JobState::running)], 0);
}

TEST_P(ReaderTest, UnknownJobIsNothing) {
  EXPECT_FALSE(reader_->find_job(JobId(99)));
  EXPECT_THAT(reader_->attempts(JobId(99)), IsEmpty());
  EXPECT_THAT(reader_->job_events(JobId(99), EventId(0), 10), IsEmpty());
}

TEST_P(ReaderTest, EventsPageByIdAndMergeNodes) {
  Batch b;
  b.events = {event(1, 1, "", "queued"), node_event(2, 1, "", "reachable"), event(3, 2, "", "queued"),
              event(4, 1, "queued", "held"), node_event(5, 1, "reachable", "unreachable")};
  store_->commit(b);
  EXPECT_THAT(reader_->all_events(EventId(1), 3), ElementsAre(b.events[1], b.events[2], b.events[3]));
  EXPECT_THAT(reader_->all_events(EventId(4), 3), ElementsAre(b.events[4]));
  EXPECT_THAT(reader_->job_events(JobId(1), EventId(0), 1), ElementsAre(b.events[0]));
  EXPECT_THAT(reader_->job_events(JobId(1), EventId(1), 9), ElementsAre(b.events[3]));
  EXPECT_EQ(reader_->last_state(JobId(1), b.events[3].at), b.events[3]);
  EXPECT_FALSE(reader_->last_state(JobId(1), b.events[0].at - std::chrono::hours(1)));
  EXPECT_FALSE(reader_->last_state(JobId(99), b.events[3].at));
}

TEST_P(ReaderTest, EventsSayWhoseJobTheyAreOf) {
  Batch b;
  b.events = {event(1, 1, "", "queued"), node_event(2, 1, "", "reachable"), event(3, 10, "", "queued")};
  store_->commit(b);
  const auto all = reader_->all_events(EventId(0), 9);
  ASSERT_THAT(all, SizeIs(3));
  EXPECT_EQ(all[0].project + " " + all[0].owner, "a ann") << "of a job that is over";
  EXPECT_EQ(all[1].project + all[1].owner, "");
  EXPECT_EQ(all[2].project + " " + all[2].owner, "b bob");
}

TEST_P(ReaderTest, EventsForSomebodySayHowFarTheyLooked) {
  Batch b;
  for (int i = 1; i <= 30; ++i) b.events.push_back(event(i, i % 10 + 1, "", "queued"));
  b.events.push_back(node_event(31, 1, "", "reachable"));
  b.events.push_back(event(32, 1, "", "queued"));
  store_->commit(b);
  const Visible bob{.projects = {}, .owner = "bob"};
  auto window = reader_->events_for(bob, EventId(0), 100);
  EXPECT_THAT(window.rows, SizeIs(16)) << "15 of bob's, and the node's";
  EXPECT_EQ(window.seen, EventId(32)) << "though the last is not his";
  EXPECT_TRUE(window.end);
  window = reader_->events_for(bob, EventId(0), 6);
  ASSERT_THAT(window.rows, SizeIs(6));
  EXPECT_EQ(window.seen, window.rows.back().id);
  EXPECT_FALSE(window.end);
  window = reader_->events_for(bob, EventId(31), 6);
  EXPECT_THAT(window.rows, IsEmpty());
  EXPECT_EQ(window.seen, EventId(32));
  EXPECT_TRUE(window.end);
  window = reader_->events_for(bob, EventId(32), 6);
  EXPECT_THAT(window.rows, IsEmpty());
  EXPECT_EQ(window.seen, EventId(32)) << "it never goes back";
}

TEST_P(ReaderTest, EventsForSomebodyLookAtABoundedStretch) {
  for (int from = 1; from <= kEventWindow + 1000; from += 1000) {
    Batch b;
    for (int i = from; i < from + 1000; ++i)
      b.events.push_back(event(i, i == kEventWindow + 500 ? 10 : 1, "", "queued"));
    store_->commit(b);
  }
  const Visible bob{.projects = {}, .owner = "bob"};
  auto window = reader_->events_for(bob, EventId(0), 10);
  EXPECT_THAT(window.rows, IsEmpty());
  EXPECT_EQ(window.seen, EventId(kEventWindow));
  EXPECT_FALSE(window.end);
  window = reader_->events_for(bob, window.seen, 10);
  EXPECT_THAT(window.rows, SizeIs(1));
  EXPECT_TRUE(window.end);
}

TEST_P(ReaderTest, AChangedSpecHoldsAndTheSubmittedOneIsKept) {
  EXPECT_EQ(reader_->find_job(JobId(2))->submitted_json, "");
  Batch b;
  b.changed_specs[JobId(2)] = R"({"name":"y"})";
  store_->commit(b);
  const auto view = reader_->find_job(JobId(2));
  EXPECT_EQ(view->spec_json, R"({"name":"y"})");
  EXPECT_EQ(view->submitted_json, R"({"name":"x"})");
  EXPECT_EQ(store_->load().specs.of(0), R"({"name":"y"})") << "also for the next leader";
  Batch unknown;
  unknown.changed_specs[JobId(99)] = "{}";
  EXPECT_EQ(refusal(unknown), StoreError::conflict);
  Batch empty;
  empty.changed_specs[JobId(2)] = "";
  EXPECT_EQ(refusal(empty), StoreError::corrupt);
}

TEST_P(ReaderTest, FaultsFilterByNodeGpuJobAndTime) {
  Batch b;
  for (int i = 1; i <= 4; ++i) {
    b.faults.push_back(fault(i, i % 2 + 1));
    b.faults.back().gpu = GpuId(i);
    b.faults.back().job = JobId(i / 2);
    b.faults.back().slot = i == 4 ? "" : "0000:3b:00.0";
  }
  store_->commit(b);
  EXPECT_THAT(reader_->faults({.node = NodeId(1)}, 10, FaultId(0)), ElementsAre(b.faults[3], b.faults[1]));
  EXPECT_THAT(reader_->faults({.gpu = GpuId(3)}, 10, FaultId(0)), ElementsAre(b.faults[2]));
  EXPECT_THAT(reader_->faults({.job = JobId(1)}, 1, FaultId(3)), ElementsAre(b.faults[1]));
  EXPECT_THAT(reader_->faults({.since = at(4)}, 9, FaultId(0)), ElementsAre(b.faults[3]));
  EXPECT_THAT(reader_->faults({.until = at(4)}, 9, FaultId(0)), testing::SizeIs(3));
  const auto total = reader_->count_faults({}, FaultKey::nothing, 1);
  ASSERT_EQ(total.size(), 1u);
  EXPECT_EQ(total[0].faults, 4);
  for (const FaultKey by :
       {FaultKey::node, FaultKey::fault_class, FaultKey::gpu, FaultKey::action, FaultKey::slot}) {
    std::int64_t faults = 0;
    for (const auto& group : reader_->count_faults({}, by, 10)) {
      faults += group.faults;
      EXPECT_LE(group.jobs_hit, total[0].jobs_hit);
    }
    EXPECT_EQ(faults, 4);
  }
  const auto of_node = reader_->count_faults({.node = NodeId(1)}, FaultKey::node, 10);
  ASSERT_EQ(of_node.size(), 1u);
  EXPECT_EQ(of_node[0].key, "1");
  EXPECT_EQ(of_node[0].faults, 2);
  std::map<std::string, std::int64_t> by_slot;  // GPUs 1 and 3 have been in one place, one after the other
  for (const auto& group : reader_->count_faults({}, FaultKey::slot, 10)) by_slot[group.key] = group.faults;
  EXPECT_THAT(by_slot, testing::UnorderedElementsAre(testing::Pair("", 1), testing::Pair("1 0000:3b:00.0", 1),
                                                     testing::Pair("2 0000:3b:00.0", 2)));
  EXPECT_TRUE(reader_->count_faults({.fault_class = "'"}, FaultKey::action, 10).empty());
  EXPECT_TRUE(reader_->count_faults({.action = "' OR true --"}, FaultKey::action, 10).empty());
}

TEST_P(ReaderTest, OneAttemptAndItsNewestEvents) {
  Batch b = submission(1000);
  for (std::int64_t epoch = 1; epoch <= 3; ++epoch) {
    b.attempts.push_back(full_attempt(1000, epoch));
    b.attempts.back().number = static_cast<std::int32_t>(epoch);
  }
  for (std::int64_t id = 1; id <= 6; ++id) {
    b.events.push_back(event(id, 1000, "", "queued"));
    b.events.back().epoch = Epoch(id % 2 + 1);
  }
  store_->commit(b);
  EXPECT_EQ(reader_->find_attempt(JobId(1000), 2), b.attempts[1]);
  EXPECT_EQ(reader_->find_attempt(JobId(1000), 0), b.attempts[2]);
  EXPECT_EQ(reader_->find_attempt(JobId(1000), 4), std::nullopt);
  EXPECT_THAT(reader_->attempt_events({JobId(1000), Epoch(2)}, 2), ElementsAre(b.events[2], b.events[4]));
}

TEST_P(ReaderTest, SeriousFaultsAreCountedHoweverManyThereAre) {
  Batch b;
  for (int i = 1; i <= 1500; ++i) {
    b.faults.push_back(fault(i, 1));
    b.faults.back().at = at(i % 100);
    b.faults.back().shared_by = i % 3;
  }
  b.faults[2].fault_class = "node_lost";
  store_->commit(b);
  EXPECT_EQ(reader_->count_serious_faults(at(0)), 501);
  EXPECT_EQ(reader_->count_serious_faults(at(200)), 0);
}

// Who looks for a piece of a name may make the server read every job there has been.
TEST(PgReader, ASearchByNameGivesUpSoonerThanALookUp) {
  const auto database = TestPostgres::instance().create_database();
  db::PgReaderOptions options;
  options.connection_string = database.connection_string();
  options.scan_timeout = std::chrono::milliseconds(50);
  db::PgReader reader(options);
  db::Connection other({database.connection_string(), "locks", ""});
  const auto soon = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  other.run_script("BEGIN; LOCK TABLE job_spec IN ACCESS EXCLUSIVE MODE", soon);
  try {
    (void)reader.list_jobs({.name_part = "x"}, 10, JobId());
    ADD_FAILURE() << "it does not wait for the lock";
  } catch (const StoreError& error) {
    EXPECT_EQ(error.kind, StoreError::unavailable);
    EXPECT_THAT(error.what(), testing::HasSubstr("takes too long"));
  }
  EXPECT_THAT(reader.count_jobs({}, JobKey::state, 10), IsEmpty()) << "does not read names";
  other.run_script("COMMIT", soon);
  EXPECT_THAT(reader.list_jobs({.name_part = "x"}, 10, JobId()), IsEmpty());
  EXPECT_THAT(reader.list_jobs({}, 10, JobId()), IsEmpty());
}

}  // namespace
}  // namespace tutti
