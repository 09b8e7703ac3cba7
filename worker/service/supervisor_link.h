// The worker's side of one supervisor: starts it (or finds the one that a former worker started), keeps a
// connection to it, hears of its death. Lives on the worker's thread.
//
//   1. The supervisor outlives us: its own session, no parent-death signal, no pipe to us.
//   2. `on_gone` comes exactly once, and nothing after it. A supervisor that does not come up, or does not go
//      after Quit, is killed by its pidfd, so `on_gone` comes then too.
//   3. Commands wait for the connection, at most kMaxWaiting; what was sent over a connection that broke is
//      lost, and on_status(first_of_connection) says so.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/streambuf.hpp>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "worker/service/child.h"
#include "worker/supervisor/messages.h"

namespace tutti::worker {

class SupervisorLink {
 public:
  struct Events {
    std::function<void(const supervisor::Status&, bool first_of_connection)> on_status;
    std::function<void()> on_gone;
  };
  static constexpr std::size_t kMaxWaiting = 64;

  SupervisorLink(boost::asio::io_context& io, std::string dir, std::chrono::milliseconds deadline,
                 Events events);
  ~SupervisorLink();

  void start(const std::string& program);  // throws std::system_error when it cannot be started
  void adopt(pid_t pid);                   // likewise, when there is no such process
  void send(const supervisor::ToSupervisor& command);
  /// After Quit: half the deadline, then SIGKILL.
  void expect_end();

 private:
  struct State;
  std::shared_ptr<State> state_;
};

/// The process that listens on `<dir>/supervisor.sock`, or that holds the supervisor's lock without listening
/// (yet); 0 = none.
pid_t find_supervisor(const std::string& dir);

}  // namespace tutti::worker
