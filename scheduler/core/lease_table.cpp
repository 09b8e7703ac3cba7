#include "scheduler/core/lease_table.h"

#include <algorithm>

namespace tutti {

void LeaseTable::grant(NodeId node, Mono now) {
  Lease& lease = leases_[node];
  lease.granted_at = now;
  lease.held = true;
}

void LeaseTable::others_renew_until(Mono until) { others_until_ = std::max(others_until_, until); }

void LeaseTable::settle(NodeId node) {
  if (const auto it = leases_.find(node); it != leases_.end()) it->second.settled = true;
}

void LeaseTable::nobody_else_renews(Mono now) { others_until_ = std::min(others_until_, now); }

bool LeaseTable::renew(NodeId node, Mono now) {
  auto it = leases_.find(node);
  if (it == leases_.end() || !it->second.held) return false;
  if (now > it->second.granted_at) it->second.granted_at = now;
  return true;
}

void LeaseTable::revoke(NodeId node) { leases_[node].held = false; }

bool LeaseTable::held(NodeId node) const {
  auto it = leases_.find(node);
  return it != leases_.end() && it->second.held;
}

Mono LeaseTable::heard_at(NodeId node) const {
  auto it = leases_.find(node);
  return it == leases_.end() ? Mono{} : it->second.granted_at;
}

Mono LeaseTable::expires_at(NodeId node) const {
  auto it = leases_.find(node);
  if (it == leases_.end()) return Mono{};
  return acknowledged_at(it->second) + settings_.lease + settings_.kill_margin;
}

Mono LeaseTable::acknowledged_at(const Lease& lease) const {
  return lease.settled ? lease.granted_at : std::max(lease.granted_at, others_until_);
}

Mono LeaseTable::acknowledged_at(NodeId node) const {
  auto it = leases_.find(node);
  return it == leases_.end() ? Mono{} : acknowledged_at(it->second);
}

}  // namespace tutti
