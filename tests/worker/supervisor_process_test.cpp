// A real supervisor over real processes, once with a cgroup and once without: what ran is told as it was, and
// nothing is left alive when it says so.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>

#include "tests/worker/supervisor_rig.h"
#include "worker/supervisor/agent_server.h"
#include "worker/supervisor/cgroup.h"
#include "worker/supervisor/files.h"
#include "worker/supervisor/kill_proof.h"
#include "worker/supervisor/proc_scan.h"

namespace tutti::supervisor::testing {
namespace {

using protocol::Phase;
constexpr std::int64_t kSecond = 1'000'000;
constexpr const char* kForever = "sleep 1000";
// Out of the session, the process group and the parent's sight.
constexpr const char* kEscape = "(setsid sh -c 'echo $$ > $SCRATCH/escapee; exec sleep 1000' &); ";
// The same without the marker in its environment; SCRATCH by hand.
std::string escape_unmarked(const Rig& rig) {
  return "(env -i setsid sh -c 'echo $$ > " + rig.scratch("escapee") + "; exec sleep 1000' &); ";
}

class SupervisorProcess : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    if (std::string(GetParam()) == "cgroup2" && !cgroup2_works()) GTEST_SKIP() << "no cgroup v2 to write to";
  }
  const std::string how() const { return std::string(GetParam()) == "cgroup2" ? "cgroup" : "scan"; }
  // The attempt is proven dead, and an independent look agrees.
  void expect_dead(Rig& rig, const Status& s) const {
    ASSERT_TRUE(s.end);
    EXPECT_TRUE(s.end->proven) << s.end->how;
    EXPECT_EQ(s.end->how, how());
    EXPECT_EQ(s.kill_mode, GetParam());
    EXPECT_TRUE(find_processes(rig.config, 0).empty());
    for (const Device& d : rig.config.devices) EXPECT_TRUE(find_holders(d.path).empty()) << d.path;
    if (how() == "cgroup") EXPECT_FALSE(cgroup_populated(cgroup_of(rig.config)).has_value());
  }
};
INSTANTIATE_TEST_SUITE_P(KillModes, SupervisorProcess, ::testing::Values("cgroup2", "process-group"),
                         [](const auto& mode) {
                           return mode.param == std::string("cgroup2") ? "Cgroup" : "ProcessGroup";
                         });

TEST_P(SupervisorProcess, GangThatEndsWellIsOkAndItsLogsAreKept) {
  Rig rig(GetParam());
  rig.add_device();
  rig.config.local_ranks = 3;
  rig.config.setup = "echo prepared > $SCRATCH/setup; echo setup says hello";
  rig.config.env = {{"SCRATCH", rig.dir() + "/scratch"}};
  rig.start();
  rig.wait_for_phase(Phase::ready);
  EXPECT_EQ(rig.wait_for_file(rig.scratch("setup")), "prepared\n");
  rig.launch_ranks(std::vector<std::string>(
      3, "echo I am $RANK of $WORLD_SIZE; while [ ! -e $SCRATCH/go ]; do sleep 0.02; done"));
  EXPECT_EQ(rig.wait_for_phase(Phase::running).ranks_up, 3);
  std::ofstream(rig.scratch("go")) << "go\n";
  const Status s = rig.wait_for_end();
  EXPECT_TRUE(s.end->ok);
  EXPECT_FALSE(s.failure);
  EXPECT_EQ(s.ranks_done, 3);
  expect_dead(rig, s);
  EXPECT_EQ(read_file(rig.dir() + "/logs/rank-2.log"), "I am 2 of 3\n");
  EXPECT_EQ(read_file(rig.dir() + "/logs/setup.log"), "setup says hello\n");
  EXPECT_EQ(read_file(rig.dir() + "/state.json"), encode(s));
  rig.send(Quit{});
  EXPECT_EQ(rig.wait_for_exit(), 0);
}

