// Conditions of nodes: what they close, what they leave alone; clocks; inspections.
#include <gmock/gmock.h>

#include "scheduler/core/clock_watch.h"
#include "scheduler/model/condition_table.h"
#include "tests/support/test_env.h"

namespace tutti::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

protocol::NodeHealth health(std::vector<std::string> kinds, std::string subject = "") {
  protocol::NodeHealth h;
  for (auto& kind : kinds) h.conditions.push_back({kind, subject, "as the test says", 5'000'000});
  return h;
}

struct Conditions : ::testing::Test {
  TestEnv env;
  NodeId a = env.add_node("a");

  void say(NodeId node, const protocol::NodeHealth& h) {
    env.plane->on_node_health(env.now, node, h);
    env.plane->plan(env.now);
    env.step();
  }
  const Node& node(NodeId id) const { return env.plane->cluster().nodes.at(id); }
  std::vector<std::string> events(const std::string& kind) const {
    std::vector<std::string> out;
    for (const auto& e : env.rows.events)
      if (e.kind == kind) out.push_back(e.from + ">" + e.to);
    return out;
  }
};

TEST_F(Conditions, EveryKindOfTheTableHasOneRow) {
  std::set<std::string_view> kinds;
  for (const auto& row : kConditions) {
    EXPECT_TRUE(kinds.insert(row.kind).second) << row.kind;
    EXPECT_FALSE(row.meaning.empty());
  }
  EXPECT_EQ(judge_condition("of a newer worker").effect, ConditionEffect::watch);
}

TEST_F(Conditions, OneThatClosesKeepsNewWorkAwayWhileItLasts) {
  say(a, health({"disk_full"}, "/tmp"));
  const JobId job = env.submit(job_spec(1, 1));
  EXPECT_EQ(env.state(job), JobState::queued);
  const auto why = env.plane->explain(job, env.now);
  const auto reason = std::ranges::find(why.reasons, "disk_full", &Reason::code);
  ASSERT_NE(reason, why.reasons.end());
  EXPECT_EQ(reason->text, "node a: disk_full (/tmp: as the test says)");
  EXPECT_FALSE(why.never);
  say(a, {});
  EXPECT_EQ(env.state(job), JobState::starting);
  EXPECT_EQ(events("condition"), (std::vector<std::string>{">disk_full", "disk_full>"}));
}

TEST_F(Conditions, OneThatIsWatchedChangesNothing) {
  say(a, health({"memory_low", "of a newer worker"}));
  EXPECT_EQ(env.state(env.submit(job_spec(1, 1))), JobState::starting);
  EXPECT_THAT(node(a).conditions, SizeIs(2));
  EXPECT_EQ(node(a).conditions[0].since, env.now.wall - 5s);
}

TEST_F(Conditions, NeverKillARunningGang) {
  const JobId job = env.submit(job_spec(1, 8));
  const AttemptKey key = env.run(job);
  std::vector<std::string> all;
  for (const auto& row : kConditions) all.emplace_back(row.kind);
  say(a, health(all));
  env.plane->on_clock_skew(env.now, a, 90s);
  env.step();
  env.tick_alive(60s);
  EXPECT_EQ(env.state(job), JobState::running);
  env.expect_nothing_left();
  env.end(a, key, true);
  EXPECT_EQ(env.state(job), JobState::succeeded);
}

TEST_F(Conditions, OneThatCordonsWaitsForAPersonOnce) {
  say(a, health({"nvswitch_fatal"}));
  EXPECT_EQ(node(a).row.service, NodeService::cordoned);
  EXPECT_THAT(node(a).row.service_reason, HasSubstr("nvswitch_fatal"));
  ASSERT_TRUE(env.plane->on_node_service(env.now, "a", NodeService::schedulable, ""));
  say(a, health({"nvswitch_fatal"}));
  EXPECT_EQ(node(a).row.service, NodeService::schedulable) << "told again is not begun again";
}

// Else what waits would start there before anybody could reserve the node.
TEST_F(Conditions, ANewNodeThatJoinsCordonedIsGivenNothingUntilItIsOpened) {
  ASSERT_TRUE(env.plane->on_node_service(env.now, "a", NodeService::draining, "new fans"));
  const JobId job = env.submit(job_spec(1, 1));
  protocol::Hello hello = env.hello("b");
  hello.health = health({std::string(kJoinedCordoned)});
  const NodeId b = env.register_node(hello);
  say(b, {});
  EXPECT_EQ(env.state(job), JobState::queued);
  EXPECT_EQ(node(b).row.service, NodeService::cordoned) << "also when the condition is over";
  EXPECT_EQ(node(b).row.service_reason, "joined_cordoned: as the test says");
  // An end of its own vouches for nothing, as a pilot wants it.
  ASSERT_TRUE(env.plane->on_node_service(env.now, "b", NodeService::draining, "reserved", env.now.wall + 1s));
  env.tick_alive(2s);
  EXPECT_EQ(env.state(job), JobState::starting);
}

