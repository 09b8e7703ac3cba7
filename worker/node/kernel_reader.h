// Reads the kernel log on a thread of its own, because that blocks. /dev/kmsg gives one record per read and
// tells what it has overwritten; a FIFO, a regular file or a socket in its place (tests, a relay) is split at
// lines. The callbacks run on that thread.
//
//   1. The thread never waits for its user, and ends within a second of being told to.
//   2. What cannot be opened is said once; it is tried again, silently, until it can be.
//   3. Records are given in order; lost ones are counted.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>
#include <thread>

#include "worker/node/kernel_clock.h"
#include "worker/node/kernel_log.h"

namespace tutti::node {

class KernelReader {
 public:
  struct Events {
    /// Its time is CLOCK_BOOTTIME. `live`: written since we opened the log, not found in it.
    std::function<void(KernelRecord, bool live)> on_record;
    std::function<void(std::uint64_t records)>
        on_loss;                                    // overwritten before they were read; 0: unknown how many
    std::function<void(std::string why)> on_state;  // "" = it is being read; else why it cannot be
  };
  using Clock = std::function<Arrival()>;
  KernelReader(std::string path, Events events, Clock clock = &read_arrival);
  ~KernelReader();
  KernelReader(const KernelReader&) = delete;
  KernelReader& operator=(const KernelReader&) = delete;

 private:
  static Arrival read_arrival();
  void run();
  bool read_until_trouble(int fd, bool one_record_per_read);
  void take_lines(std::string& buffer, bool all);
  void take_record(std::string_view text);
  void say(std::string why);
  bool pause();

  std::string path_;
  Events events_;
  Clock read_clock_;
  KernelClock clock_;
  bool live_ = false;  // all that lay in the log when it was opened has been read
  int stop_fd_;
  std::atomic<bool> stopping_{false};
  std::uint64_t next_number_ = 0;  // 0: none read yet
  bool said_ = false;
  std::string state_;
  std::thread thread_;
};

}  // namespace tutti::node