TEST_P(SupervisorProcess, FirstFailingRankIsNamedWithItsLogAndTheOthersAreKilled) {
  Rig rig(GetParam());
  rig.config.local_ranks = 3;
  rig.start();
  // Rank 0 would fail too, as soon as it sees that rank 1 has.
  rig.launch_ranks({"echo $$ > $SCRATCH/zero; " + std::string(kForever),
                    "while [ ! -e $SCRATCH/zero ]; do sleep 0.02; done; echo doomed; echo why >&2; exit 3",
                    std::string(kEscape) + kForever});
  const Status failed = rig.wait_for([](const Status& s) { return s.failure.has_value(); });
  EXPECT_EQ(failed.failure->kind, "exit");
  EXPECT_EQ(failed.failure->rank, 1);
  EXPECT_EQ(failed.failure->exit_code, 3);
  EXPECT_EQ(failed.failure->last_lines, "doomed\nwhy\n");
  const Status s = failed.end ? failed : rig.wait_for_end();
  EXPECT_FALSE(s.end->ok);
  EXPECT_EQ(s.failure->rank, 1);
  expect_dead(rig, s);
}

TEST_P(SupervisorProcess, RankKilledByASignalIsSaidSoAlsoThroughItsShell) {
  Rig rig(GetParam());
  rig.config.local_ranks = 1;
  rig.start();
  rig.launch_ranks({"sh -c 'kill -SEGV $$'; exit $?"});
  const Status s = rig.wait_for_end();
  ASSERT_TRUE(s.failure);
  EXPECT_EQ(s.failure->kind, "signal");
  EXPECT_EQ(s.failure->signal, SIGSEGV);
  expect_dead(rig, s);
}

// No device here that could give them away: the marker finds one, descent from the subreaper the other.
TEST_P(SupervisorProcess, EscapeesFromSessionAndParentDieWithTheGang) {
  for (const bool marked : {true, false}) {
    Rig rig(GetParam());
    rig.config.local_ranks = 1;
    rig.start();
    rig.launch_ranks({(marked ? std::string(kEscape) : escape_unmarked(rig)) + kForever});
    rig.wait_for_phase(Phase::running);
    const Pinned escapee(rig.wait_for_pid("escapee"));
    ASSERT_TRUE(escapee.alive());
    rig.send(Stop{"cancelled", "KILL", 0});
    const Status s = rig.wait_for_end();
    EXPECT_FALSE(escapee.alive()) << (marked ? "marked" : "unmarked");
    EXPECT_FALSE(s.end->ok);
    EXPECT_FALSE(s.failure);
    expect_dead(rig, s);
  }
}

// Without a cgroup the marker finds the first escapee, and the second, which has none, only the device it
// holds.
TEST_P(SupervisorProcess, DeadSupervisorsGangIsKilledByTheWorker) {
  for (const bool marked : {true, false}) {
    Rig rig(GetParam());
    if (!marked) rig.add_device();
    rig.config.local_ranks = 1;
    rig.start();
    rig.launch_ranks({(marked ? std::string(kEscape) : escape_unmarked(rig)) + kForever});
    rig.wait_for_phase(Phase::running);
    const Pinned escapee(rig.wait_for_pid("escapee"));
    rig.kill_supervisor();
    ASSERT_TRUE(escapee.alive());
    const KillResult result = kill_and_prove(rig.config, boot_us() + 10 * kSecond);
    EXPECT_TRUE(result.proven) << result.how;
    EXPECT_EQ(result.how, how());
    EXPECT_FALSE(escapee.alive()) << (marked ? "marked" : "unmarked");
    for (const Device& d : rig.config.devices) EXPECT_TRUE(find_holders(d.path).empty());
  }
}

TEST_P(SupervisorProcess, RankThatIgnoresTheSignalIsKilledAfterItsGrace) {
  Rig rig(GetParam());
  rig.config.local_ranks = 1;
  rig.start();
  rig.launch_ranks({"exec sh -c 'trap \"\" TERM; echo ready > $SCRATCH/up; while :; do sleep 0.1; done'"});
  rig.wait_for_phase(Phase::running);
  rig.wait_for_file(rig.scratch("up"));
  const std::int64_t before = boot_us();
  rig.send(Stop{"preempted", "TERM", kSecond});
  const Status s = rig.wait_for_end();
  EXPECT_GE(s.end->boot_us - before, kSecond);
  EXPECT_LT(s.end->boot_us - before, 5 * kSecond);
  expect_dead(rig, s);
}

