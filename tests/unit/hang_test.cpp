// Hangs: what the reports of several nodes mean for the gang, and what the control plane does about it.
#include <algorithm>

#include "tests/support/test_env.h"

namespace tutti::testing {
namespace {

using protocol::RankPulse;
using protocol::RankReport;

struct HangTest : ::testing::Test {
  TestEnv env;
  NodeId a = env.add_node("a"), b = env.add_node("b"), c = env.add_node("c");
  JobId job;
  AttemptKey key;

  void start(HangPolicy policy = {}, int budget = 3) {
    JobSpec spec = job_spec(2, 2);
    spec.hang = policy;
    spec.retry.budget[Cause::hang] = budget;
    job = env.submit(spec);
    key = env.run(job);
    ASSERT_EQ(env.nodes_of(key), (std::vector<NodeId>{a, b}));
  }
  RankReport report(int first, bool stalled, bool captured, std::vector<RankPulse> ranks = {}) const {
    RankReport r;
    r.key = key;
    r.tells_progress = true;
    r.stalled = stalled;
    r.captured = captured;
    r.limit_us = 10'000'000;
    if (ranks.empty())
      ranks = {{.rank = first, .step = 7, .silent_us = 11'000'000, .state = "S"},
               {.rank = first + 1, .step = 7, .silent_us = 11'000'000, .state = "S"}};
    r.ranks = std::move(ranks);
    return r;
  }
  void say(NodeId node, const RankReport& r) {
    env.plane->on_rank_report(env.now, node, r);
    env.step();
  }
  std::vector<std::string> events(const std::string& kind) const {
    std::vector<std::string> out;
    for (const auto& e : env.rows.events)
      if (e.job == job && e.kind == kind) out.push_back(e.to + ": " + e.detail);
    return out;
  }
  const Attempt& attempt() const { return *env.plane->find_attempt(key); }
};

TEST_F(HangTest, AGangThatStandsStillOnAllNodesIsRestartedWithoutTheSuspectsNode) {
  start();
  say(a, report(0, true, true));
  EXPECT_EQ(env.state(job), JobState::running);
  say(b,
      report(2, true, true,
             {{.rank = 2, .step = 7, .silent_us = 10'500'000, .state = "S"},
              {.rank = 3, .step = 7, .silent_us = 10'500'000, .state = "T", .waits_in = "do_signal_stop"}}));
  EXPECT_EQ(env.state(job), JobState::stopping);
  EXPECT_EQ(env.take<protocol::Stop>(a).cause, "hang");
  EXPECT_EQ(env.take<protocol::Stop>(b).signal, "KILL");
  EXPECT_EQ(attempt().row.cause, Cause::hang);
  EXPECT_NE(attempt().row.detail.find("rank 3 on b is stopped (T), in do_signal_stop"), std::string::npos)
      << attempt().row.detail;
  EXPECT_NE(attempt().row.detail.find("10.5 s (limit 10.0 s), at step 7"), std::string::npos)
      << attempt().row.detail;
  EXPECT_NE(attempt().row.evidence_json.find("\"rank\":3,\"node\":\"b\",\"gpu\":\"GPU 1, GPU-b-1\""),
            std::string::npos)
      << attempt().row.evidence_json;
  EXPECT_EQ(env.now.wall - attempt().row.fault_at, Duration(10'500'000));
  ASSERT_EQ(events("hang").size(), 1u);
  env.drop_messages();
  env.end(a, key, false);
  env.end(b, key, false);
  env.tick_alive(2min);
  key = env.key_of(job);
  EXPECT_EQ(key.epoch, Epoch(2));
  EXPECT_EQ(env.nodes_of(key), (std::vector<NodeId>{a, c})) << "other hardware";
}

TEST_F(HangTest, OneNodeThatMovesIsEnoughToSayNo) {
  start();
  say(a, report(0, true, true));
  say(b, report(2, false, false));
  env.tick_alive(10min);
  EXPECT_EQ(env.state(job), JobState::running);
  EXPECT_TRUE(events("hang").empty());
  EXPECT_EQ(attempt().hung_since, std::nullopt);
}

TEST_F(HangTest, ANodeThatHasNotReportedOrIsNotConnectedMeansNo) {
  start();
  say(b, report(2, true, true));
  env.tick_alive(1min);
  EXPECT_EQ(env.state(job), JobState::running) << "nothing is known of a";
  env.plane->on_link_lost(env.now, b, env.plane->cluster().nodes.at(b).link);
  say(a, report(0, true, true));
  EXPECT_EQ(env.state(job), JobState::running) << "b may move meanwhile";
  // It is back: what it said before counts no more, and then it says it anew.
  auto hello = env.hello("b");
  protocol::AttemptStatus s;
  s.key = key;
  s.phase = protocol::Phase::running;
  hello.attempts = {s};
  env.plane->on_hello(env.now, hello);
  env.step();
  say(a, report(0, true, true));
  EXPECT_EQ(env.state(job), JobState::running);
  say(b, report(2, true, true));
  EXPECT_EQ(env.state(job), JobState::stopping);
}

TEST_F(HangTest, TheKillWaitsForTheCapturesButNotForEver) {
  start();
  say(a, report(0, true, false));
  say(b, report(2, true, true));
  EXPECT_EQ(env.state(job), JobState::running);
  ASSERT_EQ(events("hang").size(), 1u) << "it is seen at once";
  env.tick_alive(5s);
  EXPECT_EQ(env.state(job), JobState::running);
  env.tick_alive(2s);
  EXPECT_EQ(env.state(job), JobState::stopping);
}

TEST_F(HangTest, ThatGoesOnMeanwhileIsNotKilled) {
  start();
  say(a, report(0, true, false));
  say(b, report(2, true, false));
  say(b, report(2, false, false));
  env.tick_alive(1min);
  EXPECT_EQ(env.state(job), JobState::running);
  ASSERT_EQ(events("hang").size(), 2u);
  EXPECT_EQ(events("hang")[1].substr(0, 5), "over:");
}

TEST_F(HangTest, CaptureOnlyKillsNothing) {
  start({.after = {}, .action = HangAction::capture_only});
  say(a, report(0, true, true));
  say(b, report(2, true, true));
  for (int i = 0; i < 10; ++i) {  // level-triggered: said again, told once
    say(a, report(0, true, true));
    say(b, report(2, true, true));
    env.tick_alive(30s);
  }
  EXPECT_EQ(env.state(job), JobState::running);
  EXPECT_EQ(events("hang").size(), 1u);
  ASSERT_NE(attempt().hung_since, std::nullopt);
  EXPECT_NE(attempt().hung_why.find("no rank stands out"), std::string::npos) << attempt().hung_why;
  say(a, report(0, false, false));
  EXPECT_EQ(attempt().hung_since, std::nullopt);
  EXPECT_EQ(events("hang").size(), 2u);
}

TEST_F(HangTest, WithoutToldStepsItIsOnlyReported) {
  start();
  for (const auto& [node, first] : {std::pair(a, 0), std::pair(b, 2)}) {
    auto r = report(first, true, true, {{.rank = first, .silent_us = 61'000'000, .state = "S"}});
    r.tells_progress = false;
    say(node, r);
  }
  env.tick_alive(10min);
  EXPECT_EQ(env.state(job), JobState::running);
  ASSERT_EQ(events("hang").size(), 1u);
  EXPECT_NE(events("hang")[0].find("none of 2 ranks has used CPU time, I/O or a GPU for 61.0 s"),
            std::string::npos)
      << events("hang")[0];
}

TEST_F(HangTest, NodesWhoseRanksTellNothingDoNotKeepAGangAlive) {
  start();
  auto quiet = report(2, false, false, {{.rank = 2, .state = "S"}, {.rank = 3, .state = "S"}});
  quiet.tells_progress = false;
  say(b, quiet);
  say(a, report(0, true, true));
  EXPECT_EQ(env.state(job), JobState::stopping);
}

TEST_F(HangTest, TheRankThatIsBehindIsSuspected) {
  start({.after = {}, .action = HangAction::capture_only});
  say(a, report(0, true, true));
  say(b, report(2, true, true, {{.rank = 2, .step = 7, .state = "S"}, {.rank = 3, .step = 6, .state = "S"}}));
  EXPECT_NE(attempt().hung_why.find("rank 3 on b is behind, at step 6 of 7"), std::string::npos)
      << attempt().hung_why;
}

TEST_F(HangTest, RanksBehindOnSeveralNodesAccuseNobody) {
  start({.after = {}, .action = HangAction::capture_only});
  const auto two = [](int first) {
    return std::vector<RankPulse>{{.rank = first, .step = 7, .state = "S"},
                                  {.rank = first + 1, .step = 6, .state = "S"}};
  };
  say(a, report(0, true, true, two(0)));
  say(b, report(2, true, true, two(2)));
  EXPECT_NE(attempt().hung_why.find("no rank stands out"), std::string::npos) << attempt().hung_why;
}

TEST_F(HangTest, NonsenseInAReportIsHarmless) {
  start();
  constexpr auto kMost = std::numeric_limits<std::int64_t>::max();
  for (const std::int64_t v : {kMost, -kMost, std::int64_t{-1}, std::int64_t{0}})
    for (const NodeId node : {a, b})
      say(node, report(0, false, false,
                       {{.rank = -5, .step = v, .silent_us = v, .step_us = v, .compute_us = v, .state = "?"},
                        {.rank = 2'000'000'000,
                         .step = v,
                         .silent_us = v,
                         .step_us = v,
                         .compute_us = v,
                         .state = "D"}}));
  auto old = report(0, true, true);
  old.key.epoch = Epoch(99);
  say(a, old);
  say(c, report(0, true, true));  // not a member
  EXPECT_EQ(env.state(job), JobState::running);
}

TEST_F(HangTest, AnExhaustedBudgetFailsTheJobWithTheCause) {
  start({}, 0);
  say(a, report(0, true, true));
  say(b, report(2, true, true));
  env.end(a, key, false);
  env.end(b, key, false);
  EXPECT_NE(env.state(job), JobState::running);
  EXPECT_EQ(env.rows.attempts.back().cause, Cause::hang);
}

TEST_F(HangTest, AStragglerIsNamedWithItsGpuAndNotKilled) {
  start();
  for (int i = 0; i < 15; ++i) {
    const auto rank = [&](int r, std::int64_t own) {
      return RankPulse{.rank = r, .step = 10 + i, .step_us = 500'000, .compute_us = own, .state = "R"};
    };
    say(a, report(0, false, false, {rank(0, 400'000), rank(1, 401'000)}));
    say(b, report(2, false, false, {rank(2, 399'000), rank(3, 500'000)}));
    env.tick_alive(5s);
  }
  ASSERT_EQ(events("straggler").size(), 1u);
  EXPECT_EQ(events("straggler")[0],
            "slow: rank 3 on b (GPU 1, GPU-b-1) takes 1.25 times the gang's usual 0.40 s for a step, over "
            "the last 12 "
            "looks");
  EXPECT_EQ(env.state(job), JobState::running);
  ASSERT_EQ(attempt().watch.stragglers().size(), 1u);
  EXPECT_EQ(attempt().watch.stragglers().at(3).node, b);
}

TEST_F(HangTest, AGangThatMakesNoStepsHasNoStragglers) {
  start({.after = {}, .action = HangAction::capture_only});
  for (int i = 0; i < 50; ++i) {
    const auto rank = [&](int r, std::int64_t own) {
      return RankPulse{.rank = r, .step = 10, .step_us = 500'000, .compute_us = own, .state = "S"};
    };
    say(a, report(0, false, false, {rank(0, 400'000), rank(1, 400'000)}));
    say(b, report(2, false, false, {rank(2, 400'000), rank(3, 900'000)}));
    env.tick_alive(5s);
  }
  EXPECT_TRUE(events("straggler").empty());
}

TEST_F(HangTest, AGangWhoseFileSystemStandsStillIsOnlyReported) {
  start();
  protocol::NodeHealth sick;
  sick.conditions.push_back({"filesystem_hang", "/shared", "no answer", 0});
  env.plane->on_node_health(env.now, b, sick);
  env.step();
  const auto all = [&] {
    say(a, report(0, true, true));
    say(b, report(2, true, true));
  };
  all();
  env.tick_alive(10min);
  all();
  EXPECT_EQ(env.state(job), JobState::running);
  ASSERT_EQ(events("hang").size(), 1u);
  EXPECT_NE(events("hang")[0].find("a file system of node b does not answer (/shared)"), std::string::npos);
  env.plane->on_node_health(env.now, b, {});
  env.step();
  all();
  EXPECT_EQ(env.state(job), JobState::running) << "it has its time anew";
  env.tick_alive(11s);
  all();
  EXPECT_EQ(env.state(job), JobState::stopping);
}

TEST_F(HangTest, RanksThatWaitInTheKernelOnSeveralNodesAreOnlyReported) {
  start();
  const auto in_kernel = [&](int first) {
    return report(first, true, true,
                  {{.rank = first, .step = 7, .silent_us = 11'000'000, .state = "D", .waits_in = "nfs_wait"},
                   {.rank = first + 1, .step = 7, .silent_us = 11'000'000, .state = "R"}});
  };
  say(a, in_kernel(0));
  say(b, in_kernel(2));
  EXPECT_EQ(env.state(job), JobState::running);
  say(a, report(0, true, true));
  say(b, report(2, true, true));
  EXPECT_EQ(env.state(job), JobState::running);
  env.tick_alive(11s);
  say(b, report(2, true, true));
  EXPECT_EQ(env.state(job), JobState::stopping) << "they no longer do, and still make no step";
}

TEST_F(HangTest, WithoutASuspectAllItsNodesAreAvoided) {
  const NodeId d = env.add_node("d");
  start();
  say(a, report(0, true, true));
  say(b, report(2, true, true));
  ASSERT_EQ(env.state(job), JobState::stopping);
  for (const NodeId n : {a, b}) env.end(n, key, false);
  env.tick_alive(2min);
  key = env.key_of(job);
  EXPECT_EQ(env.nodes_of(key), (std::vector<NodeId>{c, d}));
}

TEST_F(HangTest, ANodeWhoseRanksHaveEndedDoesNotCountAsMoving) {
  start();
  say(a, report(0, false, false));
  say(b, report(2, true, true));
  env.end(a, key, true);
  EXPECT_EQ(env.state(job), JobState::running);
  say(b, report(2, true, true));
  EXPECT_EQ(env.state(job), JobState::stopping);
}

}  // namespace
}  // namespace tutti::testing
