// Who may ask, by what, and in whose name.
#include "api/http/link.h"
#include "api_rig.h"

namespace tutti::testing {
namespace {

constexpr auto kOpen =
    std::to_array<std::string_view>({"/healthz", "/livez", "/readyz", "/openapi.json", "/docs",
                                     "/docs/{file}", "/v1/login", "/v1/nodes:join"});

class CuttableLink final : public http::Link {
 public:
  void start(std::function<void(std::string)>, std::function<void(std::string)>) override {}
  bool send(std::string) override { return !cut; }
  void abort() override { cut = true; }
  const std::string& peer() const override { return peer_; }
  bool cut = false;

 private:
  std::string peer_ = "10.0.0.7:1";
};

class Authenticate : public ::testing::Test {
 protected:
  std::optional<int> refused(const http::Headers& headers, std::string path = "/v1/jobs",
                             http::Method method = http::Method::get) {
    auto request = http::Request::make(method, std::move(path), {}, headers);
    const auto answer = rig.before(request);
    if (!answer) return std::nullopt;
    EXPECT_EQ(*http::find_header(answer->headers, "Tutti-API-Version"), "v1");
    return answer->status;
  }
  Identity identity(const http::Headers& headers, http::Method method = http::Method::get) {
    auto request = http::Request::make(method, "/v1/jobs", {}, headers);
    const auto answer = rig.before(request);
    EXPECT_FALSE(answer) << answer->body;
    return answer ? Identity{} : std::any_cast<Identity>(request.identity);
  }
  http::Headers session_of(const std::string& user) {
    const auto answer =
        rig.call(http::Method::post, "/v1/login", R"({"user":")" + user + R"(","password":"correct horse"})");
    EXPECT_EQ(answer.status(), 200) << answer.response->body;
    const auto cookie = answer.header("Set-Cookie");
    return {{"Cookie", "other=1; " + cookie.substr(0, cookie.find(';'))}};
  }

