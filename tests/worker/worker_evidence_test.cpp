// What a worker has seen is not lost: neither with the end of an attempt that was short, nor with a
// connection, nor with the worker itself.
#include "tests/worker/worker_bench.h"

namespace tutti::worker {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using testing::SizeIs;

const CheckpointFound kCheckpoint{kFirst, 1, 10, "/ckpt/step-10", 5, 1};
const CollectiveResult kReached{kFirst, "mpi", 8 << 20, 2, 12.5};

Progress at_step(std::int64_t step) {
  Progress p;
  p.key = kFirst;
  p.step = step;
  return p;
}

struct EvidenceBench : Bench {
  EvidenceBench() {
    connect();
    start(kFirst);
    say();
  }
  // Words for what has been sent about attempts since the last call, in order.
  std::vector<std::string> say() {
    collect();
    std::vector<std::string> words;
    for (const auto& a : actions) {
      const auto* s = std::get_if<Send>(&a);
      if (s == nullptr) continue;
      if (std::holds_alternative<CheckpointFound>(s->message)) words.emplace_back("checkpoint");
      if (std::holds_alternative<CollectiveResult>(s->message)) words.emplace_back("collective");
      if (const auto* p = std::get_if<Progress>(&s->message))
        words.push_back("step " + std::to_string(p->step));
      if (const auto* status = std::get_if<AttemptStatus>(&s->message))
        words.emplace_back(name(status->phase));
      if (const auto* hello = std::get_if<Hello>(&s->message))
        for (const auto& status : hello->attempts)
          words.push_back("hello: " + std::string(name(status.phase)) + (status.failure ? ", failing" : ""));
    }
    actions.clear();
    return words;
  }
  // The connection breaks; what is said into it meanwhile is lost.
  void cut_off() {
    say();
    core.on_disconnected(now);
  }
  void hello() { core.on_connected(now); }
  void welcome(std::vector<AttemptKey> keep) {
    core.on_welcome(now, Welcome{1, 6'000'000, 1'000'000, std::move(keep), {}});
  }
  // Its ranks are dead, and the last look at what they have left finds it.
  void find_all() {
    core.on_collective(kReached);
    core.on_progress(now, at_step(10));
    core.on_checkpoint(now, kCheckpoint);
  }
};

TEST(WorkerEvidence, OfAJobThatWasShorterThanALookIsSaidBeforeItsEnd) {
  EvidenceBench b;
  b.end(kFirst, true);
  ASSERT_THAT(b.take<FinalScan>(), SizeIs(1));
  b.find_all();
  b.settle(kFirst);
  EXPECT_THAT(b.say(), ElementsAre("collective", "step 10", "checkpoint", "ended"));
}

TEST(WorkerEvidence, TheLastStepIsSaidHoweverSoonAfterTheOneBefore) {
  EvidenceBench b;
  EXPECT_TRUE(b.core.on_progress(b.now, at_step(9)));
  EXPECT_FALSE(b.core.on_progress(b.now, at_step(10))) << "once a second while more may come";
  b.end(kFirst, true);
  EXPECT_TRUE(b.core.on_progress(b.now, at_step(10)));
  EXPECT_THAT(b.say(), ElementsAre("step 9", "step 10"));
  b.settle(kFirst);
  EXPECT_FALSE(b.core.on_progress(b.now, at_step(11))) << "its end has been said";
}

TEST(WorkerEvidence, WhatEndedWhileCutOffIsToldInOrder) {
  EvidenceBench b;
  b.cut_off();
  b.end(kFirst, false, true, Failure{"exit", 1, 3, 0, 9, "exited 3", ""});
  b.find_all();
  b.settle(kFirst);
  b.hello();
  EXPECT_THAT(b.say(), ElementsAre("hello: running, failing"))
      << "whoever hears of the end first takes no checkpoint any more";
  b.welcome({kFirst});
  EXPECT_THAT(b.say(), ElementsAre("checkpoint", "collective", "step 10", "ended"));
  b.welcome({kFirst});  // a scheduler that was busy says it twice
  EXPECT_THAT(b.say(), ElementsAre("checkpoint", "collective", "step 10"));
}

// All of it was said, into a connection that was dying.
TEST(WorkerEvidence, IsSaidAgainOverEachNewConnectionUntilTheEndIsCommitted) {
  EvidenceBench b;
  b.end(kFirst, true);
  b.find_all();
  b.settle(kFirst);
  for (int i = 0; i < 2; ++i) {
    b.cut_off();
    b.hello();
    b.welcome({kFirst});
    EXPECT_THAT(b.say(), ElementsAre("hello: running", "checkpoint", "collective", "step 10", "ended"));
  }
  b.core.on_forget(b.now, Forget{kFirst});
  b.cut_off();
  b.hello();
  b.welcome({});
  EXPECT_THAT(b.say(), IsEmpty());
}

TEST(WorkerEvidence, AnEndBetweenHelloAndWelcomeWaitsForWhatWasSaidBefore) {
  EvidenceBench b;
  b.core.on_checkpoint(b.now, kCheckpoint);
  b.cut_off();
  b.hello();
  b.end(kFirst, true);
  b.settle(kFirst);
  EXPECT_THAT(b.say(), ElementsAre("hello: running"));
  b.welcome({kFirst});
  EXPECT_THAT(b.say(), ElementsAre("checkpoint", "ended"));
}

TEST(WorkerEvidence, AnEndThatIsNotWaitedForIsToldWithoutIt) {
  EvidenceBench b;
  b.cut_off();
  b.end(kFirst, true);
  b.find_all();
  b.settle(kFirst);
  b.hello();
  b.welcome({});
  EXPECT_THAT(b.say(), ElementsAre("hello: running"));
  EXPECT_TRUE(b.core.attempts().empty());
  b.core.on_stop(b.now, Stop{kFirst, "control", "KILL", 0});  // for it seemed to run
  EXPECT_THAT(b.say(), ElementsAre("ended"));
}

TEST(WorkerEvidence, ProgressIsToldToANewLeaderAtOnce) {
  EvidenceBench b;
  b.core.on_progress(b.now, at_step(7));
  b.cut_off();
  b.core.on_progress(b.now, at_step(8));
  b.now.mono += seconds(2);
  b.core.on_progress(b.now, at_step(9));
  b.hello();
  b.welcome({kFirst});
  EXPECT_THAT(b.say(), ElementsAre("hello: running", "step 9"));
}

struct AfterARestart : Bench {
  // The former worker has recorded its end; nobody knows what it has told.
  void adopt_end(bool ok, bool proven = true) {
    Adopted found;
    found.prepare = Bench::prepare(kFirst);
    found.spec = Bench::spec();
    found.recorded_end.emplace();
    found.recorded_end->key = kFirst;
    found.recorded_end->phase = Phase::ended;
    found.recorded_end->end = End{ok, proven, "cgroup", 5};
    core.adopt(now, found);
  }
};

TEST(WorkerEvidence, IsLookedForOnceMoreByTheNextWorker) {
  AfterARestart b;
  b.adopt_end(true);
  ASSERT_THAT(b.take<FinalScan>(), SizeIs(1));
  b.connect({kFirst});
  const auto hello = b.sent<Hello>();
  ASSERT_THAT(hello, SizeIs(1));
  ASSERT_THAT(hello[0].attempts, SizeIs(1));
  EXPECT_NE(hello[0].attempts[0].phase, Phase::ended);
  b.core.on_checkpoint(b.now, kCheckpoint);
  EXPECT_THAT(b.sent<CheckpointFound>(), SizeIs(1));
  EXPECT_THAT(b.sent<AttemptStatus>(), IsEmpty());
  b.core.on_final_scan(b.now, kFirst);
  const auto s = b.last_status();
  ASSERT_EQ(s.phase, Phase::ended);
  EXPECT_TRUE(s.end->ok && s.end->proven);
  EXPECT_EQ(s.end->how, "cgroup");
  EXPECT_EQ(s.end->boot_us, 5);
  EXPECT_THAT(b.take<RecordEnd>(), IsEmpty()) << "it stands on the disk already";
}

TEST(WorkerEvidence, TheLookIsOverBeforeTheConnection) {
  AfterARestart b;
  b.adopt_end(false);
  b.core.on_final_scan(b.now, kFirst);
  b.core.on_connected(b.now);
  const auto hello = b.sent<Hello>();
  ASSERT_THAT(hello, SizeIs(1));
  EXPECT_EQ(hello[0].attempts.at(0).phase, Phase::ended) << "there was nothing that it could come before";
}

// Its gang must not be held by a node whose part has failed, only since that is looked at once more.
TEST(WorkerEvidence, MeanwhileAFailedPartIsAcknowledgedToNobody) {
  for (const bool ok : {false, true}) {
    AfterARestart b;
    b.adopt_end(ok);
    EXPECT_EQ(b.core.on_peer_ping(b.now, PeerPing{"n2", "n1", 1, {kFirst}}).has_value(), ok);
  }
}

TEST(WorkerEvidence, AnEndThatWasNotProvenGoesOnBeingProven) {
  AfterARestart b;
  b.adopt_end(false, false);
  EXPECT_THAT(b.take<FinalScan>(), IsEmpty());
  b.core.on_tick(b.now);
  EXPECT_THAT(b.take<KillAndProve>(), SizeIs(1));
}

// Said to a scheduler that does not lead, or into a connection that was dying.
TEST(WorkerEvidence, IncidentsAreToldAgainUntilTheirArrivalIsProven) {
  Bench b;
  const auto told = [&b] {
    std::vector<std::string> all;
    for (const auto& hello : b.sent<Hello>())
      for (const auto& i : hello.health->incidents) all.push_back(i.detail);
    for (const auto& health : b.sent<NodeHealth>())
      for (const auto& i : health.incidents) all.push_back(i.detail);
    return all;
  };
  b.core.on_incident(b.now, "link_flap", "eth0 went down");
  b.core.on_connected(b.now);  // a standby: it sends us on
  EXPECT_THAT(told(), ElementsAre("eth0 went down"));
  b.core.on_disconnected(b.now);
  b.connect();
  EXPECT_THAT(told(), ElementsAre("eth0 went down"));
  b.core.on_incident(b.now, "oom_kill", "killed process 7");
  EXPECT_THAT(told(), ElementsAre("killed process 7")) << "once over a connection";
  const auto beats = b.sent<Heartbeat>();
  ASSERT_FALSE(beats.empty());
  b.core.on_heartbeat_ack(b.now, HeartbeatAck{beats.back().seq});  // sent between the two
  b.core.on_disconnected(b.now);
  b.connect();
  EXPECT_THAT(told(), ElementsAre("killed process 7"));
  b.core.on_heartbeat_ack(b.now, HeartbeatAck{b.sent<Heartbeat>().back().seq});
  b.core.on_disconnected(b.now);
  b.connect();
  EXPECT_THAT(told(), IsEmpty());
}

}  // namespace
}  // namespace tutti::worker
