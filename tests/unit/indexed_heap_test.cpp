#include "scheduler/core/indexed_heap.h"

#include <gtest/gtest.h>

#include <map>

#include "scheduler/core/delay_queue.h"
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

TEST(DelayQueue, DueJobsComeInOrderOfTime) {
  DelayQueue q;
  q.push(JobId(1), Instant(std::chrono::seconds(30)));
  q.push(JobId(2), Instant(std::chrono::seconds(10)));
  EXPECT_FALSE(q.pop_due(Instant(std::chrono::seconds(9))));
  EXPECT_EQ(q.earliest(), Instant(std::chrono::seconds(10)));
  EXPECT_EQ(q.pop_due(Instant(std::chrono::seconds(60))), JobId(2));
  EXPECT_EQ(q.pop_due(Instant(std::chrono::seconds(60))), JobId(1));
  EXPECT_FALSE(q.pop_due(Instant(std::chrono::seconds(60))));
}

}  // namespace
}  // namespace tutti
