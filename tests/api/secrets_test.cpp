// /v1/secrets, and jobs that name secrets.
#include <sodium.h>

#include "api_rig.h"
#include "scheduler/secrets/secret_box.h"

namespace tutti::testing {
namespace {

namespace json = boost::json;

class Secrets : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { ASSERT_GE(sodium_init(), 0); }
  ApiRig rig;

  void act_as(std::string name, std::map<std::string, Role, std::less<>> roles,
              std::uint8_t scopes = kAllScopes) {
    rig.before = [name, roles, scopes](http::Request& request) -> std::optional<http::Response> {
      request.identity = Identity{.kind = Identity::Kind::user,
                                  .name = name,
                                  .owner = name,
                                  .roles = roles,
                                  .scopes = scopes,
                                  .credential = "test",
                                  .token = {}};
      return std::nullopt;
    };
  }
  std::optional<SecretVault::Values> values(const std::string& project, std::vector<std::string> names) {
    std::optional<SecretVault::Values> out;
    rig.vault.values(project, std::move(names), [&out](Result<SecretVault::Values> v) {
      if (v) out = *v;
    });
    return out;
  }
};

TEST_F(Secrets, GoInAndAreShownWithoutTheirValues) {
  const auto made = rig.put("/v1/secrets/nlp/HF_TOKEN", R"({"value":"hf_0123456789"})");
  ASSERT_EQ(made.status(), 200) << made.response->body;
  EXPECT_EQ(made.body().at("version"), 1);
  EXPECT_EQ(made.body().at("updated_by"), "admin");
  EXPECT_EQ(rig.put("/v1/secrets/nlp/HF_TOKEN", R"({"value":"hf_9876543210"})").body().at("version"), 2);
  rig.put("/v1/secrets/vision/KEY", R"({"value":"abcdefgh"})");
  const auto all = rig.get("/v1/secrets");
  EXPECT_EQ(all.body().at("secrets").as_array().size(), 2u);
  EXPECT_EQ(all.response->body.find("hf_"), std::string::npos);
  const auto one = rig.get("/v1/secrets?project=nlp").body();
  ASSERT_EQ(one.at("secrets").as_array().size(), 1u);
  EXPECT_EQ(one.at("secrets").at(0).at("name"), "HF_TOKEN");
  EXPECT_EQ(values("nlp", {"HF_TOKEN"}), (SecretVault::Values{{"HF_TOKEN", "hf_9876543210"}}));
  EXPECT_EQ(rig.del("/v1/secrets/nlp/HF_TOKEN").status(), 200);
  EXPECT_EQ(rig.del("/v1/secrets/nlp/HF_TOKEN").status(), 404);
  EXPECT_EQ(values("nlp", {"HF_TOKEN"}), std::nullopt);
}

TEST_F(Secrets, NonsenseIsRefusedWithoutRepeatingIt) {
  const auto field = [](const Call& call) { return call.body().at("errors").at(0).at("field"); };
  for (const auto& [path, body, name] : {std::tuple{"/v1/secrets/nlp/A", R"({"value":7})", "value"},
                                         std::tuple{"/v1/secrets/nlp/A", R"({"value":""})", "value"},
                                         std::tuple{"/v1/secrets/nlp/A", R"({})", "value"},
                                         std::tuple{"/v1/secrets/nlp/A", R"({"value":"x","more":1})", "more"},
                                         std::tuple{"/v1/secrets/nlp/lower", R"({"value":"x"})", "name"},
                                         std::tuple{"/v1/secrets/nlp/TUTTI_X", R"({"value":"x"})", "name"},
                                         std::tuple{"/v1/secrets/%2A/A", R"({"value":"x"})", "project"}}) {
    const auto call = rig.put(path, body);
    ASSERT_EQ(call.status(), 422) << path << body << call.response->body;
    EXPECT_EQ(field(call), name);
  }
  EXPECT_EQ(rig.put("/v1/secrets/nlp/A", R"({"value":"a\u0000b"})").status(), 400) << "no NUL in any text";
  const auto torn = rig.put("/v1/secrets/nlp/A", R"({"value":"hunter2hunter2)");
  EXPECT_EQ(torn.status(), 400);
  EXPECT_EQ(torn.response->body.find("hunter2"), std::string::npos);
  EXPECT_EQ(rig.put("/v1/secrets/nlp/A", R"({"value":")" + std::string(65'536, 'x') + R"("})").status(), 200);
  EXPECT_EQ(rig.put("/v1/secrets/nlp/A", R"({"value":")" + std::string(65'537, 'x') + R"("})").status(), 422);
  EXPECT_EQ(rig.put("/v1/secrets/nlp/PIN", R"({"value":"12345"})").body().at("warnings").as_array().size(),
            1u);
  rig.secrets_broken = true;
  EXPECT_EQ(rig.put("/v1/secrets/nlp/A", R"({"value":"xyzxyz"})").status(), 503);
  EXPECT_EQ(rig.get("/v1/secrets").status(), 503);
}

TEST_F(Secrets, OperatorsOfTheProjectSetThemAndViewersSeeTheNames) {
  rig.put("/v1/secrets/nlp/A", R"({"value":"abcdefgh"})");
  rig.put("/v1/secrets/vision/B", R"({"value":"abcdefgh"})");
  act_as("max", {{"nlp", Role::operator_}});
  EXPECT_EQ(rig.put("/v1/secrets/nlp/A", R"({"value":"abcdefgh"})").status(), 200);
  EXPECT_EQ(rig.put("/v1/secrets/vision/B", R"({"value":"abcdefgh"})").status(), 403);
  act_as("max", {{"nlp", Role::operator_}}, static_cast<std::uint8_t>(Scope::read));
  EXPECT_EQ(rig.put("/v1/secrets/nlp/A", R"({"value":"abcdefgh"})").status(), 403) << "a token for reading";
  for (const Role role : {Role::member, Role::viewer}) {
    act_as("ada", {{"nlp", role}});
    EXPECT_EQ(rig.put("/v1/secrets/nlp/A", R"({"value":"abcdefgh"})").status(), 403);
    EXPECT_EQ(rig.del("/v1/secrets/nlp/A").status(), 403);
    const auto seen = rig.get("/v1/secrets").body().at("secrets").as_array();
    ASSERT_EQ(seen.size(), 1u);
    EXPECT_EQ(seen.at(0).at("project"), "nlp");
    EXPECT_EQ(rig.get("/v1/secrets?project=vision").status(), 404);
  }
  act_as("eve", {});
  EXPECT_TRUE(rig.get("/v1/secrets").body().at("secrets").as_array().empty());
}

TEST_F(Secrets, AJobThatNamesOneThatIsNotThereIsRefused) {
  rig.put("/v1/secrets/default/A", R"({"value":"abcdefgh"})");
  rig.put("/v1/secrets/other/B", R"({"value":"abcdefgh"})");
  const auto refused = rig.post("/v1/jobs", R"({"name":"a","run":"x","secrets":["A","B"]})");
  ASSERT_EQ(refused.status(), 422) << refused.response->body;
  EXPECT_EQ(refused.body().at("errors").at(0).at("field"), "secrets[1]");
  EXPECT_EQ(refused.body().at("detail"), "project default has no secret B");
  const JobId id = rig.submit(R"({"name":"a","run":"x","secrets":["A"],"private_tmp":true})");
  const auto spec = rig.get("/v1/jobs/" + to_string(id)).body().at("spec");
  EXPECT_EQ(spec.at("secrets").at(0), "A");
  EXPECT_EQ(spec.at("private_tmp"), true);
  const auto batch = rig.post("/v1/jobs:batch", R"({"jobs":[{"name":"b","run":"x","secrets":["NONE"]},
    {"name":"c","run":"x","secrets":["A"]},{"name":"d","run":"x"}]})");
  const auto results = batch.body().at("results").as_array();
  EXPECT_EQ(results.at(0).at("status"), 422);
  EXPECT_EQ(results.at(1).at("status"), 201) << results.at(1);
  EXPECT_EQ(results.at(2).at("status"), 201);
  rig.secrets_broken = true;
  EXPECT_EQ(rig.post("/v1/jobs", R"({"name":"a","run":"x","secrets":["A"]})").status(), 503);
  rig.submit();  // others are not held up
}

