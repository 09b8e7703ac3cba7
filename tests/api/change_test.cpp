// PATCH /v1/jobs/{id}: what can be changed of a job that was submitted, by whom, and what is stored of it.
#include "api_rig.h"

namespace tutti::testing {
namespace {

namespace json = boost::json;

std::string last_update(ApiRig& rig, const std::string& what) {
  std::string text;
  const auto page = rig.get("/v1/jobs/1/events").body();
  for (const auto& event : page.at("events").as_array())
    if (event.at("kind") == "update") text = event.at(what).as_string().c_str();
  return text;
}

TEST(Patch, ChangesWhatIsNamedAndSaysSo) {
  ApiRig rig;
  rig.submit(R"({"name":"a","run":"x","labels":{"team":"speech","old":"1"},"time_limit":"1h"})");
  const auto before = rig.get("/v1/jobs/1");
  const auto job = rig.patch("/v1/jobs/1", R"({"priority":80,"time_limit":"2h","total_time_limit":"10h",
      "deadline":"+48h","labels":{"old":null,"new":7}})",
                             {{"Tutti-User", "ada"}});
  ASSERT_EQ(job.status(), 200) << job.body();
  EXPECT_EQ(job.body().at("priority"), 80);
  EXPECT_EQ(job.body().at("spec").at("priority"), 80);
  EXPECT_EQ(job.body().at("spec").at("time_limit"), "2h");
  EXPECT_EQ(job.body().at("spec").at("total_time_limit"), "10h");
  EXPECT_TRUE(job.body().at("spec").at("deadline").is_string());
  EXPECT_EQ(job.body().at("labels"), json::parse(R"({"new":"7","team":"speech"})"));
  EXPECT_EQ(job.body().at("state"), "queued");
  EXPECT_EQ(job.body().at("queued_at"), before.body().at("queued_at")) << "it keeps its place by age";
  EXPECT_NE(job.header("ETag"), before.header("ETag"));
  EXPECT_EQ(last_update(rig, "from").substr(0, 30), "priority 50, time_limit 1h, to");
  EXPECT_NE(last_update(rig, "to").find("labels.new '7', labels.old none"), std::string::npos);
  EXPECT_EQ(last_update(rig, "detail"), "changed by ada");
  const auto cleared =
      rig.patch("/v1/jobs/1", R"({"time_limit":null,"total_time_limit":null,"deadline":null})");
  EXPECT_EQ(cleared.body().at("spec").at("time_limit"), nullptr);
  EXPECT_EQ(cleared.body().at("spec").at("deadline"), nullptr);
}

TEST(Patch, IsStored) {
  ApiRig rig;
  const std::string body = R"({"name":"a","run":"x"})";
  const auto first = rig.post("/v1/jobs", body, {{"Idempotency-Key", "k"}});
  rig.patch("/v1/jobs/1", R"({"priority":70,"labels":{"a":"b"}})");
  rig.backend.recover();
  const auto job = rig.get("/v1/jobs/1").body();
  EXPECT_EQ(job.at("priority"), 70);
  EXPECT_EQ(job.at("labels").at("a"), "b");
  EXPECT_EQ(rig.post("/v1/jobs", body, {{"Idempotency-Key", "k"}}).response->body, first.response->body)
      << "a replay is answered as the first time";
  rig.post("/v1/jobs/1:cancel");
  const auto over = rig.get("/v1/jobs/1").body();
  EXPECT_EQ(over.at("spec").at("priority"), 70);
  EXPECT_EQ(over.at("labels").at("a"), "b");
  EXPECT_EQ(rig.patch("/v1/jobs/1", R"({"priority":1})").status(), 409) << "it is over";
}

TEST(Patch, OfNothingWritesNothing) {
  ApiRig rig;
  rig.submit();
  const auto before = rig.get("/v1/jobs/1").header("ETag");
  const auto same = rig.patch("/v1/jobs/1", R"({"priority":50,"labels":{"gone":null}})");
  EXPECT_EQ(same.status(), 200);
  EXPECT_EQ(same.header("ETag"), before);
  EXPECT_EQ(last_update(rig, "to"), "");
}

TEST(Patch, HonoursIfMatch) {
  ApiRig rig;
  rig.submit();
  const auto seen = rig.get("/v1/jobs/1").header("ETag");
  EXPECT_EQ(seen, "\"1\"");
  EXPECT_EQ(rig.patch("/v1/jobs/1", R"({"priority":60})", {{"If-Match", seen}}).status(), 200);
  const auto stale = rig.patch("/v1/jobs/1", R"({"priority":70})", {{"If-Match", seen}});
  EXPECT_EQ(stale.status(), 412);
  EXPECT_EQ(stale.body().at("code"), "precondition_failed");
  EXPECT_EQ(rig.get("/v1/jobs/1").body().at("priority"), 60);
  EXPECT_EQ(rig.patch("/v1/jobs/1", R"({"priority":70})", {{"If-Match", "*"}}).status(), 200);
  const auto now = rig.get("/v1/jobs/1").header("ETag");
  EXPECT_EQ(rig.patch("/v1/jobs/1", R"({"priority":71})", {{"If-Match", "W/" + now}}).status(), 412)
      << "weak tags match nothing";
  EXPECT_EQ(rig.patch("/v1/jobs/1", R"({"priority":71})", {{"If-Match", "\"99\", " + now}}).status(), 200);
  EXPECT_EQ(rig.patch("/v1/jobs/1", R"({"priority":72})").status(), 200) << "it is optional";
  for (const auto bad : {"1", "\"x\"", "\"1", "\"\"", "\"1\" \"2\""})
    EXPECT_EQ(rig.patch("/v1/jobs/1", R"({"priority":1})", {{"If-Match", bad}}).status(), 422) << bad;
}

