// See driver.h.
#include "worker/nvml/double/driver.h"

#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdlib>

namespace tutti::nvml::sim {
namespace {

// Shorter than any poll: what a GPU does is seen by the next look at it, as with a real one.
constexpr auto kStateLifetime = std::chrono::milliseconds(100);
constexpr std::size_t kMaxSets = 64;

void sleep_milliseconds(long long milliseconds) {
  if (milliseconds < 0) {
    for (;;) pause();
  }
  timespec left{milliseconds / 1000, (milliseconds % 1000) * 1'000'000};
  while (clock_nanosleep(CLOCK_MONOTONIC, 0, &left, &left) == EINTR) {
  }
}

}  // namespace

Driver& Driver::instance() {
  // Never destroyed: a thread may still be inside a call when the process exits.
  static Driver* const driver = new Driver;
  return *driver;
}

Return Driver::reload(bool force) {
  const auto now = std::chrono::steady_clock::now();
  if (!force && state_ && now - loaded_at_ < kStateLifetime) return Return::success;
  loaded_at_ = now;
  std::string problem;
  auto fresh = load_state(folder_, problem);
  if (fresh) state_ = std::make_shared<const State>(std::move(*fresh));
  // An unreadable new state keeps the old one: a driver does not vanish because of a bad edit.
  return state_ ? Return::success : Return::driver_not_loaded;
}

Return Driver::init() {
  std::vector<CallFault> faults;
  {
    std::lock_guard lock(mutex_);
    if (references_ == 0) {
      const char* path = std::getenv("TUTTI_NVML_DOUBLE_STATE");
      if (path == nullptr || *path == '\0') return Return::driver_not_loaded;
      folder_ = folder_of(path);
      state_.reset();
    }
    if (Return result = reload(true); result != Return::success) return result;
    faults = state_->faults;
  }
  Return result = Return::success;
  suffer(faults, "nvmlInit_v2", result);
  if (result != Return::success) return result;
  std::lock_guard lock(mutex_);
  ++references_;
  return Return::success;
}

Return Driver::shutdown() {
  std::lock_guard lock(mutex_);
  if (references_ == 0) return Return::uninitialized;
  if (--references_ == 0) sets_.clear();
  return Return::success;
}

Return Driver::enter(const char* call) {
  std::vector<CallFault> faults;
  {
    std::lock_guard lock(mutex_);
    if (references_ == 0) return Return::uninitialized;
    if (Return result = reload(false); result != Return::success) return result;
    faults = state_->faults;
  }
  Return result = Return::success;
  suffer(faults, call, result);
  return result;
}

void Driver::suffer(const std::vector<CallFault>& faults, const char* call, Return& result) {
  for (const CallFault& fault : faults) {
    if (!concerns(fault, call)) continue;
    switch (fault.kind) {
      case CallFault::Kind::hang:
      case CallFault::Kind::slow: sleep_milliseconds(fault.value); break;
      case CallFault::Kind::fail: result = static_cast<Return>(fault.value); break;
      case CallFault::Kind::crash:
        std::signal(SIGSEGV, SIG_DFL);
        std::raise(SIGSEGV);
        break;
    }
  }
}

std::shared_ptr<const State> Driver::state() {
  std::lock_guard lock(mutex_);
  return state_;
}

void Driver::forget_state() {
  std::lock_guard lock(mutex_);
  loaded_at_ = {};
}

Return Driver::device(Device handle, Access access, Gpu& gpu) {
  std::lock_guard lock(mutex_);
  const char* address = reinterpret_cast<const char*>(handle);
  const auto slot = static_cast<std::size_t>(address - handles_.data());
  if (handle == nullptr || address < handles_.data() || slot >= slots_.size())
    return Return::invalid_argument;
  const auto found = std::find_if(state_->gpus.begin(), state_->gpus.end(),
                                  [&](const Gpu& each) { return each.uuid == slots_[slot]; });
  if (found == state_->gpus.end()) return Return::gpu_is_lost;  // the state was re-made without it
  if (found->mode == GpuMode::lost) return Return::gpu_is_lost;
  if (found->mode == GpuMode::reset_required && access == Access::live) return Return::reset_required;
  gpu = *found;
  return Return::success;
}

Device Driver::slot_of(const std::string& uuid) {
  std::lock_guard lock(mutex_);
  auto found = std::find(slots_.begin(), slots_.end(), uuid);
  if (found == slots_.end()) {
    if (slots_.size() == handles_.size()) return nullptr;
    found = slots_.insert(slots_.end(), uuid);
  }
  return reinterpret_cast<Device>(handles_.data() + (found - slots_.begin()));
}

Return Driver::handle_for(const std::string& uuid, Device* handle) {
  const Device slot = slot_of(uuid);
  if (slot == nullptr) return Return::memory;
  Gpu gpu;
  const Return result = device(slot, Access::identity, gpu);
  if (result == Return::success) *handle = slot;
  return result;
}

Return Driver::create_set(EventSet* set) {
  std::lock_guard lock(mutex_);
  if (sets_.size() == kMaxSets) return Return::memory;
  auto reader = std::make_shared<EventReader>(folder_);
  *set = reinterpret_cast<EventSet>(reader.get());
  sets_.emplace(*set, std::move(reader));
  return Return::success;
}

Return Driver::free_set(EventSet set) {
  std::lock_guard lock(mutex_);
  return sets_.erase(set) == 1 ? Return::success : Return::invalid_argument;
}

std::shared_ptr<EventReader> Driver::find_set(EventSet set) {
  std::lock_guard lock(mutex_);
  const auto found = sets_.find(set);
  return found == sets_.end() ? nullptr : found->second;
}

}  // namespace tutti::nvml::sim
