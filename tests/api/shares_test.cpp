// /v1/queues, /v1/projects, /v1/reservations; arrays and dependencies by REST.
#include "api_rig.h"

namespace tutti::testing {
namespace {

namespace json = boost::json;

TEST(Shares, AreCreatedShownChangedAndRemoved) {
  ApiRig rig;
  rig.backend.add_node("n1", 8);
  const auto made = rig.put("/v1/queues/a", R"({"nodes_of":"default","quota_gpus":16})");
  ASSERT_EQ(made.status(), 200) << made.body();
  EXPECT_EQ(made.body().at("quota_gpus"), 16);
  EXPECT_EQ(made.body().at("borrow_gpus"), nullptr);
  EXPECT_EQ(made.body().at("warnings").at(0),
            "quotas on the nodes of 'default' add up to 16 GPUs; there are 8");
  EXPECT_EQ(rig.get("/v1/queues").body().at("queues").as_array().size(), 2u);
  rig.submit(R"({"name":"x","run":"x","queue":"a","resources":{"gpus":4}})");
  EXPECT_EQ(rig.get("/v1/queues/a").body().at("use").at("gpus"), 4);
  EXPECT_EQ(rig.del("/v1/queues/a").status(), 409) << "a job uses it";
  EXPECT_EQ(rig.put("/v1/projects/nlp", R"({"weight":2.5,"max_gpus":64})").status(), 200);
  EXPECT_EQ(rig.get("/v1/projects/nlp").body().at("weight"), 2.5);
  EXPECT_EQ(rig.del("/v1/projects/nlp").status(), 200);
  EXPECT_EQ(rig.get("/v1/projects/nlp").status(), 404);
  EXPECT_EQ(rig.del("/v1/projects/nlp").status(), 404);
}

TEST(Shares, ReservationsTakeTimesAsPeopleWriteThem) {
  ApiRig rig;
  rig.backend.add_node("n1", 8);
  const auto made = rig.put("/v1/reservations/fix", R"({"nodes":["n1"],"until":"+2h","reason":"new fan"})");
  ASSERT_EQ(made.status(), 200) << made.body();
  EXPECT_EQ(rig.get("/v1/reservations").body().at("reservations").at(0).at("reason"), "new fan");
  rig.submit(R"({"name":"x","run":"x","resources":{"gpus":4}})");
  EXPECT_EQ(rig.get("/v1/jobs/1").body().at("state"), "queued") << "maintenance";
  EXPECT_EQ(rig.del("/v1/reservations/fix").status(), 200);
}

TEST(Shares, NonsenseIsRefusedWithItsField) {
  ApiRig rig;
  const auto field = [](const Call& call) { return call.body().at("errors").at(0).at("field"); };
  for (const auto& [path, body, name] :
       {std::tuple{"/v1/queues/a", R"({"quota":1})", "quota"},
        std::tuple{"/v1/queues/a", R"({"quota_gpus":-4})", "quota_gpus"},
        std::tuple{"/v1/projects/a", R"({"weight":"much"})", "weight"},
        std::tuple{"/v1/reservations/a", R"({"until":"tomorrow"})", "until"}}) {
    const auto call = rig.put(path, body);
    EXPECT_EQ(call.status(), 422) << body;
    EXPECT_EQ(field(call), name);
  }
  EXPECT_EQ(rig.put("/v1/queues/a", "{").status(), 400);
  rig.backend.be_unready();
  EXPECT_EQ(rig.put("/v1/queues/a", "{}").status(), 503);
}

TEST(Arrays, BecomeOneJobForEachTask) {
  ApiRig rig;
  rig.backend.add_node("n1", 8);
  const std::string spec = R"({"name":"a","run":"x","array":{"range":"0-4","max_parallel":2}})";
  const auto made = rig.post("/v1/jobs", spec, {{"Idempotency-Key", "k"}});
  ASSERT_EQ(made.status(), 201) << made.body();
  EXPECT_EQ(made.body().at("id"), 1);
  EXPECT_EQ(made.body().at("spec").at("array").at("tasks"), 5);
  EXPECT_EQ(rig.get("/v1/jobs").body().at("jobs").as_array().size(), 5u);
  EXPECT_EQ(rig.get("/v1/jobs/5").body().at("spec").at("env").at("ARRAY_INDEX"), "4");
  EXPECT_EQ(rig.get("/v1/jobs/5").body().at("state"), "blocked");
  const auto again = rig.post("/v1/jobs", spec, {{"Idempotency-Key", "k"}});
  EXPECT_EQ(again.body(), made.body());
  EXPECT_EQ(rig.get("/v1/jobs").body().at("jobs").as_array().size(), 5u);
}

TEST(Dependencies, KnowJobsThatAreOverFromTheirRows) {
  ApiRig rig;
  rig.backend.add_node("n1", 8);
  const auto first = rig.submit(R"({"name":"first","run":"x"})");
  rig.backend.end_attempt(rig.backend.run_job(first), true);
  const auto after = rig.post("/v1/jobs", R"({"name":"after","run":"x","depends_on":[1]})");
  ASSERT_EQ(after.status(), 201) << after.body();
  EXPECT_EQ(rig.get("/v1/jobs/2").body().at("state"), "starting");
  const auto never =
      rig.post("/v1/jobs", R"({"name":"never","run":"x","depends_on":[{"job":1,"when":"failed"}]})");
  EXPECT_EQ(never.status(), 422);
  EXPECT_EQ(rig.post("/v1/jobs", R"({"name":"no","run":"x","depends_on":[99]})").status(), 422);
}

TEST(Submit, WhatCanNeverStartHereIsToldAtOnce) {
  ApiRig rig;
  rig.backend.add_node("n1", 8);
  const auto made = rig.post("/v1/jobs", R"({"name":"a","run":"x","resources":{"gpus":16}})");
  EXPECT_EQ(made.status(), 201) << "nodes may join later";
  EXPECT_NE(made.header("Tutti-Warning").find("the largest has 8"), std::string::npos);
}

}  // namespace
}  // namespace tutti::testing
