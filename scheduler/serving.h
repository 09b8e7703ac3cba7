// A scheduler that serves: all its parts, wired to each other and to an HTTP server, from the first
// connection to the last. main.cpp makes one and calls run(), which returns when a signal or another leader
// ends it.
//
// Control thread only: the one that calls run(). Parts are made in the order of the members and go in the
// reverse; nothing here can move, since functions that were handed out point at it.
//
// It stops in this order: no new requests, no timers, what was measured is written, the leader commits what
// is under way and resigns, the loop ends; then questions that nobody waits for are let go, other work aside
// is waited for, and a database of our own is stopped.
#pragma once

#include <boost/asio/signal_set.hpp>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "api/handlers/limits.h"
#include "api/handlers/services.h"
#include "api/http/server.h"
#include "scheduler/flags.h"
#include "scheduler/home.h"
#include "scheduler/parts.h"
#include "scheduler/repeated.h"
#include "scheduler/watchdog.h"

namespace tutti {

class Serving {
 public:
  /// The command line anew, with the file as it is now; throws what is wrong with it.
  using Reread = std::function<std::unique_ptr<CommandLine>()>;

  /// `line` and `home` outlive it. Throws std::exception naming the flag whose part cannot be made.
  Serving(const CommandLine& line, Home& home, Reread reread);
  Serving(const Serving&) = delete;
  Serving& operator=(const Serving&) = delete;

  /// Blocks; once. Returns the exit status: 0, or 3 when somebody else has taken over. Throws when it cannot
  /// listen. Without memory the process ends here (daemon/last_words.h).
  int run();

 private:
  void listen();
  void lead();
  void reload();
  void stop();
  void finish();  // after the loop

  // serving_http.cpp
  const http::Router& with_routes();
  Services services();
  http::Hooks hooks();
  std::function<Mono()> clock();
  void answered(const http::AccessRecord& record);
  bool told_of_term(const TermMark::Says& says);

  const Flags& flags_;
  Home& home_;
  Reread reread_;

  LeaderParts lead_;
  AccountParts accounts_;
  WebhookParts webhooks_;
  RecordParts records_;
  HistoryParts history_;
  ReplicaParts replicas_;

  http::ServerConfig config_;
  http::Router router_;
  std::optional<Limits> limits_;  // made anew in its place: hooks and services point there
  http::HttpServer server_;

  std::map<std::string, std::string> running_;  // the configuration, as it was read last
  std::optional<ReloadSignal> reload_signal_;   // from listen() on
  std::optional<Watchdog> watchdog_;            // from lead() on
  int status_ = 0;
  bool stopping_ = false;
  boost::asio::signal_set signals_;  // that end it
};

}  // namespace tutti
