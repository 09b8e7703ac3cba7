#include "scheduler/core/indexed_heap.h"

#include <gtest/gtest.h>

#include <map>

#include "scheduler/core/job_queue.h"
#include "scheduler/core/retry.h"

namespace tutti {
namespace {

TEST(IndexedHeap, PopsInOrderOfKeyAfterAnyUpdatesAndErasures) {
  IndexedHeap<int, JobId> heap;
  std::map<std::int64_t, int> model;
  std::uint64_t dice = 1;
  for (int i = 0; i < 20000; ++i) {
    dice = mix(dice);
    const JobId id(static_cast<std::int64_t>(dice % 200) + 1);
    const int key = static_cast<int>((dice >> 20) % 1000);
    switch ((dice >> 40) % 3) {
      case 0:
        if (!heap.contains(id)) {
          heap.push(id, key);
          model[id.value] = key;
        }
        break;
      case 1:
        EXPECT_EQ(heap.update(id, key), model.contains(id.value));
        if (model.contains(id.value)) model[id.value] = key;
        break;
      default: EXPECT_EQ(heap.erase(id), model.erase(id.value) == 1); break;
    }
    ASSERT_TRUE(heap.invariants_hold());
    ASSERT_EQ(heap.size(), model.size());
  }
  int last = -1;
  while (!heap.empty()) {
    const auto e = heap.pop();
    EXPECT_EQ(e.key, model.at(e.id.value));
    EXPECT_GE(e.key, last);
    last = e.key;
  }
}

TEST(Rank, OrdersByBandThenFrontThenPriorityThenTimeThenId) {
  auto row = [](std::int64_t id, std::int16_t priority, int queued_at, bool front = false) {
    JobRow r;
    r.id = JobId(id);
    r.priority = priority;
    r.queued_at = Instant(std::chrono::seconds(queued_at));
    r.front = front;
    return rank_of(r);
  };
  EXPECT_LT(row(9, 90, 9), row(1, 89, 1, true)) << "an urgent job goes before any normal one";
  EXPECT_LT(row(9, 10, 9, true), row(1, 89, 1)) << "a restart goes to the front of its band";
  EXPECT_LT(row(9, 51, 9), row(1, 50, 1));
  EXPECT_LT(row(9, 50, 1), row(1, 50, 2));
  EXPECT_LT(row(1, 50, 1), row(2, 50, 1));
  EXPECT_LT(row(9, 10, 9), row(1, 9, 1, true)) << "scavengers come last";
}

TEST(JobQueue, DueJobsComeInOrderOfTime) {
  JobQueue q;
  q.push_delayed(JobId(1), Instant(std::chrono::seconds(30)));
  q.push_delayed(JobId(2), Instant(std::chrono::seconds(10)));
  EXPECT_FALSE(q.pop_due(Instant(std::chrono::seconds(9))));
  EXPECT_EQ(q.earliest_due(), Instant(std::chrono::seconds(10)));
  EXPECT_EQ(q.pop_due(Instant(std::chrono::seconds(60))), JobId(2));
  EXPECT_EQ(q.pop_due(Instant(std::chrono::seconds(60))), JobId(1));
  EXPECT_FALSE(q.pop_due(Instant(std::chrono::seconds(60))));
}

}  // namespace
}  // namespace tutti
