#include "worker/supervisor/files.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <system_error>

#include "worker/supervisor/text.h"

namespace tutti::supervisor {

std::int64_t boot_us() {
  timespec t{};
  clock_gettime(CLOCK_BOOTTIME, &t);
  return t.tv_sec * 1'000'000 + t.tv_nsec / 1000;
}

void throw_errno(const std::string& what) { throw std::system_error(errno, std::generic_category(), what); }

std::optional<std::string> read_file(const std::string& path, std::size_t limit) {
  const Fd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return std::nullopt;
  std::string out;
  char chunk[4096];
  while (out.size() < limit) {
    const ssize_t n = read(fd.get(), chunk, std::min(sizeof chunk, limit - out.size()));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return std::nullopt;
    if (n == 0) break;
    out.append(chunk, static_cast<std::size_t>(n));
  }
  return out;
}

bool poke_file(const std::string& path, std::string_view text) {
  const Fd fd(open(path.c_str(), O_WRONLY | O_CLOEXEC));
  return fd && write(fd.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size());
}

void replace_file(const std::string& path, std::string_view text, bool durable, mode_t mode) {
  const std::string draft = path + ".new";
  {
    const Fd fd(open(draft.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, mode));
    if (!fd) throw_errno("open " + draft);
    for (std::size_t done = 0; done < text.size();) {
      const ssize_t n = write(fd.get(), text.data() + done, text.size() - done);
      if (n < 0 && errno != EINTR) throw_errno("write " + draft);
      if (n > 0) done += static_cast<std::size_t>(n);
    }
    if (durable && fsync(fd.get()) != 0) throw_errno("fsync " + draft);
  }
  if (rename(draft.c_str(), path.c_str()) != 0) throw_errno("rename " + draft);
}

std::optional<RegularFile> open_regular(const std::string& path) {
  RegularFile file;
  file.fd = Fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY));
  if (!file.fd || fstat(file.fd.get(), &file.info) != 0 || !S_ISREG(file.info.st_mode)) return std::nullopt;
  return file;
}

std::optional<RegularFile> open_regular_of(uid_t owner, const std::string& path) {
  auto file = open_regular(path);
  if (file && (file->info.st_uid != owner || file->info.st_nlink != 1)) return std::nullopt;
  return file;
}

std::string log_tail(const std::string& path, uid_t owner, const SecretMask& mask, std::size_t limit) {
  const auto file = open_regular_of(owner, path);
  if (!file) return {};
  const off_t start = std::max<off_t>(0, file->info.st_size - static_cast<off_t>(limit));
  const off_t before = std::min(start, static_cast<off_t>(mask.reach()));
  std::string window(limit + static_cast<std::size_t>(before), '\0');
  const ssize_t n = pread(file->fd.get(), window.data(), window.size(), start - before);
  if (n <= before) return {};
  window.resize(static_cast<std::size_t>(n));
  std::string out = mask.text(window, static_cast<std::size_t>(before));
  if (start > 0) {  // begin with a whole line, unless that would drop most of it
    const std::size_t line = out.find('\n');
    if (line != std::string::npos && line + 1 < out.size() / 2) out.erase(0, line + 1);
  }
  std::string text = to_utf8(out);
  if (text.size() > limit) {  // replaced bytes grow: cut again, at the start of a character
    std::size_t cut = text.size() - limit;
    while (cut < text.size() && (static_cast<unsigned char>(text[cut]) & 0xC0) == 0x80) ++cut;
    text.erase(0, cut);
  }
  return text;
}

namespace {

// sun_path holds 107 bytes, an attempt's directory may be longer: name it through its descriptor.
sockaddr_un address_in(const Fd& dir, const std::string& name) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const int n = std::snprintf(address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d/%s", dir.get(),
                              name.c_str());
  if (n < 0 || static_cast<std::size_t>(n) >= sizeof address.sun_path) {
    errno = ENAMETOOLONG;
    throw_errno("socket name " + name);
  }
  return address;
}

Fd open_dir(const std::string& dir) {
  Fd fd(open(dir.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!fd) throw_errno("open " + dir);
  return fd;
}

}  // namespace

Fd listen_unix(const std::string& dir, const std::string& name, mode_t mode, uid_t owner) {
  const Fd at = open_dir(dir);
  const std::string draft = name + ".new";  // whoever sees the final name can connect
  unlinkat(at.get(), draft.c_str(), 0);
  Fd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) throw_errno("socket");
  const sockaddr_un address = address_in(at, draft);
  const mode_t before = umask(0177);  // never open to others, not even for a moment
  const int bound = bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address);
  umask(before);
  if (bound != 0) throw_errno("bind " + dir + "/" + name);
  const bool give = owner != geteuid();
  if (give && fchownat(at.get(), draft.c_str(), owner, static_cast<gid_t>(-1), AT_SYMLINK_NOFOLLOW) != 0)
    throw_errno("chown " + name);
  if (fchmodat(at.get(), draft.c_str(), mode, 0) != 0) throw_errno("chmod " + name);
  if (listen(fd.get(), 1024) != 0) throw_errno("listen " + name);
  if (renameat(at.get(), draft.c_str(), at.get(), name.c_str()) != 0) throw_errno("rename " + name);
  return fd;
}

Fd connect_unix(const std::string& dir, const std::string& name) {
  const Fd at = open_dir(dir);
  Fd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd) throw_errno("socket");
  const sockaddr_un address = address_in(at, name);
  if (connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    throw_errno("connect " + dir + "/" + name);
  return fd;
}

}  // namespace tutti::supervisor
