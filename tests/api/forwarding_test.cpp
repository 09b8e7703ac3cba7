// A standby: which requests it answers, which go to the leader, and with what (docs/design/0016-replicas.md).
#include "api/handlers/forwarding.h"

#include <algorithm>

#include "api_rig.h"

namespace tutti::testing {
namespace {

struct FakeLeader final : Forwarding {
  bool away = true;
  std::vector<http::Request> asked;

  bool standing_by() const override { return away; }
  void forward(http::Request request, http::Responder responder) override {
    asked.push_back(std::move(request));
    responder.respond(http::problem(503, "no_leader", "a test"));
  }
};

struct Standby : ::testing::Test {
  FakeLeader leader;
  ApiRig rig{[this](TestBackend&) {
    Services services;
    services.forwarding = &leader;
    return services;
  }};

  // What the leader answers is its business: it is not held against openapi.json here.
  bool is_forwarded(http::Method method, const std::string& target, const std::string& body = {}) {
    const auto before = leader.asked.size();
    rig.start(method, target, body);
    return leader.asked.size() == before + 1;
  }
};

TEST_F(Standby, HandsOverWritesAndWhatOnlyTheLeaderKnows) {
  EXPECT_TRUE(is_forwarded(http::Method::post, "/v1/jobs", R"({"name":"a","run":"true"})"));
  EXPECT_EQ(leader.asked.back().body, R"({"name":"a","run":"true"})");
  EXPECT_TRUE(is_forwarded(http::Method::get, "/v1/nodes"));
  EXPECT_TRUE(is_forwarded(http::Method::get, "/v1/queue"));
  EXPECT_TRUE(is_forwarded(http::Method::get, "/v1/plan"));
  EXPECT_TRUE(is_forwarded(http::Method::get, "/v1/jobs/1")) << "the leader judges who may see it";
  EXPECT_TRUE(is_forwarded(http::Method::get, "/v1/users")) << "read every few seconds: may be old here";
}

TEST_F(Standby, AnswersWhatIsReadFromRows) {
  EXPECT_EQ(rig.get("/v1/jobs:count").status(), 200);
  EXPECT_EQ(rig.get("/v1/audit").status(), 200);
  EXPECT_EQ(rig.get("/healthz").status(), 200);
  EXPECT_EQ(rig.get("/openapi.json").status(), 200);
  EXPECT_EQ(rig.get("/v1/control-plane").status(), 200);
  EXPECT_TRUE(leader.asked.empty());
}

TEST_F(Standby, ThatLeadsHandsOverNothing) {
  leader.away = false;
  EXPECT_EQ(rig.post("/v1/jobs", R"({"name":"a","run":"true"})").status(), 201);
  EXPECT_EQ(rig.get("/v1/nodes").status(), 200);
  EXPECT_TRUE(leader.asked.empty());
}

TEST_F(Standby, WhomItDoesNotKnowTheLeaderJudges) {
  const auto hook = judged_by_leader(authenticate(rig.accounts), leader);
  auto request =
      http::Request::make(http::Method::get, "/v1/jobs:count", {}, {{"Authorization", "Bearer just-made"}});
  EXPECT_FALSE(hook(request));
  EXPECT_TRUE(goes_to_leader(request, "jobs.count", true)) << "a token that was made a moment ago, perhaps";
  EXPECT_FALSE(goes_to_leader(request, "health.ready", false));
  leader.away = false;
  ASSERT_TRUE(hook(request));
  EXPECT_EQ(hook(request)->status, 401);
}

TEST_F(Standby, WorkersThatItDoesNotKnowAreRefused) {
  const auto hook = judged_by_leader(authenticate(rig.accounts), leader);
  auto request = http::Request::make(http::Method::get, std::string(kWorkerRoute));
  request.route = kWorkerRoute;
  ASSERT_TRUE(hook(request)) << "their connection is not handed over";
  EXPECT_EQ(hook(request)->status, 401);
}

TEST(StandbyHeaders, WhatBelongsToOneConnectionStays) {
  auto request = http::Request::make(http::Method::post, "/v1/jobs", {},
                                     {{"Host", "tutti.example"},
                                      {"Authorization", "Bearer x"},
                                      {"Cookie", "tutti_session=1"},
                                      {"Idempotency-Key", "k"},
                                      {"If-Match", "\"7\""},
                                      {"connection", "keep-alive"},
                                      {"Transfer-Encoding", "chunked"},
                                      {"Content-Length", "5"},
                                      {"Tutti-Forwarded", "1 x y"}});
  std::vector<std::string> names;
  for (const auto& header : headers_to_leader(request)) names.push_back(header.name);
  EXPECT_EQ(names,
            (std::vector<std::string>{"Host", "Authorization", "Cookie", "Idempotency-Key", "If-Match"}));
}

TEST(StandbyHeaders, OfTheAnswerTheLeadersLimitsCountOnlyWhenItRefuses) {
  const http::Headers answer{
      {"Content-Type", "application/json"}, {"ETag", "\"7\""},    {"Date", "today"},
      {"RateLimit", "\"principal\";r=1"},   {"Retry-After", "1"}, {"Set-Cookie", "a=b"}};
  const auto names = [&](int status) {
    std::vector<std::string> out;
    for (const auto& header : headers_from_leader(answer, status)) out.push_back(header.name);
    return out;
  };
  EXPECT_EQ(names(200), (std::vector<std::string>{"Content-Type", "ETag", "Retry-After", "Set-Cookie"}));
  EXPECT_EQ(names(429),
            (std::vector<std::string>{"Content-Type", "ETag", "RateLimit", "Retry-After", "Set-Cookie"}));
}

}  // namespace
}  // namespace tutti::testing
