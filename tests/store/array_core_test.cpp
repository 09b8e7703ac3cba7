// What the control plane makes of a submitted array is what the store folds: a row, an event or a text more
// that differs from task to task would go unnoticed everywhere else.
#include <gmock/gmock.h>

#include "api/wire/job_spec_codec.h"
#include "db/pg/array_rows.h"
#include "tests/support/test_env.h"

namespace tutti::db {
namespace {

using testing::job_spec;
using testing::TestEnv;
using namespace std::chrono_literals;

std::vector<SubmitRequest> array(int tasks, int max_parallel, const JobSpec& like) {
  std::vector<SubmitRequest> all;
  for (int i = 0; i < tasks; ++i) {
    JobSpec spec = like;
    spec.array_task = ArrayTask{.index = 10 + i, .position = i, .tasks = tasks, .max_parallel = max_parallel};
    for (const char* variable : {"ARRAY_INDEX", "TUTTI_ARRAY_INDEX"})
      spec.env.emplace(variable, std::to_string(10 + i));
    SubmitRequest r;
    r.spec_json = wire::encode_spec(spec);
    r.spec = std::make_shared<const JobSpec>(std::move(spec));
    r.owner = "ada";
    if (i == 0) r.idempotency_key = "once";
    if (i > 0) r.task_of = 0;
    all.push_back(std::move(r));
  }
  return all;
}

// First task that is folded, and how many are.
std::vector<std::pair<std::int64_t, std::int64_t>> folded(TestEnv& env,
                                                          const std::vector<SubmitRequest>& all) {
  for (const auto& r : env.plane->on_submit_all(env.now, all)) EXPECT_TRUE(r);
  env.plane->on_tick(env.now);
  const Output out = env.plane->take_output();
  const Folding folding = Folding::of(out.batch);
  std::vector<std::pair<std::int64_t, std::int64_t>> runs;
  for (const auto& run : folding.runs()) runs.emplace_back(run.job->id.value, run.size);
  return runs;
}

using ::testing::ElementsAre;
using ::testing::Pair;

TEST(ArrayCore, ASubmittedArrayIsFoldedWhole) {
  TestEnv env;
  EXPECT_THAT(folded(env, array(1000, 0, job_spec())), ElementsAre(Pair(1, 1000)));
}

TEST(ArrayCore, SoAreThoseThatWaitForAPlaceAmongItsTasks) {
  TestEnv env;
  EXPECT_THAT(folded(env, array(100, 20, job_spec())), ElementsAre(Pair(1, 20), Pair(21, 80)));
}

TEST(ArrayCore, SoAreThoseThatWaitForATimeOrAnotherJob) {
  TestEnv env;
  JobSpec later = job_spec();
  later.begin_time = env.now.wall + 1h;
  EXPECT_THAT(folded(env, array(50, 0, later)), ElementsAre(Pair(1, 50)));
  JobSpec after = job_spec(1, 1, "after");
  after.depends_on = {{.job = JobId(1), .tasks = 50}};
  auto second = array(50, 0, after);
  second[0].idempotency_key = "twice";
  EXPECT_THAT(folded(env, second), ElementsAre(Pair(51, 50)));
}

}  // namespace
}  // namespace tutti::db
