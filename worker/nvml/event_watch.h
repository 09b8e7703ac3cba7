// Waits for NVML's own events (Xids, double-bit errors) on a thread of its own, because the wait blocks. Made
// by the probe for the time the library is started; its callbacks run on that thread.
//
// Invariants
// 1. GPUs are registered in the constructor: nothing that happens after it is missed.
// 2. Each wait lasts at most a second, so that destruction is prompt; only a call that hangs can delay it,
// and then
//    `last_return_us` stands still, which the probe takes for not being alive.
// 3. A failing wait never ends the watch: GPUs that still answer are registered anew in a new set.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "worker/nvml/library.h"

namespace tutti::nvml {

class EventWatch {
 public:
  struct Callbacks {
    std::function<void(const EventData&)> on_event;
    std::function<void(Return)> on_trouble;  // the wait failed: the GPUs should be looked at now
  };
  EventWatch(const Symbols& nvml, std::vector<Device> devices, Callbacks callbacks);
  ~EventWatch();
  EventWatch(const EventWatch&) = delete;
  EventWatch& operator=(const EventWatch&) = delete;

  // From here on the callbacks come. Apart from construction, so that the owner can first say what it has
  // found.
  void start();
  // False when the library has no events or there is no GPU: then there is no thread either.
  bool running() const { return thread_.joinable(); }
  std::int64_t last_return_us() const { return last_return_us_.load(); }
  // A GPU that came back after a reset has to be registered again; done between two waits.
  void register_again(Device device);

 private:
  bool supported() const;
  bool create_set();
  void register_device(Device device);
  void run();
  void run_once();
  void take_new_devices();
  void pause_after_trouble();

  const Symbols& nvml_;
  Callbacks callbacks_;
  EventSet set_ = nullptr;
  std::vector<Device> devices_;  // owned by the thread once it runs
  std::atomic<std::int64_t> last_return_us_{0};

  std::mutex mutex_;
  std::condition_variable stop_signal_;
  bool stopping_ = false;
  std::vector<Device> again_;
  std::thread thread_;
};

}  // namespace tutti::nvml
