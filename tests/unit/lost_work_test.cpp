#include "scheduler/core/lost_work.h"

#include <gtest/gtest.h>

namespace tutti {
namespace {

using namespace std::chrono_literals;

const Instant kBegin{std::chrono::hours(24 * 365 * 50)};

AttemptRow dead_attempt() {
  AttemptRow a;
  a.epoch = Epoch(2);
  a.state = AttemptState::ended;
  a.result = AttemptResult::failed;
  a.resume_step = 100;
  a.last_step = 180;
  a.running_at = kBegin;
  a.fault_at = kBegin + 60s;
  a.stopping_at = kBegin + 61s;
  a.ended_at = kBegin + 70s;
  a.gang.resize(2);
  for (auto& m : a.gang) m.gpus = {GpuId(1), GpuId(2), GpuId(3), GpuId(4)};
  return a;
}
CheckpointRow saved(std::int64_t epoch, std::int64_t step, Duration after) {
  CheckpointRow c;
  c.epoch = Epoch(epoch);
  c.step = step;
  c.at = kBegin + after;
  return c;
}

TEST(LostWork, IsWhatCameAfterTheLastCheckpoint) {
  const auto lost =
      compute_lost_work(dead_attempt(), {saved(1, 100, -1h), saved(2, 120, 20s), saved(2, 160, 50s)});
  ASSERT_TRUE(lost);
  EXPECT_EQ(lost->steps, 20);
  EXPECT_DOUBLE_EQ(lost->gpu_seconds, 8 * 10.0);
}

TEST(LostWork, WithoutACheckpointOfItsOwnAllOfItIsLost) {
  auto bad = saved(2, 170, 55s);
  bad.state = CheckpointState::bad;
  const auto lost = compute_lost_work(dead_attempt(), {saved(1, 100, -1h), bad});
  ASSERT_TRUE(lost);
  EXPECT_EQ(lost->steps, 80);
  EXPECT_DOUBLE_EQ(lost->gpu_seconds, 8 * 60.0);
}

TEST(LostWork, OneThatNeverRanOrSucceededOrGoesOnLosesNothing) {
  auto a = dead_attempt();
  a.running_at = {};
  EXPECT_EQ(compute_lost_work(a, {})->steps, 0);
  EXPECT_EQ(compute_lost_work(a, {})->gpu_seconds, 0);
  a = dead_attempt();
  a.result = AttemptResult::succeeded;
  EXPECT_FALSE(compute_lost_work(a, {}));
  a = dead_attempt();
  a.state = AttemptState::running;
  EXPECT_FALSE(compute_lost_work(a, {}));
}

TEST(LostWork, AClockThatIsWrongDoesNotMakeItNegative) {
  auto a = dead_attempt();
  a.fault_at = kBegin - 5s;
  const auto lost = compute_lost_work(a, {saved(2, 500, 65s)});
  EXPECT_EQ(lost->steps, 0);
  EXPECT_EQ(lost->gpu_seconds, 0);
}

}  // namespace
}  // namespace tutti
