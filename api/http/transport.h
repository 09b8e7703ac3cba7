// A byte stream with deadlines. Hides the kind of socket from the session: a coroutine compiles once, not per
// stream.
//
// Who uses it: session.cpp only. Thread: the executor of the session (close() too).
// Plain sockets: transport.cpp; TLS: tls_transport.cpp. Invariants:
//   1. Every wait has a deadline; a missed one ends the operation with timed_out.
//   2. One read and one write may be outstanding at the same time, not more.
#pragma once

#include <array>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/buffer.hpp>
#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/system/error_code.hpp>
#include <chrono>
#include <memory>
#include <string>

#include "api/http/tls.h"

namespace tutti::http {

namespace asio = boost::asio;
using Socket = asio::generic::stream_protocol::socket;  // TCP or unix
using SteadyTime = std::chrono::steady_clock::time_point;

struct IoResult {
  std::size_t bytes = 0;
  boost::system::error_code error;
  bool timed_out = false;

  explicit operator bool() const { return !error && !timed_out; }
};

using Gather = std::array<asio::const_buffer, 2>;

/// How slow the other side may be: `patience` without any progress, and on average `rate` bytes a second once
/// that time is over (0: no matter).
struct Pace {
  std::chrono::milliseconds patience{0};
  std::size_t rate = 0;

  /// Until when to wait for more, after `bytes` since `began`.
  SteadyTime until(SteadyTime began, std::size_t bytes) const;
};

class WireStream;  // wire_stream.h

class Transport {
 public:
  virtual ~Transport() = default;
  /// To be awaited before anything else. False: there is nothing to talk to, close().
  virtual asio::awaitable<bool> handshake(SteadyTime until) = 0;
  virtual asio::awaitable<IoResult> read_some(asio::mutable_buffer into, SteadyTime until) = 0;
  /// All of both buffers.
  virtual asio::awaitable<IoResult> write(Gather buffers, Pace pace) = 0;
  /// No more is written: the peer is told so.
  virtual void shutdown_send() = 0;
  /// After shutdown_send: throws away what still comes, until the end, the deadline, or too much of it.
  virtual asio::awaitable<void> drain(SteadyTime until, std::size_t most) = 0;
  /// Ends outstanding operations with an error. May be repeated.
  virtual void close() = 0;
  virtual const std::string& peer() const = 0;
  virtual bool tls() const = 0;
  /// After the handshake, see Request::peer_certificate.
  virtual std::string peer_certificate() const = 0;
  virtual std::chrono::sys_seconds peer_certificate_until() const { return {}; }
  /// Gives the connection away (WebSocket); nothing may be outstanding and nothing is called afterwards but
  /// close().
  virtual std::shared_ptr<WireStream> release() = 0;
};

/// Takes over a connected socket; its executor becomes the transport's. `tls`: nullptr for a plain one.
std::shared_ptr<Transport> make_transport(Socket socket, TlsServer* tls);
std::shared_ptr<Transport> make_tls_transport(Socket socket, std::shared_ptr<asio::ssl::context> context);

/// TCP_NODELAY; harmless on a unix socket.
void set_no_delay(Socket& socket);
/// A peer whose machine is gone is noticed within two minutes, even by a stream that has nothing to send.
void set_keep_alive(Socket& socket);
std::string peer_name(Socket& socket);

}  // namespace tutti::http
