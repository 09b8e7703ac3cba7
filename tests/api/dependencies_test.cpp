// Jobs that wait for other jobs, by name and within one request; arrays as a whole; schedules.
#include <boost/json/serialize.hpp>

#include "tests/api/api_rig.h"

namespace tutti::testing {
namespace {

namespace json = boost::json;

// Bodies of a batch's items, and what came of each.
json::array batch(ApiRig& rig, const std::string& jobs, http::Headers headers = {}) {
  const auto answer = rig.post("/v1/jobs:batch", "{\"jobs\":[" + jobs + "]}", std::move(headers));
  EXPECT_EQ(answer.status(), 200) << answer.body();
  return answer.body().at("results").as_array();
}
std::int64_t status(const json::array& results, std::size_t i) {
  return results.at(i).at("status").as_int64();
}
const json::value& job(const json::array& results, std::size_t i) { return results.at(i).at("job"); }
std::string problem(const json::array& results, std::size_t i) {
  return json::serialize(results.at(i).at("problem"));
}

TEST(DependenciesByName, MeanTheNewestJobOfThatName) {
  ApiRig rig;
  rig.submit(R"({"name":"prep","run":"x"})");
  const auto newest = rig.submit(R"({"name":"prep","run":"x"})");
  const auto made = rig.post("/v1/jobs", R"({"name":"train","run":"x","depends_on":["prep"]})");
  ASSERT_EQ(made.status(), 201) << made.body();
  EXPECT_EQ(made.body().at("spec").at("depends_on").at(0).at("job"), newest.value);
  EXPECT_EQ(made.body().at("state"), "blocked");
  const auto no = rig.post("/v1/jobs", R"({"name":"train","run":"x","depends_on":[{"job":"nope"}]})");
  EXPECT_EQ(no.status(), 422);
  EXPECT_NE(json::serialize(no.body()).find("no job is called 'nope'"), std::string::npos);
}

TEST(DependenciesByName, OneThatNamesItselfMeansTheOneBefore) {
  ApiRig rig;
  const auto before = rig.submit(R"({"name":"nightly","run":"x"})");
  const auto made = rig.post("/v1/jobs", R"({"name":"nightly","run":"x","depends_on":["nightly"]})");
  ASSERT_EQ(made.status(), 201) << made.body();
  EXPECT_EQ(made.body().at("spec").at("depends_on").at(0).at("job"), before.value);
}

TEST(DependenciesInABatch, AreOnItsOwnJobsFirstInWhateverOrder) {
  ApiRig rig;
  rig.submit(R"({"name":"prep","run":"x"})");
  const std::string jobs = R"({"name":"report","run":"x","depends_on":[{"job":"train","when":"any"}]},
    {"name":"train","run":"x","array":3,"depends_on":["prep"]},{"name":"prep","run":"x"})";
  const auto made = batch(rig, jobs, {{"Idempotency-Key", "k"}});
  for (std::size_t i = 0; i < 3; ++i) ASSERT_EQ(status(made, i), 201) << made;
  EXPECT_EQ(job(made, 2).at("state"), "queued");
  EXPECT_EQ(job(made, 1).at("spec").at("depends_on").at(0).at("job"), job(made, 2).at("id"));
  const auto& report = job(made, 0).at("spec").at("depends_on").at(0);
  EXPECT_EQ(report.at("job"), job(made, 1).at("id"));
  EXPECT_EQ(report.at("tasks"), 3) << "of the whole array";
  const auto again = batch(rig, jobs, {{"Idempotency-Key", "k"}});
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_TRUE(again.at(i).at("replayed").as_bool());
    EXPECT_EQ(job(again, i), job(made, i));
  }
  EXPECT_EQ(rig.get("/v1/jobs").body().at("jobs").as_array().size(), 6U);
}

TEST(DependenciesInABatch, CyclesAreRefusedWithTheirPathAndTheRestGoesOn) {
  ApiRig rig;
  const auto made = batch(rig, R"({"name":"a","run":"x","depends_on":["b"]},
    {"name":"b","run":"x","depends_on":["c"]},{"name":"c","run":"x","depends_on":["a"]},
    {"name":"d","run":"x"},{"name":"e","run":"x","depends_on":["a","d"]})");
  for (const std::size_t i : {0U, 1U, 2U, 4U}) EXPECT_EQ(status(made, i), 422) << i;
  EXPECT_EQ(status(made, 3), 201);
  EXPECT_NE(problem(made, 2).find("a cycle: a → b → c → a"), std::string::npos) << problem(made, 2);
  EXPECT_NE(problem(made, 4).find("'a' of this request was refused"), std::string::npos);
}

TEST(DependenciesInABatch, WhoWaitsForARefusedOneIsRefused) {
  ApiRig rig;
  const auto made =
      batch(rig, R"({"name":"a","run":"x","queue":"nowhere"},{"name":"b","run":"x","depends_on":["a"]},
    {"name":"twice","run":"x"},{"name":"twice","run":"x"},{"name":"c","run":"x","depends_on":["twice"]})");
  EXPECT_EQ(status(made, 0), 422);
  EXPECT_EQ(status(made, 1), 422);
  EXPECT_NE(problem(made, 1).find("which was refused: unknown queue 'nowhere'"), std::string::npos);
  EXPECT_NE(problem(made, 4).find("several jobs of this request are called 'twice'"), std::string::npos);
}

