// The heaps of waiting jobs against a sorted list.
#include <gtest/gtest.h>

#include <rapidcheck/gtest.h>

#include <map>
#include <set>

#include "scheduler/core/job_queue.h"

namespace tutti {
namespace {

using rc::gen::inRange;

RC_GTEST_PROP(IndexedHeap, GivesTheOrderOfASortedListWhateverIsDoneToIt, ()) {
  IndexedHeap<std::pair<int, std::int64_t>, JobId> heap;
  std::map<JobId, std::pair<int, std::int64_t>> reference;
  const auto steps = *rc::gen::container<std::vector<std::tuple<int, std::int64_t, int>>>(
      rc::gen::tuple(inRange(0, 5), inRange<std::int64_t>(1, 40), inRange(-5, 6)));
  for (const auto& [what, id_number, key_number] : steps) {
    const JobId id(id_number);
    const std::pair key(key_number, id_number);
    if (what <= 1 && !reference.contains(id)) {
      heap.push(id, key);
      reference[id] = key;
    } else if (what == 2) {
      RC_ASSERT(heap.erase(id) == (reference.erase(id) > 0));
    } else if (what == 3) {
      RC_ASSERT(heap.update(id, key) == reference.contains(id));
      if (reference.contains(id)) reference[id] = key;
    } else if (what == 4 && !reference.empty()) {
      const auto entry = heap.pop();
      for (const auto& [other, other_key] : reference) RC_ASSERT(entry.key <= other_key);
      RC_ASSERT(reference.erase(entry.id) == 1u);
    }
    RC_ASSERT(heap.invariants_hold());
    RC_ASSERT(heap.size() == reference.size());
  }
  std::set<std::pair<std::pair<int, std::int64_t>, JobId>> sorted;
  for (const auto& [id, key] : reference) sorted.insert({key, id});
  for (const auto& [key, id] : sorted) RC_ASSERT(heap.pop().id == id);
  RC_ASSERT(heap.empty());
}

JobRow any_row(std::int64_t id) {
  JobRow row;
  row.id = JobId(id);
  row.priority = static_cast<std::int16_t>(*inRange(0, 101));
  row.front = *inRange(0, 4) == 0;
  row.queued_at = Instant(std::chrono::seconds(*inRange(0, 3)));
  return row;
}

// Urgent before normal before scavenger; in a band restarts first, then priority, time of queueing, id.
bool reference_before(const JobRow& a, const JobRow& b) {
  const auto band = [](const JobRow& r) { return r.priority >= 90 ? 0 : r.priority >= 10 ? 1 : 2; };
  if (band(a) != band(b)) return band(a) < band(b);
  if (a.front != b.front) return a.front;
  if (a.priority != b.priority) return a.priority > b.priority;
  if (a.queued_at != b.queued_at) return a.queued_at < b.queued_at;
  return a.id < b.id;
}

RC_GTEST_PROP(Rank, OrdersAsThePolicySays, ()) {
  const JobRow a = any_row(*inRange(1, 5)), b = any_row(*inRange(1, 5));
  RC_ASSERT((rank_of(a) < rank_of(b)) == reference_before(a, b));
}

RC_GTEST_PROP(JobQueue, TheBestOfEachShapeIsTheBestOfAll, ()) {
  JobQueue queue;
  std::map<JobId, std::pair<JobRow, Shape>> reference;
  const int n = *inRange(1, 60);
  for (std::int64_t id = 1; id <= n; ++id) {
    const JobRow row = any_row(id);
    Shape shape;
    shape.queue = *inRange(0, 2) == 0 ? "a" : "b";
    shape.resources.gpus = *inRange(0, 3);
    queue.push_ready(row.id, rank_of(row), shape);
    reference[row.id] = {row, shape};
  }
  while (!reference.empty()) {
    RC_ASSERT(queue.invariants_hold());
    RC_ASSERT(queue.ready_count() == reference.size());
    for (const std::string name : {"a", "b"}) {
      const JobRow* best = nullptr;
      for (const auto& [id, entry] : reference)
        if (entry.second.queue == name && (best == nullptr || reference_before(entry.first, *best)))
          best = &entry.first;
      const auto found = queue.queues().find(name);
      std::optional<Rank> top;
      if (found != queue.queues().end())
        for (const auto& [key, shape] : found->second.shapes)
          if (!top || shape->jobs.top().key < *top) top = shape->jobs.top().key;
      RC_ASSERT(top.has_value() == (best != nullptr));
      if (best != nullptr) RC_ASSERT(top->id == best->id);
      if (best != nullptr) RC_ASSERT(queue.ahead_of(name, *top) == 0u);
    }
    const auto victim = std::next(reference.begin(), *inRange<int>(0, static_cast<int>(reference.size())));
    RC_ASSERT(queue.erase_ready(victim->first));
    RC_ASSERT(!queue.is_ready(victim->first));
    reference.erase(victim);
  }
}

RC_GTEST_PROP(JobQueue, DelayedJobsComeInOrderOfTheirTimeAndNotBefore, ()) {
  JobQueue queue;
  std::multiset<std::pair<Instant, JobId>> reference;
  const int n = *inRange(0, 60);
  for (std::int64_t id = 1; id <= n; ++id) {
    const Instant at(std::chrono::seconds(*inRange(0, 20)));
    queue.push_delayed(JobId(id), at);
    reference.insert({at, JobId(id)});
  }
  for (int second = 0; second <= 20; ++second) {
    const Instant now(std::chrono::seconds{second});
    while (auto due = queue.pop_due(now)) {
      RC_ASSERT(!reference.empty());
      RC_ASSERT(reference.begin()->first <= now);
      RC_ASSERT(*due == reference.begin()->second);
      reference.erase(reference.begin());
    }
    if (!reference.empty()) RC_ASSERT(*queue.earliest_due() > now);
  }
  RC_ASSERT(reference.empty());
}

}  // namespace
}  // namespace tutti
