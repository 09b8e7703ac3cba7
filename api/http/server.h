// The HTTP server: listens, counts connections, starts a session for each, and stops them.
//
// Who uses it: the wiring in scheduler/serving.cpp, tests. Asio only by its executor type.
// Threads: start() by one thread; stop(), port() and connections() by any.
// The router and the executor's context have to outlive the last session (on_stopped of stop() says when).
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <cstdint>
#include <functional>
#include <memory>

#include "api/http/router.h"
#include "api/http/server_config.h"

namespace tutti::http {

class HttpServer {
 public:
  HttpServer(boost::asio::any_io_executor executor, ServerConfig config, const Router& router,
             Hooks hooks = {});
  /// As stop(): sessions that are still open end by themselves while the executor runs.
  ~HttpServer();
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  /// Binds and listens; throws boost::system::system_error when that fails. Connections are served from now
  /// on.
  void start();
  /// No new connections; idle ones close, answers under way are finished, streams end, links are cut. What is
  /// left after ServerConfig::drain is cut. Does not wait; `on_stopped` is called on the executor when
  /// nothing is open any more.
  void stop(std::function<void()> on_stopped = {});

  /// The bound TCP port, after start(); 0 on a unix socket.
  std::uint16_t port() const;
  std::size_t connections() const;

 private:
  class Core;
  std::shared_ptr<Core> core_;
};

}  // namespace tutti::http
