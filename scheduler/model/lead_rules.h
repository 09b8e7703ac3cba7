// The rules by which several schedulers live on one store without two gangs of one job
// (docs/design/0016-replicas.md), as predicates: the leader, the workers, the simulation (tests/sim) and the
// model (tests/model) ask the same ones.
#pragma once

#include <cstdint>
#include <optional>

#include "scheduler/model/time.h"

namespace tutti::lead {

// Rule 1: leases are renewed only while it has been confirmed within R that we lead; the moment when the
// question was sent counts.
constexpr bool may_renew(Mono now, Mono confirmed_at, Duration renews_for) {
  return now - confirmed_at <= renews_for;
}

// Rule 2: a worker obeys terms that do not fall while anything lives on its node.
constexpr bool obeys(std::int64_t said, std::int64_t highest, bool anything_lives) {
  return said >= highest || !anything_lives;
}

// Rule 3: a heartbeat with our own term says that nobody of a lower one renews this node's lease any more.
constexpr bool settles(const std::optional<std::int64_t>& obeyed, std::int64_t ours) {
  return obeyed == ours;
}

}  // namespace tutti::lead
