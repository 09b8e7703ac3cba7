// The heap of delayed jobs and the backlog against sorted lists.
#include <gtest/gtest.h>

#include <rapidcheck/gtest.h>

#include <map>
#include <set>

#include "scheduler/core/delay_queue.h"
#include "scheduler/planner/backlog.h"

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

RC_GTEST_PROP(DelayQueue, DelayedJobsComeInOrderOfTheirTimeAndNotBefore, ()) {
  DelayQueue queue;
  std::multiset<std::pair<Instant, JobId>> reference;
  const int n = *inRange(0, 60);
  for (std::int64_t id = 1; id <= n; ++id) {
    const Instant at(std::chrono::seconds(*inRange(0, 20)));
    queue.push(JobId(id), at);
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
    if (!reference.empty()) RC_ASSERT(*queue.earliest() > now);
  }
  RC_ASSERT(reference.empty());
}

// Jobs of two queues and some users come and go; a few have come back, and waited for less than their like.
RC_GTEST_PROP(Backlog, EachKnowsHowManyOfItsQueueComeBeforeIt, ()) {
  planner::Backlog backlog(1.0, std::chrono::hours(1),
                           [](const planner::Bucket& bucket, Instant) { return 30.0 * bucket.kind.user; });
  std::map<JobId, int> queue_of;
  const int n = *inRange(1, 80);
  for (std::int64_t id = 1; id <= n; ++id) {
    const bool came_back = id <= 6;
    const Instant came(std::chrono::seconds(came_back ? *inRange(0, 10) : *inRange(10, 100)));
    const auto away = std::chrono::seconds(came_back ? *inRange(1, 80) : 0);
    planner::Waiting job{.what = {}, .since = came + away, .rank_at = came};
    job.what.id = JobId(id);
    job.what.kind.user = *inRange(0, 4);
    job.what.kind.queue = queue_of[JobId(id)] = *inRange(0, 2);
    backlog.push(job, Instant{});
    if (*inRange(0, 4) > 0) continue;
    const JobId gone = queue_of.begin()->first;
    RC_ASSERT(backlog.erase(gone).has_value());
    queue_of.erase(gone);
  }
  for (int queue = 0; queue < 2; ++queue) {
    const auto order = backlog.first(queue_of.size(), queue);
    for (std::size_t i = 0; i < order.size(); ++i) RC_ASSERT(backlog.ahead_of(order[i]) == i);
  }
}

// A job that waits is kept in pieces: what it shares with its like, and what is its own.
RC_GTEST_PROP(Backlog, GivesBackWhatItWasGiven, ()) {
  planner::Backlog backlog(1.0, std::chrono::hours(1), [](const planner::Bucket&, Instant) { return 0.0; });
  std::map<JobId, planner::Waiting> given;
  const auto instant = [] { return Instant(std::chrono::seconds(*inRange(0, 1000))); };
  for (std::int64_t id = 1; id <= *inRange(1, 40); ++id) {
    planner::Waiting job{.what = {},
                         .attained = std::chrono::seconds(*inRange(0, 2)),
                         .since = instant(),
                         .rank_at = instant()};
    job.what.id = JobId(id);
    job.what.kind = {.user = *inRange(0, 2), .queue = *inRange(0, 2), .gpus = *inRange(0, 2)};
    job.what.project = *inRange(0, 2);
    job.what.shape = *inRange(0, 2);
    job.what.priority = *inRange(0, 101);
    job.what.front = *inRange(0, 2) > 0;
    job.what.preemptible = *inRange(0, 2) > 0;
    job.what.saves_when_asked = *inRange(0, 2) > 0;
    job.what.clairvoyant = *inRange(0, 2) > 0;
    job.what.limit_per_run = *inRange(0, 2) > 0;
    job.what.submitted = instant();
    job.what.preempts_from = instant();
    job.what.limit = *inRange(0, 3) == 0 ? planner::kNoLimit : std::chrono::seconds(*inRange(10, 30'000));
    if (job.what.clairvoyant) job.what.known_run = std::chrono::seconds(*inRange(0, 5));
    backlog.push(job, Instant{});
    given[job.what.id] = job;
  }
  const auto tied = [](const planner::Waiting& w) {
    const planner::PlanJob& j = w.what;
    return std::tuple(j.id, j.kind.user, j.kind.queue, j.kind.gpus, j.project, j.shape, j.priority, j.front,
                      j.preemptible, j.saves_when_asked, j.clairvoyant, j.limit_per_run, j.submitted,
                      j.preempts_from, j.limit, j.known_run, w.attained, w.since, w.rank_at);
  };
  for (const auto& [id, job] : given) {
    RC_ASSERT(tied(*backlog.find(id)) == tied(job));
    RC_ASSERT(tied(*backlog.erase(id)) == tied(job));
    RC_ASSERT(!backlog.find(id));
  }
}

}  // namespace
}  // namespace tutti
