// A worker's own HTTP port for Prometheus: GET /metrics and GET /healthz, nothing else. Off unless an address
// is given (--metrics-listen). Lives on the worker's thread.
#pragma once

#include <boost/asio/io_context.hpp>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "api/http/router.h"
#include "api/http/server.h"

namespace tutti::worker {

/// Where it listens, from HOST:PORT. Throws std::runtime_error, with the flag's name.
http::ServerConfig metrics_page_config(const std::string& listen);

class MetricsPage {
 public:
  /// `listen`: HOST:PORT, port 0: any free one. Throws std::runtime_error, with the flag's name.
  MetricsPage(boost::asio::io_context& io, const std::string& listen, std::function<std::string()> text);

  std::uint16_t port() const { return server_->port(); }

 private:
  http::Router router_;
  std::unique_ptr<http::HttpServer> server_;
};

}  // namespace tutti::worker