TEST_F(Conditions, OfADrainedNodeLeaveThePersonsReason) {
  ASSERT_TRUE(env.plane->on_node_service(env.now, "a", NodeService::draining, "new fans"));
  say(a, health({"nvswitch_fatal"}));
  EXPECT_EQ(node(a).row.service, NodeService::draining);
  EXPECT_EQ(node(a).row.service_reason, "new fans");
}

TEST_F(Conditions, AreToldOnceHoweverOftenTheyAreSaid) {
  for (int i = 0; i < 5; ++i) say(a, health({"link_down"}, "eth0"));
  auto twice = health({"link_down"}, "eth0");
  twice.conditions.push_back(twice.conditions[0]);
  say(a, twice);
  EXPECT_THAT(events("condition"), SizeIs(1));
  EXPECT_THAT(node(a).conditions, SizeIs(1));
}

TEST_F(Conditions, ComeBackWithTheHelloAfterANewLeader) {
  say(a, health({"filesystem_hang"}, "/shared"));
  env.recover();
  EXPECT_FALSE(node(a).accepts_work()) << "not linked yet";
  auto hello = env.hello("a");
  hello.health = health({"filesystem_hang"}, "/shared");
  env.register_node(hello);
  EXPECT_EQ(node(a).closing, "filesystem_hang");
  EXPECT_FALSE(node(a).accepts_work());
  hello.health = protocol::NodeHealth{};
  env.register_node(hello);
  EXPECT_TRUE(node(a).accepts_work());
}

TEST_F(Conditions, IncidentsGoToTheHistory) {
  protocol::NodeHealth h;
  for (int i = 0; i < 100; ++i)
    h.incidents.push_back({"oom_kill", "Killed process " + std::to_string(i), 0});
  say(a, h);
  EXPECT_THAT(events("incident"), SizeIs(64)) << "bounded";
}

// A worker tells an incident with each Hello until it knows that it has arrived.
TEST_F(Conditions, AnIncidentThatIsToldAgainIsTakenOnce) {
  protocol::NodeHealth h;
  h.incidents.push_back({"link_flap", "eth0 went down", 0});
  say(a, h);
  env.tick_alive(30s);
  h.incidents[0].age_us = 30'400'000;
  auto hello = env.hello("a");
  hello.health = h;
  env.register_node(hello);
  EXPECT_THAT(events("incident"), SizeIs(1));
  h.incidents[0].age_us = 0;  // it goes down again
  say(a, h);
  EXPECT_THAT(events("incident"), SizeIs(2));
  EXPECT_EQ(env.plane->cluster().find(a)->link_trouble->at, env.now.wall);
}

TEST_F(Conditions, TheSchedulersOwnClockClosesNoNode) {
  const NodeId b = env.add_node("b"), c = env.add_node("c"), d = env.add_node("d");
  const auto skew = [&](NodeId id, std::optional<Duration> ahead) {
    env.plane->on_clock_skew(env.now, id, ahead);
    env.step();
  };
  skew(a, 5s);
  skew(b, 5s);
  EXPECT_EQ(node(a).closing, "clock_skew") << "half of them";
  skew(c, 6s);
  for (const NodeId id : {a, b, c}) EXPECT_TRUE(node(id).accepts_work());
  EXPECT_THAT(node(a).conditions, SizeIs(1)) << "it is shown";
  EXPECT_THAT(events("clock"), SizeIs(1));
  skew(d, 5s);
  EXPECT_THAT(events("clock"), SizeIs(1)) << "told once";
  for (const NodeId id : {b, c, d}) skew(id, std::nullopt);
  EXPECT_FALSE(node(a).accepts_work()) << "now it is its own";
  skew(b, -5s);
  skew(c, 5s);
  EXPECT_FALSE(node(a).accepts_work()) << "not all to the same side";
}

TEST_F(Conditions, TheClocksIsKeptApartFromWhatTheWorkerSays) {
  env.add_node("b");
  env.plane->on_clock_skew(env.now, a, -1500ms);
  env.step();
  EXPECT_EQ(node(a).closing, "clock_skew");
  EXPECT_THAT(node(a).conditions[0].detail, HasSubstr("1500 ms behind"));
  say(a, {});
  EXPECT_EQ(node(a).closing, "clock_skew");
  say(a, health({"clock_skew"}));
  EXPECT_THAT(node(a).conditions, SizeIs(1)) << "a worker cannot judge that";
  env.plane->on_clock_skew(env.now, a, std::nullopt);
  env.step();
  EXPECT_THAT(node(a).conditions, IsEmpty());
}

