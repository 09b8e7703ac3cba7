#include "cli/exec_link.h"

#include <boost/asio/connect.hpp>
#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/ssl/host_name_verification.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/beast/core/buffers_to_string.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/ssl/ssl_stream.hpp>
#include <boost/beast/websocket.hpp>
#include <boost/beast/websocket/ssl.hpp>
#include <deque>
#include <type_traits>

#include "cli/failure.h"

namespace tutti::cli {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace websocket = boost::beast::websocket;
using boost::system::error_code;
using Socket = asio::generic::stream_protocol::socket;  // TCP or unix
using TlsSocket = beast::ssl_stream<Socket>;

constexpr std::size_t kMaxMessage = 1 << 20;

struct Place {
  std::string host, port;
  bool tls = false;
};

// "https://host:443", "http://[::1]:7070"; a path in the URL is that of a proxy and comes before ours.
Place place_of(const std::string& url, std::string& prefix) {
  Place place;
  const auto scheme = url.find("://");
  place.tls = url.starts_with("https");
  std::string rest = url.substr(scheme + 3);
  if (const auto slash = rest.find('/'); slash != std::string::npos) {
    prefix = rest.substr(slash);
    rest.resize(slash);
  }
  const auto colon = rest.rfind(':');
  const bool has_port = colon != std::string::npos && rest.find(']', colon) == std::string::npos;
  place.host = has_port ? rest.substr(0, colon) : rest;
  place.port = has_port ? rest.substr(colon + 1) : place.tls ? "443" : "80";
  if (place.host.starts_with('[') && place.host.ends_with(']'))
    place.host = place.host.substr(1, place.host.size() - 2);
  return place;
}

std::string describe(const error_code& error) {
  if (error == websocket::error::closed || error == asio::error::eof ||
      error == asio::ssl::error::stream_truncated)
    return "the server closed the connection";
  if (error == beast::error::timeout) return "the server has been silent for too long";
  return error.message();
}

// One class for both kinds of socket; what differs is how a connection becomes ready (`secure`).
template <class Stream>
class Link final : public ExecLink, public std::enable_shared_from_this<Link<Stream>> {
 public:
  template <class... Args>
  Link(asio::io_context& io, Connection connection, std::shared_ptr<asio::ssl::context> tls, Args&&... args)
      : tls_(std::move(tls)),
        ws_(std::forward<Args>(args)...),
        connection_(std::move(connection)),
        resolver_(io),
        timer_(io),
        place_(place_of(connection_.server, prefix_)) {}

  void open(const std::string& target, std::chrono::milliseconds deadline, Handlers handlers,
            std::function<void(Outcome)> opened) override {
    target_ = prefix_ + target;
    handlers_ = std::move(handlers);
    opened_ = std::move(opened);
    timer_.expires_after(deadline);
    timer_.async_wait([self = this->shared_from_this()](error_code error) {
      if (error || !self->opened_) return;
      self->resolver_.cancel();
      self->cut();
      self->settle(Trouble::not_sent, "no answer in time");
    });
    if (connection_.unix_socket.empty()) return resolve();
    addresses_.emplace_back(asio::local::stream_protocol::endpoint(connection_.unix_socket));
    connect(asio::error::host_not_found);
  }

  void send(std::string message) override {
    if (closed_) return;
    queued_ += message.size();
    queue_.push_back(std::move(message));
    if (queue_.size() == 1) write_next();
  }
  std::size_t queued_bytes() const override { return queued_; }

  void close() override {
    if (closed_) return;
    ws_.async_close(websocket::close_code::normal, [self = this->shared_from_this()](error_code) {});
  }

 private:
  Socket& socket() { return beast::get_lowest_layer(ws_); }
  void cut() {
    error_code ignored;
    socket().close(ignored);
  }

  void settle(Trouble trouble, std::string why, HttpReply reply = {}) {
    timer_.cancel();
    if (const auto opened = std::exchange(opened_, nullptr))
      opened({.trouble = trouble, .why = std::move(why), .reply = std::move(reply)});
  }

  void resolve() {
    resolver_.async_resolve(place_.host, place_.port,
                            [self = this->shared_from_this()](error_code error, const auto& found) {
                              if (error) return self->settle(Trouble::not_sent, error.message());
                              for (const auto& entry : found) self->addresses_.emplace_back(entry.endpoint());
                              self->connect(asio::error::host_not_found);
                            });
  }

  // The addresses in turn; `last`: why the one before did not do.
  void connect(error_code last) {
    if (!opened_) return;  // the deadline has passed
    if (addresses_.empty()) return settle(Trouble::not_sent, last.message());
    const Socket::endpoint_type address = addresses_.front();
    addresses_.pop_front();
    cut();
    socket().async_connect(address, [self = this->shared_from_this()](error_code error) {
      if (error) return self->connect(error);
      self->secure();
    });
  }