TEST_P(SupervisorProcess, LeaseThatRunsOutKillsWithoutAWorker) {
  Rig rig(GetParam());
  rig.config.local_ranks = 1;
  rig.config.lease_path = rig.dir() + "/lease";
  rig.write_lease(boot_us() + 60 * kSecond);
  rig.start();
  rig.launch_ranks({std::string(kEscape) + kForever});
  rig.wait_for_phase(Phase::running);
  const Pinned escapee(rig.wait_for_pid("escapee"));
  // Renewed to something short: it looks at its timer only, so the move back is seen at the next event.
  const std::int64_t until = boot_us() + kSecond / 2;
  rig.write_lease(until);
  rig.disconnect();
  ASSERT_TRUE(escapee.dies_within(5));
  EXPECT_GE(boot_us(), until);
  rig.connect();
  const Status s = rig.wait_for_end();
  ASSERT_TRUE(s.failure);
  EXPECT_EQ(s.failure->kind, "lease");
  EXPECT_LT(s.end->boot_us, until + 1'500'000);
  expect_dead(rig, s);
}

TEST(Supervisor, RenewedLeaseKeepsTheGangAlive) {
  Rig rig;
  rig.config.local_ranks = 1;
  rig.config.lease_path = rig.dir() + "/lease";
  const std::int64_t first = boot_us() + 2 * kSecond;
  rig.write_lease(first);
  rig.start();
  rig.launch_ranks({"echo $$ > $SCRATCH/pid; " + std::string(kForever)});
  const Pinned rank(rig.wait_for_pid("pid"));
  rig.write_lease(first + kSecond);
  EXPECT_FALSE(rank.dies_within(2));  // past the first deadline
  EXPECT_TRUE(rank.dies_within(10));
  EXPECT_GE(boot_us(), first + kSecond);
}

TEST(Supervisor, MissingLeaseIsOneThatHasRunOut) {
  Rig rig;
  rig.config.local_ranks = 1;
  rig.config.lease_path = rig.dir() + "/never-written";
  const std::int64_t before = boot_us();
  rig.start();
  rig.launch_ranks({kForever});
  rig.wait_for_phase(Phase::running);
  const Status s = rig.wait_for_end();
  EXPECT_EQ(s.failure->kind, "lease");
  EXPECT_GE(s.end->boot_us - before, 9 * kSecond);
}

TEST(Supervisor, PlannedStopReachesTheProgramBehindItsShellAndLetsItFinish) {
  Rig rig;
  rig.config.local_ranks = 2;
  rig.start();
  const std::string trainer =
      "cd $SCRATCH && sh -c 'trap \"cat $TUTTI_ATTEMPT_DIR/stop > $SCRATCH/stopped-$RANK; exit 85\" USR1; "
      "echo up > $SCRATCH/up-$RANK; while :; do sleep 0.05; done'; echo must not be reached";
  rig.launch_ranks({trainer, trainer});
  rig.wait_for_file(rig.scratch("up-0"));
  rig.wait_for_file(rig.scratch("up-1"));
  rig.wait_for_phase(Phase::running);
  rig.send(Stop{"preempted", "USR1", 15 * kSecond});
  const Status s = rig.wait_for_end();
  EXPECT_EQ(rig.wait_for_file(rig.scratch("stopped-0")), "preempted\n");
  EXPECT_EQ(rig.wait_for_file(rig.scratch("stopped-1")), "preempted\n");
  EXPECT_GT(std::stod(rig.wait_for_file(rig.dir() + "/stop_deadline")), 1e9);
  ASSERT_TRUE(s.failure);
  EXPECT_EQ(s.failure->exit_code, 85);
  EXPECT_EQ(s.ranks_done, 2);
  EXPECT_EQ(read_file(rig.dir() + "/logs/rank-0.log"), "");
  EXPECT_TRUE(s.end->proven);
}

