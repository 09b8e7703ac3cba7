// Inside of the planner: what one pass over a pool keeps in mind.
#pragma once

#include "scheduler/planner/planner.h"

namespace tutti::planner {

// When one ends at the latest that starts now and may run so long.
inline Instant after(Instant now, Duration limit) {
  return limit == kNoLimit || limit > Instant::max() - now ? Instant::max() : now + limit;
}

// The start that is kept free for the first job that does not fit.
struct Planner::Reservation {
  struct OnNode {
    int node;
    Part part;          // the reserved job's
    Nodes::Room spare;  // free at that time beside it
  };
  JobId job;
  Instant at;
  int need = 0;
  std::vector<OnNode> nodes;
  std::unordered_map<int, std::ptrdiff_t> index;  // node → in `nodes`

  void keep(const Nodes& all);
  const OnNode* spare_on(int node) const;  // nullptr: not of the reservation
  bool fits_beside(const OnNode& on, const Part& part, const Need& need) const;
  void taken(const Resources& r, const Parts& parts, Instant until);
};

struct Planner::Pass {
  static constexpr std::uint8_t kAlways = 1;  // jobs of the shape fit no more in this pass
  static constexpr std::uint8_t kBeside = 2;  // … unless they are gone by the promised start

  Pool& pool;
  Instant now;
  Decisions& out;
  std::size_t most_starts;  // of all passes together
  std::optional<Reservation> kept{};
  std::vector<std::uint8_t> blocked{};  // by shape
  std::set<const void*> failed{};       // buckets that did not fit though others of their shape may
  bool makes_room = false;              // looks for who may preempt: what fits is of no interest

  bool full() const { return out.started.size() >= most_starts; }
  bool may_preempt(const Planner& planner) const;
};

struct Planner::PassFilter : NodeFilter {
  const Planner* planner = nullptr;
  const Pass* pass = nullptr;
  const Waiting* job = nullptr;
  Instant end;              // of the job, at the latest
  bool end_before = false;  // before the promised start
  int preference(int node, const Need& need) const override;
};

struct Planner::Victim {
  JobId id;
  Band band;
  bool borrowed;  // runs on what its queue has borrowed
  double key;
  double lost;  // GPU-seconds since its last checkpoint
  int gpus;
  Instant rank_at;
  bool ran_enough;
};

}  // namespace tutti::planner
