// Orders, connections, leases, checkpoints: what the worker does while attempts live.
#include "tests/worker/worker_bench.h"

namespace tutti::worker {
namespace {

TEST(WorkerCore, RunsAnAttemptFromPrepareToForget) {
  Bench b;
  b.connect();
  EXPECT_EQ(b.sent<Hello>().size(), 1u);
  b.core.on_prepare(b.now, Bench::prepare(kFirst), Bench::spec());
  EXPECT_EQ(b.take<SpawnSupervisor>().size(), 1u);
  EXPECT_EQ(b.last_status().phase, Phase::preparing);
  b.status(kFirst, Phase::ready, true);
  EXPECT_EQ(b.last_status().phase, Phase::ready);
  Launch l;
  l.key = kFirst;
  l.endpoints.resize(1);
  b.core.on_launch(b.now, l);
  EXPECT_EQ(b.take<LaunchRanks>().size(), 1u);
  b.status(kFirst, Phase::running);
  EXPECT_EQ(b.last_status().phase, Phase::running);

  b.end(kFirst, true);
  EXPECT_EQ(b.take<FinalScan>().size(), 1u);
  const auto told = b.take<TellSupervisor>();
  ASSERT_EQ(told.size(), 1u);
  EXPECT_TRUE(std::holds_alternative<supervisor::Quit>(told[0].command));
  EXPECT_TRUE(b.sent<AttemptStatus>().empty()) << "said before the supervisor was gone";
  b.settle(kFirst);
  EXPECT_EQ(b.take<RecordEnd>().size(), 1u);
  const auto s = b.last_status();
  EXPECT_EQ(s.phase, Phase::ended);
  EXPECT_TRUE(s.end->ok && s.end->proven);

  b.core.on_forget(b.now, Forget{kFirst});
  EXPECT_EQ(b.take<Retire>().size(), 1u);
  EXPECT_TRUE(b.core.attempts().empty());
}

TEST(WorkerCore, ASupervisorThatDoesNotObeyIsKilled) {
  Bench b;
  b.connect();
  b.start(kFirst);
  b.collect();
  b.core.on_welcome(b.now, Welcome{1, 600'000'000, 1'000'000, {kFirst}, {}});
  b.collect();
  b.actions.clear();
  b.core.on_stop(b.now, Stop{kFirst, "cancelled", "TERM", 30'000'000});
  b.advance(std::chrono::seconds(99));
  EXPECT_TRUE(b.take<KillSupervisor>().empty()) << "the grace of the Stop, and some patience";
  b.advance(std::chrono::seconds(2));
  EXPECT_EQ(b.take<KillSupervisor>().size(), 1u);
  b.core.on_supervisor_gone(b.now, kFirst);
  EXPECT_EQ(b.take<KillAndProve>().size(), 1u);
  b.core.on_killed(b.now, kFirst, true, "cgroup");
  b.core.on_final_scan(b.now, kFirst);
  const auto s = b.last_status();
  EXPECT_TRUE(s.end && s.end->proven);
  EXPECT_FALSE(s.failure) << "it was told to stop: that is no fault of the attempt";
  b.advance(std::chrono::minutes(2));
  EXPECT_TRUE(b.take<KillSupervisor>().empty());
}

TEST(WorkerCore, ASupervisorThatDoesNotQuitIsKilled) {
  Bench b;
  b.connect();
  b.start(kFirst);
  b.end(kFirst, true);
  b.core.on_final_scan(b.now, kFirst);
  b.collect();
  b.actions.clear();
  b.advance(std::chrono::seconds(71));
  EXPECT_EQ(b.take<KillSupervisor>().size(), 1u);
  b.core.on_supervisor_gone(b.now, kFirst);
  EXPECT_TRUE(b.last_status().end->ok);
}

TEST(WorkerCore, RepeatedOrdersChangeNothing) {
  Bench b;
  b.connect();
  b.start(kFirst);
  b.collect();
  b.actions.clear();
  b.core.on_prepare(b.now, Bench::prepare(kFirst), Bench::spec());
  EXPECT_EQ(b.last_status().phase, Phase::running);
  Launch l;
  l.key = kFirst;
  b.core.on_launch(b.now, l);
  EXPECT_TRUE(b.take<SpawnSupervisor>().empty());
  EXPECT_TRUE(b.take<LaunchRanks>().empty());
  b.core.on_stop(b.now, Stop{kFirst, "preempted", "TERM", 5'000'000});
  b.core.on_stop(b.now, Stop{kFirst, "preempted", "TERM", 5'000'000});
  EXPECT_EQ(b.take<TellSupervisor>().size(), 1u);
  b.core.on_stop(b.now, Stop{kFirst, "cancelled", "KILL", 0});  // harder: is passed on
  EXPECT_EQ(b.take<TellSupervisor>().size(), 1u);
  b.core.on_stop(b.now, Stop{kFirst, "preempted", "TERM", 5'000'000});  // softer: is not
  EXPECT_TRUE(b.take<TellSupervisor>().empty());
  b.core.on_forget(b.now, Forget{kFirst});  // of a living attempt: not yet
  EXPECT_EQ(b.core.attempts().size(), 1u);
}

TEST(WorkerCore, ASignalIsForRanksThatRunNow) {
  Bench b;
  b.connect();
  const SignalRanks usr1{kFirst, "USR1"};
  b.core.on_signal_ranks(usr1);  // of nothing that is here
  b.core.on_prepare(b.now, Bench::prepare(kFirst), Bench::spec());
  b.core.on_signal_ranks(usr1);
  b.status(kFirst, Phase::ready, true);
  b.core.on_signal_ranks(usr1);
  EXPECT_TRUE(b.take<TellSupervisor>().empty());
  EXPECT_EQ(b.core.attempts().size(), 1u) << "no attempt is given up for it";
  Launch l;
  l.key = kFirst;
  l.endpoints.resize(1);
  b.core.on_launch(b.now, l);
  b.status(kFirst, Phase::running);
  b.core.on_signal_ranks(usr1);
  const auto told = b.take<TellSupervisor>();
  ASSERT_EQ(told.size(), 1u);
  ASSERT_TRUE(std::holds_alternative<supervisor::SignalRanks>(told[0].command));
  EXPECT_EQ(std::get<supervisor::SignalRanks>(told[0].command).signal, "USR1");
  b.status(kFirst, Phase::running, true);  // connection broke and came back
  EXPECT_TRUE(b.take<TellSupervisor>().empty()) << "it is not said twice";
  b.core.on_stop(b.now, Stop{kFirst, "preempted", "TERM", 5'000'000});
  EXPECT_EQ(b.take<TellSupervisor>().size(), 1u);
  b.core.on_signal_ranks(usr1);
  EXPECT_TRUE(b.take<TellSupervisor>().empty()) << "who is being stopped has its last word already";
}

TEST(WorkerCore, OrdersReachTheSupervisorThatConnectsLate) {
  Bench b;
  b.connect();
  b.core.on_prepare(b.now, Bench::prepare(kFirst), Bench::spec());
  b.core.on_stop(b.now, Stop{kFirst, "cancelled", "KILL", 0});
  EXPECT_TRUE(b.take<TellSupervisor>().empty());
  b.status(kFirst, Phase::preparing, true);
  EXPECT_EQ(b.take<TellSupervisor>().size(), 1u);
  b.status(kFirst, Phase::preparing, true);  // connection broke and came back: the order may be lost
  EXPECT_EQ(b.take<TellSupervisor>().size(), 1u);
}

TEST(WorkerCore, StaleEpochsAreRefused) {
  Bench b;
  b.connect();
  b.start(kSecond);
  b.collect();
  b.actions.clear();
  b.core.on_prepare(b.now, Bench::prepare(kFirst), Bench::spec());
  EXPECT_TRUE(b.take<SpawnSupervisor>().empty());
  const auto s = b.last_status();
  EXPECT_EQ(s.key, kFirst);
  EXPECT_EQ(s.phase, Phase::ended);
  EXPECT_EQ(s.end->how, "never started");
}

TEST(WorkerCore, ANewEpochEndsTheFormerOne) {
  Bench b;
  b.connect();
  b.start(kFirst);
  b.take<TellSupervisor>();
  b.core.on_prepare(b.now, Bench::prepare(kSecond), Bench::spec());
  const auto told = b.take<TellSupervisor>();
  ASSERT_EQ(told.size(), 1u);
  EXPECT_EQ(told[0].key, kFirst);
}

// The Prepare that is still under way when its attempt is given up must not start it.
TEST(WorkerCore, APrepareThatComesAfterItsStopIsRefused) {
  Bench b;
  b.connect();
  b.core.on_stop(b.now, Stop{kFirst, "cancelled", "KILL", 0});
  EXPECT_EQ(b.last_status().end->how, "never started");
  b.core.on_prepare(b.now, Bench::prepare(kFirst), Bench::spec());
  EXPECT_TRUE(b.take<SpawnSupervisor>().empty());
  EXPECT_EQ(b.last_status().phase, Phase::ended);
}

TEST(WorkerCore, AForgottenAttemptIsAnsweredWithItsTrueEnd) {
  Bench b;
  b.connect();
  b.start(kFirst);
  b.end(kFirst, true);
  b.settle(kFirst);
  b.core.on_forget(b.now, Forget{kFirst});
  b.sent<AttemptStatus>();
  b.core.on_stop(b.now, Stop{kFirst, "cancelled", "KILL", 0});
  const auto s = b.last_status();
  EXPECT_TRUE(s.end->ok);
  EXPECT_EQ(s.end->how, "cgroup");
}

TEST(WorkerCore, GpusStillHeldAreNotGivenAgain) {
  Bench b;
  b.gpus(2);
  b.connect();
  b.start(kFirst, {"GPU-0"});
  b.sent<AttemptStatus>();
  b.core.on_prepare(b.now, Bench::prepare(kOther, {"GPU-0"}), Bench::spec());
  const auto s = b.last_status();
  EXPECT_EQ(s.key, kOther);
  EXPECT_EQ(s.failure->kind, "launch");
  EXPECT_THAT(s.failure->detail, HasSubstr("still held by job 7"));
  EXPECT_TRUE(s.end->proven);
}

TEST(WorkerCore, APrepareThatCannotBeIsAnsweredWithItsReason) {
  Bench b;
  b.gpus(1);
  b.connect();
  const auto why = [&](Prepare p, ParsedSpec spec) {
    static std::int64_t job = 100;
    p.key = AttemptKey{JobId(++job), Epoch(1)};
    b.core.on_prepare(b.now, p, spec);
    const auto s = b.last_status();
    EXPECT_EQ(s.phase, Phase::ended);
    return s.failure ? s.failure->kind + ": " + s.failure->detail : "no failure";
  };
  EXPECT_THAT(why(Bench::prepare(kOther, {"GPU-9"}), Bench::spec()),
              HasSubstr("launch: GPU GPU-9 is not in this node"));
  EXPECT_THAT(why(Bench::prepare(kOther), ParsedSpec{nullptr, "bad run"}), HasSubstr("bad run"));
  auto p = Bench::prepare(kOther);
  p.index = 1;
  EXPECT_THAT(why(p, Bench::spec()), HasSubstr("has no node 1"));
  b.core.on_probe_lost(b.now);
  EXPECT_THAT(why(Bench::prepare(kOther, {"GPU-0"}), Bench::spec()), HasSubstr("NVML"));
  EXPECT_TRUE(b.take<SpawnSupervisor>().empty());
}

TEST(WorkerCore, WelcomeStopsWhatIsNotToBeKept) {
  Bench b;
  b.connect();
  b.start(kFirst);
  b.start(kOther);
  b.core.on_disconnected(b.now);
  b.collect();
  b.actions.clear();
  b.core.on_connected(b.now);
  const auto hello = b.sent<Hello>();
  ASSERT_EQ(hello.size(), 1u);
  EXPECT_EQ(hello[0].attempts.size(), 2u);
  b.core.on_welcome(b.now, Welcome{1, 6'000'000, 1'000'000, {kOther}, {}});
  const auto told = b.take<TellSupervisor>();
  ASSERT_EQ(told.size(), 1u);
  EXPECT_EQ(told[0].key, kFirst);
}

TEST(WorkerCore, WhatHappenedWhileCutOffIsInTheNextHello) {
  Bench b;
  b.connect();
  b.start(kFirst);
  b.core.on_disconnected(b.now);
  b.sent<AttemptStatus>();
  b.end(kFirst, false, true, Failure{"exit", 1, 3, 0, 9, "exited 3", ""});
  b.settle(kFirst);
  EXPECT_TRUE(b.sent<AttemptStatus>().empty());
  b.core.on_connected(b.now);
  const auto hello = b.sent<Hello>().back();
  ASSERT_EQ(hello.attempts.size(), 1u);
  EXPECT_EQ(hello.attempts[0].phase, Phase::ended);
  EXPECT_EQ(hello.attempts[0].failure->exit_code, 3);
}

TEST(WorkerCore, TheLeaseRunsFromTheSending) {
  Bench b;
  b.core.on_connected(b.now);
  const auto hello_at = b.now.mono;
  b.now.mono += milliseconds(700);
  b.core.on_welcome(b.now, Welcome{1, 6'000'000, 1'000'000, {}, {}});
  const auto us = [](Mono t) { return t.time_since_epoch().count(); };
  EXPECT_EQ(b.take<SetLease>().at(0).until_boot_us, us(hello_at + seconds(6)));
  const auto first = b.sent<Heartbeat>();
  ASSERT_EQ(first.size(), 1u);
  const auto sent_at = b.now.mono;
  b.advance(milliseconds(900));
  EXPECT_TRUE(b.sent<Heartbeat>().empty());
  b.advance(milliseconds(100));
  const auto second = b.sent<Heartbeat>();
  ASSERT_EQ(second.size(), 1u);
  const auto second_at = b.now.mono;
  b.now.mono += milliseconds(400);
  b.core.on_heartbeat_ack(b.now, HeartbeatAck{second[0].seq});
  EXPECT_EQ(b.take<SetLease>().at(0).until_boot_us, us(second_at + seconds(6)));
  b.core.on_heartbeat_ack(b.now, HeartbeatAck{first[0].seq});  // late: must not move it backwards
  EXPECT_TRUE(b.take<SetLease>().empty());
  EXPECT_EQ(b.core.lease_until_boot_us(), us(second_at + seconds(6)));
  EXPECT_LT(us(sent_at), us(second_at));
}

TEST(WorkerCore, AcknowledgementsOfAFormerConnectionDoNotCount) {
  Bench b;
  b.connect();
  const auto beat = b.sent<Heartbeat>().at(0);
  b.core.on_disconnected(b.now);
  const auto before = b.core.lease_until_boot_us();
  b.now.mono += seconds(2);
  b.core.on_connected(b.now);
  b.core.on_heartbeat_ack(b.now, HeartbeatAck{beat.seq});
  EXPECT_EQ(b.core.lease_until_boot_us(), before);
}

TEST(WorkerCore, AnExpiredLeaseStopsEverything) {
  Bench b;
  b.connect();
  b.start(kFirst);
  b.core.on_disconnected(b.now);
  b.take<TellSupervisor>();
  b.advance(seconds(5));
  EXPECT_TRUE(b.take<TellSupervisor>().empty());
  b.advance(seconds(1));
  const auto told = b.take<TellSupervisor>();
  ASSERT_EQ(told.size(), 1u);
  EXPECT_EQ(std::get<supervisor::Stop>(told[0].command).cause, "lease");
  EXPECT_EQ(b.core.status_of(kFirst).failure->kind, "lease");
}

TEST(WorkerCore, ASupervisorThatDoesNothingAtTheEndOfTheLeaseDoesNotKeepItsRanksAlive) {
  Bench b;
  b.connect();
  b.start(kFirst);
  b.core.on_disconnected(b.now);
  b.advance(seconds(6));
  EXPECT_TRUE(b.take<KillAndProve>().empty()) << "it has a moment to do it itself";
  b.advance(milliseconds(250));
  EXPECT_EQ(b.take<KillAndProve>().size(), 1u);
  // What we found while it lived is no proof: it might start something yet.
  b.core.on_killed(b.now, kFirst, true, "scan");
  EXPECT_NE(b.core.status_of(kFirst).phase, Phase::ended);
  EXPECT_TRUE(b.take<KillAndProve>().empty());
  b.core.on_supervisor_gone(b.now, kFirst);
  EXPECT_EQ(b.take<KillAndProve>().size(), 1u);
  b.core.on_killed(b.now, kFirst, true, "scan");
  b.core.on_final_scan(b.now, kFirst);
  b.settle(kFirst);
  EXPECT_EQ(b.core.status_of(kFirst).phase, Phase::ended);
  EXPECT_EQ(b.core.status_of(kFirst).failure->kind, "lease");
}

TEST(WorkerCore, ASupervisorThatDiesUnderTheLastBlowIsProvenDeadByAnotherLook) {
  Bench b;
  b.connect();
  b.start(kFirst);
  b.core.on_disconnected(b.now);
  b.advance(seconds(6));
  b.advance(milliseconds(250));
  EXPECT_EQ(b.take<KillAndProve>().size(), 1u);
  b.core.on_supervisor_gone(b.now, kFirst);
  EXPECT_TRUE(b.take<KillAndProve>().empty()) << "one is under way";
  b.core.on_killed(b.now, kFirst, true, "scan");
  EXPECT_EQ(b.take<KillAndProve>().size(), 1u) << "that one began while the supervisor lived";
}

TEST(WorkerCore, CheckpointsAreReportedOncePerPathAndAgainAfterAReconnect) {
  Bench b;
  b.connect();
  b.start(kFirst);
  const CheckpointFound c{kFirst, 1, 10, "/ckpt/step-10", 5, 1};
  b.core.on_checkpoint(b.now, c);
  b.core.on_checkpoint(b.now, c);
  EXPECT_EQ(b.sent<CheckpointFound>().size(), 1u);
  const CheckpointFound foreign{kFirst, 9, 20, "/ckpt/step-20", 5, 1};
  b.core.on_checkpoint(b.now, foreign);
  EXPECT_TRUE(b.sent<CheckpointFound>().empty()) << "of another epoch";
  b.core.on_disconnected(b.now);
  b.core.on_checkpoint(b.now, CheckpointFound{kFirst, 1, 30, "/ckpt/step-30", 5, 1});
  b.connect({kFirst});
  EXPECT_EQ(b.sent<CheckpointFound>().size(), 2u);
}

TEST(WorkerCore, TheLastCheckpointIsReportedBeforeTheEnd) {
  Bench b;
  b.connect();
  b.start(kFirst);
  b.end(kFirst, true);
  b.core.on_supervisor_gone(b.now, kFirst);
  b.core.on_checkpoint(b.now, CheckpointFound{kFirst, 1, 10, "/ckpt/step-10", 5, 1});
  b.core.on_final_scan(b.now, kFirst);
  b.collect();
  std::vector<std::string> order;
  for (const auto& a : b.actions)
    if (const auto* s = std::get_if<Send>(&a)) {
      if (std::holds_alternative<CheckpointFound>(s->message)) order.push_back("checkpoint");
      const auto* status = std::get_if<AttemptStatus>(&s->message);
      if (status && status->phase == Phase::ended) order.push_back("ended");
    }
  EXPECT_EQ(order, (std::vector<std::string>{"checkpoint", "ended"}));
}

TEST(WorkerCore, ProgressIsSaidOnceASecond) {
  Bench b;
  b.connect();
  b.start(kFirst);
  Progress p;
  p.key = kFirst;
  for (int i = 0; i < 10; ++i) {
    p.step = i;
    b.core.on_progress(b.now, p);
    b.now.mono += milliseconds(250);
  }
  const auto said = b.sent<Progress>();
  ASSERT_EQ(said.size(), 3u);
  EXPECT_EQ(said[1].step, 4);
}

TEST(WorkerCore, SleepsUntilTheNextHeartbeat) {
  Bench b;
  b.connect();
  EXPECT_EQ(b.core.next_wake(b.now), Duration(seconds(1)));
  b.now.mono += milliseconds(400);
  EXPECT_EQ(b.core.next_wake(b.now), Duration(milliseconds(600)));
}

TEST(Heartbeats, SayEachSampleOfTheGpusOnce) {
  Bench b;
  b.connect();
  b.gpus(1);
  b.sent<Heartbeat>();
  nvml::Sample sample;
  sample.gpus.emplace_back().uuid = "GPU-0";
  sample.gpus[0].utilization = 97;
  sample.gpus[0].memory_used_bytes = 60ULL << 30;
  sample.gpus[0].power_mw = 650'000;
  b.core.on_probe(b.now, sample);
  b.advance(seconds(1));
  auto said = b.sent<Heartbeat>();
  ASSERT_FALSE(said.empty());
  ASSERT_TRUE(said[0].loads);
  ASSERT_EQ(said[0].loads->size(), 1u);
  EXPECT_EQ(said[0].loads->at(0).uuid, "GPU-0");
  EXPECT_EQ(said[0].loads->at(0).utilisation_percent, 97);
  EXPECT_EQ(said[0].loads->at(0).memory_bytes, 60LL << 30);
  EXPECT_EQ(said[0].loads->at(0).power_mw, 650'000);
  EXPECT_FALSE(said[0].loads->at(0).temperature_c) << "not known is not zero";
  b.advance(seconds(1));
  said = b.sent<Heartbeat>();
  ASSERT_FALSE(said.empty());
  EXPECT_FALSE(said.back().loads) << "it has been said";
  b.core.on_probe(b.now, sample);
  b.core.on_probe_lost(b.now);
  b.advance(seconds(1));
  said = b.sent<Heartbeat>();
  ASSERT_FALSE(said.empty());
  EXPECT_FALSE(said.back().loads) << "nobody knows what they do now";
}

}  // namespace
}  // namespace tutti::worker
