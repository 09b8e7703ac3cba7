// Keeps one link to whichever scheduler accepts it: addresses in turn, jittered back-off between tries, and
// where a standby says that the leader is. Lives on the worker's thread. Nothing is queued while there is no
// link: the worker says everything again anyway.
#pragma once

#include <boost/asio/io_context.hpp>
#include <functional>
#include <memory>
#include <string>

#include "worker/service/settings.h"

namespace tutti::worker {

class SchedulerClient {
 public:
  struct Events {
    std::function<void(const Peer&)> on_connected;
    std::function<void(std::string text)> on_message;
    std::function<void(const std::string& why)> on_disconnected;
  };
  SchedulerClient(boost::asio::io_context& io, const Settings& settings, Events events);
  ~SchedulerClient();

  void start();
  void send(std::string text);
  /// The scheduler has accepted us: the next loss begins with the shortest back-off, and the same address.
  void on_welcome();
  /// It has not: logged once, the link is given up, the next address is tried.
  void refused(const std::string& why);
  /// It is a standby, and this is the leader's URL ("": nobody leads): that address is tried next, unless it
  /// is not encrypted and the standby's is.
  void redirected(const std::string& why, const std::string& leader);

 private:
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace tutti::worker
