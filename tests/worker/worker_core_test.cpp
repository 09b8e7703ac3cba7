// The worker's decisions, driven by hand: a Bench feeds events, takes actions and plays the shell's part
// (scans answered at once, supervisors end when told to quit).
#include "worker/core/worker_core.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

namespace tutti::worker {
namespace {

using namespace protocol;  // NOLINT
using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::HasSubstr;

bool fatal(std::string_view kind, std::int32_t xid) {
  return kind == "gpu_lost" || kind == "reset_required" || (kind == "xid" && xid == 79);
}

const AttemptKey kFirst{JobId(7), Epoch(1)};
const AttemptKey kSecond{JobId(7), Epoch(2)};
const AttemptKey kOther{JobId(8), Epoch(1)};

struct Bench {
  Bench() : Bench(CoreSettings()) {}
  explicit Bench(CoreSettings s) : core(make(std::move(s))) {}
  static WorkerCore make(CoreSettings s) {
    s.fatal = &fatal;
    s.self.node = "n1";
    return WorkerCore(std::move(s));
  }

  Now now{Instant(seconds(1'000'000)), Mono(seconds(100))};
  WorkerCore core;
  std::vector<Action> actions;

  void collect() {
    for (auto& a : core.take_actions()) actions.push_back(std::move(a));
  }
  template <class T>
  std::vector<T> take() {
    collect();
    std::vector<T> out;
    for (auto it = actions.begin(); it != actions.end();)
      if (auto* t = std::get_if<T>(&*it)) {
        out.push_back(std::move(*t));
        it = actions.erase(it);
      } else {
        ++it;
      }
    return out;
  }
  template <class T>
  std::vector<T> sent() {
    collect();
    std::vector<T> out;
    for (auto it = actions.begin(); it != actions.end();) {
      auto* s = std::get_if<Send>(&*it);
      if (s && std::holds_alternative<T>(s->message)) {
        out.push_back(std::get<T>(std::move(s->message)));
        it = actions.erase(it);
      } else {
        ++it;
      }
    }
    return out;
  }
  AttemptStatus last_status() {
    auto all = sent<AttemptStatus>();
    EXPECT_FALSE(all.empty()) << "no status was sent";
    return all.empty() ? AttemptStatus() : all.back();
  }

