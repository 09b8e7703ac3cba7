#include "api/http/confined_file.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <stdexcept>

namespace tutti::http {
namespace {

constexpr std::size_t kLongestName = 1024;
// O_NONBLOCK: a fifo in the folder must not hold us up.
constexpr int kReadFlags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY;

int open_beneath(int folder, const std::string& name) {
  open_how how{};
  how.flags = static_cast<std::uint64_t>(kReadFlags);
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS;
  int tries = 0;
  long fd = -1;
  // EAGAIN: something was renamed while the kernel looked.
  do fd = ::syscall(SYS_openat2, folder, name.c_str(), &how, sizeof how);
  while (fd < 0 && errno == EAGAIN && ++tries < 4);
  return static_cast<int>(fd);
}

std::optional<ConfinedFolder::File> regular(OwnedFd fd) {
  ConfinedFolder::File file{std::move(fd)};
  if (!file.fd || ::fstat(file.fd.get(), &file.info) != 0 || !S_ISREG(file.info.st_mode)) return std::nullopt;
  return file;
}

}  // namespace

OwnedFd::~OwnedFd() {
  if (fd_ >= 0) ::close(fd_);
}

bool is_confined_name(std::string_view name) {
  if (name.empty() || name.size() > kLongestName) return false;
  const auto bad = [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7F || c == '\\'; };
  if (std::ranges::any_of(name, bad)) return false;
  for (;;) {
    const auto slash = name.find('/');
    const auto part = name.substr(0, slash);
    if (part.empty() || part.front() == '.') return false;
    if (slash == std::string_view::npos) return true;
    name.remove_prefix(slash + 1);
  }
}

ConfinedFolder::ConfinedFolder(const std::string& path)
    : folder_(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)) {
  if (!folder_) throw std::runtime_error(path + ": " + std::strerror(errno));
}

std::optional<ConfinedFolder::File> ConfinedFolder::open(std::string_view name) const {
  if (!is_confined_name(name)) return std::nullopt;
  OwnedFd fd(open_beneath(folder_.get(), std::string(name)));
  // An old kernel, or a sandbox that does not know the call.
  if (!fd && (errno == ENOSYS || errno == EPERM || errno == E2BIG)) return open_by_parts(name);
  return regular(std::move(fd));
}

std::optional<ConfinedFolder::File> ConfinedFolder::open_by_parts(std::string_view name) const {
  if (!is_confined_name(name)) return std::nullopt;
  OwnedFd at(::fcntl(folder_.get(), F_DUPFD_CLOEXEC, 0));
  while (at) {
    const auto slash = name.find('/');
    const std::string part(name.substr(0, slash));
    const int kind = slash == std::string_view::npos ? kReadFlags : O_RDONLY | O_CLOEXEC | O_DIRECTORY;
    at = OwnedFd(::openat(at.get(), part.c_str(), kind | O_NOFOLLOW));
    if (slash == std::string_view::npos) break;
    name.remove_prefix(slash + 1);
  }
  return regular(std::move(at));
}

std::optional<std::string> read_file(const ConfinedFolder::File& file, std::size_t most) {
  if (file.info.st_size < 0 || static_cast<std::size_t>(file.info.st_size) > most) return std::nullopt;
  std::string text(static_cast<std::size_t>(file.info.st_size), '\0');
  std::size_t done = 0;
  while (done < text.size()) {
    const auto got = ::pread(file.fd.get(), text.data() + done, text.size() - done, static_cast<off_t>(done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return std::nullopt;
    if (got == 0) break;  // it has become shorter
    done += static_cast<std::size_t>(got);
  }
  text.resize(done);
  return text;
}

}  // namespace tutti::http
