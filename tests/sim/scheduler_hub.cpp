// The scheduler process, part 2: connections of workers, as scheduler/service/worker_hub keeps them.
#include <algorithm>
#include <variant>

#include "api/wire/job_spec_codec.h"
#include "api/wire/messages.h"
#include "scheduler/model/lead_rules.h"
#include "tests/sim/scheduler_process.h"

namespace tutti::sim {
namespace {
template <class... F>
struct Overloaded : F... {
  using F::operator()...;
};
template <class... F>
Overloaded(F...) -> Overloaded<F...>;
constexpr std::size_t kOrdersKept = 40;
}  // namespace

void SchedulerProcess::accept(const LinkPtr& link) {
  auto c = std::make_shared<Connection>();
  c->link = link;
  connections_[link->id()] = c;
  std::weak_ptr<Connection> weak = c;
  link->start(Side::scheduler, Link::End{.gate =
                                             [this, life = life_](std::function<void()> what) {
                                               if (life == life_) gate(std::move(what));
                                             },
                                         .on_text =
                                             [this, weak](const std::string& text) {
                                               if (auto p = weak.lock()) on_text(p, text);
                                             },
                                         .on_closed =
                                             [this, weak](const std::string&) {
                                               if (auto p = weak.lock()) on_closed(p);
                                             }});
}

void SchedulerProcess::resync(const std::vector<NodeRow>& nodes) {
  if (!is_before()) {  // that one knows whom it has heard itself
    known_.clear();
    for (const auto& node : nodes) known_[node.name] = {node.id, node.boot_id};
  }
  by_node_.clear();
  const auto all = connections_;
  for (const auto& [link, c] : all) {
    c->node = c->decided = {};
    c->link->abort(Side::scheduler, "resync");
  }
}

template <class Decide>
void SchedulerProcess::tell_plane(const ConnectionPtr& c, Decide decide) {
  if (!plane_) return;  // it will say it again after the resync
  Command command;
  command.decide = [c, decide = std::move(decide)](ControlPlane& plane, Now now) -> std::function<void()> {
    decide(plane, now, c->decided);
    return {};
  };
  command.refuse = [link = c->link] { link->abort(Side::scheduler, "not taken"); };
  post(std::move(command));
}

void SchedulerProcess::on_text(const ConnectionPtr& c, const std::string& text) {
  Result<protocol::FromWorker> decoded = wire::decode_from_worker(text);
  if (!decoded) return world_.fail("a worker said what cannot be read: " + decoded.error().message);
  if (!c->said_hello && !std::holds_alternative<protocol::Hello>(*decoded))
    return world_.fail("a worker spoke before its hello");
  std::visit(Overloaded{
                 [&](protocol::Hello& m) { on_hello(c, std::move(m)); },
                 [&](protocol::Heartbeat& m) { on_heartbeat(c, m); },
                 [&](protocol::LogChunk&) {},
                 [&](protocol::AttemptStatus& m) {
                   if (canary_ == Canary::free_unproven && m.end) m.end->proven = true;
                   tell_plane(c, [this, m, node = c->name](ControlPlane& p, Now t, NodeId n) {
                     p.on_attempt_status(t, n, is_before() ? before::heard(p, node, m) : m);
                   });
                 },
                 [&](protocol::GpuFault& m) {
                   tell_plane(c, [m](ControlPlane& p, Now t, NodeId n) { p.on_gpu_fault(t, n, m); });
                 },
                 [&](protocol::GpuInventory& m) {
                   tell_plane(c, [m](ControlPlane& p, Now t, NodeId n) { p.on_gpu_inventory(t, n, m); });
                 },
                 [&](protocol::NodeHealth& m) {
                   tell_plane(c, [m](ControlPlane& p, Now t, NodeId n) { p.on_node_health(t, n, m); });
                 },
                 [&](protocol::InspectionReport& m) {
                   tell_plane(c, [m](ControlPlane& p, Now t, NodeId n) { p.on_inspection(t, n, m); });
                 },
                 [&](protocol::CollectiveResult& m) {
                   tell_plane(c, [m](ControlPlane& p, Now t, NodeId n) { p.on_collective_result(t, n, m); });
                 },
                 [&](protocol::PeerSilence& m) {
                   tell_plane(c, [m](ControlPlane& p, Now t, NodeId n) { p.on_peer_silence(t, n, m); });
                 },
                 [&](protocol::CheckpointFound& m) {
                   tell_plane(c, [m](ControlPlane& p, Now t, NodeId n) { p.on_checkpoint(t, n, m); });
                 },
                 [&](protocol::CheckpointChecked& m) {
                   tell_plane(c, [m](ControlPlane& p, Now t, NodeId n) { p.on_checkpoint_checked(t, n, m); });
                 },
                 [&](protocol::CheckpointDeleted& m) {
                   tell_plane(c, [m](ControlPlane& p, Now t, NodeId n) { p.on_checkpoint_deleted(t, n, m); });
                 },
                 [&](protocol::Progress& m) {
                   tell_plane(c, [m](ControlPlane& p, Now t, NodeId n) { p.on_progress(t, n, m); });
                 },
                 [&](protocol::RankReport& m) {
                   tell_plane(c, [m](ControlPlane& p, Now t, NodeId n) { p.on_rank_report(t, n, m); });
                 },
                 [&](protocol::ShellOutput&) {},  // nobody opens shells here
                 [&](protocol::ShellClosed&) {},
             },
             *decoded);
}

void SchedulerProcess::on_hello(const ConnectionPtr& c, protocol::Hello hello) {
  c->name = hello.node;
  c->said_hello = true;
  if (!may_renew()) return send_to_leader(c);
  welcome_meanwhile(c, hello);
  if (!plane_) return;
  Command command;
  command.decide = [this, c, hello = std::move(hello)](ControlPlane& plane,
                                                       Now now) mutable -> std::function<void()> {
    if (is_before())
      for (auto& status : hello.attempts) status = before::heard(plane, hello.node, status);
    const NodeId node = plane.on_hello(now, hello);
    c->decided = node;
    c->generation = plane.cluster().find(node)->link;
    return [this, c, node, boot_id = hello.boot_id] {
      known_[c->name] = {node, boot_id};
      if (!connections_.contains(c->link->id())) {
        c->node = node;
        return report_loss(c);
      }
      bind(c, node);
      if (canary_ == Canary::settle_by_hello) leases_->settle(node);
    };
  };
  command.refuse = [link = c->link] { link->abort(Side::scheduler, "not taken"); };
  post(std::move(command));
}

// A standby grants nothing, nor does a leader that has not been told for too long that it is one.
void SchedulerProcess::send_to_leader(const ConnectionPtr& c) {
  protocol::Refused refused;
  refused.why = "not the leader";
  refused.leader = "";
  if (!leading_ && has_store() && server_.up)
    if (const auto leader = server_.database->leader(); leader.term && !leader.over)
      refused.leader = leader.url;
  world_.mark(leading_ ? "a leader that is not confirmed sends a worker away"
                       : "a standby is asked by a worker");
  c->link->send(Side::scheduler, wire::encode(protocol::ToWorker(std::move(refused))));
}

void SchedulerProcess::welcome_meanwhile(const ConnectionPtr& c, const protocol::Hello& hello) {
  auto it = known_.find(hello.node);
  if (it == known_.end() || it->second.boot_id != hello.boot_id ||
      !leases_->renew(it->second.node, clock().mono))
    return;
  world_.mark("welcome while recovering");
  protocol::Welcome welcome;
  welcome.node_id = it->second.node.value;
  welcome.lease_us = LeaseSettings{}.lease.count();
  welcome.heartbeat_us = leases_->settings().heartbeat.count();
  for (const auto& status : hello.attempts) welcome.keep.push_back(status.key);
  welcome.term = told_term();
  bind(c, it->second.node);
  c->link->send(Side::scheduler, wire::encode(protocol::ToWorker(std::move(welcome))));
}

std::optional<std::int64_t> SchedulerProcess::told_term() const {
  if (is_before() && canary_ == Canary::untold_term) return std::nullopt;
  return term_.value;
}

void SchedulerProcess::bind(const ConnectionPtr& c, NodeId node) {
  auto& slot = by_node_[node];
  if (slot && slot != c) {
    slot->node = slot->decided = {};
    slot->link->abort(Side::scheduler, "a newer connection replaces it");
  }
  slot = c;
  c->node = node;
}

void SchedulerProcess::on_heartbeat(const ConnectionPtr& c, const protocol::Heartbeat& beat) {
  if (!c->node) return;
  if (!may_renew()) {
    world_.mark("a leader that is not confirmed renews nothing");
    return c->link->abort(Side::scheduler, "not confirmed");
  }
  if (!leases_->renew(c->node, clock().mono)) return c->link->abort(Side::scheduler, "declared dead");
  if (lead::settles(beat.term, term_.value)) leases_->settle(c->node);
  c->link->send(Side::scheduler, wire::encode(protocol::ToWorker(protocol::HeartbeatAck{beat.seq})));
  if (!plane_) return;
  const Node* node = plane_->cluster().find(c->node);
  if (node != nullptr && node->row.state != NodeState::reachable)
    tell_plane(c, [](ControlPlane& p, Now t, NodeId n) { p.on_heard(t, n); });
}

void SchedulerProcess::on_closed(const ConnectionPtr& c) {
  connections_.erase(c->link->id());
  if (!c->node) return;
  by_node_.erase(c->node);
  report_loss(c);
}

void SchedulerProcess::report_loss(const ConnectionPtr& c) {
  tell_plane(c, [link = c->generation](ControlPlane& p, Now t, NodeId n) { p.on_link_lost(t, n, link); });
}

void SchedulerProcess::deliver(Effect effect) {
  auto it = by_node_.find(effect.to);
  if (it == by_node_.end()) return;
  const ConnectionPtr c = it->second;
  if (effect.disconnect) return c->link->abort(Side::scheduler, "declared dead");
  if (auto* prepare = std::get_if<protocol::Prepare>(&effect.message)) {
    prepare->spec_json = wire::encode_spec(*effect.spec);
    prepare->secret = "secret";
    prepare->hold.lease_us = LeaseSettings{}.lease.count();
  }
  // The canary's scheduler waits less than it says.
  if (auto* welcome = std::get_if<protocol::Welcome>(&effect.message)) {
    welcome->lease_us = LeaseSettings{}.lease.count();
    welcome->term = told_term();
  }
  std::string text = wire::encode(effect.message);
  if (!std::holds_alternative<protocol::Welcome>(effect.message)) {
    auto& said = said_[effect.to];
    said.push_back(text);
    if (said.size() > kOrdersKept) said.erase(said.begin());
  }
  c->link->send(Side::scheduler, std::move(text));
}

void SchedulerProcess::repeat_an_order(Dice& dice) {
  if (!alive_ || paused_ || by_node_.empty()) return;
  auto it = by_node_.begin();
  std::advance(it, static_cast<std::ptrdiff_t>(dice.below(by_node_.size())));
  const auto said = said_.find(it->first);
  if (said == said_.end() || said->second.empty()) return;
  const std::string text = said->second[dice.below(said->second.size())];
  world_.log([&] { return name_ + " repeats to node " + to_string(it->first) + ": " + text.substr(0, 60); });
  it->second->link->send(Side::scheduler, text);
}

}  // namespace tutti::sim
