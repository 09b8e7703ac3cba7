// The simulated driver behind the double's exported calls: reference count, the state it answers from, device
// handles, scripted misbehaviour, and event sets. One per process that loads the double; called from any
// thread.
//
// Invariants
// 1. The state is read again at most once per second, and at once after an event: polling stays cheap, and
// who
//    was woken by an Xid already sees what it did.
// 2. A handle stands for a UUID as long as the library is loaded, so re-ordered or re-made state cannot turn
// one
//    GPU into another under a caller.
// 3. Scripted delays and hangs are served outside the mutex: one stuck call does not stop the others.
#pragma once

#include <array>
#include <chrono>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "worker/nvml/abi.h"
#include "worker/nvml/double/event_log.h"
#include "worker/nvml/double/sim_files.h"

namespace tutti::nvml::sim {

enum class Access {
  identity,  // answered from what the driver remembers: works on a GPU that waits for a reset
  live,      // has to ask the GPU
};

class Driver {
 public:
  static Driver& instance();

  Return init();
  Return shutdown();

  // The beginning of every other call: scripted faults for `call`, then "is the library initialized?".
  Return enter(const char* call);

  std::shared_ptr<const State> state();
  Return device(Device handle, Access access, Gpu& gpu);
  Return handle_for(const std::string& uuid, Device* handle);
  // The handle of a UUID, making one if needed; null when there are too many.
  Device slot_of(const std::string& uuid);

  Return create_set(EventSet* set);
  Return free_set(EventSet set);
  std::shared_ptr<EventReader> find_set(EventSet set);
  void forget_state();  // the next call reads it again

 private:
  Return reload(bool force);
  void suffer(const std::vector<CallFault>& faults, const char* call, Return& result);

  std::mutex mutex_;
  unsigned references_ = 0;
  Folder folder_;
  std::shared_ptr<const State> state_;
  std::chrono::steady_clock::time_point loaded_at_;
  std::vector<std::string> slots_;        // UUID of each handle
  std::array<char, kMaxGpus> handles_{};  // their addresses are the handles
  std::map<EventSet, std::shared_ptr<EventReader>> sets_;
};

}  // namespace tutti::nvml::sim
