// The deadlines that both kinds of transport share. Included by transport.cpp and tls_transport.cpp only.
//
// The timer is armed lazily: moving a deadline later costs nothing, so a busy connection touches no timer
// queue. A read that is late is cancelled (an answer may still be written), a write that is late closes the
// socket.
#pragma once

#include <algorithm>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <string>

#include "api/http/transport.h"

namespace tutti::http {

inline constexpr auto kAwait = asio::as_tuple(asio::use_awaitable);
inline constexpr auto kNoDeadline = SteadyTime::max();

class TimedTransport : public Transport, public std::enable_shared_from_this<TimedTransport> {
 public:
  explicit TimedTransport(Socket& socket) : timer_(socket.get_executor()), peer_(peer_name(socket)) {
    boost::system::error_code ignored;
    socket.non_blocking(true, ignored);
    set_no_delay(socket);
    set_keep_alive(socket);
  }

  void close() override {
    boost::system::error_code ignored;
    socket().close(ignored);
    timer_.cancel();
  }
  const std::string& peer() const override { return peer_; }

  asio::awaitable<void> drain(SteadyTime until, std::size_t most) override {
    std::array<char, 4096> scrap;
    std::size_t drained = 0;
    begin_read(until);
    while (drained < most) {
      const auto into = asio::buffer(scrap);
      const auto [error, bytes] = co_await socket().async_read_some(into, kAwait);
      if (error) break;
      drained += bytes;
    }
    read_until_ = kNoDeadline;
  }

 protected:
  virtual Socket& socket() = 0;

  void begin_read(SteadyTime until) {
    read_until_ = until;
    read_timed_out_ = false;
    arm();
  }
  /// True if it was the deadline that ended it.
  bool end_read(const boost::system::error_code& error) {
    read_until_ = kNoDeadline;
    return error && read_timed_out_;
  }
  void begin_write(SteadyTime until) {
    write_until_ = until;
    arm();
  }
  bool end_write(const boost::system::error_code& error) {
    write_until_ = kNoDeadline;
    return error && write_timed_out_;
  }
  void stop_timer() { timer_.cancel(); }

 private:
  /// Makes sure the timer fires no later than the nearest deadline. Earlier is fine: it looks again then.
  void arm() {
    const auto next = std::min(read_until_, write_until_);
    if (next == kNoDeadline || (armed_ && armed_for_ <= next)) return;
    armed_ = true;
    armed_for_ = next;
    timer_.expires_at(next);
    timer_.async_wait([weak = weak_from_this()](boost::system::error_code error) {
      if (error) return;
      if (const auto self = weak.lock()) self->on_timer();
    });
  }

  void on_timer() {
    armed_ = false;
    const auto now = std::chrono::steady_clock::now();
    boost::system::error_code ignored;
    if (write_until_ <= now) {
      write_timed_out_ = true;
      write_until_ = kNoDeadline;
      socket().close(ignored);
      return;
    }
    if (read_until_ <= now) {
      read_timed_out_ = true;
      read_until_ = kNoDeadline;
      socket().cancel(ignored);
    }
    arm();
  }

  asio::steady_timer timer_;
  std::string peer_;
  SteadyTime read_until_ = kNoDeadline;
  SteadyTime write_until_ = kNoDeadline;
  SteadyTime armed_for_ = kNoDeadline;
  bool armed_ = false;
  bool read_timed_out_ = false;
  bool write_timed_out_ = false;
};

}  // namespace tutti::http
