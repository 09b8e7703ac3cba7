#include "scheduler/core/job_queue.h"

namespace tutti {

Rank rank_of(const JobRow& row) {
  const std::int16_t band = row.priority >= 90 ? 0 : row.priority >= 10 ? 1 : 2;
  return Rank{.band = band,
              .behind = static_cast<std::int16_t>(row.front ? 0 : 1),
              .priority = static_cast<std::int16_t>(-row.priority),
              .queued_at = row.queued_at,
              .id = row.id};
}

void JobQueue::push_ready(JobId id, const Rank& rank, const Shape& shape) {
  auto& slot = queues_[shape.queue].shapes[shape.key()];
  if (!slot) {
    slot = std::make_unique<ShapeQueue>();
    slot->shape = shape;
  }
  slot->jobs.push(id, rank);
  where_[id] = slot.get();
}

bool JobQueue::erase_ready(JobId id) {
  auto it = where_.find(id);
  if (it == where_.end()) return false;
  ShapeQueue* shape = it->second;
  shape->jobs.erase(id);
  where_.erase(it);
  if (shape->jobs.empty()) {
    auto& shapes = queues_[shape->shape.queue].shapes;
    shapes.erase(shape->shape.key());
  }
  return true;
}

std::optional<JobId> JobQueue::pop_due(Instant now) {
  if (delayed_.empty() || delayed_.top().key.at > now) return std::nullopt;
  return delayed_.pop().id;
}

std::optional<Instant> JobQueue::earliest_due() const {
  if (delayed_.empty()) return std::nullopt;
  return delayed_.top().key.at;
}

std::size_t JobQueue::ahead_of(const std::string& queue, const Rank& rank) const {
  auto it = queues_.find(queue);
  if (it == queues_.end()) return 0;
  std::size_t n = 0;
  for (const auto& [key, shape] : it->second.shapes)
    for (const auto& entry : shape->jobs.entries())
      if (entry.key < rank) ++n;
  return n;
}

bool JobQueue::invariants_hold() const {
  std::size_t n = 0;
  for (const auto& [name, queue] : queues_)
    for (const auto& [key, shape] : queue.shapes) {
      if (shape->jobs.empty() || !shape->jobs.invariants_hold()) return false;
      n += shape->jobs.size();
    }
  return n == where_.size() && delayed_.invariants_hold();
}

}  // namespace tutti
