// tutti-worker among several schedulers: where it goes, and whom it obeys (docs/design/0016-replicas.md).
#include <gtest/gtest.h>
#include <signal.h>

#include "tests/worker/worker_rig.h"

namespace tutti::worker::testing {
namespace {

using namespace protocol;  // NOLINT

const AttemptKey kKey{JobId(7), Epoch(2)};

bool says(const Heartbeat& beat, std::int64_t term) { return beat.term == term; }

struct WorkerReplica : ::testing::Test {
  FakeScheduler a, b;

  // An attempt that waits to be killed.
  void run(FakeScheduler& scheduler, WorkerProcess& worker) {
    JobSpec spec;
    spec.name = "test";
    spec.launcher = Launcher::direct;
    spec.procs_per_node = 1;
    spec.run = "echo $$ > " + worker.scratch("rank") + "; exec sleep 1000";
    scheduler.send(worker.node(), make_prepare(spec, kKey, {worker.node()}, 0, 1));
    const auto ready = scheduler.wait_phase(worker.node(), kKey, Phase::ready);
    Launch launch;
    launch.key = kKey;
    launch.master_port = ready.master_port;
    launch.endpoints.push_back({"127.0.0.1", 0});
    scheduler.send(worker.node(), launch);
    scheduler.wait_phase(worker.node(), kKey, Phase::running);
    scheduler.keep(worker.node(), {kKey});
  }
};

TEST_F(WorkerReplica, GoesWhereAStandbySaysThatTheLeaderIs) {
  a.stand_by(b.url());
  b.lead(3);
  WorkerProcess worker(a, "n1");
  worker.start();
  a.wait<Hello>("n1");
  b.wait<Heartbeat>("n1", [](const Heartbeat& beat) { return says(beat, 3); });
}

TEST_F(WorkerReplica, TakesSeveralAddressesWithCommas) {
  a.stand_by("");
  b.lead(3);
  WorkerProcess worker(a, "n1", {"--no-gpus", "--scheduler", "http://127.0.0.1:1," + b.url() + "/"});
  worker.start();
  a.wait<Hello>("n1");
  b.wait<Heartbeat>("n1", [](const Heartbeat& beat) { return says(beat, 3); });
}

TEST_F(WorkerReplica, AnAddressThatIsNoneEndsItWithAWord) {
  WorkerProcess worker(a, "n1", {"--no-gpus", "--scheduler", "http://127.0.0.1:7070,nonsense"});
  worker.start();
  EXPECT_TRUE(Pinned(worker.pid()).dies_in(kPatience));
}

TEST_F(WorkerReplica, WhileAnAttemptLivesTermsDoNotFall) {
  a.lead(5);
  WorkerProcess worker(a, "n1");
  worker.start();
  a.wait<Heartbeat>("n1", [](const Heartbeat& beat) { return says(beat, 5); });
  run(a, worker);
  a.lead(4);
  a.cut("n1");
  a.wait<Hello>("n1", [](const Hello& hello) { return !hello.attempts.empty(); });
  const auto beats = a.count("n1", "heartbeat");
  a.wait<Hello>("n1");
  EXPECT_EQ(a.count("n1", "heartbeat"), beats) << "it obeys a leader whose term is over";
  a.lead(6);
  a.wait<Heartbeat>("n1", [](const Heartbeat& beat) { return says(beat, 6); });
}

TEST_F(WorkerReplica, AWorkerThatIsStartedAgainRemembersTheTerm) {
  a.lead(5);
  WorkerProcess worker(a, "n1");
  worker.start();
  a.wait<Heartbeat>("n1", [](const Heartbeat& beat) { return says(beat, 5); });
  run(a, worker);
  worker.kill(SIGKILL);
  a.lead(4);
  const auto beats = a.count("n1", "heartbeat");
  worker.start();
  for (int i = 0; i < 2; ++i) a.wait<Hello>("n1", [](const Hello& hello) { return !hello.attempts.empty(); });
  EXPECT_EQ(a.count("n1", "heartbeat"), beats);
  a.lead(5);
  a.wait<Heartbeat>("n1", [](const Heartbeat& beat) { return says(beat, 5); });
}

// A database that has been set up anew begins with term 1.
TEST_F(WorkerReplica, WithNothingToLoseItObeysAnyTerm) {
  a.lead(5);
  WorkerProcess worker(a, "n1");
  worker.start();
  a.wait<Heartbeat>("n1", [](const Heartbeat& beat) { return says(beat, 5); });
  a.lead(1);
  a.cut("n1");
  a.wait<Heartbeat>("n1", [](const Heartbeat& beat) { return says(beat, 1); });
}

// Else one whose end nobody has taken down would keep this node from a database that was restored for ever.
TEST_F(WorkerReplica, WhatHasEndedIsNothingToLose) {
  a.lead(5);
  WorkerProcess worker(a, "n1");
  worker.start();
  a.wait<Heartbeat>("n1", [](const Heartbeat& beat) { return says(beat, 5); });
  run(a, worker);
  Stop stop;
  stop.key = kKey;
  stop.cause = "cancelled";
  stop.signal = "KILL";
  a.send("n1", stop);
  EXPECT_TRUE(a.wait_end("n1", kKey).end->proven);
  a.lead(1);
  a.cut("n1");
  a.wait<Hello>("n1", [](const Hello& hello) { return !hello.attempts.empty(); });
  a.wait<Heartbeat>("n1", [](const Heartbeat& beat) { return says(beat, 1); });
}

TEST_F(WorkerReplica, OfAnOlderSchedulerNoTermIsClaimed) {
  WorkerProcess worker(a, "n1");
  worker.start();
  EXPECT_FALSE(a.wait<Heartbeat>("n1").term);
}

}  // namespace
}  // namespace tutti::worker::testing