  void secure() {
    if constexpr (std::is_same_v<Stream, TlsSocket>) {
      auto& tls = ws_.next_layer();
      if (SSL_set_tlsext_host_name(tls.native_handle(), place_.host.c_str()) != 1)
        return settle(Trouble::hopeless, "the host's name does not go with TLS");
      tls.set_verify_callback(asio::ssl::host_name_verification(place_.host));
      tls.async_handshake(asio::ssl::stream_base::client,
                          [self = this->shared_from_this()](error_code error) {
                            if (error) return self->settle(Trouble::hopeless, "TLS: " + error.message());
                            self->shake_hands();
                          });
    } else {
      shake_hands();
    }
  }

  void shake_hands() {
    if (!opened_) return;
    websocket::stream_base::timeout timeout;
    timeout.handshake_timeout = websocket::stream_base::none();  // ours is over all of the opening
    timeout.idle_timeout = kSilence;
    timeout.keep_alive_pings = true;
    ws_.set_option(timeout);
    ws_.read_message_max(kMaxMessage);
    ws_.binary(true);
    ws_.set_option(
        websocket::stream_base::decorator([token = connection_.token](websocket::request_type& request) {
          request.set(beast::http::field::user_agent, "tutti");
          if (!token.empty()) request.set(beast::http::field::authorization, "Bearer " + token);
        }));
    const std::string host =
        place_.host.find(':') == std::string::npos ? place_.host : "[" + place_.host + "]";
    ws_.async_handshake(answer_, host + ":" + place_.port, target_,
                        [self = this->shared_from_this()](error_code error) { self->on_handshake(error); });
  }

  void on_handshake(error_code error) {
    if (!opened_) return;
    HttpReply reply;
    reply.status = static_cast<int>(answer_.result_int());
    for (const auto& field : answer_)
      reply.headers.emplace_back(std::string(field.name_string()), std::string(field.value()));
    reply.body = answer_.body();
    if (error == websocket::error::upgrade_declined) return settle(Trouble::none, {}, std::move(reply));
    if (error) return settle(Trouble::uncertain, describe(error));
    settle(Trouble::none, {}, std::move(reply));
    read_next();
  }

  void read_next() {
    ws_.async_read(buffer_, [self = this->shared_from_this()](error_code error, std::size_t) {
      if (error) return self->finish(describe(error));
      std::string message = beast::buffers_to_string(self->buffer_.data());
      self->buffer_.consume(self->buffer_.size());
      self->handlers_.on_message(std::move(message));
      if (!self->closed_) self->read_next();
    });
  }

  void write_next() {
    ws_.async_write(asio::buffer(queue_.front()),
                    [self = this->shared_from_this()](error_code error, std::size_t) {
                      if (error) return self->finish(describe(error));
                      self->queued_ -= self->queue_.front().size();
                      self->queue_.pop_front();
                      if (self->handlers_.on_sent) self->handlers_.on_sent();
                      if (!self->queue_.empty() && !self->closed_) self->write_next();
                    });
  }

  void finish(std::string why) {
    if (std::exchange(closed_, true)) return;
    if (handlers_.on_closed) handlers_.on_closed(std::move(why));
  }

  std::shared_ptr<asio::ssl::context> tls_;
  websocket::stream<Stream, false> ws_;  // no compression: half the code to compile, and keystrokes are short
  Connection connection_;
  asio::ip::tcp::resolver resolver_;
  asio::steady_timer timer_;
  std::string prefix_;
  Place place_;
  std::string target_;
  std::deque<Socket::endpoint_type> addresses_;
  websocket::response_type answer_;
  Handlers handlers_;
  std::function<void(Outcome)> opened_;
  beast::flat_buffer buffer_;
  std::deque<std::string> queue_;
  std::size_t queued_ = 0;
  bool closed_ = false;
};

std::shared_ptr<asio::ssl::context> tls_context(const Connection& connection) {
  auto tls = std::make_shared<asio::ssl::context>(asio::ssl::context::tls_client);
  SSL_CTX_set_min_proto_version(tls->native_handle(), TLS1_2_VERSION);
  tls->set_verify_mode(asio::ssl::verify_peer);
  error_code error;
  if (connection.ca.empty())
    tls->set_default_verify_paths(error);
  else
    tls->load_verify_file(connection.ca, error);
  if (error)
    throw Failure(Exit::usage, "cannot read the certificates of " +
                                   (connection.ca.empty() ? "this system" : connection.ca) + ": " +
                                   error.message());
  return tls;
}

}  // namespace

std::shared_ptr<ExecLink> make_exec_link(asio::io_context& io, const Connection& connection) {
  if (connection.unix_socket.empty() && connection.server.starts_with("https://")) {
    auto tls = tls_context(connection);
    return std::make_shared<Link<TlsSocket>>(io, connection, tls, io, *tls);
  }
  return std::make_shared<Link<Socket>>(io, connection, nullptr, io);
}

}  // namespace tutti::cli
