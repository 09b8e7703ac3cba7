// Nodes that are cut off, for longer than their lease and for shorter, and nodes that are lost for good.
#include "tests/e2e/e2e_test.h"

namespace tutti::e2e {
namespace {

std::vector<Seen> on_node(std::vector<Seen> ranks, const Cluster& c, const std::string& node) {
  std::erase_if(ranks, [&](const Seen& s) {
    return !s.value("TUTTI_ATTEMPT_DIR").starts_with(c.directory() + "/" + node + "/");
  });
  return ranks;
}

// Cuts one node of a gang of two off until its lease is over. Its ranks must have killed themselves before
// the gang runs elsewhere, with nobody able to tell them.
void cut_until_the_lease_is_over(Cluster& c) {
  const auto id = c.submit(c.spec("gang", c.rank("--every 20"), 2, 1));
  c.await_running(id, 1);
  const auto ranks = c.await_ranks(id, 1, 2);
  const std::string lost = c.gang(id).at(1);
  const auto there = on_node(c.ranks(id, 1), c, lost);
  ASSERT_EQ(there.size(), 1u);
  const auto cut_us = boot_us();
  c.cut(lost);
  const auto deaths = await_deaths(there, 60s);
  const double lease_us = c.options().lease * 1e6, margin_us = c.options().margin * 1e6;
  EXPECT_GT(deaths[0] - cut_us, lease_us * 0.6) << "killed before the lease was over";
  EXPECT_LT(deaths[0] - cut_us, lease_us + margin_us) << "outlived lease and kill margin";
  c.await_running(id, 2);
  const auto again_us = std::min(c.await_started(id, 2, 0), c.await_started(id, 2, 1));
  EXPECT_GT(again_us, deaths[0]);
  EXPECT_GT(again_us - cut_us, lease_us) << "placed elsewhere while the lease ran";
  for (const auto& node : c.gang(id)) EXPECT_NE(node, lost);
  const auto attempts = c.attempts(id);
  ASSERT_EQ(attempts.size(), 2u);
  EXPECT_EQ(text_of(attempts[0], "cause"), "node_lost");
  EXPECT_EQ(text_of(c.node(lost), "state"), "dead");

  c.heal(lost);
  c.await_linked();
  EXPECT_TRUE(on_node(c.attempt_processes(id, 1), c, lost).empty());
  const auto id3 = c.submit(c.spec("again", c.rank("--steps 5"), 1, 2));  // only there are two GPUs free
  c.await_state(id3, "succeeded");
  EXPECT_EQ(c.gang(id3).at(0), lost);
  EXPECT_EQ(text_of(c.job(id), "state"), "running");
  EXPECT_EQ(number_of(c.job(id), "epoch"), 2);
}

TEST_F(E2e, ANodeCutOffKillsItsRanksBeforeTheyRunElsewhere) {
  TUTTI_NEEDS_NETWORK();
  Cluster& c = start({.workers = 3, .gpus = 2, .namespaces = true, .lease = 2.5, .margin = 1});
  cut_until_the_lease_is_over(c);
  finish();
}

TEST_F(E2e, ANodeCutOffWithTheDeliveredLease) {
  TUTTI_NEEDS_NETWORK();
  Cluster& c = start({.workers = 3, .gpus = 2, .namespaces = true});
  cut_until_the_lease_is_over(c);
  finish();
}

// The whole way of a training that a machine fails under: cut off, fenced, moved, resumed, the same last
// digit.
TEST_F(E2e, AnMpiTrainingCutInTwoResumesElsewhereWithTheSameLoss) {
  TUTTI_NEEDS_NETWORK();
  if (!Site::instance().has("charlm")) GTEST_SKIP() << "charlm is not built (no Open MPI)";
  Cluster& c = start({.workers = 3, .gpus = 1, .namespaces = true, .lease = 2.5, .margin = 1});
  const auto train = [&](const std::string& name) {
    auto spec = c.spec(
        name, Site::instance().program("charlm") + " --steps 50 --checkpoint-every 10 --step-ms 50", 2, 1);
    spec["launcher"] = "mpirun";
    checkpoint_in(spec, c.checkpoints(name));
    return c.submit(spec);
  };
  const auto loss = [](const std::string& log) {
    const auto at = log.find("final loss ");
    if (at == log.npos) throw Failure("no final loss in: " + log);
    return log.substr(at, log.find('\n', at) - at);
  };
  const auto whole = train("whole");
  c.await_state(whole, "succeeded");
  const auto cut = train("cut");
  c.await_job(cut, "has written a checkpoint", [&](const json::object& j) {
    if (text_of(j, "state") == "succeeded") throw Failure("it ended before it could be cut");
    return !c.rest()
                .get("/v1/jobs/" + std::to_string(cut) + "/checkpoints")
                .at("checkpoints")
                .as_array()
                .empty();
  });
  const std::string lost = c.gang(cut).at(1);
  c.cut(lost);
  c.await_state(cut, "succeeded");
  const auto attempts = c.attempts(cut);
  ASSERT_EQ(attempts.size(), 2u);
  EXPECT_EQ(text_of(attempts[0], "cause"), "node_lost");
  EXPECT_GE(number_of(attempts[1], "resume_step"), 10);
  for (const auto& node : c.gang(cut)) EXPECT_NE(node, lost);
  EXPECT_EQ(loss(c.log_of(cut, 2, 0)), loss(c.log_of(whole, 1, 0)));
  c.heal(lost);
  c.await_linked();
  finish();
}

// Of the two that watch the lease on a node one is enough: here the worker is.
TEST_F(E2e, AFrozenSupervisorDoesNotKeepRanksAliveBeyondTheLease) {
  TUTTI_NEEDS_NETWORK();
  Cluster& c = start({.workers = 3, .gpus = 1, .namespaces = true, .lease = 2.5, .margin = 1});
  const auto id = c.submit(c.spec("gang", c.rank(""), 2, 1));
  c.await_running(id, 1);
  c.await_ranks(id, 1, 2);
  const std::string lost = c.gang(id).at(1);
  const auto there = on_node(c.ranks(id, 1), c, lost);
  const auto supervisor = c.supervisor(id, 1, lost);
  supervisor.signal(SIGSTOP);
  const auto cut_us = boot_us();
  c.cut(lost);
  for (const auto when : await_deaths(there, 20s)) EXPECT_LT(when - cut_us, 3'500'000);
  c.await_running(id, 2);
  for (const auto& node : c.gang(id)) EXPECT_NE(node, lost);
  supervisor.signal(SIGCONT);
  c.heal(lost);
  c.await_linked();
  EXPECT_EQ(number_of(c.job(id), "epoch"), 2);
  finish();
}

TEST_F(E2e, ACutOfTwoSecondsKillsNothing) {
  TUTTI_NEEDS_NETWORK();
  Cluster& c = start({.workers = 2, .gpus = 1, .namespaces = true});
  const auto id = c.submit(c.spec("gang", c.rank("--every 20"), 2, 1));
  c.await_running(id, 1);
  const auto before = c.await_ranks(id, 1, 2);
  const std::string node = c.gang(id).at(1);
  c.cut(node);
  const auto cut = Clock::now();
  // Time is what is tested here: two seconds of it, during which every rank must be seen alive.
  await_true("two seconds", 5s, [&] {
    for (const auto& rank : before)
      if (!rank.alive()) throw Failure("a rank died of a short cut");
    return Clock::now() - cut >= 2s;
  });
  c.heal(node);
  c.await_linked();
  // Until well after the lease that ran when it was cut.
  await_true("the time of the old lease", 20s, [&] {
    for (const auto& rank : before)
      if (!rank.alive()) throw Failure("a rank died after a short cut");
    return Clock::now() - cut >= 9s;
  });
  EXPECT_EQ(number_of(c.job(id), "epoch"), 1);
  EXPECT_EQ(text_of(c.job(id), "state"), "running");
  finish();
}

TEST_F(E2e, WhenANodeIsLostAllThatWaitsBehindItCompletesElsewhere) {
  TUTTI_NEEDS_NETWORK();
  Cluster& c = start({.workers = 2, .gpus = 1, .namespaces = true, .lease = 2.5, .margin = 1});
  const auto blocker = c.submit(c.spec("blocker", c.rank("--steps 300")));
  c.await_running(blocker, 1);
  const auto hit = c.submit(c.spec("hit", c.rank("--steps 300")));
  c.await_running(hit, 1);
  const std::string lost = c.gang(hit).at(0);
  std::vector<std::int64_t> waiting;
  for (int i = 0; i < 10; ++i) waiting.push_back(c.submit(c.spec("waits", c.rank("--steps 10"))));
  c.cut(lost);  // nobody hears its processes die
  c.kill_node(lost);
  const auto lost_at = Clock::now();
  c.await_state(blocker, "succeeded");
  for (const auto id : waiting) {
    c.await_state(id, "succeeded");
    EXPECT_NE(c.gang(id).at(0), lost);
  }
  c.await_state(hit, "succeeded");
  EXPECT_NE(c.gang(hit).at(0), lost);
  EXPECT_EQ(c.attempts(hit).size(), 2u);
  EXPECT_EQ(text_of(c.attempts(hit).at(0), "cause"), "node_lost");
  EXPECT_LT(Clock::now() - lost_at, 60s);
  // The machine comes up again: clean, and of use.
  c.heal(lost);
  c.start_worker(c.worker(lost), true);
  c.await_linked();
  const auto both = c.submit(c.spec("both", c.rank("--steps 5"), 2, 1));
  c.await_state(both, "succeeded");
  finish();
}

}  // namespace
}  // namespace tutti::e2e
