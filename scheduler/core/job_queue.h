// The priority-and-delay heaps of waiting jobs.
//   ready:   per queue and shape a heap by rank; jobs of one shape fit or do not fit together, so a pass over
//            the queue looks at the best job of each shape and never at the backlog behind it.
//   delayed: one heap by time.
// A shape that did not fit is marked with the capacity generation of its queue and not looked at again until
// that generation changes: the cost of a pass does not grow with the number of waiting jobs.
// Owned by the control plane. Order: `front` restarts first, then priority, then time of queueing, then id.
#pragma once

#include <compare>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>

#include "scheduler/core/indexed_heap.h"
#include "scheduler/core/placement.h"
#include "scheduler/model/ids.h"
#include "scheduler/model/time.h"

namespace tutti {

// Total order of ready jobs; smaller is earlier.
struct Rank {
  std::int16_t band = 0;      // 0 urgent (priority >= 90), 1 normal, 2 scavenger (< 10)
  std::int16_t behind = 1;    // 0: a restart after a fault, goes to the front of its band
  std::int16_t priority = 0;  // negated
  Instant queued_at;
  JobId id;
  auto operator<=>(const Rank&) const = default;
};
Rank rank_of(const JobRow&);

struct ShapeQueue {
  Shape shape;
  IndexedHeap<Rank, JobId> jobs;
  std::uint64_t blocked_at = 0;  // capacity generation at which it did not fit; 0 = not known to be blocked
  // What blocks it is only that others run: it would fit once they have ended. Only such a head may hold back
  // those behind it; one that waits for a repair or for machines that do not exist must not stop its queue.
  bool waits_for_busy = false;
};

class JobQueue {
 public:
  void push_ready(JobId id, const Rank& rank, const Shape& shape);
  bool erase_ready(JobId id);
  bool is_ready(JobId id) const { return where_.contains(id); }

  void push_delayed(JobId id, Instant until) { delayed_.push(id, {until, id}); }
  bool erase_delayed(JobId id) { return delayed_.erase(id); }
  // A delayed job whose time has come, earliest first; taken out of the heap.
  std::optional<JobId> pop_due(Instant now);
  std::optional<Instant> earliest_due() const;

  // Something in `queue` that jobs may wait for has changed: look at every shape again.
  void capacity_changed(const std::string& queue) { ++queues_[queue].generation; }

  struct Queue {
    std::uint64_t generation = 1;
    std::map<std::string, std::unique_ptr<ShapeQueue>> shapes;  // by key; emptied ones are removed
  };
  std::map<std::string, Queue>& queues() { return queues_; }
  const std::map<std::string, Queue>& queues() const { return queues_; }
  std::size_t ready_count() const { return where_.size(); }
  std::size_t delayed_count() const { return delayed_.size(); }
  // Ready jobs of the same queue that come before it. O(jobs of the queue): for people, not for the pass.
  std::size_t ahead_of(const std::string& queue, const Rank& rank) const;
  bool invariants_hold() const;

 private:
  struct Due {
    Instant at;
    JobId id;
    auto operator<=>(const Due&) const = default;
  };
  std::map<std::string, Queue> queues_;
  std::unordered_map<JobId, ShapeQueue*> where_;
  IndexedHeap<Due, JobId> delayed_;
};

}  // namespace tutti
