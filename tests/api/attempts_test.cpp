// Attempts and checkpoints.
#include "api_rig.h"

namespace tutti::testing {
namespace {

TEST(Attempts, TellTheWholeStory) {
  ApiRig rig;
  const auto node = rig.backend.add_node("n1", 4);
  rig.backend.add_node("n2", 4);
  rig.submit(R"({"name":"a","run":"x","nodes":2,"resources":{"gpus":4},"checkpoint":{"dir":"/ckpt"},
                "retry":{"budget":{"user":1},"backoff":{"user":{"initial":0,"max":0}}}})");
  auto key = rig.backend.run_job(JobId(1));
  rig.backend.change([&](ControlPlane& plane, Now now) {
    plane.on_checkpoint(now, node,
                        protocol::CheckpointFound{.key = key,
                                                  .epoch_in_file = key.epoch.value,
                                                  .step = 100,
                                                  .path = "/ckpt/step-100",
                                                  .bytes = 5,
                                                  .shards = 8});
    plane.on_progress(
        now, node,
        protocol::Progress{.key = key, .step = 120, .total = 200, .eta_seconds = 1, .metrics = {}});
  });
  const auto live = rig.get("/v1/jobs/a/attempts").body().at("attempts").at(0);
  EXPECT_EQ(live.at("state"), "running");
  EXPECT_EQ(live.at("last_step"), 120);
  EXPECT_EQ(live.at("exit_code"), nullptr);
  EXPECT_EQ(live.at("result"), nullptr);
  EXPECT_EQ(live.at("gang").at(1).at("node"), "n2");
  EXPECT_EQ(live.at("gang").at(1).at("first_rank"), 4);
  EXPECT_EQ(live.at("gang").at(1).at("gpus").at(3).at("uuid"), "GPU-n2-3");

  rig.backend.end_attempt(key, false, 9);
  rig.backend.tick(1s);
  key = rig.backend.run_job(JobId(1));
  const auto body = rig.get("/v1/jobs/1/attempts").body();
  ASSERT_EQ(body.at("attempts").as_array().size(), 2u);
  const auto& first = body.at("attempts").at(0);
  EXPECT_EQ(first.at("number"), 1);
  EXPECT_EQ(first.at("state"), "ended");
  EXPECT_EQ(first.at("result"), "failed");
  EXPECT_EQ(first.at("cause"), "user");
  EXPECT_EQ(first.at("exit_code"), 9);
  EXPECT_EQ(first.at("gang").at(0).at("proof"), "cgroup");
  EXPECT_GT(first.at("stages").at("launch_seconds").as_double(), 0);
  EXPECT_GT(first.at("stages").at("fence_seconds").as_double(), 0);
  const auto& second = body.at("attempts").at(1);
  EXPECT_EQ(second.at("resume_step"), 100);
  EXPECT_EQ(second.at("stages").at("fence_seconds"), nullptr);

  const auto checkpoints = rig.get("/v1/jobs/1/checkpoints").body();
  ASSERT_EQ(checkpoints.at("checkpoints").as_array().size(), 1u);
  EXPECT_EQ(checkpoints.at("checkpoints").at(0).at("path"), "/ckpt/step-100");
  EXPECT_EQ(checkpoints.at("checkpoints").at(0).at("epoch"), 1);
}

TEST(Attempts, EvidenceIsKept) {
  ApiRig rig;
  const auto node = rig.backend.add_node("n1", 2);
  rig.submit(R"({"name":"a","run":"x","resources":{"gpus":1}})");
  rig.backend.run_job(JobId(1));
  rig.backend.change([&](ControlPlane& plane, Now now) {
    protocol::GpuFault fault;
    fault.uuid = "GPU-n1-0";
    fault.kind = "xid";
    fault.xid = 79;
    fault.detail = "off the bus";
    plane.on_gpu_fault(now, node, fault);
  });
  const auto attempt = rig.get("/v1/jobs/1/attempts").body().at("attempts").at(0);
  EXPECT_EQ(attempt.at("cause"), "gpu");
  EXPECT_EQ(attempt.at("state"), "stopping");
  EXPECT_TRUE(attempt.at("fault_at").is_string());
  EXPECT_TRUE(attempt.at("stages").at("detect_seconds").is_number());
  ASSERT_FALSE(attempt.at("evidence").as_array().empty());
  EXPECT_TRUE(attempt.at("evidence").at(0).is_object());
}

TEST(Attempts, NoneYetIsNotTheSameAsNoJob) {
  ApiRig rig;
  rig.submit();
  EXPECT_TRUE(rig.get("/v1/jobs/1/attempts").body().at("attempts").as_array().empty());
  EXPECT_TRUE(rig.get("/v1/jobs/1/checkpoints").body().at("checkpoints").as_array().empty());
  EXPECT_EQ(rig.get("/v1/jobs/2/attempts").status(), 404);
  EXPECT_EQ(rig.get("/v1/jobs/2/checkpoints").status(), 404);
  rig.backend.break_reads(true);
  EXPECT_EQ(rig.get("/v1/jobs/1/attempts").status(), 503);
  EXPECT_EQ(rig.get("/v1/jobs/1/checkpoints").status(), 503);
  rig.backend.break_reads(false);
  rig.backend.be_unready();
  EXPECT_EQ(rig.get("/v1/jobs/1/attempts").status(), 503);
}

}  // namespace
}  // namespace tutti::testing
