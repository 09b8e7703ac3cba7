// The only file that knows Beast's websocket (it takes half a minute to compile). Callbacks instead of
// coroutines here: a link is two small loops, and reading and writing run side by side.
#include "api/http/link.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/core/buffers_to_string.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/empty_body.hpp>
#include <boost/beast/http/message.hpp>
#include <boost/beast/websocket.hpp>
#include <deque>
#include <mutex>
#include <utility>

#include "api/http/link_io.h"
#include "api/http/wire_stream.h"

namespace tutti::http {

// Found by Beast. An end is said in the WebSocket's own words before; TLS need not say it once more.
template <class Handler>
void async_teardown(boost::beast::role_type role, WireStream& wire, Handler&& handler) {
  boost::beast::websocket::async_teardown(role, wire.next_layer(), std::forward<Handler>(handler));
}

namespace {

namespace beast = boost::beast;
namespace websocket = boost::beast::websocket;
using boost::system::error_code;
using WsStream = websocket::stream<WireStream>;

Socket& socket_of(WsStream& ws) { return ws.next_layer().next_layer(); }

constexpr auto kToken = asio::as_tuple(asio::use_awaitable);
constexpr std::string_view kTooSlow = "the peer does not keep up: too much is waiting to be sent";

/// The kernel's own limit for data that nobody acknowledges: a cut cable is noticed even in the middle of a
/// write.
void set_user_timeout(Socket& socket, std::chrono::milliseconds timeout) {
  const auto value = static_cast<unsigned>(timeout.count());
  ::setsockopt(socket.native_handle(), IPPROTO_TCP, TCP_USER_TIMEOUT, &value, sizeof value);
}

websocket::stream_base::timeout timeouts(const LinkOptions& options) {
  websocket::stream_base::timeout timeout;
  timeout.handshake_timeout = options.handshake;
  timeout.idle_timeout = options.idle;
  timeout.keep_alive_pings = true;
  return timeout;
}

void configure(WsStream& ws, const LinkOptions& options) {
  ws.set_option(timeouts(options));
  ws.read_message_max(options.max_message_bytes);
  set_no_delay(socket_of(ws));
  set_user_timeout(socket_of(ws), options.idle);
}

std::string describe(const error_code& error) {
  if (error == websocket::error::closed || error == asio::error::eof) return "the peer closed the link";
  if (error == beast::error::timeout) return "the peer has been silent for too long";
  if (error == websocket::error::message_too_big) return "a message is larger than allowed";
  return error.message();
}

class WsLink final : public Link, public std::enable_shared_from_this<WsLink> {
 public:
  WsLink(std::unique_ptr<WsStream> ws, LinkOptions options, std::string peer, std::shared_ptr<void> keep)
      : ws_(std::move(ws)),
        executor_(ws_->get_executor()),
        options_(options),
        peer_(std::move(peer)),
        encrypted_(ws_->next_layer().encrypted()),
        keep_(std::move(keep)),
        ping_timer_(executor_) {}

  void start(std::function<void(std::string)> on_message,
             std::function<void(std::string)> on_closed) override {
    asio::post(executor_, [self = shared_from_this(), on_message = std::move(on_message),
                           on_closed = std::move(on_closed)]() mutable {
      self->on_message_ = std::move(on_message);
      self->on_closed_ = std::move(on_closed);
      if (self->finished_) return self->tell_closed();
      self->read_next();
    });
  }

  bool send(std::string message) override { return push({std::move(message), false, {}}); }
  bool send_binary(std::string message, std::function<void()> sent) override {
    return push({std::move(message), true, std::move(sent)});
  }

  void hold(bool yes) override {
    asio::post(executor_, [self = shared_from_this(), yes] {
      self->held_ = yes;
      if (!yes && !self->finished_ && std::exchange(self->read_waits_, false)) {
        self->ws_->set_option(timeouts(self->options_));
        self->read_next();
      }
    });
  }

  void close() override {
    {
      const std::scoped_lock lock(mutex_);
      if (closed_ || std::exchange(closing_, true) || std::exchange(sending_, true)) return;
    }
    asio::post(executor_, [self = shared_from_this()] { self->write_next(); });
  }

