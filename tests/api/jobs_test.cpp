// GET /v1/jobs, one job, explain and the queue.
#include "api_rig.h"

namespace tutti::testing {
namespace {

namespace json = boost::json;

std::vector<std::int64_t> ids(const json::value& list) {
  std::vector<std::int64_t> out;
  for (const auto& job : list.at("jobs").as_array()) out.push_back(job.at("id").as_int64());
  return out;
}

std::string spec(const std::string& name, const std::string& more = "") {
  return R"({"name":")" + name + R"(","run":"x")" + more + "}";
}

using Ids = std::vector<std::int64_t>;

TEST(JobList, FiltersAndPages) {
  ApiRig rig;
  for (int i = 1; i <= 5; ++i)
    rig.submit(spec(i % 2 ? "odd" : "even"), {{"Tutti-User", i == 5 ? "bob" : "ada"}});
  rig.post("/v1/jobs/1:cancel");
  rig.post("/v1/jobs/2:hold", R"({"reason":"wait"})");

  EXPECT_EQ(ids(rig.get("/v1/jobs").body()), (Ids{5, 4, 3, 2, 1})) << "newest first";
  EXPECT_EQ(ids(rig.get("/v1/jobs?state=queued").body()), (Ids{5, 4, 3}));
  EXPECT_EQ(ids(rig.get("/v1/jobs?state=held,cancelled").body()), (Ids{2, 1}));
  EXPECT_EQ(ids(rig.get("/v1/jobs?state=held&state=cancelled").body()), (Ids{2, 1}));
  EXPECT_EQ(ids(rig.get("/v1/jobs?state=pending").body()), (Ids{5, 4, 3, 2}));
  EXPECT_EQ(ids(rig.get("/v1/jobs?state=terminal").body()), (Ids{1}));
  EXPECT_EQ(ids(rig.get("/v1/jobs?state=active").body()), (Ids{}));
  EXPECT_EQ(ids(rig.get("/v1/jobs?user=bob").body()), (Ids{5}));
  EXPECT_EQ(ids(rig.get("/v1/jobs?name=even&project=default&queue=default").body()), (Ids{4, 2}));
  EXPECT_EQ(ids(rig.get("/v1/jobs?project=other").body()), (Ids{}));
  EXPECT_EQ(ids(rig.get("/v1/jobs?since=1h").body()), (Ids{5, 4, 3, 2, 1}));
  rig.backend.tick(2h);
  EXPECT_EQ(ids(rig.get("/v1/jobs?since=1h").body()), (Ids{}));
  EXPECT_EQ(ids(rig.get("/v1/jobs?since=2001-01-01T00:00:00Z").body()), (Ids{5, 4, 3, 2, 1}));
  EXPECT_EQ(ids(rig.get("/v1/jobs?until=2001-01-01T00:00:00Z").body()), (Ids{}));
  EXPECT_EQ(ids(rig.get("/v1/jobs?until=1h&page_size=2").body()), (Ids{5, 4}));

  Ids all;
  std::string token;
  int pages = 0;
  do {
    const auto page = rig.get("/v1/jobs?page_size=2&page_token=" + token).body();
    for (const auto id : ids(page)) all.push_back(id);
    token = page.at("next_page_token").as_string().c_str();
    ASSERT_LE(++pages, 3);
  } while (!token.empty());
  EXPECT_EQ(all, (Ids{5, 4, 3, 2, 1}));
  EXPECT_EQ(rig.get("/v1/jobs?page_size=5").body().at("next_page_token"), "") << "no empty page at the end";
}

TEST(JobList, FindsByPartOfTheNameAndByCause) {
  ApiRig rig;
  rig.backend.add_node("n1", 8);
  rig.backend.end_attempt(rig.backend.run_job(rig.submit(spec("llama-7b"))), false, 3);
  rig.submit(spec("LLaMA-70b"));
  rig.submit(spec("bert_%"));
  EXPECT_EQ(ids(rig.get("/v1/jobs?q=llama").body()), (Ids{2, 1})) << "in either case";
  EXPECT_EQ(ids(rig.get("/v1/jobs?q=-7b").body()), (Ids{1}));
  EXPECT_EQ(ids(rig.get("/v1/jobs?q=%25").body()), (Ids{3})) << "no pattern, only text";
  EXPECT_EQ(ids(rig.get("/v1/jobs?cause=user").body()), (Ids{1}));
  EXPECT_EQ(ids(rig.get("/v1/jobs?cause=gpu,user").body()), (Ids{1}));
  EXPECT_EQ(ids(rig.get("/v1/jobs?cause=gpu").body()), (Ids{}));
  EXPECT_EQ(rig.get("/v1/jobs?cause=bad-luck").status(), 422);
}

TEST(JobCount, CountsInGroupsWithTheSameFilters) {
  ApiRig rig;
  rig.backend.add_node("n1", 8);
  rig.submit(spec("a", R"(,"resources":{"gpus":8})"), {{"Tutti-User", "ada"}});
  rig.submit(spec("b", R"(,"nodes":2,"resources":{"gpus":4})"), {{"Tutti-User", "ada"}});
  rig.submit(spec("b", R"(,"resources":{"gpus":1})"), {{"Tutti-User", "bob"}});
  rig.post("/v1/jobs/3:cancel");
  const auto groups = [&](const std::string& query) {
    return rig.get("/v1/jobs:count?" + query).body().at("groups");
  };
  EXPECT_EQ(groups("group_by=user"),
            json::parse(R"([{"key":"ada","jobs":2,"gpus":16},{"key":"bob","jobs":1,"gpus":1}])"));
  EXPECT_EQ(groups("state=terminal"), json::parse(R"([{"key":"cancelled","jobs":1,"gpus":1}])"));
  EXPECT_EQ(groups("group_by=name&state=pending"), json::parse(R"([{"key":"b","jobs":1,"gpus":8}])"));
  EXPECT_EQ(groups("group_by=project&q=B"), json::parse(R"([{"key":"default","jobs":2,"gpus":9}])"));
  EXPECT_EQ(groups("user=nobody"), json::array());
  EXPECT_EQ(rig.get("/v1/jobs:count").body().at("cut"), false);
  for (const auto* query : {"group_by=owner", "page_size=2", "state=gone"})
    EXPECT_EQ(rig.get("/v1/jobs:count?" + std::string(query)).status(), 422) << query;
  const auto eve = rig.get("/v1/jobs:count", rig.user("eve", {{"vision", Role::member}})).body();
  EXPECT_TRUE(eve.at("groups").as_array().empty()) << "only what one may see is counted";
  rig.backend.break_reads(true);
  EXPECT_EQ(rig.get("/v1/jobs:count").status(), 503);
}

TEST(JobList, RefusesWhatItDoesNotKnow) {
  ApiRig rig;
  for (const auto query : {"state=gone", "state=queued,gone", "since=yesterday", "until=yesterday",
                           "page_size=0", "page_size=x", "page_token=x", "page_token=-1", "sort=id"})
    EXPECT_EQ(rig.get("/v1/jobs?" + std::string(query)).status(), 422) << query;
  EXPECT_EQ(ids(rig.get("/v1/jobs?page_size=99999&state=&since=").body()), (Ids{}))
      << "empty values mean any";
}

TEST(JobList, WorksWhileTheLeaderRecovers) {
  ApiRig rig;
  rig.submit();
  rig.backend.be_unready();
  EXPECT_EQ(ids(rig.get("/v1/jobs").body()), (Ids{1}));
  rig.backend.break_reads(true);
  EXPECT_EQ(rig.get("/v1/jobs").status(), 503);
}

TEST(Job, ByIdAndByName) {
  ApiRig rig;
  rig.submit(spec("twin"));
  rig.submit(spec("twin"));
  rig.submit(spec("single", R"(,"labels":{"a":"b"})"));
  EXPECT_EQ(rig.get("/v1/jobs/3").body().at("labels").at("a"), "b");
  EXPECT_EQ(rig.get("/v1/jobs/single").body().at("id"), 3);
  EXPECT_EQ(rig.get("/v1/jobs/single").header("Tutti-Ambiguous"), "");
  const auto newest = rig.get("/v1/jobs/twin");
  EXPECT_EQ(newest.body().at("id"), 2);
  EXPECT_EQ(newest.header("Tutti-Ambiguous"), "2");
  EXPECT_EQ(rig.get("/v1/jobs/4").status(), 404);
  EXPECT_EQ(rig.get("/v1/jobs/nobody").status(), 404);
  EXPECT_EQ(rig.get("/v1/jobs/99999999999999999999").status(), 404);
  EXPECT_EQ(rig.get("/v1/jobs/0").status(), 404);
}

TEST(Job, ShowsProgressAndAllocationWhileItLives) {
  ApiRig rig;
  rig.backend.add_node("n1", 8);
  const auto id = rig.submit(spec("a", R"(,"resources":{"gpus":2})"));
  const auto key = rig.backend.run_job(id);
  rig.backend.change([&](ControlPlane& plane, Now now) {
    plane.on_progress(
        now, plane.cluster().node_by_name.at("n1"),
        protocol::Progress{
            .key = key, .step = 7, .total = 10, .eta_seconds = 3.5, .metrics = {{"loss", 0.5}}});
  });
  const auto job = rig.get("/v1/jobs/1").body();
  EXPECT_EQ(job.at("state"), "running");
  EXPECT_EQ(job.at("progress").at("step"), 7);
  EXPECT_EQ(job.at("progress").at("metrics").at("loss"), 0.5);
  EXPECT_EQ(job.at("allocation"), json::parse(R"([{"node":"n1","gpus":[0,1]}])"));
  const auto listed = rig.get("/v1/jobs").body().at("jobs").at(0);
  EXPECT_EQ(listed.at("allocation"), job.at("allocation"));
  EXPECT_FALSE(listed.as_object().contains("spec"));
  rig.backend.end_attempt(key, true);
  const auto over = rig.get("/v1/jobs/1").body();
  EXPECT_EQ(over.at("state"), "succeeded");
  EXPECT_EQ(over.at("exit_code"), 0);
  EXPECT_TRUE(over.at("ended_at").is_string());
  EXPECT_EQ(over.at("progress"), nullptr);
  EXPECT_TRUE(over.at("allocation").as_array().empty());
  EXPECT_EQ(over.at("spec").at("resources").at("gpus"), 2);
}

TEST(Job, AFailedOneShowsCauseAndExitCode) {
  ApiRig rig;
  rig.backend.add_node("n1", 8);
  const auto id = rig.submit(spec("a"));
  rig.backend.end_attempt(rig.backend.run_job(id), false, 3);
  const auto job = rig.get("/v1/jobs/1").body();
  EXPECT_EQ(job.at("state"), "failed");
  EXPECT_EQ(job.at("cause"), "user");
  EXPECT_EQ(job.at("exit_code"), 3);
}

json::value budget(const json::value& job, std::string_view cause) {
  for (const auto& b : job.at("budgets").as_array())
    if (b.at("cause").as_string() == cause) return b;
  return nullptr;
}

TEST(Job, ShowsWhatItsFailuresMayStillCost) {
  ApiRig rig;
  rig.backend.add_node("n1", 8);
  const auto id =
      rig.submit(spec("a", R"(,"retry":{"budget":{"user":2,"network":-1},"no_progress_limit":5})"));
  const auto before = rig.get("/v1/jobs/1").body();
  EXPECT_EQ(
      budget(before, "user"),
      json::parse(R"({"cause":"user","limit":2,"used":0,"window_seconds":null,"next_delay_seconds":1E1})"));
  EXPECT_EQ(budget(before, "gpu").at("limit"), 20);
  EXPECT_EQ(budget(before, "gpu").at("window_seconds"), 86400.0);
  EXPECT_EQ(budget(before, "gpu").at("next_delay_seconds"), 0.0) << "the first time at once";
  EXPECT_EQ(budget(before, "network").at("limit"), -1);
  EXPECT_EQ(budget(before, "oom").at("next_delay_seconds"), nullptr) << "none left: it would not start again";
  EXPECT_EQ(budget(before, "preempted"), nullptr) << "never charged";
  EXPECT_EQ(before.at("no_progress"), json::parse(R"({"limit":5,"in_a_row":0})"));
  rig.backend.end_attempt(rig.backend.run_job(id), false, 3);
  const auto after = rig.get("/v1/jobs/1").body();
  EXPECT_EQ(budget(after, "user").at("used"), 1);
  EXPECT_EQ(budget(after, "user").at("next_delay_seconds"), 20.0);
  EXPECT_EQ(after.at("no_progress").at("in_a_row"), 1);
  rig.post("/v1/jobs/1:cancel");
  EXPECT_FALSE(rig.get("/v1/jobs/1").body().as_object().contains("budgets")) << "it is over";
}

TEST(Job, SaysWhenItIsExpectedToStartAndToEnd) {
  ApiRig rig;
  rig.backend.add_node("n1", 8);
  const auto first = rig.submit(spec("runs", R"(,"resources":{"gpus":8},"time_limit":"2h")"));
  rig.backend.run_job(first);
  rig.submit(spec("waits", R"(,"resources":{"gpus":8})"));
  rig.submit(spec("never", R"(,"resources":{"gpus":16})"));
  rig.backend.tick(1s);
  const auto runs = rig.get("/v1/jobs/1").body(), waits = rig.get("/v1/jobs/2").body();
  const auto never = rig.get("/v1/jobs/3").body();
  EXPECT_EQ(runs.at("eta"), nullptr);
  EXPECT_TRUE(runs.at("ends_at").is_string());
  EXPECT_TRUE(waits.at("eta").at("at").is_string());
  EXPECT_GT(waits.at("ends_at").as_string(), waits.at("eta").at("at").as_string());
  EXPECT_GE(waits.at("eta").at("at").as_string(), runs.at("ends_at").as_string());
  EXPECT_EQ(never.at("eta"), nullptr);
  EXPECT_EQ(never.at("ends_at"), nullptr);
}

TEST(Explain, GivesReasonsWithNumbers) {
  ApiRig rig;
  rig.backend.add_node("n1", 8);
  rig.submit(spec("fits", R"(,"resources":{"gpus":8})"));
  rig.submit(spec("waits", R"(,"resources":{"gpus":8})"));
  rig.submit(spec("never", R"(,"resources":{"gpus":16})"));
  const auto waits = rig.get("/v1/jobs/2/explain").body();
  EXPECT_EQ(waits.at("never"), false);
  EXPECT_EQ(waits.at("position"), 0);
  EXPECT_FALSE(waits.at("reasons").as_array().empty());
  EXPECT_EQ(rig.get("/v1/jobs/never/explain").body().at("never"), true);
  rig.post("/v1/jobs/2:cancel");
  const auto over = rig.get("/v1/jobs/2/explain").body();
  EXPECT_EQ(over.at("state"), "cancelled");
  EXPECT_EQ(over.at("position"), nullptr);
  EXPECT_EQ(rig.get("/v1/jobs/9/explain").status(), 404);
  rig.backend.be_unready();
  EXPECT_EQ(rig.get("/v1/jobs/2/explain").status(), 503);
}

TEST(Queue, IsInTheOrderOfTheHeapAndAgreesWithExplain) {
  ApiRig rig;
  rig.submit(spec("low", R"(,"priority":5)"));
  rig.submit(spec("normal"));
  rig.submit(spec("later", R"(,"begin_time":"+1h")"));
  rig.submit(spec("urgent", R"(,"priority":95)"));
  rig.submit(spec("held"));
  rig.submit(spec("big", R"(,"resources":{"gpus":8})"));
  rig.post("/v1/jobs/5:hold");
  const auto queue = rig.get("/v1/queue").body();
  EXPECT_EQ(ids(queue), (Ids{4, 2, 6, 1, 3, 5}));
  for (const auto& job : queue.at("jobs").as_array()) {
    const auto explained = rig.get("/v1/jobs/" + std::to_string(job.at("id").as_int64()) + "/explain").body();
    EXPECT_EQ(job.at("position"), explained.at("position"));
    EXPECT_EQ(job.at("reasons"), explained.at("reasons"));
  }
  EXPECT_EQ(ids(rig.get("/v1/queue?queue=other").body()), (Ids{}));
  for (int i = 0; i < 250; ++i) rig.submit(spec("more"));
  EXPECT_EQ(ids(rig.get("/v1/queue").body()).size(), 200u);
  rig.backend.be_unready();
  EXPECT_EQ(rig.get("/v1/queue").status(), 503);
}

}  // namespace
}  // namespace tutti::testing
