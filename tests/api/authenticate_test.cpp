// Who may ask, and in whose name.
#include "api_rig.h"

namespace tutti::testing {
namespace {

std::optional<int> refused(const http::Headers& headers, std::string path = "/v1/jobs") {
  auto request = http::Request::make(http::Method::get, std::move(path), {}, headers);
  const auto answer = authenticate("secret")(request);
  if (!answer) return std::nullopt;
  EXPECT_EQ(*http::find_header(answer->headers, "Tutti-API-Version"), "v1");
  return answer->status;
}

TEST(Authenticate, NeedsTheToken) {
  EXPECT_EQ(refused({}), 401);
  EXPECT_EQ(refused({{"Authorization", "Bearer secret"}}), std::nullopt);
  EXPECT_EQ(refused({{"authorization", "bearer secret"}}), std::nullopt) << "schemes know no case";
  for (const auto wrong : {"Bearer Secret", "Bearer secre", "Bearer secrets", "Bearer ", "Bearer",
                           "Basic secret", "secret", "Bearer secretsecret", ""})
    EXPECT_EQ(refused({{"Authorization", wrong}}), 401) << wrong;
}

TEST(Authenticate, AnEmptyTokenOpensNothing) {
  auto request = http::Request::make(http::Method::get, "/v1/jobs", {}, {{"Authorization", "Bearer "}});
  EXPECT_TRUE(authenticate("")(request));
}

TEST(Authenticate, HealthAndDescriptionAreOpen) {
  for (const auto path : {"/healthz", "/livez", "/readyz", "/openapi.json"})
    EXPECT_EQ(refused({}, path), std::nullopt);
  for (const auto path : {"/metrics", "/v1/worker", "/v1/cluster", "/healthz/", "/nowhere"})
    EXPECT_EQ(refused({}, path), 401);
}

TEST(Authenticate, TheHolderSpeaksForUsers) {
  auto request = http::Request::make(http::Method::get, "/v1/jobs", {}, {{"Authorization", "Bearer secret"}});
  ASSERT_FALSE(authenticate("secret")(request));
  EXPECT_EQ(std::any_cast<Identity>(request.identity).owner, "admin");
  request.headers.push_back({"Tutti-User", "ada"});
  ASSERT_FALSE(authenticate("secret")(request));
  EXPECT_EQ(std::any_cast<Identity>(request.identity).owner, "ada");
  EXPECT_EQ(std::any_cast<Identity>(request.identity).name, "admin");
  for (const auto& wrong : {std::string(), std::string(129, 'x'), std::string("a\nb"), std::string("\xff")})
    EXPECT_EQ(refused({{"Authorization", "Bearer secret"}, {"Tutti-User", wrong}}), 422);
}

TEST(Authenticate, EveryRouteButTheOpenOnesIsRefusedWithoutAToken) {
  ApiRig rig;
  for (const auto& route : rig.router.routes()) {
    auto request = http::Request::make(route.method, route.pattern);
    const bool open = route.name.starts_with("health.") || route.name == "openapi.get";
    EXPECT_EQ(rig.before(request).has_value(), !open) << route.pattern;
  }
}

}  // namespace
}  // namespace tutti::testing
