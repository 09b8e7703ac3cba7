// Gang leases: how long an attempt goes on while the scheduler is away, and what this node tells others.
#include "tests/worker/worker_bench.h"

namespace tutti::worker {
namespace {

constexpr auto kMinute = std::chrono::minutes(1);

struct GangBench : Bench {
  using Bench::Bench;
  void start_held(AttemptKey key, std::vector<std::string> peers, Duration continue_for) {
    Prepare p = prepare(key);
    for (const auto& name : peers) p.gang.push_back({name, "127.0.0.2", 2, 2, 4000});
    p.hold.lease_us = 6'000'000;
    p.hold.continue_for_us = continue_for.count();
    core.on_prepare(now, p, spec());
    status(key, Phase::ready, true);
    status(key, Phase::running);
  }
  std::int64_t until(AttemptKey key) const { return core.lease_until_boot_us(key); }
  std::int64_t in(Duration d) const { return (now.mono + d).time_since_epoch().count(); }
  void acknowledge(const std::string& from, AttemptKey key, Mono sent) {
    core.on_peer_ack(now, {from, "n1", sent.time_since_epoch().count(), {key}});
  }
  bool stopped() {
    for (const auto& told : take<TellSupervisor>())
      if (std::holds_alternative<supervisor::Stop>(told.command)) return true;
    return false;
  }
  // Seconds in which only these peers answer.
  void seconds_with(std::vector<std::string> peers, AttemptKey key, int n) {
    for (int i = 0; i < n; ++i) {
      advance(seconds(1));
      for (const auto& peer : peers) acknowledge(peer, key, now.mono);
    }
  }
};

TEST(GangLease, PeersArePingedEachSecondForAllTheirAttempts) {
  GangBench b;
  b.connect();
  b.start_held(kFirst, {"n2", "n3"}, kMinute);
  b.start_held(kOther, {"n2"}, kMinute);
  b.take<PingPeer>();
  b.advance(seconds(1));
  const auto pings = b.take<PingPeer>();
  ASSERT_EQ(pings.size(), 2u);
  EXPECT_EQ(pings[0].ping.to, "n2");
  EXPECT_EQ(pings[0].ping.attempts, (std::vector{kFirst, kOther}));
  EXPECT_EQ(pings[0].ping.sent_us, b.in(seconds(0)));
  EXPECT_EQ(pings[0].port, 4000);
  EXPECT_EQ(pings[1].ping.attempts, std::vector{kFirst});
}

TEST(GangLease, WithoutASchedulerItLastsWhileEveryPeerAcknowledges) {
  GangBench b;
  b.connect();
  b.start_held(kFirst, {"n2", "n3"}, kMinute);
  b.core.on_disconnected(b.now);
  b.seconds_with({"n2", "n3"}, kFirst, 30);
  EXPECT_FALSE(b.stopped());
  EXPECT_EQ(b.until(kFirst), b.in(seconds(6)));
  b.seconds_with({"n2"}, kFirst, 5);
  EXPECT_FALSE(b.stopped());
  b.seconds_with({"n2"}, kFirst, 1);
  EXPECT_TRUE(b.stopped()) << "n3 has not acknowledged for a lease";
  EXPECT_EQ(b.core.status_of(kFirst).failure->kind, "lease");
}

TEST(GangLease, ItLastsNoLongerThanItMayGoOn) {
  GangBench b;
  b.connect();
  b.start_held(kFirst, {"n2"}, kMinute);
  b.core.on_disconnected(b.now);
  b.seconds_with({"n2"}, kFirst, 65);
  EXPECT_FALSE(b.stopped());
  b.seconds_with({"n2"}, kFirst, 1);
  EXPECT_TRUE(b.stopped()) << "six seconds of the node's own lease, and a minute";
}

TEST(GangLease, AJobWithoutPeersGoesOnForItsTimeWhileTheWorkerLives) {
  GangBench b;
  b.connect();
  b.start_held(kFirst, {}, kMinute);
  b.core.on_disconnected(b.now);
  b.seconds_with({}, kFirst, 30);
  EXPECT_EQ(b.until(kFirst), b.in(seconds(6))) << "no longer ahead than a lease, should the worker die";
  b.seconds_with({}, kFirst, 35);
  EXPECT_FALSE(b.stopped());
  b.seconds_with({}, kFirst, 1);
  EXPECT_TRUE(b.stopped());
}

TEST(GangLease, AWitnessMustAcknowledgeAsWell) {
  GangBench b;
  b.connect();
  Prepare p = Bench::prepare(kFirst);
  p.hold = {6'000'000, 60'000'000, GangNode{"w", "127.0.0.3", 0, 0, 4000}};
  b.core.on_prepare(b.now, p, Bench::spec());
  EXPECT_EQ(b.until(kFirst), b.in(seconds(6)));
  b.advance(seconds(2));
  b.acknowledge("w", kFirst, b.now.mono);
  EXPECT_EQ(b.until(kFirst), b.in(seconds(6)));
}

// The scheduler may have placed it again: it has been told that this node was silent for longer than a lease.
TEST(GangLease, WhatIsOverStaysOver) {
  GangBench b;
  b.connect();
  b.start_held(kFirst, {"n2"}, kMinute);
  b.core.on_disconnected(b.now);
  b.take<SetAttemptLease>();
  // The whole machine stood still; what comes first is a late acknowledgement, then new ones.
  b.now.mono += seconds(20);
  b.acknowledge("n2", kFirst, b.now.mono - seconds(14));
  EXPECT_TRUE(b.stopped());
  b.acknowledge("n2", kFirst, b.now.mono);
  b.connect({kFirst});
  EXPECT_TRUE(b.take<SetAttemptLease>().empty());
  b.advance(seconds(1));
  EXPECT_TRUE(b.take<PingPeer>().empty());
}

TEST(GangLease, AnAcknowledgementOfTheFutureDoesNotCount) {
  GangBench b;
  b.connect();
  b.start_held(kFirst, {"n2"}, kMinute);
  const auto before = b.until(kFirst);
  b.acknowledge("n2", kFirst, b.now.mono + seconds(5));
  EXPECT_EQ(b.until(kFirst), before);
}

TEST(GangLease, OthersAreAcknowledgedUntilItIsOverHere) {
  GangBench b;
  b.connect();
  b.start_held(kFirst, {"n2"}, kMinute);
  const PeerPing ping{"n2", "n1", 5, {kFirst, kOther}};
  auto ack = b.core.on_peer_ping(b.now, ping);
  ASSERT_TRUE(ack);
  EXPECT_EQ(ack->attempts, (std::vector{kFirst, kOther})) << "what is not known here is witnessed";
  EXPECT_EQ(ack->sent_us, 5);
  EXPECT_EQ(ack->to, "n2");
  b.core.on_stop(b.now, Stop{kFirst, "cancelled", "KILL", 0});
  ack = b.core.on_peer_ping(b.now, ping);
  ASSERT_TRUE(ack);
  EXPECT_EQ(ack->attempts, std::vector{kOther});
  EXPECT_FALSE(b.core.on_peer_ping(b.now, {"n2", "n9", 5, {kOther}})) << "meant for another";
}

TEST(GangLease, AnOlderEpochOfAJobIsNotAcknowledged) {
  GangBench b;
  b.connect();
  b.start_held(kSecond, {"n2"}, kMinute);
  EXPECT_FALSE(b.core.on_peer_ping(b.now, {"n2", "n1", 5, {kFirst}}));
}

TEST(GangLease, SilenceCountsFromTheLastAcknowledgementOrTheStart) {
  CoreSettings s;
  s.started = Mono(seconds(90));
  GangBench b(std::move(s));
  b.connect();
  const auto silence = [&](bool refuse = false) {
    b.core.on_ask_silence(b.now, {3, kFirst, "n2", refuse});
    const auto said = b.sent<PeerSilence>();
    EXPECT_EQ(said.size(), 1u);
    EXPECT_EQ(said.at(0).request, 3);
    return std::chrono::duration_cast<seconds>(Duration(said.at(0).silent_us)).count();
  };
  EXPECT_EQ(silence(), 10) << "a former life of this worker may have acknowledged it";
  ASSERT_TRUE(b.core.on_peer_ping(b.now, {"n2", "n1", 5, {kFirst}}));
  b.now.mono += seconds(7);
  EXPECT_EQ(silence(true), 7);
  EXPECT_FALSE(b.core.on_peer_ping(b.now, {"n2", "n1", 6, {kFirst}})) << "refused from now on";
  b.now.mono += seconds(1);
  EXPECT_EQ(silence(), 8);
}

TEST(GangLease, ANewWorkerGoesOnFromWhatIsWritten) {
  GangBench b;
  b.core.restore_lease(b.now.mono + seconds(2));
  Adopted found;
  found.prepare = Bench::prepare(kFirst);
  found.prepare.gang.push_back({"n2", "127.0.0.2", 2, 2, 4000});
  found.prepare.hold = {6'000'000, 60'000'000, {}};
  found.spec = Bench::spec();
  found.supervisor_alive = true;
  found.lease_until = b.now.mono + seconds(4);
  b.core.adopt(b.now, found);
  b.status(kFirst, Phase::running, true);
  EXPECT_EQ(b.until(kFirst), b.in(seconds(4)));
  b.advance(seconds(3));
  EXPECT_FALSE(b.take<PingPeer>().empty()) << "though no scheduler has been heard";
  b.acknowledge("n2", kFirst, b.now.mono);
  EXPECT_EQ(b.until(kFirst), b.in(seconds(6)));
  b.seconds_with({}, kFirst, 6);
  EXPECT_TRUE(b.stopped());
}

TEST(GangLease, ANewWorkerDoesNotReviveWhatIsOver) {
  GangBench b;
  b.core.restore_lease(b.now.mono + seconds(5));
  Adopted found;
  found.prepare = Bench::prepare(kFirst);
  found.spec = Bench::spec();
  found.supervisor_alive = true;
  found.lease_until = b.now.mono - seconds(1);  // granted anew to the node since, not to this attempt
  b.core.adopt(b.now, found);
  EXPECT_TRUE(b.take<SetAttemptLease>().empty());
  b.status(kFirst, Phase::running, true);
  b.advance(seconds(0));
  EXPECT_TRUE(b.stopped());
}

}  // namespace
}  // namespace tutti::worker
