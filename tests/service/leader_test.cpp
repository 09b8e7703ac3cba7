// The writer over a store with faults: what is said, and when.
#include "scheduler/service/leader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <spdlog/sinks/ostream_sink.h>
#include <spdlog/spdlog.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <condition_variable>
#include <mutex>
#include <new>
#include <sstream>
#include <utility>

#include "db/memory/memory_reader.h"
#include "db/memory/memory_store.h"

namespace tutti {
namespace {

using Fault = db::MemoryStore::Fault;

// Holds every commit until the test lets it go; its faults are the memory store's.
class GatedStore : public Store {
 public:
  explicit GatedStore(std::shared_ptr<db::MemoryDatabase> database) : inner(std::move(database)) {}
  void introduce(LeaderCard card) override { inner.introduce(std::move(card)); }
  Term acquire_leadership(const std::string& holder) override { return inner.acquire_leadership(holder); }
  Duration predecessors_renew() override { return inner.predecessors_renew(); }
  std::vector<std::string> predecessor_urls() override { return inner.predecessor_urls(); }
  void resign() noexcept override { inner.resign(); }
  void prove_leadership() override { commit({}); }
  Snapshot load() override {
    std::unique_lock lock(mutex);
    ++loads;
    if (!reachable) throw StoreError(StoreError::unavailable, reason);
    if (no_memory) throw std::bad_alloc();
    return inner.load();
  }
  void commit(const Batch& batch) override {
    std::unique_lock lock(mutex);
    ++waiting;
    changed.notify_all();
    changed.wait(lock, [&] { return open; });
    --waiting;
    sizes.push_back(batch.new_specs.size());
    for (const auto& spec : batch.new_specs)
      if (spec.spec_json.find("poison") != std::string::npos)
        throw StoreError(StoreError::corrupt, "a rule is broken");
    for (const auto& attempt : batch.attempts)
      if (attempt.job == never_starts && attempt.state == AttemptState::placed)
        throw StoreError(StoreError::conflict, "a GPU has two owners");
    inner.commit(batch);
    if (std::exchange(breaks, false)) throw std::bad_alloc();
  }
  bool healthy() noexcept override { return true; }

  void set_open(bool value) {
    std::unique_lock lock(mutex);
    open = value;
    changed.notify_all();
  }
  void wait_for_commit() {
    std::unique_lock lock(mutex);
    ASSERT_TRUE(changed.wait_for(lock, std::chrono::seconds(10), [&] { return waiting > 0; }));
  }

  db::MemoryStore inner;
  std::mutex mutex;
  std::condition_variable changed;
  bool open = true;
  bool reachable = true;
  std::string reason = "down";
  bool breaks = false;     // the next commit, after it was applied
  bool no_memory = false;  // for the rows
  JobId never_starts;
  int waiting = 0;
  int loads = 0;
  std::vector<std::size_t> sizes;  // submissions per commit
};

struct NoWorkers : WorkerMessages {
  std::vector<Effect> delivered;
  int resyncs = 0;
  void deliver(Effect e) override { delivered.push_back(std::move(e)); }
  void resync(const std::vector<NodeRow>&) override { ++resyncs; }
  void read_log(NodeId, protocol::ReadLog, Reply<protocol::LogChunk>) override {}
};

struct LeaderTest : ::testing::Test {
  std::shared_ptr<db::MemoryDatabase> database = std::make_shared<db::MemoryDatabase>();
  GatedStore* gate = nullptr;
  boost::asio::io_context io{1};
  LeaseTable leases{LeaseSettings{.suspicion = std::chrono::milliseconds(500)}};
  Metrics metrics;
  NoWorkers workers;
  std::unique_ptr<StoreThread> store;
  std::unique_ptr<Leader> leader;
  std::string deposed;

