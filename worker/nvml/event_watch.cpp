// See event_watch.h.
#include "worker/nvml/event_watch.h"

#include <algorithm>
#include <chrono>

#include "worker/nvml/boot_clock.h"

namespace tutti::nvml {
namespace {

constexpr unsigned kWaitMs = 1000;
constexpr auto kPauseAfterTrouble = std::chrono::seconds(1);
constexpr unsigned long long kWanted =
    kEventXid | kEventDoubleBitEcc | kEventGpuUnavailable | kEventRecoveryAction;

}  // namespace

EventWatch::EventWatch(const Symbols& nvml, std::vector<Device> devices, Callbacks callbacks)
    : nvml_(nvml), callbacks_(std::move(callbacks)), devices_(std::move(devices)) {
  if (supported() && !devices_.empty()) create_set();
}

bool EventWatch::supported() const {
  return nvml_.nvmlEventSetCreate && nvml_.nvmlDeviceRegisterEvents && nvml_.nvmlEventSetWait_v2 &&
         nvml_.nvmlEventSetFree && nvml_.nvmlDeviceGetSupportedEventTypes;
}

void EventWatch::start() {
  if (!supported() || devices_.empty() || thread_.joinable()) return;
  last_return_us_ = boot_us();
  thread_ = std::thread([this] { run(); });
}

EventWatch::~EventWatch() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  stop_signal_.notify_all();
  if (thread_.joinable()) thread_.join();
  if (set_ != nullptr) nvml_.nvmlEventSetFree(set_);
}

void EventWatch::register_again(Device device) {
  std::lock_guard lock(mutex_);
  if (std::find(again_.begin(), again_.end(), device) == again_.end()) again_.push_back(device);
}

bool EventWatch::create_set() {
  set_ = nullptr;
  if (nvml_.nvmlEventSetCreate(&set_) != Return::success) {
    set_ = nullptr;  // whatever a failed call left there
    return false;
  }
  for (Device device : devices_) register_device(device);
  return true;
}

// Only what the GPU supports: asking for more registers nothing at all. A lost GPU refuses; it is registered
// again when it is back.
void EventWatch::register_device(Device device) {
  unsigned long long supported = 0;
  if (nvml_.nvmlDeviceGetSupportedEventTypes(device, &supported) != Return::success) return;
  if ((supported & kWanted) != 0) nvml_.nvmlDeviceRegisterEvents(device, supported & kWanted, set_);
}

void EventWatch::take_new_devices() {
  std::vector<Device> again;
  {
    std::lock_guard lock(mutex_);
    again.swap(again_);
  }
  for (Device device : again) {
    if (std::find(devices_.begin(), devices_.end(), device) == devices_.end()) devices_.push_back(device);
    if (set_ != nullptr) register_device(device);
  }
}

void EventWatch::pause_after_trouble() {
  std::unique_lock lock(mutex_);
  stop_signal_.wait_for(lock, kPauseAfterTrouble, [this] { return stopping_; });
}

void EventWatch::run() {
  for (;;) {
    {
      std::lock_guard lock(mutex_);
      if (stopping_) return;
    }
    run_once();
    last_return_us_ = boot_us();
  }
}

void EventWatch::run_once() {
  take_new_devices();
  if (set_ == nullptr && !create_set()) {
    pause_after_trouble();
    return;
  }
  EventData data{};
  const Return result = nvml_.nvmlEventSetWait_v2(set_, &data, kWaitMs);
  if (result == Return::success) return callbacks_.on_event(data);
  if (result == Return::timeout) return;
  // One lost GPU may fail the wait for all: go on with a new set for those that still answer, registered
  // before the pause so that what happens during it is not missed.
  nvml_.nvmlEventSetFree(set_);
  create_set();
  callbacks_.on_trouble(result);
  pause_after_trouble();
}

}  // namespace tutti::nvml
