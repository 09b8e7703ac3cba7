// Who is charged for a failure, in virtual time: late evidence, crashes that come again elsewhere, links in
// trouble, nodes that were lost together.
#include <algorithm>

#include "tests/unit/faults_world.h"

namespace tutti::testing {
namespace {

TEST(Faults, AFaultToldAfterTheEndMovesTheCharge) {
  World w;
  const NodeId a = w.env.add_node("a");
  JobSpec spec = job_spec(1, 4);
  spec.retry.budget[Cause::user] = 5;
  spec.retry.backoff[Cause::user] = {60s, 60s};
  const JobId job = w.env.submit(spec);
  const AttemptKey key = w.env.run(job);
  w.env.tick_alive(10s);
  w.env.fail(a, key, 0, 1);
  w.env.end(a, key, false);
  const auto spent = [&](Cause c) {
    return w.env.plane->find_job(job)->row.spent[static_cast<std::size_t>(c)];
  };
  ASSERT_EQ(spent(Cause::user), 1);
  const std::string uuid = "GPU-a-0";
  w.env.tick_alive(2s);
  w.xid(a, uuid, 79, 2500ms);  // half a second before the rank failed
  EXPECT_EQ(spent(Cause::user), 0);
  EXPECT_EQ(spent(Cause::gpu), 1);
  ASSERT_EQ(w.events("verdict").size(), 1U);
  EXPECT_EQ(w.events("verdict")[0].from, "user");
  EXPECT_EQ(w.events("verdict")[0].to, "gpu");
}

TEST(Faults, TheSameCrashOnOtherHardwareIsTheProgramsAndNobodyElseIsBlamed) {
  World w;
  const NodeId a = w.env.add_node("a"), b = w.env.add_node("b");
  const JobId job = w.env.submit(job_spec(1, 8));
  AttemptKey key = w.env.run(job);
  const NodeId first = w.env.nodes_of(key)[0], second = first == a ? b : a;
  w.crash(first, key, 7, "step 17\nbus error at 0x7f3a in kernel 12");
  w.env.end(first, key, false);
  EXPECT_NE(w.env.state(job), JobState::failed);
  EXPECT_EQ(w.env.plane->ledger().lemon_failures(first).size(), 1U);
  ASSERT_TRUE(w.env.plane->on_node_service(w.env.now, first == a ? "a" : "b", NodeService::cordoned, "test"));
  w.env.tick_alive(1min, 2s);
  key = w.env.run(job);
  ASSERT_EQ(w.env.nodes_of(key)[0], second);
  w.crash(second, key, 7, "step 91\nbus error at 0x11bc in kernel 3");
  w.env.end(second, key, false);
  EXPECT_EQ(w.env.state(job), JobState::failed) << "a user error has no budget";
  EXPECT_TRUE(w.env.plane->ledger().lemon_failures(first).empty()) << "the blame is taken back";
}

TEST(Faults, TheSameCrashOnTheSameNodeProvesNothing) {
  World w;
  const NodeId a = w.env.add_node("a");
  const JobId job = w.env.submit(job_spec(1, 8));
  for (int i = 0; i < 2; ++i) {
    const AttemptKey key = w.env.run(job);
    w.crash(a, key, 7, "bus error at 0x7f3a");
    w.env.end(a, key, false);
    EXPECT_EQ(w.env.state(job), JobState::delayed);
    w.env.tick_alive(2min, 2s);
  }
}

// The worker tells Xid 48 of one GPU first; the kernel log is read later and says that another came before.
TEST(Faults, TheGpuThatWasFirstIsBlamedHoweverLateItIsTold) {
  World w;
  const NodeId a = w.env.add_node("a");
  w.xid(a, "GPU-a-2", 48, 1s);
  w.xid(a, "GPU-a-3", 79, 2500ms);
  ASSERT_EQ(w.env.rows.faults.size(), 2u);
  EXPECT_EQ(w.env.rows.faults[0].shared_by, 0);
  EXPECT_EQ(w.env.rows.faults[1].shared_by, 1);
  const Gpu* second = w.env.plane->cluster().find_gpu("GPU-a-2");
  const Gpu* first = w.env.plane->cluster().find_gpu("GPU-a-3");
  EXPECT_EQ(w.env.plane->ledger().of_gpu(second->row.id, Instant{}), 0);
  EXPECT_EQ(w.env.plane->ledger().of_gpu(first->row.id, Instant{}), 1);
  w.xid(a, "GPU-a-4", 79, 30min);
  EXPECT_EQ(w.env.rows.faults[2].shared_by, 1) << "half an hour before is another event";
}

TEST(Faults, TwoSignalsFromOutsideAreNoSignatureOfTheProgram) {
  World w;
  const NodeId a = w.env.add_node("a"), b = w.env.add_node("b");
  for (const auto& [signal, words] : {std::pair(15, "terminated"), std::pair(7, "")}) {
    const JobId job = w.env.submit(job_spec(1, 8));
    for (int i = 0; i < 2; ++i) {
      const AttemptKey key = w.env.run(job);
      const NodeId on = w.env.nodes_of(key)[0];
      ASSERT_EQ(on, i == 0 ? a : b) << "after an unknown failure it rather goes elsewhere";
      w.crash(on, key, signal, words);
      w.env.end(on, key, false);
      EXPECT_EQ(w.env.state(job), JobState::delayed) << signal;
      w.env.tick_alive(2min, 2s);
    }
    ASSERT_TRUE(w.env.plane->on_cancel(w.env.now, job, "test"));
    w.env.step();
    const AttemptKey key = w.env.key_of(job);
    w.env.end(w.env.nodes_of(key)[0], key, true);
  }
}

TEST(Faults, WhatItSaidWhenHardwareFailedIsNoSignature) {
  World w;
  const NodeId a = w.env.add_node("a"), b = w.env.add_node("b");
  const JobId job = w.env.submit(job_spec(1, 8));
  AttemptKey key = w.env.run(job);
  ASSERT_EQ(w.env.nodes_of(key)[0], a);
  w.crash(a, key, 7, "bus error");
  w.xid(a, "GPU-a-0", 79, 1s);  // while it dies
  w.env.end(a, key, false);
  key = w.env.run(job);
  ASSERT_EQ(w.env.nodes_of(key)[0], b);
  w.crash(b, key, 7, "bus error");
  w.env.end(b, key, false);
  EXPECT_EQ(w.env.state(job), JobState::delayed) << "the first was the GPU's";
}

TEST(Faults, ALateVerdictFreesTheJobAndTakesBackWhatItDid) {
  World w;
  const NodeId a = w.env.add_node("a");
  JobSpec spec = job_spec(1, 4);
  spec.retry.budget[Cause::user] = 5;
  spec.retry.no_progress_limit = 1;
  const JobId job = w.env.submit(spec);
  const AttemptKey key = w.env.run(job);
  w.env.tick_alive(10s);
  w.env.fail(a, key, 0, 1);
  w.env.end(a, key, false);
  ASSERT_EQ(w.env.state(job), JobState::held) << "no progress";
  w.xid(a, "GPU-a-0", 79, 500ms);
  EXPECT_EQ(w.env.state(job), JobState::queued);
  EXPECT_TRUE(w.env.plane->find_job(job)->row.front);
  EXPECT_EQ(w.env.plane->find_job(job)->row.no_progress, 0);
}

TEST(Faults, WhatWasNotChargedIsNotGivenBack) {
  World w;
  const NodeId a = w.env.add_node("a");
  JobSpec spec = job_spec(1, 4);
  spec.retry.budget[Cause::user] = 5;
  spec.retry.backoff[Cause::user] = {1s, 1s};
  spec.retry.exit_codes[3] = ExitAction::restart;
  const JobId job = w.env.submit(spec);
  AttemptKey key = w.env.run(job);
  w.env.fail(a, key, 0, 1);
  w.env.end(a, key, false);
  w.env.tick_alive(6s);
  key = w.env.run(job);
  w.env.tick_alive(6s);
  w.env.fail(a, key, 0, 3);  // wanted: free
  w.env.end(a, key, false);
  const std::string uuid = w.env.plane->cluster().gpus.at(w.env.rows.opened.back().gpu).row.uuid;
  const auto spent = [&] {
    return w.env.plane->find_job(job)->row.spent[static_cast<std::size_t>(Cause::user)];
  };
  ASSERT_EQ(spent(), 1);
  w.env.tick_alive(1s);
  w.xid(a, uuid, 79, 1500ms);
  EXPECT_EQ(spent(), 1);
}

TEST(Faults, AFailureThatWouldEndItsJobWaitsForAFaultThatExplainsIt) {
  ControlSettings settings;
  settings.evidence_wait = 2s;
  World w(settings);
  const NodeId a = w.env.add_node("a");
  const auto fail = [&](JobId job) {
    const AttemptKey key = w.env.run(job);
    w.env.fail(a, key, 0, 1);
    w.env.end(a, key, false);
    return key;
  };
  const JobId hit = w.env.submit(job_spec(1, 2)), own = w.env.submit(job_spec(1, 2));
  fail(hit);
  fail(own);
  EXPECT_EQ(w.env.state(own), JobState::stopping);
  w.env.tick_alive(1s);
  w.xid(a, "GPU-a-0", 79, 1100ms);
  w.env.tick_alive(1500ms);
  EXPECT_EQ(w.env.state(own), JobState::failed);
  EXPECT_NE(w.env.state(hit), JobState::failed);
  const JobId cpu = w.env.submit(job_spec(1, 0));
  fail(cpu);
  EXPECT_EQ(w.env.state(cpu), JobState::failed) << "no GPU can explain it";
  const JobId last = w.env.submit(job_spec(1, 2));
  fail(last);
  w.env.recover();
  w.env.tick_alive(1s);
  EXPECT_EQ(w.env.state(last), JobState::failed) << "a new leader ends it";
}

TEST(Faults, AFailureOnTheNetworkIsNotTheProgramsWhenALinkWasInTrouble) {
  World w;
  const NodeId a = w.env.add_node("a"), b = w.env.add_node("b"), c = w.env.add_node("c");
  const auto trouble = [&](NodeId node, const std::string& link) {
    protocol::NodeHealth h;
    h.incidents.push_back({"link_flap", link + " went down (1: DOWN)", 0});
    w.env.plane->on_node_health(w.env.now, node, h);
    w.env.step();
  };
  const JobId job = w.env.submit(job_spec(2, 8));
  AttemptKey key = w.env.run(job);
  ASSERT_EQ(w.env.nodes_of(key), (std::vector{a, b}));
  trouble(b, "mlx5_0/1");
  w.env.tick_alive(9min, 2s);
  w.env.fail(a, key, 0, 1);
  EXPECT_EQ(w.env.plane->find_attempt(key)->row.cause, Cause::fabric);
  w.env.end(a, key, false);
  w.env.end(b, key, false);
  w.env.tick_alive(1min, 2s);
  key = w.env.run(job);
  EXPECT_EQ(w.env.nodes_of(key), (std::vector{a, c})) << "without the node of that link";
  trouble(c, "eth0");
  w.env.fail(a, key, 0, 1);
  EXPECT_EQ(w.env.plane->find_attempt(key)->row.cause, Cause::network);
  w.env.end(a, key, false);
  w.env.end(c, key, false);
  w.env.tick_alive(11min, 2s);
  key = w.env.run(job);
  w.env.fail(w.env.nodes_of(key)[0], key, 0, 1);
  EXPECT_EQ(w.env.plane->find_attempt(key)->row.cause, Cause::user) << "that is long ago";
}

TEST(Faults, NodesThatAreLostTogetherAreNotBlamedAndIdleOnesNeither) {
  World w;
  const NodeId a = w.env.add_node("a"), b = w.env.add_node("b"), c = w.env.add_node("c");
  const NodeId d = w.env.add_node("d");
  const JobId job = w.env.submit(job_spec(3, 8));
  const AttemptKey key = w.env.run(job);
  const auto blamed = [&](NodeId n) {
    return std::ranges::count_if(w.env.rows.faults,
                                 [&](const FaultRow& f) { return f.node == n && f.shared_by > 0; });
  };
  w.env.silent.insert(a);
  w.env.tick_alive(3s);
  w.env.silent.insert(b);  // three seconds later
  w.env.tick_alive(20s);
  EXPECT_EQ(blamed(a) + blamed(b), 0) << "the first one's blame is taken back";
  w.env.end(c, key, false);
  w.env.silent.insert(d);
  w.env.tick_alive(20s);
  EXPECT_EQ(blamed(d), 0) << "nothing ran there";
  const JobId alone = w.env.submit(job_spec(1, 8));
  w.env.run(alone);
  w.env.silent.insert(c);
  w.env.tick_alive(20s);
  EXPECT_EQ(blamed(c), 1);
}

// A pilot job of another scheduler has ended, or a machine has left: that is no fault, and nobody else's
// either.
TEST(Faults, ARetiredNodeThatFallsSilentIsNoLostOne) {
  World w;
  const NodeId a = w.env.add_node("a"), running = w.env.add_node("running"), gone = w.env.add_node("gone");
  const JobId job = w.env.submit(job_spec(1, 8)), other = w.env.submit(job_spec(1, 8));
  ASSERT_EQ(w.env.nodes_of(w.env.run(job)), std::vector{a});
  ASSERT_EQ(w.env.nodes_of(w.env.run(other)), std::vector{running});
  ASSERT_TRUE(w.env.plane->on_node_service(w.env.now, "running", NodeService::retired, "leaves"));
  for (const NodeService s : {NodeService::draining, NodeService::retired})
    ASSERT_TRUE(w.env.plane->on_node_service(w.env.now, "gone", s, "the pilot ends"));
  w.env.step();
  for (const NodeId id : {a, gone, running}) w.env.silent.insert(id);
  w.env.tick_alive(30s);
  EXPECT_EQ(w.env.plane->cluster().find(gone)->row.state, NodeState::dead);
  const auto faults = [&](NodeId n) { return std::ranges::count(w.env.rows.faults, n, &FaultRow::node); };
  EXPECT_EQ(faults(gone), 0);
  EXPECT_EQ(faults(running), 0) << "whoever retires a node that works takes that";
  ASSERT_EQ(faults(a), 1);
  EXPECT_EQ(w.last_fault().shared_by, 1) << "it fell silent alone: those that were to go are not its company";
}

TEST(Faults, ForgivenessIsStored) {
  World w;
  const NodeId a = w.env.add_node("a"), b = w.env.add_node("b");
  const JobId job = w.env.submit(job_spec(1, 8));
  for (const NodeId on : {a, b}) {
    const AttemptKey key = w.env.run(job);
    ASSERT_EQ(w.env.nodes_of(key)[0], on);
    w.crash(on, key, 7, "bus error");
    w.env.end(on, key, false);
    w.env.tick_alive(1min, 2s);
  }
  EXPECT_EQ(w.env.state(job), JobState::failed);
  w.env.recover();
  EXPECT_TRUE(w.env.plane->ledger().lemon_failures(a).empty());
}

}  // namespace
}  // namespace tutti::testing
