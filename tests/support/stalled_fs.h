// A file server that stalls: who touches its files waits, and after a signal waits where no signal reaches.
#pragma once

#include <fcntl.h>
#include <linux/fuse.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cstring>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace tutti::test {

// A file system that answers nothing but its mount: who has asked it waits in the kernel, and no signal ends
// that, as in a driver that hangs. Only root can mount it, where the kernel has FUSE.
class StalledFileSystem {
 public:
  explicit StalledFileSystem(std::string at) : at_(std::move(at)) {
    fd_ = open("/dev/fuse", O_RDWR | O_CLOEXEC);
    const auto options = "fd=" + std::to_string(fd_) + ",rootmode=40000,user_id=0,group_id=0,allow_other";
    mounted_ = fd_ >= 0 && mount("stalled", at_.c_str(), "fuse", MS_NOSUID | MS_NODEV, options.c_str()) == 0;
    if (mounted_) thread_ = std::thread([this] { serve(); });
  }
  ~StalledFileSystem() {
    // All who wait get an error, and what was there before is seen again.
    if (mounted_) umount2(at_.c_str(), MNT_FORCE | MNT_DETACH);
    if (thread_.joinable()) thread_.join();
    if (fd_ >= 0) close(fd_);
  }
  StalledFileSystem(const StalledFileSystem&) = delete;
  StalledFileSystem& operator=(const StalledFileSystem&) = delete;
  bool mounted() const { return mounted_; }

 private:
  void serve() {
    std::vector<char> buffer(1 << 17);
    while (true) {
      const auto n = read(fd_, buffer.data(), buffer.size());
      if (n < static_cast<ssize_t>(sizeof(fuse_in_header))) return;  // unmounted
      fuse_in_header in{};
      std::memcpy(&in, buffer.data(), sizeof in);
      if (in.opcode != FUSE_INIT) continue;  // taken, and never answered
      struct {
        fuse_out_header head;
        fuse_init_out init;
      } out{};
      out.head.len = sizeof out;
      out.head.unique = in.unique;
      out.init.major = FUSE_KERNEL_VERSION;
      out.init.minor = FUSE_KERNEL_MINOR_VERSION;
      out.init.max_write = 1 << 16;
      (void)!write(fd_, &out, sizeof out);
    }
  }
  std::string at_;
  int fd_ = -1;
  bool mounted_ = false;
  std::thread thread_;
};

}  // namespace tutti::test