TEST(Supervisor, ASignalReachesEveryProgramAndEndsNothing) {
  Rig rig;
  rig.config.local_ranks = 2;
  rig.start();
  const std::string trainer =
      "cd $SCRATCH && sh -c 'trap \"echo USR1 >> $SCRATCH/heard-$RANK\" USR1; "
      "trap \"echo INT >> $SCRATCH/heard-$RANK\" INT; "
      "echo up > $SCRATCH/up-$RANK; while [ ! -e $SCRATCH/go ]; do sleep 0.05; done'; "
      "echo after > $SCRATCH/after-$RANK";
  rig.launch_ranks({trainer, trainer});
  rig.wait_for_file(rig.scratch("up-0"));
  rig.wait_for_file(rig.scratch("up-1"));
  rig.wait_for_phase(Phase::running);
  rig.send(SignalRanks{"NONSENSE"});
  rig.send(SignalRanks{"USR1"});
  EXPECT_EQ(rig.wait_for_file(rig.scratch("heard-0")), "USR1\n") << "and nothing for what is no signal";
  EXPECT_EQ(rig.wait_for_file(rig.scratch("heard-1")), "USR1\n");
  EXPECT_FALSE(std::filesystem::exists(rig.dir() + "/stop"));
  std::ofstream(rig.scratch("go")) << "go\n";
  const Status s = rig.wait_for_end();
  EXPECT_TRUE(s.end->ok);
  EXPECT_FALSE(s.failure);
  EXPECT_EQ(read_file(rig.scratch("after-1")), "after\n") << "the shell's line goes on, too";
}

TEST(Supervisor, ASignalReachesTheProgramThatHasTakenItsShellsPlace) {
  Rig rig;
  rig.config.local_ranks = 1;
  rig.start();
  rig.launch_ranks(
      {"exec python3 -c 'import os, signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})\n"
       "open(os.environ[\"SCRATCH\"] + \"/up\", \"w\").write(\"up\\n\")\nsignal.sigwait({signal.SIGUSR1})'"});
  rig.wait_for_file(rig.scratch("up"));
  rig.wait_for_phase(Phase::running);
  rig.send(SignalRanks{"USR1"});
  const Status s = rig.wait_for_end();
  EXPECT_TRUE(s.end->ok) << "it has waited for the signal, and for nothing else";
}

TEST(Supervisor, StricterStopWins) {
  Rig rig;
  rig.config.local_ranks = 1;
  rig.start();
  rig.launch_ranks({"exec sh -c 'trap \"\" TERM; while :; do sleep 0.1; done'"});
  rig.wait_for_phase(Phase::running);
  rig.send(Stop{"preempted", "TERM", 300 * kSecond});
  rig.wait_for_file(rig.dir() + "/stop");
  rig.send(Stop{"cancelled", "", 0});
  rig.send(Stop{"preempted", "TERM", 300 * kSecond});
  EXPECT_TRUE(rig.wait_for_end().end->proven);
}

TEST(Supervisor, RankThatLeavesWith85LetsTheOthersFinish) {
  Rig rig;
  rig.config.local_ranks = 2;
  rig.start();
  rig.launch_ranks(
      {"exit 85", "while [ ! -e $SCRATCH/go ]; do sleep 0.02; done; echo saved > $SCRATCH/saved; exit 85"});
  const Status first = rig.wait_for([](const Status& s) { return s.failure.has_value(); });
  EXPECT_EQ(first.failure->rank, 0);
  EXPECT_EQ(first.failure->exit_code, 85);
  EXPECT_FALSE(first.end);
  std::ofstream(rig.scratch("go")) << "go\n";
  const Status s = rig.wait_for_end();
  EXPECT_EQ(read_file(rig.scratch("saved")), "saved\n");
  EXPECT_EQ(s.failure->rank, 0);
  EXPECT_EQ(s.ranks_done, 2);
}

TEST(Supervisor, StopBeforeLaunchJustEnds) {
  Rig rig;
  rig.config.local_ranks = 1;
  rig.start();
  rig.wait_for_phase(Phase::ready);
  rig.send(Stop{"cancelled", "TERM", 60 * kSecond});
  const Status s = rig.wait_for_end();
  EXPECT_TRUE(s.end->proven);
  EXPECT_EQ(s.end->how, "never started");
  EXPECT_FALSE(s.end->ok);
  rig.launch_ranks({"echo alive > $SCRATCH/late"});  // too late: must start nothing
  rig.send(Quit{});
  EXPECT_EQ(rig.wait_for_exit(), 0);
  EXPECT_FALSE(std::filesystem::exists(rig.scratch("late")));
}