TEST(Patch, RefusesWhatItCannotDo) {
  ApiRig rig;
  rig.submit(R"({"name":"a","run":"x","time_limit":"2h","begin_time":"+1h"})");
  const auto refused = [&](const std::string& body) {
    const auto answer = rig.patch("/v1/jobs/1", body);
    EXPECT_EQ(answer.status(), 422) << body;
    return answer.body();
  };
  EXPECT_EQ(refused(R"({"priorty":80})").at("hint"), "did you mean 'priority'?");
  EXPECT_EQ(refused(R"({"time-limit":"1h"})").at("hint"), "did you mean 'time_limit'?");
  EXPECT_EQ(refused(R"({"queue":"b"})").at("detail"), "cannot be changed any more");
  EXPECT_EQ(refused(R"({"nodes":2})").at("errors").at(0).at("field"), "nodes");
  refused("{}");
  refused("[]");
  refused(R"({"priority":101})");
  refused(R"({"priority":null})");
  refused(R"({"time_limit":"soon"})");
  refused(R"({"labels":[1]})");
  refused(R"({"labels":{"":"x"}})");
  refused(R"({"deadline":"2001-01-01T00:00:00Z"})");
  refused(R"({"deadline":"+30m"})");  // before its begin time
  refused(R"({"total_time_limit":"1h"})");
  EXPECT_EQ(rig.patch("/v1/jobs/1", R"({"priority":1})", {{"Content-Type", "text/plain"}}).status(), 415);
  EXPECT_EQ(rig.patch("/v1/jobs/1", R"({"priority":61})", {{"Content-Type", "application/merge-patch+json"}})
                .status(),
            200);
  EXPECT_EQ(rig.patch("/v1/jobs/1", "{").status(), 400);
  EXPECT_EQ(rig.patch("/v1/jobs/9", R"({"priority":1})").status(), 404);
  rig.backend.be_unready();
  EXPECT_EQ(rig.patch("/v1/jobs/1", R"({"priority":1})").status(), 503);
}

TEST(Patch, IsForWhoMayChangeTheJob) {
  ApiRig rig;
  rig.put("/v1/projects/nlp", "{}");
  rig.submit(R"({"name":"a","run":"x","project":"nlp"})", {{"Tutti-User", "ada"}});
  rig.sign_in(user("bob", {{"nlp", Role::member}}));
  EXPECT_EQ(rig.patch("/v1/jobs/1", R"({"priority":1})").status(), 403);
  rig.sign_in(user("eve", {{"other", Role::admin}}));
  EXPECT_EQ(rig.patch("/v1/jobs/1", R"({"priority":1})").status(), 404);
  rig.sign_in(user("ada", {{"nlp", Role::member}}));
  EXPECT_EQ(rig.patch("/v1/jobs/1", R"({"priority":89})").status(), 200);
  const auto urgent = rig.patch("/v1/jobs/1", R"({"priority":90})");
  EXPECT_EQ(urgent.status(), 403);
  EXPECT_NE(std::string(urgent.body().at("detail").as_string()).find("operators of project 'nlp'"),
            std::string::npos);
  EXPECT_EQ(rig.post("/v1/jobs/1:simulate", R"({"priority":90})").status(), 403);
  rig.sign_in(user("olga", {{"nlp", Role::operator_}}));
  EXPECT_EQ(rig.patch("/v1/jobs/1", R"({"priority":90})").status(), 200);
}

TEST(Patch, SimulateTakesTheSameBody) {
  ApiRig rig;
  rig.submit(R"({"name":"a","run":"x","time_limit":"2h"})");
  for (const auto body : {R"({"priority":80})", R"({"time_limit":null})", R"({"total_time_limit":"4h"})",
                          R"({"deadline":"+48h"})", R"({"labels":{"a":"b"}})", R"({"begin_time":null})"}) {
    EXPECT_EQ(rig.post("/v1/jobs/1:simulate", body).status(), 200) << body;
  }
  const auto later = rig.post("/v1/jobs/1:simulate", R"({"begin_time":"+2h"})").body();
  EXPECT_EQ(later.at("state"), "delayed");
  EXPECT_EQ(later.at("reasons").at(0).at("code"), "delayed");
  EXPECT_EQ(later.at("eta"), nullptr);
  EXPECT_EQ(rig.post("/v1/jobs/1:simulate", R"({"deadline":"2001-01-01T00:00:00Z"})").status(), 422)
      << "what is refused is refused in a preview, too";
  EXPECT_EQ(rig.get("/v1/jobs/1").body().at("spec").at("time_limit"), "2h");
}

}  // namespace
}  // namespace tutti::testing
