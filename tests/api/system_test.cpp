// Health, metrics, the cluster in numbers.
#include "api_rig.h"

namespace tutti::testing {
namespace {

TEST(System, HealthAndReadiness) {
  ApiRig rig;
  EXPECT_EQ(rig.get("/healthz").status(), 200);
  EXPECT_EQ(rig.get("/livez").status(), 200);
  EXPECT_EQ(rig.get("/readyz").body().at("term"), 1);
  rig.backend.be_unready();
  EXPECT_EQ(rig.get("/livez").status(), 200) << "recovering is not dead";
  const auto unready = rig.get("/readyz");
  EXPECT_EQ(unready.status(), 503);
  EXPECT_NE(unready.response->body.find("recovering"), std::string::npos);
}

TEST(System, ReadinessSaysWhatIsNotAsItShouldBe) {
  ApiRig rig;
  EXPECT_EQ(rig.get("/readyz").body().at("status"), "ok");
  rig.backend.reasons = {"slow_commits", "inbox_full"};
  const auto ready = rig.get("/readyz");
  EXPECT_EQ(ready.status(), 200) << "it works; another scheduler would only hand requests to this one";
  EXPECT_EQ(ready.body().at("status"), "degraded");
  EXPECT_EQ(ready.body().at("reasons"), boost::json::parse(R"(["slow_commits","inbox_full"])"));
  EXPECT_EQ(rig.get("/v1/control-plane").body().at("reasons"), ready.body().at("reasons"));
}

// Names of hosts and addresses inside the cluster are not everybody's business.
TEST(System, WhomItDoesNotKnowIsToldItsRoleAndNoMore) {
  ApiRig rig;
  const http::Headers nobody{{"Authorization", "Bearer wrong"}};
  const auto ready = rig.get("/readyz", nobody).body().as_object();
  EXPECT_EQ(ready.at("role"), "leader");
  for (const char* secret : {"leader", "leader_url", "detail", "term"}) EXPECT_FALSE(ready.contains(secret));
  rig.backend.be_unready();
  rig.backend.reasons = {"store_unavailable"};
  const auto unready = rig.get("/readyz", nobody);
  EXPECT_EQ(unready.status(), 503);
  EXPECT_EQ(unready.header("Retry-After"), "1");
  EXPECT_NE(unready.response->body.find("store_unavailable"), std::string::npos);
  EXPECT_EQ(unready.response->body.find("recovering"), std::string::npos);
}

// Back-pressure: what the leader refuses because it is busy, and what it does not know the end of.
TEST(System, WhatTheStoreDoesNotTakeIsSaidSo) {
  ApiRig rig;
  const std::string job = R"({"name":"a","run":"true"})", batch = R"({"jobs":[)" + job + "," + job + "]}";
  rig.backend.refuse_writes = Error{.code = Errc::unavailable,
                                    .message = "the scheduler is busy: its inbox is full",
                                    .hint = "",
                                    .field = ""};
  for (const auto& refused : {rig.post("/v1/jobs", job), rig.post("/v1/jobs:batch", batch)}) {
    EXPECT_EQ(refused.status(), 503);
    EXPECT_EQ(refused.header("Retry-After"), "1");
  }
  rig.backend.refuse_writes =
      Error{.code = Errc::in_doubt, .message = "nobody knows", .hint = "look", .field = ""};
  for (const auto& doubtful : {rig.post("/v1/jobs", job), rig.post("/v1/jobs:batch", batch)}) {
    EXPECT_EQ(doubtful.status(), 504);
    EXPECT_EQ(doubtful.header("Retry-After"), "") << "to repeat it without a key may do it twice";
    EXPECT_EQ(doubtful.body().at("code"), "in_doubt");
  }
}

TEST(System, Metrics) {
  ApiRig rig;
  const auto metrics = rig.get("/metrics");
  EXPECT_EQ(metrics.response->body, "tutti_test 1\n");
  EXPECT_TRUE(metrics.header("Content-Type").starts_with("text/plain; version=0.0.4"));
}

TEST(System, ClusterInNumbers) {
  ApiRig rig;
  rig.backend.add_node("n1", 8);
  rig.submit(R"({"name":"a","run":"x","resources":{"gpus":3}})");
  rig.submit(R"({"name":"b","run":"x","resources":{"gpus":8}})");
  const auto cluster = rig.get("/v1/cluster").body();
  EXPECT_EQ(cluster.at("nodes"), 1);
  EXPECT_EQ(cluster.at("gpus"),
            boost::json::parse(R"({"total":8,"free":5,"allocated":3,"quarantined":0,"dirty":0})"));
  EXPECT_EQ(cluster.at("jobs").at("starting"), 1);
  EXPECT_EQ(cluster.at("jobs").at("queued"), 1);
  EXPECT_EQ(cluster.at("lease_seconds"), 6.0);
  EXPECT_EQ(cluster.at("kill_margin_seconds"), 1.5);
  EXPECT_EQ(cluster.at("policy"), "fair");
  EXPECT_EQ(cluster.at("simulated_gpus"), true);
  EXPECT_EQ(cluster.at("leader"), "test");

  // Rows are counted at most every two seconds.
  rig.submit();
  rig.backend.break_reads(true);
  EXPECT_EQ(rig.get("/v1/cluster").body().at("jobs").at("queued"), 1);
  rig.backend.tick(3s);
  EXPECT_EQ(rig.get("/v1/cluster").status(), 503);
  rig.backend.break_reads(false);
  EXPECT_EQ(rig.get("/v1/cluster").body().at("jobs").at("starting"), 2);
  rig.backend.be_unready();
  EXPECT_EQ(rig.get("/v1/cluster").status(), 503);
}

TEST(System, TheControlPlaneInNumbers) {
  ApiRig rig;
  rig.backend.add_node("n1", 1);
  rig.backend.add_node("n2", 1);
  rig.backend.tick(5s);
  const auto plane = rig.get("/v1/control-plane").body();
  EXPECT_EQ(plane.at("leader"), "test");
  EXPECT_EQ(plane.at("term"), 1);
  EXPECT_EQ(plane.at("ready"), true);
  EXPECT_EQ(plane.at("role"), "leader");
  EXPECT_TRUE(plane.at("leader_url").is_string());
  EXPECT_EQ(plane.at("inbox"), boost::json::parse(R"({"depth":0,"limit":100})"));
  EXPECT_EQ(plane.at("workers"), boost::json::parse(R"([{"version":"test","nodes":2}])"));
  EXPECT_GE(plane.at("uptime_seconds").to_number<double>(), 5.0);
  EXPECT_LT(plane.at("uptime_seconds").to_number<double>(), 6.0);
  rig.backend.be_unready();
  const auto recovering = rig.get("/v1/control-plane").body();
  EXPECT_EQ(recovering.at("ready"), false) << "that is when an admin looks here";
  EXPECT_TRUE(recovering.at("workers").as_array().empty());
  rig.backend.recover();
  rig.backend.break_reads(true);
  const auto away = rig.get("/v1/control-plane");
  ASSERT_EQ(away.status(), 200) << "as well as when the store is away";
  EXPECT_EQ(away.body().at("ready"), false);
  EXPECT_EQ(away.body().at("detail"), "the store cannot be read");
  EXPECT_TRUE(away.body().at("since").is_null());
  EXPECT_FALSE(away.body().at("workers").as_array().empty());
}

}  // namespace
}  // namespace tutti::testing
