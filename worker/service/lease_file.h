// One int64, CLOCK_BOOTTIME µs at which all ranks of an attempt (`<attempt's directory>/lease`) must be dead;
// in `<state dir>/lease` that of the node itself, for the next worker. Written by the worker, mapped by the
// attempt's supervisor; never replaced or cut, so that it sees each renewal at once.
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
