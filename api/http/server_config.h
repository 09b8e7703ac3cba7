// How an HttpServer is set up: limits, deadlines, hooks. No Asio, so that wiring and configuration files stay
// cheap.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "api/http/link.h"
#include "api/http/message.h"
#include "api/http/tls.h"

namespace tutti::http {

struct ServerConfig {
  std::string address = "127.0.0.1";
  std::uint16_t port = 0;  // 0: the kernel chooses, see HttpServer::port
  std::string unix_path;   // if set, listen there instead of on TCP; a stale socket file is replaced

  /// The executor never runs two functions at once (one thread, or a strand): sessions need no strand of
  /// their own.
  bool serial_executor = false;

  std::size_t max_connections = 4096;           // one more is answered 503 and closed
  std::size_t max_connections_per_address = 0;  // of one IPv4 address, or of one /64; 0: as many as in all
  std::size_t header_limit = 16 << 10;
  std::size_t header_count_limit = 100;
  std::size_t target_limit = 8 << 10;
  std::size_t body_limit = 4 << 20;

  std::chrono::milliseconds header_deadline{10'000};  // first byte of a request to the end of its header
  std::chrono::milliseconds body_deadline{60'000};    // end of the header to the end of the body
  /// A body may come more slowly than `min_rate` for so long; 0 for the rate: up to the deadline.
  std::chrono::milliseconds body_patience{10'000};
  std::size_t min_rate = 1024;                         // bytes a second, of bodies and answers, averaged
  std::chrono::milliseconds handler_deadline{60'000};  // then 504; an answer that comes later is dropped
  std::chrono::milliseconds write_deadline{30'000};    // without any progress, or below min_rate
  std::chrono::milliseconds idle_deadline{75'000};     // between requests
  std::chrono::milliseconds linger{2'000};  // wait for the peer to read the last answer before closing
  std::chrono::milliseconds drain{5'000};   // stop(): after that, what still runs is cut

  LinkOptions link;  // of routes that are WebSockets
  // Of requests that a handler upgrades: people's connections, over whatever is between them and us.
  LinkOptions upgraded{
      .idle = std::chrono::milliseconds(60'000), .max_message_bytes = 256 << 10, .max_queued_bytes = 1 << 20};

  /// If set, every connection is TLS.
  std::shared_ptr<TlsServer> tls;
  std::chrono::milliseconds handshake_deadline{10'000};
  std::chrono::milliseconds tls_poll{2'000};  // how often its files are looked at
};

/// What the access hook is told, once per request, when its answer (or stream) is over.
struct AccessRecord {
  Method method = Method::get;
  std::string_view route;  // pattern; "" when no route matched or the request could not be read
  std::string_view target;
  std::string_view peer;
  std::string_view traceparent;  // the header as it came, or ""
  int status = 0;
  bool stream = false;  // duration is then the life of the stream
  std::size_t request_bytes = 0;
  std::size_t response_bytes = 0;  // body
  std::chrono::nanoseconds duration{0};
};

/// Called on the executor of the session, several sessions at a time unless the executor is serial. They must
/// not block.
struct Hooks {
  /// Before routing, for every request that could be read: limits per address. An answer ends the request.
  std::function<std::optional<Response>(Request&)> arrive;
  /// After routing, before the handler: authentication. An answer ends the request; it may fill
  /// Request::identity and answer_headers.
  std::function<std::optional<Response>(Request&)> before;
  std::function<void(const AccessRecord&)> after;
  /// An exception left a handler, or something went wrong inside the server.
  std::function<void(std::string_view what)> on_error;
};

}  // namespace tutti::http
