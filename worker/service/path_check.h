// Looks at paths by helper processes (tutti-node-check), because a file system that hangs hangs whoever
// touches it. On the worker's thread; answers come back there. A helper that is late is killed and its answer
// given at once; who asks the same while a look is under way gets its answer. One that cannot be killed (it
// waits in the kernel) is kept in mind: until it ends, the same question is answered with "still hangs" and
// starts no other.
#pragma once

#include <boost/asio/io_context.hpp>
#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace tutti::worker {

class PathChecks {
 public:
  struct Answer {
    bool ok = false;
    bool hangs = false;  // no answer in time
    std::string text;    // what the helper said, or why there is nothing
    std::chrono::microseconds took{};
  };
  PathChecks(boost::asio::io_context& io, std::string program);
  ~PathChecks();

  /// `words` for tutti-node-check, such as {"space", "/tmp"}.
  void run(std::vector<std::string> words, std::chrono::milliseconds deadline,
           std::function<void(Answer)> done);

 private:
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace tutti::worker
