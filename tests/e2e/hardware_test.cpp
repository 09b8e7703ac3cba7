// GPU faults, taking nodes out of service, and two gangs that want the same GPUs.
#include "tests/e2e/e2e_test.h"

namespace tutti::e2e {
namespace {

std::string loss_line(const std::string& log) {
  const auto at = log.find("final loss ");
  if (at == log.npos) throw Failure("no final loss in: " + log);
  return log.substr(at, log.find('\n', at) - at);
}

json::object gpu_of(const json::object& node, int index) {
  for (const auto& gpu : node.at("gpus").as_array())
    if (number_of(gpu.as_object(), "index") == index) return gpu.as_object();
  throw Failure("no GPU " + std::to_string(index));
}

// Where the first rank runs: node and index of its GPU.
std::pair<std::string, int> first_gpu(Cluster& c, std::int64_t id) {
  const auto attempts = c.attempts(id);
  const auto& member = attempts.back().at("gang").as_array().at(0).as_object();
  return {text_of(member, "node"),
          static_cast<int>(number_of(member.at("gpus").as_array().at(0).as_object(), "index"))};
}

TEST_F(E2e, AFatalXidSetsTheGpuAsideAndMovesTheGang) {
  Cluster& c = start({.workers = 1, .gpus = 3});
  const auto id = c.submit(c.spec("gang", c.rank("--every 20"), 1, 2));
  c.await_running(id, 1);
  const auto before = c.await_ranks(id, 1, 2);
  const auto [node, gpu] = first_gpu(c, id);
  c.worker(node).xid(gpu, 79);
  await_deaths(before, 20s);
  c.await_running(id, 2);
  const auto attempts = c.attempts(id);
  ASSERT_EQ(attempts.size(), 2u);
  EXPECT_EQ(text_of(attempts[0], "cause"), "gpu");
  ASSERT_FALSE(attempts[0].at("evidence").as_array().empty());
  const auto& evidence = attempts[0].at("evidence").as_array().at(0).as_object();
  EXPECT_EQ(number_of(evidence, "xid"), 79);
  EXPECT_EQ(text_of(evidence, "node"), node);
  EXPECT_EQ(text_of(gpu_of(c.node(node), gpu), "state"), "quarantined");
  for (const auto& used : attempts[1].at("gang").as_array().at(0).at("gpus").as_array())
    EXPECT_NE(number_of(used.as_object(), "index"), gpu);
  int told = 0;  // beside the Xid, that the GPU is lost may be told too
  const auto faults = c.rest().get("/v1/faults");
  for (const auto& fault : faults.at("faults").as_array())
    if (number_of(fault.as_object(), "xid") == 79) ++told;
  EXPECT_EQ(told, 1);
  finish();
}

TEST_F(E2e, AnXidDuringTrainingCostsNoPrecision) {
  if (!Site::instance().has("charlm")) GTEST_SKIP() << "charlm is not built (no Open MPI)";
  Cluster& c = start({.workers = 3, .gpus = 1});
  const auto train = [&](const std::string& name) {
    auto spec = c.spec(
        name, Site::instance().program("charlm") + " --steps 60 --checkpoint-every 10 --step-ms 60", 2, 1);
    spec["launcher"] = "mpirun";
    checkpoint_in(spec, c.checkpoints(name));
    return c.submit(spec);
  };
  const auto whole = train("whole");
  c.await_state(whole, "succeeded");
  const auto hit = train("hit");
  c.await_job(hit, "has written a checkpoint", [&](const json::object& j) {
    if (text_of(j, "state") == "succeeded") throw Failure("it ended before it could be hit");
    return !c.rest()
                .get("/v1/jobs/" + std::to_string(hit) + "/checkpoints")
                .at("checkpoints")
                .as_array()
                .empty();
  });
  const auto [node, gpu] = first_gpu(c, hit);
  c.worker(node).xid(gpu, 79);
  c.await_state(hit, "succeeded");
  const auto attempts = c.attempts(hit);
  ASSERT_EQ(attempts.size(), 2u);
  EXPECT_EQ(text_of(attempts[0], "cause"), "gpu");
  EXPECT_EQ(number_of(attempts[1], "epoch"), 2);
  EXPECT_GE(number_of(attempts[1], "resume_step"), 10);
  for (const auto& name : c.gang(hit)) EXPECT_NE(name, node) << "its only GPU is quarantined";
  EXPECT_EQ(loss_line(c.log_of(hit, 2, 0)), loss_line(c.log_of(whole, 1, 0)));
  finish();
}

TEST_F(E2e, ADrainedNodeKeepsItsWorkAndTakesNoNew) {
  Cluster& c = start({.workers = 2, .gpus = 2});
  const auto running = c.submit(c.spec("running", c.rank("")));
  c.await_running(running, 1);
  const auto before = c.await_ranks(running, 1, 1);
  const std::string drained = c.gang(running).at(0);
  c.rest().post("/v1/nodes/" + drained + ":drain", json::object{{"reason", "a fan to change"}});
  // More than the other node can take: if the drained one took any, it would take these.
  std::vector<std::int64_t> more;
  for (int i = 0; i < 4; ++i) more.push_back(c.submit(c.spec("more", c.rank("--steps 30"))));
  for (const auto id : more) {
    c.await_state(id, "succeeded");
    EXPECT_NE(c.gang(id).at(0), drained);
  }
  EXPECT_EQ(text_of(c.job(running), "state"), "running");
  EXPECT_EQ(pids(c.ranks(running, 1)), pids(before));
  c.rest().post("/v1/nodes/" + drained + ":resume");
  const auto both = c.submit(c.spec("both", c.rank("--steps 5"), 2, 1));
  c.await_state(both, "succeeded");
  finish();
}

TEST_F(E2e, TheSecondGangStartsOnlyAfterTheFirstIsProvenDead) {
  Cluster& c = start({.workers = 2, .gpus = 2});
  auto first_spec = c.spec("first", c.rank("--ignore-term"), 2, 2);
  part(first_spec, "stop")["grace"] = "1s";
  const auto first = c.submit(first_spec);
  c.await_running(first, 1);
  const auto ranks = c.await_ranks(first, 1, 4);
  for (int rank = 0; rank < 4; ++rank) c.await_started(first, 1, rank);  // from now on it ignores the signal
  const auto second = c.submit(c.spec("second", c.rank("--steps 5"), 2, 2));
  const auto reasons = c.rest().get("/v1/jobs/" + std::to_string(second) + "/explain");
  EXPECT_FALSE(reasons.at("reasons").as_array().empty());
  c.rest().post("/v1/jobs/" + std::to_string(first) + ":cancel");
  std::int64_t dead_us = 0;
  for (const auto when : await_deaths(ranks, 20s)) dead_us = std::max(dead_us, when);
  c.await_state(second, "succeeded");
  EXPECT_EQ(text_of(c.job(first), "state"), "cancelled");
  const auto ended = text_of(c.attempts(first).at(0), "ended_at");
  const auto placed = text_of(c.attempts(second).at(0), "placed_at");
  EXPECT_LE(ended, placed);  // RFC 3339 in UTC sorts as text
  const auto started_us = c.await_started(second, 1, 0);
  EXPECT_GT(started_us, dead_us);
  finish();
}

}  // namespace
}  // namespace tutti::e2e
