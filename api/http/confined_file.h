// Files below one folder, by names that strangers choose. Nothing outside of the folder is ever opened: not
// by "..", not by an absolute name, not by a symbolic link, not by a mount that is swapped meanwhile.
//
// Any thread. The kernel does it (openat2 with RESOLVE_BENEATH); where it cannot, each part of the name is
// opened by itself and no symbolic link is followed at all.
#pragma once

#include <sys/stat.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace tutti::http {

class OwnedFd {
 public:
  explicit OwnedFd(int fd = -1) : fd_(fd) {}
  ~OwnedFd();
  OwnedFd(OwnedFd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  OwnedFd& operator=(OwnedFd&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  OwnedFd(const OwnedFd&) = delete;
  OwnedFd& operator=(const OwnedFd&) = delete;
  int get() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }

 private:
  int fd_;
};

/// "a/b.txt": no empty part, none that begins with a dot, no backslash, no control character, at most 1024
/// bytes.
bool is_confined_name(std::string_view name);

class ConfinedFolder {
 public:
  /// Throws std::runtime_error when it cannot be opened.
  explicit ConfinedFolder(const std::string& path);

  struct File {
    OwnedFd fd;
    struct stat info{};
  };
  /// A regular file below it, for reading; nothing for whatever else there is, or is not.
  std::optional<File> open(std::string_view name) const;
  /// For tests: what is done where the kernel has no openat2.
  std::optional<File> open_by_parts(std::string_view name) const;

 private:
  OwnedFd folder_;
};

/// All of it; nothing when it is longer than `most`, or cannot be read.
std::optional<std::string> read_file(const ConfinedFolder::File& file, std::size_t most);

}  // namespace tutti::http
