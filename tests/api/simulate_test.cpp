// POST /v1/jobs:simulate and /v1/jobs/{id}:simulate. Every answer is checked against openapi.json by the rig.
#include <gtest/gtest.h>

#include "api_rig.h"

namespace tutti::testing {
namespace {

namespace json = boost::json;

const std::string kGang = R"({"name":"a","run":"x","nodes":2,"resources":{"gpus":8},"time_limit":"2h"})";

TEST(Simulate, SaysWhereAJobWouldStartAndWritesNothing) {
  ApiRig rig;
  rig.backend.add_node("n1", 8);
  rig.backend.add_node("n2", 8);
  const auto now = rig.post("/v1/jobs:simulate", kGang);
  ASSERT_EQ(now.status(), 200) << now.body();
  EXPECT_EQ(now.body().at("starts_now"), true);
  EXPECT_EQ(now.body().at("nodes"), json::parse(R"(["n1","n2"])"));
  EXPECT_EQ(now.body().at("job_id"), nullptr);
  EXPECT_TRUE(rig.get("/v1/jobs").body().at("jobs").as_array().empty());
}

TEST(Simulate, SaysWhatStandsInTheWayAndWhatWouldHelp) {
  ApiRig rig;
  rig.backend.add_node("n1", 8);
  rig.backend.add_node("n2", 8);
  rig.post("/v1/jobs", R"({"name":"small","run":"x","resources":{"gpus":1},"time_limit":"1h"})");
  const auto body = rig.post("/v1/jobs:simulate", kGang).body();
  EXPECT_EQ(body.at("starts_now"), false);
  ASSERT_EQ(body.at("blockers").as_array().size(), 1u);
  EXPECT_EQ(body.at("blockers").at(0).at("job_id"), 1);
  EXPECT_EQ(body.at("would_help").at(0), json::parse(R"({"field":"nodes","to":"1"})"));
  EXPECT_TRUE(body.at("eta").is_object());
}

TEST(Simulate, RefusesWhatSubmissionRefuses) {
  ApiRig rig;
  EXPECT_EQ(rig.post("/v1/jobs:simulate", R"({"name":"a"})").status(), 422);
  EXPECT_EQ(rig.post("/v1/jobs:simulate", "{").status(), 400);
  EXPECT_EQ(rig.post("/v1/jobs:simulate", R"({"name":"a","run":"x","queue":"defualt"})").status(), 422);
  rig.backend.be_unready();
  EXPECT_EQ(rig.post("/v1/jobs:simulate", kGang).status(), 503);
}

TEST(Simulate, AnswersForAChangeOfAQueuedJob) {
  ApiRig rig;
  rig.backend.add_node("n1", 8);
  rig.post("/v1/jobs", R"({"name":"runs","run":"x","resources":{"gpus":8},"time_limit":"1h"})");
  rig.post("/v1/jobs", R"({"name":"first","run":"x","resources":{"gpus":8},"time_limit":"1h"})");
  rig.post("/v1/jobs", R"({"name":"second","run":"x","resources":{"gpus":8},"time_limit":"1h"})");
  const auto higher = rig.post("/v1/jobs/second:simulate", R"({"priority":80})");
  ASSERT_EQ(higher.status(), 200) << higher.body();
  EXPECT_EQ(higher.body().at("position"), 0);
  EXPECT_EQ(higher.body().at("others").at(0).at("job_id"), 2);
  EXPECT_EQ(rig.post("/v1/jobs/1:simulate", R"({"priority":80})").status(), 409) << "it runs";
  EXPECT_EQ(rig.post("/v1/jobs/3:simulate", R"({"priority":101})").status(), 422);
  EXPECT_EQ(rig.post("/v1/jobs/3:simulate", R"({"priorty":80})").status(), 422);
  EXPECT_EQ(rig.post("/v1/jobs/3:simulate", "{}").status(), 422);
  EXPECT_EQ(rig.post("/v1/jobs/9:simulate", R"({"priority":80})").status(), 404);
}

TEST(Simulate, AnswersForAChangedQuota) {
  ApiRig rig;
  rig.backend.add_node("n1", 8);
  rig.put("/v1/queues/default", R"({"quota_gpus":4,"borrow_gpus":0})");
  rig.put("/v1/projects/lab", R"({"max_gpus":6})");
  rig.post("/v1/jobs", R"({"name":"runs","run":"x","resources":{"gpus":4},"time_limit":"1h"})");
  rig.post("/v1/jobs", R"({"name":"waits","run":"x","resources":{"gpus":4},"time_limit":"1h"})");
  EXPECT_EQ(rig.post("/v1/jobs/2:simulate", R"({"priority":60})").body().at("starts_now"), false);
  const auto more = rig.post("/v1/jobs/2:simulate", R"({"quota_gpus":8})");
  ASSERT_EQ(more.status(), 200) << more.body();
  EXPECT_EQ(more.body().at("starts_now"), true);
  EXPECT_EQ(rig.post("/v1/jobs/2:simulate", R"({"quota_gpus":8,"max_gpus":2})").body().at("starts_now"),
            false);
  EXPECT_EQ(rig.post("/v1/jobs/2:simulate", R"({"quota_gpus":-1})").status(), 422);
}

}  // namespace
}  // namespace tutti::testing