TEST(Supervisor, FailedSetupIsToldWithItsLog) {
  Rig rig;
  rig.config.setup = "echo no such package; exit 7";
  rig.start();
  const Status s = rig.wait_for_end();
  ASSERT_TRUE(s.failure);
  EXPECT_EQ(s.failure->kind, "setup");
  EXPECT_EQ(s.failure->exit_code, 7);
  EXPECT_EQ(s.failure->last_lines, "no such package\n");
  EXPECT_TRUE(s.end->proven);
}

TEST(Supervisor, SetupThatHangsIsEnded) {
  Rig rig;
  rig.config.setup = "echo $$ > $SCRATCH/setup; sleep 1000";
  rig.config.env = {{"SCRATCH", rig.dir() + "/scratch"}};
  rig.config.setup_timeout_us = kSecond / 2;
  rig.start();
  const Status s = rig.wait_for_end();
  EXPECT_EQ(s.failure->kind, "setup");
  EXPECT_TRUE(s.end->proven);
  EXPECT_TRUE(find_processes(rig.config, 0).empty());
}

TEST(Supervisor, ProgramThatCannotBeStartedIsALaunchFailure) {
  Rig rig;
  rig.config.local_ranks = 1;
  rig.start();
  Process p = rig.rank(0, 1, "");
  p.argv = {"/no/such/launcher"};
  rig.send(Launch{{p}});
  const Status s = rig.wait_for_end();
  ASSERT_TRUE(s.failure);
  EXPECT_EQ(s.failure->kind, "launch");
  EXPECT_NE(s.failure->detail.find("No such file"), std::string::npos) << s.failure->detail;
}

TEST(Supervisor, LauncherThatFailsBeforeItsRanksAreUpIsALaunchFailureWithItsLog) {
  Rig rig;
  rig.config.local_ranks = 2;
  rig.start();
  Process p;
  p.argv = {"/bin/sh", "-c", "echo no such host; exit 5"};
  p.log = "logs/mpirun.log";
  rig.send(Launch{{p}});
  const Status s = rig.wait_for_end();
  ASSERT_TRUE(s.failure);
  EXPECT_EQ(s.failure->kind, "launch");
  EXPECT_EQ(s.failure->exit_code, 5);
  EXPECT_EQ(s.failure->last_lines, "no such host\n");
}

TEST(Supervisor, DeviceHeldByAnotherAttemptIsALaunchFailureThatNamesItsHolder) {
  Rig first, second("auto", 2);
  first.add_device();
  first.config.local_ranks = 1;
  first.start();
  first.launch_ranks({kForever});
  first.wait_for_phase(Phase::running);
  second.config.devices = first.config.devices;
  second.start();
  const Status s = second.wait_for_end();
  ASSERT_TRUE(s.failure);
  EXPECT_EQ(s.failure->kind, "launch");
  EXPECT_NE(s.failure->detail.find(std::to_string(first.supervisor())), std::string::npos)
      << s.failure->detail;
  EXPECT_TRUE(s.end->proven);
  // The worker's own look at the second attempt must leave the first one's ranks alone.
  second.kill_supervisor();
  EXPECT_TRUE(kill_and_prove(second.config, boot_us() + 5 * kSecond).proven);
  EXPECT_FALSE(find_processes(first.config, 0).empty());
  first.send(Stop{"cancelled", "KILL", 0});
  EXPECT_TRUE(first.wait_for_end().end->proven);
}