  void abort() override {
    {
      const std::scoped_lock lock(mutex_);
      closed_ = true;
    }
    post_finish("cut from this side");
  }

  const std::string& peer() const override { return peer_; }
  bool encrypted() const override { return encrypted_; }

 private:
  struct Message {
    std::string text;
    bool binary;
    std::function<void()> sent;
  };

  bool push(Message message) {
    bool begin = false;
    bool overflow = false;
    {
      const std::scoped_lock lock(mutex_);
      if (closed_ || closing_) return false;
      overflow = queued_bytes_ + message.text.size() > options_.max_queued_bytes;
      if (overflow) {
        closed_ = true;
      } else {
        queued_bytes_ += message.text.size();
        queue_.push_back(std::move(message));
        begin = !std::exchange(sending_, true);
      }
    }
    if (overflow) post_finish(std::string(kTooSlow));
    if (begin) asio::post(executor_, [self = shared_from_this()] { self->write_next(); });
    return !overflow;
  }

  // Everything below runs on the executor only.

  void post_finish(std::string reason) {
    asio::post(executor_, [self = shared_from_this(), reason = std::move(reason)] { self->finish(reason); });
  }

  bool is_closed() {
    const std::scoped_lock lock(mutex_);
    return closed_;
  }

  void read_next() {
    if (held_) {  // its pongs are not read either
      read_waits_ = true;
      auto timeout = timeouts(options_);
      timeout.idle_timeout = websocket::stream_base::none();
      ws_->set_option(timeout);
      return ping_while_held();
    }
    ws_->async_read(input_, [self = shared_from_this()](error_code error, std::size_t) {
      if (error) return self->finish(describe(error));
      std::string message = beast::buffers_to_string(self->input_.cdata());
      self->input_.consume(self->input_.size());
      if (self->input_.capacity() > kKeepCapacity) self->input_.shrink_to_fit();
      if (self->is_closed()) return;  // finish() is on its way
      try {
        self->on_message_(std::move(message));
      } catch (const std::exception& failure) {
        return self->finish(std::string("a message could not be handled: ") + failure.what());
      }
      if (!self->finished_) self->read_next();
    });
  }

  // Nothing is read, so the peer's silence says nothing; but what we send is acknowledged by its kernel, or
  // the connection breaks (TCP_USER_TIMEOUT, or a reset).
  void ping_while_held() {
    if (std::exchange(pinging_, true)) return;
    ping_timer_.expires_after(options_.idle / 2);
    ping_timer_.async_wait([self = shared_from_this()](error_code stopped) {
      self->pinging_ = false;
      if (stopped || !self->read_waits_ || self->finished_) return;
      self->pinging_ = true;
      self->ws_->async_ping({}, [self](error_code error) {
        self->pinging_ = false;
        if (error) return self->finish(describe(error));
        if (self->read_waits_ && !self->finished_) self->ping_while_held();
      });
    });
  }

  void write_next() {
    const Message* message = nullptr;
    bool close = false;
    {
      const std::scoped_lock lock(mutex_);
      if (queue_.empty() || closed_) {
        close = closing_ && !closed_;
        sending_ = close;  // nothing may be written beside it
        if (!close) return;
      } else {
        message = &queue_.front();  // stays put: only this loop removes it
      }
    }
    if (close)
      return ws_->async_close(websocket::close_code::normal, [self = shared_from_this()](error_code) {
        self->finish("closed from this side");
      });
    ws_->binary(message->binary);
    ws_->async_write(asio::buffer(message->text), [self = shared_from_this()](error_code error, std::size_t) {
      if (error) return self->finish(describe(error));
      std::function<void()> sent;
      {
        const std::scoped_lock lock(self->mutex_);
        self->queued_bytes_ -= self->queue_.front().text.size();
        sent = std::move(self->queue_.front().sent);
        self->queue_.pop_front();
      }
      if (sent && !self->finished_) sent();
      self->write_next();
    });
  }

