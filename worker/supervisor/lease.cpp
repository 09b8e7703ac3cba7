#include "worker/supervisor/lease.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <limits>
#include <utility>

namespace tutti::supervisor {
namespace {

bool long_enough(const Fd& fd) {
  struct stat s{};
  return fstat(fd.get(), &s) == 0 && s.st_size >= static_cast<off_t>(sizeof(std::int64_t));
}

}  // namespace

Lease::Lease(std::string path, std::int64_t missing_until_us)
    : path_(std::move(path)), missing_until_us_(missing_until_us) {
  if (!path_.empty()) map();
}

Lease::~Lease() {
  if (page_ != nullptr) munmap(const_cast<std::int64_t*>(page_), sizeof(std::int64_t));
}

bool Lease::map() {
  Fd fd(open(path_.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd || !long_enough(fd)) return false;
  void* at = mmap(nullptr, sizeof(std::int64_t), PROT_READ, MAP_SHARED, fd.get(), 0);
  if (at == MAP_FAILED) return false;
  (void)!mlock(at, sizeof(std::int64_t));  // may be above our limit: then it is only likely to stay
  page_ = static_cast<const std::int64_t*>(at);
  fd_ = std::move(fd);
  return true;
}

std::int64_t Lease::until_us() {
  if (path_.empty()) return std::numeric_limits<std::int64_t>::max();
  if (page_ == nullptr && !map()) return missing_until_us_;
  if (!long_enough(fd_)) return missing_until_us_;  // truncated: touching the page would be fatal
  return __atomic_load_n(page_, __ATOMIC_ACQUIRE);
}

}  // namespace tutti::supervisor
