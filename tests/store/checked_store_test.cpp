// Rows that cannot be: the jobs they belong to are held and say why, everything else goes on.
#include "tests/store/checked_world.h"

namespace tutti {
namespace {

using db::CheckedStore;
using db::SpecCheck;
using testing::AllOf;
using testing::Contains;
using testing::HasSubstr;

TEST_P(CheckedStoreTest, WhatIsRightIsLeftAlone) {
  const Snapshot before = store_->load();
  const Snapshot after = boot({.problem = [](auto) { return ""; }, .stand_in = {}});
  EXPECT_THAT(said_, IsEmpty());
  EXPECT_EQ(after.jobs, before.jobs);
  EXPECT_EQ(after.last_event, before.last_event);
}

TEST_P(CheckedStoreTest, RunningJobWithoutAnAttemptIsHeldAndTheOthersGoOn) {
  Batch b;
  JobRow row = in(store_->load(), 2);
  row.state = JobState::running;
  row.epoch = Epoch(3);
  row.attempt = 1;
  row.version = 2;
  b.jobs.push_back({row, 1});
  store_->commit(b);
  const Snapshot s = boot();
  EXPECT_EQ(in(s, 2).state, JobState::held);
  EXPECT_THAT(in(s, 2).reason, AllOf(HasSubstr("has no attempt"), HasSubstr("release")));
  EXPECT_THAT(in(s, 2).reason, HasSubstr("21 minutes after this"));
  EXPECT_EQ(in(s, 2).not_before, at(1000) + std::chrono::minutes(21)) << "its ranks may live on";
  EXPECT_EQ(in(s, 1).state, JobState::running);
  EXPECT_THAT(said_, ElementsAre("job 2 is held: it is running, but has no attempt"));
}

TEST_P(CheckedStoreTest, AttemptOfAJobThatDoesNotKnowOfItIsEnded) {
  Batch b;
  b.attempts.push_back(running(2, 5, GpuId(2)));
  b.opened.push_back({.gpu = GpuId(2), .job = JobId(2), .epoch = Epoch(5), .from = at(11), .until = {}});
  store_->commit(b);
  const Snapshot s = boot();
  EXPECT_THAT(s.attempts, SizeIs(1));
  EXPECT_THAT(s.allocations, SizeIs(1));
  EXPECT_EQ(in(s, 2).state, JobState::queued);
  EXPECT_THAT(said_, Contains(HasSubstr("attempt 2/5 runs, but its job does not know of it")));
}

TEST_P(CheckedStoreTest, AttemptOnAGpuThatIsGivenToAnotherIsEndedAndItsJobHeld) {
  Batch b;
  JobRow row = in(store_->load(), 2);
  row.state = JobState::running;
  row.epoch = Epoch(1);
  row.attempt = 1;
  row.version = 2;
  b.jobs.push_back({row, 1});
  b.attempts.push_back(running(2, 1, GpuId(1)));  // which job 1 holds
  store_->commit(b);
  const Snapshot s = boot();
  EXPECT_EQ(in(s, 1).state, JobState::running);
  EXPECT_EQ(in(s, 2).state, JobState::held);
  EXPECT_THAT(said_, ElementsAre("job 2 is held: GPU 1 of its attempt is given to job 1"));
}

TEST_P(CheckedStoreTest, AttemptOnANodeThatIsGoneIsEndedAndItsJobHeld) {
  Batch b;
  AttemptRow a = running(1, 1, GpuId(1));
  a.gang[0].node = NodeId(99);
  b.attempts.push_back(a);
  store_->commit(b);
  const Snapshot s = boot();
  EXPECT_EQ(in(s, 1).state, JobState::held);
  EXPECT_THAT(s.allocations, IsEmpty());
  EXPECT_THAT(said_, ElementsAre("job 1 is held: its attempt names node 99, which there is not"));
}

TEST_P(CheckedStoreTest, AttemptOnANodeTwiceIsEndedAndItsJobHeld) {
  Batch b;
  AttemptRow a = running(1, 1, GpuId(1));
  a.gang.push_back(a.gang[0]);
  b.attempts.push_back(a);
  JobRow row = in(store_->load(), 1);
  row.nodes = 2;
  row.version = 2;
  b.jobs.push_back({row, 1});
  store_->commit(b);
  EXPECT_EQ(in(boot(), 1).state, JobState::held);
  EXPECT_THAT(said_, ElementsAre("job 1 is held: its attempt names node 1 twice"));
}

TEST_P(CheckedStoreTest, AttemptWhoseRanksDoNotFollowEachOtherIsEndedAndItsJobHeld) {
  Batch b;
  AttemptRow a = running(1, 1, GpuId(1));
  a.gang[0].first_rank = 3;
  b.attempts.push_back(a);
  store_->commit(b);
  EXPECT_EQ(in(boot(), 1).state, JobState::held);
  EXPECT_THAT(said_,
              ElementsAre("job 1 is held: its attempt has ranks that do not follow each other, on node 1"));
}

// Nothing runs there any more, and nothing of it is mended: but a node that there is not is not avoided.
TEST_P(CheckedStoreTest, FailedAttemptOnANodeThatIsGoneIsNotRemembered) {
  Batch b;
  for (const std::int64_t epoch : {5, 6}) {
    AttemptRow a = running(2, epoch, GpuId(epoch == 5 ? 2 : 77));
    a.state = AttemptState::ended;
    a.result = AttemptResult::failed;
    a.cause = Cause::unknown;
    a.ended_at = at(20 + epoch);
    b.attempts.push_back(a);
  }
  store_->commit(b);
  JobRow row = in(store_->load(), 2);
  row.epoch = Epoch(6);
  row.attempt = 2;
  row.version = 2;
  Batch known;
  known.jobs.push_back({row, 1});
  store_->commit(known);
  const Snapshot s = boot();
  ASSERT_THAT(s.past_attempts, SizeIs(1));
  EXPECT_EQ(s.past_attempts[0].epoch, Epoch(5));
  EXPECT_EQ(in(s, 2).state, JobState::queued);
  EXPECT_THAT(said_, ElementsAre("attempt 2/6 has failed, and what its row says of its nodes is damaged "
                                 "(there is no GPU 77): no node is avoided for it"));
}

TEST_P(CheckedStoreTest, GpuHeldByNobodyWhoRunsIsGivenBack) {
  Batch b;
  b.opened.push_back({.gpu = GpuId(2), .job = JobId(1), .epoch = Epoch(9), .from = at(11), .until = {}});
  store_->commit(b);
  EXPECT_THAT(boot().allocations, SizeIs(1));
  EXPECT_THAT(said_, ElementsAre("GPU 2 is held by attempt 1/9, which does not run: given back"));
}

TEST_P(CheckedStoreTest, SpecThatCannotBeReadIsCoveredAndItsJobHeld) {
  Batch b;
  b.changed_specs[JobId(1)] = "{\"nodes\": broken";
  store_->commit(b);
  const SpecCheck check{
      .problem =
          [](std::string_view text) { return text.find("broken") == text.npos ? "" : "expected a value"; },
      .stand_in = [](const JobRow&) { return std::string("{\"run\":\"exit 78\"}"); }};
  const Snapshot s = boot(check);
  EXPECT_EQ(in(s, 1).state, JobState::held);
  EXPECT_THAT(in(s, 1).reason, HasSubstr("its spec cannot be read: expected a value"));
  EXPECT_EQ(s.specs.of(0), "{\"run\":\"exit 78\"}");
  EXPECT_THAT(s.attempts, IsEmpty());
  EXPECT_THAT(s.allocations, IsEmpty());
  EXPECT_EQ(in(s, 2).state, JobState::queued);
}

TEST_P(CheckedStoreTest, JobThatDidNotRunCanBeginAtOnceWhenItIsReleased) {
  Batch b;
  b.changed_specs[JobId(2)] = "broken";
  store_->commit(b);
  const Snapshot s =
      boot({.problem = [](std::string_view text) { return text == "broken" ? "expected a value" : ""; },
            .stand_in = [](const JobRow&) { return std::string("{\"run\":\"exit 78\"}"); }});
  EXPECT_EQ(in(s, 2).state, JobState::held);
  EXPECT_EQ(in(s, 2).not_before, Instant{});
  EXPECT_EQ(in(s, 2).reason.find("minutes"), std::string::npos);
}

TEST_P(CheckedStoreTest, TheHistoryTellsIt) {
  Batch b;
  AttemptRow a = running(1, 1, GpuId(1));
  a.gang.clear();
  b.attempts.push_back(a);
  store_->commit(b);
  boot();
  std::vector<std::string> edges;
  for (const auto& e : reader_->job_events(JobId(1), EventId(), 100)) edges.push_back(e.from + ">" + e.to);
  EXPECT_THAT(edges, ElementsAre("running>stopping", "stopping>held"));
}

TEST_P(HandEditedTest, AttemptWhoseGangCannotBeReadIsEndedAndItsJobHeldAndTheOthersGoOn) {
  write_gang(R"({"node": 1})", "job = 1");
  const Snapshot s = boot();
  EXPECT_EQ(in(s, 1).state, JobState::held);
  EXPECT_THAT(in(s, 1).reason, AllOf(HasSubstr("the nodes of its attempt 1 cannot be read"),
                                     HasSubstr("column gang is no array"), HasSubstr("release")));
  EXPECT_EQ(in(s, 1).not_before, at(1000) + std::chrono::minutes(21)) << "its ranks may live on";
  EXPECT_EQ(in(s, 2).state, JobState::queued);
  EXPECT_THAT(s.attempts, IsEmpty());
  EXPECT_THAT(s.allocations, IsEmpty());
  EXPECT_THAT(s.unreadable, IsEmpty()) << "the row can be read again";
  EXPECT_THAT(said_, ElementsAre("job 1 is held: the nodes of its attempt 1 cannot be read: column gang is "
                                 "no array"));
  EXPECT_THAT(sql("SELECT concat_ws(' ', state, result, gang) FROM attempt WHERE job = 1"),
              ElementsAre("6 3 []"));
}

TEST_P(HandEditedTest, EveryWayToSpoilAGangIsReportedAndNoneKeepsTheClusterFromStarting) {
  const std::string good = sql("SELECT gang::text FROM attempt WHERE job = 1")[0];
  const auto with = [&](const std::string& key, const std::string& value) {
    return sql("SELECT jsonb_set('" + good + "', '{0," + key + "}', '" + value + "')::text")[0];
  };
  const std::vector<std::pair<std::string, std::string>> spoiled = {
      {"null", "column gang is no array"},
      {R"("n1")", "column gang is no array"},
      {"[17]", "entry 1: no object"},
      {sql("SELECT ('" + good + "'::jsonb #- '{0,how}')::text")[0], "entry 1: there is no \"how\""},
      {with("node", R"("one")"), "entry 1: \"node\" is no whole number in range"},
      {with("gpus", "3"), "entry 1: \"gpus\" is no array"},
      {with("gpus", "[1.5]"), "entry 1: \"gpus\" is no whole number in range"},
      {with("ranks", "5000000000"), "entry 1: \"ranks\" is no whole number in range"},
      {with("state", "7"), "entry 1: \"state\" is 7"},
      {with("ok", "1"), "entry 1: \"ok\" is neither true nor false"},
      {with("address", "null"), "entry 1: \"address\" is no text"},
  };
  for (const auto& [json, what] : spoiled) {
    write_gang(json, "job = 1");
    const Snapshot rows = store_->load();
    EXPECT_THAT(db::find_repairs(rows, {}, at(1000)).said, ElementsAre(HasSubstr(what))) << json;
    EXPECT_THAT(rows.jobs, SizeIs(2)) << json;
  }
}

TEST_P(HandEditedTest, FailedAttemptWhoseGangCannotBeReadIsNotRememberedAndCanBeLookedAt) {
  Batch b;
  AttemptRow a = running(2, 5, GpuId(2));
  a.state = AttemptState::ended;
  a.result = AttemptResult::failed;
  a.cause = Cause::unknown;
  a.ended_at = at(25);
  b.attempts.push_back(a);
  JobRow row = in(store_->load(), 2);
  row.epoch = Epoch(5);
  row.attempt = 1;
  row.version = 2;
  b.jobs.push_back({row, 1});
  store_->commit(b);
  write_gang(R"([{"node": 1}])", "job = 2");
  const Snapshot s = boot();
  EXPECT_THAT(s.past_attempts, IsEmpty());
  EXPECT_THAT(said_, ElementsAre(AllOf(HasSubstr("attempt 2/5 has failed"), HasSubstr("entry 1"))));
  const auto shown = reader_->attempts(JobId(2));
  ASSERT_THAT(shown, SizeIs(1));
  EXPECT_THAT(shown[0].gang, IsEmpty());
  EXPECT_EQ(shown[0].cause, Cause::unknown);
}

TEST_P(HandEditedTest, ReportsOfUseCountAnAttemptWhoseGangCannotBeRead) {
  write_gang("{}", "job = 1");
  UsageQuery query;
  query.since = at(0);
  query.until = at(3610);
  const UsageRow total = reader_->usage(query).total;
  EXPECT_EQ(total.attempts, 1);
  EXPECT_EQ(total.gpu, Duration(std::chrono::seconds(3600))) << "its GPU is held since second 10";
  EXPECT_EQ(total.node, Duration::zero());
}

// Each word that a leader says to its store is one for the store inside.
class Telling final : public Store {
 public:
  explicit Telling(std::vector<std::string>& said) : said_(said) {}
  void introduce(LeaderCard card) override { said_.push_back("introduce " + card.url); }
  Term acquire_leadership(const std::string& holder) override {
    said_.push_back("acquire " + holder);
    return Term(7);
  }
  Duration predecessors_renew() override { return std::chrono::seconds(9); }
  std::vector<std::string> predecessor_urls() override { return {"http://before:7070"}; }
  void resign() noexcept override { said_.emplace_back("resign"); }
  Snapshot load() override { return rows; }
  void commit(const Batch&) override { said_.emplace_back("commit"); }
  void prove_leadership() override { said_.emplace_back("prove"); }
  bool healthy() noexcept override { return true; }

