// SIGKILL to each kind of process while a gang runs: what must go on goes on, what must die is proven dead.
#include "tests/e2e/e2e_test.h"

namespace tutti::e2e {
namespace {

std::string endless(Cluster& c) { return c.rank("--every 20"); }

TEST_F(E2e, ARankThatIsKilledIsStartedAgain) {
  Cluster& c = start();
  auto spec = c.spec("gang", endless(c), 2, 1);
  checkpoint_in(spec, c.checkpoints("gang"));
  retry_at_once(spec, "unknown", 3);
  const auto id = c.submit(spec);
  c.await_running(id, 1);
  const auto first = c.await_ranks(id, 1, 2);
  c.await_job(id, "has a checkpoint", [&](const json::object&) {
    return !c.rest()
                .get("/v1/jobs/" + std::to_string(id) + "/checkpoints")
                .at("checkpoints")
                .as_array()
                .empty();
  });
  first[1].signal(SIGKILL);
  await_deaths(first, 20s);  // the other one too: a gang lives and dies together
  c.await_running(id, 2);
  c.await_ranks(id, 2, 2);
  const auto attempts = c.attempts(id);
  ASSERT_EQ(attempts.size(), 2u);
  EXPECT_EQ(text_of(attempts[0], "cause"), "unknown");  // a SIGKILL that nobody has signed
  EXPECT_EQ(number_of(attempts[0], "exit_code"), 137);
  EXPECT_GE(number_of(attempts[1], "resume_step"), 20);
  finish();
}

TEST_F(E2e, WithoutItsSchedulerTrainingGoesOnAndNothingIsLost) {
  Cluster& c = start();
  auto spec = c.spec("gang", endless(c), 2, 1);
  checkpoint_in(spec, c.checkpoints("gang"));
  const auto id = c.submit(spec);
  const auto queued = c.submit(c.spec("queued", c.rank("--steps 5"), 2, 2));
  c.await_running(id, 1);
  const auto before = c.await_ranks(id, 1, 2);
  c.kill_scheduler();
  const auto killed_us = boot_us();
  c.await_alive(id, 1, 0, killed_us + 500'000);
  c.await_alive(id, 1, 1, killed_us + 500'000);
  c.start_scheduler();
  c.await_linked();
  const auto job = c.job(id);
  EXPECT_EQ(text_of(job, "state"), "running");
  EXPECT_EQ(number_of(job, "epoch"), 1);
  EXPECT_EQ(text_of(c.job(queued), "state"), "queued");
  // Beyond the lease that it had when the scheduler died: the new one renews it.
  c.await_alive(id, 1, 0, killed_us + 8'000'000);
  EXPECT_EQ(pids(c.ranks(id, 1)), pids(before));
  // What was written while nobody listened is found later.
  await_true("checkpoints of the time without a scheduler are known", kPatience, [&] {
    return c.rest()
               .get("/v1/jobs/" + std::to_string(id) + "/checkpoints")
               .at("checkpoints")
               .as_array()
               .size() > 1;
  });
  c.rest().post("/v1/jobs/" + std::to_string(id) + ":cancel");
  c.await_state(id, "cancelled");
  c.await_state(queued, "succeeded");
  finish();
}

TEST_F(E2e, TheDecisionLogOfALiveClusterIsDecidedAgainTheSame) {
  Cluster& c = start();
  const auto gang = c.submit(c.spec("gang", endless(c), 2, 1));
  c.await_running(gang, 1);
  const auto waits = c.submit(c.spec("waits", c.rank("--steps 5"), 2, 2));
  c.worker("n1").process().kill();
  c.start_worker(c.worker("n1"));
  c.await_linked();
  await_true("the log says that it waited", kPatience, [&] {
    const json::object then = c.replay({"--queue"});
    const json::array& queue = then.at("queue").as_array();
    return queue.size() == 1 && number_of(queue[0].as_object(), "job_id") == waits &&
           then.at("running").as_array().size() == 1;
  });
  const json::object why = c.replay({"--explain", std::to_string(waits)});
  EXPECT_EQ(text_of(why.at("explain").as_object(), "state"), "queued");
  EXPECT_FALSE(why.at("explain").at("reasons").as_array().empty());
  c.kill_scheduler();
  c.start_scheduler();
  c.await_linked();
  c.rest().post("/v1/jobs/" + std::to_string(gang) + ":cancel");
  c.await_state(gang, "cancelled");
  c.await_state(waits, "succeeded");
  await_true("the log has come to the end of it", kPatience,
             [&] { return c.replay({"--queue"}).at("running").as_array().empty(); });
  const json::object proof = c.replay({"--prove"}).at("proof").as_object();
  EXPECT_TRUE(proof.at("identical").as_bool());
  EXPECT_GE(number_of(proof, "segments"), 2);
  EXPECT_GT(number_of(proof, "decisions"), 20);
  finish();
}

TEST_F(E2e, AWorkerThatIsKilledFindsItsRanksAgain) {
  Cluster& c = start({.workers = 1});
  const auto id = c.submit(c.spec("gang", c.rank("--steps 1000 --say"), 1, 2));
  c.await_running(id, 1);
  const auto before = c.await_ranks(id, 1, 2);
  c.worker("n1").process().kill();
  const auto killed_us = boot_us();
  await_true("the scheduler sees the worker go, and not only by its silence", 1500ms,
             [&] { return !c.node("n1").at("linked").as_bool(); });
  c.start_worker(c.worker("n1"));
  c.await_linked();
  c.await_alive(id, 1, 0, killed_us + 500'000);
  EXPECT_EQ(pids(c.ranks(id, 1)), pids(before));
  c.await_state(id, "succeeded");  // its end, and its log, through the worker that did not start it
  EXPECT_EQ(c.attempts(id).size(), 1u);
  EXPECT_NE(c.log_of(id, 1).find("final 1000 "), std::string::npos);
  finish();
}

TEST_F(E2e, WithoutTheirSupervisorRanksDieAndTheGangStartsAgain) {
  Cluster& c = start();
  const auto id = c.submit(c.spec("gang", endless(c), 2, 1));
  c.await_running(id, 1);
  const auto before = c.await_ranks(id, 1, 2);
  c.supervisor(id, 1, c.gang(id).at(0)).signal(SIGKILL);
  await_deaths(before, 20s);
  c.await_running(id, 2);
  const auto attempts = c.attempts(id);
  ASSERT_EQ(attempts.size(), 2u);
  EXPECT_EQ(text_of(attempts[0], "cause"), "control");
  finish();
}

// Its nodes hold each other's leases: nothing is wrong with it.
TEST_F(E2e, WhenTheSchedulerIsFrozenBeyondTheLeaseGangsGoOn) {
  Cluster& c = start({.workers = 2, .lease = 2, .margin = 0.5});
  const auto id = c.submit(c.spec("gang", c.rank("--steps 2000"), 2, 1));
  c.await_running(id, 1);
  const auto ranks = c.await_ranks(id, 1, 2);
  c.scheduler().signal(SIGSTOP);
  await_deaths(ranks, 60s);  // they come to their end, longer than lease and margin from now
  c.scheduler().signal(SIGCONT);
  c.await_state(id, "succeeded");
  EXPECT_EQ(c.attempts(id).size(), 1u);
  finish();
}

TEST_F(E2e, WhereGangsMayNotGoOnTheyDieWithTheLeaseAndStartAgain) {
  Cluster& c = start({.workers = 2, .lease = 2, .margin = 0.5, .continue_minutes = 0});
  const auto id = c.submit(c.spec("gang", endless(c), 2, 1));
  c.await_running(id, 1);
  const auto before = c.await_ranks(id, 1, 2);
  c.scheduler().signal(SIGSTOP);
  await_deaths(before, 20s);  // nobody renews: they kill themselves
  c.scheduler().signal(SIGCONT);
  c.await_running(id, 2);
  EXPECT_EQ(c.attempts(id).size(), 2u);
  finish();
}

TEST_F(E2e, CancelKillsARankThatIgnoresTheSignalAfterItsGrace) {
  Cluster& c = start({.workers = 1});
  auto spec = c.spec("stubborn", c.rank("--ignore-term"), 1, 2);
  part(spec, "stop")["grace"] = "1s";
  const auto id = c.submit(spec);
  c.await_running(id, 1);
  const auto ranks = c.await_ranks(id, 1, 2);
  for (int rank = 0; rank < 2; ++rank) c.await_started(id, 1, rank);  // from now on it ignores the signal
  const auto asked_us = boot_us();
  c.rest().post("/v1/jobs/" + std::to_string(id) + ":cancel");
  for (const auto when : await_deaths(ranks, 20s)) EXPECT_GE(when - asked_us, 900'000) << "had its grace";
  const auto job = c.await_state(id, "cancelled");
  EXPECT_EQ(text_of(job, "cause"), "cancelled");
  finish();
}

TEST_F(E2e, CancelLetsARankWriteItsLastCheckpoint) {
  Cluster& c = start({.workers = 1});
  auto spec = c.spec("polite", c.rank(""));
  checkpoint_in(spec, c.checkpoints("polite"));
  const auto id = c.submit(spec);
  c.await_running(id, 1);
  c.await_ranks(id, 1, 1);
  c.await_alive(id, 1, 0, 1);
  c.rest().post("/v1/jobs/" + std::to_string(id) + ":cancel");
  c.await_state(id, "cancelled");
  EXPECT_EQ(
      c.rest().get("/v1/jobs/" + std::to_string(id) + "/checkpoints").at("checkpoints").as_array().size(),
      1u);
  finish();
}

// The supervisors have their own timers: they need neither a worker nor a network to keep the fence.
TEST_F(E2e, AFrozenWorkerDoesNotKeepRanksAliveBeyondTheLease) {
  Cluster& c = start({.workers = 2, .gpus = 1, .lease = 2, .margin = 1});
  const auto id = c.submit(c.spec("job", endless(c)));
  c.await_running(id, 1);
  const auto before = c.await_ranks(id, 1, 1);
  const std::string frozen = c.gang(id).at(0);
  c.worker(frozen).process().signal(SIGSTOP);
  const auto frozen_us = boot_us();
  for (const auto when : await_deaths(before, 20s)) EXPECT_LT(when - frozen_us, 3'000'000);
  c.await_running(id, 2);
  EXPECT_NE(c.gang(id).at(0), frozen);
  c.worker(frozen).process().signal(SIGCONT);
  c.await_linked();
  EXPECT_EQ(number_of(c.job(id), "epoch"), 2);
  finish();
}

TEST_F(E2e, WhenWorkerAndSupervisorAreKilledTogetherTheNextWorkerClearsUp) {
  Cluster& c = start({.workers = 1});
  const auto id = c.submit(c.spec("job", endless(c), 1, 2));
  c.await_running(id, 1);
  const auto before = c.await_ranks(id, 1, 2);
  const auto supervisor = c.supervisor(id, 1, "n1");
  c.worker("n1").process().kill();
  supervisor.signal(SIGKILL);
  c.start_worker(c.worker("n1"));
  await_deaths(before, 20s);
  c.await_running(id, 2);
  EXPECT_EQ(text_of(c.attempts(id).at(0), "cause"), "control");
  finish();
}

// Kills `what` again and again while short jobs start and end; all must succeed in the end.
void kill_while_jobs_start(Cluster& c, int kills, const std::function<void()>& kill_and_start) {
  constexpr int kJobs = 30;
  std::vector<std::int64_t> ids;
  for (int i = 0; i < kJobs; ++i)
    ids.push_back(c.submit(c.spec("short", c.rank("--steps 10"), 1 + i % 2, 1)));
  const auto attempts_placed = [&] { return std::stoi(c.sql("SELECT count(*) FROM attempt").at(0)); };
  for (int i = 0; i < kills; ++i) {
    // Not after a time but after so much has happened; each kill meets another stage of some job.
    const int placed = attempts_placed();
    await_true("the next job is placed", kPatience,
               [&] { return attempts_placed() > placed || placed >= kJobs; });
    kill_and_start();
  }
  for (const auto id : ids) c.await_state(id, "succeeded");
}

TEST_F(E2e, ASchedulerKilledAgainAndAgainWhileJobsStartDisturbsNone) {
  Cluster& c = start({.workers = 2, .gpus = 2});
  kill_while_jobs_start(c, 8, [&] {
    c.kill_scheduler();
    c.start_scheduler();
  });
  EXPECT_EQ(c.sql("SELECT count(*) FROM attempt WHERE number > 1").at(0), "0") << "an attempt was disturbed";
  finish();
}

TEST_F(E2e, AWorkerKilledAgainAndAgainWhileJobsStartLosesNone) {
  Cluster& c = start({.workers = 2, .gpus = 2});
  int turn = 0;
  kill_while_jobs_start(c, 8, [&] {
    Worker& worker = c.worker(++turn % 2 == 0 ? "n1" : "n2");
    worker.process().kill();
    c.start_worker(worker);
  });
  finish();
}

}  // namespace
}  // namespace tutti::e2e