TEST(ClockWatch, TakesTheSmallestDifferenceOfSeveral) {
  ClockWatch watch;
  const Instant t(std::chrono::hours(1));
  for (int i = 0; i < 20; ++i) watch.on_heartbeat(t, t + (i % 5 == 4 ? 10ms : 30s));
  EXPECT_FALSE(watch.skew()) << "late heartbeats are no skew";
  for (int i = 0; i < 4; ++i) watch.on_heartbeat(t + 2s, t);
  EXPECT_FALSE(watch.skew());
  for (int i = 0; i < 5; ++i) watch.on_heartbeat(t + 2s, t);
  EXPECT_EQ(watch.skew(), Duration(2s));
  for (int i = 0; i < 5; ++i) watch.on_heartbeat(t + 700ms, t);
  EXPECT_TRUE(watch.skew()) << "not yet fine again";
  watch.on_heartbeat(t + 100ms, t);
  EXPECT_FALSE(watch.skew());
}

// ---------------------------------------------------------------- inspections

protocol::InspectionReport report(std::int64_t request, std::string result = "ok") {
  protocol::InspectionReport r;
  r.request = request;
  r.trigger = "person";
  r.checks.push_back({"disk /tmp", "host", std::move(result), "", 5'000'000, 1'000});
  return r;
}

TEST_F(Conditions, AnInspectionIsAskedForOnceAndItsReportIsKept) {
  ASSERT_TRUE(env.plane->on_inspect(env.now, "a"));
  ASSERT_TRUE(env.plane->on_inspect(env.now, "a"));
  env.step();
  const auto asked = env.take<protocol::Inspect>(a);
  env.expect_nothing_left();
  EXPECT_EQ(asked.trigger, "person");
  env.plane->on_inspection(env.now, a, report(asked.request, "failed"));
  env.step();
  EXPECT_EQ(node(a).inspection_asked, 0);
  ASSERT_TRUE(node(a).inspection);
  EXPECT_EQ(events("inspection"), std::vector<std::string>{">failed"});
  env.plane->on_inspection(env.now, a, report(asked.request, "failed"));
  env.step();
  EXPECT_THAT(events("inspection"), SizeIs(1)) << "told again";
  EXPECT_EQ(env.plane->on_inspect(env.now, "nobody").error().code, Errc::not_found);
  env.plane->on_link_lost(env.now, a, node(a).link);
  EXPECT_EQ(env.plane->on_inspect(env.now, "a").error().code, Errc::unavailable);
}

TEST_F(Conditions, AReportThatNeverComesIsAskedForAgain) {
  ASSERT_TRUE(env.plane->on_inspect(env.now, "a"));
  env.step();
  env.take<protocol::Inspect>(a);
  env.tick_alive(3min, 1s);
  ASSERT_TRUE(env.plane->on_inspect(env.now, "a"));
  env.step();
  env.take<protocol::Inspect>(a);
}

TEST(Inspections, FollowAFailureThatIsNoUsersFault) {
  ControlSettings settings;
  settings.inspect_after_failure = true;
  TestEnv env(settings);
  const NodeId a = env.add_node("a"), b = env.add_node("b");
  const JobId job = env.submit(job_spec(2, 8));
  const AttemptKey key = env.run(job);
  env.plane->on_gpu_fault(env.now, a,
                          {.uuid = "GPU-a-0", .kind = "xid", .xid = 79, .age_us = 0, .detail = ""});
  env.step();
  env.end(a, key, false);
  env.end(b, key, false);
  EXPECT_EQ(env.count<protocol::Inspect>(), 2U) << "of both nodes of the gang";
  env.drop_messages();
  JobSpec user = job_spec(1, 1);
  const JobId other = env.submit(user);
  const AttemptKey its = env.run(other);
  const NodeId on = env.nodes_of(its).front();
  env.fail(on, its, 0, 1);
  env.drop_messages();
  env.end(on, its, false);
  EXPECT_EQ(env.count<protocol::Inspect>(), 0U);
}

TEST(Inspections, OfIdleNodesComeOnceADay) {
  ControlSettings settings;
  settings.inspect_idle_every = 24h;
  TestEnv env(settings);
  const NodeId a = env.add_node("a"), b = env.add_node("b");
  const JobId job = env.submit(job_spec(1, 8));
  const NodeId busy = env.nodes_of(env.run(job)).front();
  const NodeId idle = busy == a ? b : a;
  const auto pass = [&](Duration d) {
    for (Duration t{}; t < d; t += 60s) {
      env.now.mono += 60s;
      env.now.wall += 60s;
      for (const NodeId n : {a, b}) env.leases.grant(n, env.now.mono);
      env.plane->on_tick(env.now);
      env.step();
    }
  };
  pass(25h);
  EXPECT_EQ(env.count<protocol::Inspect>(), 1U) << "the busy one is left alone";
  const auto asked = env.take<protocol::Inspect>(idle);
  EXPECT_EQ(asked.trigger, "idle");
  env.plane->on_inspection(env.now, idle, report(asked.request));
  env.step();
  pass(20h);
  EXPECT_EQ(env.count<protocol::Inspect>(), 0U);
  pass(5h);
  EXPECT_EQ(env.count<protocol::Inspect>(), 1U);
}

}  // namespace
}  // namespace tutti::testing
