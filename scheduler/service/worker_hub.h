// Connections of workers: takes their messages to the leader, its orders to them, and answers heartbeats.
//
// Heartbeats never wait for the database: the lease is renewed in memory and acknowledged on the spot. While
// the control plane is being rebuilt everything else a worker says is dropped; when it stands again all
// connections are cut, and the workers come back and say everything anew (the protocol is level-triggered).
// Control thread only. Invariants: (1) a node has at most one connection, the newest; (2) an order leaves
// only through deliver(), after its commit.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/steady_timer.hpp>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "api/http/link.h"
#include "scheduler/core/clock_watch.h"
#include "scheduler/core/lease_table.h"
#include "scheduler/secrets/secret_vault.h"
#include "scheduler/service/leader.h"
#include "scheduler/service/metrics.h"
#include "scheduler/service/sample_sink.h"
#include "scheduler/service/shell_relay.h"

namespace tutti {

class WorkerHub : public WorkerMessages {
 public:
  // `secret_key`: keyed into the secret that the nodes of one attempt share.
  WorkerHub(boost::asio::any_io_executor executor, Leader& leader, LeaseTable& leases, Metrics& metrics,
            std::string secret_key);

  /// Where the values of jobs' secrets come from; without it a job that names some cannot be launched.
  void use_secrets(SecretVault& vault) { vault_ = &vault; }

  /// Who hears what workers measure; it outlives the hub's connections.
  void use_samples(SampleSink& samples) { samples_ = &samples; }

  ShellRelay& shells() { return shells_; }

  /// `only`: the one node that this connection may speak for; "" = any (an admin's token).
  void accept(std::shared_ptr<http::Link> link, std::string only = {});
  void close_all();

  // ---- WorkerMessages
  void deliver(Effect effect) override;
  void resync(const std::vector<NodeRow>& nodes) override;
  void read_log(NodeId node, protocol::ReadLog request, Reply<protocol::LogChunk> reply) override;

 private:
  struct Connection {
    std::shared_ptr<http::Link> link;
    NodeId node;  // 0 until its Hello is committed, and again when a newer connection has replaced it
    // The node as soon as its Hello is decided: what it says behind its Hello waits in the same inbox, and
    // must not be taken for the word of nobody because the commit is still under way.
    NodeId decided;
    std::uint64_t generation = 0;  // Node::link of its Hello
    std::string only;              // see accept()
    std::string name;
    bool said_hello = false;
    bool newer = false;       // it may say more than we know
    std::size_t bytes = 0;    // of its last message
    std::size_t waiting = 0;  // of those that are still to be decided
    ClockWatch clock;
  };
  using ConnectionPtr = std::shared_ptr<Connection>;
  struct PendingLog {
    NodeId node;
    Reply<protocol::LogChunk> reply;
    Mono until;
  };

  void cut(const ConnectionPtr& c, const Error& why);
  bool says_too_much(const ConnectionPtr& c, std::size_t bytes);
  void on_message(const ConnectionPtr& c, const std::string& text);
  void not_understood(const ConnectionPtr& c, const std::string& text, const Error& why);
  void on_hello(const ConnectionPtr& c, protocol::Hello hello);
  void on_heartbeat(const ConnectionPtr& c, const protocol::Heartbeat& beat);
  void on_log_chunk(protocol::LogChunk chunk);
  void on_closed(const ConnectionPtr& c, const std::string& why);
  void refuse(const ConnectionPtr& c, const std::string& why);
  void send_to_leader(const ConnectionPtr& c);
  std::string why_refused(const Connection& c, const protocol::Hello& hello) const;
  void welcome_meanwhile(const ConnectionPtr& c, const protocol::Hello& hello);
  void bind(const ConnectionPtr& c, NodeId node);
  void report_loss(const ConnectionPtr& c);
  template <class Decide>
  void post(const ConnectionPtr& c, Decide decide);
  std::string secret_of(const std::string& text) const;  // what only this cluster's scheduler can make
  void sweep_logs();
  void add_secrets(const ConnectionPtr& c, protocol::Prepare prepare, SpecPtr spec);
  void cannot_launch(const ConnectionPtr& c, AttemptKey key, const std::string& why);
  void warn_if_readable(const ConnectionPtr& c);

  boost::asio::any_io_executor executor_;
  Leader& leader_;
  LeaseTable& leases_;
  Metrics& metrics_;
  std::string secret_key_;
  std::map<http::Link*, ConnectionPtr> connections_;
  std::map<NodeId, ConnectionPtr> by_node_;
  struct Known {
    NodeId node;
    std::string boot_id;
    std::string instance;
  };
  std::map<std::string, Known> known_;  // nodes by name, as they have been loaded or have said since
  std::map<std::string, Mono>
      harmful_;  // nodes whose word the store refuses, and until when they are not heard
  std::map<std::int64_t, PendingLog> logs_;
  std::int64_t next_log_ = 1;
  boost::asio::steady_timer log_timer_;
  bool sweeping_ = false;
  ShellRelay shells_;
  SecretVault* vault_ = nullptr;
  SampleSink* samples_ = nullptr;
  bool warned_ = false;  // that secrets travel in clear
};

}  // namespace tutti
