#include "api/http/server.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/basic_socket_acceptor.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/strand.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/system/system_error.hpp>
#include <map>
#include <mutex>
#include <utility>

#include "api/http/address.h"
#include "api/http/response_head.h"
#include "api/http/session.h"

namespace tutti::http {
namespace {

using boost::system::error_code;
using Acceptor = asio::basic_socket_acceptor<asio::generic::stream_protocol>;
constexpr auto kToken = asio::as_tuple(asio::use_awaitable);
constexpr std::chrono::milliseconds kAcceptPause{50};

Acceptor::endpoint_type endpoint_of(const ServerConfig& config) {
  if (!config.unix_path.empty()) return asio::local::stream_protocol::endpoint(config.unix_path);
  return asio::ip::tcp::endpoint(asio::ip::make_address(config.address), config.port);
}

std::uint16_t port_of(const Acceptor::endpoint_type& endpoint) {
  const auto* address = static_cast<const sockaddr*>(endpoint.data());
  if (address->sa_family == AF_INET) return ntohs(reinterpret_cast<const sockaddr_in*>(address)->sin_port);
  if (address->sa_family == AF_INET6) return ntohs(reinterpret_cast<const sockaddr_in6*>(address)->sin6_port);
  return 0;
}

void remove_stale_socket(const std::string& path) {
  struct stat info{};
  if (::lstat(path.c_str(), &info) == 0 && S_ISSOCK(info.st_mode)) ::unlink(path.c_str());
}

/// Best effort: the peer may see a reset instead, if it has already sent something. Under TLS it is only
/// closed: a handshake is what there is no room for.
void turn_away(Socket& socket, bool tls, std::string why) {
  if (tls) return;
  const auto response = problem(503, "too_many_connections", std::move(why),
                                "try again in a moment, and use each for more requests");
  Headers headers = response.headers;
  headers.push_back({"Retry-After", "1"});
  HeadOptions options;
  options.content_length = response.body.size();
  options.close = true;
  std::string bytes;
  write_head(bytes, response.status, headers, options);
  bytes += response.body;
  error_code ignored;
  socket.non_blocking(true, ignored);
  socket.write_some(asio::buffer(bytes), ignored);
  socket.shutdown(Socket::shutdown_send, ignored);
  socket.close(ignored);
}

}  // namespace

/// Owned by the server and by every open connection.
class HttpServer::Core : public std::enable_shared_from_this<Core> {
 public:
  Core(asio::any_io_executor executor, ServerConfig config, const Router& router, Hooks hooks)
      : context_(
            std::make_shared<SessionContext>(SessionContext{std::move(config), router, std::move(hooks)})),
        executor_(executor),
        strand_(context_->config.serial_executor ? executor
                                                 : asio::any_io_executor(asio::make_strand(executor))),
        acceptor_(strand_),
        pause_(strand_),
        drain_(strand_),
        tls_poll_(strand_) {}

  void start() {
    const auto& config = context_->config;
    const auto endpoint = endpoint_of(config);
    if (!config.unix_path.empty()) remove_stale_socket(config.unix_path);
    acceptor_.open(endpoint.protocol());
    if (config.unix_path.empty()) acceptor_.set_option(Acceptor::reuse_address(true));
    acceptor_.bind(endpoint);
    acceptor_.listen(Acceptor::max_listen_connections);
    port_ = port_of(acceptor_.local_endpoint());
    asio::co_spawn(strand_, accept_loop(shared_from_this()), [](std::exception_ptr error) {
      if (error) std::rethrow_exception(error);
    });
    if (config.tls) asio::post(strand_, [self = shared_from_this()] { self->watch_certificate(); });
  }

  void stop(std::function<void()> on_stopped) {
    asio::post(strand_, [self = shared_from_this(), on_stopped = std::move(on_stopped)]() mutable {
      self->stop_here(std::move(on_stopped));
    });
  }

  std::uint16_t port() const { return port_; }
  std::size_t connections() const { return open_; }

 private:
  class Slot;
  using StopCallback = std::function<void(bool hard)>;

  static asio::awaitable<void> accept_loop(std::shared_ptr<Core> self) {
    while (self->acceptor_.is_open()) {
      auto executor = self->session_executor();
      auto [error, socket] = co_await self->acceptor_.async_accept(executor, kToken);
      if (self->stopping_) break;  // accepted just before the stop: nobody would stop its session
      if (!error) {
        self->take(std::move(executor), std::move(socket));
      } else {
        // Usually out of file descriptors; accepting again at once would burn the processor.
        if (self->context_->hooks.on_error) self->context_->hooks.on_error("accept: " + error.message());
        self->pause_.expires_after(kAcceptPause);
        co_await self->pause_.async_wait(kToken);
      }
    }
  }

  asio::any_io_executor session_executor() const {
    if (context_->config.serial_executor) return executor_;
    return asio::make_strand(executor_);
  }

  void take(asio::any_io_executor executor, Socket socket);
  void stop_here(std::function<void()> on_stopped);
  void stop_connections(bool hard);
  void release(std::uint64_t id, const std::string& address);
  bool count_address(const std::string& address);
  void watch_certificate();
  void set_stop(std::uint64_t id, StopCallback stop);
  void check_stopped();

