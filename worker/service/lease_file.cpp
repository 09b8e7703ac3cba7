#include "worker/service/lease_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <bit>

#include "worker/supervisor/files.h"

namespace tutti::worker {

static_assert(std::endian::native == std::endian::little, "the lease file is little-endian");

LeaseFile::LeaseFile(const std::string& path, bool reset) {
  const supervisor::Fd fd(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!fd) supervisor::throw_errno("open " + path);
  struct stat s{};
  if (fstat(fd.get(), &s) != 0) supervisor::throw_errno("stat " + path);
  if (s.st_size < static_cast<off_t>(sizeof *page_) && ftruncate(fd.get(), sizeof *page_) != 0)
    supervisor::throw_errno("truncate " + path);
  void* page = mmap(nullptr, sizeof *page_, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
  if (page == MAP_FAILED) supervisor::throw_errno("mmap " + path);
  page_ = static_cast<std::int64_t*>(page);
  if (reset) store(0);
}

LeaseFile::~LeaseFile() { munmap(page_, sizeof *page_); }

void LeaseFile::store(std::int64_t until_boot_us) {
  std::atomic_ref(*page_).store(until_boot_us, std::memory_order_release);
}

std::int64_t LeaseFile::load() const { return std::atomic_ref(*page_).load(std::memory_order_acquire); }

}  // namespace tutti::worker
