// A replay in another process: the real one, and such that die, say nonsense or say nothing.
#include "scheduler/service/replay_process.h"

#include <gtest/gtest.h>

#include <cstdlib>

#include "db/store.h"

namespace tutti {
namespace {

using namespace std::chrono_literals;

replay::Comparison question(std::size_t jobs) {
  replay::Comparison q;
  for (std::size_t i = 0; i < jobs; ++i)
    q.trace.jobs.push_back({.submitted = Duration(60s) * static_cast<int>(i),
                            .gpus = 1 << (i % 4),
                            .ran = 10min + Duration(1s) * static_cast<int>(i % 700),
                            .limit = 1h,
                            .user = static_cast<int>(i % 5),
                            .queue = 0});
  q.trace.users = 5;
  q.trace.has_users = true;
  q.policies = {*planner::find_policy("easy"), *planner::find_policy("fair")};
  q.nodes = 3;
  return q;
}

ReplayProcess shell(const std::string& line, std::chrono::milliseconds grace = 20s) {
  return ReplayProcess({.path = "/bin/sh", .argv = {"sh", "-c", line}, .grace = grace});
}

std::string failure_of(const ReplayProcess& process, std::size_t jobs = 3) {
  try {
    process.compare(question(jobs));
  } catch (const StoreError& error) {
    EXPECT_EQ(error.kind, StoreError::unavailable);
    return error.what();
  }
  ADD_FAILURE() << "it answered";
  return "";
}

TEST(ReplayProcess, AnswersAsThePlannerHereDoes) {
  const char* bin = std::getenv("TUTTI_BIN");
  ASSERT_NE(bin, nullptr) << "TUTTI_BIN: where tutti-scheduler is; ctest sets it";
  auto program = ReplayProcess::this_program();
  program.path = std::string(bin) + "/tutti-scheduler";
  program.grace = 60s;
  auto q = question(3000);  // more than a socket holds at once
  q.patience = 60s;
  const auto there = ReplayProcess(program).compare(q);
  EXPECT_FALSE(there.given_up);
  EXPECT_EQ(there.results, replay::compare(q).results);
  ASSERT_EQ(there.results.size(), 2u);
  EXPECT_EQ(there.results[0].jobs, 3000u);
}

TEST(ReplayProcess, ThatDiesIsAFailureAndNoMore) {
  EXPECT_NE(failure_of(shell("cat >/dev/null; kill -ABRT $$")).find("signal 6"), std::string::npos);
  EXPECT_NE(failure_of(shell("exit 3"), 20'000).find("exit status 3"), std::string::npos)
      << "it has not even read the question";
  failure_of(shell("cat >/dev/null; echo result 1 2; echo end"));
  failure_of(shell("cat >/dev/null; echo end"));       // of no policy
  failure_of(shell("cat >/dev/null; echo given_up"));  // cut
  failure_of(ReplayProcess({.path = "/nowhere/tutti-scheduler", .argv = {"x"}}));
}

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define TUTTI_TEST_NO_LIMIT
#endif
#elif defined(__SANITIZE_ADDRESS__)
#define TUTTI_TEST_NO_LIMIT
#endif

TEST(ReplayProcess, ThatTakesMoreMemoryThanItMayEndsAlone) {
#ifdef TUTTI_TEST_NO_LIMIT
  GTEST_SKIP() << "a sanitizer takes all addresses";
#endif
  const char* bin = std::getenv("TUTTI_BIN");
  ASSERT_NE(bin, nullptr) << "TUTTI_BIN: where tutti-scheduler is; ctest sets it";
  auto program = ReplayProcess::this_program(8);
  program.path = std::string(bin) + "/tutti-scheduler";
  program.grace = 60s;
  const auto why = failure_of(ReplayProcess(program), 300'000);
  EXPECT_NE(why.find("--replay-memory-mb"), std::string::npos) << why;
}

TEST(ReplayProcess, ThatSaysNothingIsGivenUp) {
  auto q = question(3);
  q.patience = 100ms;
  EXPECT_TRUE(shell("cat >/dev/null; exec sleep 600", 100ms).compare(q).given_up);
  EXPECT_TRUE(shell("exec sleep 600", 100ms).compare(q).given_up);
  EXPECT_TRUE(shell("cat >/dev/null; echo given_up; echo end").compare(q).given_up);
}

TEST(ReplayQuestion, IsTheSameOnTheOtherSide) {
  const auto q = question(10);
  const auto text = replay::encode(q);
  const auto again = replay::decode_comparison(text);
  ASSERT_TRUE(again);
  EXPECT_EQ(replay::encode(*again), text);
  EXPECT_EQ(again->policies[1].name, "fair");
  EXPECT_EQ(again->patience, q.patience);
  EXPECT_EQ(replay::compare(*again).results, replay::compare(q).results);
  EXPECT_FALSE(replay::decode_comparison(text.substr(0, text.size() - 4))) << "cut before its end";
  EXPECT_FALSE(replay::decode_comparison("policy best\nend\n"));
  EXPECT_FALSE(replay::decode_comparison("speed 2\nend\n"));
}

TEST(ReplayQuestion, ThatTakesTooLongHasNoResults) {
  auto q = question(10);
  q.patience = Duration::zero();
  const auto compared = replay::decode_compared(replay::encode(replay::compare(q)));
  ASSERT_TRUE(compared);
  EXPECT_TRUE(compared->given_up);
  EXPECT_TRUE(compared->results.empty());
}

}  // namespace
}  // namespace tutti
