#include "api/http/transport.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <utility>

namespace tutti::http {
namespace {

using boost::system::error_code;
constexpr auto kToken = asio::as_tuple(asio::use_awaitable);
constexpr auto kNever = SteadyTime::max();

class SocketTransport final : public Transport, public std::enable_shared_from_this<SocketTransport> {
 public:
  explicit SocketTransport(Socket socket)
      : socket_(std::move(socket)), timer_(socket_.get_executor()), peer_(peer_name(socket_)) {
    error_code ignored;
    socket_.non_blocking(true, ignored);
    set_no_delay(socket_);
  }

  asio::awaitable<IoResult> read_some(asio::mutable_buffer into, SteadyTime until) override {
    read_until_ = until;
    read_timed_out_ = false;
    arm();
    const auto [error, bytes] = co_await socket_.async_read_some(into, kToken);
    read_until_ = kNever;
    IoResult result;
    result.bytes = bytes;
    result.error = error;
    result.timed_out = error && read_timed_out_;
    co_return result;
  }

  asio::awaitable<IoResult> write(Gather buffers, std::chrono::milliseconds patience) override {
    IoResult result;
    const auto total = buffers[0].size() + buffers[1].size();
    while (result.bytes < total) {
      // Nearly always the kernel takes it at once: no wait, no trip through the reactor.
      const auto wrote = socket_.write_some(buffers, result.error);
      if (result.error == asio::error::would_block || result.error == asio::error::try_again) {
        write_until_ = std::chrono::steady_clock::now() + patience;
        arm();
        const auto [error] = co_await socket_.async_wait(Socket::wait_write, kToken);
        write_until_ = kNever;
        result.error = error;
        result.timed_out = error && write_timed_out_;
      }
      if (result.error) co_return result;
      result.bytes += wrote;
      const auto first = std::min(wrote, buffers[0].size());
      buffers[0] += first;
      buffers[1] += wrote - first;
    }
    co_return result;
  }

  void shutdown_send() override {
    error_code ignored;
    socket_.shutdown(Socket::shutdown_send, ignored);
  }

  void close() override {
    error_code ignored;
    socket_.close(ignored);
    timer_.cancel();
  }

  const std::string& peer() const override { return peer_; }

  Socket release() override {
    timer_.cancel();
    return std::move(socket_);
  }

 private:
  /// Makes sure the timer fires no later than the nearest deadline. Earlier is fine: it looks again then.
  void arm() {
    const auto next = std::min(read_until_, write_until_);
    if (next == kNever || (armed_ && armed_for_ <= next)) return;
    armed_ = true;
    armed_for_ = next;
    timer_.expires_at(next);
    timer_.async_wait([weak = weak_from_this()](error_code error) {
      if (error) return;
      if (const auto self = weak.lock()) self->on_timer();
    });
  }

  void on_timer() {
    armed_ = false;
    const auto now = std::chrono::steady_clock::now();
    error_code ignored;
    if (write_until_ <= now) {
      write_timed_out_ = true;
      write_until_ = kNever;
      socket_.close(ignored);
      return;
    }
    if (read_until_ <= now) {
      read_timed_out_ = true;
      read_until_ = kNever;
      socket_.cancel(ignored);
    }
    arm();
  }

  Socket socket_;
  asio::steady_timer timer_;
  std::string peer_;
  SteadyTime read_until_ = kNever;
  SteadyTime write_until_ = kNever;
  SteadyTime armed_for_ = kNever;
  bool armed_ = false;
  bool read_timed_out_ = false;
  bool write_timed_out_ = false;
};

}  // namespace

std::shared_ptr<Transport> make_transport(Socket socket) {
  return std::make_shared<SocketTransport>(std::move(socket));
}

void set_no_delay(Socket& socket) {
  const int on = 1;
  ::setsockopt(socket.native_handle(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

std::string peer_name(Socket& socket) {
  sockaddr_storage storage{};
  socklen_t size = sizeof storage;
  if (::getpeername(socket.native_handle(), reinterpret_cast<sockaddr*>(&storage), &size) != 0) return "gone";
  char text[INET6_ADDRSTRLEN] = {};
  if (storage.ss_family == AF_INET) {
    const auto& in = reinterpret_cast<const sockaddr_in&>(storage);
    ::inet_ntop(AF_INET, &in.sin_addr, text, sizeof text);
    return std::string(text) + ":" + std::to_string(ntohs(in.sin_port));
  }
  if (storage.ss_family == AF_INET6) {
    const auto& in = reinterpret_cast<const sockaddr_in6&>(storage);
    ::inet_ntop(AF_INET6, &in.sin6_addr, text, sizeof text);
    return "[" + std::string(text) + "]:" + std::to_string(ntohs(in.sin6_port));
  }
  return "unix";
}

}  // namespace tutti::http