  void SetUp() override {
    auto gated = std::make_unique<GatedStore>(database);
    gate = gated.get();
    store = std::make_unique<StoreThread>(io.get_executor(), std::move(gated),
                                          std::make_shared<db::MemoryReader>(database), 1);
    LeaderSettings settings;
    settings.holder = "test";
    settings.max_inbox = 50;
    settings.max_batch_jobs = 25;
    settings.slow_commit = std::chrono::milliseconds(20);
    settings.say_why_away = Duration::zero();
    leader = std::make_unique<Leader>(io.get_executor(), settings, *store, leases, metrics);
    leader->start(workers, [this](const std::string& why) { deposed = why; });
    until([&] { return leader->plane() != nullptr; });
  }
  void TearDown() override {
    gate->set_open(true);
    bool stopped = false;
    leader->stop([&] { stopped = true; });
    until([&] { return stopped; });
    store.reset();
  }
  // Runs the control thread until `condition`; fails after ten seconds.
  template <class F>
  void until(F condition) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    while (!condition() && std::chrono::steady_clock::now() < end)
      io.run_one_for(std::chrono::milliseconds(50));
    ASSERT_TRUE(condition());
  }
  void turn() {  // everything that can happen without the store
    io.poll();
  }
  SubmitRequest request(const std::string& key = "") {
    auto spec = std::make_shared<JobSpec>();
    spec->name = "j";
    spec->run = "true";
    return {.spec = spec,
            .spec_json = R"({"name":"j","run":"true"})",
            .owner = "ada",
            .idempotency_key = key,
            .body_hash = 7};
  }
  struct Answers {
    std::vector<Result<Submitted>> all;
  };
  std::optional<NodeId> register_node() {
    protocol::Hello hello;
    hello.node = "n1";
    hello.boot_id = hello.instance = "1";
    hello.cpus = 64;
    hello.memory_bytes = std::int64_t{1} << 40;
    std::optional<NodeId> node;
    leader->change_nodes([&](ControlPlane& p, Now now) -> Result<NodeId> { return p.on_hello(now, hello); },
                         [&](Result<NodeId> r) { node = r ? *r : NodeId(); });
    until([&] { return node.has_value(); });
    return node;
  }
  void submit(Answers& to, const std::string& key = "") {
    leader->submit({request(key)}, [&to](std::vector<Result<Submitted>> r) { to.all.push_back(r.at(0)); });
  }
};

TEST_F(LeaderTest, AnswersOnlyAfterTheCommit) {
  gate->set_open(false);
  Answers answers;
  submit(answers);
  turn();
  gate->wait_for_commit();
  turn();
  EXPECT_TRUE(answers.all.empty());
  gate->set_open(true);
  until([&] { return !answers.all.empty(); });
  EXPECT_TRUE(answers.all[0]);
}

TEST_F(LeaderTest, WhatComesDuringACommitIsTheNextBatch) {
  gate->set_open(false);
  Answers answers;
  submit(answers);
  turn();
  gate->wait_for_commit();
  for (int i = 0; i < 20; ++i) submit(answers);
  turn();
  gate->set_open(true);
  until([&] { return answers.all.size() == 21; });
  EXPECT_EQ(gate->sizes, (std::vector<std::size_t>{1, 20}));
}

TEST_F(LeaderTest, TheStoreDoesNotWaitForTheAnswersOfASubmission) {
  gate->set_open(false);
  Answers answers;
  std::size_t known = 0;  // when the first one is answered
  leader->submit({request()}, [&](const std::vector<Result<Submitted>>& r) {
    known = leader->plane()->jobs().size();
    answers.all.push_back(r.at(0));
  });
  turn();
  gate->wait_for_commit();
  submit(answers);
  turn();
  gate->set_open(true);
  until([&] { return answers.all.size() == 2; });
  EXPECT_EQ(known, 2u) << "the second was decided before";
}

TEST_F(LeaderTest, AnAnswerOffThePlaneDoesNotTellOfTheNextBatch) {
  Answers answers;
  submit(answers);
  until([&] { return !answers.all.empty(); });
  const JobId id = answers.all[0]->id;
  gate->set_open(false);
  std::size_t known = 0;
  leader->change_jobs([id](ControlPlane& plane, Now now) { return plane.on_hold(now, id, "a test"); },
                      [&](const Result<JobId>&) { known = leader->plane()->jobs().size(); });
  turn();
  gate->wait_for_commit();
  submit(answers);
  turn();
  gate->set_open(true);
  until([&] { return answers.all.size() == 2; });
  EXPECT_EQ(known, 1u) << "the submission after it was not yet committed";
}

// Silence is noticed, and leases end, by the tick: also while batches follow each other without a pause.
TEST_F(LeaderTest, TimePassesForABusyLeader) {
  const auto node = register_node();
  const auto state = [&] { return leader->plane()->cluster().find(*node)->row.state; };
  ASSERT_EQ(state(), NodeState::reachable);
  Answers busy;
  std::size_t asked = 0;
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (state() == NodeState::reachable && std::chrono::steady_clock::now() < end) {
    if (busy.all.size() == asked) {
      ++asked;
      submit(busy);
    }
    io.run_one_for(std::chrono::milliseconds(50));
  }
  EXPECT_EQ(state(), NodeState::unreachable);
  EXPECT_GT(asked, 3u);
  until([&] { return busy.all.size() == asked; });
}

TEST_F(LeaderTest, FullInboxRefusesAtOnce) {
  gate->set_open(false);
  Answers answers, refused;
  submit(answers);
  turn();
  gate->wait_for_commit();
  for (int i = 0; i < 50; ++i) submit(answers);
  submit(refused);
  ASSERT_EQ(refused.all.size(), 1u);
  EXPECT_EQ(refused.all[0].error().code, Errc::unavailable);
  gate->set_open(true);
  until([&] { return answers.all.size() == 51; });
}

TEST_F(LeaderTest, FailedCommitIsRefusedAndForgotten) {
  gate->inner.fail_next_commit(Fault::unavailable);
  Answers first, second;
  submit(first, "k");
  until([&] { return first.all.size() == 1; });
  EXPECT_EQ(first.all[0].error().code, Errc::unavailable);
  until([&] { return leader->plane() != nullptr; });
  EXPECT_TRUE(leader->plane()->jobs().empty());
  submit(second, "k");
  until([&] { return second.all.size() == 1; });
  EXPECT_FALSE(second.all[0].value().replayed);
}

// Each job has its place, not each request: a thousand in one would take a thousand times the memory.
TEST_F(LeaderTest, TheInboxCountsJobs) {
  gate->set_open(false);
  Answers first;
  submit(first);
  turn();
  gate->wait_for_commit();
  std::size_t answered = 0;
  leader->submit(std::vector<SubmitRequest>(50, request()),
                 [&](const std::vector<Result<Submitted>>& r) { answered = r.size(); });
  EXPECT_EQ(leader->status().reasons.back(), "inbox_full");
  Answers refused;
  submit(refused);
  ASSERT_EQ(refused.all.size(), 1u);
  EXPECT_EQ(refused.all[0].error().code, Errc::unavailable);
  gate->set_open(true);
  until([&] { return answered == 50; });
  Answers again;
  submit(again);
  until([&] { return again.all.size() == 1; });
  EXPECT_TRUE(again.all[0]);
}

TEST_F(LeaderTest, ACommitThatTakesLongIsAReasonWhileItDoesAndAfterwards) {
  const auto is_slow = [&] {
    const auto reasons = leader->status().reasons;
    return std::ranges::find(reasons, "slow_commits") != reasons.end();
  };
  gate->set_open(false);
  Answers answers;
  submit(answers);
  turn();
  gate->wait_for_commit();
  until(is_slow);
  EXPECT_NE(leader->status().detail.find("slow"), std::string::npos);
  gate->set_open(true);
  until([&] { return answers.all.size() == 1; });
  EXPECT_TRUE(is_slow());
}

// Everything that is logged, as long as it lives.
class Lines {
 public:
  Lines() {
    spdlog::set_default_logger(std::make_shared<spdlog::logger>(
        "test", std::make_shared<spdlog::sinks::ostream_sink_mt>(text_, true)));
  }
  ~Lines() { spdlog::set_default_logger(before_); }
  Lines(const Lines&) = delete;
  Lines& operator=(const Lines&) = delete;
  int with(const std::string& words) const {
    int n = 0;
    const std::string all = text_.str();
    for (auto at = all.find(words); at != std::string::npos; at = all.find(words, at + 1)) ++n;
    return n;
  }

