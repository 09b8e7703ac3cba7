// The writer over a store with faults: what is said of a commit that fails or is in doubt, and how it goes on
// from the rows.
#include <gmock/gmock.h>
#include <spdlog/sinks/ostream_sink.h>
#include <spdlog/spdlog.h>

#include <boost/asio/post.hpp>
#include <new>
#include <sstream>
#include <utility>

#include "scheduler/service/leader.h"
#include "tests/service/leader_rig.h"

namespace tutti {
namespace {

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

}  // namespace
}  // namespace tutti
