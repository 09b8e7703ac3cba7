// Work of the control thread that comes again: by time, and by SIGHUP. Used by the wiring (parts.h,
// serving.h).
//
// Control thread only, and from the moment it is made. What its functions use outlives it, or the loop ends
// before. What they throw leaves io_context::run().
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <csignal>
#include <functional>
#include <utility>

#include "scheduler/model/time.h"

namespace tutti {

/// Does something again and again, as long as it lives.
class Repeated {
 public:
  /// `pause` is asked before each wait, `work` is done after it.
  Repeated(boost::asio::io_context& io, std::function<Duration()> pause, std::function<void()> work)
      : timer_(io), pause_(std::move(pause)), work_(std::move(work)) {
    wait();
  }
  void stop() { timer_.cancel(); }

 private:
  void wait() {
    timer_.expires_after(pause_());
    timer_.async_wait([this](boost::system::error_code ec) {
      if (ec) return;
      work_();
      wait();
    });
  }
  boost::asio::steady_timer timer_;
  std::function<Duration()> pause_;
  std::function<void()> work_;
};

/// Does something at each SIGHUP; while none lives that signal ends the process.
class ReloadSignal {
 public:
  ReloadSignal(boost::asio::io_context& io, std::function<void()> work)
      : work_(std::move(work)), signals_(io, SIGHUP) {
    wait();
  }
  void stop() { signals_.cancel(); }

 private:
  void wait() {
    signals_.async_wait([this](boost::system::error_code ec, int) {
      if (ec) return;
      work_();
      wait();
    });
  }
  std::function<void()> work_;
  boost::asio::signal_set signals_;
};

}  // namespace tutti
