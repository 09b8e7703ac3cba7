// A byte stream with deadlines. Hides the kind of socket from the session: a coroutine compiles once, not per
// stream.
//
// Who uses it: session.cpp only. Thread: the executor of the session (close() too).
// Invariants:
//   1. Every wait has a deadline; a missed one ends the operation with timed_out.
//   2. One read and one write may be outstanding at the same time, not more.
// The deadline timer is armed lazily: moving a deadline later costs nothing, so a busy connection touches no
// timer queue.
#pragma once

#include <array>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/buffer.hpp>
#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/system/error_code.hpp>
#include <chrono>
#include <memory>
#include <string>

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

class Transport {
 public:
  virtual ~Transport() = default;
  virtual asio::awaitable<IoResult> read_some(asio::mutable_buffer into, SteadyTime until) = 0;
  /// All of both buffers. `patience`: how long without any progress.
  virtual asio::awaitable<IoResult> write(Gather buffers, std::chrono::milliseconds patience) = 0;
  virtual void shutdown_send() = 0;
  /// Ends outstanding operations with an error. May be repeated.
  virtual void close() = 0;
  virtual const std::string& peer() const = 0;
  /// Gives the socket away (WebSocket); nothing may be outstanding and nothing is called afterwards but
  /// close().
  virtual Socket release() = 0;
};

/// Takes over a connected socket; its executor becomes the transport's.
std::shared_ptr<Transport> make_transport(Socket socket);

/// TCP_NODELAY; harmless on a unix socket.
void set_no_delay(Socket& socket);
std::string peer_name(Socket& socket);

}  // namespace tutti::http
