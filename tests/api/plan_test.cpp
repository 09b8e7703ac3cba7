// GET /v1/plan: what runs until when, and what is expected to start where.
#include <algorithm>

#include "api/wire/text_values.h"
#include "api_rig.h"

namespace tutti::testing {
namespace {

namespace json = boost::json;

std::string spec(const std::string& name, int gpus, const std::string& more = "") {
  return R"({"name":")" + name + R"(","run":"x","resources":{"gpus":)" + std::to_string(gpus) + "}" + more +
         "}";
}

Instant at(const json::value& bar, std::string_view field) {
  return wire::parse_instant(bar.at(field).as_string()).value();
}

TEST(Plan, ShowsWhatRunsAndWhatWillStartWhere) {
  ApiRig rig;
  rig.backend.add_node("n1", 8);
  const auto first = rig.submit(spec("llama", 8, R"(,"time_limit":"2h")"));
  rig.backend.run_job(first);
  rig.submit(spec("sweep", 8));
  rig.submit(spec("never", 16));
  rig.backend.tick(1s);
  const auto plan = rig.get("/v1/plan").body();
  EXPECT_EQ(plan.at("cut"), false);
  EXPECT_EQ(at(plan, "until"), at(plan, "at") + 6h);
  ASSERT_EQ(plan.at("running").as_array().size(), 1u);
  const auto& running = plan.at("running").at(0);
  EXPECT_EQ(running.at("job_id"), first.value);
  EXPECT_EQ(running.at("name"), "llama");
  EXPECT_EQ(running.at("nodes"), json::parse(R"([{"node":"n1","gpus":[0,1,2,3,4,5,6,7]}])"));
  EXPECT_LE(at(running, "started_at"), at(plan, "at"));
  EXPECT_GT(at(running, "ends_at"), at(plan, "at"));
  EXPECT_LE(at(running, "ends_at"), at(running, "ends_latest_at"));
  ASSERT_EQ(plan.at("planned").as_array().size(), 1u) << "what can never start is not planned";
  const auto& planned = plan.at("planned").at(0);
  EXPECT_EQ(planned.at("job_id"), 2);
  EXPECT_EQ(planned.at("nodes"), json::parse(R"([{"node":"n1","count":8}])"));
  EXPECT_EQ(planned.at("gpus"), 8);
  EXPECT_EQ(planned.at("backfill"), false);
  EXPECT_GE(at(planned, "starts_at"), at(running, "ends_at"));
  EXPECT_GT(at(planned, "ends_at"), at(planned, "starts_at"));
  const auto queue = rig.get("/v1/queue").body();
  for (const auto& job : queue.at("jobs").as_array())
    if (job.at("id") == 2) EXPECT_EQ(job.at("eta").at("at"), planned.at("starts_at"));
  EXPECT_EQ(rig.get("/v1/plan?horizon=1m").body().at("planned").as_array().size(), 0u);
  EXPECT_EQ(rig.get("/v1/plan?queue=other").body().at("running").as_array().size(), 0u);
}

TEST(Plan, AJobWithoutALimitHasNoLatestEnd) {
  ApiRig rig;
  rig.backend.add_node("n1", 2);
  rig.backend.run_job(rig.submit(spec("a", 1)));
  EXPECT_EQ(rig.get("/v1/plan").body().at("running").at(0).at("ends_latest_at"), nullptr);
}

TEST(Plan, SaysWhoPassesOthersThatComeBefore) {
  ApiRig rig;
  rig.backend.add_node("n1", 8);
  for (const auto* limit : {"4h", "10m"})
    rig.backend.run_job(rig.submit(spec("runs", 4, R"(,"time_limit":")" + std::string(limit) + "\"")));
  rig.submit(spec("large", 8));
  rig.submit(spec("small", 4, R"(,"time_limit":"20m")"));
  rig.submit(spec("small", 4, R"(,"time_limit":"30m")"));
  rig.backend.tick(1s);
  std::map<std::int64_t, json::value> planned;
  const auto plan = rig.get("/v1/plan?horizon=48h").body();
  for (const auto& bar : plan.at("planned").as_array()) planned[bar.at("job_id").as_int64()] = bar;
  std::optional<Instant> latest;
  const auto queue = rig.get("/v1/queue").body();
  for (const auto& job : queue.at("jobs").as_array()) {
    const auto found = planned.find(job.at("id").as_int64());
    if (found == planned.end()) continue;
    const auto start = at(found->second, "starts_at");
    EXPECT_EQ(found->second.at("backfill"), latest && start < *latest);
    latest = std::max(latest.value_or(start), start);
  }
}

TEST(Plan, HidesWhoseTheBarsAre) {
  ApiRig rig;
  rig.backend.add_project("nlp");
  rig.backend.add_project("vision");
  rig.backend.add_node("n1", 8);
  rig.backend.run_job(rig.submit(R"({"name":"hush","run":"x","project":"vision","resources":{"gpus":8}})"));
  rig.submit(R"({"name":"hush-too","run":"x","project":"vision","resources":{"gpus":8}})");
  rig.submit(R"({"name":"mine","run":"x","project":"nlp","resources":{"gpus":8}})");
  rig.backend.tick(1s);
  const auto answer = rig.get("/v1/plan?horizon=48h", rig.user("ada", {{"nlp", Role::member}}));
  EXPECT_EQ(answer.response->body.find("hush"), std::string::npos);
  const auto plan = answer.body();
  EXPECT_EQ(plan.at("running").at(0).at("job_id"), nullptr);
  EXPECT_EQ(plan.at("running").at(0).at("name"), "");
  EXPECT_EQ(plan.at("running").at(0).at("project"), "");
  EXPECT_EQ(plan.at("running").at(0).at("nodes").at(0).at("node"), "n1") << "the bar is there";
  int shown = 0;
  for (const auto& bar : plan.at("planned").as_array())
    if (bar.at("job_id").is_int64()) {
      EXPECT_EQ(bar.at("name"), "mine");
      ++shown;
    }
  EXPECT_EQ(shown, 1);
  EXPECT_EQ(plan.at("planned").as_array().size(), 2u);
}

TEST(Plan, IsCutAtALimit) {
  ApiRig rig;
  rig.backend.add_node("n1", 4);
  for (int i = 0; i < 4; ++i) rig.backend.run_job(rig.submit(spec("a", 1)));
  const auto plan = rig.get("/v1/plan?limit=2").body();
  EXPECT_EQ(plan.at("running").as_array().size(), 2u);
  EXPECT_EQ(plan.at("cut"), true);
  EXPECT_EQ(rig.get("/v1/plan?limit=4").body().at("cut"), false);
}

TEST(Plan, ShowsReservationsWithinItsHorizon) {
  ApiRig rig;
  rig.backend.add_node("n1", 4);
  ASSERT_EQ(
      rig.put("/v1/reservations/maint", R"({"reason":"fans","nodes":["n1"],"from":"+2h","until":"+3h"})")
          .status(),
      200);
  const auto windows = rig.get("/v1/plan").body().at("reservations").as_array();
  ASSERT_EQ(windows.size(), 1u);
  EXPECT_EQ(windows[0].at("name"), "maint");
  EXPECT_EQ(windows[0].at("nodes"), json::parse(R"(["n1"])"));
  EXPECT_TRUE(rig.get("/v1/plan?horizon=1h").body().at("reservations").as_array().empty());
}

TEST(Plan, RefusesWhatItDoesNotKnow) {
  ApiRig rig;
  for (const auto* query : {"horizon=49h", "horizon=0s", "horizon=x", "limit=0", "limit=x", "sort=id"})
    EXPECT_EQ(rig.get("/v1/plan?" + std::string(query)).status(), 422) << query;
  rig.backend.be_unready();
  EXPECT_EQ(rig.get("/v1/plan").status(), 503);
}

}  // namespace
}  // namespace tutti::testing
