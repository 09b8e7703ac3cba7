#include "scheduler/http_flags.h"

#include <sys/resource.h>

#include <charconv>
#include <stdexcept>

namespace tutti {

void add_http_flags(CLI::App& app, HttpFlags& f) {
  app.add_option("--listen", f.listen, "ADDRESS:PORT for REST and workers; port 0 = any")
      ->capture_default_str();
  auto* certificate =
      app.add_option("--tls-cert", f.tls.certificate,
                     "PEM certificate with its chain: serve https. Read again when it changes or on "
                     "SIGHUP");
  auto* key = app.add_option("--tls-key", f.tls.key, "PEM key of --tls-cert, not encrypted");
  certificate->needs(key);
  key->needs(certificate);
  app.add_option("--tls-client-ca", f.tls.client_ca,
                 "PEM: ask clients for certificates and verify those they show; a node can be known by one")
      ->needs(certificate);
  app.add_option("--max-connections", f.max_connections, "more are answered 503")
      ->check(CLI::Range(1, 1'000'000))
      ->capture_default_str();
  app.add_option("--max-connections-per-address", f.max_connections_per_address,
                 "of one IPv4 address or one IPv6 /64; 0 = no such limit")
      ->capture_default_str();
  app.add_option("--max-body-mb", f.max_body_mb, "of a request, in MiB")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  const auto not_negative = CLI::NonNegativeNumber;
  app.add_option("--requests-per-second", f.limits.principal_per_second,
                 "of one user; twice as many may come at once; 0 = no limit")
      ->check(not_negative)
      ->capture_default_str();
  app.add_option("--requests-per-second-address", f.limits.address_per_second,
                 "from one address; twice as many may come at once; 0 = no limit")
      ->check(not_negative)
      ->capture_default_str();
  app.add_option("--login-failures", f.limits.login_failures_user,
                 "of one user name within --login-window; then logins are refused for a while; 0 = no limit")
      ->check(not_negative)
      ->capture_default_str();
  app.add_option("--login-failures-address", f.limits.login_failures_address, "the same for one address")
      ->check(not_negative)
      ->capture_default_str();
  app.add_option("--login-window", f.login_window_minutes, "minutes")
      ->check(CLI::Range(0.1, 24.0 * 60))
      ->capture_default_str();
  app.add_option("--submissions-per-minute", f.limits.submissions_per_minute,
                 "of one project, a job array counts as one; 0 = no limit")
      ->check(not_negative)
      ->capture_default_str();
}

http::ServerConfig server_config(const HttpFlags& flags, http::TlsServer::Log log) {
  http::ServerConfig config;
  const auto& listen = flags.listen;
  const auto colon = listen.rfind(':');
  if (colon == std::string::npos) throw std::runtime_error("--listen " + listen + ": expected ADDRESS:PORT");
  config.address = listen.substr(0, colon);
  if (config.address.starts_with('[') && config.address.ends_with(']'))
    config.address = config.address.substr(1, config.address.size() - 2);
  const auto* last = listen.data() + listen.size();
  const auto parsed = std::from_chars(listen.data() + colon + 1, last, config.port);
  if (parsed.ec != std::errc() || parsed.ptr != last)
    throw std::runtime_error("--listen " + listen + ": no such port");
  config.serial_executor = true;
  config.max_connections = flags.max_connections;
  config.max_connections_per_address = flags.max_connections_per_address;
  config.body_limit = flags.max_body_mb << 20;
  if (!flags.tls.certificate.empty())
    config.tls = std::make_shared<http::TlsServer>(flags.tls, std::move(log));
  return config;
}

LimitSettings limit_settings(const HttpFlags& flags) {
  auto limits = flags.limits;
  limits.principal_burst = 2 * limits.principal_per_second;
  limits.address_burst = 2 * limits.address_per_second;
  limits.login_window = from_seconds(flags.login_window_minutes * 60);
  return limits;
}

std::size_t raise_file_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return 0;
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
  ::getrlimit(RLIMIT_NOFILE, &limit);
  return limit.rlim_cur;
}

std::string local_url(const http::ServerConfig& config, std::uint16_t port) {
  auto host = config.address;
  if (host == "0.0.0.0") host = "127.0.0.1";
  if (host == "::") host = "::1";
  if (host.find(':') != std::string::npos) host = "[" + host + "]";
  return (config.tls ? "https://" : "http://") + host + ":" + std::to_string(port);
}

}  // namespace tutti