  const std::shared_ptr<SessionContext> context_;
  const asio::any_io_executor executor_;
  const asio::any_io_executor strand_;  // everything of the server itself runs here
  Acceptor acceptor_;
  asio::steady_timer pause_;
  asio::steady_timer drain_;
  asio::steady_timer tls_poll_;
  std::vector<std::function<void()>> on_stopped_;
  bool stopping_ = false;
  std::atomic<std::uint16_t> port_{0};
  std::atomic<std::size_t> open_{0};

  std::mutex mutex_;  // guards the following
  std::map<std::uint64_t, StopCallback> stops_;
  std::map<std::string, std::size_t> by_address_;  // open connections, if they are limited
  std::uint64_t next_id_ = 1;
};

class HttpServer::Core::Slot final : public ConnectionSlot {
 public:
  Slot(std::shared_ptr<Core> core, std::uint64_t id, std::string address)
      : core_(std::move(core)), id_(id), address_(std::move(address)) {}
  ~Slot() override { core_->release(id_, address_); }
  void set_stop(std::function<void(bool)> stop) override { core_->set_stop(id_, std::move(stop)); }

 private:
  const std::shared_ptr<Core> core_;
  const std::uint64_t id_;
  const std::string address_;
};

void HttpServer::Core::take(asio::any_io_executor executor, Socket socket) {
  const auto& config = context_->config;
  if (open_ >= config.max_connections)
    return turn_away(socket, config.tls != nullptr, "the server has as many connections as it takes");
  const auto address =
      config.max_connections_per_address > 0 ? address_group(peer_name(socket)) : std::string();
  if (!count_address(address))
    return turn_away(socket, config.tls != nullptr,
                     address + " has as many connections as one address may have");
  std::uint64_t id = 0;
  {
    const std::scoped_lock lock(mutex_);
    id = next_id_++;
  }
  ++open_;
  const auto slot = std::make_shared<Slot>(shared_from_this(), id, address);
  const auto session = std::make_shared<Session>(context_, executor, std::move(socket), slot);
  slot->set_stop([weak = std::weak_ptr<Session>(session), executor](bool hard) {
    asio::post(executor, [weak, hard] {
      if (const auto live = weak.lock()) live->stop(hard);
    });
  });
  asio::co_spawn(executor, Session::run(session), [core = shared_from_this()](std::exception_ptr error) {
    if (!error || !core->context_->hooks.on_error) return;
    try {
      std::rethrow_exception(error);
    } catch (const std::exception& failure) {
      core->context_->hooks.on_error(std::string("session: ") + failure.what());
    }
  });
}

void HttpServer::Core::set_stop(std::uint64_t id, StopCallback stop) {
  const std::scoped_lock lock(mutex_);
  stops_[id] = std::move(stop);
}

/// A unix socket has no address to count, and no more than this machine behind it.
bool HttpServer::Core::count_address(const std::string& address) {
  if (address.empty() || address == "unix") return true;
  const std::scoped_lock lock(mutex_);
  auto& count = by_address_[address];
  if (count >= context_->config.max_connections_per_address) return false;
  ++count;
  return true;
}

void HttpServer::Core::watch_certificate() {
  if (stopping_) return;
  context_->config.tls->poll();
  tls_poll_.expires_after(context_->config.tls_poll);
  tls_poll_.async_wait([self = shared_from_this()](error_code error) {
    if (!error) self->watch_certificate();
  });
}

void HttpServer::Core::release(std::uint64_t id, const std::string& address) {
  {
    const std::scoped_lock lock(mutex_);
    stops_.erase(id);
    if (const auto counted = by_address_.find(address);
        counted != by_address_.end() && --counted->second == 0)
      by_address_.erase(counted);
  }
  if (--open_ == 0) asio::post(strand_, [self = shared_from_this()] { self->check_stopped(); });
}

void HttpServer::Core::stop_here(std::function<void()> on_stopped) {
  if (on_stopped) on_stopped_.push_back(std::move(on_stopped));
  if (!std::exchange(stopping_, true)) {
    error_code ignored;
    acceptor_.close(ignored);
    pause_.cancel();
    tls_poll_.cancel();
    if (!context_->config.unix_path.empty()) remove_stale_socket(context_->config.unix_path);
    stop_connections(false);
    if (open_ > 0) {
      drain_.expires_after(context_->config.drain);
      drain_.async_wait([self = shared_from_this()](error_code error) {
        if (!error) self->stop_connections(true);
      });
    }
  }
  check_stopped();
}

void HttpServer::Core::stop_connections(bool hard) {
  std::vector<StopCallback> stops;
  {
    const std::scoped_lock lock(mutex_);
    for (const auto& [id, stop] : stops_) stops.push_back(stop);
  }
  for (const auto& stop : stops) stop(hard);
}

void HttpServer::Core::check_stopped() {
  if (!stopping_ || open_ > 0) return;
  drain_.cancel();
  for (const auto& callback : std::exchange(on_stopped_, {})) callback();
}

HttpServer::HttpServer(boost::asio::any_io_executor executor, ServerConfig config, const Router& router,
                       Hooks hooks)
    : core_(std::make_shared<Core>(std::move(executor), std::move(config), router, std::move(hooks))) {}

HttpServer::~HttpServer() { core_->stop({}); }

void HttpServer::start() { core_->start(); }
void HttpServer::stop(std::function<void()> on_stopped) { core_->stop(std::move(on_stopped)); }
std::uint16_t HttpServer::port() const { return core_->port(); }
std::size_t HttpServer::connections() const { return core_->connections(); }

}  // namespace tutti::http
