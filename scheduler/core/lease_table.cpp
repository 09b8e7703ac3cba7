#include "scheduler/core/lease_table.h"

namespace tutti {

void LeaseTable::grant(NodeId node, Mono now) { leases_[node] = Lease{.granted_at = now, .held = true}; }

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
  return it->second.granted_at + settings_.lease + settings_.kill_margin;
}

}  // namespace tutti
