// Who may still be running what. A worker counts its lease from the moment it *sent* the heartbeat that we
// acknowledged; we count from the moment we sent the acknowledgement, which is later, and add the kill
// margin. So when we say a lease is over, the worker's own watchdog has long killed its ranks, without any
// message between us (docs/design/0002-fence.md).
//
// Lives in memory and outlives a loss of the database: renewing is always safe, only re-placing is not.
// Owned by the control thread; read by the control plane. Core code: the caller passes the time in.
// After a change of the leader the one before may live and renew leases too, for a bounded time
// (docs/design/0016-replicas.md): until then a node counts as acknowledged by it, unless the node has said
// that it obeys us. Invariants: (1) a revoked lease is never renewed, only granted anew by a registration;
//             (2) expires_at never moves backwards while the lease is held, but by settle() and
//             nobody_else_renews(), which know that the time assumed so far was too long.
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
  // Of every lease that is not settled: another scheduler may renew it until then.
  void others_renew_until(Mono until);
  // The node obeys our term: nobody else renews its lease any more.
  void settle(NodeId node);
  // Every former leader is over, by now.
  void nobody_else_renews(Mono now);

  // From now on no acknowledgement leaves; called when the node is declared dead.
  void revoke(NodeId node);

  bool held(NodeId node) const;
  Mono heard_at(NodeId node) const;         // last heartbeat or grant; time zero if never
  Mono acknowledged_at(NodeId node) const;  // by whoever, at the latest; not before heard_at
  Mono expires_at(NodeId node) const;       // all its ranks are dead from then on; time zero if never granted

  // ---- for the decision log, and a replay of it
  struct Lease {
    Mono granted_at{};  // last acknowledgement
    bool held = false;
    bool settled = false;
  };
  const std::map<NodeId, Lease>& all() const { return leases_; }
  Mono others_until() const { return others_until_; }
  void put(NodeId node, const Lease& lease) { leases_[node] = lease; }
  void put_others_until(Mono until) { others_until_ = until; }

 private:
  Mono acknowledged_at(const Lease& lease) const;

  LeaseSettings settings_;
  Mono others_until_{};
  std::map<NodeId, Lease> leases_;
};

}  // namespace tutti
