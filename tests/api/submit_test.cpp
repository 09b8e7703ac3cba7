// POST /v1/jobs and POST /v1/jobs:batch.
#include <boost/json/serialize.hpp>

#include "api_rig.h"

namespace tutti::testing {
namespace {

namespace json = boost::json;

constexpr std::string_view kHello = R"({"name":"hello","run":"nvidia-smi","labels":{"team":"x"}})";

std::vector<std::string> fields_of(const json::value& problem) {
  std::vector<std::string> fields;
  for (const auto& error : problem.at("errors").as_array())
    fields.emplace_back(error.at("field").as_string());
  return fields;
}

TEST(Submit, AnswersWithTheJobAndEveryDefault) {
  ApiRig rig;
  const auto answer = rig.post("/v1/jobs", std::string(kHello), {{"Tutti-User", "ada"}});
  ASSERT_EQ(answer.status(), 201) << answer.response->body;
  const auto job = answer.body();
  EXPECT_EQ(job.at("id"), 1);
  EXPECT_EQ(job.at("name"), "hello");
  EXPECT_EQ(job.at("owner"), "ada");
  EXPECT_EQ(job.at("project"), "default");
  EXPECT_EQ(job.at("state"), "queued");
  EXPECT_EQ(job.at("cause"), nullptr);
  EXPECT_EQ(job.at("attempt"), 0);
  EXPECT_EQ(job.at("version"), 1);
  EXPECT_EQ(job.at("labels").at("team"), "x");
  EXPECT_EQ(job.at("spec").at("stop").at("grace"), "30s");
  EXPECT_EQ(answer.header("Location"), "/v1/jobs/1");
  EXPECT_EQ(answer.header("Idempotent-Replayed"), "");
}

TEST(Submit, SaysWhatItWasAtSubmissionEvenIfItStartsAtOnce) {
  ApiRig rig;
  rig.backend.add_node("n1");
  const auto job = rig.post("/v1/jobs", std::string(kHello)).body();
  EXPECT_EQ(job.at("state"), "queued");
  EXPECT_EQ(rig.get("/v1/jobs/1").body().at("state"), "starting");
}

TEST(Submit, BeginTimeDelays) {
  ApiRig rig;
  const auto job = rig.post("/v1/jobs", R"({"name":"a","run":"x","begin_time":"+2h"})").body();
  EXPECT_EQ(job.at("state"), "delayed");
  EXPECT_EQ(job.at("not_before"), job.at("spec").at("begin_time"));
}

TEST(Submit, ReadsYaml) {
  ApiRig rig;
  const auto answer = rig.post("/v1/jobs", "name: hello\nrun: x\nenv: {V: 1.10}\n",
                               {{"Content-Type", "application/yaml; charset=utf-8"}});
  ASSERT_EQ(answer.status(), 201) << answer.response->body;
  EXPECT_EQ(answer.body().at("spec").at("env").at("V"), "1.10");
}

TEST(Submit, AReplayGetsTheSameBytes) {
  ApiRig rig;
  for (const std::string& body :
       {std::string(kHello),
        std::string(R"({"name":"b","run":"x","begin_time":"+2h","priority":7,"env":{"A":"ü\n"}})")}) {
    const http::Headers key = {{"Idempotency-Key", "k-" + std::to_string(body.size())},
                               {"Tutti-User", "ada"}};
    const auto first = rig.post("/v1/jobs", body, key);
    ASSERT_EQ(first.status(), 201) << first.response->body;
    rig.backend.tick(1s);
    const auto again = rig.post("/v1/jobs", body, key);
    EXPECT_EQ(again.status(), 201);
    EXPECT_EQ(again.response->body, first.response->body);
    EXPECT_EQ(again.header("Idempotent-Replayed"), "true");
    // The job goes its way; the answer stays.
    const auto id = std::to_string(first.body().at("id").as_int64());
    EXPECT_EQ(rig.post("/v1/jobs/" + id + ":cancel").status(), 200);
    rig.backend.recover();
    EXPECT_EQ(rig.post("/v1/jobs", body, key).response->body, first.response->body);
  }
  EXPECT_EQ(rig.get("/v1/jobs").body().at("jobs").as_array().size(), 2u);
}

TEST(Submit, AKeyBelongsToItsOwnerAndItsBody) {
  ApiRig rig;
  const auto ada = [](std::string key) {
    return http::Headers{{"Idempotency-Key", std::move(key)}, {"Tutti-User", "ada"}};
  };
  ASSERT_EQ(rig.post("/v1/jobs", std::string(kHello), ada("k")).status(), 201);
  const auto other = rig.post("/v1/jobs", R"({"name":"other","run":"x"})", ada("k"));
  EXPECT_EQ(other.status(), 422);
  EXPECT_EQ(other.body().at("code"), "idempotency_mismatch");
  // The same tree in other bytes, or as another language, is another body.
  EXPECT_EQ(rig.post("/v1/jobs", std::string(kHello) + " ", ada("k")).status(), 422);
  auto as_yaml = ada("k");
  as_yaml.push_back({"Content-Type", "application/yaml"});
  EXPECT_EQ(rig.post("/v1/jobs", std::string(kHello), as_yaml).status(), 422);
  const auto bob = rig.post("/v1/jobs", R"({"name":"other","run":"x"})",
                            {{"Idempotency-Key", "k"}, {"Tutti-User", "bob"}});
  EXPECT_EQ(bob.status(), 201);
  EXPECT_EQ(bob.header("Idempotent-Replayed"), "");
}

TEST(Submit, RefusesAKeyThatCannotBeOne) {
  ApiRig rig;
  for (const std::string& key :
       {std::string(), std::string("a b"), std::string(257, 'k'), std::string("\x01"), std::string("ü")})
    EXPECT_EQ(rig.post("/v1/jobs", std::string(kHello), {{"Idempotency-Key", key}}).status(), 422) << key;
}

TEST(Submit, MalformedBodySaysWhere) {
  ApiRig rig;
  const auto json_answer = rig.post("/v1/jobs", "{\"name\":\n  oops}");
  EXPECT_EQ(json_answer.status(), 400);
  EXPECT_EQ(json_answer.body().at("code"), "malformed_body");
  EXPECT_EQ(json_answer.body().at("line"), 2);
  EXPECT_EQ(json_answer.body().at("column"), 3);
  EXPECT_EQ(rig.post("/v1/jobs", "name: [", {{"Content-Type", "application/yaml"}}).status(), 400);
  EXPECT_EQ(rig.post("/v1/jobs", "").status(), 400);
  EXPECT_EQ(rig.post("/v1/jobs", R"({"name":"a","name":"b","run":"x"})").status(), 400);
}

TEST(Submit, AllBadFieldsAtOnce) {
  ApiRig rig;
  const auto answer =
      rig.post("/v1/jobs", R"({"name":"a","run":"x","nodes":0,"resources":{"gpu":8},"image":"a b"})");
  ASSERT_EQ(answer.status(), 422);
  EXPECT_EQ(answer.body().at("code"), "invalid_spec");
  EXPECT_EQ(fields_of(answer.body()), (std::vector<std::string>{"nodes", "resources.gpu", "image"}));
  EXPECT_NE(answer.response->body.find("did you mean 'gpus'?"), std::string::npos);
}

TEST(Submit, UnknownQueueNamesTheField) {
  ApiRig rig;
  const auto answer = rig.post("/v1/jobs", R"({"name":"a","run":"x","queue":"defualt"})");
  ASSERT_EQ(answer.status(), 422);
  EXPECT_EQ(fields_of(answer.body()), (std::vector<std::string>{"queue"}));
  EXPECT_EQ(answer.body().at("hint"), "did you mean 'default'?");
}

TEST(Submit, RefusesOtherMediaTypes) {
  ApiRig rig;
  EXPECT_EQ(rig.post("/v1/jobs", "a=b", {{"Content-Type", "application/x-www-form-urlencoded"}}).status(),
            415);
  EXPECT_EQ(rig.post("/v1/jobs:batch", "jobs: []", {{"Content-Type", "application/yaml"}}).status(), 415);
}

TEST(Submit, WhileRecoveringNothingHappensAndItSaysSo) {
  ApiRig rig;
  rig.backend.be_unready();
  const auto answer = rig.post("/v1/jobs", std::string(kHello));
  EXPECT_EQ(answer.status(), 503);
  EXPECT_EQ(answer.header("Retry-After"), "1");
  const auto batch =
      rig.post("/v1/jobs:batch", R"({"jobs":[{"name":"a","run":"x"},{"name":"b","run":"x"}]})");
  EXPECT_EQ(batch.status(), 503);
  rig.backend.recover();
  EXPECT_TRUE(rig.get("/v1/jobs").body().at("jobs").as_array().empty());
}

TEST(SubmitBatch, EachItemForItself) {
  ApiRig rig;
  const auto answer =
      rig.post("/v1/jobs:batch",
               R"({"jobs":[{"name":"a","run":"x"},{"name":"b"},{"name":"c","run":"x","queue":"no"},7]})");
  ASSERT_EQ(answer.status(), 200) << answer.response->body;
  const auto body = answer.body();
  const auto& results = body.at("results").as_array();
  ASSERT_EQ(results.size(), 4u);
  EXPECT_EQ(results[0].at("status"), 201);
  EXPECT_EQ(results[0].at("job").at("name"), "a");
  EXPECT_EQ(results[1].at("status"), 422);
  EXPECT_EQ(fields_of(results[1].at("problem")), (std::vector<std::string>{"run"}));
  EXPECT_EQ(results[2].at("status"), 422);
  EXPECT_EQ(fields_of(results[2].at("problem")), (std::vector<std::string>{"queue"}));
  EXPECT_EQ(results[3].at("status"), 422);
  EXPECT_EQ(rig.get("/v1/jobs").body().at("jobs").as_array().size(), 1u);
}

TEST(SubmitBatch, AReplayAddsOnlyWhatIsMissing) {
  ApiRig rig;
  const http::Headers key = {{"Idempotency-Key", "k"}};
  const auto first =
      rig.post("/v1/jobs:batch", R"({"jobs":[{"name":"a","run":"x"},{"name":"b","run":"x"}]})", key);
  ASSERT_EQ(first.status(), 200);
  const auto again =
      rig.post("/v1/jobs:batch",
               R"({"jobs":[{"name":"a","run":"x"},{"name":"B","run":"x"},{"name":"c","run":"x"}]})", key);
  ASSERT_EQ(again.status(), 200);
  const auto before = first.body(), after = again.body();
  EXPECT_EQ(after.at("results").at(0).at("job"), before.at("results").at(0).at("job"));
  EXPECT_EQ(after.at("results").at(0).at("replayed"), true);
  EXPECT_EQ(after.at("results").at(1).at("status"), 422) << "the key K/1 had another body";
  EXPECT_EQ(after.at("results").at(2).at("status"), 201);
  EXPECT_EQ(after.at("results").at(2).at("replayed"), false);
}

TEST(SubmitBatch, RefusesWhatIsNoBatch) {
  ApiRig rig;
  EXPECT_EQ(rig.post("/v1/jobs:batch", "[]").status(), 422);
  EXPECT_EQ(rig.post("/v1/jobs:batch", "{}").status(), 422);
  EXPECT_EQ(rig.post("/v1/jobs:batch", R"({"jobs":{}})").status(), 422);
  EXPECT_EQ(rig.post("/v1/jobs:batch", R"({"jobs":[],"more":1})").status(), 422);
  EXPECT_EQ(rig.post("/v1/jobs:batch", R"({"jobs":[)").status(), 400);
  EXPECT_EQ(rig.post("/v1/jobs:batch", R"({"jobs":[]})").body(), json::parse(R"({"results":[]})"));
  std::string many = R"({"jobs":[)";
  for (int i = 0; i < 1001; ++i) many += i == 0 ? "{}" : ",{}";
  EXPECT_EQ(rig.post("/v1/jobs:batch", many + "]}").status(), 422);
}

TEST(SubmitBatch, AThousandJobs) {
  ApiRig rig;
  std::string many = R"({"jobs":[)";
  for (int i = 0; i < 1000; ++i)
    many += (i == 0 ? "" : ",") + (R"({"run":"x","name":"j)" + std::to_string(i)) + "\"}";
  const auto answer = rig.post("/v1/jobs:batch", many + "]}");
  ASSERT_EQ(answer.status(), 200);
  EXPECT_EQ(answer.body().at("results").at(999).at("job").at("id"), 1000);
}

}  // namespace
}  // namespace tutti::testing
