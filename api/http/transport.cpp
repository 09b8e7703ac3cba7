#include "api/http/transport.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>
#include <utility>

#include "api/http/timed_transport.h"
#include "api/http/wire_stream.h"

namespace tutti::http {
namespace {

using boost::system::error_code;

class SocketTransport final : public TimedTransport {
 public:
  explicit SocketTransport(Socket connected) : TimedTransport(connected), socket_(std::move(connected)) {}

  asio::awaitable<bool> handshake(SteadyTime) override { co_return true; }

  asio::awaitable<IoResult> read_some(asio::mutable_buffer into, SteadyTime until) override {
    begin_read(until);
    const auto [error, bytes] = co_await socket_.async_read_some(into, kAwait);
    IoResult result;
    result.bytes = bytes;
    result.error = error;
    result.timed_out = end_read(error);
    co_return result;
  }

  asio::awaitable<IoResult> write(Gather buffers, Pace pace) override {
    IoResult result;
    const auto total = buffers[0].size() + buffers[1].size();
    const auto began = std::chrono::steady_clock::now();
    while (result.bytes < total) {
      // Nearly always the kernel takes it at once: no wait, no trip through the reactor.
      const auto wrote = socket_.write_some(buffers, result.error);
      if (result.error == asio::error::would_block || result.error == asio::error::try_again) {
        begin_write(pace.until(began, result.bytes));
        const auto [error] = co_await socket_.async_wait(Socket::wait_write, kAwait);
        result.error = error;
        result.timed_out = end_write(error);
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

  bool tls() const override { return false; }
  std::string peer_certificate() const override { return {}; }

  std::shared_ptr<WireStream> release() override {
    stop_timer();
    return std::make_shared<WireStream>(std::move(socket_));
  }

 private:
  Socket& socket() override { return socket_; }

  Socket socket_;
};

}  // namespace

SteadyTime Pace::until(SteadyTime began, std::size_t bytes) const {
  const auto progress = std::chrono::steady_clock::now() + patience;
  if (rate == 0) return progress;
  return std::min(progress, began + patience + std::chrono::milliseconds(bytes * 1000 / rate));
}

std::shared_ptr<Transport> make_transport(Socket socket, TlsServer* tls) {
  if (tls != nullptr) return make_tls_transport(std::move(socket), tls->context());
  return std::make_shared<SocketTransport>(std::move(socket));
}

void set_no_delay(Socket& socket) {
  const int on = 1;
  ::setsockopt(socket.native_handle(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

void set_keep_alive(Socket& socket) {
  const auto set = [&socket](int level, int name, int value) {
    ::setsockopt(socket.native_handle(), level, name, &value, sizeof value);
  };
  set(SOL_SOCKET, SO_KEEPALIVE, 1);
  set(IPPROTO_TCP, TCP_KEEPIDLE, 60);
  set(IPPROTO_TCP, TCP_KEEPINTVL, 15);
  set(IPPROTO_TCP, TCP_KEEPCNT, 4);
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
