#include "scheduler/planner/quota.h"

#include <algorithm>

namespace tutti::planner {

namespace {
template <class T>
T& grown(std::vector<T>& v, int i) {
  if (static_cast<std::size_t>(i) >= v.size()) v.resize(static_cast<std::size_t>(i) + 1);
  return v[static_cast<std::size_t>(i)];
}
}  // namespace

const Quota::Queue* Quota::find(int queue) const {
  return static_cast<std::size_t>(queue) < queues_.size() ? &queues_[static_cast<std::size_t>(queue)]
                                                          : nullptr;
}

void Quota::set_queue(int queue, QueueShare share) { grown(queues_, queue).share = share; }

void Quota::set_project(int project, int parent, int max_gpus) {
  Project& p = grown(projects_, project);
  if (p.parent != parent && p.used > 0) {
    for (int a = p.parent; a >= 0; a = grown(projects_, a).parent) grown(projects_, a).used -= p.used;
    for (int a = parent; a >= 0; a = grown(projects_, a).parent) grown(projects_, a).used += p.used;
  }
  grown(projects_, project).parent = parent;
  grown(projects_, project).max = max_gpus;
}

void Quota::use(int queue, int project, int gpus) {
  grown(queues_, queue).used += gpus;
  for (int p = project; p >= 0; p = grown(projects_, p).parent) grown(projects_, p).used += gpus;
}

std::optional<QuotaBlock> Quota::blocks(int queue, int project, int gpus) const {
  using Kind = QuotaBlock::Kind;
  if (gpus <= 0) return std::nullopt;
  if (const Queue* q = find(queue); q != nullptr && q->share.quota >= 0) {
    const int most = q->share.quota + (q->share.borrow < 0 ? 1 << 28 : q->share.borrow);
    if (q->used + gpus > most) return QuotaBlock{Kind::queue, queue, q->used, most};
    if (q->used + gpus > q->share.quota) {
      int beyond = 0, lent = 0;  // of all queues of the pool
      for (const Queue& other : queues_) {
        if (other.share.quota < 0 || other.share.pool != q->share.pool) continue;
        const int used = other.used + (&other == q ? gpus : 0);
        beyond += std::max(0, used - other.kept());
        lent += other.share.quota - other.kept();
      }
      if (beyond > lent) return QuotaBlock{Kind::lenders, queue, beyond - gpus, lent};
    }
  }
  for (int p = project; p >= 0 && static_cast<std::size_t>(p) < projects_.size();
       p = projects_[static_cast<std::size_t>(p)].parent) {
    const Project& at = projects_[static_cast<std::size_t>(p)];
    if (at.max >= 0 && at.used + gpus > at.max) return QuotaBlock{Kind::project, p, at.used, at.max};
  }
  return std::nullopt;
}

QueueShare Quota::share(int queue) const {
  const Queue* q = find(queue);
  return q == nullptr ? QueueShare{} : q->share;
}

int Quota::max_of_project(int project) const {
  return project >= 0 && static_cast<std::size_t>(project) < projects_.size()
             ? projects_[static_cast<std::size_t>(project)].max
             : -1;
}

int Quota::used_by_queue(int queue) const {
  const Queue* q = find(queue);
  return q == nullptr ? 0 : q->used;
}

int Quota::used_by_project(int project) const {
  return project >= 0 && static_cast<std::size_t>(project) < projects_.size()
             ? projects_[static_cast<std::size_t>(project)].used
             : 0;
}

int Quota::borrowed(int queue) const {
  const Queue* q = find(queue);
  return q == nullptr || q->share.quota < 0 ? 0 : std::max(0, q->used - q->share.quota);
}

bool Quota::entitled(int queue, int gpus) const {
  const Queue* q = find(queue);
  return q != nullptr && q->share.quota >= 0 && q->used + gpus <= q->share.quota;
}

}  // namespace tutti::planner