  void connect(std::vector<AttemptKey> keep = {}) {
    core.on_connected(now);
    core.on_welcome(now, Welcome{1, 6'000'000, 1'000'000, std::move(keep)});
  }
  void gpus(int n) {
    nvml::Inventory m;
    m.driver = "550";
    m.simulated = true;
    for (int i = 0; i < n; ++i) {
      nvml::GpuInfo g;
      g.index = static_cast<unsigned>(i);
      g.uuid = "GPU-" + std::to_string(i);
      g.pci = "0000:0" + std::to_string(i) + ":00";
      g.device_path = "/dev/sim" + std::to_string(i);
      m.gpus.push_back(g);
    }
    core.on_probe(now, m);
  }
  static Prepare prepare(AttemptKey key, std::vector<std::string> uuids = {}, int ranks = 2) {
    Prepare p;
    p.key = key;
    p.gang = {{"n1", "127.0.0.1", 0, ranks}};
    p.gpu_uuids = std::move(uuids);
    return p;
  }
  static ParsedSpec spec() { return {std::make_shared<JobSpec>(), ""}; }
  void start(AttemptKey key, std::vector<std::string> uuids = {}, int ranks = 2) {
    core.on_prepare(now, prepare(key, std::move(uuids), ranks), spec());
    status(key, Phase::ready, true);
    Launch l;
    l.key = key;
    l.endpoints.resize(1);
    core.on_launch(now, l);
    status(key, Phase::running);
  }
  void status(AttemptKey key, Phase phase, bool first = false) {
    supervisor::Status s;
    s.phase = phase;
    core.on_supervisor_status(now, key, s, first);
  }
  void end(AttemptKey key, bool ok, bool proven = true, std::optional<Failure> f = {}) {
    supervisor::Status s;
    s.phase = Phase::ended;
    s.end = End{ok, proven, proven ? "cgroup" : "two processes live", 5};
    s.failure = std::move(f);
    core.on_supervisor_status(now, key, s, false);
  }
  // The shell's part at the end of an attempt.
  void settle(AttemptKey key) {
    core.on_final_scan(now, key);
    core.on_supervisor_gone(now, key);
  }
  void advance(Duration d) {
    now.mono += d;
    now.wall += d;
    core.on_tick(now);
  }
};

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
  b.core.on_welcome(b.now, Welcome{1, 600'000'000, 1'000'000, {kFirst}});
  b.collect();
  b.actions.clear();
  b.core.on_stop(b.now, Stop{kFirst, "cancelled", "TERM", 30'000'000});
  b.advance(std::chrono::seconds(49));
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
  b.advance(std::chrono::seconds(21));
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

TEST(WorkerCore, TheEndWaitsUntilTheGpusAreLetGo) {
  Bench b;
  b.gpus(2);
  b.connect();
  b.start(kFirst, {"GPU-0", "GPU-1"});
  b.end(kFirst, true);
  b.sent<AttemptStatus>();
  auto asked = b.take<AskProcesses>();
  ASSERT_EQ(asked.size(), 2u);
  b.settle(kFirst);
  const auto answer = [&](const AskProcesses& q, std::optional<std::vector<unsigned>> pids) {
    nvml::Processes p;
    p.id = q.id;
    p.uuid = q.uuid;
    p.pids = std::move(pids);
    b.core.on_probe(b.now, p);
  };
  answer(asked[0], std::vector<unsigned>{});
  answer(asked[1], std::vector<unsigned>{4711});
  EXPECT_TRUE(b.sent<AttemptStatus>().empty());
  b.advance(milliseconds(300));
  const auto again = b.take<AskProcesses>();
  ASSERT_EQ(again.size(), 1u);
  EXPECT_EQ(again[0].uuid, "GPU-1");
  answer(asked[1], std::vector<unsigned>{});  // the answer to an old question is no proof
  EXPECT_TRUE(b.sent<AttemptStatus>().empty());
  answer(again[0], std::vector<unsigned>{});
  EXPECT_TRUE(b.last_status().end->proven);
}

// A lost GPU answers no question: waiting for its answer made the recovery from an Xid 79 take the whole
// deadline.
TEST(WorkerCore, ABrokenGpuIsNotAskedForItsProcesses) {
  Bench b;
  b.gpus(2);
  b.connect();
  b.start(kFirst, {"GPU-0", "GPU-1"});
  nvml::Fault f;
  f.uuid = "GPU-1";
  f.kind = nvml::FaultKind::xid;
  f.xid = 79;
  b.core.on_probe(b.now, f);
  b.end(kFirst, false);
  const auto asked = b.take<AskProcesses>();
  ASSERT_EQ(asked.size(), 1u);
  EXPECT_EQ(asked[0].uuid, "GPU-0");
}

TEST(WorkerCore, AnUnprovenEndIsProvenLater) {
  Bench b;
  b.gpus(1);
  b.connect();
  b.start(kFirst, {"GPU-0"});
  b.end(kFirst, false);
  b.settle(kFirst);
  b.advance(seconds(51));
  auto s = b.last_status();
  ASSERT_EQ(s.phase, Phase::ended);
  EXPECT_FALSE(s.end->proven);
  b.core.on_forget(b.now, Forget{kFirst});
  EXPECT_EQ(b.core.attempts().size(), 1u) << "forgotten while its GPU is not proven free";
  b.core.on_prepare(b.now, Bench::prepare(kOther, {"GPU-0"}), Bench::spec());
  EXPECT_EQ(b.last_status().failure->kind, "launch");

  b.take<AskProcesses>();
  b.advance(seconds(6));
  ASSERT_EQ(b.take<KillAndProve>().size(), 1u);
  b.core.on_killed(b.now, kFirst, true, "scan");
  const auto asked = b.take<AskProcesses>();
  ASSERT_EQ(asked.size(), 1u);
  nvml::Processes p;
  p.id = asked[0].id;
  p.uuid = "GPU-0";
  p.pids.emplace();
  b.core.on_probe(b.now, p);
  s = b.last_status();
  EXPECT_EQ(s.key, kFirst);
  EXPECT_TRUE(s.end->proven);
}

// Found by the simulation (seed 400): the supervisor proves it while we still do the last work of the
// unproven end, and says it once.
TEST(WorkerCore, AProofThatComesDuringTheLastWorkCounts) {
  Bench b;
  b.connect();
  b.start(kFirst);
  b.take<TellSupervisor>();
  b.end(kFirst, false, false);
  b.end(kFirst, false, true);
  EXPECT_EQ(b.take<TellSupervisor>().size(), 1u);
  b.core.on_final_scan(b.now, kFirst);
  b.settle(kFirst);
  EXPECT_TRUE(b.last_status().end->proven);
}

TEST(WorkerCore, ASupervisorWithoutProofGoesOnTrying) {
  Bench b;
  b.connect();
  b.start(kFirst);
  b.take<TellSupervisor>();
  b.end(kFirst, false, false);
  b.core.on_final_scan(b.now, kFirst);
  EXPECT_FALSE(b.last_status().end->proven);
  EXPECT_TRUE(b.take<TellSupervisor>().empty()) << "it holds the locks of the devices";
  b.advance(seconds(10));
  EXPECT_TRUE(b.take<KillAndProve>().empty());
  b.end(kFirst, false, true);
  EXPECT_EQ(b.take<TellSupervisor>().size(), 1u);
  b.settle(kFirst);
  EXPECT_TRUE(b.last_status().end->proven);
}

TEST(WorkerCore, ADeadSupervisorIsAFailureAndItsRanksAreKilled) {
  Bench b;
  b.connect();
  b.start(kFirst);
  b.sent<AttemptStatus>();
  b.core.on_supervisor_gone(b.now, kFirst);
  EXPECT_EQ(b.take<KillAndProve>().size(), 1u);
  auto s = b.last_status();
  EXPECT_EQ(s.phase, Phase::running) << "not ended before the kill is proven";
  EXPECT_EQ(s.failure->kind, "supervisor");
  b.core.on_killed(b.now, kFirst, true, "scan");
  EXPECT_TRUE(b.sent<AttemptStatus>().empty());
  b.core.on_final_scan(b.now, kFirst);
  s = b.last_status();
  EXPECT_TRUE(s.end->proven);
  EXPECT_FALSE(s.end->ok);
}

TEST(WorkerCore, ALaunchThatCannotBeDoneEndsTheAttempt) {
  Bench b;
  b.connect();
  b.core.on_prepare(b.now, Bench::prepare(kFirst), Bench::spec());
  b.core.on_launch_failed(b.now, kFirst, "disk full", false);
  b.core.on_final_scan(b.now, kFirst);
  const auto s = b.last_status();
  EXPECT_EQ(s.phase, Phase::ended);
  EXPECT_EQ(s.failure->kind, "launch");
  EXPECT_EQ(s.failure->detail, "disk full");
}

TEST(WorkerCore, NodesWithoutRanksRunAndEndWell) {
  Bench b;
  b.connect();
  b.core.on_prepare(b.now, Bench::prepare(kFirst, {}, 0), Bench::spec());
  b.status(kFirst, Phase::ready, true);
  Launch l;
  l.key = kFirst;
  l.endpoints.resize(1);
  b.core.on_launch(b.now, l);
  b.status(kFirst, Phase::launched);
  EXPECT_EQ(b.last_status().phase, Phase::running);
  b.core.on_stop(b.now, Stop{kFirst, "done", "KILL", 0});
  b.end(kFirst, false);
  b.settle(kFirst);
  EXPECT_TRUE(b.last_status().end->ok);
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
  b.core.on_welcome(b.now, Welcome{1, 6'000'000, 1'000'000, {kOther}});
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
  b.core.on_welcome(b.now, Welcome{1, 6'000'000, 1'000'000, {}});
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

TEST(WorkerCore, AFatalGpuFaultIsRememberedUntilTheReset) {
  Bench b;
  b.gpus(2);
  b.connect();
  b.sent<GpuInventory>();
  nvml::Fault f;
  f.pci = "0000:01:00";  // the driver often names the bus address only
  f.kind = nvml::FaultKind::xid;
  f.xid = 79;
  f.boot_us = b.now.mono.time_since_epoch().count() - 1500;
  f.detail = "fell off the bus";
  b.core.on_probe(b.now, f);
  const auto fault = b.sent<GpuFault>();
  ASSERT_EQ(fault.size(), 1u);
  EXPECT_EQ(fault[0].uuid, "GPU-1");
  EXPECT_EQ(fault[0].age_us, 1500);
  auto inventory = b.sent<GpuInventory>();
  ASSERT_EQ(inventory.size(), 1u);
  EXPECT_TRUE(inventory[0].gpus[0].healthy);
  EXPECT_FALSE(inventory[0].gpus[1].healthy);
  EXPECT_EQ(b.take<SaveHealth>().size(), 2u);

  nvml::Recovered r;
  r.uuid = "GPU-1";
  r.kind = nvml::FaultKind::throttled;  // no reset
  b.core.on_probe(b.now, r);
  EXPECT_TRUE(b.sent<GpuInventory>().empty());
  r.kind = nvml::FaultKind::gpu_lost;
  b.core.on_probe(b.now, r);
  inventory = b.sent<GpuInventory>();
  ASSERT_EQ(inventory.size(), 1u);
  EXPECT_TRUE(inventory[0].gpus[1].healthy);
}

TEST(WorkerCore, AnUnhealthyGpuTakesNoWork) {
  Bench b;
  b.gpus(1);
  b.core.gpus().remember({{"GPU-0", "Xid 79: gone"}});  // as stored by a former worker of this boot
  b.connect();
  b.core.on_prepare(b.now, Bench::prepare(kFirst, {"GPU-0"}), Bench::spec());
  EXPECT_THAT(b.last_status().failure->detail, HasSubstr("unhealthy: Xid 79"));
}

TEST(WorkerCore, FaultsSeenWhileCutOffAreToldWithTheirTrueAge) {
  Bench b;
  b.gpus(1);
  nvml::Fault f;
  f.uuid = "GPU-0";
  f.kind = nvml::FaultKind::xid;
  f.xid = 13;
  f.boot_us = b.now.mono.time_since_epoch().count();
  b.core.on_probe(b.now, f);
  b.now.mono += seconds(30);
  b.connect();
  const auto said = b.sent<GpuFault>();
  ASSERT_EQ(said.size(), 1u);
  EXPECT_EQ(said[0].age_us, 30'000'000);
}

TEST(WorkerCore, AdoptsALivingAttempt) {
  Bench b;
  b.gpus(1);
  Adopted found;
  found.prepare = Bench::prepare(kFirst, {"GPU-0"});
  found.spec = Bench::spec();
  found.last_status.emplace().phase = Phase::running;
  found.supervisor_alive = true;
  b.core.adopt(b.now, found);
  b.core.on_connected(b.now);
  const auto hello = b.sent<Hello>();
  ASSERT_EQ(hello.at(0).attempts.size(), 1u);
  EXPECT_EQ(hello[0].attempts[0].phase, Phase::running);
  b.core.on_welcome(b.now, Welcome{1, 6'000'000, 1'000'000, {kFirst}});
  EXPECT_TRUE(b.take<SpawnSupervisor>().empty());
  EXPECT_TRUE(b.take<KillAndProve>().empty());
  b.core.on_prepare(b.now, Bench::prepare(kOther, {"GPU-0"}), Bench::spec());
  EXPECT_EQ(b.last_status().failure->kind, "launch") << "its GPU is held from the start";
}

TEST(WorkerCore, AdoptsAnAttemptWhoseSupervisorDiedMeanwhile) {
  Bench b;
  Adopted found;
  found.prepare = Bench::prepare(kFirst);
  found.spec = Bench::spec();
  found.last_status.emplace().phase = Phase::running;
  b.core.adopt(b.now, found);
  EXPECT_EQ(b.take<KillAndProve>().size(), 1u);
  b.core.on_killed(b.now, kFirst, true, "scan");
  b.core.on_final_scan(b.now, kFirst);
  EXPECT_TRUE(b.core.status_of(kFirst).end->proven);
}

TEST(WorkerCore, AttemptsOfAFormerBootAreGone) {
  Bench b;
  Adopted found;
  found.prepare = Bench::prepare(kFirst);
  found.spec = Bench::spec();
  found.last_status.emplace().phase = Phase::running;
  found.former_boot = true;
  b.core.adopt(b.now, found);
  const auto s = b.core.status_of(kFirst);
  EXPECT_EQ(s.phase, Phase::ended);
  EXPECT_EQ(s.end->how, "gone");
  EXPECT_TRUE(s.end->proven);
  EXPECT_TRUE(b.take<KillAndProve>().empty());
}

TEST(WorkerCore, RetiredEpochsDoNotComeAgainAfterARestart) {
  Bench b;
  b.core.forget_epoch(kSecond);
  b.connect();
  b.core.on_prepare(b.now, Bench::prepare(kSecond), Bench::spec());
  EXPECT_TRUE(b.take<SpawnSupervisor>().empty());
}

TEST(WorkerCore, SleepsUntilTheNextHeartbeat) {
  Bench b;
  b.connect();
  EXPECT_EQ(b.core.next_wake(b.now), Duration(seconds(1)));
  b.now.mono += milliseconds(400);
  EXPECT_EQ(b.core.next_wake(b.now), Duration(milliseconds(600)));
}

}  // namespace
}  // namespace tutti::worker
