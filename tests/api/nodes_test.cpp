// Nodes and GPUs.
#include "api_rig.h"

namespace tutti::testing {
namespace {

namespace json = boost::json;

TEST(Nodes, WithTheirGpusAndJobs) {
  ApiRig rig;
  const auto n1 = rig.backend.add_node("n1", 4);
  rig.backend.add_node("n2", 0);
  rig.submit(R"({"name":"a","run":"x","resources":{"gpus":2}})");
  rig.backend.change([&](ControlPlane& plane, Now now) {
    plane.on_gpu_fault(
        now, n1,
        protocol::GpuFault{
            .uuid = "GPU-n1-3", .kind = "xid", .xid = 79, .age_us = 0, .detail = "off the bus"});
  });
  const auto nodes = rig.get("/v1/nodes").body().at("nodes");
  ASSERT_EQ(nodes.as_array().size(), 2u);
  const auto& node = nodes.at(0);
  auto alone = rig.get("/v1/nodes/n1").body().as_object();
  EXPECT_EQ(alone.at("lemon").at("terms").at(0).at("shared_by"), 1) << "what it is blamed for";
  alone.erase("lemon");
  EXPECT_EQ(node, alone);
  EXPECT_EQ(node.at("linked"), true);
  EXPECT_EQ(node.at("simulated_gpus"), true);
  EXPECT_EQ(node.at("labels").at("rack"), "r1");
  EXPECT_EQ(node.at("jobs"), json::parse("[1]"));
  std::vector<std::string> states;
  for (const auto& gpu : node.at("gpus").as_array()) states.emplace_back(gpu.at("state").as_string());
  EXPECT_EQ(states, (std::vector<std::string>{"allocated", "allocated", "free", "quarantined"}));
  EXPECT_EQ(node.at("gpus").at(0).at("job_id"), 1);
  EXPECT_EQ(node.at("gpus").at(2).at("job_id"), nullptr);
  EXPECT_EQ(rig.get("/v1/nodes/n3").status(), 404);

  const auto gpus = rig.get("/v1/gpus").body().at("gpus").as_array();
  ASSERT_EQ(gpus.size(), 4u);
  EXPECT_EQ(gpus[3].at("node"), "n1");
  EXPECT_EQ(gpus[3].at("state"), "quarantined");
}

TEST(Nodes, AGpuThatIsGoneIsShownAsAbsent) {
  ApiRig rig;
  const auto n1 = rig.backend.add_node("n1", 2);
  rig.backend.change([&](ControlPlane& plane, Now now) {
    protocol::GpuInventory inventory;
    inventory.gpus.push_back({.uuid = "GPU-n1-0",
                              .index = 0,
                              .model = "NVIDIA H100 80GB HBM3",
                              .memory_bytes = 1,
                              .pci = "",
                              .island = 0,
                              .device_path = "",
                              .healthy = true,
                              .health_reason = ""});
    plane.on_gpu_inventory(now, n1, inventory);
  });
  const auto gpus = rig.get("/v1/nodes/n1").body().at("gpus").as_array();
  ASSERT_EQ(gpus.size(), 2u);
  EXPECT_EQ(gpus[1].at("uuid"), "GPU-n1-1");
  EXPECT_EQ(gpus[1].at("state"), "absent");
}

TEST(Nodes, SayWhatIsWrongWithThem) {
  ApiRig rig;
  const auto n1 = rig.backend.add_node("n1", 2);
  rig.backend.change([&](ControlPlane& plane, Now now) {
    protocol::NodeHealth health;
    health.conditions.push_back({"disk_full", "/tmp", "0 bytes are free", 0});
    plane.on_node_health(now, n1, health);
  });
  const auto conditions = rig.get("/v1/nodes/n1").body().at("conditions");
  ASSERT_EQ(conditions.as_array().size(), 1u);
  EXPECT_EQ(conditions.at(0).at("kind"), "disk_full");
  EXPECT_EQ(conditions.at(0).at("subject"), "/tmp");
  EXPECT_EQ(conditions.at(0).at("effect"), "close");
  rig.submit();
  EXPECT_EQ(rig.get("/v1/jobs/1").body().at("state"), "queued");
}

TEST(Nodes, AreInspectedOnDemand) {
  ApiRig rig;
  const auto n1 = rig.backend.add_node("n1", 2);
  auto none = rig.get("/v1/nodes/n1/inspection").body();
  EXPECT_EQ(none.at("at"), nullptr);
  EXPECT_EQ(none.at("passed"), false);
  const auto asked = rig.post("/v1/nodes/n1:inspect");
  ASSERT_EQ(asked.status(), 200);
  EXPECT_EQ(asked.body().at("under_way"), true);
  rig.backend.change([&](ControlPlane& plane, Now now) {
    protocol::InspectionReport report;
    report.request = plane.cluster().nodes.at(n1).inspection_asked;
    report.trigger = "person";
    report.checks.push_back({"disk /tmp", "host", "ok", "9 GiB free", 5'000'000, 20'000});
    report.checks.push_back({"gpu 0", "hardware", "failed", "Xid 79", 0, 0});
    plane.on_inspection(now, n1, report);
  });
  const auto report = rig.get("/v1/nodes/n1/inspection").body();
  EXPECT_EQ(report.at("under_way"), false);
  EXPECT_EQ(report.at("passed"), false);
  EXPECT_EQ(report.at("checks").at(0).at("took_seconds"), 0.02);
  EXPECT_EQ(report.at("checks").at(1).at("detail"), "Xid 79");
  EXPECT_EQ(rig.get("/v1/nodes/n9/inspection").status(), 404);
  EXPECT_EQ(rig.post("/v1/nodes/n9:inspect").status(), 404);
  rig.backend.be_unready();
  EXPECT_EQ(rig.get("/v1/nodes/n1/inspection").status(), 503);
  EXPECT_EQ(rig.post("/v1/nodes/n1:inspect").status(), 503);
}

TEST(Nodes, GoThroughRepairAndProbationAndCanBeReported) {
  ApiRig rig;
  rig.backend.add_node("n1", 4);
  const auto say = [&](const std::string& verb) {
    return rig.post("/v1/nodes/n1:" + verb, R"({"reason":"fan"})");
  };
  EXPECT_EQ(say("quarantine").body().at("service"), "quarantined");
  EXPECT_EQ(say("cordon").status(), 409) << "that would be a step back";
  EXPECT_EQ(say("repair").body().at("service"), "repair");
  const auto back = say("return").body();
  EXPECT_EQ(back.at("service"), "probation");
  EXPECT_FALSE(back.at("service_until").is_null());
  EXPECT_EQ(say("retire").body().at("service"), "retired");
  EXPECT_EQ(rig.post("/v1/nodes/n1:resume").body().at("service"), "schedulable");
  EXPECT_EQ(rig.post("/v1/nodes/n1:report").status(), 422) << "a report says why";
  const auto reported = say("report");
  EXPECT_EQ(reported.status(), 200);
  EXPECT_EQ(reported.body().at("lemon").at("terms").as_array().size(), 1U);
  EXPECT_EQ(rig.get("/v1/faults").body().at("faults").at(0).at("class"), "report");
}

TEST(Nodes, OneThatLivesIsNotGivenUp) {
  ApiRig rig;
  rig.backend.add_node("n1", 8);
  EXPECT_EQ(rig.post("/v1/nodes/n1:off").status(), 422) << "it says why";
  const auto lives = rig.post("/v1/nodes/n1:off", R"({"reason":"dark"})");
  EXPECT_EQ(lives.status(), 409);
  EXPECT_NE(lives.response->body.find("is connected"), std::string::npos);
  EXPECT_EQ(rig.post("/v1/nodes/n9:off", R"({"reason":"dark"})").status(), 404);
}

TEST(Nodes, DrainNeedsAReasonAndResumeDoesNot) {
  ApiRig rig;
  rig.backend.add_node("n1", 2);
  EXPECT_EQ(rig.post("/v1/nodes/n1:drain").status(), 422);
  EXPECT_EQ(rig.post("/v1/nodes/n1:drain", R"({"reason":" "})").status(), 422);
  EXPECT_EQ(rig.post("/v1/nodes/n1:drain", "{").status(), 400);
  EXPECT_EQ(rig.get("/v1/nodes/n1").body().at("service"), "schedulable");
  const auto drained = rig.post("/v1/nodes/n1:drain", R"({"reason":"new fans"})");
  ASSERT_EQ(drained.status(), 200);
  EXPECT_EQ(drained.body().at("service"), "draining");
  EXPECT_NE(drained.response->body.find("new fans"), std::string::npos);
  rig.submit();
  EXPECT_EQ(rig.get("/v1/jobs/1").body().at("state"), "queued");
  EXPECT_EQ(rig.post("/v1/nodes/n1:resume").body().at("service"), "schedulable");
  EXPECT_EQ(rig.get("/v1/jobs/1").body().at("state"), "starting");
  EXPECT_EQ(rig.post("/v1/nodes/n9:drain", R"({"reason":"x"})").status(), 404);
  EXPECT_EQ(rig.post("/v1/nodes/n9:resume").status(), 404);
}

TEST(Nodes, ADrainCanHaveAnEnd) {
  ApiRig rig;
  rig.backend.add_node("n1", 2);
  const auto field = [&](const std::string& verb, const std::string& body) {
    const auto answer = rig.post("/v1/nodes/n1:" + verb, body);
    EXPECT_EQ(answer.status(), 422) << body;
    return std::string(answer.body().at("errors").as_array()[0].at("field").as_string());
  };
  EXPECT_EQ(field("drain", R"({"reason":"x","until":"tomorrow"})"), "until");
  EXPECT_EQ(field("drain", R"({"reason":"x","until":7})"), "until");
  EXPECT_EQ(field("drain", R"({"reason":"x","until":"2000-01-01T00:00:00Z"})"), "until") << "it is over";
  EXPECT_EQ(field("quarantine", R"({"reason":"x","until":"+1h"})"), "until") << "that ends by a person only";
  EXPECT_EQ(rig.get("/v1/nodes/n1").body().at("service"), "schedulable");
  const auto drained = rig.post("/v1/nodes/n1:drain", R"({"reason":"fans","until":"+1h"})");
  ASSERT_EQ(drained.status(), 200);
  EXPECT_FALSE(drained.body().at("service_until").is_null());
  rig.backend.tick(59min);
  EXPECT_EQ(rig.get("/v1/nodes/n1").body().at("service"), "draining");
  rig.backend.tick(2min);
  EXPECT_EQ(rig.get("/v1/nodes/n1").body().at("service"), "schedulable");
  EXPECT_TRUE(rig.get("/v1/nodes/n1").body().at("service_until").is_null());
}

TEST(Nodes, UnknownWhileRecovering) {
  ApiRig rig;
  rig.backend.add_node("n1", 2);
  rig.backend.be_unready();
  for (const auto path : {"/v1/nodes", "/v1/nodes/n1", "/v1/gpus"})
    EXPECT_EQ(rig.get(path).status(), 503) << path;
  EXPECT_EQ(rig.post("/v1/nodes/n1:resume").status(), 503);
}

}  // namespace
}  // namespace tutti::testing
