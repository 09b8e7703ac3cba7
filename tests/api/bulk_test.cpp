// POST /v1/jobs:bulk: one act on many jobs.
#include <boost/json/parse.hpp>

#include "api_rig.h"

namespace tutti::testing {
namespace {

namespace json = boost::json;

std::string spec(const std::string& name, const std::string& more = "") {
  return R"({"name":")" + name + R"(","run":"x")" + more + "}";
}

// "1 changed, 2 refused"
std::string outcomes(const json::value& body) {
  std::string text;
  for (const auto& job : body.at("jobs").as_array())
    text += (text.empty() ? "" : ", ") + std::to_string(job.at("id").as_int64()) + " " +
            job.at("outcome").as_string().c_str();
  return text;
}

struct Bulk : ApiRig {
  json::value bulk(const std::string& body) {
    const auto answer = post("/v1/jobs:bulk", body);
    EXPECT_EQ(answer.status(), 200) << answer.response->body;
    return answer.body();
  }
  std::string refusal(const std::string& body) {
    const auto answer = post("/v1/jobs:bulk", body);
    EXPECT_EQ(answer.status(), 422) << body;
    return std::string(answer.body().at("errors").at(0).at("field").as_string());
  }
  std::string state(int id) {
    return get("/v1/jobs/" + std::to_string(id)).body().at("state").as_string().c_str();
  }
};

TEST(BulkJobs, ByIds) {
  Bulk rig;
  for (int i = 0; i < 4; ++i) rig.submit();
  rig.post("/v1/jobs/3:cancel");
  const auto done = rig.bulk(R"({"action":"hold","ids":[2,"1",3,2,99],"reason":"look first"})");
  EXPECT_EQ(outcomes(done), "2 changed, 1 changed, 3 refused, 99 refused");
  EXPECT_EQ(done.at("matched"), 4);
  EXPECT_EQ(done.at("changed"), 2);
  EXPECT_EQ(done.at("refused"), 2);
  EXPECT_EQ(done.at("jobs").at(2).at("detail"), "job 3 is already over");
  EXPECT_EQ(done.at("jobs").at(3).at("detail"), "no job 99");
  EXPECT_EQ(rig.get("/v1/jobs/1").body().at("reason"), "held by admin: look first");
  EXPECT_EQ(outcomes(rig.bulk(R"({"action":"hold","ids":[1]})")), "1 skipped");
  EXPECT_EQ(outcomes(rig.bulk(R"({"action":"release","ids":[1,4]})")), "1 changed, 4 refused");
  const auto events = rig.get("/v1/jobs/1/events").body().at("events").as_array();
  EXPECT_EQ(events.back().at("detail"), "released by admin");
}

TEST(BulkJobs, ByFilter) {
  Bulk rig;
  rig.put("/v1/projects/nlp", "{}");
  rig.submit(spec("a", R"(,"labels":{"k":"v"})"));
  rig.submit(spec("b", R"(,"project":"nlp","labels":{"k":"w"})"), {{"Tutti-User", "ada"}});
  rig.submit(spec("a", R"(,"project":"nlp","labels":{"k":"v","l":"m"})"));
  rig.submit(spec("s", R"(,"array":{"range":"0-2"})"));  // 4, 5, 6
  const auto match = [&](const std::string& filter) {
    return outcomes(rig.bulk(R"({"action":"cancel","dry_run":true,"filter":)" + filter + "}"));
  };
  EXPECT_EQ(match(R"({"name":"a"})"), "1 would_change, 3 would_change");
  EXPECT_EQ(match(R"({"project":"nlp","name":"a"})"), "3 would_change");
  EXPECT_EQ(match(R"({"user":"ada"})"), "2 would_change");
  EXPECT_EQ(match(R"({"labels":{"k":"v"}})"), "1 would_change, 3 would_change");
  EXPECT_EQ(match(R"({"labels":{"k":"v","l":"m"}})"), "3 would_change");
  EXPECT_EQ(match(R"({"array":5})"), "4 would_change, 5 would_change, 6 would_change");
  EXPECT_EQ(match(R"({"state":"held"})"), "");
  EXPECT_EQ(match(R"({"state":["held","queued"],"queue":"default","name":"b"})"), "2 would_change");
  EXPECT_EQ(match(R"({"since":"1h","name":"b"})"), "2 would_change");
  rig.backend.tick(2h);
  EXPECT_EQ(match(R"({"since":"1h","name":"b"})"), "");
  EXPECT_EQ(rig.state(1), "queued") << "nothing has happened so far";
  const auto done = rig.bulk(R"({"action":"cancel","filter":{"all":true},"reason":"the cluster moves"})");
  EXPECT_EQ(done.at("changed"), 6);
  EXPECT_EQ(rig.get("/v1/jobs/2").body().at("reason"), "cancelled by admin: the cluster moves");
}

TEST(BulkJobs, GoPageByPage) {
  Bulk rig;
  for (int i = 0; i < 5; ++i) rig.submit();
  auto page = rig.bulk(R"({"action":"update","change":{"priority":60},"filter":{"all":true},"limit":2})");
  EXPECT_EQ(outcomes(page), "1 changed, 2 changed");
  EXPECT_EQ(page.at("matched"), 5);
  EXPECT_EQ(page.at("next_page_token"), "2");
  page = rig.bulk(
      R"({"action":"update","change":{"priority":60},"filter":{"all":true},"limit":3,"page_token":"2"})");
  EXPECT_EQ(outcomes(page), "3 changed, 4 changed, 5 changed");
  EXPECT_EQ(page.at("next_page_token"), "");
  EXPECT_EQ(rig.get("/v1/jobs/5").body().at("priority"), 60);
  EXPECT_EQ(outcomes(rig.bulk(R"({"action":"update","change":{"priority":60},"ids":[5]})")), "5 skipped");
}

// Page by page, the GPUs that the first page left would start jobs of the second.
TEST(BulkJobs, WhatWaitsIsCancelledBeforeWhatRuns) {
  Bulk rig;
  for (const char* node : {"n1", "n2"}) rig.backend.add_node(node);
  for (int i = 0; i < 5; ++i) rig.submit(spec("x", R"(,"resources":{"gpus":8})"));
  rig.backend.run_job(JobId(1));
  const AttemptKey second = rig.backend.run_job(JobId(2));
  ASSERT_EQ(rig.state(3), "queued");
  const auto page = [&](const std::string& more) {
    return rig.bulk(R"({"action":"cancel","filter":{"all":true},"limit":2)" + more + "}");
  };
  EXPECT_EQ(outcomes(page(R"(,"dry_run":true)")), "3 would_change, 4 would_change");
  EXPECT_EQ(outcomes(page(R"(,"dry_run":true,"page_token":"r1")")), "2 would_change");
  auto done = page("");
  EXPECT_EQ(outcomes(done), "3 changed, 4 changed");
  EXPECT_EQ(done.at("matched"), 5);
  EXPECT_EQ(done.at("next_page_token"), "4");
  EXPECT_EQ(rig.state(1), "running");
  done = page(R"(,"page_token":"4")");
  EXPECT_EQ(outcomes(done), "5 changed, 1 changed");
  EXPECT_EQ(done.at("next_page_token"), "r1");
  EXPECT_EQ(rig.state(1), "stopping");
  rig.post("/v1/jobs/2:hold");
  rig.backend.end_attempt(second, false);
  ASSERT_EQ(rig.state(2), "held") << "it has come back to wait, behind the back of the cancellation";
  done = page(R"(,"page_token":"r1")");
  EXPECT_EQ(outcomes(done), "2 changed");
  EXPECT_EQ(done.at("next_page_token"), "");
  EXPECT_EQ(rig.refusal(R"({"action":"hold","filter":{"all":true},"page_token":"r1"})"), "page_token");
}

// Of two that run, the first comes back to wait where the pages have gone by.
TEST(BulkJobs, WhatComesBackToWaitMeanwhileIsCancelledToo) {
  Bulk rig;
  for (const char* node : {"n1", "n2"}) rig.backend.add_node(node);
  for (int i = 0; i < 4; ++i) rig.submit(spec("x", R"(,"resources":{"gpus":8})"));
  const AttemptKey first = rig.backend.run_job(JobId(1));
  rig.backend.run_job(JobId(2));
  const auto page = [&](const std::string& more) {
    return rig.bulk(R"({"action":"cancel","filter":{"all":true})" + more + "}");
  };
  auto done = page(R"(,"limit":2)");
  EXPECT_EQ(outcomes(done), "3 changed, 4 changed");
  EXPECT_EQ(done.at("next_page_token"), "4");
  rig.post("/v1/jobs/1:hold");
  rig.backend.end_attempt(first, false);
  ASSERT_EQ(rig.state(1), "held");
  done = page(R"(,"limit":1,"page_token":"4")");
  EXPECT_EQ(outcomes(done), "1 changed");
  EXPECT_EQ(done.at("next_page_token"), "r1");
  done = page(R"(,"limit":1,"page_token":"r1")");
  EXPECT_EQ(outcomes(done), "2 changed");
  EXPECT_EQ(done.at("next_page_token"), "");
}

TEST(BulkJobs, AThousandAreOneCommit) {
  Bulk rig;
  std::vector<std::string> specs;
  std::string batch;
  for (int i = 0; i < 1000; ++i) batch += (i == 0 ? "" : ",") + spec("x");
  rig.post("/v1/jobs:batch", R"({"jobs":[)" + batch + "]}");
  rig.submit();
  const auto before = rig.backend.commits();
  const auto done = rig.bulk(R"({"action":"cancel","filter":{"all":true}})");
  EXPECT_EQ(done.at("changed"), 1000);
  EXPECT_EQ(done.at("matched"), 1001);
  EXPECT_EQ(rig.backend.commits(), before + 1);
}

TEST(BulkJobs, TouchOnlyWhatTheCallerMayChange) {
  Bulk rig;
  rig.put("/v1/projects/nlp", "{}");
  rig.put("/v1/projects/secret", "{}");
  rig.submit(spec("a", R"(,"project":"nlp")"), {{"Tutti-User", "ada"}});
  rig.submit(spec("b", R"(,"project":"nlp")"), {{"Tutti-User", "bob"}});
  rig.submit(spec("c", R"(,"project":"secret")"), {{"Tutti-User", "eve"}});
  rig.submit(spec("d", R"(,"project":"secret")"), {{"Tutti-User", "eve"}});
  rig.post("/v1/jobs/4:cancel");
  rig.sign_in(user("ada", {{"nlp", Role::member}}));
  EXPECT_EQ(outcomes(rig.bulk(R"({"action":"hold","filter":{"all":true}})")), "1 changed");
  const auto named = rig.bulk(R"({"action":"hold","ids":[2,3,4]})");
  EXPECT_EQ(outcomes(named), "2 refused, 3 refused, 4 refused");
  EXPECT_EQ(named.at("jobs").at(0).at("detail"), "belongs to bob in project nlp; ada may not change it");
  EXPECT_EQ(named.at("jobs").at(1).at("detail"), "no job 3");
  EXPECT_EQ(named.at("jobs").at(2).at("detail"), "no job 4") << "not even that it is over";
  EXPECT_EQ(outcomes(rig.bulk(R"({"action":"update","change":{"priority":95},"ids":[1]})")), "1 refused");
  rig.sign_in(user("olga", {{"nlp", Role::operator_}}));
  EXPECT_EQ(outcomes(rig.bulk(R"({"action":"update","change":{"priority":95},"filter":{"all":true}})")),
            "1 changed, 2 changed");
  rig.sign_in(user("vic", {{"nlp", Role::viewer}}));
  EXPECT_EQ(rig.post("/v1/jobs:bulk", R"({"action":"hold","ids":[1]})").status(), 403);
}

TEST(BulkJobs, ADryRunSaysWhatWouldBeRefused) {
  Bulk rig;
  rig.backend.add_node("n1");
  rig.submit();
  rig.submit(spec("b", R"(,"begin_time":"+1h")"));
  rig.backend.run_job(JobId(1));
  const auto dry = rig.bulk(R"({"action":"requeue","filter":{"all":true},"dry_run":true})");
  EXPECT_EQ(outcomes(dry), "1 would_change, 2 refused");
  EXPECT_EQ(dry.at("would_change"), 1);
  EXPECT_EQ(dry.at("changed"), 0);
  EXPECT_EQ(rig.state(1), "running");
  const auto done = rig.bulk(R"({"action":"requeue","filter":{"all":true}})");
  EXPECT_EQ(outcomes(done), "1 changed, 2 refused");
  EXPECT_EQ(done.at("jobs").at(1).at("detail"), dry.at("jobs").at(1).at("detail"));
}

TEST(BulkJobs, JobsThatEndWithOneBeforeThemAreNoFailure) {
  Bulk rig;
  rig.submit();
  rig.submit(spec("b", R"(,"depends_on":[1])"));
  EXPECT_EQ(outcomes(rig.bulk(R"({"action":"cancel","filter":{"all":true}})")), "1 changed, 2 skipped");
  EXPECT_EQ(rig.state(2), "cancelled");
}

TEST(BulkJobs, SelectNothingByAccident) {
  Bulk rig;
  rig.submit();
  EXPECT_EQ(rig.refusal(R"({"action":"cancel","filter":{}})"), "filter");
  EXPECT_EQ(rig.refusal(R"({"action":"cancel","filter":{"all":false}})"), "filter");
  EXPECT_EQ(rig.refusal(R"({"action":"cancel","filter":{"state":""}})"), "filter");
  EXPECT_EQ(rig.refusal(R"({"action":"cancel"})"), "ids");
  EXPECT_EQ(rig.refusal(R"({"action":"cancel","ids":[]})"), "ids");
  EXPECT_EQ(rig.refusal(R"({"action":"cancel","ids":[1],"filter":{"all":true}})"), "ids");
  EXPECT_EQ(rig.state(1), "queued");
}

TEST(BulkJobs, ReadTheBodyStrictly) {
  Bulk rig;
  EXPECT_EQ(rig.refusal(R"({"ids":[1]})"), "action");
  EXPECT_EQ(rig.refusal(R"({"action":"hold","ids":[1,2],"limit":1})"), "ids");
  EXPECT_EQ(rig.refusal(R"({"action":"hold","ids":[1,2],"page_token":"1"})"), "ids");
  EXPECT_EQ(rig.refusal(R"({"action":"cancle","ids":[1]})"), "action");
  EXPECT_EQ(rig.refusal(R"({"action":"cancel","ids":["x"]})"), "ids[0]");
  EXPECT_EQ(rig.refusal(R"({"action":"cancel","ids":[0]})"), "ids[0]");
  EXPECT_EQ(rig.refusal(R"({"action":"cancel","filter":{"state":"gone"}})"), "filter.state");
  EXPECT_EQ(rig.refusal(R"({"action":"cancel","filter":{"state":["failed"]}})"), "filter.state[0]");
  EXPECT_EQ(rig.refusal(R"({"action":"cancel","filter":{"owner":"x"}})"), "filter.owner");
  EXPECT_EQ(rig.refusal(R"({"action":"cancel","ids":[1],"limit":1001})"), "limit");
  EXPECT_EQ(rig.refusal(R"({"action":"update","ids":[1]})"), "change");
  EXPECT_EQ(rig.refusal(R"({"action":"update","ids":[1],"change":{"queue":"b"}})"), "change.queue");
  EXPECT_EQ(rig.refusal(R"({"action":"hold","ids":[1],"change":{"priority":1}})"), "change");
  EXPECT_EQ(rig.refusal(R"({"action":"hold","ids":[1],"reasons":"x"})"), "reasons");
  std::string many = "[1";
  for (int i = 2; i <= 1001; ++i) many += "," + std::to_string(i);
  EXPECT_EQ(rig.refusal(R"({"action":"hold","ids":)" + many + "]}"), "ids");
  EXPECT_EQ(rig.post("/v1/jobs:bulk", "{").status(), 400);
  rig.backend.be_unready();
  EXPECT_EQ(rig.post("/v1/jobs:bulk", R"({"action":"hold","ids":[1]})").status(), 503);
}

}  // namespace
}  // namespace tutti::testing
