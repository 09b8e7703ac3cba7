// Starting a helper program from the worker's only thread, and seeing it end through its pidfd.
#pragma once

#include <sys/types.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace tutti::worker {

struct SpawnRequest {
  std::vector<std::string> argv;
  bool own_session = false;  // lives on when we and our group are killed
  int in = -1, out = -1;     // -1 = /dev/null
  std::string log;           // file that stderr (and stdout, if `out` is -1) are appended to; "" = inherited
};
/// Throws std::system_error.
pid_t spawn_child(const SpawnRequest&);

/// A process, ours or not, whose number cannot be reused while we look at it. `on_end` is called once, from
/// the io_context, unless this is destroyed before.
class Watched {
 public:
  /// Throws std::system_error, with ESRCH when there is no such process.
  Watched(boost::asio::io_context& io, pid_t pid, std::function<void()> on_end);
  ~Watched();
  Watched(const Watched&) = delete;
  Watched& operator=(const Watched&) = delete;

  pid_t pid() const { return pid_; }
  void signal(int number);

 private:
  void wait();

  pid_t pid_;
  std::function<void()> on_end_;
  boost::asio::posix::stream_descriptor fd_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace tutti::worker
