// Nodes that are not heard, and parts of attempts that may go on without a scheduler: when they count as
// dead, in virtual time (docs/design/0002-fence.md).
#include "tests/support/test_env.h"

namespace tutti::testing {
namespace {

struct GangLease : ::testing::Test {
  TestEnv env;

  NodeId node(const std::string& name, const std::string& rack = "") {
    auto hello = env.hello(name);
    hello.peer_port = 4000;
    if (!rack.empty()) hello.labels["rack"] = rack;
    return env.register_node(hello);
  }
  struct Gang {
    NodeId a, b;
    JobId job;
  };
  // Of all GPUs of nodes a and b; it runs, and node c is its witness.
  Gang gang_of_two() {
    const Gang gang{node("a"), node("b"), (node("c"), env.submit(job_spec(2, 8)))};
    env.run(gang.job);
    return gang;
  }
  bool dead(NodeId id) const { return env.plane->cluster().find(id)->row.state == NodeState::dead; }
  void answer(NodeId from, const protocol::AskSilence& ask, Duration silent) {
    env.plane->on_peer_silence(
        env.now, from,
        {.request = ask.request, .key = ask.key, .node = ask.node, .silent_us = silent.count()});
    env.plan();
  }
};

TEST_F(GangLease, AnAttemptIsToldItsPeersAndAWitnessOfAnotherRack) {
  const NodeId a = node("a", "r1"), b = node("b", "r1");
  node("c", "r1");
  const NodeId d = node("d", "r2");
  const JobId job = env.submit(job_spec(2, 8));
  ASSERT_EQ(env.nodes_of(env.key_of(job)), (std::vector{a, b}));
  const auto hold = env.take<protocol::Prepare>(a).hold;
  EXPECT_EQ(hold.lease_us, 6'000'000);
  EXPECT_EQ(hold.continue_for_us, 600'000'000);
  ASSERT_TRUE(hold.witness);
  EXPECT_EQ(hold.witness->node, "d");
  EXPECT_EQ(env.plane->find_attempt(env.key_of(job))->row.witness, d);
}

TEST_F(GangLease, ANodeThatCannotBePingedHoldsNoGangLease) {
  node("a");
  env.add_node("b");
  const JobId job = env.submit(job_spec(2, 8));
  EXPECT_EQ(env.plane->find_attempt(env.key_of(job))->row.continue_for, Duration::zero());
}

TEST_F(GangLease, ASilentNodeIsReplacedWhenAPeerHasNotHeardItEither) {
  const auto [a, b, job] = gang_of_two();
  const AttemptKey key = env.key_of(job);
  env.silent.insert(a);
  env.tick_alive(8s);
  EXPECT_EQ(env.state(job), JobState::running) << "its gang may hold its lease";
  EXPECT_FALSE(dead(a));
  EXPECT_FALSE(env.leases.renew(a, env.now.mono)) << "it must register anew";
  const auto ask = env.take<protocol::AskSilence>(b);
  EXPECT_EQ(ask.key, key);
  EXPECT_EQ(ask.node, "a");
  EXPECT_FALSE(ask.refuse);
  answer(b, ask, 7s);
  EXPECT_EQ(env.state(job), JobState::running) << "7 s: it may be alive for another half second";
  answer(b, ask, 7500ms);
  EXPECT_TRUE(dead(a));
  EXPECT_EQ(env.state(job), JobState::stopping);
  EXPECT_EQ(env.plane->find_attempt(key)->row.cause, Cause::node_lost);
}

TEST_F(GangLease, WhatWasAskedBeforeItsLeaseWasOverProvesNothing) {
  const auto [a, b, job] = gang_of_two();
  const AttemptKey key = env.key_of(job);
  env.silent.insert(a);
  env.tick_alive(8s);
  const auto old = env.take<protocol::AskSilence>(b);
  // It comes back, and falls silent again.
  auto hello = env.hello("a");
  hello.peer_port = 4000;
  protocol::AttemptStatus running;
  running.key = key;
  running.phase = protocol::Phase::running;
  hello.attempts.push_back(running);
  env.register_node(hello);
  env.silent.clear();
  env.tick_alive(2s);
  EXPECT_EQ(env.state(job), JobState::running);
  env.silent.insert(a);
  env.tick_alive(8s);
  answer(b, old, 60s);
  EXPECT_EQ(env.state(job), JobState::running);
  EXPECT_FALSE(dead(a));
}

TEST_F(GangLease, OnlyPeersAreBelieved) {
  const NodeId a = node("a"), b = node("b");
  node("c");
  const NodeId d = node("d");
  const JobId job = env.submit(job_spec(2, 8));
  env.run(job);
  ASSERT_NE(env.plane->find_attempt(env.key_of(job))->row.witness, d);
  env.silent.insert(a);
  env.tick_alive(8s);
  const auto ask = env.take<protocol::AskSilence>(b);
  answer(d, ask, 60s);
  answer(a, ask, 60s);
  EXPECT_EQ(env.state(job), JobState::running);
}

TEST_F(GangLease, WhileAPeerHearsItTheGangGoesOnButNotForEver) {
  const auto [a, b, job] = gang_of_two();
  env.silent.insert(a);
  for (int i = 0; i < 60; ++i) {
    env.tick_alive(10s, 1s);
    if (env.count<protocol::AskSilence>() > 0 && env.state(job) == JobState::running) {
      protocol::AskSilence ask;
      ask.request = 1'000'000;
      ask.key = env.key_of(job);
      ask.node = "a";
      answer(b, ask, 800ms);
    }
    env.drop_messages();
  }
  EXPECT_EQ(env.state(job), JobState::running);
  EXPECT_EQ(env.plane->cluster().find(a)->row.state, NodeState::unreachable);
  env.tick_alive(10s, 1s);
  EXPECT_EQ(env.state(job), JobState::stopping) << "ten minutes, lease and margin are over";
  EXPECT_TRUE(dead(a));
}

TEST_F(GangLease, AWitnessSpeaksForAJobOfOneNode) {
  const NodeId a = node("a"), b = node("b");
  const JobId job = env.submit(job_spec(1, 8));
  const AttemptKey key = env.run(job);
  ASSERT_EQ(env.plane->find_attempt(key)->row.witness, b);
  env.silent.insert(a);
  env.tick_alive(8s);
  answer(b, env.take<protocol::AskSilence>(b), 8s);
  EXPECT_EQ(env.state(job), JobState::starting);
  EXPECT_EQ(env.nodes_of(env.key_of(job)), std::vector{b});
}

TEST_F(GangLease, WithoutAnybodyToAskTheWholeTimeIsWaited) {
  const NodeId a = node("a");
  const JobId job = env.submit(job_spec(1, 8));
  env.run(job);
  env.silent.insert(a);
  env.tick_alive(600s, 1s);
  EXPECT_EQ(env.state(job), JobState::running);
  env.tick_alive(10s);
  EXPECT_EQ(env.state(job), JobState::queued);
  EXPECT_TRUE(dead(a));
}

// The lease table outlives the plane: it says that the lease is revoked, and nothing else says that the node
// is silent.
TEST_F(GangLease, ANodeThatWasSilentBeforeThePlaneWasBuiltAnewIsGivenUpAllTheSame) {
  const NodeId a = node("a");
  const JobId job = env.submit(job_spec(1, 8));
  env.run(job);
  env.silent.insert(a);
  env.tick_alive(8s);  // nobody can tell whether it lives: it may go on for ten minutes
  ASSERT_FALSE(env.leases.held(a));
  ASSERT_EQ(env.state(job), JobState::running);
  env.recover();
  env.tick_alive(590s);
  EXPECT_FALSE(dead(a)) << "its ranks may live";
  env.tick_alive(20s);
  EXPECT_TRUE(dead(a));
  EXPECT_NE(env.state(job), JobState::running);
}

TEST_F(GangLease, ACancelledAttemptIsRefusedToItsSilentPart) {
  const NodeId a = node("a"), b = node("b");
  const JobId job = env.submit(job_spec(1, 8));
  env.run(job);
  ASSERT_TRUE(env.plane->on_cancel(env.now, job, "ada"));
  env.step();
  env.silent.insert(a);
  env.drop_messages();
  env.tick_alive(8s);
  EXPECT_TRUE(env.take<protocol::AskSilence>(b).refuse);
}

TEST_F(GangLease, PartsOfOneNodeAreJudgedOneByOne) {
  const NodeId a = node("a"), b = node("b"), c = node("c");
  const JobId pair = env.submit(job_spec(2, 4));
  env.run(pair);
  const JobId single = env.submit(job_spec(1, 4));
  const AttemptKey alone = env.run(single);
  const std::vector<NodeId> where = env.nodes_of(env.key_of(pair));
  ASSERT_EQ(where, (std::vector{a, b}));
  ASSERT_EQ(env.nodes_of(alone), std::vector{a});
  env.silent.insert(a);
  env.tick_alive(8s);
  protocol::AskSilence of_pair{.request = 1'000'000, .key = env.key_of(pair), .node = "a"};
  answer(b, of_pair, 8s);
  EXPECT_EQ(env.state(pair), JobState::stopping);
  EXPECT_EQ(env.state(single), JobState::running) << "its witness may hear it";
  EXPECT_FALSE(dead(a));
  protocol::AskSilence of_single{.request = 1'000'000, .key = alone, .node = "a"};
  answer(env.plane->find_attempt(alone)->row.witness, of_single, 8s);
  EXPECT_TRUE(dead(a));
  (void)c;
}

TEST_F(GangLease, AnotherMachineOfTheSameNameProvesNothing) {
  const NodeId a = node("a"), b = node("b");
  auto hello = env.hello("a");
  hello.peer_port = 4000;
  hello.instance = "first";
  env.register_node(hello);
  const JobId job = env.submit(job_spec(1, 8));
  const AttemptKey key = env.run(job);
  ASSERT_EQ(env.nodes_of(key), std::vector{a});
  hello.instance = "second";
  hello.boot_id = "boot-2";
  env.register_node(hello);
  EXPECT_EQ(env.state(job), JobState::stopping);
  env.tick_alive(20s);
  EXPECT_EQ(env.state(job), JobState::stopping)
      << "the first may be cut off from here, and heard by its peer";
  protocol::AskSilence ask{.request = 1'000'000, .key = key, .node = "a"};
  answer(b, ask, 8s);
  EXPECT_NE(env.state(job), JobState::stopping);
}

TEST_F(GangLease, AWorkerThatHasItsDirectoryAndNoRecordIsWaitedForNoLongerThanALease) {
  node("a");
  const JobId job = env.submit(job_spec(1, 8));
  env.run(job);
  node("a");
  EXPECT_EQ(env.state(job), JobState::stopping);
  env.tick_alive(8s);
  EXPECT_NE(env.state(job), JobState::stopping);
}

// Found by the simulation: what it said of the attempt was taken for the word of one that knows nothing.
TEST_F(GangLease, ANodeThatWasSilentBeforeItHeardOfAnAttemptIsAskedAgain) {
  const NodeId a = node("a");
  node("b");
  const JobId job = env.submit(job_spec(1, 8));
  const AttemptKey key = env.key_of(job);
  ASSERT_EQ(env.nodes_of(key), std::vector{a});
  env.silent.insert(a);
  env.tick_alive(8s);
  env.drop_messages();
  env.silent.clear();
  node("a");
  EXPECT_EQ(env.take<protocol::Prepare>(a).key, key);
  env.run(job);
  EXPECT_EQ(env.state(job), JobState::running);
}

TEST_F(GangLease, WhoVouchesThatItIsOffEndsTheWait) {
  const auto [a, b, job] = gang_of_two();
  const AttemptKey key = env.key_of(job);
  const auto off = [&](const std::string& name) {
    return env.plane->on_node_off(env.now, name, "ada", "rack 7 is dark");
  };
  EXPECT_EQ(off("a").error().code, Errc::conflict) << "it is connected";
  EXPECT_EQ(off("z").error().code, Errc::not_found);
  env.silent = {a, b};
  env.tick_alive(8s);
  ASSERT_EQ(env.state(job), JobState::running) << "they may hear each other";
  ASSERT_TRUE(off("a"));
  EXPECT_TRUE(dead(a));
  EXPECT_EQ(env.state(job), JobState::stopping) << "what b has of it may still live";
  EXPECT_EQ(env.plane->find_attempt(key)->row.cause, Cause::node_lost);
  EXPECT_EQ(env.plane->find_attempt(key)->row.detail, "node a lost: off, says ada: rack 7 is dark");
  EXPECT_FALSE(dead(b));
  ASSERT_TRUE(off("b"));
  EXPECT_TRUE(dead(b));
  EXPECT_NE(env.state(job), JobState::stopping);
  EXPECT_EQ(env.plane->find_attempt(key), nullptr);
  EXPECT_TRUE(off("b")) << "said again";
}

TEST_F(GangLease, ANewLeaderKnowsWhichAttemptsMayGoOn) {
  const NodeId a = node("a"), b = node("b");
  const JobId job = env.submit(job_spec(1, 8));
  env.run(job);
  env.recover();
  env.silent.insert(a);
  env.tick_alive(8s);
  EXPECT_EQ(env.state(job), JobState::running) << "its lease counts from the start of the new leader";
  auto hello = env.hello("b");
  hello.peer_port = 4000;
  env.register_node(hello);
  env.tick_alive(2s);
  answer(b, env.take<protocol::AskSilence>(b), 9s);
  EXPECT_EQ(env.state(job), JobState::starting);
}

}  // namespace
}  // namespace tutti::testing