TEST(DependenciesInABatch, TasksCountAgainstTheLargestRequest) {
  ApiRig rig;
  const auto made = batch(rig, R"({"name":"a","run":"x","array":6000},{"name":"b","run":"x","array":6000})");
  EXPECT_EQ(status(made, 0), 201);
  EXPECT_EQ(status(made, 1), 422);
  EXPECT_NE(problem(made, 1).find("at most 10000 jobs and tasks together"), std::string::npos);
}

TEST(DependenciesOnArrays, KnowTasksThatAreOverFromTheirRows) {
  ApiRig rig;
  rig.backend.add_node("n1", 8);
  rig.submit(R"({"name":"sweep","run":"x","array":{"range":3,"max_parallel":1}})");
  rig.backend.end_attempt(rig.backend.run_job(JobId(1)), true);
  rig.post("/v1/jobs/3:cancel");
  rig.backend.recover();  // a new leader remembers nobody who is over
  const auto never = rig.post("/v1/jobs", R"({"name":"r","run":"x","depends_on":["sweep"]})");
  EXPECT_EQ(never.status(), 422);
  const auto at_once =
      rig.post("/v1/jobs", R"({"name":"r","run":"x","depends_on":[{"job":1,"when":"failed"}]})");
  ASSERT_EQ(at_once.status(), 201) << at_once.body();
  EXPECT_NE(at_once.body().at("state"), "blocked") << "one task was cancelled";
  EXPECT_EQ(at_once.body().at("spec").at("depends_on").at(0).at("tasks"), 3);
}

TEST(ArrayActions, AreDoneToEveryTaskThatIsNotOver) {
  ApiRig rig;
  rig.submit(R"({"name":"before","run":"x"})");
  rig.submit(R"({"name":"sweep","run":"x","array":4})");
  rig.submit(R"({"name":"after","run":"x"})");
  rig.post("/v1/jobs/3:cancel");
  const auto held = rig.post("/v1/jobs/sweep:hold?array=1", R"({"reason":"disk full"})");
  ASSERT_EQ(held.status(), 200) << held.body();
  EXPECT_EQ(held.body(), json::parse(R"({"array":2,"changed":3,"refused":0})"));
  EXPECT_EQ(rig.post("/v1/jobs/2:release?array=1").body(),
            json::parse(R"({"array":2,"changed":3,"refused":0})"));
  EXPECT_EQ(rig.post("/v1/jobs/4:hold?array=1").body().at("changed"), 3) << "by any of its tasks";
  EXPECT_EQ(rig.get("/v1/jobs?array=2").body().at("jobs").as_array().size(), 4U);
  EXPECT_EQ(rig.get("/v1/jobs?array=2&state=held").body().at("jobs").as_array().size(), 3U);
  rig.post("/v1/jobs/5:cancel");
  EXPECT_EQ(rig.post("/v1/jobs/sweep:release?array=1").body().at("changed"), 2) << "its newest task is over";
  EXPECT_EQ(rig.post("/v1/jobs/2:requeue?array=1").status(), 409) << "none of them runs";
  EXPECT_EQ(rig.post("/v1/jobs/1:cancel?array=1").status(), 409) << "not an array";
  EXPECT_EQ(rig.post("/v1/jobs/2:cancel?array=2").status(), 422);
}

TEST(Schedules, AreToldAndReplayedAlike) {
  ApiRig rig;
  const std::string spec =
      R"({"name":"nightly","run":"x","schedule":{"cron":"0 2 * * *","overlap":"queue"}})";
  const auto made = rig.post("/v1/jobs", spec, {{"Idempotency-Key", "k"}});
  ASSERT_EQ(made.status(), 201) << made.body();
  EXPECT_EQ(made.body().at("state"), "delayed");
  EXPECT_TRUE(made.body().at("not_before").as_string().ends_with("T02:00:00.000000Z")) << made.body();
  EXPECT_EQ(rig.post("/v1/jobs", spec, {{"Idempotency-Key", "k"}}).body(), made.body());
  EXPECT_EQ(rig.get("/v1/jobs/1").body().at("spec").at("schedule").at("overlap"), "queue");
  for (const auto& [bad, says] : std::vector<std::pair<std::string, std::string>>{
           {R"("schedule":"0 25 * * *")", "not a schedule"},
           {R"("schedule":"0 0 30 2 *")", "never comes"},
           {R"("schedule":{"overlap":"skip"})", "is required"},
           {R"("schedule":{"cron":"@daily","overlap":"both"})", "skip or queue"},
           {R"("schedule":"@daily","array":3)", "does not go with a schedule"},
           {R"("schedule":"@daily","depends_on":[1])", "does not go with a schedule"}}) {
    const auto refused = rig.post("/v1/jobs", R"({"name":"a","run":"x",)" + bad + "}");
    EXPECT_EQ(refused.status(), 422) << bad;
    EXPECT_NE(json::serialize(refused.body()).find(says), std::string::npos) << refused.body();
  }
}

TEST(Never, IsToldOfJobsThatWaitForATimeAsWell) {
  ApiRig rig;
  rig.backend.add_node("n1", 8);
  const auto made =
      rig.post("/v1/jobs", R"({"name":"a","run":"x","resources":{"gpus":16},"schedule":"@daily"})");
  EXPECT_EQ(made.status(), 201);
  EXPECT_NE(made.header("Tutti-Warning").find("the largest has 8"), std::string::npos);
}

}  // namespace
}  // namespace tutti::testing
