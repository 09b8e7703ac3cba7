// How links come to be: accept_link (the session, after an upgrade request) and connect_link (the worker).
// Beast stays in link.cpp.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "api/http/link.h"
#include "api/http/message.h"
#include "api/http/transport.h"
#include "scheduler/model/error.h"

namespace tutti::http {

/// Finishes the WebSocket handshake, with `headers` in its answer. nullptr when it fails. `keep` lives as
/// long as the link is open. Runs on the socket's executor, and so do the link's callbacks.
asio::awaitable<std::shared_ptr<Link>> accept_link(std::shared_ptr<WireStream> wire, const Request& request,
                                                   Headers headers, LinkOptions options,
                                                   std::shared_ptr<void> keep);

struct LinkTarget {
  std::string host;
  std::uint16_t port = 0;
  std::string path = "/";
  Headers headers;                    // e.g. Authorization
  std::optional<TlsClientFiles> tls;  // set: over TLS, to a server whose certificate is for `host`
};

using LinkCallback = std::function<void(Result<std::shared_ptr<Link>>)>;

/// Resolves, connects and shakes hands, all within `deadline`; then calls back, exactly once, on `executor`.
/// An executor that several threads run must be a strand. Errors: unavailable (also for a certificate that is
/// not trusted, or files that cannot be read), or unauthenticated, forbidden, not_found when the server
/// refused the upgrade that way.
void connect_link(const asio::any_io_executor& executor, LinkTarget target, LinkOptions options,
                  std::chrono::milliseconds deadline, LinkCallback callback);

}  // namespace tutti::http
