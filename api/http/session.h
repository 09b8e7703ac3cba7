// One connection: reads requests, routes them, writes answers, until either side closes.
//
// Who makes it: server.cpp, for each accepted socket. It runs on its own executor (a strand, or the server's
// serial one); only stop() may be called from elsewhere, through post. Invariants:
//   1. Requests of a connection are answered one after the other, in order (pipelined ones wait in the
//   buffer).
//   2. At most header_limit + 4 KiB of unparsed input, one body, and one answer or stream are held: nothing
//   is read
//      while an answer is being made, so pipelining costs the client's memory.
//   3. Every wait has a deadline from ServerConfig.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <functional>
#include <memory>
#include <string>

#include "api/http/exchange.h"
#include "api/http/request_parser.h"
#include "api/http/response_head.h"
#include "api/http/router.h"
#include "api/http/server_config.h"
#include "api/http/transport.h"

namespace tutti::http {

/// What all sessions of a server share, read-only.
struct SessionContext {
  ServerConfig config;
  const Router& router;
  Hooks hooks;
};

/// The connection's place in the server's count and stop list; given back by its destructor, wherever it ends
/// up (a WebSocket link keeps it).
class ConnectionSlot {
 public:
  virtual ~ConnectionSlot() = default;
  /// What stop() does to this connection. `hard`: cut it.
  virtual void set_stop(std::function<void(bool hard)> stop) = 0;
};

class Session : public std::enable_shared_from_this<Session> {
 public:
  Session(std::shared_ptr<const SessionContext> context, asio::any_io_executor executor, Socket socket,
          std::shared_ptr<ConnectionSlot> slot);
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  static asio::awaitable<void> run(std::shared_ptr<Session> self);
  /// On the session's executor. Soft: finish what is under way, then close.
  void stop(bool hard);

 private:
  enum class Reading : std::uint8_t {
    complete,
    closed,
    refused
  };
  enum class Next : std::uint8_t {
    keep_alive,
    close,
    linger,
    handed_over
  };
  struct Turn;  // one request on its way through

  asio::awaitable<Reading> read_request(Turn& turn);
  asio::awaitable<IoResult> receive(SteadyTime until);
  asio::awaitable<Next> answer(Turn& turn);
  asio::awaitable<Next> handle(Turn& turn, const Route& route);
  asio::awaitable<Next> upgrade(Turn& turn, const Route& route);
  asio::awaitable<Next> become_link(Turn& turn, const Request& request, LinkOptions options,
                                    LinkHandler then);
  asio::awaitable<Exchange::Answer> wait_for_answer(std::shared_ptr<Exchange> exchange);
  asio::awaitable<Next> send_response(Turn& turn, Response response);
  asio::awaitable<Next> send_stream(Turn& turn, Exchange::Answer answer);
  asio::awaitable<void> pump(std::shared_ptr<BodyStream> stream, std::size_t& sent);
  asio::awaitable<void> linger();
  static asio::awaitable<void> watch_peer(std::shared_ptr<Session> self, std::shared_ptr<BodyStream> stream);

  /// What a hook says to the request; headers it adds go to the answer, whatever that will be.
  std::optional<Response> ask(const std::function<std::optional<Response>(Request&)>& hook, Turn& turn) const;
  HeadOptions head_options(const Turn& turn) const;
  Pace pace() const;
  void call_handler(Turn& turn, const Route& route, const std::shared_ptr<Exchange>& exchange);
  void report(const Turn& turn, int status, std::size_t bytes, bool stream);
  void complain(std::string_view what) const;
  std::string_view unread() const { return {buffer_.data() + begin_, end_ - begin_}; }

  const std::shared_ptr<const SessionContext> context_;
  const asio::any_io_executor executor_;
  std::shared_ptr<ConnectionSlot> slot_;
  const std::shared_ptr<Transport> transport_;
  const std::shared_ptr<Wake> wake_;
  std::string peer_certificate_;
  std::chrono::sys_seconds peer_certificate_until_{};
  std::string buffer_;  // input; [begin_, end_) is unread
  std::size_t begin_ = 0;
  std::size_t end_ = 0;
  std::string head_;  // reused for every answer's header
  bool first_request_ = true;
  bool idle_ = false;  // between requests: stop() may close at once
  bool stopping_ = false;
  bool cut_ = false;  // stopped for good: the connection is closed
  std::weak_ptr<BodyStream> streaming_;
};

}  // namespace tutti::http
