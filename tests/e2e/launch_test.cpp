// Jobs that go well, one per launcher, and what their users see of them.
#include <filesystem>

#include "tests/e2e/e2e_test.h"

namespace tutti::e2e {
namespace {

std::string final_line(const std::string& log) {
  const auto at = log.find("final ");
  if (at == log.npos) throw Failure("no final line in: " + log);
  return log.substr(at, log.find('\n', at) - at);
}

TEST_F(E2e, DirectGangOverTwoNodesRunsAndSucceeds) {
  Cluster& c = start();
  auto spec = c.spec("hello", c.rank("--steps 40 --every 10"), 2, 2);
  checkpoint_in(spec, c.checkpoints("hello"));
  const auto id = c.submit(spec);
  const auto job = c.await_state(id, "succeeded");
  EXPECT_EQ(number_of(job, "exit_code"), 0);
  const auto attempts = c.attempts(id);
  ASSERT_EQ(attempts.size(), 1u);
  EXPECT_EQ(text_of(attempts[0], "result"), "succeeded");
  EXPECT_EQ(attempts[0].at("gang").as_array().size(), 2u);
  for (int rank = 0; rank < 4; ++rank)
    EXPECT_EQ(final_line(c.log_of(id, 1, rank)).substr(0, 9), "final 40 ") << "rank " << rank;
  const auto checkpoints = c.rest().get("/v1/jobs/" + std::to_string(id) + "/checkpoints");
  ASSERT_FALSE(checkpoints.at("checkpoints").as_array().empty());
  EXPECT_EQ(number_of(checkpoints.at("checkpoints").as_array().front().as_object(), "epoch"), 1);
  finish();
}

TEST_F(E2e, MpirunTrainsOverTwoNodes) {
  if (!Site::instance().has("charlm")) GTEST_SKIP() << "charlm is not built (no Open MPI)";
  ClusterOptions options;
  options.namespaces = Site::may_use_network();
  Cluster& c = start(options);
  auto spec = c.spec("train", Site::instance().program("charlm") + " --steps 30 --checkpoint-every 10", 2, 1);
  spec["launcher"] = "mpirun";
  checkpoint_in(spec, c.checkpoints("train"));
  const auto id = c.submit(spec);
  c.await_state(id, "succeeded");
  EXPECT_NE(c.log_of(id, 1, 0).find("final loss "), std::string::npos);
  EXPECT_NE(c.log_of(id, 1, 1).find("rank 1/2"), std::string::npos);
  EXPECT_EQ(c.gang(id).size(), 2u);
  finish();
}

TEST_F(E2e, AFullPreflightMeasuresTheGangBeforeItsProgramStarts) {
  if (!Site::instance().has("tutti-collective-check")) GTEST_SKIP() << "it is not built (no Open MPI)";
  ClusterOptions options;
  options.namespaces = Site::may_use_network();
  Cluster& c = start(options);
  // As short as can be: what was measured must not be lost with the end.
  auto spec = c.spec("checked", c.rank("--steps 10"), 2, 1);
  spec["launcher"] = "mpirun";
  spec["preflight"] = "full";
  const auto id = c.submit(spec);
  c.await_state(id, "succeeded");
  const auto evidence = await("what was measured stands in the attempt's evidence", [&] {
    return c.attempts(id).at(0).at("evidence").as_array();
  });
  ASSERT_EQ(c.attempts(id).size(), 1u);
  ASSERT_EQ(evidence.size(), 1u);
  EXPECT_EQ(text_of(evidence[0].as_object(), "kind"), "collective");
  EXPECT_NE(text_of(evidence[0].as_object(), "detail").find(" GB/s"), std::string::npos);
  finish();
}

TEST_F(E2e, TorchrunTrainsOverTwoNodes) {
  const std::string fetch = Site::source("training/fetch-digits");
  if (fetch.empty()) GTEST_SKIP() << "not in a source tree";
  const std::string digits =
      std::filesystem::path(fetch).parent_path().parent_path() / ".tutti/cache/digits.csv.gz";
  try {
    run({"/usr/bin/python3", "-c", "import torch"});
    run({fetch, digits});
  } catch (const Failure& e) {
    GTEST_SKIP() << "needs python3-torch, and the digits that training/fetch-digits fetches: " << e.what();
  }
  ClusterOptions options;
  options.namespaces = Site::may_use_network();
  Cluster& c = start(options);
  std::filesystem::copy_file(digits, c.shared() + "/digits.csv.gz");
  auto spec = c.spec("digits",
                     Site::instance().program("ddp.py") + " --steps 30 --checkpoint-every 10 --data " +
                         c.shared() + "/digits.csv.gz",
                     2, 1);
  spec["launcher"] = "torchrun";
  checkpoint_in(spec, c.checkpoints("digits"));
  const auto id = c.submit(spec);
  c.await_state(id, "succeeded");
  EXPECT_NE(c.log_of(id, 1, 0).find("final loss "), std::string::npos) << c.log_of(id, 1, 0);
  const auto checkpoints = c.rest().get("/v1/jobs/" + std::to_string(id) + "/checkpoints");
  EXPECT_FALSE(checkpoints.at("checkpoints").as_array().empty());
  finish();
}

TEST_F(E2e, ScriptRunsOnceOnTheFirstNodeOfItsGang) {
  Cluster& c = start();
  auto spec = c.spec(
      "script",
      "echo \"nodes $TUTTI_NODELIST\"\ncat \"$TUTTI_HOSTFILE\"\necho \"devices $CUDA_VISIBLE_DEVICES\"", 2,
      2);
  spec["launcher"] = "script";
  const auto id = c.submit(spec);
  c.await_state(id, "succeeded");
  const std::string log = c.log_of(id, 1, 0);
  const auto gang = c.gang(id);
  ASSERT_EQ(gang.size(), 2u);
  EXPECT_NE(log.find("nodes " + gang[0] + "," + gang[1]), std::string::npos) << log;
  EXPECT_NE(log.find("slots=2\n127.0.0.1 slots=2\n"), std::string::npos) << log;
  EXPECT_NE(log.find("devices 0,1"), std::string::npos) << log;
  finish();
}

TEST_F(E2e, FollowedLogHasEveryLineAndEndsWithTheJob) {
  Cluster& c = start({.workers = 1});
  const auto id = c.submit(c.spec("talk", c.rank("--steps 200 --say")));
  c.await_running(id, 1);
  Rest rest = c.rest();
  ASSERT_EQ(rest.open("/v1/jobs/" + std::to_string(id) + "/attempts/1/logs?rank=0&follow=1").status, 200);
  std::string log;
  const auto until = Clock::now() + kPatience;
  while (const auto chunk = rest.client().read_chunk(
             std::chrono::duration_cast<std::chrono::milliseconds>(until - Clock::now())))
    log += *chunk;
  std::string expected;
  for (int i = 1; i <= 200; ++i) expected += "step " + std::to_string(i) + "\n";
  EXPECT_EQ(log.substr(0, expected.size()), expected);
  EXPECT_EQ(final_line(log).substr(0, 10), "final 200 ");
  c.await_state(id, "succeeded");
  finish();
}

TEST_F(E2e, ACrashIsRetriedFromTheLastCheckpointAsTheUserAsked) {
  Cluster& c = start({.workers = 1});
  auto spec = c.spec("crash", c.rank("--steps 40 --every 10 --crash 25:3"));
  checkpoint_in(spec, c.checkpoints("crash"));
  retry_at_once(spec, "user", 1);
  const auto id = c.submit(spec);
  c.await_state(id, "succeeded");
  const auto attempts = c.attempts(id);
  ASSERT_EQ(attempts.size(), 2u);
  EXPECT_EQ(text_of(attempts[0], "cause"), "user");
  EXPECT_EQ(number_of(attempts[0], "exit_code"), 3);
  EXPECT_EQ(number_of(attempts[1], "resume_step"), 20);
  // The same as of a run that nothing disturbed.
  const auto whole = c.submit(c.spec("whole", c.rank("--steps 40")));
  c.await_state(whole, "succeeded");
  EXPECT_EQ(final_line(c.log_of(id, 2)), final_line(c.log_of(whole, 1)));
  finish();
}

TEST_F(E2e, WithoutABudgetACrashFailsTheJobWithItsExitCode) {
  Cluster& c = start({.workers = 1});
  const auto id = c.submit(c.spec("crash", c.rank("--steps 40 --crash 5:3")));
  const auto job = c.await_state(id, "failed");
  EXPECT_EQ(text_of(job, "cause"), "user");
  EXPECT_EQ(number_of(job, "exit_code"), 3);
  EXPECT_EQ(c.attempts(id).size(), 1u);
  finish();
}

}  // namespace
}  // namespace tutti::e2e
