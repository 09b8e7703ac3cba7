// What a node's part of a gang decides, in virtual time.
#include <gtest/gtest.h>
#include <signal.h>

#include "worker/supervisor/gang_part.h"

namespace tutti::supervisor {
namespace {

using protocol::Phase;
constexpr std::int64_t kSecond = 1'000'000;

// Launched by one launcher, with these ranks up out of `world`.
GangPart running(std::int32_t ranks, std::int32_t world, std::int64_t now = 0) {
  GangPart part(ranks);
  part.on_ready();
  part.on_launched();
  part.on_process_started();
  for (std::int32_t r = 0; r < ranks; ++r) EXPECT_TRUE(part.on_rank_up(r, world));
  part.settle(now);
  EXPECT_EQ(part.phase(), Phase::running);
  return part;
}

TEST(GangPart, IsRunningOnlyWhenEveryLocalRankIsUp) {
  GangPart part(2);
  EXPECT_EQ(part.phase(), Phase::preparing);
  part.on_launched();  // not ready: means nothing
  EXPECT_EQ(part.phase(), Phase::preparing);
  part.on_ready();
  part.on_launched();
  part.on_process_started();
  EXPECT_TRUE(part.on_rank_up(4, 8));
  EXPECT_EQ(part.phase(), Phase::launched);
  EXPECT_FALSE(part.on_rank_up(4, 8)) << "the same rank twice";
  EXPECT_TRUE(part.on_rank_up(5, 8));
  EXPECT_EQ(part.phase(), Phase::running);
  EXPECT_FALSE(part.on_rank_up(6, 8)) << "one too many";
}

TEST(GangPart, EarliestFailureOfARoundIsTheOneToldAndItNeverChanges) {
  GangPart part = running(3, 3);
  part.on_rank_ended(2, {1, 0}, false, 500);
  part.on_rank_ended(1, {0, SIGKILL}, false, 400);
  part.settle(600);
  EXPECT_TRUE(part.finishing());
  EXPECT_EQ(part.failure()->rank, 1);
  EXPECT_EQ(part.failure()->kind, "signal");
  part.on_rank_ended(0, {1, 0}, false, 100);
  part.settle(700);
  EXPECT_EQ(part.failure()->rank, 1);
}

TEST(GangPart, OneThatRestartsGivesTheOthersHalfAMinute) {
  GangPart part = running(2, 2);
  part.on_rank_ended(0, {kRestartExitCode, 0}, false, kSecond);
  part.settle(kSecond);
  EXPECT_FALSE(part.finishing());
  EXPECT_EQ(part.kill_at(), 31 * kSecond);
  part.settle(31 * kSecond - 1);
  EXPECT_FALSE(part.finishing());
  part.settle(31 * kSecond);
  EXPECT_TRUE(part.finishing());
}

TEST(GangPart, CrashWhileOthersSaveDoesNotTakeTheirTimeAway) {
  GangPart part = running(3, 3);
  part.on_rank_ended(0, {kRestartExitCode, 0}, false, 1);
  part.settle(1);
  part.on_rank_ended(1, {1, 0}, false, 2);
  part.settle(2);
  EXPECT_FALSE(part.finishing());
  EXPECT_EQ(part.failure()->exit_code, kRestartExitCode);
}

TEST(GangPart, StricterStopWinsWhateverTheOrder) {
  for (const bool strict_first : {true, false}) {
    GangPart part = running(1, 1);
    part.on_stop("TERM", (strict_first ? 5 : 60) * kSecond, 0);
    part.on_stop("TERM", (strict_first ? 60 : 5) * kSecond, 0);
    part.settle(5 * kSecond - 1);
    EXPECT_FALSE(part.finishing());
    part.settle(5 * kSecond);
    EXPECT_TRUE(part.finishing());
    EXPECT_FALSE(part.failure());
  }
}

TEST(GangPart, KillStopsAtOnceAndNothingMayStartAfterAnyStop) {
  GangPart part = running(1, 1);
  part.on_stop("KILL", 60 * kSecond, 0);
  EXPECT_FALSE(part.may_start());
  part.settle(0);
  EXPECT_TRUE(part.finishing());
  GangPart waiting(1);
  waiting.on_ready();
  waiting.on_stop("TERM", 60 * kSecond, 0);  // nothing runs: nobody to be graceful to
  waiting.settle(0);
  EXPECT_TRUE(waiting.finishing());
}

TEST(GangPart, RankThatEndsBadlyUnderAStopLeavesTheOthersTheirGrace) {
  GangPart part = running(2, 2);
  part.on_stop("TERM", 60 * kSecond, 0);
  part.on_rank_ended(0, {0, SIGTERM}, false, kSecond);
  part.settle(kSecond);
  EXPECT_FALSE(part.finishing());
  EXPECT_EQ(part.failure()->signal, SIGTERM);
  EXPECT_EQ(part.kill_at(), 60 * kSecond);
}

TEST(GangPart, LeaseEndsEveryGrace) {
  GangPart part = running(2, 2);
  part.on_rank_ended(0, {kRestartExitCode, 0}, false, 1);
  part.on_stop("TERM", 60 * kSecond, 1);
  part.settle(1);
  ASSERT_FALSE(part.finishing());
  part.on_lease_expired(2);
  part.settle(2);
  EXPECT_TRUE(part.finishing());
}

TEST(GangPart, LauncherOfOneNodeHasFifteenSecondsAfterTheLastRank) {
  GangPart part = running(2, 2);
  part.on_rank_ended(0, {}, false, 1);
  part.on_rank_ended(1, {}, false, kSecond);
  part.settle(kSecond);
  EXPECT_FALSE(part.finishing());
  EXPECT_EQ(part.kill_at(), 16 * kSecond);
  part.settle(2 * kSecond);
  EXPECT_EQ(part.kill_at(), 16 * kSecond) << "the deadline does not move";
  part.settle(16 * kSecond);
  EXPECT_TRUE(part.finishing());
  EXPECT_TRUE(part.all_ranks_well());
}

TEST(GangPart, LauncherOfSeveralNodesMayWaitForRanksElsewhere) {
  GangPart part = running(1, 2);
  part.on_rank_ended(0, {}, false, kSecond);
  part.settle(3600 * kSecond);
  EXPECT_FALSE(part.finishing());
  EXPECT_FALSE(part.kill_at());
  part.on_process_ended({}, false, false, "mpirun", 3601 * kSecond);
  part.settle(3601 * kSecond);
  EXPECT_TRUE(part.finishing());
  EXPECT_TRUE(part.all_ranks_well());
  EXPECT_FALSE(part.failure());
}

TEST(GangPart, LauncherThatEndsBeforeItsRanksAreUpIsALaunchFailure) {
  GangPart part(2);
  part.on_ready();
  part.on_launched();
  part.on_process_started();
  part.on_rank_up(0, 2);
  part.on_process_ended({205, 0}, false, false, "mpirun", 7);
  part.settle(7);
  ASSERT_TRUE(part.failure());
  EXPECT_EQ(part.failure()->kind, "launch");
  EXPECT_EQ(part.failure()->exit_code, 205);
  EXPECT_TRUE(part.finishing());
}

TEST(GangPart, RanksWhoseLauncherIsGoneAreNotLeftAlone) {
  for (const Exit& exit : {Exit{0, 0}, Exit{137, 0}}) {
    GangPart part = running(2, 4);
    part.on_process_ended(exit, false, false, "mpirun", kSecond);
    part.settle(kSecond);
    EXPECT_FALSE(part.finishing());
    ASSERT_TRUE(part.kill_at());
    part.settle(*part.kill_at());
    EXPECT_TRUE(part.finishing());
    ASSERT_TRUE(part.failure());
    EXPECT_EQ(part.failure()->kind, "launch");
  }
}

TEST(GangPart, NodeWithoutLauncherWaitsForTheAgentsCommand) {
  GangPart part(1);
  part.on_ready();
  part.on_launched();
  part.settle(3600 * kSecond);
  EXPECT_FALSE(part.finishing());
  EXPECT_FALSE(part.kill_at());
}

// `preflight: full`: the check's own launcher comes first, and goes.
TEST(GangPart, NodeThatIsServedByAnAgentWaitsForTheNextLauncherAfterOneThatEndedWell) {
  for (const bool by_agent : {true, false}) {
    GangPart part(2, {.by_agent = by_agent});
    part.on_ready();
    part.on_launched();
    part.on_process_started();
    part.on_process_ended({0, 0}, false, false, "the agent's command", kSecond);
    part.settle(kSecond);
    part.settle(7 * kSecond);
    EXPECT_EQ(part.finishing(), !by_agent);
    if (!by_agent) continue;
    part.on_process_started();
    EXPECT_TRUE(part.on_rank_up(0, 2));
    EXPECT_TRUE(part.on_rank_up(1, 2));
    part.settle(8 * kSecond);
    EXPECT_EQ(part.phase(), Phase::running);
    part.settle(60 * kSecond);
    EXPECT_FALSE(part.finishing());
  }
}

TEST(GangPart, KeeperThatEndsWithoutAWordIsALaunchFailureEvenWithZero) {
  GangPart part(1);
  part.on_ready();
  part.on_launched();
  part.on_process_started();
  part.on_process_ended({}, true, false, "the keeper of rank 0", 1);
  part.settle(1);
  ASSERT_TRUE(part.failure());
  EXPECT_EQ(part.failure()->kind, "launch");
}

TEST(GangPart, NothingToRunEndsWellAtOnceAndALonelyScriptIsItsOwnRank) {
  GangPart idle(0);
  idle.on_ready();
  idle.on_launched();
  idle.settle(1);
  EXPECT_TRUE(idle.finishing() && idle.all_ranks_well());
  GangPart script(0);
  script.on_ready();
  script.on_launched();
  script.on_process_started();
  script.on_process_ended({3, 0}, false, false, "script", 1);
  script.settle(1);
  ASSERT_TRUE(script.failure());
  EXPECT_EQ(script.failure()->kind, "exit");
  EXPECT_EQ(script.failure()->exit_code, 3);
}

TEST(GangPart, KillForWantOfMemoryIsCalledSo) {
  GangPart part = running(1, 1);
  part.on_rank_ended(0, {0, SIGKILL}, false, 1);
  part.on_oom(0);
  part.settle(1);
  EXPECT_EQ(part.failure()->kind, "oom");
}

}  // namespace
}  // namespace tutti::supervisor
