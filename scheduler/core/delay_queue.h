// Jobs that wait for a time: a begin time, or the end of a back-off. Owned by the control plane.
#pragma once

#include <compare>
#include <optional>

#include "scheduler/core/indexed_heap.h"
#include "scheduler/model/ids.h"
#include "scheduler/model/time.h"

namespace tutti {

class DelayQueue {
 public:
  void push(JobId id, Instant until) { jobs_.push(id, {until, id}); }
  bool erase(JobId id) { return jobs_.erase(id); }
  bool contains(JobId id) const { return jobs_.contains(id); }
  std::size_t size() const { return jobs_.size(); }
  // One whose time has come, earliest first; taken out.
  std::optional<JobId> pop_due(Instant now) {
    if (jobs_.empty() || jobs_.top().key.at > now) return std::nullopt;
    return jobs_.pop().id;
  }
  std::optional<Instant> earliest() const {
    return jobs_.empty() ? std::nullopt : std::optional(jobs_.top().key.at);
  }
  bool invariants_hold() const { return jobs_.invariants_hold(); }

 private:
  struct Due {
    Instant at;
    JobId id;
    auto operator<=>(const Due&) const = default;
  };
  IndexedHeap<Due, JobId> jobs_;
};

}  // namespace tutti
