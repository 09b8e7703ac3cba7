// What somebody sees who has no role everywhere: their own jobs, and those of projects with a role. And what
// they may submit.
#include <boost/json/parse.hpp>

#include "api_rig.h"

namespace tutti::testing {
namespace {

namespace json = boost::json;
using Ids = std::vector<std::int64_t>;

Ids ids(const json::value& list) {
  Ids out;
  for (const auto& job : list.at("jobs").as_array()) out.push_back(job.at("id").as_int64());
  return out;
}

std::string spec(const std::string& name, const std::string& project, const std::string& more = "") {
  return R"({"name":")" + name + R"(","run":"x","project":")" + project + "\"" + more + "}";
}

// Jobs 1 (eve, project secret), 2 (ada, nlp), 3 (bob, nlp), 4 (ada, secret), 5 (eve, secret).
struct Shared : ApiRig {
  Shared() {
    put("/v1/projects/nlp", "{}");
    put("/v1/projects/secret", "{}");
    submit(spec("a", "secret"), {{"Tutti-User", "eve"}});
    submit(spec("b", "nlp"), {{"Tutti-User", "ada"}});
    submit(spec("c", "nlp"), {{"Tutti-User", "bob"}});
    submit(spec("b", "secret"), {{"Tutti-User", "ada"}});
    submit(spec("b", "secret"), {{"Tutti-User", "eve"}});
  }
  void sign_in_ada() { sign_in(tutti::testing::user("ada", {{"nlp", Role::member}})); }
  std::string stream_of(const std::string& target) {
    return get(target, {{"Accept", "text/event-stream"}}).stream->text;
  }
};

Ids jobs_in(const std::string& sse) {
  Ids out;
  for (std::size_t at = 0; (at = sse.find("data: ", at)) != std::string::npos;) {
    at += 6;
    const auto event = json::parse(sse.substr(at, sse.find('\n', at) - at));
    if (event.at("job_id").is_int64()) out.push_back(event.at("job_id").as_int64());
  }
  return out;
}

TEST(Visibility, ListsShowProjectsWithARoleAndOnesOwn) {
  Shared rig;
  EXPECT_EQ(ids(rig.get("/v1/jobs").body()), (Ids{5, 4, 3, 2, 1}));
  rig.sign_in_ada();
  EXPECT_EQ(ids(rig.get("/v1/jobs").body()), (Ids{4, 3, 2}));
  EXPECT_EQ(ids(rig.get("/v1/jobs?name=b").body()), (Ids{4, 2}));
  EXPECT_EQ(ids(rig.get("/v1/jobs?project=secret").body()), (Ids{4}));
  EXPECT_EQ(ids(rig.get("/v1/jobs?user=eve").body()), (Ids{}));
  EXPECT_EQ(ids(rig.get("/v1/jobs?page_size=2").body()), (Ids{4, 3}));
  EXPECT_EQ(ids(rig.get("/v1/jobs?page_size=2&page_token=3").body()), (Ids{2}));
  EXPECT_EQ(ids(rig.get("/v1/jobs?array=1").body()), (Ids{}));
  rig.sign_in(user("root", {{"*", Role::viewer}}));
  EXPECT_EQ(ids(rig.get("/v1/jobs").body()).size(), 5u) << "a viewer everywhere";
  rig.sign_in(user("new", {}));
  EXPECT_EQ(ids(rig.get("/v1/jobs").body()), (Ids{})) << "nobody yet";
}

TEST(Visibility, TheQueueCountsEverybodyAndShowsSome) {
  Shared rig;
  rig.sign_in_ada();
  const auto queue = rig.get("/v1/queue").body();
  EXPECT_EQ(ids(queue), (Ids{2, 3, 4}));
  EXPECT_EQ(queue.at("jobs").at(0).at("position"), 1) << "eve's job is before it";
  EXPECT_EQ(queue.at("jobs").at(2).at("position"), 3);
  for (const auto& job : queue.at("jobs").as_array())
    EXPECT_EQ(
        job.at("position"),
        rig.get("/v1/jobs/" + std::to_string(job.at("id").as_int64()) + "/explain").body().at("position"));
}

TEST(Visibility, JobsFarBehindInTheQueueAreFoundAsWell) {
  Shared rig;
  rig.submit_many(2500, [](JobSpec& other, int) {
    other.project = "secret";
    other.priority = 60;
  });
  rig.sign_in_ada();
  const auto queue = rig.get("/v1/queue").body();
  EXPECT_EQ(ids(queue), (Ids{2, 3, 4}));
  EXPECT_EQ(queue.at("jobs").at(0).at("position"), 2501);
}

TEST(Visibility, PagesOfEventsLeaveOthersOutAndSayWhereToGoOn) {
  Shared rig;
  rig.backend.add_node("n1");
  const auto all = rig.get("/v1/events").body();
  rig.sign_in_ada();
  const auto page = rig.get("/v1/events").body();
  EXPECT_EQ(page.at("next_after"), all.at("next_after"));
  bool node = false;
  for (const auto& event : page.at("events").as_array()) {
    if (event.at("node").is_string()) node = true;
    if (event.at("job_id").is_null()) continue;
    const auto job = event.at("job_id").as_int64();
    EXPECT_TRUE(job == 2 || job == 3 || job == 4) << job;
  }
  EXPECT_TRUE(node) << "nodes are for everybody";
  // One after the other, to the same end.
  Ids seen;
  for (std::int64_t after = 0;;) {
    const auto one = rig.get("/v1/events?limit=1&after=" + std::to_string(after)).body();
    if (one.at("events").as_array().empty()) break;
    seen.push_back(one.at("events").at(0).at("id").as_int64());
    ASSERT_GE(one.at("next_after").as_int64(), seen.back());
    after = one.at("next_after").as_int64();
  }
  EXPECT_EQ(seen.size(), page.at("events").as_array().size());
}

TEST(Visibility, StreamsTellOnlyOfJobsThatAreSeen) {
  Shared rig;
  rig.sign_in_ada();
  EXPECT_EQ(jobs_in(rig.stream_of("/v1/events?after=0")), (Ids{2, 3, 4}));
  const auto live = rig.get("/v1/events", {{"Accept", "text/event-stream"}});
  rig.backend.change([](ControlPlane& plane, Now now) {
    for (const auto id : {1, 2, 3, 4, 5}) (void)plane.on_cancel(now, JobId(id), "a test");
  });
  EXPECT_EQ(jobs_in(live.stream->text), (Ids{2, 3, 4})) << "also of jobs that are over with it";
}

TEST(Visibility, AStreamThatMissedSomethingReadsOnlyWhatItMaySee) {
  Shared rig;
  rig.sign_in_ada();
  const auto live = rig.get("/v1/events", {{"Accept", "text/event-stream"}});
  rig.backend.change([](ControlPlane& plane, Now now) { (void)plane.on_hold(now, JobId(3), "told"); });
  rig.backend.change_untold([](ControlPlane& plane, Now now) {
    (void)plane.on_hold(now, JobId(1), "untold");
    (void)plane.on_hold(now, JobId(2), "untold");
  });
  rig.backend.recover();
  rig.backend.change([](ControlPlane& plane, Now now) { (void)plane.on_hold(now, JobId(5), "told"); });
  EXPECT_EQ(jobs_in(live.stream->text), (Ids{3, 2}));
}

TEST(Visibility, ADependencyIsOnAJobThatIsSeen) {
  Shared rig;
  rig.sign_in_ada();
  const auto by_name = rig.post("/v1/jobs", spec("d", "nlp", R"(,"depends_on":["b"])"));
  ASSERT_EQ(by_name.status(), 201) << by_name.body();
  EXPECT_EQ(by_name.body().at("spec").at("depends_on").at(0).at("job"), 4)
      << "the newest of that name that ada sees; eve's is newer";
  EXPECT_EQ(rig.post("/v1/jobs", spec("d", "nlp", R"(,"depends_on":["a"])")).status(), 422);
  const auto by_id = rig.post("/v1/jobs", spec("d", "nlp", R"(,"depends_on":[1])"));
  EXPECT_EQ(by_id.status(), 422);
  EXPECT_EQ(by_id.body().at("detail"), "no job 1") << "as if it did not exist";
}

TEST(Visibility, WhatStandsInTheWayOfAJobIsCountedWhereItIsNotSeen) {
  Shared rig;
  rig.backend.add_node("n1", 8);
  rig.submit(spec("big", "secret", R"(,"priority":60,"resources":{"gpus":8},"time_limit":"1h")"),
             {{"Tutti-User", "eve"}});
  rig.backend.tick(1s);
  rig.sign_in_ada();
  const auto body =
      rig.post("/v1/jobs:simulate", spec("d", "nlp", R"(,"resources":{"gpus":8},"time_limit":"1h")")).body();
  EXPECT_EQ(body.at("starts_now"), false);
  ASSERT_FALSE(body.at("blockers").as_array().empty()) << body;
  for (const auto& blocker : body.at("blockers").as_array()) {
    if (blocker.at("job_id").is_int64()) EXPECT_NE(blocker.at("job_id"), 6);
    EXPECT_EQ(std::string(blocker.at("text").as_string()).find("job 6 "), std::string::npos) << blocker;
  }
  EXPECT_GE(body.at("hidden").as_int64(), 1) << body;
}

TEST(Submission, IsForMembersOfTheProject) {
  Shared rig;
  rig.sign_in_ada();
  EXPECT_EQ(rig.post("/v1/jobs", spec("d", "nlp")).status(), 201);
  const auto refused = rig.post("/v1/jobs", spec("d", "secret"));
  EXPECT_EQ(refused.status(), 403);
  EXPECT_EQ(refused.body().at("detail"), "ada is not a member of project 'secret'");
  EXPECT_EQ(refused.body().at("hint"), "an admin can add you to it; you may submit to: nlp");
  EXPECT_EQ(rig.post("/v1/jobs:simulate", spec("d", "secret")).status(), 403);
  EXPECT_EQ(rig.post("/v1/jobs:simulate", spec("d", "nlp")).status(), 200);
  const auto batch =
      rig.post("/v1/jobs:batch", R"({"jobs":[)" + spec("e", "nlp") + "," + spec("f", "secret") + "," +
                                     spec("g", "nlp", R"(,"priority":95)") + "]}");
  ASSERT_EQ(batch.status(), 200);
  EXPECT_EQ(batch.body().at("results").at(0).at("status"), 201);
  EXPECT_EQ(batch.body().at("results").at(1).at("status"), 403);
  EXPECT_EQ(batch.body().at("results").at(2).at("status"), 403);
  rig.sign_in(user("vic", {{"nlp", Role::viewer}}));
  EXPECT_EQ(rig.post("/v1/jobs", spec("d", "nlp")).status(), 403);
}

TEST(Submission, UrgentPrioritiesAreForOperatorsOfTheProject) {
  Shared rig;
  rig.sign_in_ada();
  const auto urgent = rig.post("/v1/jobs", spec("d", "nlp", R"(,"priority":90)"));
  EXPECT_EQ(urgent.status(), 403);
  EXPECT_EQ(urgent.body().at("errors").at(0).at("field"), "priority");
  EXPECT_EQ(rig.post("/v1/jobs:simulate", spec("d", "nlp", R"(,"priority":90)")).status(), 403);
  EXPECT_EQ(rig.post("/v1/jobs", spec("d", "nlp", R"(,"priority":89)")).status(), 201);
  rig.sign_in(user("olga", {{"nlp", Role::operator_}}));
  EXPECT_EQ(rig.post("/v1/jobs", spec("d", "nlp", R"(,"priority":90)")).status(), 201);
}

TEST(Visibility, ArrayActionsAreForWhoMayChangeTheJob) {
  Shared rig;
  rig.submit(spec("sweep", "nlp", R"(,"array":{"range":"0-3"})"), {{"Tutti-User", "bob"}});
  rig.sign_in_ada();
  EXPECT_EQ(rig.post("/v1/jobs/6:cancel?array=1").status(), 403) << "bob's, in ada's project";
  rig.sign_in(user("eve", {{"secret", Role::member}}));
  EXPECT_EQ(rig.post("/v1/jobs/6:cancel?array=1").status(), 404) << "she does not see it";
  rig.sign_in(user("bob", {{"nlp", Role::member}}));
  EXPECT_EQ(rig.post("/v1/jobs/6:cancel?array=1").body().at("changed"), 4);
}

}  // namespace
}  // namespace tutti::testing
