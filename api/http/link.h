// A two-way connection of messages (a WebSocket underneath, which only link.cpp knows): of texts between
// scheduler and worker, of bytes between scheduler and the client of a shell. Std only. Made on the server by
// a Router::websocket route or an upgrade (Responder::upgrade), on the client by connect_link (link_io.h).
//
// Threads: send, abort and peer from any thread. Callbacks come one at a time on the executor the link was
// made with. Invariants:
//   1. Nothing is called before start(). on_closed is called exactly once after it, and nothing after
//   on_closed.
//   2. A receive is always outstanding after start(), so pings are answered even while nobody sends.
//   3. At most LinkOptions::max_queued_bytes wait to be sent; more closes the link (the peer does not keep
//   up).
//   4. A peer that is silent for LinkOptions::idle, pings included, is taken for dead.
// Dropping the pointer of a started link does not close it; abort() does.
#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <string>
#include <utility>

namespace tutti::http {

struct LinkOptions {
  std::chrono::milliseconds idle{3000};
  std::chrono::milliseconds handshake{5000};
  std::size_t max_message_bytes = 8 << 20;
  std::size_t max_queued_bytes = 16 << 20;
};

class Link {
 public:
  virtual ~Link() = default;
  virtual void start(std::function<void(std::string message)> on_message,
                     std::function<void(std::string reason)> on_closed) = 0;
  /// Queues a message; never blocks. False when the link is closed or this message overflows the queue.
  virtual bool send(std::string message) = 0;
  /// As send(), as a binary message; on_message does not tell the two kinds apart. `sent` is called once, on
  /// the executor, when the message is in the kernel's hands: the moment to send more. Not when it is lost.
  virtual bool send_binary(std::string message, std::function<void()> /*sent*/ = {}) {
    return send(std::move(message));
  }
  /// While held nothing is read: the peer's own sending comes to a halt. Its silence is then no sign of
  /// death.
  virtual void hold(bool /*yes*/) {}
  /// A closing handshake after what is queued; on_closed comes as soon as the peer has answered, or with the
  /// idle time.
  virtual void close() { abort(); }
  /// Cuts the connection at once, without a closing handshake; queued messages are lost.
  virtual void abort() = 0;
  virtual const std::string& peer() const = 0;
  /// Whether nobody on the way can read along.
  virtual bool encrypted() const { return false; }
};

}  // namespace tutti::http
