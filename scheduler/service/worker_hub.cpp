#include "scheduler/service/worker_hub.h"

#include <sodium.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>
#include <variant>

#include "api/wire/job_spec_codec.h"
#include "api/wire/messages.h"
#include "scheduler/model/condition_table.h"
#include "scheduler/model/lead_rules.h"
#include "scheduler/service/clocks.h"

namespace tutti {

namespace {
template <class... F>
struct Overloaded : F... {
  using F::operator()...;
};
template <class... F>
Overloaded(F...) -> Overloaded<F...>;

constexpr Duration kLogDeadline = std::chrono::seconds(10);  // beyond what the request itself may wait
constexpr std::size_t kMaxPendingLogs = 1000;
constexpr std::size_t kBytesOfAPlace = 4 << 10;  // in the leader's inbox
constexpr std::size_t kMostWaiting = 16 << 20;   // bytes of one worker, each message a place at least
constexpr Duration kHarmfulFor = std::chrono::minutes(1);
constexpr std::chrono::seconds kSecretsAgain{1};  // while the database cannot be asked

// "" = worker and scheduler understand each other.
std::string why_too_far(std::int32_t theirs) {
  const std::int32_t ours = protocol::version();
  if (protocol::speaks_with(ours, theirs)) return "";
  return "it speaks protocol " + std::to_string(theirs) + ", this scheduler (" + TUTTI_VERSION +
         ") protocol " + std::to_string(ours) + ", and they may be one apart: install tutti-worker " +
         TUTTI_VERSION + " there" + (theirs > ours ? ", or upgrade the schedulers first" : "");
}
}  // namespace

WorkerHub::WorkerHub(boost::asio::any_io_executor executor, Leader& leader, LeaseTable& leases,
                     Metrics& metrics, std::string secret_key)
    : executor_(executor),
      leader_(leader),
      leases_(leases),
      metrics_(metrics),
      secret_key_(std::move(secret_key)),
      log_timer_(executor),
      shells_(executor, {[this](NodeId node) { return by_node_.contains(node); },
                         [this](NodeId node, const protocol::ToWorker& message) {
                           if (const auto c = by_node_.find(node); c != by_node_.end())
                             c->second->link->send(wire::encode(message));
                         }}) {}

void WorkerHub::accept(std::shared_ptr<http::Link> link, std::string only) {
  auto c = std::make_shared<Connection>();
  c->link = link;
  c->name = link->peer();
  c->only = std::move(only);
  connections_[link.get()] = c;
  metrics_.worker_connected();
  metrics_.workers_linked().Set(static_cast<double>(connections_.size()));
  std::weak_ptr<Connection> weak = c;  // the link keeps its callbacks; the callbacks must not keep the link
  link->start(
      [this, weak](std::string text) {
        if (auto p = weak.lock()) on_message(p, text);
      },
      [this, weak](std::string why) {
        if (auto p = weak.lock()) on_closed(p, why);
      });
}

void WorkerHub::close_all() {
  shells_.close_all();
  for (const auto& [link, c] : std::exchange(connections_, {})) link->abort();
  log_timer_.cancel();
}

void WorkerHub::resync(const std::vector<NodeRow>& nodes) {
  known_.clear();
  for (const auto& node : nodes) known_[node.name] = {node.id, node.boot_id, node.instance};
  for (const auto& [node, c] : std::exchange(by_node_, {})) shells_.on_node_lost(node);
  for (const auto& [link, c] : connections_) {
    c->node = c->decided = {};  // its end says nothing about the new control plane
    link->abort();
  }
}

// ---------------------------------------------------------------- from workers

template <class Decide>
void WorkerHub::post(const ConnectionPtr& c, Decide decide) {
  if (leader_.plane() == nullptr) return;  // it will say it again after the resync
  const std::size_t bytes = c->bytes;
  c->waiting += bytes;
  Command command;
  command.room = Command::Room::workers;
  command.weight = bytes / kBytesOfAPlace;
  command.decide = [c, bytes, decide = std::move(decide)](ControlPlane& plane,
                                                          Now now) -> std::function<void()> {
    c->waiting -= bytes;
    decide(plane, now, c->decided);
    return {};
  };
  // Not taken: what it said would be lost. Cut the connection, it says everything again.
  command.refuse = [this, c](const Error& e) { cut(c, e); };
  leader_.post(std::move(command));
}

// Of one worker's words only so many wait for their decision, so that it takes nobody's memory and no other
// worker's place. One that goes on says everything again when there is time for it.
bool WorkerHub::says_too_much(const ConnectionPtr& c, std::size_t bytes) {
  c->bytes = std::max(bytes, kBytesOfAPlace);
  if (c->waiting <= kMostWaiting) return false;
  spdlog::warn("worker {}: {} bytes of what it has said are still to be decided; closing", c->name,
               c->waiting);
  c->link->abort();
  return true;
}

void WorkerHub::cut(const ConnectionPtr& c, const Error& why) {
  if (why.code == Errc::internal) harmful_[c->name] = boot_now() + kHarmfulFor;
  c->link->abort();
}

void WorkerHub::on_message(const ConnectionPtr& c, const std::string& text) {
  if (says_too_much(c, text.size())) return;
  Result<protocol::FromWorker> decoded = wire::decode_from_worker(text);
  if (!decoded) return not_understood(c, text, decoded.error());
  if (!c->said_hello && !std::holds_alternative<protocol::Hello>(*decoded)) {
    spdlog::warn("worker {}: spoke before its hello; closing", c->name);
    c->link->abort();
    return;
  }
  std::visit(Overloaded{
                 [&](protocol::Hello& m) { on_hello(c, std::move(m)); },
                 [&](protocol::Heartbeat& m) { on_heartbeat(c, m); },
                 [&](protocol::LogChunk& m) {
                   const auto asked = logs_.find(m.request);  // of this node, and of no other
                   if (asked != logs_.end() && asked->second.node == c->node) on_log_chunk(std::move(m));
                 },
                 [&](protocol::AttemptStatus& m) {
                   post(c, [m](ControlPlane& p, Now t, NodeId n) { p.on_attempt_status(t, n, m); });
                 },
                 [&](protocol::GpuFault& m) {
                   post(c, [m](ControlPlane& p, Now t, NodeId n) { p.on_gpu_fault(t, n, m); });
                 },
                 [&](protocol::GpuInventory& m) {
                   post(c, [m](ControlPlane& p, Now t, NodeId n) { p.on_gpu_inventory(t, n, m); });
                 },
                 [&](protocol::NodeHealth& m) {
                   post(c, [m](ControlPlane& p, Now t, NodeId n) { p.on_node_health(t, n, m); });
                 },
                 [&](protocol::InspectionReport& m) {
                   post(c, [m](ControlPlane& p, Now t, NodeId n) { p.on_inspection(t, n, m); });
                 },
                 [&](protocol::CollectiveResult& m) {
                   post(c, [m](ControlPlane& p, Now t, NodeId n) { p.on_collective_result(t, n, m); });
                 },
                 [&](protocol::PeerSilence& m) {
                   post(c, [m](ControlPlane& p, Now t, NodeId n) { p.on_peer_silence(t, n, m); });
                 },
                 [&](protocol::CheckpointFound& m) {
                   post(c, [m](ControlPlane& p, Now t, NodeId n) { p.on_checkpoint(t, n, m); });
                 },
                 [&](protocol::CheckpointChecked& m) {
                   post(c, [m](ControlPlane& p, Now t, NodeId n) { p.on_checkpoint_checked(t, n, m); });
                 },
                 [&](protocol::CheckpointDeleted& m) {
                   post(c, [m](ControlPlane& p, Now t, NodeId n) { p.on_checkpoint_deleted(t, n, m); });
                 },
                 [&](protocol::Progress& m) {
                   if (samples_ != nullptr && c->node) samples_->on_progress(c->node, m);
                   post(c, [m](ControlPlane& p, Now t, NodeId n) { p.on_progress(t, n, m); });
                 },
                 [&](protocol::RankReport& m) {
                   if (samples_ != nullptr && c->node) samples_->on_ranks(c->node, m);
                   post(c, [m](ControlPlane& p, Now t, NodeId n) { p.on_rank_report(t, n, m); });
                 },
                 [&](protocol::ShellOutput& m) { shells_.on_output(c->node, m); },
                 [&](protocol::ShellClosed& m) { shells_.on_closed(c->node, m); },
             },
             *decoded);
}

// A newer worker says what we do not know yet. Of one that is too far away we may not know the hello either.
void WorkerHub::not_understood(const ConnectionPtr& c, const std::string& text, const Error& why) {
  if (c->newer && wire::is_of_unknown_type(why)) return spdlog::debug("worker {}: {}", c->name, why.message);
  const auto theirs = c->said_hello ? std::nullopt : wire::protocol_of_hello(text);
  if (const std::string far = theirs ? why_too_far(*theirs) : ""; !far.empty()) return refuse(c, far);
  spdlog::warn("worker {}: {}; closing", c->name, why.message);
  c->link->abort();
}

void WorkerHub::on_hello(const ConnectionPtr& c, protocol::Hello hello) {
  if (c->said_hello && c->name != hello.node) {
    spdlog::error("worker {}: calls itself {} on the same connection; closing", c->name, hello.node);
    return c->link->abort();
  }
  if (!leader_.leads() || !leader_.may_renew()) return send_to_leader(c);  // which may be of another version
  if (const std::string why = why_refused(*c, hello); !why.empty()) {
    spdlog::error("a worker that calls itself {} is refused", hello.node);
    return refuse(c, why);
  }
  c->name = hello.node;
  c->said_hello = true;
  c->newer = hello.protocol > protocol::version();
  welcome_meanwhile(c, hello);
  if (leader_.plane() == nullptr) return;
  Command command;
  command.room = Command::Room::workers;
  command.weight = c->bytes / kBytesOfAPlace;
  command.decide = [this, c, hello = std::move(hello)](ControlPlane& plane,
                                                       Now now) -> std::function<void()> {
    const NodeId node = plane.on_hello(now, hello);
    c->decided = node;
    c->generation = plane.cluster().find(node)->link;
    return [this, c, node, boot_id = hello.boot_id, instance = hello.instance, speaks = hello.protocol] {
      known_[c->name] = {node, boot_id, instance};
      if (!connections_.contains(c->link.get())) {  // gone while its hello was being committed
        c->node = node;
        report_loss(c);
        return;
      }
      bind(c, node);
      c->decided = node;  // a newer connection may have taken it meanwhile, and given it back by this
      spdlog::info("node={} {} connected from {}{}", node.value, c->name, c->link->peer(),
                   speaks == protocol::version() ? "" : ", protocol " + std::to_string(speaks));
    };
  };
  command.refuse = [this, c](const Error& e) { cut(c, e); };
  leader_.post(std::move(command));
}

// "" = welcome.
std::string WorkerHub::why_refused(const Connection& c, const protocol::Hello& hello) const {
  if (!c.only.empty() && c.only != hello.node)
    return "its credential is that of node " + c.only + "; join as " + hello.node +
           " with a join token of its own";
  if (const std::string far = why_too_far(hello.protocol); !far.empty()) return far;
  if (auto it = harmful_.find(hello.node); it != harmful_.end() && boot_now() < it->second)
    return "the database has refused what this node says, see the scheduler's log; heard again in a minute";
  // Only while the other is connected and alive: its state directory may have been lost with a
  // reinstallation.
  const auto known = known_.find(hello.node);
  if (known == known_.end() || known->second.instance == hello.instance) return "";
  const auto other = by_node_.find(known->second.node);
  if (other == by_node_.end() || !leases_.held(known->second.node)) return "";
  return "node name " + hello.node + " is taken by " + other->second->link->peer() +
         "; give each worker its own --node";
}

// A standby grants nothing, nor does a leader that has not been told for too long that it is one. The worker
// goes to whoever leads.
void WorkerHub::send_to_leader(const ConnectionPtr& c) {
  const LeaderView* leader = leader_.seen();
  const bool known = !leader_.leads() && leader != nullptr && leader->term && !leader->over;
  protocol::Refused refused;
  refused.leader = known ? leader->url : "";
  refused.why = known ? "this scheduler is a standby, " + leader->holder + " leads"
                      : "this scheduler does not lead, or cannot ask its database whether it does";
  c->link->send(wire::encode(protocol::ToWorker(std::move(refused))));
}

// It is left open until the worker has read why, and is nobody's meanwhile; the worker closes it.
void WorkerHub::refuse(const ConnectionPtr& c, const std::string& why) {
  spdlog::error("worker {} from {} is refused: {}", c->name, c->link->peer(), why);
  c->link->send(wire::encode(protocol::ToWorker(protocol::Refused{why})));
}

// To register takes a commit, and that can take longer than a lease, or is not possible at all while the
// store is away. A worker that we know and whose lease we hold goes on meanwhile: it keeps what it has.
// Renewing is always safe. The Welcome that follows the commit says what it is really to keep.
void WorkerHub::welcome_meanwhile(const ConnectionPtr& c, const protocol::Hello& hello) {
  auto it = known_.find(hello.node);
  if (it == known_.end() || it->second.boot_id != hello.boot_id || !leader_.may_renew() ||
      !leases_.renew(it->second.node, boot_now()))
    return;
  protocol::Welcome welcome;
  welcome.node_id = it->second.node.value;
  welcome.lease_us = leases_.settings().lease.count();
  welcome.heartbeat_us = leases_.settings().heartbeat.count();
  for (const auto& status : hello.attempts) welcome.keep.push_back(status.key);
  welcome.term = leader_.term().value;
  bind(c, it->second.node);
  c->link->send(wire::encode(protocol::ToWorker(std::move(welcome))));
}

void WorkerHub::bind(const ConnectionPtr& c, NodeId node) {
  auto& slot = by_node_[node];
  if (slot && slot != c) {
    spdlog::warn("node={} {}: a newer connection replaces {}", node.value, c->name, slot->link->peer());
    slot->node = slot->decided = {};
    slot->link->abort();
    shells_.on_node_lost(node);
  }
  slot = c;
  c->node = node;
}

void WorkerHub::on_heartbeat(const ConnectionPtr& c, const protocol::Heartbeat& beat) {
  if (!c->node) return;  // its hello is not committed yet
  // For too long nothing has told us that we lead: another may by now, and count this lease down. The worker
  // looks for it.
  if (!leader_.may_renew()) return c->link->abort();
  if (!leases_.renew(c->node, boot_now())) {  // declared dead: it has to register again
    c->link->abort();
    return;
  }
  if (lead::settles(beat.term, leader_.term().value)) leases_.settle(c->node);
  metrics_.heartbeats().Increment();
  c->link->send(wire::encode(protocol::ToWorker(protocol::HeartbeatAck{beat.seq})));
  const ControlPlane* plane = leader_.plane();
  if (plane == nullptr) return;
  const Node* node = plane->cluster().find(c->node);
  if (node == nullptr) return;
  if (samples_ != nullptr && beat.loads) samples_->on_loads(c->node, *beat.loads);
  if (node->row.state != NodeState::reachable)
    post(c, [](ControlPlane& p, Now t, NodeId n) { p.on_heard(t, n); });
  if (!beat.wall_us) return;  // an older worker
  c->clock.on_heartbeat(Instant(Duration(*beat.wall_us)), now_of_machine().wall);
  // What the plane knows counts, not what it was told: it may have been built anew.
  const bool known = std::ranges::count(node->conditions, kClockSkew, &NodeCondition::kind) > 0;
  if (const auto skew = c->clock.skew(); skew.has_value() != known)
    post(c, [skew](ControlPlane& p, Now t, NodeId n) { p.on_clock_skew(t, n, skew); });
}

void WorkerHub::on_closed(const ConnectionPtr& c, const std::string& why) {
  connections_.erase(c->link.get());
  metrics_.workers_linked().Set(static_cast<double>(connections_.size()));
  if (!c->node) return;  // never registered, or replaced
  by_node_.erase(c->node);
  shells_.on_node_lost(c->node);
  spdlog::warn("node={} {}: connection lost: {}", c->node.value, c->name, why);
  for (auto it = logs_.begin(); it != logs_.end();) {
    if (it->second.node != c->node) {
      ++it;
      continue;
    }
    auto reply = std::move(it->second.reply);
    it = logs_.erase(it);
    reply(Error{
        .code = Errc::unavailable, .message = "node " + c->name + " has gone", .hint = "", .field = ""});
  }
  report_loss(c);
}

void WorkerHub::report_loss(const ConnectionPtr& c) {
  post(c, [link = c->generation](ControlPlane& p, Now t, NodeId n) { p.on_link_lost(t, n, link); });
}

// ---------------------------------------------------------------- to workers

std::string WorkerHub::secret_of(const std::string& text) const {
  unsigned char hash[32];
  crypto_generichash(hash, sizeof hash, reinterpret_cast<const unsigned char*>(text.data()), text.size(),
                     reinterpret_cast<const unsigned char*>(secret_key_.data()), secret_key_.size());
  char hex[2 * sizeof hash + 1];
  sodium_bin2hex(hex, sizeof hex, hash, sizeof hash);
  return hex;
}

void WorkerHub::deliver(Effect effect) {
  auto it = by_node_.find(effect.to);
  if (it == by_node_.end()) return;  // not connected: it gets the order again after its next hello
  const ConnectionPtr c = it->second;
  if (effect.disconnect) {
    c->link->abort();
    return;
  }
  if (auto* prepare = std::get_if<protocol::Prepare>(&effect.message)) {
    prepare->spec_json = wire::encode_spec(*effect.spec);
    prepare->secret = secret_of(to_string(prepare->key.job) + "-" + to_string(prepare->key.epoch));
    if (!effect.spec->secrets.empty()) return add_secrets(c, std::move(*prepare), effect.spec);
  }
  if (auto* welcome = std::get_if<protocol::Welcome>(&effect.message)) {
    welcome->peer_secret = secret_of("peers");
    welcome->term = leader_.term().value;
  }
  c->link->send(wire::encode(effect.message));
}

// ---------------------------------------------------------------- secrets

// The only place where values are read: at a launch, for the node that gets them. What else is said to that
// worker meanwhile overtakes the Prepare; a Stop among it finds no attempt, and the worker then begins none.
void WorkerHub::add_secrets(const ConnectionPtr& c, protocol::Prepare prepare, SpecPtr spec) {
  const AttemptKey key = prepare.key;
  if (vault_ == nullptr) return cannot_launch(c, key, "this scheduler keeps no secrets");
  vault_->values(
      spec->project, spec->secrets,
      [this, c, key, spec, prepare = std::move(prepare)](Result<SecretVault::Values> values) mutable {
        // Gone, replaced, or over meanwhile: whoever is there now gets the order anew.
        const ControlPlane* plane = leader_.plane();
        if (!c->node || !connections_.contains(c->link.get()) || plane == nullptr ||
            plane->find_attempt(key) == nullptr)
          return;
        if (values) {
          prepare.secrets = *std::move(values);
          warn_if_readable(c);
          c->link->send(wire::encode(protocol::ToWorker(std::move(prepare))));
          return;
        }
        if (values.error().code != Errc::unavailable) return cannot_launch(c, key, values.error().message);
        spdlog::warn("job={} epoch={}: {}; asking again", key.job.value, key.epoch.value,
                     values.error().message);
        auto later = std::make_shared<boost::asio::steady_timer>(executor_, kSecretsAgain);
        later->async_wait(
            [this, c, spec, later, prepare = std::move(prepare)](boost::system::error_code ec) mutable {
              if (!ec && connections_.contains(c->link.get())) add_secrets(c, std::move(prepare), spec);
            });
      });
}

// In the node's name. Whether it has heard of the attempt (from an earlier connection, perhaps) it will say
// when it is told to stop it.
void WorkerHub::cannot_launch(const ConnectionPtr& c, AttemptKey key, const std::string& why) {
  protocol::AttemptStatus status;
  status.key = key;
  status.phase = protocol::Phase::preparing;
  status.failure.emplace();
  status.failure->kind = "secret";
  status.failure->detail = why;
  post(c, [status](ControlPlane& p, Now t, NodeId n) { p.on_attempt_status(t, n, status); });
}

void WorkerHub::warn_if_readable(const ConnectionPtr& c) {
  const std::string& peer = c->link->peer();
  const bool here = peer.starts_with("127.") || peer.starts_with("[::1]") || peer.starts_with("unix");
  if (warned_ || here || c->link->encrypted()) return;
  warned_ = true;
  spdlog::warn(
      "secrets of jobs travel in clear to {} at {}, and to every node that is not connected by TLS: "
      "who can listen on that network can read them",
      c->name, peer);
}

// ---------------------------------------------------------------- logs

void WorkerHub::read_log(NodeId node, protocol::ReadLog request, Reply<protocol::LogChunk> reply) {
  auto it = by_node_.find(node);
  if (it == by_node_.end() || logs_.size() >= kMaxPendingLogs)
    return reply(Error{.code = Errc::unavailable,
                       .message = it == by_node_.end() ? "the node that keeps this log is not connected"
                                                       : "too many log readers",
                       .hint = "",
                       .field = ""});
  request.request = next_log_++;
  logs_.emplace(request.request, PendingLog{.node = node,
                                            .reply = std::move(reply),
                                            .until = boot_now() + Duration(request.wait_us) + kLogDeadline});
  it->second->link->send(wire::encode(protocol::ToWorker(std::move(request))));
  sweep_logs();
}

void WorkerHub::on_log_chunk(protocol::LogChunk chunk) {
  auto it = logs_.find(chunk.request);
  if (it == logs_.end()) return;
  auto reply = std::move(it->second.reply);
  logs_.erase(it);
  if (!chunk.error.empty())
    reply(Error{.code = Errc::not_found, .message = chunk.error, .hint = "", .field = ""});
  else
    reply(std::move(chunk));
}

// A worker that never answers must not keep a reader for ever.
void WorkerHub::sweep_logs() {
  if (sweeping_ || logs_.empty()) return;
  log_timer_.expires_after(std::chrono::seconds(1));
  log_timer_.async_wait([this](boost::system::error_code ec) {
    sweeping_ = false;
    if (ec) return;
    const Mono now = boot_now();
    std::vector<Reply<protocol::LogChunk>> late;
    for (auto it = logs_.begin(); it != logs_.end();) {
      if (it->second.until > now) {
        ++it;
        continue;
      }
      late.push_back(std::move(it->second.reply));
      it = logs_.erase(it);
    }
    for (auto& reply : late)
      reply(Error{
          .code = Errc::unavailable, .message = "the node did not answer in time", .hint = "", .field = ""});
    sweep_logs();
  });
  sweeping_ = true;  // not before: if that has thrown, the next reader is to try again
}

}  // namespace tutti
