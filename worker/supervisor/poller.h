// A single-threaded epoll loop: descriptors with handlers, and one wake-up time on CLOCK_BOOTTIME.
// Owned by the supervisor's only thread. A handler may add and remove descriptors, its own too.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>

#include "worker/supervisor/fd.h"

namespace tutti::supervisor {

class Poller {
 public:
  using Handler = std::function<void(std::uint32_t events)>;

  Poller();
  void add(int fd, std::uint32_t events, Handler handler);
  void change(int fd, std::uint32_t events);
  void remove(int fd);  // before it is closed
  // Runs the handlers of one round; returns at `wake_us` at the latest, when given.
  void run_once(std::optional<std::int64_t> wake_us);

 private:
  struct Entry {
    std::uint64_t generation =
        0;  // an event of a closed descriptor must not reach its successor of that number
    std::shared_ptr<Handler> handler;
  };
  Fd epoll_, timer_;
  std::map<int, Entry> entries_;
  std::uint32_t next_generation_ = 1;
};

}  // namespace tutti::supervisor
