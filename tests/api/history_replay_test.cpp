// POST /v1/history:replay: the planner over what has run.
#include "api/wire/text_values.h"
#include "api_rig.h"

namespace tutti::testing {
namespace {

class HistoryReplay : public ::testing::Test {
 protected:
  void run_two_jobs() {
    since_ = rig.backend.now().wall;
    rig.backend.add_node("n1", 8);
    rig.backend.add_node("n2", 8);
    for (int i = 0; i < 2; ++i) {
      const JobId id = rig.submit(R"({"name":"a","run":"x","time_limit":"1h","resources":{"gpus":8}})");
      const auto key = rig.backend.run_job(id);
      rig.backend.tick(10min);
      rig.backend.end_attempt(key, true);
    }
    rig.submit(R"({"name":"b","run":"x"})");
  }
  std::string question(const std::string& policies) const {
    return R"({"since":")" + wire::format_instant(since_) + R"(","until":")" +
           wire::format_instant(rig.backend.now().wall) + R"(","policies":)" + policies + "}";
  }
  ApiRig rig;
  Instant since_;
};

TEST_F(HistoryReplay, TheSameJobsUnderSeveralPolicies) {
  run_two_jobs();
  rig.backend.tick(1min);
  const auto call = rig.post("/v1/history:replay", question(R"(["fair","easy"])"));
  ASSERT_EQ(call.status(), 200) << call.response->body;
  const auto body = call.body();
  EXPECT_EQ(body.at("nodes"), 2);
  EXPECT_EQ(body.at("gpus_per_node"), 8);
  EXPECT_EQ(body.at("left_out"), 1) << "it is not finished, and asks for no GPU";
  ASSERT_EQ(body.at("results").as_array().size(), 2u);
  EXPECT_EQ(body.at("results").at(0).at("policy"), "fair");
  EXPECT_EQ(body.at("results").at(1).at("policy"), "easy");
  for (const auto& result : body.at("results").as_array()) {
    EXPECT_EQ(result.at("jobs"), 2);
    EXPECT_EQ(result.at("never"), 0);
    for (const auto wait : {"wait_mean_seconds", "wait_p50_seconds", "wait_p90_seconds", "wait_p99_seconds"})
      EXPECT_EQ(result.at(wait), 0.0) << wait << ": there was room for both";
    EXPECT_EQ(result.at("goodput"), 1.0);
  }
}

TEST_F(HistoryReplay, OfATimeWithoutJobs) {
  run_two_jobs();
  since_ = rig.backend.now().wall;
  rig.backend.tick(1min);
  const auto body = rig.post("/v1/history:replay", question(R"(["fifo"])")).body();
  EXPECT_EQ(body.at("results").at(0).at("jobs"), 0);
  EXPECT_TRUE(body.at("results").at(0).at("wait_p50_seconds").is_null());
}

TEST_F(HistoryReplay, OneAtATime) {
  run_two_jobs();
  int meanwhile = 0;
  rig.on_replay = [&] {
    rig.on_replay = nullptr;
    meanwhile = rig.post("/v1/history:replay", question(R"(["fair"])")).status();
  };
  EXPECT_EQ(rig.post("/v1/history:replay", question(R"(["fair"])")).status(), 200);
  EXPECT_EQ(meanwhile, 503);
  EXPECT_EQ(rig.post("/v1/history:replay", question(R"(["fair"])")).status(), 200) << "its turn is over";
  rig.history_broken = true;
  EXPECT_EQ(rig.post("/v1/history:replay", question(R"(["fair"])")).status(), 503);
  rig.history_broken = false;
  EXPECT_EQ(rig.post("/v1/history:replay", question(R"(["fair"])")).status(), 200);
}

TEST_F(HistoryReplay, ThatDiesIsNotAnswered) {
  run_two_jobs();
  rig.replay_dies = true;
  const auto call = rig.post("/v1/history:replay", question(R"(["fair"])"));
  EXPECT_EQ(call.status(), 503);
  EXPECT_NE(call.body().at("detail").as_string().find("signal 6"), std::string::npos);
  rig.replay_dies = false;
  EXPECT_EQ(rig.post("/v1/history:replay", question(R"(["fair"])")).status(), 200) << "its turn is over";
}

TEST_F(HistoryReplay, NamesWhatIsWrong) {
  run_two_jobs();
  const auto field = [&](const std::string& body) {
    const auto call = rig.post("/v1/history:replay", body);
    EXPECT_EQ(call.status(), 422) << body;
    return std::string(call.body().at("errors").at(0).at("field").as_string());
  };
  EXPECT_EQ(field(question(R"(["best"])")), "policies");
  EXPECT_EQ(field(question("[]")), "policies");
  EXPECT_EQ(field(question(R"(["fair","fair"])")), "policies");
  EXPECT_EQ(field(R"({"until":"2026-10-01T00:00:00Z","policies":["fair"]})"), "since");
  EXPECT_EQ(field(R"({"since":"x","until":"2026-10-01T00:00:00Z","policies":["fair"]})"), "since");
  EXPECT_EQ(field(R"({"since":"1990-01-01T00:00:00Z","until":"2026-10-01T00:00:00Z","policies":["fair"]})"),
            "since");
  EXPECT_EQ(field(R"({"speed":2})"), "speed");
  EXPECT_EQ(field("[]"), "body");
  EXPECT_EQ(rig.post("/v1/history:replay", "{").status(), 400);
}

TEST_F(HistoryReplay, NeedsGpus) {
  since_ = rig.backend.now().wall;
  rig.backend.add_node("n1", 0);
  rig.backend.tick(1min);
  EXPECT_EQ(rig.post("/v1/history:replay", question(R"(["fair"])")).status(), 409);
}

}  // namespace
}  // namespace tutti::testing