  void finish(const std::string& reason) {
    if (std::exchange(finished_, true)) return;
    {
      const std::scoped_lock lock(mutex_);
      closed_ = true;
    }
    beast::close_socket(socket_of(*ws_));
    keep_.reset();
    ping_timer_.cancel();
    reason_ = reason;
    if (on_closed_) tell_closed();
  }

  void tell_closed() {
    on_message_ = nullptr;
    const auto callback = std::exchange(on_closed_, nullptr);
    if (callback) callback(reason_);
  }

  static constexpr std::size_t kKeepCapacity = 256 << 10;

  const std::unique_ptr<WsStream> ws_;
  const asio::any_io_executor executor_;
  const LinkOptions options_;
  const std::string peer_;
  const bool encrypted_;
  std::shared_ptr<void> keep_;
  asio::steady_timer ping_timer_;
  beast::flat_buffer input_;
  std::function<void(std::string)> on_message_;
  std::function<void(std::string)> on_closed_;
  std::string reason_;
  bool finished_ = false;
  bool held_ = false;
  bool read_waits_ = false;  // for the end of being held
  bool pinging_ = false;     // or waiting to

  std::mutex mutex_;  // guards the following
  std::deque<Message> queue_;
  std::size_t queued_bytes_ = 0;
  bool sending_ = false;
  bool closing_ = false;  // after what is queued
  bool closed_ = false;
};

Error failure(std::string message, Errc code = Errc::unavailable) {
  Error error;
  error.code = code;
  error.message = std::move(message);
  return error;
}

Error refused_upgrade(int status) {
  const auto code = status == 401   ? Errc::unauthenticated
                    : status == 403 ? Errc::forbidden
                    : status == 404 ? Errc::not_found
                                    : Errc::unavailable;
  return failure("the server refused the link with status " + std::to_string(status), code);
}

/// One connect_link under way. The timer and the coroutine race; the first to settle() wins.
struct Attempt {
  Attempt(const asio::any_io_executor& on, LinkTarget to, LinkOptions with, LinkCallback call)
      : executor(on),
        target(std::move(to)),
        options(with),
        callback(std::move(call)),
        timer(on),
        resolver(on),
        socket(on) {}

  void settle(Result<std::shared_ptr<Link>> result) {
    timer.cancel();
    if (const auto call = std::exchange(callback, nullptr)) call(std::move(result));
  }
  /// Ends what is being waited for, however far it has come.
  void cut() {
    resolver.cancel();
    beast::close_socket(ws ? socket_of(*ws) : tls ? tls->next_layer() : socket);
  }
  std::string where() const { return target.host + ":" + std::to_string(target.port); }

