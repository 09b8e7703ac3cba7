// One event set of the double: follows the event log of a simulated machine and hands out what concerns its
// registered GPUs. Made by the Driver; a set is waited on by one thread, and may be registered with by
// another.
//
// Invariants
// 1. Each event is handed out at most once per set, and none that was written before its GPU was registered.
// 2. wait() sleeps in the kernel until the folder changes or the time is over; it never spins.
#pragma once

#include <chrono>
#include <map>
#include <mutex>
#include <optional>
#include <string>

#include "worker/nvml/double/sim_files.h"

namespace tutti::nvml::sim {

class EventReader {
 public:
  explicit EventReader(const Folder& folder);
  ~EventReader();
  EventReader(const EventReader&) = delete;
  EventReader& operator=(const EventReader&) = delete;

  // From now on; a second call for the same GPU widens the mask and keeps its beginning.
  bool add(const std::string& uuid, unsigned long long mask);
  // Nothing when the time is over, or a signal came.
  std::optional<Event> wait(std::chrono::milliseconds timeout);

 private:
  struct Registration {
    unsigned long long mask = 0;
    long long since = 0;  // offset in the log
  };
  std::optional<Event> next();
  bool fill();

  std::mutex mutex_;
  std::map<std::string, Registration> registrations_;
  int log_ = -1;
  int watch_ = -1;        // inotify; -1 when the system has none left: then short naps
  long long offset_ = 0;  // where `pending_` begins in the log
  std::string pending_;   // read but not handed out, at most kMaxPending
};

}  // namespace tutti::nvml::sim
