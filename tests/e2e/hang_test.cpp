// A gang that hangs: one of its ranks is stopped, the others wait for it as in a collective.
#include <filesystem>

#include "tests/e2e/e2e_test.h"

namespace tutti::e2e {
namespace {

// A gang that goes in lockstep over two nodes and tells each step.
json::object lockstep(Cluster& c) {
  const std::string dir = c.shared() + "/lockstep";
  std::filesystem::create_directory(dir);
  std::filesystem::permissions(dir, std::filesystem::perms::all);
  auto spec = c.spec("gang", c.rank("--step-ms 200 --tell 1 --every 10 --lockstep " + dir), 2, 2);
  checkpoint_in(spec, c.checkpoints("gang"));
  retry_at_once(spec, "hang", 3);
  return spec;
}

void await_step(Cluster& c, std::int64_t id, std::int64_t step) {
  c.await_job(id, "is at step " + std::to_string(step), [&](const json::object& job) {
    return job.at("progress").is_object() && number_of(job.at("progress").as_object(), "step") >= step;
  });
}

struct Bundle {
  explicit Bundle(Cluster& c, std::int64_t id, int attempt)
      : dir(c.directory() + "/bundle-" + std::to_string(attempt)) {
    std::filesystem::create_directory(dir);
    std::ofstream(dir + "/b.tar.gz", std::ios::binary) << c.rest().text(
        "/v1/jobs/" + std::to_string(id) + "/attempts/" + std::to_string(attempt) + "/evidence");
    EXPECT_EQ(std::system(("tar xzf " + dir + "/b.tar.gz -C " + dir).c_str()), 0);
  }
  std::string file(const std::string& name) const {
    std::ifstream in(dir + "/" + name);
    return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
  }
  std::string dir;
};

TEST_F(E2e, AStoppedRankIsNamedAndTheGangRestartedElsewhere) {
  ClusterOptions options;
  options.workers = 3;
  Cluster& c = start(options);
  const auto id = c.submit(lockstep(c));
  c.await_running(id, 1);
  const auto ranks = c.await_ranks(id, 1, 4);
  await_step(c, id, 20);
  const auto first_gang = c.gang(id);
  ASSERT_EQ(first_gang.size(), 2u);

  const auto stopped_us = boot_us();
  ranks[3].signal(SIGSTOP);
  c.await_running(id, 2);
  const auto took_s = static_cast<double>(boot_us() - stopped_us) / 1e6;
  std::cout << "SIGSTOP of one rank to running again: " << took_s << " s" << std::endl;
  EXPECT_GE(took_s, 9.0) << "ten steps of 0.2 s are under the floor of 10 s";
  EXPECT_LE(took_s, 20.0) << "16 s on a machine that is not busy with other tests";

  const auto attempts = c.attempts(id);
  ASSERT_EQ(attempts.size(), 2u);
  EXPECT_EQ(text_of(attempts[0], "cause"), "hang");
  const auto detail = text_of(attempts[0], "detail");
  EXPECT_NE(detail.find("rank 3 on " + first_gang[1] + " is stopped (T)"), std::string::npos) << detail;
  EXPECT_GE(number_of(attempts[1], "resume_step"), 10);
  for (const auto& node : c.gang(id)) EXPECT_NE(node, first_gang[1]) << "other hardware where possible";
  bool told = false;
  for (const auto& event : c.events(id)) told = told || text_of(event, "kind") == "hang";
  EXPECT_TRUE(told);

  const Bundle bundle(c, id, 1);
  const auto summary = json::parse(bundle.file("summary.json"));
  EXPECT_EQ(summary.at("attempt").at("cause"), "hang");
  const auto proc = bundle.file("nodes/" + first_gang[1] + "/evidence/hang-1/rank-3.proc.txt");
  EXPECT_NE(proc.find("T (stopped)"), std::string::npos) << proc;
  EXPECT_NE(bundle.file("nodes/" + first_gang[0] + "/evidence/hang-1/rank-0.proc.txt").find("waits in"),
            std::string::npos);
  if (std::filesystem::exists("/usr/bin/gdb"))
    std::cout << "stacks of rank 0: "
              << bundle.file("nodes/" + first_gang[0] + "/evidence/hang-1/rank-0.stacks.txt").substr(0, 2000)
              << std::endl;
  EXPECT_NE(bundle.file("nodes/" + first_gang[0] + "/node.json").find("\"rank\":0"), std::string::npos);
  c.rest().post("/v1/jobs/" + std::to_string(id) + ":cancel");
  c.await_state(id, "cancelled");
  finish();
}

TEST_F(E2e, AShortPauseOfARankHarmsNothing) {
  Cluster& c = start();
  const auto id = c.submit(lockstep(c));
  c.await_running(id, 1);
  const auto ranks = c.await_ranks(id, 1, 4);
  await_step(c, id, 20);
  ranks[0].signal(SIGSTOP);
  const auto stopped_us = boot_us();
  await_true("six seconds have passed", 10s, [&] { return boot_us() - stopped_us > 6'000'000; });
  ranks[0].signal(SIGCONT);
  await_step(c, id, 60);
  EXPECT_EQ(c.attempts(id).size(), 1u);
  c.rest().post("/v1/jobs/" + std::to_string(id) + ":cancel");
  c.await_state(id, "cancelled");
  finish();
}

}  // namespace
}  // namespace tutti::e2e