 private:
  std::shared_ptr<spdlog::logger> before_ = spdlog::default_logger();
  std::ostringstream text_;
};

// However often it is asked in vain.
TEST_F(LeaderTest, ALossOfTheStoreIsOneLineAndAnotherWhenItAnswersAgain) {
  const Lines lines;
  {
    std::unique_lock lock(gate->mutex);
    gate->reachable = false;
  }
  gate->inner.fail_next_commit(Fault::unavailable);
  Answers answers;
  submit(answers);
  const auto loads = [&] {
    std::unique_lock lock(gate->mutex);
    return gate->loads;
  };
  until([&] { return loads() >= 4; });
  EXPECT_EQ(leader->status().reasons.front(), "store_unavailable");
  EXPECT_NE(leader->metrics_text().find("tutti_store_outages_total 1\n"), std::string::npos);
  EXPECT_EQ(lines.with("down"), 1) << "another reason than that of the commit, and the same again";
  {
    std::unique_lock lock(gate->mutex);
    gate->reason = "no room";
  }
  until([&] { return lines.with("no room") == 1; });
  {
    std::unique_lock lock(gate->mutex);
    gate->reachable = true;
  }
  until([&] { return leader->status().ready; });
  EXPECT_EQ(lines.with("the store is lost: "), 1);
  EXPECT_EQ(lines.with(", now: "), 2);
  EXPECT_EQ(lines.with("the store answers again, after "), 1);
  EXPECT_EQ(leader->metrics_text().find("tutti_store_outage_seconds_total 0\n"), std::string::npos);
  EXPECT_NE(leader->metrics_text().find("tutti_store_outages_total 1\n"), std::string::npos);
}

// The client was told that nobody knows, the rows are there: the retried key must find its job.
TEST_F(LeaderTest, DoubtfulCommitIsReadBackFromTheRows) {
  gate->inner.fail_next_commit(Fault::in_doubt_applied);
  Answers first, second;
  submit(first, "k");
  until([&] { return first.all.size() == 1; });
  ASSERT_FALSE(first.all[0]);
  EXPECT_EQ(first.all[0].error().code, Errc::in_doubt) << "not unavailable: that means, nothing has happened";
  EXPECT_NE(first.all[0].error().hint.find("Idempotency-Key"), std::string::npos);
  until([&] { return leader->plane() != nullptr; });
  EXPECT_EQ(leader->plane()->jobs().size(), 1u);
  submit(second, "k");
  until([&] { return second.all.size() == 1; });
  EXPECT_TRUE(second.all[0].value().replayed);
  EXPECT_EQ(leader->plane()->jobs().size(), 1u);
}

// What is no word of the store may have come after the COMMIT was sent.
TEST_F(LeaderTest, FailureThatIsNoWordOfTheStoreIsDoubtful) {
  {
    std::unique_lock lock(gate->mutex);
    gate->breaks = true;
  }
  Answers first, second;
  submit(first, "k");
  until([&] { return first.all.size() == 1; });
  ASSERT_FALSE(first.all[0]);
  EXPECT_EQ(first.all[0].error().code, Errc::in_doubt);
  until([&] { return leader->plane() != nullptr; });
  submit(second, "k");
  until([&] { return second.all.size() == 1; });
  EXPECT_TRUE(second.all[0].value().replayed);
}

// Else a scheduler that cannot hold the rows would hold the lock, for ever.
TEST_F(LeaderTest, WhoHasNoMemoryForTheRowsEnds) {
  {
    std::unique_lock lock(gate->mutex);
    gate->no_memory = true;
  }
  gate->inner.fail_next_commit(Fault::unavailable);
  Answers answers;
  submit(answers);
  EXPECT_THROW(until([] { return false; }), std::bad_alloc);
  ASSERT_EQ(answers.all.size(), 1u);
  EXPECT_FALSE(answers.all[0]) << "nothing was promised";
}

TEST_F(LeaderTest, QuestionWhoseAnswerHasNoMemoryIsRefusedAlone) {
  std::optional<Error> refusal;
  leader->read([](Reader&) -> std::function<void()> { return [] { throw std::bad_alloc(); }; },
               [&](Error e) { refusal = std::move(e); });
  until([&] { return refusal.has_value(); });
  EXPECT_EQ(refusal->code, Errc::unavailable);
  EXPECT_NE(refusal->message.find("not enough memory"), std::string::npos) << refusal->message;
  Answers answers;
  submit(answers);
  until([&] { return answers.all.size() == 1; });
  EXPECT_TRUE(answers.all[0]);
}

TEST_F(LeaderTest, WorkersSayEverythingAgainAfterARecovery) {
  EXPECT_EQ(workers.resyncs, 1);
  gate->inner.fail_next_commit(Fault::in_doubt_not_applied);
  Answers answers;
  submit(answers);
  until([&] { return workers.resyncs == 2; });
}

TEST_F(LeaderTest, RefusesWithoutDelayWhileTheStoreIsAway) {
  {
    std::unique_lock lock(gate->mutex);
    gate->reachable = false;
  }
  gate->inner.fail_next_commit(Fault::unavailable);
  Answers answers;
  submit(answers);
  until([&] { return answers.all.size() == 1; });
  submit(answers);
  ASSERT_EQ(answers.all.size(), 2u) << "an answer at once, not when the store is back";
  EXPECT_EQ(answers.all[1].error().code, Errc::unavailable);
  EXPECT_FALSE(leader->status().ready);
  {
    std::unique_lock lock(gate->mutex);
    gate->reachable = true;
  }
  until([&] { return leader->status().ready; });
}

TEST_F(LeaderTest, DeposedLeaderStopsDeciding) {
  db::MemoryStore other(database);
  gate->inner.drop_session();  // so that the other can take the lock
  other.acquire_leadership("other");
  Answers answers;
  submit(answers);
  until([&] { return !deposed.empty(); });
  EXPECT_FALSE(answers.all.at(0));
  EXPECT_EQ(leader->plane(), nullptr);
}

TEST_F(LeaderTest, EventsAreToldAfterTheirCommitInOrder) {
  std::vector<std::int64_t> seen;
  const auto id = leader->subscribe([&](const EventRow& e) { seen.push_back(e.id.value); });
  Answers answers;
  for (int i = 0; i < 10; ++i) submit(answers);
  until([&] { return answers.all.size() == 10; });
  EXPECT_EQ(seen.size(), 10u);
  EXPECT_TRUE(std::ranges::is_sorted(seen));
  leader->unsubscribe(id);
  submit(answers);
  until([&] { return answers.all.size() == 11; });
  EXPECT_EQ(seen.size(), 10u);
}

// Rows of a time when this machine's clock was an hour ahead.
TEST_F(LeaderTest, AClockThatWasSetBackGoesOnBehindWhatHasBeenWritten) {
  Batch b;
  NodeRow node;
  node.id = NodeId(1);
  node.name = "n1";
  node.state_at = std::chrono::floor<Duration>(std::chrono::system_clock::now()) + std::chrono::hours(1);
  b.nodes = {node};
  gate->inner.commit(b);
  gate->inner.drop_session();
  Answers answers;
  submit(answers);  // finds the session gone, and reads the rows
  until([&] { return answers.all.size() == 1 && leader->plane() != nullptr && gate->loads == 2; });
  const Instant first = leader->now().wall;
  EXPECT_GE(first, node.state_at);
  until([&] { return leader->now().wall > first; });
}

// One request that the store will never take must not stop everybody else's work.
TEST_F(LeaderTest, WhatTheStoreRefusesIsFoundAndDroppedAlone) {
  SubmitRequest poison = request();
  poison.spec_json = R"({"name":"j","run":"poison"})";
  int times_refused = 0;
  Errc last = Errc::invalid_argument;
  std::function<void()> insist = [&] {  // a client that comes again as it is told to
    leader->submit({poison}, [&](const std::vector<Result<Submitted>>& r) {
      ++times_refused;
      last = r.at(0).error().code;
      if (last == Errc::unavailable) boost::asio::post(io, insist);
    });
  };
  insist();
  until([&] { return last == Errc::internal; });
  EXPECT_GE(times_refused, 2) << "the first time it could have been anybody's fault";

  until([&] { return leader->plane() != nullptr; });
  Answers answers;
  submit(answers);
  submit(answers);
  until([&] { return answers.all.size() == 2; });
  EXPECT_TRUE(answers.all[0] && answers.all[1]);
  EXPECT_EQ(gate->sizes.back(), 1U);
}

// The planner's doing is nobody's fault who says something in the same moment, such as the next node to
// register.
TEST_F(LeaderTest, AJobWhoseStartIsRefusedIsHeldAndAllOthersStart) {
  Answers jobs;
  for (int i = 0; i < 3; ++i) submit(jobs);
  until([&] { return jobs.all.size() == 3; });
  const JobId culprit = jobs.all[1]->id;
  gate->never_starts = culprit;
  const auto state = [&](JobId id) {
    const Job* job = leader->plane() == nullptr ? nullptr : leader->plane()->find_job(id);
    return job == nullptr ? JobState::failed : job->row.state;
  };
  // A node is known to live when it says hello after a load.
  std::vector<Errc> answered;
  std::function<void()> insist = [&] {
    protocol::Hello hello;
    hello.node = "n1";
    hello.boot_id = hello.instance = "1";
    hello.cpus = 64;
    hello.memory_bytes = std::int64_t{1} << 40;
    leader->change_nodes(
        [hello](ControlPlane& p, Now now) -> Result<NodeId> { return p.on_hello(now, hello); },
        [&](const Result<NodeId>& r) { answered.push_back(r ? Errc{} : r.error().code); });
  };
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  int resyncs = -1;
  const auto done = [&] {
    return state(culprit) == JobState::held && is_active(state(jobs.all[0]->id)) &&
           is_active(state(jobs.all[2]->id));
  };
  while (!done() && std::chrono::steady_clock::now() < end) {
    if (leader->plane() != nullptr && std::exchange(resyncs, workers.resyncs) != workers.resyncs) {
      insist();
      for (int i = 0; i < 1'500; ++i) {  // as a thousand workers do that are heard again
        Command word;
        word.room = Command::Room::always;
        word.decide = [](ControlPlane&, Now) -> std::function<void()> { return {}; };
        leader->post(std::move(word));
      }
    }
    io.run_one_for(std::chrono::milliseconds(20));
  }
  ASSERT_TRUE(done()) << name(state(jobs.all[0]->id)) << " " << name(state(culprit)) << " "
                      << name(state(jobs.all[2]->id));
  EXPECT_THAT(leader->plane()->find_job(culprit)->row.reason.str(),
              ::testing::HasSubstr("the database refuses its start: conflict: a GPU has two owners"));
  EXPECT_THAT(answered, ::testing::Not(::testing::Contains(Errc::internal)));
  for (const JobId id : {jobs.all[0]->id, jobs.all[2]->id})
    EXPECT_EQ(leader->plane()->find_job(id)->row.attempt, 1) << "nobody stopped it for another's sake";

  // It is for a person to let it go again, when the rows are mended.
  gate->never_starts = {};
  until([&] { return leader->status().inbox == 0; });
  std::optional<Result<JobId>> released;
  leader->change_jobs([&](ControlPlane& p, Now now) { return p.on_release(now, culprit, "ada"); },
                      [&](const Result<JobId>& r) { released = r; });
  until([&] { return released && is_active(state(culprit)); });
}

// What is over has closed its allocations: only its history tells when.
TEST_F(LeaderTest, TimeGoesOnBehindTheNewestEvent) {
  Batch b;
  NodeRow node;
  node.id = NodeId(1);
  node.name = "n1";
  EventRow event;
  event.id = EventId(1);
  event.at = std::chrono::floor<Duration>(std::chrono::system_clock::now()) + std::chrono::hours(1);
  event.node = NodeId(1);
  event.kind = "node";
  event.to = "reachable";
  b.nodes = {node};
  b.events = {event};
  gate->inner.commit(b);
  gate->inner.drop_session();
  Answers answers;
  submit(answers);
  until([&] { return answers.all.size() == 1 && leader->plane() != nullptr && gate->loads == 2; });
  EXPECT_GE(leader->now().wall, event.at);
}

// Each may bring a thousand: what waits is not decided in one transaction, however few requests it is.
TEST_F(LeaderTest, ABatchIsBoundedByTheJobsItChanges) {
  gate->set_open(false);
  Answers first;
  submit(first);
  turn();
  gate->wait_for_commit();
  std::vector<int> together;  // how many were decided before an answer
  int decided = 0, answered = 0;
  for (int i = 0; i < 5; ++i)
    leader->change_jobs(
        [&](ControlPlane& plane, Now now) -> Result<JobId> {
          ++decided;
          for (int job = 0; job < 13; ++job) plane.on_submit(now, request(""));
          return JobId();
        },
        [&](const Result<JobId>&) {
          ++answered;
          together.push_back(decided);
        });
  turn();
  gate->set_open(true);
  until([&] { return answered == 5; });
  EXPECT_EQ(together, (std::vector{2, 2, 4, 4, 5}));
}

// Much to do is no reason to cut workers off, nor to be taken for dead.
TEST_F(LeaderTest, WorkersHaveTheirOwnRoomInTheInbox) {
  gate->set_open(false);
  Answers answers;
  submit(answers);
  turn();
  gate->wait_for_commit();
  for (int i = 0; i < 50; ++i) submit(answers);
  int refused = 0, taken = 0;
  const auto say = [&](Command::Room room) {
    Command command;
    command.room = room;
    command.decide = [&](ControlPlane&, Now) -> std::function<void()> { return [&] { ++taken; }; };
    command.refuse = [&](const Error&) { ++refused; };
    return leader->post(std::move(command));
  };
  EXPECT_FALSE(say(Command::Room::shared));
  for (int i = 0; i < 50; ++i) EXPECT_TRUE(say(Command::Room::workers));
  EXPECT_FALSE(say(Command::Room::workers));
  EXPECT_TRUE(say(Command::Room::always));
  EXPECT_EQ(refused, 2);
  gate->set_open(true);
  until([&] { return taken == 51; });
}

}  // namespace
}  // namespace tutti
