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
  EXPECT_EQ(checkpoints.at("checkpoints").at(0).at("state"), "found");
  EXPECT_EQ(checkpoints.at("checkpoints").at(0).at("cost_seconds"), nullptr);
  EXPECT_EQ(checkpoints.at("advice").at("best_interval_seconds"), nullptr) << "no cost is known, no advice";
  EXPECT_GT(checkpoints.at("advice").at("mean_time_to_fault_seconds").as_double(), 24 * 3600);
  EXPECT_EQ(first.at("lost_steps"), 20) << "from its checkpoint to where it was";
  EXPECT_TRUE(first.at("lost_gpu_seconds").is_number());
  EXPECT_EQ(second.at("lost_steps"), nullptr) << "it runs";
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

TEST(Attempts, CheckpointsShowTheirStatesAndHowOftenToSave) {
  ApiRig rig;
  const auto node = rig.backend.add_node("n1", 2);
  rig.submit(
      R"({"name":"a","run":"x","resources":{"gpus":1},"checkpoint":{"dir":"/ckpt","keep":1,"max_interval":"2s"}})");
  const auto key = rig.backend.run_job(JobId(1));
  for (const std::int64_t step : {10, 20, 30}) {
    rig.backend.change([&](ControlPlane& plane, Now now) {
      protocol::CheckpointFound found;
      found.key = key;
      found.epoch_in_file = key.epoch.value;
      found.step = step;
      found.path = "/ckpt/step-" + std::to_string(step);
      found.bytes = 1000;
      found.cost_us = 2'000'000;
      plane.on_checkpoint(now, node, found);
      if (step == 20)
        plane.on_checkpoint_checked(
            now, node, {key, 1, 20, found.path, protocol::CheckpointVerdict::damaged, "shard-1 is missing"});
    });
    rig.backend.tick(1s);
  }
  const auto body = rig.get("/v1/jobs/1/checkpoints").body();
  const auto& list = body.at("checkpoints");
  ASSERT_EQ(list.as_array().size(), 3u);
  EXPECT_TRUE(list.at(0).at("retired_at").is_string()) << "keep: 1";
  EXPECT_EQ(list.at(1).at("state"), "bad");
  EXPECT_EQ(list.at(1).at("detail"), "shard-1 is missing");
  EXPECT_EQ(list.at(2).at("cost_seconds"), 2.0);
  EXPECT_EQ(body.at("bytes"), 3000);
  const auto& advice = body.at("advice");
  EXPECT_EQ(advice.at("cost_seconds"), 2.0);
  EXPECT_NEAR(advice.at("interval_seconds").as_double(), 1, 0.1);
  EXPECT_GT(advice.at("best_interval_seconds").as_double(), 60);
  EXPECT_EQ(advice.at("overdue"), false);
  EXPECT_NE(advice.at("text").as_string().find("more often than pays"), std::string::npos);
  rig.backend.tick(1500ms);
  EXPECT_EQ(rig.get("/v1/jobs/1/checkpoints").body().at("advice").at("overdue"), true);
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

TEST(Attempts, AndCheckpointsComeInPages) {
  ApiRig rig;
  const auto node = rig.backend.add_node("n1", 4);
  rig.submit(R"({"name":"a","run":"x","resources":{"gpus":4},"checkpoint":{"dir":"/ckpt"},
                "retry":{"budget":{"user":9},"no_progress_limit":0,"backoff":{"user":{"initial":0,"max":0}}}})");
  for (int i = 1; i <= 3; ++i) {
    const auto key = rig.backend.run_job(JobId(1));
    rig.backend.change([&](ControlPlane& plane, Now now) {
      plane.on_checkpoint(now, node,
                          protocol::CheckpointFound{.key = key,
                                                    .epoch_in_file = key.epoch.value,
                                                    .step = i,
                                                    .path = "/ckpt/" + std::to_string(i),
                                                    .bytes = 5});
    });
    rig.backend.end_attempt(key, false, 9);
    rig.backend.tick(1s);
  }
  const auto first = rig.get("/v1/jobs/1/attempts?page_size=2").body();
  ASSERT_EQ(first.at("attempts").as_array().size(), 2u);
  const std::string token(first.at("next_page_token").as_string());
  const auto rest = rig.get("/v1/jobs/1/attempts?page_size=2&page_token=" + token).body();
  EXPECT_EQ(rest.at("attempts").at(0).at("number"), 3);
  EXPECT_EQ(rest.at("next_page_token"), "");
  EXPECT_EQ(rest.at("goodput"), first.at("goodput")) << "of all attempts";
  const auto saved = rig.get("/v1/jobs/1/checkpoints?page_size=2&page_token=2").body();
  ASSERT_EQ(saved.at("checkpoints").as_array().size(), 1u);
  EXPECT_EQ(saved.at("checkpoints").at(0).at("step"), 3);
  EXPECT_EQ(saved.at("bytes"), 15) << "of all";
  EXPECT_EQ(rig.get("/v1/jobs/1/attempts?page_token=x").status(), 422);
}

}  // namespace
}  // namespace tutti::testing
