// Leases over a change of the leader: when a node that is silent to the new one counts as dead, while the one
// before may live and renew leases too (docs/design/0016-replicas.md).
#include "tests/support/test_env.h"

namespace tutti::testing {
namespace {

constexpr Duration kRenews = 60s;

struct NewLeader : ::testing::Test {
  TestEnv env;
  NodeId node;
  JobId job;

  // A job runs on a node without peers; another process leads from now on, and its predecessor may live.
  void SetUp() override {
    node = env.add_node("a");
    job = env.submit(job_spec(1, 8));
    env.run(job);
    env.leases = LeaseTable(LeaseSettings{});
    env.leases.others_renew_until(env.now.mono + kRenews);
    env.recover();
    env.drop_messages();
  }
  bool dead() const { return env.plane->cluster().find(node)->row.state == NodeState::dead; }
  void silence(Duration d) {
    for (Duration t{}; t < d; t += 500ms) env.tick(500ms);
  }
  void comes() {
    auto hello = env.hello("a");
    hello.address = "10.0.0.1";
    protocol::AttemptStatus running;
    running.key = env.key_of(job);
    running.phase = protocol::Phase::running;
    hello.attempts.push_back(running);
    env.register_node(hello);
    EXPECT_TRUE(env.leases.renew(node, env.now.mono));
  }
};

TEST_F(NewLeader, WaitsForAsLongAsTheOneBeforeMayRenew) {
  silence(kRenews + 7s);
  EXPECT_FALSE(dead()) << "7 s after its last acknowledgement: it may be alive for another half second";
  EXPECT_EQ(env.state(job), JobState::running);
  silence(500ms);
  EXPECT_TRUE(dead());
  EXPECT_NE(env.state(job), JobState::running);
}

TEST_F(NewLeader, WaitsForNoFormerOneIfAPersonVouchesThatTheNodeIsOff) {
  const auto off = [&] { return env.plane->on_node_off(env.now, "a", "ada", "no power"); };
  silence(7s);
  EXPECT_EQ(off().error().code, Errc::conflict) << "it may be on its way to this leader";
  silence(1s);
  ASSERT_EQ(env.state(job), JobState::running);
  ASSERT_TRUE(off());
  EXPECT_TRUE(dead());
  EXPECT_NE(env.state(job), JobState::running);
}

TEST_F(NewLeader, SeesAtOnceThatANodeIsSilentToIt) {
  silence(3s);
  EXPECT_EQ(env.plane->cluster().find(node)->row.state, NodeState::unreachable);
}

TEST_F(NewLeader, CountsANodeThatObeysItAsEver) {
  comes();
  env.leases.settle(node);
  silence(7s);
  EXPECT_FALSE(dead());
  silence(500ms);
  EXPECT_TRUE(dead());
}

// Its connection may have ended before it read the Welcome: then the former leader takes it back.
TEST_F(NewLeader, DoesNotTakeAHelloForObedience) {
  comes();
  silence(20s);
  EXPECT_FALSE(dead());
  silence(kRenews + 7500ms - 20s);
  EXPECT_TRUE(dead());
}

TEST_F(NewLeader, WaitsNoLongerOnceTheOneBeforeIsKnownToBeOver) {
  silence(20s);
  EXPECT_FALSE(dead());
  env.leases.nobody_else_renews(env.now.mono);
  silence(7s);
  EXPECT_FALSE(dead()) << "it may have renewed a lease just before";
  silence(500ms);
  EXPECT_TRUE(dead());
}

TEST_F(NewLeader, ANodeThatCameLaterIsNobodyElses) {
  const NodeId fresh = env.add_node("b");
  env.leases.settle(fresh);
  silence(7500ms);
  EXPECT_EQ(env.plane->cluster().find(fresh)->row.state, NodeState::dead);
}

// A gang of two with a witness: peers are asked when the former leader's last renewal is over, and not
// before.
TEST(NewLeaderOfAGang, AsksPeersOnlyWhenNobodyElseRenewsAnyMore) {
  TestEnv env;
  const auto add = [&](const std::string& name) {
    auto hello = env.hello(name);
    hello.peer_port = 4000;
    return env.register_node(hello);
  };
  const NodeId a = add("a"), b = add("b");
  add("c");
  const JobId job = env.submit(job_spec(2, 8));
  const AttemptKey key = env.run(job);
  env.leases = LeaseTable(LeaseSettings{});
  env.leases.others_renew_until(env.now.mono + kRenews);
  env.recover();
  env.drop_messages();
  auto hello = env.hello("b");
  hello.address = "10.0.0.2";
  hello.peer_port = 4000;
  protocol::AttemptStatus running;
  running.key = key;
  running.phase = protocol::Phase::running;
  hello.attempts.push_back(running);
  ASSERT_EQ(env.register_node(hello), b);
  env.leases.settle(b);
  env.drop_messages();
  env.silent = {a};
  env.tick_alive(kRenews + 7s);
  EXPECT_EQ(env.count<protocol::AskSilence>(), 0u);
  env.tick_alive(1s);
  EXPECT_GE(env.count<protocol::AskSilence>(), 1u);
  EXPECT_EQ(env.take<protocol::AskSilence>(b).node, "a");
}

}  // namespace
}  // namespace tutti::testing