TEST(Supervisor, WorkerThatComesBackIsToldEverything) {
  Rig rig;
  rig.config.local_ranks = 1;
  rig.config.pick_master_port = true;
  rig.config.listen_address = "127.0.0.1";
  rig.start();
  const Status ready = rig.wait_for_phase(Phase::ready);
  EXPECT_GT(ready.master_port, 0);
  EXPECT_EQ(ready.pid, rig.supervisor());
  rig.launch_ranks({"while [ ! -e $SCRATCH/go ]; do sleep 0.02; done; exit 4"});
  rig.wait_for_phase(Phase::running);
  rig.disconnect();
  rig.connect();
  const Status again = rig.wait_for([](const Status&) { return true; });
  EXPECT_EQ(again.phase, Phase::running);
  EXPECT_EQ(again.master_port, ready.master_port);
  const Pinned alive(rig.supervisor());
  rig.disconnect();
  std::ofstream(rig.scratch("go")) << "go\n";
  rig.connect();
  const Status s = rig.wait_for_end();
  EXPECT_EQ(s.failure->exit_code, 4);
}

TEST(Supervisor, AttemptIsNeverStartedTwice) {
  Rig rig;
  rig.config.local_ranks = 1;
  rig.start();
  rig.wait_for_phase(Phase::ready);
  rig.kill_supervisor();
  rig.spawn_supervisor();
  EXPECT_EQ(rig.wait_for_exit(), 3);
}

TEST(Supervisor, TermOfTheSupervisorKillsTheGang) {
  Rig rig;
  rig.config.local_ranks = 1;
  rig.start();
  rig.launch_ranks({"echo $$ > $SCRATCH/pid; " + std::string(kForever)});
  rig.wait_for_phase(Phase::running);
  const Pinned rank(rig.wait_for_pid("pid"));
  kill(rig.supervisor(), SIGTERM);
  EXPECT_TRUE(rig.wait_for_end().end->proven);
  EXPECT_FALSE(rank.alive());
}

TEST(Supervisor, RanksDieWithTheirSupervisor) {
  Rig rig;
  rig.config.local_ranks = 1;
  rig.start();
  rig.launch_ranks({"echo $$ > $SCRATCH/pid; " + std::string(kForever)});
  rig.wait_for_phase(Phase::running);
  const Pinned rank(rig.wait_for_pid("pid"));
  rig.kill_supervisor();
  EXPECT_TRUE(rank.dies_within(5));
}

TEST(Supervisor, EveryRunLeavesItsIntervalOnDisk) {
  Rig rig;
  rig.config.local_ranks = 1;
  rig.start();
  Process p = rig.rank(0, 1, "true");
  p.env["TUTTI_INTERVAL_FILE"] = rig.scratch("intervals");
  const std::int64_t before = boot_us();
  rig.send(Launch{{p}});
  EXPECT_TRUE(rig.wait_for_end().end->ok);
  const std::string text = rig.wait_for_file(rig.scratch("intervals"));
  long long start = 0, stop = 0;
  ASSERT_EQ(
      std::sscanf(text.c_str(),
                  "{\"job\":1,\"epoch\":1,\"rank\":0,\"start_us\":%lld}\n{\"job\":1,\"epoch\":1,\"rank\":0,"
                  "\"stop_us\":%lld}",
                  &start, &stop),
      2)
      << text;
  EXPECT_LE(before, start);
  EXPECT_LE(start, stop);
}

TEST(Rank, WithoutItsSupervisorNothingIsStarted) {
  Rig rig;
  const std::string line = "TUTTI_ATTEMPT_DIR=" + rig.dir() + " RANK=0 " + binary("tutti-rank") + " touch " +
                           rig.scratch("ran") + " 2>/dev/null";
  EXPECT_EQ(WEXITSTATUS(std::system(line.c_str())), 70);
  EXPECT_FALSE(std::filesystem::exists(rig.scratch("ran")));
}

TEST(Supervisor, LogThatIsALinkToAnothersFileIsNotShown) {
  Rig rig;
  rig.config.local_ranks = 1;
  rig.start();
  rig.launch_ranks({"rm logs/rank-0.log; ln -s /etc/hostname logs/rank-0.log; exit 1"});
  const Status s = rig.wait_for_end();
  ASSERT_TRUE(s.failure);
  EXPECT_EQ(s.failure->exit_code, 1);
  EXPECT_EQ(s.failure->last_lines, "");
}

}  // namespace
}  // namespace tutti::supervisor::testing
