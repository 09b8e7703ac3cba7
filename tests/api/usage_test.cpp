// GET /v1/usage: the sums themselves are tests/store's; here what is asked, who sees what, JSON and CSV.
#include "api/handlers/csv.h"
#include "api_rig.h"

namespace tutti::testing {
namespace {

// Job 1 (ada, nlp) ran an hour on two GPUs, job 2 (eve, secret) runs since an hour on four.
struct UsageRig : ApiRig {
  UsageRig() {
    put("/v1/projects/nlp", "{}");
    put("/v1/projects/secret", "{}");
    backend.add_node("n1", 8);
    submit(R"({"name":"a","run":"x","project":"nlp","resources":{"gpus":2}})", {{"Tutti-User", "ada"}});
    const auto key = backend.run_job(JobId(1));
    backend.tick(1h);
    backend.end_attempt(key, true);
    submit(R"({"name":"b","run":"x","project":"secret","resources":{"gpus":4}})", {{"Tutti-User", "eve"}});
    backend.run_job(JobId(2));
    backend.tick(1h);
  }
};

TEST(UsageApi, GroupsAndSums) {
  UsageRig rig;
  const auto usage = rig.get("/v1/usage?group_by=project,user").body();
  ASSERT_EQ(usage.at("rows").as_array().size(), 2u);
  const auto& nlp = usage.at("rows").at(0);
  EXPECT_EQ(nlp.at("project"), "nlp");
  EXPECT_EQ(nlp.at("user"), "ada");
  EXPECT_NEAR(nlp.at("gpu_seconds").to_number<double>(), 7200, 1);
  EXPECT_EQ(nlp.at("succeeded"), 1);
  EXPECT_EQ(nlp.at("attempts"), 1);
  EXPECT_NEAR(usage.at("rows").at(1).at("gpu_seconds").to_number<double>(), 4 * 3600, 1);
  EXPECT_NEAR(usage.at("total").at("gpu_seconds").to_number<double>(), 6 * 3600, 1);
  EXPECT_EQ(usage.at("total").at("jobs"), 2);
  EXPECT_FALSE(usage.at("rows").at(0).as_object().contains("queue"));
  EXPECT_EQ(rig.get("/v1/usage").body().at("group_by").at(0), "project");
  EXPECT_TRUE(rig.get("/v1/usage?group_by=").body().at("rows").as_array().empty());
  EXPECT_EQ(rig.get("/v1/usage?user=eve&group_by=").body().at("total").at("jobs"), 1);
  EXPECT_NEAR(
      rig.get("/v1/usage?since=30m&group_by=").body().at("total").at("gpu_seconds").to_number<double>(),
      4 * 1800, 1);
  EXPECT_EQ(rig.get("/v1/usage?group_by=day,cause").body().at("rows").at(0).at("cause"), "none");
}

TEST(UsageApi, IsRestrictedToWhatTheCallerSees) {
  UsageRig rig;
  rig.sign_in(user("ada", {{"nlp", Role::member}}));
  const auto usage = rig.get("/v1/usage").body();
  ASSERT_EQ(usage.at("rows").as_array().size(), 1u);
  EXPECT_EQ(usage.at("rows").at(0).at("project"), "nlp");
  EXPECT_EQ(usage.at("total").at("jobs"), 1);
  EXPECT_EQ(rig.get("/v1/usage?project=secret").body().at("total").at("jobs"), 0);
  EXPECT_EQ(rig.get("/v1/projects/secret/usage").body().at("total").at("jobs"), 0);
  rig.sign_in(user("eve", {{"other", Role::viewer}}));
  EXPECT_EQ(rig.get("/v1/usage").body().at("total").at("jobs"), 1) << "her own";
}

TEST(UsageApi, OfOneProject) {
  UsageRig rig;
  const auto usage = rig.get("/v1/projects/nlp/usage").body();
  EXPECT_EQ(usage.at("group_by").at(0), "user");
  EXPECT_EQ(usage.at("rows").at(0).at("user"), "ada");
  EXPECT_EQ(rig.get("/v1/projects/nowhere/usage").status(), 404);
  EXPECT_EQ(rig.get("/v1/projects/nlp/usage?project=secret").status(), 422);
}

TEST(UsageApi, AsCsv) {
  UsageRig rig;
  const auto csv = rig.get("/v1/usage?group_by=project,day&format=csv");
  ASSERT_EQ(csv.status(), 200);
  const std::string text = csv.response->body;
  EXPECT_TRUE(
      text.starts_with("project,day,jobs,attempts,gpu_seconds,node_seconds,lost_gpu_seconds,lost_user_"))
      << text;
  EXPECT_NE(text.find("\r\nnlp,2019-12-20,1,1,7"), std::string::npos) << text;
  EXPECT_TRUE(text.ends_with("\r\n"));
  EXPECT_EQ(std::ranges::count(text, '\n'), 3);
  EXPECT_EQ(rig.get("/v1/usage", {{"Accept", "text/csv"}}).header("Content-Type"),
            "text/csv; charset=utf-8; header=present");
  EXPECT_EQ(rig.get("/v1/usage?format=json", {{"Accept", "text/csv"}}).header("Content-Type"),
            "application/json")
      << "the parameter wins";
}

TEST(UsageApi, CellsThatASpreadsheetWouldRunAreDisarmed) {
  api::Csv csv;
  for (const auto cell : {"plain", "=1+1", "+1", "-1", "@x", " =1", "a,b", "say \"hi\"", "two\nlines", ""})
    csv.text(cell);
  csv.number("-5");
  csv.end_row();
  EXPECT_EQ(
      csv.take(),
      "plain,\"'=1+1\",\"'+1\",\"'-1\",\"'@x\",\"' =1\",\"a,b\",\"say \"\"hi\"\"\",\"two\nlines\",,-5\r\n");
}

TEST(UsageApi, OneIsSummedAtATime) {
  UsageRig rig;
  rig.backend.hold_reads(true);
  const auto first = rig.start(http::Method::get, "/v1/usage");
  const auto second = rig.get("/v1/usage");
  EXPECT_EQ(second.status(), 503);
  EXPECT_EQ(second.header("Retry-After"), "1");
  rig.backend.hold_reads(false);
  rig.backend.run_reads();
  EXPECT_EQ(first->status(), 200);
  EXPECT_EQ(rig.get("/v1/usage").status(), 200);
}

TEST(UsageApi, RefusesWhatItCannotAnswer) {
  UsageRig rig;
  for (const auto query :
       {"group_by=owner", "group_by=day,day", "since=x", "until=x", "since=500d", "format=xml", "sort=x",
        "since=2999-01-01T00:00:00Z", "since=1h&until=2h", "since=2000-01-01T00:00:00Z"})
    EXPECT_EQ(rig.get("/v1/usage?" + std::string(query)).status(), 422) << query;
  EXPECT_EQ(rig.get("/v1/usage?group_by=projct").body().at("hint"), "did you mean 'project'?");
  rig.backend.break_reads(true);
  const auto away = rig.get("/v1/usage");
  EXPECT_EQ(away.status(), 503);
  EXPECT_EQ(away.body().at("hint"), "try again, or ask for a shorter interval");
}

}  // namespace
}  // namespace tutti::testing
