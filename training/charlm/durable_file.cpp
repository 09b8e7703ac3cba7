#include "training/charlm/durable_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>

#include "training/charlm/exit_codes.h"

namespace tutti::charlm {

namespace {

[[noreturn]] void fail(const char* doing, const std::filesystem::path& path) {
  throw Failure(Exit::io, std::string("cannot ") + doing + " " + path.string() + ": " + std::strerror(errno));
}

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  [[nodiscard]] int get() const { return fd_; }

 private:
  int fd_;
};

}  // namespace

void sync_directory(const std::filesystem::path& directory) {
  const Descriptor fd(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (fd.get() < 0) fail("open", directory);
  if (::fsync(fd.get()) != 0) fail("sync", directory);
}

void write_file(const std::filesystem::path& path, std::span<const std::byte> content,
                Durability durability) {
  std::filesystem::path unfinished = path;
  unfinished += ".tmp";
  {
    const Descriptor fd(::open(unfinished.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
    if (fd.get() < 0) fail("create", unfinished);
    while (!content.empty()) {
      const ssize_t n = ::write(fd.get(), content.data(), content.size());
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) fail("write", unfinished);
      content = content.subspan(static_cast<std::size_t>(n));
    }
    if (durability == Durability::survives_power_loss && ::fsync(fd.get()) != 0) fail("sync", unfinished);
  }
  if (::rename(unfinished.c_str(), path.c_str()) != 0) fail("rename to", path);
  if (durability == Durability::survives_power_loss) sync_directory(path.parent_path());
}

void write_file(const std::filesystem::path& path, std::string_view content, Durability durability) {
  write_file(path, std::as_bytes(std::span(content)), durability);
}

}  // namespace tutti::charlm
