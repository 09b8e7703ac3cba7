// The time at which all of this machine's ranks must be dead, as the worker last wrote it. Owned by the
// supervisor. The file's page is mapped and locked, so that looking at it touches no disk when it matters
// most.
#pragma once

#include <cstdint>
#include <string>

#include "worker/supervisor/fd.h"

namespace tutti::supervisor {

class Lease {
 public:
  // "" = no lease, it never ends. A file that is missing or too short counts as ending `missing_until_us`.
  Lease(std::string path, std::int64_t missing_until_us);
  ~Lease();
  Lease(const Lease&) = delete;
  Lease& operator=(const Lease&) = delete;

  std::int64_t until_us();  // CLOCK_BOOTTIME

 private:
  bool map();

  std::string path_;
  std::int64_t missing_until_us_;
  Fd fd_;
  const std::int64_t* page_ = nullptr;
};

}  // namespace tutti::supervisor
