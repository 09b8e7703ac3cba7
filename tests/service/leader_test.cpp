// The writer: what is said, and when; what waits, and what is refused at once.
#include "scheduler/service/leader.h"

#include <algorithm>
#include <new>

#include "tests/service/leader_rig.h"

namespace tutti {
namespace {

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
