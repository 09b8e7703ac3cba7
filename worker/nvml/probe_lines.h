// The two ends of the probe's conversation: whole lines out, whole commands in. Used by Probe only.
//
// Invariants
// 1. A line is written whole, whichever thread writes it, before the next one begins.
// 2. When the worker is gone (end of input, broken output) the process ends at once, even while another
// thread is
//    stuck in NVML: nobody is left to tell.
#pragma once

#include <functional>
#include <mutex>
#include <string>
#include <thread>

#include "worker/nvml/probe_messages.h"

namespace tutti::nvml {

class LineWriter {
 public:
  explicit LineWriter(int descriptor) : descriptor_(descriptor) {}
  void write(const Message& message);

 private:
  std::mutex mutex_;
  int descriptor_;
};

// Reads commands until the input ends, then ends the process. Malformed or overlong lines are skipped: the
// worker's deadline on the answer notices.
[[noreturn]] void read_commands(int descriptor, const std::function<void(ProcessesCommand)>& on_command);

}  // namespace tutti::nvml
