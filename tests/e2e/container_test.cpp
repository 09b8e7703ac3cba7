// A gang in containers, end to end: submitted with an image, run on two nodes with simulated GPUs, and gone
// when it is killed. The root directory is made on the spot.
#include <unistd.h>

#include <filesystem>

#include "tests/e2e/e2e_test.h"
#include "tests/support/container_root.h"
#include "worker/container/run_tool.h"

namespace tutti::e2e {
namespace {

class Containers : public E2e {
 protected:
  void SetUp() override {
    if (container::find_in_path("bwrap").empty()) GTEST_SKIP() << "bubblewrap is not installed";
    std::vector<std::string> words = {"bwrap", "--unshare-user", "--unshare-pid", "--ro-bind", "/", "/",
                                      "true"};
    if (geteuid() == 0)
      words.insert(words.begin(), {"setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"});
    if (!container::runs_well(words)) GTEST_SKIP() << "this kernel gives ordinary users no namespaces";
  }
  json::object contained(Cluster& c, const std::string& run) {
    const auto image = c.shared() + "/image";
    tutti::testing::make_container_root(image);
    auto spec = c.spec("contained", run, 2, 1);
    spec["image"] = image;
    spec["mounts"] = json::array{json::object{{"source", c.shared()}, {"target", "/seen"}}};
    spec["resources"].as_object()["shm_size"] = "64MiB";
    return spec;
  }
};

TEST_F(Containers, AGangRunsInItsImageOnTwoNodes) {
  Cluster& c = start({.workers = 2});
  const auto id = c.submit(contained(
      c,
      "cat /in-the-image; df -k /dev/shm; echo \"rank $RANK of $WORLD_SIZE $CUDA_VISIBLE_DEVICES.\"; "
      "cat $TUTTI_SIM_DEVICES > /dev/null && echo device"));
  c.await_state(id, "succeeded");
  for (const int rank : {0, 1}) {
    const auto log = c.log_of(id, 1, rank);
    EXPECT_NE(log.find("made on the spot"), std::string::npos) << log;
    EXPECT_NE(log.find(" 65536 "), std::string::npos) << log;
    EXPECT_NE(log.find("rank " + std::to_string(rank) + " of 2 0."), std::string::npos) << log;
    EXPECT_NE(log.find("\ndevice"), std::string::npos) << log;
  }
  finish();
}

TEST_F(Containers, AnExitCodeIsTheJobs) {
  Cluster& c = start({.workers = 2});
  const auto id = c.submit(contained(c, "exit 9"));
  c.await_state(id, "failed");
  EXPECT_EQ(number_of(c.attempts(id).back(), "exit_code"), 9);
  finish();
}

TEST_F(Containers, WhatIsCancelledLeavesNothingAlive) {
  Cluster& c = start({.workers = 2});
  const auto id = c.submit(contained(c,
                                     "(trap '' TERM; while true; do sleep 1; done) & trap '' TERM; "
                                     "while true; do sleep 1; done"));
  c.await_running(id, 1);
  c.await_ranks(id, 1, 4, "sleep");  // two loops a rank, inside their containers
  const auto before = c.attempt_processes(id, 1);
  EXPECT_GE(before.size(), 8u);
  c.rest().post("/v1/jobs/" + std::to_string(id) + ":cancel");
  await_deaths(before, 30s);
  c.await_state(id, "cancelled");
  EXPECT_TRUE(c.attempt_processes(id, 1).empty());
  finish();
}

}  // namespace
}  // namespace tutti::e2e
