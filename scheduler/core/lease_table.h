// Who may still be running what. A worker counts its lease from the moment it *sent* the heartbeat that we
// acknowledged; we count from the moment we sent the acknowledgement, which is later, and add the kill
// margin. So when we say a lease is over, the worker's own watchdog has long killed its ranks, without any
// message between us (docs/design/0002-fence.md).
//
// Lives in memory and outlives a loss of the database: renewing is always safe, only re-placing is not.
// Owned by the control thread; read by the control plane. Core code: the caller passes the time in.
// Invariants: (1) a revoked lease is never renewed, only granted anew by a registration;
//             (2) expires_at never moves backwards while the lease is held.
#pragma once

#include <map>

#include "scheduler/model/ids.h"
#include "scheduler/model/time.h"

namespace tutti {

struct LeaseSettings {
  Duration heartbeat = std::chrono::seconds(1);
  Duration lease = std::chrono::seconds(6);                // T
  Duration kill_margin = std::chrono::milliseconds(1500);  // K: local kill, scheduling jitter, clock drift
  Duration suspicion = std::chrono::milliseconds(2500);    // silence after which a node is `unreachable`
};

class LeaseTable {
 public:
  explicit LeaseTable(LeaseSettings settings) : settings_(settings) {}

  const LeaseSettings& settings() const { return settings_; }

  // A registration, or the start of this scheduler (for all it may have granted in a former life).
  void grant(NodeId node, Mono now);
  // A heartbeat came; true: acknowledge it, at once. False: the lease is revoked, the node must register.
  bool renew(NodeId node, Mono now);
  // From now on no acknowledgement leaves; called when the node is declared dead.
  void revoke(NodeId node);

  bool held(NodeId node) const;
  Mono heard_at(NodeId node) const;    // last heartbeat or grant; time zero if never
  Mono expires_at(NodeId node) const;  // all its ranks are dead from then on; time zero if never granted

 private:
  struct Lease {
    Mono granted_at{};  // last acknowledgement
    bool held = false;
  };
  LeaseSettings settings_;
  std::map<NodeId, Lease> leases_;
};

}  // namespace tutti