  ApiRig rig;
};

TEST_F(Authenticate, NeedsTheToken) {
  EXPECT_EQ(refused({}), 401);
  EXPECT_EQ(refused({{"Authorization", "Bearer secret"}}), std::nullopt);
  EXPECT_EQ(refused({{"authorization", "bearer secret"}}), std::nullopt) << "schemes know no case";
  for (const auto wrong : {"Bearer Secret", "Bearer secre", "Bearer secrets", "Bearer ", "Bearer",
                           "Basic secret", "secret", "Bearer secretsecret", ""})
    EXPECT_EQ(refused({{"Authorization", wrong}}), 401) << wrong;
}

TEST_F(Authenticate, AnEmptyTokenOpensNothing) {
  Accounts none(
      rig.account_store, [](const auto&, const auto&) {}, [](const auto&, const auto&) {}, {},
      [] { return Instant{}; });
  auto request = http::Request::make(http::Method::get, "/v1/jobs", {}, {{"Authorization", "Bearer "}});
  EXPECT_TRUE(authenticate(none)(request));
}

TEST_F(Authenticate, HealthAndDescriptionAreOpen) {
  for (const auto path : kOpen) EXPECT_EQ(refused({}, std::string(path)), std::nullopt) << path;
  for (const auto path : {"/metrics", "/v1/worker", "/v1/cluster", "/healthz/", "/nowhere"})
    EXPECT_EQ(refused({}, path), 401);
}

TEST_F(Authenticate, AnAdminSpeaksForUsers) {
  EXPECT_EQ(identity({{"Authorization", "Bearer secret"}}).owner, "admin");
  const auto ada = identity({{"Authorization", "Bearer secret"}, {"Tutti-User", "ada"}});
  EXPECT_EQ(ada.owner, "ada");
  EXPECT_EQ(ada.name, "admin");
  for (const auto& wrong : {std::string(), std::string(129, 'x'), std::string("a\nb"), std::string("\xff")})
    EXPECT_EQ(refused({{"Authorization", "Bearer secret"}, {"Tutti-User", wrong}}), 422);
}

TEST_F(Authenticate, NobodyElseSpeaksForOthers) {
  auto headers = rig.user("bob", {{"*", Role::operator_}});
  headers.push_back({"Tutti-User", "ada"});
  EXPECT_EQ(refused(headers), 403);
  headers.back().value = "bob";
  EXPECT_EQ(identity(headers).owner, "bob");
}

TEST_F(Authenticate, OpenRoutesAndTheirNeedsAgree) {
  for (const auto& route : rig.router.routes()) {
    auto request = http::Request::make(route.method, route.pattern);
    const bool open = std::ranges::find(kOpen, route.pattern) != kOpen.end();
    EXPECT_EQ(rig.before(request).has_value(), !open) << route.pattern;
    // The second lock: without any identity the door of every other route says 401.
    std::optional<http::Response> answer;
    rig.router.dispatch(http::Request::make(route.method, route.pattern),
                        http::Responder::to([&](http::Response r) { answer = std::move(r); }));
    ASSERT_TRUE(answer) << route.pattern;
    EXPECT_EQ(answer->status == 401 && answer->body.find("join token") == std::string::npos, !open)
        << route.pattern;
  }
}

TEST_F(Authenticate, ATokenIsKnownUntilItIsRevokedOrExpires) {
  const auto ada = rig.user("ada", {{"nlp", Role::member}});
  const auto who = identity(ada);
  EXPECT_EQ(who.name, "ada");
  EXPECT_EQ(who.in("nlp"), Role::member);
  EXPECT_EQ(who.in("vision"), Role::none);
  EXPECT_EQ(rig.accounts.tokens().at(who.token).last_used_at, rig.backend.now().wall);

  auto forged = ada;
  forged[0].value.back() = forged[0].value.back() == 'A' ? 'B' : 'A';
  EXPECT_EQ(refused(forged), 401) << "the right id with a wrong secret";

  rig.accounts.revoke_token(who.token, [](const auto& done) { EXPECT_TRUE(done); });
  EXPECT_EQ(refused(ada), 401);

  std::string text;
  rig.accounts.make_token("ada", "short", kAllScopes, rig.backend.now().wall + 1h,
                          [&](const Result<NewSecret>& made) { text = made->text; });
  const http::Headers headers{{"Authorization", "Bearer " + text}};
  EXPECT_EQ(refused(headers), std::nullopt);
  rig.backend.tick(2h);
  EXPECT_EQ(refused(headers), 401);
}

TEST_F(Authenticate, WhatIsOpenEndsWithTheTokenThatOpenedIt) {
  const http::Headers accept{{"Accept", "text/event-stream"}};
  const auto stream = [&](http::Headers headers, const std::string& path) {
    headers.push_back(accept[0]);
    auto opened = rig.call(http::Method::get, path, {}, headers).stream;
    EXPECT_NE(opened, nullptr) << path;
    return opened;
  };
  const JobId job = rig.submit(R"({"name":"a","run":"x"})");
  const std::string of_job = "/v1/jobs/" + to_string(job) + "/events";
  const auto ada = rig.user("ada", {{"default", Role::viewer}});
  const auto bob = rig.user("bob", {{"default", Role::viewer}});
  const auto hers = stream(ada, "/v1/events"), of_hers = stream(ada, of_job), his = stream(bob, "/v1/events"),
             of_his = stream(bob, of_job), roots = stream({{"Authorization", "Bearer secret"}}, "/v1/events");
  rig.accounts.revoke_token(identity(ada).token, [](const auto& done) { EXPECT_TRUE(done); });
  EXPECT_TRUE(hers->closed());
  EXPECT_TRUE(of_hers->closed());
  EXPECT_FALSE(his->closed());
  EXPECT_EQ(refused(ada), 401);

  rig.patch("/v1/users/bob", R"({"roles":{"default":"member"}})");
  EXPECT_TRUE(his->closed()) << "a list is cut to what its reader may see: it begins anew";
  EXPECT_FALSE(of_his->closed()) << "he may still see the job";
  rig.patch("/v1/users/bob", R"({"roles":{"default":null}})");
  EXPECT_TRUE(of_his->closed());
  EXPECT_FALSE(roots->closed());
}

TEST_F(Authenticate, WhatIsOpenEndsWhenItsTokenExpiresOrItsSessionIsOver) {
  rig.user("ada", {{"default", Role::viewer}});
  rig.patch("/v1/users/ada", R"({"password":"correct horse"})");
  std::string text;
  rig.accounts.make_token("ada", "short", kAllScopes, rig.backend.now().wall + 1h,
                          [&](const Result<NewSecret>& made) { text = made->text; });
  const auto by_token =
      rig.get("/v1/events", {{"Authorization", "Bearer " + text}, {"Accept", "text/event-stream"}}).stream;
  auto cookie = session_of("ada");
  cookie.push_back({"Accept", "text/event-stream"});
  const auto by_session = rig.get("/v1/events", cookie).stream;
  ASSERT_TRUE(by_token && by_session);
  rig.backend.tick(59min);
  rig.accounts.refresh();
  EXPECT_FALSE(by_token->closed());
  rig.backend.tick(2min);
  rig.accounts.refresh();
  EXPECT_TRUE(by_token->closed());
  EXPECT_FALSE(by_session->closed());
  rig.patch("/v1/users/ada", R"({"disabled":true})");
  EXPECT_TRUE(by_session->closed());
}

TEST_F(Authenticate, ANodesConnectionEndsWithItsCredential) {
  std::string joined;
  rig.accounts.make_join_token("n1", 1, rig.backend.now().wall + 1h, "admin", [&](const auto& made) {
    rig.accounts.join(made->text, "n1", "10.0.0.1",
                      [&](const Result<NewSecret>& own) { joined = own->text; });
  });
  const auto who = rig.accounts.by_bearer(joined, "10.0.0.1");
  ASSERT_TRUE(who);
  const auto link = std::make_shared<CuttableLink>(), roots = std::make_shared<CuttableLink>();
  keep_judging_worker(rig.accounts, *who, link);
  keep_judging_worker(rig.accounts, *rig.accounts.by_bearer("secret", "10.0.0.1"), roots);
  rig.accounts.refresh();
  EXPECT_FALSE(link->cut);
  rig.accounts.make_join_token("n1", 1, rig.backend.now().wall + 1h, "admin", [&](const auto& made) {
    rig.accounts.join(made->text, "n1", "10.0.0.2", [](const Result<NewSecret>& own) { EXPECT_TRUE(own); });
  });
  EXPECT_TRUE(link->cut) << "the name has been given to another machine";
  EXPECT_FALSE(roots->cut);
}

TEST_F(Authenticate, WhatIsOpenEndsWithItsSession) {
  rig.user("ada", {{"default", Role::viewer}});
  rig.patch("/v1/users/ada", R"({"password":"correct horse"})");
  const auto stream = [&] {
    auto cookie = session_of("ada");
    cookie.push_back({"Accept", "text/event-stream"});
    return rig.get("/v1/events", cookie).stream;
  };
  const auto left = stream(), idle = stream();
  auto headers = session_of("ada");
  const auto who = identity(headers);
  const auto third = rig.get("/v1/events", {headers[0], {"Accept", "text/event-stream"}}).stream;
  rig.accounts.log_out(who.session, [](const auto& done) { EXPECT_TRUE(done); });
  EXPECT_TRUE(third->closed());
  EXPECT_FALSE(left->closed() || idle->closed()) << "other sessions of the same user";
  rig.backend.tick(13h);
  rig.accounts.refresh();
  EXPECT_TRUE(left->closed() && idle->closed()) << "nobody has asked for anything in twelve hours";
}

TEST_F(Authenticate, ADisabledOrRemovedUserIsRefusedAtOnce) {
  const auto ada = rig.user("ada", {{"*", Role::viewer}});
  rig.patch("/v1/users/ada", R"({"disabled":true})");
  EXPECT_EQ(refused(ada), 403);
  rig.patch("/v1/users/ada", R"({"disabled":false})");
  EXPECT_EQ(refused(ada), std::nullopt);
  rig.del("/v1/users/ada");
  EXPECT_EQ(refused(ada), 401);
  rig.user("ada", {{"*", Role::admin}});
  EXPECT_EQ(refused(ada), 401) << "another person of that name does not bring old tokens back";
}

TEST_F(Authenticate, ASessionChangesThingsOnlyFromOurOwnPages) {
  ASSERT_EQ(
      rig.post("/v1/users", R"({"name":"ada","password":"correct horse","roles":{"*":"operator"}})").status(),
      201);
  auto session = session_of("ada");
  EXPECT_EQ(identity(session).name, "ada");
  EXPECT_EQ(refused(session, "/v1/jobs", http::Method::post), 403) << "a form on another site";
  const auto with = [&](http::Headers more) {
    more.push_back(session[0]);
    return refused(more, "/v1/jobs", http::Method::post);
  };
  EXPECT_EQ(with({{"Sec-Fetch-Site", "same-origin"}}), std::nullopt);
  EXPECT_EQ(with({{"Sec-Fetch-Site", "cross-site"}}), 403);
  EXPECT_EQ(with({{"Sec-Fetch-Site", "same-site"}}), 403);
  EXPECT_EQ(with({{"Sec-Fetch-Site", "cross-site"}, {"Origin", "http://h:1"}, {"Host", "h:1"}}), 403);
  EXPECT_EQ(with({{"Origin", "http://h:1"}, {"Host", "h:1"}}), std::nullopt);
  EXPECT_EQ(with({{"Origin", "https://evil.example"}, {"Host", "h:1"}}), 403);
  EXPECT_EQ(with({{"Origin", "null"}, {"Host", "h:1"}}), 403);
}

TEST_F(Authenticate, ASessionEndsWithItsTimeALogoutOrANewPassword) {
  ASSERT_EQ(
      rig.post("/v1/users", R"({"name":"ada","password":"correct horse","roles":{"*":"admin"}})").status(),
      201);
  auto session = session_of("ada");
  session.push_back({"Sec-Fetch-Site", "same-origin"});
  EXPECT_EQ(refused(session), std::nullopt);
  rig.backend.tick(11h);
  EXPECT_EQ(refused(session), std::nullopt) << "used, so it goes on";
  rig.backend.tick(13h);
  EXPECT_EQ(refused(session), 401) << "idle";

  auto second = session_of("ada");
  second.push_back({"Sec-Fetch-Site", "same-origin"});
  auto third = session_of("ada");
  EXPECT_EQ(rig.call(http::Method::post, "/v1/logout", "", second).status(), 204);
  EXPECT_EQ(refused(second), 401);
  EXPECT_EQ(refused(third), std::nullopt) << "another session of theirs goes on";
  EXPECT_EQ(rig.patch("/v1/users/ada", R"({"password":"another long one"})").status(), 200);
  EXPECT_EQ(refused(third), 401);

  rig.post("/v1/users", R"({"name":"bob","password":"correct horse"})");
  auto fourth = session_of("bob");
  for (int hours = 0; hours < 24 * 7; hours += 6) {
    EXPECT_EQ(refused(fourth), std::nullopt) << hours;
    rig.backend.tick(6h);
  }
  EXPECT_EQ(refused(fourth), 401) << "a week is the longest";
}

TEST_F(Authenticate, ANodesConnectionEndsWithItsCertificate) {
  const auto ask = [&](Instant until) {
    auto request = http::Request::make(http::Method::get, "/v1/worker");
    request.route = kWorkerRoute;
    request.peer_certificate = "n1";
    request.peer_certificate_until = std::chrono::floor<std::chrono::seconds>(until);
    auto refused = rig.before(request);
    return std::pair(std::move(request), std::move(refused));
  };
  const auto [request, refused] = ask(rig.backend.now().wall + 1h);
  ASSERT_FALSE(refused);
  const auto who = std::any_cast<Identity>(request.identity);
  EXPECT_EQ(who.name, "n1");
  const auto link = std::make_shared<CuttableLink>();
  keep_judging_worker(rig.accounts, who, link);
  rig.backend.tick(59min);
  rig.accounts.refresh();
  EXPECT_FALSE(link->cut);
  rig.backend.tick(1min);
  rig.accounts.refresh();
  EXPECT_TRUE(link->cut);
  const auto late = ask(rig.backend.now().wall).second;
  ASSERT_TRUE(late) << "its TLS connection is older than that";
  EXPECT_EQ(late->status, 401);
  EXPECT_NE(late->body.find("the certificate of node n1 has expired"), std::string::npos) << late->body;
}

TEST_F(Authenticate, ANodeMayConnectAndNothingElse) {
  const auto made = rig.post("/v1/join-tokens", R"({"node":"n1"})");
  ASSERT_EQ(made.status(), 201);
  const auto text = std::string(made.body().at("token").as_string());
  const auto joined = rig.post("/v1/nodes:join", R"({"token":")" + text + R"(","node":"n1"})");
  ASSERT_EQ(joined.status(), 201) << joined.response->body;
  const http::Headers node{{"Authorization", "Bearer " + std::string(joined.body().at("token").as_string())}};
  const auto who = identity(node);
  EXPECT_EQ(who.kind, Identity::Kind::node);
  EXPECT_EQ(who.name, "n1");
  for (const auto path : {"/v1/jobs", "/v1/nodes", "/v1/cluster", "/metrics", "/v1/me"})
    EXPECT_EQ(rig.get(path, node).status(), 403) << path;
  auto request = http::Request::make(http::Method::get, "/v1/worker", {}, node);
  request.route = kWorkerRoute;
  EXPECT_FALSE(rig.before(request));
  auto by_user =
      http::Request::make(http::Method::get, "/v1/worker", {}, rig.user("op", {{"*", Role::operator_}}));
  by_user.route = kWorkerRoute;
  EXPECT_TRUE(rig.before(by_user)) << "an operator is no worker";
}

}  // namespace
}  // namespace tutti::testing
