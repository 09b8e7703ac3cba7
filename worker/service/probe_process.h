// The probe process as the worker sees it: started, listened to, killed when it shows no sign of life,
// started again. Lives on the worker's thread; the probe ends with us (its input closes).
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/streambuf.hpp>
#include <chrono>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "worker/nvml/probe_messages.h"
#include "worker/service/child.h"

namespace tutti::worker {

class ProbeProcess {
 public:
  struct Events {
    std::function<void(const nvml::Message&)> on_message;
    std::function<void()> on_lost;  // it died or was killed; another one comes when it has gone
    /// No sign of life in time: it is killed. So many times in a row, by the same one too that does not die;
    /// NVML itself hangs.
    std::function<void(int times)> on_hung;
  };
  static constexpr int kHungTimes = 3;

  struct Deadlines {
    std::chrono::milliseconds first;  // for the first sign of life: the driver may have to wake the GPUs
    std::chrono::milliseconds each;   // for every later one
  };
  ProbeProcess(boost::asio::io_context& io, std::vector<std::string> argv, Deadlines deadlines,
               Events events);
  ~ProbeProcess();

  void start();
  void ask(
      const nvml::ProcessesCommand&);  // lost if no probe is up: the answer is not waited for without end

 private:
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace tutti::worker