  asio::any_io_executor executor;
  LinkTarget target;
  LinkOptions options;
  LinkCallback callback;
  asio::steady_timer timer;
  asio::ip::tcp::resolver resolver;
  // The connection goes from one to the next.
  Socket socket;
  std::unique_ptr<TlsStream> tls;
  std::unique_ptr<WsStream> ws;
};

/// Tries the addresses in turn; the error of the last one.
asio::awaitable<error_code> connect_socket(std::shared_ptr<Attempt> attempt) {
  const auto port = std::to_string(attempt->target.port);
  const auto [resolve_error, found] =
      co_await attempt->resolver.async_resolve(attempt->target.host, port, kToken);
  if (resolve_error) co_return resolve_error;
  error_code last = asio::error::host_not_found;
  for (const auto& entry : found) {
    if (!attempt->callback) break;  // the deadline has passed
    error_code ignored;
    attempt->socket.close(ignored);
    const Socket::endpoint_type endpoint(entry.endpoint());
    const auto [error] = co_await attempt->socket.async_connect(endpoint, kToken);
    last = error;
    if (!error) break;
  }
  co_return last;
}

/// What went wrong, or "".
asio::awaitable<std::string> secure_socket(std::shared_ptr<Attempt> attempt) {
  std::string trouble;
  std::shared_ptr<asio::ssl::context> context;
  try {
    context = make_client_context(*attempt->target.tls);
  } catch (const std::exception& error) {
    trouble = error.what();
  }
  if (!context) co_return trouble;
  // The connection keeps OpenSSL's part of the context alive; ours has nothing else.
  attempt->tls = std::make_unique<TlsStream>(std::move(attempt->socket), *context);
  if (!expect_host(attempt->tls->native_handle(), attempt->target.host)) {
    trouble = "no server can be certified for that name";
    co_return trouble;
  }
  const auto [error] = co_await attempt->tls->async_handshake(TlsStream::client, kToken);
  if (!error) co_return trouble;
  trouble = certificate_complaint(attempt->tls->native_handle());
  if (trouble.empty()) trouble = "no TLS connection: " + error.message();
  co_return trouble;
}

asio::awaitable<void> run_attempt(std::shared_ptr<Attempt> attempt) {
  const auto& target = attempt->target;
  const auto where = attempt->where();
  const auto connect_error = co_await connect_socket(attempt);
  if (connect_error) co_return attempt->settle(failure(where + ": " + connect_error.message()));
  if (target.tls && attempt->callback) {
    const auto trouble = co_await secure_socket(attempt);
    if (!trouble.empty()) co_return attempt->settle(failure(where + ": " + trouble));
  }
  if (!attempt->callback) co_return;
  attempt->ws = attempt->tls ? std::make_unique<WsStream>(std::move(attempt->tls))
                             : std::make_unique<WsStream>(std::move(attempt->socket));
  auto& ws = *attempt->ws;
  configure(ws, attempt->options);
  // The headers by value: holding the attempt, which holds the stream, would be a ring that nobody opens when
  // the executor goes in the middle of the handshake.
  ws.set_option(
      websocket::stream_base::decorator([headers = target.headers](websocket::request_type& request) {
        for (const auto& header : headers) request.set(header.name, header.value);
      }));
  websocket::response_type response;
  const auto [error] = co_await ws.async_handshake(response, where, target.path, kToken);
  if (error == websocket::error::upgrade_declined)
    co_return attempt->settle(refused_upgrade(static_cast<int>(response.result_int())));
  if (error) co_return attempt->settle(failure(where + ": " + describe(error)));
  if (!attempt->callback) co_return;
  auto peer = peer_name(socket_of(ws));
  std::shared_ptr<Link> link =
      std::make_shared<WsLink>(std::move(attempt->ws), attempt->options, std::move(peer), nullptr);
  attempt->settle(std::move(link));
}

}  // namespace

asio::awaitable<std::shared_ptr<Link>> accept_link(std::shared_ptr<WireStream> wire, const Request& request,
                                                   Headers headers, LinkOptions options,
                                                   std::shared_ptr<void> keep) {
  auto ws = std::make_unique<WsStream>(std::move(*wire));
  configure(*ws, options);
  ws->set_option(
      websocket::stream_base::decorator([headers = std::move(headers)](websocket::response_type& response) {
        for (const auto& header : headers) response.insert(header.name, header.value);
        response.set(beast::http::field::server, "");  // else Beast tells its name and version
      }));
  beast::http::request<beast::http::empty_body> upgrade;
  upgrade.method(beast::http::verb::get);
  upgrade.target(request.target);
  upgrade.version(11);
  for (const auto& header : request.headers) upgrade.insert(header.name, header.value);
  const auto [error] = co_await ws->async_accept(upgrade, kToken);
  if (error) co_return nullptr;
  co_return std::make_shared<WsLink>(std::move(ws), options, request.peer, std::move(keep));
}

void connect_link(const asio::any_io_executor& executor, LinkTarget target, LinkOptions options,
                  std::chrono::milliseconds deadline, LinkCallback callback) {
  auto attempt = std::make_shared<Attempt>(executor, std::move(target), options, std::move(callback));
  asio::post(executor, [attempt, deadline] {
    attempt->timer.expires_after(deadline);
    attempt->timer.async_wait([attempt](error_code error) {
      if (error || !attempt->callback) return;
      attempt->cut();
      attempt->settle(failure(attempt->where() + ": no link within the deadline"));
    });
    asio::co_spawn(attempt->executor, run_attempt(attempt), [](std::exception_ptr error) {
      if (error) std::rethrow_exception(error);
    });
  });
}

}  // namespace tutti::http
