// Who uses the simulated GPUs: the processes that hold a device file open, as /proc tells. This makes "no
// process is left on the GPU" a fact about real processes, also for those that escaped their process group.
// One per process, inside the double; called from any thread.
//
// Invariants
// 1. `now` looks after it was called: who asks whether a killed process is gone never gets an older answer.
// 2. `recently` may be up to a second old: load and temperature are asked often, and a look costs
// milliseconds.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <map>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

namespace tutti::nvml::sim {

class Holders {
 public:
  static Holders& instance();

  // Sorted, each process once. Processes of other users are seen only by root.
  std::vector<unsigned> now(const std::string& device_path);
  std::vector<unsigned> recently(const std::string& device_path);

 private:
  using File = std::pair<dev_t, ino_t>;
  using Found = std::map<File, std::vector<unsigned>>;
  static Found look();
  static std::vector<unsigned> of(const Found& found, const std::string& device_path);

  std::mutex mutex_;
  Found found_;
  std::chrono::steady_clock::time_point looked_at_;
};

}  // namespace tutti::nvml::sim
