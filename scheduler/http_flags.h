// The flags of tutti-scheduler about its HTTP side: address, TLS, caps and rate limits. Used by
// flags.h, serving.h and --check-config.
#pragma once

#include <CLI/CLI.hpp>
#include <cstddef>
#include <string>

#include "api/handlers/limits.h"
#include "api/http/server_config.h"

namespace tutti {

struct HttpFlags {
  std::string listen = "127.0.0.1:7070";
  http::TlsServerFiles tls;
  std::size_t max_connections = 8192;
  std::size_t max_connections_per_address = 4096;
  std::size_t max_body_mb = 4;
  double login_window_minutes = 5;
  LimitSettings limits;
};

void add_http_flags(CLI::App& app, HttpFlags& flags);

/// Throws std::runtime_error naming the flag. `log`: what happens to the certificate.
http::ServerConfig server_config(const HttpFlags& flags, http::TlsServer::Log log);
LimitSettings limit_settings(const HttpFlags& flags);

/// As many open files as the system allows us: each connection is one. Returns how many that is.
std::size_t raise_file_limit();

/// Where this machine reaches the server; written for the tools beside it.
std::string local_url(const http::ServerConfig& config, std::uint16_t port);

}  // namespace tutti
