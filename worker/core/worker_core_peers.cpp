// Of WorkerCore: how long attempts may go on, with a scheduler and without one
// (docs/design/0002-fence.md).
#include <algorithm>
#include <utility>

#include "worker/core/attempt.h"
#include "worker/core/worker_core.h"

namespace tutti::worker {

namespace {

constexpr Duration kPingEvery = std::chrono::seconds(1);

// Everybody who has to acknowledge this node's part: the rest of the gang, and the witness. Without any the
// worker itself does (ping_peers): the ranks must not outlive whoever could be asked about them for long.
std::vector<const protocol::GangNode*> peers_of(const protocol::Prepare& p) {
  std::vector<const protocol::GangNode*> out;
  for (std::size_t i = 0; i < p.gang.size(); ++i)
    if (static_cast<std::int32_t>(i) != p.index) out.push_back(&p.gang[i]);
  if (p.hold.witness) out.push_back(&*p.hold.witness);
  return out;
}

// Until then, with a node's lease that ends at `node_lease`.
Mono held_until(const WorkerCore::Attempt& a, const std::string& self, Mono node_lease) {
  const auto& hold = a.prepare.hold;
  if (hold.continue_for_us <= 0 || node_lease == Mono{}) return node_lease;
  Mono until = node_lease + Duration(hold.continue_for_us);
  const auto acknowledged_by = [&](const std::string& peer) {
    const auto sent = a.acknowledged.find(peer);
    until = std::min(until, sent == a.acknowledged.end() ? Mono{} : sent->second + Duration(hold.lease_us));
  };
  const auto peers = peers_of(a.prepare);
  for (const auto* peer : peers) acknowledged_by(peer->node);
  if (peers.empty()) acknowledged_by(self);
  return std::max(until, node_lease);
}

}  // namespace

void WorkerCore::renew(Attempt& a) {
  const Mono until = held_until(a, settings_.self.node, lease_until_);
  if (a.lease_over || until <= a.lease_until) return;
  a.lease_until = until;
  act(SetAttemptLease{a.key, lease_until_boot_us(a.key)});
}

std::int64_t WorkerCore::lease_until_boot_us(AttemptKey key) const {
  return attempts_.at(key)->lease_until.time_since_epoch().count();
}

// The supervisors watch their leases themselves; this is the second pair of eyes. It comes before anything
// that renews a lease: one that is over must stay over, whatever is acknowledged later.
void WorkerCore::enforce_leases(Now now) {
  for (auto& [key, a] : attempts_) {
    if (!a->may_run() || a->lease_until == Mono{} || now.mono < a->lease_until) continue;
    if (!std::exchange(a->lease_over, true)) {
      if (!a->failure) a->failure = failure("lease", "no word from the scheduler within the lease", now);
      stop_attempt(now, *a, protocol::Stop{key, "lease", "KILL", 0});
    }
    // A supervisor that does nothing (stopped, traced, waiting for a disk) must not keep its ranks alive.
    if (!a->may_run() || now.mono < a->lease_until + settings_.lease_second_look) continue;
    if (std::exchange(a->lease_struck, true)) continue;
    a->struck = true;
    act(Note{key, phase_word(*a), "killing", "the supervisor is late"});
    act(KillAndProve{key});
  }
}

void WorkerCore::ping_peers(Now now) {
  if (now.mono < next_ping_) return;
  next_ping_ = now.mono + kPingEvery;
  std::map<std::string, PingPeer> pings;
  for (const auto& [key, a] : attempts_) {
    if (!a->may_run() || a->lease_over || a->stop || a->prepare.hold.continue_for_us <= 0) continue;
    const auto peers = peers_of(a->prepare);
    if (peers.empty()) {
      a->acknowledged[settings_.self.node] = now.mono;
      renew(*a);
    }
    for (const auto* peer : peers) {
      auto& to = pings[peer->node];
      to.address = peer->address;
      to.port = peer->peer_port;
      to.ping.attempts.push_back(key);
    }
  }
  for (auto& [node, to] : pings) {
    to.ping.from = settings_.self.node;
    to.ping.to = node;
    to.ping.sent_us = boot_us(now);
    act(std::move(to));
  }
}

// Not what is over here: the rest of its gang is to end as well, though no scheduler says so.
bool WorkerCore::acknowledges(AttemptKey key) const {
  if (peers_.refused(key) || is_stale(key)) return false;
  const auto found = attempts_.find(key);
  if (found == attempts_.end()) return true;
  const Attempt& a = *found->second;
  if (a.final.end) return a.final.end->ok;  // also while its last work is done once more
  return !a.stop && !a.failure && !a.lease_over;
}

std::optional<protocol::PeerAck> WorkerCore::on_peer_ping(Now now, const protocol::PeerPing& ping) {
  enforce_leases(now);
  if (ping.to != settings_.self.node) return std::nullopt;
  protocol::PeerAck ack{ping.to, ping.from, ping.sent_us, {}};
  for (const AttemptKey key : ping.attempts) {
    if (!acknowledges(key)) continue;
    peers_.acknowledged(ping.from, key, now.mono);
    ack.attempts.push_back(key);
  }
  if (ack.attempts.empty()) return std::nullopt;
  return ack;
}

void WorkerCore::on_peer_ack(Now now, const protocol::PeerAck& ack) {
  enforce_leases(now);
  const Mono sent{Duration(ack.sent_us)};
  if (ack.to != settings_.self.node || sent > now.mono) return;
  for (const AttemptKey key : ack.attempts) {
    Attempt* a = live(key);
    if (a == nullptr || !a->may_run()) continue;
    auto& last = a->acknowledged[ack.from];  // of peers only: nobody else is asked
    last = std::max(last, sent);
    renew(*a);
  }
}

void WorkerCore::on_ask_silence(Now now, const protocol::AskSilence& ask) {
  if (ask.refuse) peers_.refuse(ask.key);
  send(protocol::PeerSilence{ask.request, ask.key, ask.node,
                             peers_.silence(ask.node, ask.key, now.mono).count()});
}

}  // namespace tutti::worker
