// The worker process, part 3: its connection to a scheduler, as worker/service/scheduler_client and worker
// keep it, and what it says to other workers.
#include <algorithm>
#include <utility>
#include <variant>

#include "api/wire/job_spec_codec.h"
#include "api/wire/messages.h"
#include "scheduler/model/lead_rules.h"
#include "tests/sim/scheduler_process.h"
#include "tests/sim/worker_process.h"

namespace tutti::sim {
namespace {
constexpr Duration kBackOffMin = 100ms, kBackOffMax = 2s;
constexpr Duration kConnectDeadline = 3s, kWelcomeDeadline = 5s;
}  // namespace

// ---------------------------------------------------------------- the scheduler

void WorkerProcess::connect() {
  client_open_ = true;
  auto& place = machine_.place();
  const std::size_t host = peer_ % place.schedulers.size();
  auto* scheduler = place.schedulers[host];
  const auto connection = ++connection_;
  const auto failed = [this, connection] {
    if (connection == connection_) try_next();
  };
  if (!place.network.reachable(machine_.index(), host) || scheduler->paused())
    return soon(kConnectDeadline, failed);
  soon(place.network.latency() + place.network.latency(), [this, connection, scheduler, host, failed] {
    if (connection != connection_) return;
    auto& network = machine_.place().network;
    if (!scheduler->alive()) return failed();
    if (!network.reachable(machine_.index(), host) || scheduler->paused())
      return soon(kConnectDeadline, failed);
    auto link = network.make_link(machine_.index(), host);
    scheduler->accept(link);
    connected(link);
  });
}

void WorkerProcess::connected(const LinkPtr& link) {
  link_ = link;
  const auto connection = ++connection_;
  link->start(Side::worker, Link::End{.gate =
                                          [this, life = life_](std::function<void()> what) {
                                            if (life == life_ && alive_) gate(std::move(what));
                                          },
                                      .on_text =
                                          [this, connection](const std::string& text) {
                                            if (connection == connection_) handle(text);
                                          },
                                      .on_closed =
                                          [this, connection](const std::string& why) {
                                            if (connection == connection_) lost(why);
                                          }});
  core_->on_connected(clock());
  settle();
  if (awaited_.second && awaited_.first == peer_ % machine_.place().schedulers.size())
    std::exchange(awaited_.second, nullptr)();
  soon(kWelcomeDeadline, [this, connection] {
    if (connection == connection_ && !welcomed_) lost("no welcome");
  });
}

void WorkerProcess::lost(const std::string& why) {
  world_.log([&] { return machine_.name() + ": connection is lost: " + why; });
  ++connection_;
  if (link_) link_->abort(Side::worker);
  link_.reset();
  core_->on_disconnected(clock());
  settle();
  try_next();
}

void WorkerProcess::drop_link() {
  if (link_) lost("dropped");
}

void WorkerProcess::try_next() {
  if (!welcomed_) ++peer_;
  if (next_told_) peer_ = *std::exchange(next_told_, std::nullopt);
  welcomed_ = false;
  const Duration wait = dice_.between(kBackOffMin, std::max(back_off_, kBackOffMin));
  back_off_ = std::min(back_off_ * 2, kBackOffMax);
  soon(wait, [this, connection = connection_] {
    if (connection == connection_ && !link_) connect();
  });
}

worker::ParsedSpec WorkerProcess::parse(const std::string& json) const {
  auto parsed = wire::parse_spec_json(json, clock());
  if (!parsed.ok()) return {nullptr, parsed.problems.front().message};
  return {std::make_shared<JobSpec>(std::move(parsed.spec)), ""};
}

void WorkerProcess::handle(const std::string& text) {
  const auto message = wire::decode_to_worker(text);
  if (!message) return world_.fail("the scheduler said what cannot be read: " + message.error().message);
  const auto now = clock();
  if (const auto* m = std::get_if<protocol::Welcome>(&*message)) {
    if (!obey(*m)) return lost("its term is over");
    welcomed_ = true;
    back_off_ = kBackOffMin;
    protocol::Welcome welcome = *m;
    if (machine_.disk().term == 0) welcome.term.reset();
    core_->on_welcome(now, welcome);
  } else if (const auto* r = std::get_if<protocol::Refused>(&*message)) {
    return redirected(*r);
  } else if (const auto* a = std::get_if<protocol::HeartbeatAck>(&*message)) {
    core_->on_heartbeat_ack(now, *a);
  } else if (const auto* p = std::get_if<protocol::Prepare>(&*message)) {
    const auto dir = machine_.disk().attempts.find(p->key);
    if (machine_.canary() == Canary::forget_epochs && dir != machine_.disk().attempts.end() &&
        dir->second.retired) {
      // A worker without the check: it does not know that this epoch has been here.
      machine_.disk().attempts.erase(dir);
      const bool linked = link_ != nullptr && welcomed_;
      locals_.clear();
      build_core(false);
      core_->on_probe(now, machine_.inventory());
      if (linked) {
        core_->on_connected(now);
        (void)core_->take_actions();
      }
    }
    core_->on_prepare(now, *p, parse(p->spec_json));
  } else if (const auto* l = std::get_if<protocol::Launch>(&*message)) {
    core_->on_launch(now, *l);
  } else if (const auto* s = std::get_if<protocol::Stop>(&*message)) {
    core_->on_stop(now, *s);
  } else if (const auto* d = std::get_if<protocol::DeleteCheckpoint>(&*message)) {
    core_->on_delete_checkpoint(*d);
  } else if (const auto* f = std::get_if<protocol::Forget>(&*message)) {
    core_->on_forget(now, *f);
  } else if (const auto* i = std::get_if<protocol::Inspect>(&*message)) {
    core_->on_inspect(now, *i);
  } else if (const auto* q = std::get_if<protocol::AskSilence>(&*message)) {
    core_->on_ask_silence(now, *q);
  }
  settle();
}

// As worker/service/worker does: the term stands on the disk before anything is said under it.
bool WorkerProcess::obey(const protocol::Welcome& welcome) {
  auto& highest = machine_.disk().term;
  if (machine_.old_version() || !welcome.term) {
    highest = 0;
    return true;
  }
  const bool falls = *welcome.term < highest;
  if (machine_.canary() != Canary::falling_terms && !lead::obeys(*welcome.term, highest, !locals_.empty())) {
    world_.mark("worker: a lower term is refused");
    return false;
  }
  if (falls) world_.mark("worker: the term falls while nothing lives");
  if (*welcome.term > highest && highest != 0) world_.mark("worker: obeys a higher term");
  highest = *welcome.term;
  return true;
}

// Who is no leader says who is, when it knows.
void WorkerProcess::redirected(const protocol::Refused& refused) {
  const auto& all = machine_.place().schedulers;
  const auto next = std::ranges::find_if(
      all, [&](const auto* s) { return refused.leader && s->name() == *refused.leader; });
  if (next != all.end()) {
    world_.mark("worker: redirected to the leader");
    next_told_ = static_cast<std::size_t>(next - all.begin());
  }
  lost("not the leader");
}

void WorkerProcess::go_to(std::size_t host) {
  if (!alive_ || paused_) return;
  next_told_ = host;
  drop_link();
}

// ---------------------------------------------------------------- other workers

void WorkerProcess::act(worker::PingPeer& a) {
  for (Machine* peer : machine_.place().machines)
    if (peer->name() == a.ping.to) tell_peer(*peer, a.ping);
}

void WorkerProcess::tell_peer(Machine& to, const protocol::PeerMessage& message) {
  auto& network = machine_.place().network;
  if (!network.peers_reachable(machine_.index(), to.index()) || network.datagram_lost()) return;
  world_.after(network.latency(), [from = &machine_, to = &to, text = wire::encode(message)] {
    if (!from->place().network.peers_reachable(from->index(), to->index()) || to->worker() == nullptr) return;
    to->worker()->hear_peer(*from, text);
  });
}

// While it is paused its socket keeps what comes.
void WorkerProcess::hear_peer(Machine& from, const std::string& text) {
  if (!alive_) return;
  gate([this, from = &from, text] {
    const auto message = wire::decode_peer(text);
    if (!message) return world_.fail("a worker said what cannot be read: " + message.error().message);
    if (const auto* ping = std::get_if<protocol::PeerPing>(&*message)) {
      if (const auto ack = core_->on_peer_ping(clock(), *ping)) tell_peer(*from, *ack);
    } else if (const auto* ack = std::get_if<protocol::PeerAck>(&*message)) {
      core_->on_peer_ack(clock(), *ack);
    }
    settle();
  });
}

}  // namespace tutti::sim
