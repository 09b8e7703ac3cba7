// What is told of an attempt after its end: stored with it and in the history, by whom it concerns, for a
// while.
#include <algorithm>

#include "tests/support/test_env.h"

namespace tutti::testing {
namespace {

struct ControlLate : ::testing::Test {
  TestEnv env;
  NodeId a = env.add_node("a"), b = env.add_node("b");

  void reach(NodeId from, AttemptKey key, double gigabytes = 10) {
    env.plane->on_collective_result(
        env.now, from,
        {.key = key, .backend = "mpi", .bytes = 8 << 20, .ranks = 16, .gigabytes_per_second = gigabytes});
    env.step();
  }
  void xid(NodeId node, const std::string& uuid, int n, Duration age = {}) {
    env.plane->on_gpu_fault(env.now, node,
                            {.uuid = uuid, .kind = "xid", .xid = n, .age_us = age.count(), .detail = ""});
    env.step();
  }
  // It came and went before anything was told of it.
  AttemptKey succeed(int nodes = 2) {
    const AttemptKey key = env.run(env.submit(job_spec(nodes, 8)));
    for (const NodeId n : env.nodes_of(key)) env.end(n, key, true);
    EXPECT_EQ(env.state(key.job), JobState::succeeded);
    return key;
  }
  AttemptKey fail_on(NodeId node) {
    const AttemptKey key = env.run(env.submit(job_spec(1, 8)));
    EXPECT_EQ(env.nodes_of(key).front(), node);
    env.fail(node, key, 0, 1);
    env.end(node, key, false);
    return key;
  }
  // Of one attempt, as the store has it in the end.
  AttemptRow stored(AttemptKey key) const {
    AttemptRow out;
    for (const auto* list : {&env.rows.attempts, &env.rows.supplemented, &env.rows.revised})
      for (const auto& row : *list)
        if (AttemptKey{row.job, row.epoch} == key) out = row;
    return out;
  }
  static bool tells(const AttemptRow& row, const std::string& what) {
    return row.evidence_json.find(what) != std::string::npos;
  }
  std::vector<EventRow> events(const std::string& kind) const {
    std::vector<EventRow> out;
    std::ranges::copy_if(env.rows.events, std::back_inserter(out),
                         [&](const EventRow& e) { return e.kind == kind; });
    return out;
  }
};

// Found by an end-to-end test: what a gang of 0.1 s had measured was lost.
TEST_F(ControlLate, WhatAGangHasMeasuredIsStoredThoughItHasEnded) {
  const AttemptKey key = succeed();
  env.drop_messages();
  reach(a, key);
  const AttemptRow row = stored(key);
  EXPECT_EQ(row.evidence_json, R"([{"kind":"collective","detail":"all-reduce of the gang: 10 GB/s"}])");
  EXPECT_EQ(row.state, AttemptState::ended);
  EXPECT_EQ(row.result, AttemptResult::succeeded);
  ASSERT_EQ(events("preflight").size(), 1u);
  const EventRow event = events("preflight")[0];
  EXPECT_EQ(event.job, key.job);
  EXPECT_EQ(event.epoch, key.epoch);
  EXPECT_EQ(event.owner, "ada");
  EXPECT_EQ(event.project, "default");
  reach(a, key);
  EXPECT_EQ(events("preflight").size(), 1u) << "said again after a reconnect";
  EXPECT_EQ(env.rows.supplemented.size(), 1u);
  env.expect_nothing_left();
}

TEST_F(ControlLate, ItIsAMeasureForOthersToo) {
  for (int i = 0; i < 5; ++i) reach(a, succeed());
  const AttemptKey slow = env.run(env.submit(job_spec(2, 8)));
  reach(a, slow, 1);
  EXPECT_EQ(env.state(slow.job), JobState::stopping);
}

TEST_F(ControlLate, ANodeThatWasGivenUpIsHeardAboutItsFormerAttemptOnly) {
  env.add_node("c");
  const AttemptKey key = env.run(env.submit(job_spec(2, 8)));
  ASSERT_EQ(env.nodes_of(key).front(), a);
  env.silent.insert(a);
  env.tick_alive(3s);
  env.tick_alive(20s);
  env.end(b, key, false);
  ASSERT_NE(env.plane->find_job(key.job), nullptr);
  ASSERT_EQ(env.plane->find_attempt(key), nullptr);
  const AttemptKey next = env.run(key.job);
  ASSERT_EQ(next.epoch.value, key.epoch.value + 1);
  reach(a, key);
  EXPECT_TRUE(tells(stored(key), "collective"));
  EXPECT_EQ(stored(key).cause, Cause::node_lost) << "a measurement is no verdict";
  EXPECT_FALSE(tells(env.plane->find_attempt(next)->row, "collective"));
  EXPECT_EQ(events("preflight").at(0).epoch, key.epoch);
}

// It had failed while nobody could hear of it.
TEST_F(ControlLate, ANodeThatWasGivenUpSaysHowItsPartHadFailed) {
  const NodeId c = env.add_node("c");
  const AttemptKey key = env.run(env.submit(job_spec(2, 8)));
  protocol::AttemptStatus status;
  status.key = key;
  status.phase = protocol::Phase::ended;
  status.failure = protocol::Failure{
      .kind = "exit", .rank = 0, .exit_code = 3, .detail = "exited 3", .last_lines = "no space left"};
  status.end = protocol::End{.ok = false, .proven = true, .how = "cgroup"};
  env.silent.insert(a);
  env.tick_alive(20s);
  const Attempt* dying = env.plane->find_attempt(key);
  ASSERT_NE(dying, nullptr) << "b has not ended yet";
  ASSERT_EQ(dying->row.cause, Cause::node_lost);
  const auto told = [&] { return tells(stored(key), R"("exit_code":3,"signal":0,"detail":"exited 3")"); };
  env.say(c, status);
  EXPECT_FALSE(told()) << "it is not c's";
  env.say(a, status);
  EXPECT_TRUE(told());
  env.end(b, key, false);
  ASSERT_EQ(env.plane->find_attempt(key), nullptr);
  env.say(a, status);
  status.failure->exit_code = 4;
  env.say(b, status);  // it has ended by its own word
  env.say(c, status);
  EXPECT_TRUE(env.rows.supplemented.empty());
  EXPECT_EQ(events("evidence").size(), 1u);
  EXPECT_EQ(stored(key).cause, Cause::node_lost);
}

TEST_F(ControlLate, NorIsThatLostWithTheLastOfItsGang) {
  const AttemptKey key = env.run(env.submit(job_spec(1, 8)));
  ASSERT_EQ(env.nodes_of(key).front(), a);
  env.silent.insert(a);
  env.tick_alive(20s);
  ASSERT_EQ(env.plane->find_attempt(key), nullptr);
  env.silent.erase(a);
  auto hello = env.hello("a");
  protocol::AttemptStatus status;
  status.key = key;
  status.phase = protocol::Phase::running;  // its end comes after what it has left
  status.failure = protocol::Failure{.kind = "oom", .rank = 0, .detail = "out of memory", .last_lines = ""};
  hello.attempts.push_back(status);
  env.drop_messages();
  env.register_node(hello);
  EXPECT_TRUE(tells(stored(key), R"({"kind":"oom","node":"a","rank":0)"));
  ASSERT_EQ(events("evidence").size(), 1u);
  EXPECT_EQ(events("evidence")[0].epoch, key.epoch);
}

TEST_F(ControlLate, NobodyWritesEvidenceForAnothersAttempt) {
  const NodeId c = env.add_node("c");
  const AttemptKey key = succeed();
  reach(b, key);                                    // of the gang, but not the one that measures
  reach(c, key);                                    // another node
  reach(NodeId(99), key);                           // nobody
  reach(a, {key.job, Epoch(key.epoch.value + 1)});  // never was
  reach(a, {JobId(999), Epoch(1)});
  reach(a, key, 0);
  EXPECT_TRUE(env.rows.supplemented.empty());
  EXPECT_TRUE(events("preflight").empty());
}

TEST_F(ControlLate, AfterFiveMinutesAnAttemptIsNotKnownAnyMore) {
  const AttemptKey key = succeed(), other = succeed();
  env.tick_alive(299s, 2s);
  reach(a, key);
  EXPECT_EQ(env.rows.supplemented.size(), 1u);
  env.tick_alive(4s, 2s);
  reach(a, other);
  EXPECT_EQ(env.rows.supplemented.size(), 1u);
}

TEST_F(ControlLate, ANewLeaderLearnsFromWhatItIsToldAgainAndStopsNobodyForIt) {
  env.add_node("c"), env.add_node("d");
  const AttemptKey slow = env.run(env.submit(job_spec(2, 8)));
  const NodeId from = env.nodes_of(slow).front();
  reach(from, slow, 1);
  env.recover();
  env.drop_messages();
  for (const char* name : {"a", "b", "c", "d"}) {
    auto hello = env.hello(name);
    for (const NodeId n : env.nodes_of(slow))
      if (env.plane->cluster().find(n)->row.name == name) {
        protocol::AttemptStatus status;
        status.key = slow;
        status.phase = protocol::Phase::running;
        hello.attempts.push_back(status);
      }
    env.register_node(hello);
  }
  env.drop_messages();
  for (int i = 0; i < 5; ++i) {
    const AttemptKey key = env.run(env.submit(job_spec(2, 8)));
    reach(env.nodes_of(key).front(), key);
    for (const NodeId n : env.nodes_of(key)) env.end(n, key, true);
  }
  const std::string before = env.plane->find_attempt(slow)->row.evidence_json;
  const std::size_t told = events("preflight").size();
  reach(from, slow, 1);
  EXPECT_EQ(env.state(slow.job), JobState::running) << "it was let run when it began";
  EXPECT_EQ(env.plane->find_attempt(slow)->row.evidence_json, before);
  EXPECT_EQ(events("preflight").size(), told);
}

TEST_F(ControlLate, AFaultThatExplainsAnEndStandsInItsEvidence) {
  const AttemptKey key = fail_on(a);
  env.tick_alive(3s);
  xid(a, "GPU-a-0", 79, 3s);
  const AttemptRow row = stored(key);
  EXPECT_EQ(row.cause, Cause::gpu);
  EXPECT_TRUE(tells(row, R"("xid":79,"gpu":"GPU-a-0","node":"a")")) << row.evidence_json;
  EXPECT_TRUE(tells(row, R"({"kind":"exit")")) << "beside what was known";
  EXPECT_EQ(env.rows.faults.back().job, key.job) << "it is found by its job";
  EXPECT_EQ(env.rows.faults.back().epoch, key.epoch);
  ASSERT_EQ(events("fault").size(), 1u);
  EXPECT_EQ(events("fault")[0].epoch, key.epoch);
}

TEST_F(ControlLate, AFaultIsOfTheOneThatHeldTheGpuThen) {
  const AttemptKey key = succeed(1);
  ASSERT_EQ(stored(key).gang.front().node, a);
  env.tick_alive(10s);
  const AttemptKey next = env.run(env.submit(job_spec(1, 8)));
  ASSERT_EQ(env.nodes_of(next).front(), a);
  xid(a, "GPU-a-0", 13, 10s);
  EXPECT_TRUE(tells(stored(key), "\"xid\":13"));
  EXPECT_EQ(stored(key).result, AttemptResult::succeeded);
  EXPECT_EQ(stored(key).cause, Cause::none) << "whatever it was, the work is done";
  EXPECT_EQ(env.rows.faults.back().job, key.job);
  EXPECT_TRUE(env.rows.revised.empty());
}

TEST_F(ControlLate, AFaultAfterASuccessIsNotOfIt) {
  const AttemptKey key = succeed(1);
  env.tick_alive(2s);
  xid(a, "GPU-a-0", 13, 1s);
  EXPECT_FALSE(tells(stored(key), "xid"));
  EXPECT_FALSE(env.rows.faults.back().job);
}

// One batch: a verdict is written after what else has become known, so its row must have all.
TEST_F(ControlLate, AVerdictAndAMeasurementOfTheSameMomentAreBothStored) {
  const AttemptKey key = fail_on(a);
  const protocol::CollectiveResult reached{
      .key = key, .backend = "mpi", .bytes = 8 << 20, .ranks = 8, .gigabytes_per_second = 10};
  env.plane->on_gpu_fault(env.now, a,
                          {.uuid = "GPU-a-0", .kind = "xid", .xid = 79, .age_us = 0, .detail = ""});
  env.plane->on_collective_result(env.now, a, reached);
  env.step();
  ASSERT_EQ(env.rows.revised.size(), 1u);
  EXPECT_EQ(env.rows.revised[0].cause, Cause::gpu);
  for (const auto* what : {"\"kind\":\"collective\"", "\"xid\":79", "\"kind\":\"exit\""})
    EXPECT_TRUE(tells(env.rows.revised[0], what)) << what;
}

TEST_F(ControlLate, ManyThatGoWellDoNotPushOutOneThatFailed) {
  const AttemptKey key = fail_on(a);
  for (int i = 0; i < 2100; ++i) succeed(1);
  xid(a, "GPU-a-0", 79);
  EXPECT_EQ(stored(key).cause, Cause::gpu);
  EXPECT_LE(env.rows.supplemented.size(), 2u) << "it, and the last one that held that GPU";
}

// Fenced: the next attempt has begun from another, and two lines of checkpoints would follow.
TEST_F(ControlLate, ACheckpointAfterTheEndDoesNotExist) {
  const AttemptKey key = fail_on(a);
  env.plane->on_checkpoint(
      env.now, a, {.key = key, .epoch_in_file = key.epoch.value, .step = 10, .path = "/ckpt/step-10"});
  env.step();
  EXPECT_TRUE(env.rows.checkpoints.empty());
}

}  // namespace
}  // namespace tutti::testing
