// `<state dir>/lease`: one int64, CLOCK_BOOTTIME µs at which all ranks of this node must be dead. Written by
// the worker, mapped by every supervisor; never replaced or cut, so that all of them see each renewal at
// once.
#pragma once

#include <cstdint>
#include <string>

namespace tutti::worker {

class LeaseFile {
 public:
  /// Opens or makes it; `reset`: a former boot's value means nothing on this clock. Throws std::system_error.
  LeaseFile(const std::string& path, bool reset);
  ~LeaseFile();
  LeaseFile(const LeaseFile&) = delete;
  LeaseFile& operator=(const LeaseFile&) = delete;

  void store(std::int64_t until_boot_us);
  std::int64_t load() const;

 private:
  std::int64_t* page_ = nullptr;
};

}  // namespace tutti::worker