  Snapshot rows;

 private:
  std::vector<std::string>& said_;
};

TEST(CheckedStore, SaysEveryWordOfTheLeaderToTheStoreInside) {
  std::vector<std::string> said;
  CheckedStore checked(
      std::make_unique<Telling>(said), {}, [](const std::string&) {}, [] { return at(1000); });
  EXPECT_TRUE(checked.healthy());
  checked.introduce({.url = "http://us:7070", .instance = {}, .key_print = {}, .renews_for = {}});
  EXPECT_EQ(checked.acquire_leadership("us"), Term(7));
  EXPECT_EQ(checked.predecessors_renew(), Duration(std::chrono::seconds(9)));
  EXPECT_THAT(checked.predecessor_urls(), ElementsAre("http://before:7070"));
  checked.prove_leadership();
  checked.commit({});
  checked.resign();
  EXPECT_THAT(said, ElementsAre("introduce http://us:7070", "acquire us", "prove", "commit", "resign"));
}

TEST(CheckedStore, MendsNothingOfANewerSchema) {
  for (const bool newer : {false, true}) {
    std::vector<std::string> said;
    auto inside = std::make_unique<Telling>(said);
    JobRow row;
    row.id = JobId(1);
    row.state = JobState::running;
    inside->rows.jobs.push_back(row);
    inside->rows.newer_schema = newer;
    CheckedStore checked(std::move(inside), {}, [](const std::string&) {}, [] { return at(1000); });
    checked.acquire_leadership("us");
    if (!newer) {
      checked.load();
      EXPECT_THAT(said, ElementsAre("acquire us", "commit"));
      continue;
    }
    try {
      checked.load();
      ADD_FAILURE() << "it must not go on";
    } catch (const StoreError& e) {
      EXPECT_EQ(e.kind, StoreError::outdated);
      EXPECT_THAT(e.what(), HasSubstr("job 1 is held: it is running, but has no attempt"));
    }
    EXPECT_THAT(said, ElementsAre("acquire us"));
  }
}

INSTANTIATE_TEST_SUITE_P(Both, CheckedStoreTest, testing::Values(Kind::memory, Kind::postgres),
                         [](const auto& info) { return info.param == Kind::memory ? "Memory" : "Postgres"; });

INSTANTIATE_TEST_SUITE_P(Postgres, HandEditedTest, testing::Values(Kind::postgres));

}  // namespace
}  // namespace tutti
