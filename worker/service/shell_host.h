// People's commands inside attempts, as far as the worker has to do with them: passes bytes between the
// scheduler and each tutti-shell, which the attempt's supervisor starts. On the worker's thread.
//
//   1. No shell outlives the connection to the scheduler over which it was opened: close_all().
//   2. At most kShellWindow bytes are under way in either direction: no more is read from a shell than the
//      scheduler has granted, no more is granted to the scheduler than has been handed to the shell.
//   3. on_closed is said exactly once for each open(), and nothing after it.
#pragma once

#include <boost/asio/io_context.hpp>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "scheduler/model/protocol.h"
#include "worker/supervisor/messages.h"

namespace tutti::worker {

class ShellHost {
 public:
  struct Events {
    std::function<void(const protocol::FromWorker&)> say;  // to the scheduler
    std::function<void(AttemptKey, supervisor::OpenShell)> tell_supervisor;
  };
  /// `program`: tutti-shell, "" = not installed.
  ShellHost(boost::asio::io_context& io, std::string program, Events events);
  ~ShellHost();

  /// `dir`: of the attempt; `login_shell`: what is run if nothing is named.
  void open(const protocol::OpenShell&, const std::string& dir, const std::string& login_shell);
  void refuse(std::int64_t shell, const std::string& why) const;
  void input(const protocol::ShellInput&);
  void resize(const protocol::ShellResize&);
  void close(std::int64_t shell);
  void close_all();

 private:
  struct Shell;
  std::shared_ptr<Shell> find(std::int64_t shell) const;
  void finish(std::int64_t shell, protocol::ShellClosed last);

  boost::asio::io_context& io_;
  const std::string program_;
  const Events events_;
  std::map<std::int64_t, std::shared_ptr<Shell>> shells_;
  std::int64_t next_ = 1;  // for names of sockets: the scheduler's numbers begin anew with each of its lives
};

}  // namespace tutti::worker
