// Tells the service manager that the scheduler works. That a timer goes off would say little: a word is sent
// only when a command of ours has gone the way of all commands, through the leader's inbox, a decision and
// its commit. While there is nothing to decide with (a standby, or the rows are being read), a refusal
// counts. A leader whose commit never returns sends nothing and is started anew; one whose inbox is full works.
//
// Control thread only; the leader outlives it.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>

#include "daemon/notify.h"
#include "scheduler/service/leader.h"

namespace tutti {

class Watchdog {
 public:
  Watchdog(boost::asio::io_context& io, daemon::ServiceManager& manager, Leader& leader);
  void stop() { timer_.cancel(); }

 private:
  void wait();
  void ask();

  boost::asio::steady_timer timer_;
  daemon::ServiceManager& manager_;
  Leader& leader_;
  bool asked_ = false;  // and not answered yet
};

}  // namespace tutti
