// Rate limits as HTTP says them, and submissions through the real endpoints.
#include "api/handlers/limits.h"

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <iterator>

#include "api_rig.h"

namespace tutti::testing {
namespace {

using http::Method;
using http::Request;

class LimitsTest : public ::testing::Test {
 protected:
  Limits make(const LimitSettings& settings) {
    return Limits(settings, [this] { return now_; });
  }
  static Request request(std::string path, std::string peer = "10.0.0.1:1000", std::string user = "alice") {
    auto r = Request::make(Method::get, std::move(path));
    r.peer = std::move(peer);
    Identity who;
    who.kind = Identity::Kind::user;
    who.name = std::move(user);
    r.identity = who;
    return r;
  }
  static std::string header(const http::Headers& headers, std::string_view name) {
    const auto* value = http::find_header(headers, name);
    return value == nullptr ? "" : *value;
  }

  Mono now_{1h};
};

TEST_F(LimitsTest, OnePrincipalTooOftenIsRefusedAndToldWhen) {
  LimitSettings settings;
  settings.principal_per_second = 2;
  settings.principal_burst = 3;
  auto limits = make(settings);
  const auto before = limits.around({});
  for (int i = 2; i >= 0; --i) {
    auto r = request("/v1/jobs");
    EXPECT_FALSE(before(r));
    EXPECT_EQ(header(r.answer_headers, "RateLimit-Policy"), "\"principal\";q=3;w=2");
    EXPECT_EQ(header(r.answer_headers, "RateLimit"), "\"principal\";r=" + std::to_string(i) + ";t=" +
                                                         std::to_string(i == 2   ? 1
                                                                        : i == 1 ? 1
                                                                                 : 2));
  }
  auto r = request("/v1/jobs");
  const auto refused = before(r);
  ASSERT_TRUE(refused);
  EXPECT_EQ(refused->status, 429);
  EXPECT_EQ(header(refused->headers, "Retry-After"), "1");
  EXPECT_EQ(header(refused->headers, "RateLimit"), "\"principal\";r=0;t=2");
  EXPECT_EQ(header(refused->headers, "Content-Type"), "application/problem+json");
  const auto body = boost::json::parse(refused->body);
  EXPECT_EQ(body.at("code"), "rate_limited");
  EXPECT_EQ(body.at("detail"), "too many requests from user alice");
  EXPECT_EQ(body.at("retry_after_seconds"), 1);
  auto other = request("/v1/jobs", "10.0.0.1:1000", "bob");
  EXPECT_FALSE(before(other));
  now_ += 500ms;
  auto again = request("/v1/jobs");
  EXPECT_FALSE(before(again));
}

TEST_F(LimitsTest, WhoIsRefusedByTheDoorIsNotCounted) {
  LimitSettings settings;
  settings.principal_per_second = settings.principal_burst = 1;
  auto limits = make(settings);
  bool open = false;
  const auto before = limits.around([&](Request&) -> std::optional<http::Response> {
    if (open) return std::nullopt;
    return http::problem(401, "unauthenticated", "no");
  });
  for (int i = 0; i < 5; ++i) {
    auto r = request("/v1/jobs");
    EXPECT_EQ(before(r)->status, 401);
  }
  open = true;
  auto r = request("/v1/jobs");
  EXPECT_FALSE(before(r));
}

TEST_F(LimitsTest, WhatIsMuchWorkCountsAsSeveralRequests) {
  LimitSettings settings;
  settings.principal_per_second = 10;
  settings.principal_burst = 22;
  auto limits = make(settings);
  ApiRig rig;
  limits.weigh(rig.router);
  const auto before = limits.around({});
  const auto ask = [&](Method method, std::string target) {
    auto r = request(std::move(target));
    r.method = method;
    EXPECT_NE(rig.router.match(r), nullptr) << r.target;
    auto refused = before(r);
    return std::pair(std::move(refused), header(r.answer_headers, "RateLimit"));
  };
  EXPECT_EQ(ask(Method::get, "/v1/jobs/7").second, "\"principal\";r=21;t=1");
  EXPECT_EQ(ask(Method::get, "/v1/jobs/7/explain").second, "\"principal\";r=16;t=1");
  EXPECT_EQ(ask(Method::head, "/v1/jobs/7/explain").second, "\"principal\";r=11;t=2");
  EXPECT_EQ(ask(Method::get, "/v1/jobs:count").second, "\"principal\";r=1;t=3");
  const auto refused = ask(Method::post, "/v1/jobs:simulate").first;
  ASSERT_TRUE(refused);
  EXPECT_EQ(refused->status, 429);
  EXPECT_EQ(header(refused->headers, "Retry-After"), "2") << "19 more at 10 a second";
  EXPECT_EQ(boost::json::parse(refused->body).at("hint"), "try again in 2 seconds; this one counts as 20");
  EXPECT_FALSE(ask(Method::get, "/v1/jobs/7").first) << "what was refused took nothing";
}

TEST_F(LimitsTest, ACostAboveTheBurstIsTheWholeBurst) {
  LimitSettings settings;
  settings.principal_per_second = 1;
  settings.principal_burst = 2;
  auto limits = make(settings);
  ApiRig rig;
  limits.weigh(rig.router);
  const auto before = limits.around({});
  auto first = request("/v1/plan"), second = request("/v1/plan");
  ASSERT_TRUE(rig.router.match(first) && rig.router.match(second));
  EXPECT_FALSE(before(first)) << "or it could never be asked";
  const auto refused = before(second);
  ASSERT_TRUE(refused);
  EXPECT_EQ(header(refused->headers, "Retry-After"), "2");
}

TEST_F(LimitsTest, SomeCountAsMoreWithAParameterOnly) {
  LimitSettings settings;
  settings.principal_per_second = 1;
  settings.principal_burst = 10;
  auto limits = make(settings);
  ApiRig rig;
  limits.weigh(rig.router);
  const auto before = limits.around({});
  const auto is_refused = [&](const std::string& target) {
    auto r = request(target);
    EXPECT_TRUE(rig.router.match(r)) << target;
    return before(r).has_value();
  };
  EXPECT_FALSE(is_refused("/v1/jobs"));
  EXPECT_TRUE(is_refused("/v1/jobs?q=zzz")) << "nine are left";
  EXPECT_FALSE(is_refused("/v1/jobs?q="));
}

TEST_F(LimitsTest, EveryOperationWithACostExistsAndIsInTheDocument) {
  ApiRig rig;
  const char* source = std::getenv("TUTTI_SOURCE");
  ASSERT_NE(source, nullptr);
  std::ifstream in(std::string(source) + "/docs/security.md");
  const std::string page{std::istreambuf_iterator<char>(in), {}};
  for (const auto& cost : request_costs()) {
    EXPECT_TRUE(std::ranges::any_of(rig.router.routes(),
                                    [&](const http::Route& route) { return route.name == cost.operation; }))
        << cost.operation;
    const auto with = cost.with.empty() ? "" : " with `" + std::string(cost.with) + "`";
    const auto row = "| `" + std::string(cost.operation) + "`" + with + " | " + std::to_string(cost.requests) + " |";
    EXPECT_NE(page.find(row), std::string::npos) << "docs/security.md lacks: " << row;
  }
}

TEST_F(LimitsTest, AddressesAreCountedWhoeverAsks) {
  LimitSettings settings;
  settings.address_per_second = settings.address_burst = 1;
  auto limits = make(settings);
  const auto arrive = limits.arrive();
  const auto status = [&](const std::string& peer, const std::string& path = "/v1/jobs") {
    auto r = request(path, peer);
    const auto refused = arrive(r);
    return refused ? refused->status : 0;
  };
  EXPECT_EQ(status("10.0.0.1:1"), 0);
  EXPECT_EQ(status("10.0.0.1:2"), 429) << "another port is the same address";
  EXPECT_EQ(status("10.0.0.2:1"), 0);
  EXPECT_EQ(status("[2001:db8:0:1:aaaa::1]:1"), 0);
  EXPECT_EQ(status("[2001:db8:0:1:bbbb::2]:1"), 429) << "one /64 is one address";
  EXPECT_EQ(status("[2001:db8:0:2:bbbb::2]:1"), 0);
  EXPECT_EQ(status("[::ffff:10.0.0.1]:1"), 429);
  for (const char* path : {"/healthz", "/livez", "/readyz", "/v1/worker"})
    EXPECT_EQ(status("10.0.0.1:1", path), 0);
}

TEST_F(LimitsTest, ZeroTurnsThemOff) {
  LimitSettings settings;
  settings.principal_per_second = settings.address_per_second = 0;
  settings.login_failures_user = settings.login_failures_address = 0;
  auto limits = make(settings);
  const auto before = limits.around({});
  const auto arrive = limits.arrive();
  for (int i = 0; i < 10'000; ++i) {
    auto r = request("/v1/jobs");
    ASSERT_FALSE(arrive(r));
    ASSERT_FALSE(before(r));
    ASSERT_TRUE(r.answer_headers.empty());
    limits.failed_login("10.0.0.1:1", "alice");
  }
  EXPECT_FALSE(limits.login_allowed("10.0.0.1:1", "alice"));
  EXPECT_FALSE(limits.submission("p", 1000).problem);
}

TEST_F(LimitsTest, FailedLoginsAreCountedByNameAndByAddress) {
  LimitSettings settings;
  settings.login_failures_user = 2;
  settings.login_failures_address = 3;
  settings.login_window = 60s;
  auto limits = make(settings);
  limits.failed_login("10.0.0.1:1", "alice");
  limits.failed_login("10.0.0.2:1", "alice");
  EXPECT_TRUE(limits.login_allowed("10.0.0.3:1", "alice")) << "from anywhere";
  EXPECT_FALSE(limits.login_allowed("10.0.0.1:1", "bob"));
  limits.failed_login("10.0.0.1:1", "bob");
  limits.failed_login("10.0.0.1:1", "carol");
  const auto refused = limits.login_allowed("10.0.0.1:77", "dave");
  ASSERT_TRUE(refused) << "this address has tried three names";
  EXPECT_EQ(refused->status, 429);
  EXPECT_EQ(header(refused->headers, "Retry-After"), "60");
  now_ += 60s;
  EXPECT_FALSE(limits.login_allowed("10.0.0.1:77", "dave"));
  limits.failed_login("10.0.0.9:1", "alice");
  limits.good_login("alice");
  limits.failed_login("10.0.0.9:1", "alice");
  EXPECT_FALSE(limits.login_allowed("10.0.0.8:1", "alice")) << "a good login wipes the slate";
}

class SubmissionLimit : public ::testing::Test {
 protected:
  SubmissionLimit() {
    rig_.backend.add_project("nlp");
    rig_.backend.add_project("vision");
  }
  static LimitSettings settings() {
    LimitSettings s;
    s.submissions_per_minute = 3;
    return s;
  }
  static std::string spec(const std::string& project) {
    return R"({"name":"a","run":"true","project":")" + project + "\"}";
  }
  Mono now_{1h};
  Limits limits_{settings(), [this] { return now_; }};
  ApiRig rig_{[this](TestBackend&) { return Services{.limits = &limits_}; }};
};

TEST_F(SubmissionLimit, OneProjectSubmitsSoManyAMinute) {
  for (int i = 0; i < 3; ++i) {
    const auto ok = rig_.post("/v1/jobs", spec("nlp"));
    EXPECT_EQ(ok.status(), 201);
    EXPECT_EQ(ok.header("RateLimit-Policy"), "\"submissions\";q=3;w=60");
  }
  const auto refused = rig_.post("/v1/jobs", spec("nlp"));
  EXPECT_EQ(refused.status(), 429);
  EXPECT_EQ(refused.header("Retry-After"), "20");
  EXPECT_EQ(rig_.post("/v1/jobs", spec("vision")).status(), 201);
  now_ += 20s;
  EXPECT_EQ(rig_.post("/v1/jobs", spec("nlp")).status(), 201);
}

TEST_F(SubmissionLimit, ABatchIsRefusedByProject) {
  const auto batch = [](std::initializer_list<std::string> specs) {
    std::string body;
    for (const auto& s : specs) body += (body.empty() ? "" : ",") + s;
    return R"({"jobs":[)" + body + "]}";
  };
  const auto nlp = spec("nlp"), vision = spec("vision");
  EXPECT_EQ(rig_.post("/v1/jobs:batch", batch({nlp, nlp})).status(), 200);
  const auto whole = rig_.post("/v1/jobs:batch", batch({nlp, nlp}));
  EXPECT_EQ(whole.status(), 429);
  EXPECT_EQ(whole.header("Retry-After"), "20");
  const auto part = rig_.post("/v1/jobs:batch", batch({nlp, vision, nlp}));
  ASSERT_EQ(part.status(), 200);
  const auto results = part.body().at("results").as_array();
  EXPECT_EQ(results[0].at("status"), 429);
  EXPECT_EQ(results[1].at("status"), 201);
  EXPECT_EQ(results[2].at("status"), 429);
  const auto never = rig_.post("/v1/jobs:batch", batch({nlp, nlp, nlp, nlp}));
  EXPECT_EQ(never.status(), 413) << "waiting would not help";
}

}  // namespace
}  // namespace tutti::testing
