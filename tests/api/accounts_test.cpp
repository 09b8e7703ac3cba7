// Users, tokens and nodes that join, through the API.
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>

#include "api_rig.h"

namespace tutti::testing {
namespace {

namespace json = boost::json;

std::string text(const json::value& value) { return std::string(value.as_string()); }

class AccountsApi : public ::testing::Test {
 protected:
  std::string error_field(const Call& call) {
    const auto body = call.body();
    const auto* errors = body.as_object().if_contains("errors");
    return errors == nullptr || errors->as_array().empty() ? "" : text(errors->as_array()[0].at("field"));
  }
  ApiRig rig;
};

TEST_F(AccountsApi, AUserIsAddedChangedAndRemoved) {
  auto made = rig.post("/v1/users",
                       R"({"name":"ada","password":"correct horse","roles":{"nlp":"member","*":"viewer"}})");
  ASSERT_EQ(made.status(), 201);
  EXPECT_EQ(made.body().at("roles"), (json::value{{"nlp", "member"}, {"*", "viewer"}}));
  EXPECT_EQ(made.body().at("has_password"), true);
  EXPECT_EQ(made.response->body.find("argon2"), std::string::npos);
  EXPECT_EQ(rig.post("/v1/users", R"({"name":"ada"})").status(), 409);
  auto changed = rig.patch("/v1/users/ada", R"({"roles":{"nlp":null,"vision":"operator"}})");
  ASSERT_EQ(changed.status(), 200);
  EXPECT_EQ(changed.body().at("roles"), (json::value{{"*", "viewer"}, {"vision", "operator"}}));
  EXPECT_EQ(rig.get("/v1/users").body().at("users").as_array().size(), 1U);
  EXPECT_EQ(rig.del("/v1/users/ada").status(), 200);
  EXPECT_EQ(rig.get("/v1/users/ada").status(), 404);
  EXPECT_EQ(rig.del("/v1/users/ada").status(), 404);
}

TEST_F(AccountsApi, BadFieldsAreNamed) {
  EXPECT_EQ(error_field(rig.post("/v1/users", R"({"name":""})")), "name");
  EXPECT_EQ(error_field(rig.post("/v1/users", R"({"name":"a","password":"short"})")), "password");
  EXPECT_EQ(error_field(rig.post("/v1/users", R"({"name":"aaaaaaaaaa","password":"aaaaaaaaaa"})")),
            "password");
  EXPECT_EQ(error_field(rig.post("/v1/users", R"({"name":"a","roles":{"nlp":"king"}})")), "roles.nlp");
  EXPECT_EQ(error_field(rig.post("/v1/users", R"({"name":"a","rolls":{}})")), "rolls");
  EXPECT_EQ(rig.post("/v1/users", "{").status(), 400);
  EXPECT_EQ(error_field(rig.post("/v1/tokens", R"({"name":"x","scopes":["everything"]})")), "scopes[0]");
  EXPECT_EQ(error_field(rig.post("/v1/tokens", R"({})")), "name");
  EXPECT_EQ(error_field(rig.post("/v1/tokens", R"({"name":"x","expires_in":"-3d"})")), "expires_in");
  EXPECT_EQ(error_field(rig.post("/v1/join-tokens", R"({"node":"n1","uses":5})")), "uses");
  EXPECT_EQ(error_field(rig.post("/v1/login", R"({"user":"x"})")), "password");
}

TEST_F(AccountsApi, AWrongPasswordAndAnUnknownNameSayTheSame) {
  rig.post("/v1/users", R"({"name":"ada","password":"correct horse"})");
  const auto wrong = rig.post("/v1/login", R"({"user":"ada","password":"wrong horse!"})");
  const auto nobody = rig.post("/v1/login", R"({"user":"eve","password":"wrong horse!"})");
  EXPECT_EQ(wrong.status(), 401);
  EXPECT_EQ(wrong.response->body, nobody.response->body);
  rig.patch("/v1/users/ada", R"({"disabled":true})");
  EXPECT_EQ(rig.post("/v1/login", R"({"user":"ada","password":"correct horse"})").response->body,
            nobody.response->body);
  rig.patch("/v1/users/ada", R"({"disabled":false,"password":""})");
  EXPECT_EQ(rig.post("/v1/login", R"({"user":"ada","password":"correct horse"})").status(), 401)
      << "no password";
}

TEST_F(AccountsApi, ASessionCookieCannotBeReadByScripts) {
  rig.post("/v1/users", R"({"name":"ada","password":"correct horse"})");
  const auto cookie =
      rig.post("/v1/login", R"({"user":"ada","password":"correct horse"})").header("Set-Cookie");
  EXPECT_NE(cookie.find("; HttpOnly"), std::string::npos) << cookie;
  EXPECT_NE(cookie.find("; SameSite=Strict"), std::string::npos) << cookie;
}

TEST_F(AccountsApi, OnesOwnPasswordNeedsTheOldOne) {
  rig.post("/v1/users", R"({"name":"ada","password":"correct horse","roles":{"*":"viewer"}})");
  std::string token;
  rig.accounts.make_token("ada", "t", kAllScopes, std::nullopt,
                          [&](const auto& made) { token = made->text; });
  const http::Headers ada{{"Authorization", "Bearer " + token}};
  const auto set = [&](const std::string& body) {
    return rig.call(http::Method::put, "/v1/me/password", body, ada).status();
  };
  EXPECT_EQ(set(R"({"old":"wrong","new":"a new long one"})"), 401);
  EXPECT_EQ(set(R"({"old":"correct horse","new":"short"})"), 422);
  EXPECT_EQ(set(R"({"old":"correct horse","new":"a new long one"})"), 204);
  EXPECT_EQ(rig.post("/v1/login", R"({"user":"ada","password":"a new long one"})").status(), 200);
  EXPECT_EQ(rig.post("/v1/login", R"({"user":"ada","password":"correct horse"})").status(), 401);
}

TEST_F(AccountsApi, ATokenIsShownOnceAndKeptAsAHash) {
  const auto ada = rig.user("ada", {{"nlp", Role::member}});
  const auto made =
      rig.call(http::Method::post, "/v1/tokens", R"({"name":"laptop","expires_in":"30d"})", ada);
  ASSERT_EQ(made.status(), 201);
  const auto secret = text(made.body().at("token")), id = text(made.body().at("id"));
  EXPECT_TRUE(secret.starts_with("tutti_" + id + "_"));
  EXPECT_EQ(made.body().at("scopes"), (json::array{"read", "submit"})) << "not more than is asked for";
  const auto list = rig.get("/v1/tokens", ada);
  EXPECT_EQ(list.response->body.find(secret.substr(20)), std::string::npos);
  EXPECT_EQ(list.body().at("tokens").as_array().size(), 2U);
  for (const auto& row : rig.account_store.load().tokens)
    EXPECT_EQ(row.secret_hash.find(secret.substr(20)), std::string::npos);
  EXPECT_EQ(rig.get("/v1/cluster", {{"Authorization", "Bearer " + secret}}).status(), 200);
}

TEST_F(AccountsApi, ATokenHandsOnNoMoreThanItHas) {
  const auto reader = rig.user("ada", {{"*", Role::admin}}, static_cast<std::uint8_t>(Scope::read));
  EXPECT_EQ(
      rig.call(http::Method::post, "/v1/tokens", R"({"name":"x","scopes":["submit"]})", reader).status(),
      403);
  EXPECT_EQ(rig.call(http::Method::post, "/v1/tokens", R"({"name":"x","scopes":["read"]})", reader).status(),
            201);
  EXPECT_EQ(rig.get("/v1/users", reader).status(), 403) << "an admin's token that may only read";
  EXPECT_EQ(rig.call(http::Method::post, "/v1/jobs", R"({"name":"a","run":"true"})", reader).status(), 403);
}

TEST_F(AccountsApi, PeopleSeeAndRevokeTheirOwnTokens) {
  const auto ada = rig.user("ada", {{"nlp", Role::member}}), bob = rig.user("bob", {{"nlp", Role::member}});
  const auto id = text(rig.get("/v1/tokens", ada).body().at("tokens").as_array()[0].at("id"));
  EXPECT_EQ(rig.call(http::Method::del, "/v1/tokens/" + id, "", bob).status(), 404);
  EXPECT_EQ(rig.call(http::Method::post, "/v1/tokens", R"({"name":"x","user":"ada"})", bob).status(), 403);
  EXPECT_EQ(rig.get("/v1/tokens?user=ada", bob).body().at("tokens").as_array().size(), 1U) << "their own";
  EXPECT_EQ(rig.get("/v1/tokens?user=ada").body().at("tokens").as_array().size(), 1U);
  EXPECT_EQ(rig.get("/v1/tokens?user=").body().at("tokens").as_array().size(), 2U);
  EXPECT_EQ(rig.del("/v1/tokens/" + id).status(), 200);
  EXPECT_EQ(rig.get("/v1/me", ada).status(), 401);
}

TEST_F(AccountsApi, MeSaysWhoOneIs) {
  const auto me = rig.get("/v1/me", rig.user("ada", {{"nlp", Role::member}})).body();
  EXPECT_EQ(me.at("user"), "ada");
  EXPECT_EQ(me.at("roles"), (json::value{{"nlp", "member"}}));
  EXPECT_EQ(me.at("token").at("name"), "test");
  EXPECT_EQ(rig.get("/v1/me").body().at("user"), "admin");
}

TEST_F(AccountsApi, ATokenSignsABrowserInWithItsOwnScopes) {
  const auto ada = rig.user("ada", {{"*", Role::admin}}, static_cast<std::uint8_t>(Scope::read));
  const auto token = http::find_header(ada, "Authorization")->substr(std::string("Bearer ").size());
  const auto answer = rig.post("/v1/login", R"({"token":")" + token + R"("})");
  ASSERT_EQ(answer.status(), 200) << answer.response->body;
  EXPECT_EQ(answer.body().at("user"), "ada");
  const auto cookie = answer.header("Set-Cookie");
  EXPECT_NE(cookie.find("; HttpOnly"), std::string::npos) << cookie;
  http::Headers browser{{"Cookie", cookie.substr(0, cookie.find(';'))}, {"Sec-Fetch-Site", "same-origin"}};
  const auto me = rig.get("/v1/me", browser).body();
  EXPECT_EQ(me.at("user"), "ada");
  EXPECT_EQ(me.at("scopes"), json::parse(R"(["read"])"));
  EXPECT_EQ(rig.get("/v1/users", browser).status(), 403) << "the token was not made for that";
  http::Headers elsewhere{browser[0], {"Sec-Fetch-Site", "cross-site"}};
  EXPECT_EQ(rig.post("/v1/logout", "", elsewhere).status(), 403) << "a cookie is sent whoever asks";
  const auto out = rig.post("/v1/logout", "", browser);
  EXPECT_EQ(out.status(), 204);
  EXPECT_NE(out.header("Set-Cookie").find("Max-Age=0"), std::string::npos);
  rig.accounts.revoke_token(text(me.at("token").at("id")), [](const auto& done) { EXPECT_TRUE(done); });
  EXPECT_EQ(rig.get("/v1/me", browser).status(), 401) << "it ends with its token";
}

TEST_F(AccountsApi, TheSchedulersOwnTokenSignsInToo) {
  const auto answer = rig.post("/v1/login", R"({"token":"secret"})");
  ASSERT_EQ(answer.status(), 200);
  EXPECT_EQ(answer.body().at("user"), "admin");
  const auto cookie = answer.header("Set-Cookie");
  EXPECT_EQ(rig.get("/v1/users", {{"Cookie", cookie.substr(0, cookie.find(';'))}}).status(), 200);
  EXPECT_EQ(rig.post("/v1/login", R"({"token":"Secret"})").status(), 401);
  EXPECT_EQ(rig.post("/v1/login", R"({"token":"tuttisession_a_b"})").status(), 401);
  EXPECT_EQ(error_field(rig.post("/v1/login", R"({"token":"secret","user":"ada"})")), "token");
}

bool lists(const json::value& permissions, std::string_view project, std::string_view route) {
  const auto* routes = permissions.as_object().if_contains(project);
  if (routes == nullptr) return false;
  for (const auto& name : routes->as_array())
    if (name.as_string() == route) return true;
  return false;
}

TEST_F(AccountsApi, MeSaysWhatOneMayDo) {
  const auto me =
      rig.get("/v1/me", rig.user("ada", {{"nlp", Role::member}, {"vision", Role::operator_}})).body();
  const auto &all = me.at("permissions"), &own = me.at("own_jobs");
  EXPECT_TRUE(lists(all, "*", "jobs.list"));
  EXPECT_FALSE(lists(all, "*", "jobs.submit"));
  EXPECT_FALSE(lists(all, "*", "nodes.drain"));
  EXPECT_TRUE(lists(all, "nlp", "jobs.submit"));
  EXPECT_TRUE(lists(all, "nlp", "jobs.get"));
  EXPECT_FALSE(lists(all, "nlp", "jobs.cancel"));
  EXPECT_FALSE(lists(all, "nlp", "secrets.put"));
  EXPECT_TRUE(lists(all, "vision", "jobs.cancel"));
  EXPECT_TRUE(lists(all, "vision", "secrets.put"));
  EXPECT_FALSE(lists(all, "vision", "jobs.list")) << "not said twice";
  EXPECT_TRUE(lists(own, "nlp", "jobs.cancel"));
  EXPECT_TRUE(lists(own, "*", "jobs.get"));
  const auto admin = rig.get("/v1/me").body().at("permissions");
  EXPECT_EQ(admin.at("*").as_array().size(), rig.router.routes().size());
  const auto reader = rig.user("eve", {{"*", Role::admin}}, static_cast<std::uint8_t>(Scope::read));
  EXPECT_FALSE(lists(rig.get("/v1/me", reader).body().at("permissions"), "*", "nodes.drain"))
      << "not with this token";
}

TEST_F(AccountsApi, AJoinTokenIsUsedUp) {
  const auto token = text(rig.post("/v1/join-tokens", R"({"uses":2})").body().at("token"));
  const auto join = [&](const std::string& node, const std::string& with) {
    return rig
        .post("/v1/nodes:join", json::serialize(json::object{{"token", with}, {"node", node}}),
              {{"Authorization", ""}})
        .status();
  };
  EXPECT_EQ(join("n1", token), 201);
  EXPECT_EQ(join("n1", token), 409) << "a name is not taken over with just any token";
  EXPECT_EQ(join("n2", token), 201);
  EXPECT_EQ(join("n3", token), 401) << "used up";
  EXPECT_EQ(join("n3", "tuttijoin_x"), 401);
  const auto again = text(rig.post("/v1/join-tokens", R"({"node":"n1"})").body().at("token"));
  EXPECT_EQ(join("n2", again), 401) << "for another node";
  EXPECT_EQ(join("n1", again), 201);
  int revoked = 0;
  for (const auto& [id, row] : rig.accounts.node_credentials()) revoked += row.node == "n1" && row.revoked_at;
  EXPECT_EQ(revoked, 1) << "the earlier credential of n1";
  const auto late = text(rig.post("/v1/join-tokens", R"({"expires_in":"10m"})").body().at("token"));
  rig.backend.tick(11min);
  EXPECT_EQ(join("n4", late), 401);
}

TEST_F(AccountsApi, AnUnreachableStoreChangesNothing) {
  const auto ada = rig.user("ada", {{"nlp", Role::member}});
  rig.account_store.set_reachable(false);
  EXPECT_EQ(rig.patch("/v1/users/ada", R"({"disabled":true})").status(), 503);
  EXPECT_EQ(rig.get("/v1/me", ada).status(), 200) << "what is in memory goes on counting";
  rig.account_store.set_reachable(true);
  EXPECT_EQ(rig.get("/v1/users/ada").body().at("disabled"), false);
}

TEST_F(AccountsApi, WhatAnotherSchedulerChangedCountsAfterARefresh) {
  const auto ada = rig.user("ada", {{"nlp", Role::member}});
  auto row = rig.account_store.load().users[0];
  row.disabled = true;
  AccountBatch batch;
  batch.users.push_back(row);
  rig.account_store.commit(batch, rig.account_store.revision());
  EXPECT_EQ(rig.get("/v1/me", ada).status(), 200);
  rig.accounts.refresh();
  EXPECT_EQ(rig.get("/v1/me", ada).status(), 403);
}

}  // namespace
}  // namespace tutti::testing
