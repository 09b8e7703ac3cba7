// A hundred thousand jobs are cancelled at once while a thousand run: page by page, as POST /v1/jobs:bulk
// does it, so that others get their turn in between.
#include <ctime>

#include "tests/support/test_env.h"

namespace tutti::testing {
namespace {

constexpr int kRunning = 1'000, kWaiting = 100'000, kPage = 1'000;

// Of this thread: the machine may be busy with others.
double cpu_seconds() {
  timespec t{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
}

class MassCancel : public ::testing::Test {
 protected:
  MassCancel() {
    for (int i = 0; i < kRunning / 8; ++i) env.add_node("n" + std::to_string(i));
    for (int i = 0; i < kRunning; ++i) submit();
    for (int i = 0; i < 100 && env.plane->attempts().size() < kRunning; ++i) env.plane->plan(env.now);
    env.step();
    for (const auto phase : {protocol::Phase::preparing, protocol::Phase::ready, protocol::Phase::running})
      for (const auto& [key, attempt] : env.plane->attempts()) {
        protocol::AttemptStatus s;
        s.key = key;
        s.phase = phase;
        if (phase == protocol::Phase::ready) s.agent_port = s.master_port = 4000;
        env.plane->on_attempt_status(env.now, attempt.row.gang[0].node, s);
      }
    for (int i = 0; i < kWaiting; ++i) submit();
    env.step();
    env.drop_messages();
  }
  void submit() {
    SubmitRequest r;
    r.spec = spec;
    r.owner = "ada";
    ASSERT_TRUE(env.plane->on_submit(env.now, r));
  }

  TestEnv env;
  std::shared_ptr<const JobSpec> spec = std::make_shared<const JobSpec>(job_spec(1, 1));
};

TEST_F(MassCancel, NoPageKeepsOthersWaitingForLong) {
  ASSERT_EQ(env.plane->attempts().size(), static_cast<std::size_t>(kRunning));
  ASSERT_EQ(env.plane->jobs().size(), static_cast<std::size_t>(kRunning + kWaiting));
  std::vector<JobId> all;
  for (const auto& [id, job] : env.plane->jobs()) all.push_back(id);
  double longest = 0;
  std::size_t events = 0;
  for (std::size_t first = 0; first < all.size(); first += kPage) {
    const double began = cpu_seconds();
    for (std::size_t i = first; i < std::min(all.size(), first + kPage); ++i)
      ASSERT_TRUE(env.plane->on_cancel(env.now, all[i], "ada"));
    const Output out = env.plane->take_output();
    longest = std::max(longest, cpu_seconds() - began);
    events += out.batch.events.size();
    EXPECT_LE(out.batch.done.size(), static_cast<std::size_t>(kPage));  // one transaction
  }
  EXPECT_LT(longest, 1.0) << "seconds of the control thread, with sanitizers; some milliseconds without";
  EXPECT_GE(events, all.size());
  // What waited is over, what ran is being stopped and keeps its GPUs until its death is proven.
  EXPECT_EQ(env.plane->jobs().size(), static_cast<std::size_t>(kRunning));
  for (const auto& [id, job] : env.plane->jobs()) ASSERT_EQ(job.row.state, JobState::stopping) << id.value;
  std::string why;
  EXPECT_TRUE(env.plane->invariants_hold(&why)) << why;
}

}  // namespace
}  // namespace tutti::testing
