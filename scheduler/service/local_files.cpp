#include "scheduler/service/local_files.h"

#include <fcntl.h>
#include <sodium.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <stdexcept>

namespace tutti {
namespace {

[[noreturn]] void fail(const std::string& what, const std::string& path) {
  throw std::runtime_error(what + " " + path + ": " + std::strerror(errno));
}

}  // namespace

void write_file(const std::string& path, const std::string& text, unsigned mode) {
  const std::string temporary = path + ".new";
  const int fd = ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
  if (fd < 0) fail("cannot write", temporary);
  const bool written =
      ::write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size()) && ::fsync(fd) == 0;
  ::close(fd);
  if (!written || ::rename(temporary.c_str(), path.c_str()) != 0) fail("cannot write", path);
}

std::string load_or_make_secret(const std::string& path) {
  if (std::ifstream in(path); in) {
    std::string text;
    in >> text;
    if (text.size() < 32)
      throw std::runtime_error(path + " is too short for a secret; remove it to make a new one");
    return text;
  }
  unsigned char bytes[32];
  randombytes_buf(bytes, sizeof bytes);
  char hex[2 * sizeof bytes + 1];
  sodium_bin2hex(hex, sizeof hex, bytes, sizeof bytes);
  write_file(path, std::string(hex) + "\n", 0600);
  return hex;
}

}  // namespace tutti