TEST_F(Secrets, TheSpecTakesNamesOnly) {
  const auto field = [&](const std::string& more) {
    const auto call = rig.post("/v1/jobs", R"({"name":"a","run":"x",)" + more + "}");
    EXPECT_EQ(call.status(), 422) << call.response->body;
    return std::string(call.body().at("errors").at(0).at("field").as_string());
  };
  EXPECT_EQ(field(R"("secrets":{"A":"value"})"), "secrets");
  EXPECT_EQ(field(R"("secrets":["A=value"])"), "secrets[0]");
  EXPECT_EQ(field(R"("secrets":["A","A"])"), "secrets[1]");
  EXPECT_EQ(field(R"("secrets":["A"],"env":{"A":"x"})"), "secrets[0]");
  EXPECT_EQ(field(R"("private_tmp":"yes")"), "private_tmp");
}

TEST_F(Secrets, ARowOpensUnderItsOwnNameOnly) {
  const SecretBox box("master");
  const auto sealed = box.seal("nlp", "A", "the value");
  EXPECT_EQ(sealed.ciphertext.find("value"), std::string::npos);
  EXPECT_NE(sealed, box.seal("nlp", "A", "the value")) << "each time another nonce";
  EXPECT_EQ(box.open("nlp", "A", sealed), "the value");
  EXPECT_EQ(box.open("nlp", "B", sealed), std::nullopt);
  EXPECT_EQ(box.open("vision", "A", sealed), std::nullopt);
  EXPECT_EQ(SecretBox("another").open("nlp", "A", sealed), std::nullopt);
  auto bent = sealed;
  bent.ciphertext[20] = static_cast<char>(bent.ciphertext[20] ^ 1);
  EXPECT_EQ(box.open("nlp", "A", bent), std::nullopt);
  EXPECT_EQ(box.open("nlp", "A", {}), std::nullopt);
}

}  // namespace
}  // namespace tutti::testing
