// Control plane: nodes that are not heard any more, and when what they ran must be dead
// (docs/design/0002-fence.md). One liveness authority: only here is a node declared dead. Lease and kill
// margin are over for a node first; for a part of an attempt that may go on without a scheduler, once a peer
// that it needs says that it has not acknowledged it for as long, or the time that it may go on is over.
#include <algorithm>

#include "scheduler/core/control_plane.h"
#include "scheduler/core/plane_inputs.h"

namespace tutti {
namespace {

constexpr Duration kAlone = std::chrono::seconds(5);
constexpr Duration kRemembered = std::chrono::hours(1);  // a node that was lost
constexpr Duration kAskEvery = std::chrono::seconds(1);
constexpr Duration kAskSoonest = std::chrono::milliseconds(50);
constexpr int kMostLookedAt = 256;

// After its last renewal.
Duration until_dead(const LeaseSettings& s) { return s.lease + s.kill_margin; }

std::string seconds_text(Duration d) {
  const auto tenths = d.count() / 100'000;
  return std::to_string(tenths / 10) + "." + std::to_string(tenths % 10) + " s";
}

std::string rack_of(const Node& node) {
  const auto found = node.row.labels.find("rack");
  return found == node.row.labels.end() ? "" : found->second;
}

}  // namespace

// A node outside the gang, of another rack where there is one near in the list: what takes the whole gang
// away at once must not take the one who could tell. 0: there is none.
NodeId ControlPlane::choose_witness(const std::vector<GangMember>& gang) const {
  const auto in_gang = [&](NodeId id) { return std::ranges::count(gang, id, &GangMember::node) > 0; };
  const std::string rack = rack_of(cluster_.nodes.at(gang.front().node));
  const int all = static_cast<int>(cluster_.nodes.size());
  NodeId chosen;
  auto it = cluster_.nodes.upper_bound(gang.back().node);
  for (int i = 0; i < std::min(all, kMostLookedAt + static_cast<int>(gang.size())); ++i, ++it) {
    if (it == cluster_.nodes.end()) it = cluster_.nodes.begin();
    const Node& node = it->second;
    if (!node.accepts_work() || node.peer_port == 0 || in_gang(it->first)) continue;
    if (!chosen) chosen = it->first;
    if (rack.empty() || rack_of(node) != rack) return it->first;
  }
  return chosen;
}

protocol::GangHold ControlPlane::hold_of(const AttemptRow& row) const {
  protocol::GangHold hold;
  hold.lease_us = leases_.settings().lease.count();
  hold.continue_for_us = row.continue_for.count();
  if (const Node* witness = cluster_.find(row.witness))
    hold.witness = protocol::GangNode{witness->row.name, witness->row.address, 0, 0, witness->peer_port};
  return hold;
}

// From now on no heartbeat of it is acknowledged: it must register anew, and say what it still has. `off`: a
// person vouches that it has nothing.
void ControlPlane::expire_lease(Node& node, Now now, const std::string& off) {
  const NodeId id = node.row.id;
  leases_.revoke(id);
  node.linked = false;
  silent_.insert(id);
  Effect goodbye;
  goodbye.to = id;
  goodbye.disconnect = true;
  out_.effects.push_back(std::move(goodbye));
  for (AttemptKey key : node.members) {
    const Attempt& attempt = attempts_.at(key);
    const LostPart part{
        .since = leases_.acknowledged_at(id), .silent = true, .hold = attempt.row.continue_for, .ask_at = {}};
    const auto [known, fresh] = lost_parts_.try_emplace({key, id}, part);
    if (!off.empty()) known->second.off = off, known->second.since = leases_.heard_at(id);
    if (!fresh || must_be_dead(known->second, now)) continue;
    record_job(
        jobs_.at(key.job), now,
        {.kind = "attempt",
         .from = std::string(name(attempt.row.state)),
         .to = std::string(name(attempt.row.state)),
         .detail = "node " + node.row.name + " is not heard; it goes on while its peers hear it, for " +
                   seconds_text(attempt.row.continue_for) + " at most"});
  }
}

bool ControlPlane::must_be_dead(const LostPart& part, Now now) const {
  if (!part.off.empty()) return true;
  const Mono over = part.since + until_dead(leases_.settings());
  if (now.mono < over) return false;
  return part.proven || now.mono >= over + part.hold;
}

void ControlPlane::ask_peers(const Attempt& attempt, NodeId about, LostPart& part, Now now) {
  protocol::AskSilence ask;
  ask.request = ++last_question_;
  ask.key = {attempt.row.job, attempt.row.epoch};
  ask.node = cluster_.nodes.at(about).row.name;
  ask.refuse = attempt.row.state == AttemptState::stopping;
  if (part.asked == 0) part.asked = ask.request;
  part.ask_at = now.mono + kAskEvery;
  const auto to = [&](NodeId peer) {
    const Node* node = cluster_.find(peer);
    if (node != nullptr && peer != about && node->linked) send(peer, ask);
  };
  for (const auto& m : attempt.row.gang) to(m.node);
  to(attempt.row.witness);
}

// It counts from its own last acknowledgement on, which is later than the sending of what it acknowledged;
// and the question was put when the node's own lease was over. So that part has been dead for the margin.
void ControlPlane::on_peer_silence(Now now, NodeId from, const protocol::PeerSilence& said) {
  const auto deciding = note<&ControlPlane::on_peer_silence>(now, from, said);
  const auto about = cluster_.node_by_name.find(said.node);
  if (about == cluster_.node_by_name.end() || about->second == from) return;
  const auto found = lost_parts_.find({said.key, about->second});
  const Attempt* attempt = find_live(said.key);
  if (found == lost_parts_.end() || attempt == nullptr) return;
  LostPart& part = found->second;
  if (part.asked == 0 || said.request < part.asked) return;
  const bool peer =
      from == attempt->row.witness || std::ranges::count(attempt->row.gang, from, &GangMember::node) > 0;
  if (!peer) return;
  const Duration missing = until_dead(leases_.settings()) - Duration(said.silent_us);
  if (missing > Duration::zero()) {
    part.ask_at = std::min(part.ask_at, now.mono + std::max(missing, kAskSoonest));
    return;
  }
  part.proven = true;
  end_lost_parts(now);
  declare_dead(now);
}

void ControlPlane::end_lost_parts(Now now) {
  std::vector<PartId> over;
  for (auto& [id, part] : lost_parts_) {
    const Attempt& attempt = attempts_.at(id.first);
    const Mono may_ask = part.since + until_dead(leases_.settings());
    if (must_be_dead(part, now))
      over.push_back(id);
    else if (now.mono >= may_ask && now.mono >= part.ask_at)
      ask_peers(attempt, id.second, part, now);
  }
  for (const auto& id : over)
    if (lost_parts_.at(id).silent) count_node_lost(cluster_.nodes.at(id.second), now);
  for (const auto& [key, id] : over) {
    const auto found = lost_parts_.find({key, id});
    if (found == lost_parts_.end()) continue;  // its attempt has ended meanwhile
    const LostPart part = std::move(found->second);
    lost_parts_.erase(found);
    Attempt& attempt = attempts_.at(key);
    auto member = std::ranges::find(attempt.row.gang, id, &GangMember::node);
    if (member->state == MemberState::ended) continue;
    if (part.silent && attempt.row.state != AttemptState::stopping) {
      attempt.row.fault_at = now.wall - (now.mono - part.since);
      begin_stop(attempt, Cause::node_lost,
                 "node " + member->node_name +
                     (part.off.empty() ? " lost: lease and kill margin over" : " lost: " + part.off),
                 "KILL", Duration::zero(), now);
    }
    end_member(attempt, *member, false, true, std::string(kGivenUp), now);
    advance(attempt, now);
  }
}

void ControlPlane::forget_lost_parts(AttemptKey key) {
  for (auto it = lost_parts_.lower_bound({key, NodeId()}); it != lost_parts_.end() && it->first.first == key;)
    it = lost_parts_.erase(it);
}

// Once in each silence, before the first attempt that it ends is judged. A node that a person has given up is
// not lost: it was to go.
void ControlPlane::count_node_lost(Node& node, Now now) {
  if (std::exchange(node.counted_lost, true) || node.row.service == NodeService::retired) return;
  const NodeId id = node.row.id;
  const AttemptKey hit = node.members.empty() ? AttemptKey{} : *node.members.begin();
  const Mono heard_at = leases_.heard_at(id);
  const auto together = [&](Mono other) { return std::chrono::abs(other - heard_at) <= kAlone; };
  std::erase_if(lost_lately_, [&](const Lost& l) { return now.mono - l.heard_at > kRemembered; });
  // Many at once have one cause, and it is none of them, also not the one that was counted first.
  bool alone = std::ranges::none_of(silent_, [&](NodeId other) {
    return other != id && cluster_.nodes.at(other).row.service != NodeService::retired &&
           together(leases_.heard_at(other));
  });
  for (Lost& other : lost_lately_) {
    if (!together(other.heard_at)) continue;
    alone = false;
    if (other.blamed) withdraw(other.blamed, {}, now);
    other.blamed = {};
    other.judge_at.reset();
  }
  // Who is switched off by a person, or had nothing to lose, is not blamed.
  const bool blamed = alone && takes_work(node.row.service) && hit.job;
  const FaultId fault =
      add_fault(now, {.id = {},
                      .at = now.wall - (now.mono - heard_at),
                      .node = id,
                      .gpu = {},
                      .job = hit.job,
                      .epoch = hit.epoch,
                      .fault_class = "node_lost",
                      .action = "dead",
                      .detail = std::to_string(node.members.size()) + " attempts had ranks there",
                      .rule = "",
                      .slot = "",
                      .shared_by = blamed ? 1 : 0})
          .id;
  lost_lately_.push_back(
      {id, heard_at, blamed ? fault : FaultId(), blamed ? std::optional(now.mono + kAlone) : std::nullopt});
}

// When no others have followed.
void ControlPlane::judge_lost(Now now) {
  for (Lost& lost : lost_lately_) {
    if (!lost.judge_at || now.mono < *lost.judge_at) continue;
    lost.judge_at.reset();
    judge_history(cluster_.nodes.at(lost.node), {}, now);
  }
}

// Kubernetes has the taint node.kubernetes.io/out-of-service for it. Whoever would have to be waited for
// otherwise: a whole gang that is silent, or a node that a leader before this one may still know alive.
Result<NodeId> ControlPlane::on_node_off(Now now, const std::string& node_name, std::string_view who,
                                         std::string_view reason) {
  const auto deciding = note<&ControlPlane::on_node_off>(now, node_name, who, reason);
  const auto known = cluster_.node_by_name.find(node_name);
  if (known == cluster_.node_by_name.end())
    return Error{
        .code = Errc::not_found, .message = "no node '" + node_name + "'", .hint = "", .field = "node"};
  Node& node = cluster_.nodes.at(known->second);
  const Duration silent = now.mono - leases_.heard_at(node.row.id);
  if (node.linked || silent < until_dead(leases_.settings()))
    return Error{.code = Errc::conflict,
                 .message = "node '" + node_name + "' " +
                            (node.linked ? "is connected" : "was heard " + seconds_text(silent) + " ago") +
                            ": it is not known to be off",
                 .hint = "say so when it has been silent for " +
                         seconds_text(until_dead(leases_.settings())) + "; one that lives is drained",
                 .field = "node"};
  if (node.row.state == NodeState::dead) return node.row.id;
  const std::string why =
      "off, says " + std::string(who) + (reason.empty() ? "" : ": ") + std::string(reason);
  set_node_state(node, NodeEvent::silence, now, "no heartbeat");  // no tick has looked since, maybe
  expire_lease(node, now, why);
  end_lost_parts(now);
  if (silent_.erase(node.row.id) > 0) declare_dead(node, why, now);
  return node.row.id;
}

void ControlPlane::declare_dead(Node& node, const std::string& why, Now now) {
  count_node_lost(node, now);
  set_node_state(node, NodeEvent::expired, now, why);
}

// Those that nothing can be alive on any more.
void ControlPlane::declare_dead(Now now) {
  std::vector<NodeId> dead;
  for (const NodeId id : silent_) {
    const bool held = std::ranges::any_of(cluster_.nodes.at(id).members,
                                          [&](AttemptKey key) { return lost_parts_.contains({key, id}); });
    if (!held) dead.push_back(id);
  }
  for (const NodeId id : dead) {
    silent_.erase(id);
    declare_dead(
        cluster_.nodes.at(id),
        "no heartbeat within lease and kill margin (" + seconds_text(until_dead(leases_.settings())) + ")",
        now);
  }
}

}  // namespace tutti
