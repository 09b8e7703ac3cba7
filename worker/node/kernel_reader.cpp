#include "worker/node/kernel_reader.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <system_error>
#include <utility>
#include <vector>

namespace tutti::node {
namespace {

constexpr std::size_t kFirstBuffer = 8192;       // a record of /dev/kmsg fits
constexpr std::size_t kLargestBuffer = 1 << 17;  // what is longer is skipped
constexpr int kPauseMs = 1000;

int open_source(const std::string& path, const struct stat& info) {
  // A FIFO for writing too: then it never ends when one of its writers goes.
  if (!S_ISSOCK(info.st_mode))
    return open(path.c_str(), (S_ISFIFO(info.st_mode) ? O_RDWR : O_RDONLY) | O_NONBLOCK | O_CLOEXEC);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) {
    errno = ENAMETOOLONG;
    return -1;
  }
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  const int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0) return -1;
  if (connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0) return fd;
  const int error = errno;
  close(fd);
  errno = error;
  return -1;
}

}  // namespace

Arrival KernelReader::read_arrival() {
  timespec boot{}, mono{};
  clock_gettime(CLOCK_MONOTONIC, &mono);
  clock_gettime(CLOCK_BOOTTIME, &boot);
  const auto us = [](const timespec& t) { return t.tv_sec * 1'000'000LL + t.tv_nsec / 1000; };
  // Read one after the other: a few microseconds are no sleep.
  const auto ahead = us(boot) - us(mono);
  return {us(boot), ahead < 1000 ? 0 : ahead};
}

KernelReader::KernelReader(std::string path, Events events, Clock clock)
    : path_(std::move(path)),
      events_(std::move(events)),
      read_clock_(std::move(clock)),
      stop_fd_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  if (stop_fd_ < 0) throw std::system_error(errno, std::generic_category(), "eventfd");
  thread_ = std::thread([this] { run(); });
}

KernelReader::~KernelReader() {
  stopping_ = true;
  const std::uint64_t one = 1;
  (void)!write(stop_fd_, &one, sizeof one);
  thread_.join();
  close(stop_fd_);
}

bool KernelReader::pause() {
  pollfd stop{stop_fd_, POLLIN, 0};
  poll(&stop, 1, kPauseMs);
  return !stopping_;
}

void KernelReader::say(std::string why) {
  if (said_ && why == state_) return;
  said_ = true;
  state_ = why;
  events_.on_state(std::move(why));
}

void KernelReader::run() {
  do {
    struct stat info{};
    if (stat(path_.c_str(), &info) != 0) {
      say(path_ + ": " + std::generic_category().message(errno));
      continue;
    }
    const int fd = open_source(path_, info);
    if (fd < 0) {
      say(path_ + ": " + std::generic_category().message(errno));
      continue;
    }
    live_ = false;
    const bool readable = read_until_trouble(fd, S_ISCHR(info.st_mode) || S_ISSOCK(info.st_mode));
    close(fd);
    if (!readable) next_number_ = 0;
  } while (pause());
}

// Until the source ends or fails; false: it failed, and why has been said.
bool KernelReader::read_until_trouble(int fd, bool one_record_per_read) {
  std::vector<char> buffer(kFirstBuffer);
  std::string lines;
  while (!stopping_) {
    const ssize_t n = read(fd, buffer.data(), buffer.size());
    if (n > 0) {
      say("");
      const std::string_view text(buffer.data(), static_cast<std::size_t>(n));
      if (one_record_per_read) {
        take_record(text);
      } else {
        lines += text;
        take_lines(lines, false);
      }
      continue;
    }
    if (n == 0) {  // the writer of a FIFO has gone, or the end of a file: more may come
      take_lines(lines, true);
      live_ = true;
      say("");
      if (one_record_per_read) return true;
      if (!pause()) return true;
      continue;
    }
    switch (errno) {
      case EAGAIN: {
        live_ = live_ || lines.empty();
        say("");
        pollfd both[2] = {{fd, POLLIN, 0}, {stop_fd_, POLLIN, 0}};
        // What has come without a newline is whole when nothing follows it.
        if (poll(both, 2, lines.empty() ? -1 : 50) == 0) {
          take_lines(lines, true);
          live_ = true;
        }
        if ((both[0].revents & (POLLHUP | POLLERR)) != 0 && (both[0].revents & POLLIN) == 0 && !pause())
          return true;
        break;
      }
      case EINTR: break;
      case EPIPE:  // records were overwritten; the next read gives the oldest that is left
        if (next_number_ == 0) events_.on_loss(0);  // else the gap in the numbers says how many
        break;
      case EINVAL:  // the record is longer than the buffer
        if (buffer.size() < kLargestBuffer) {
          buffer.resize(buffer.size() * 2);
        } else {
          events_.on_loss(1);
          if (lseek(fd, 0, SEEK_END) < 0) return false;  // no way to step over one record
        }
        break;
      default: say(path_ + ": " + std::generic_category().message(errno)); return false;
    }
  }
  return true;
}

// Records begin with a digit; lines that begin with a space continue the one before.
void KernelReader::take_lines(std::string& buffer, bool all) {
  std::size_t begin = 0;
  while (begin < buffer.size()) {
    auto end = buffer.find('\n', begin);
    while (end != std::string::npos && end + 1 < buffer.size() && buffer[end + 1] == ' ')
      end = buffer.find('\n', end + 1);
    // The last record is whole only when the next one has begun, or nothing more comes for a while.
    if (end == std::string::npos || end + 1 >= buffer.size()) {
      if (!all) break;
      end = std::min(end, buffer.size());
    }
    take_record(std::string_view(buffer).substr(begin, end - begin));
    begin = std::min(end + 1, buffer.size());
  }
  buffer.erase(0, begin);
  if (buffer.size() > kLargestBuffer) {
    buffer.clear();
    events_.on_loss(1);
  }
}

void KernelReader::take_record(std::string_view text) {
  auto record = parse_record(text);
  if (!record) return;
  if (next_number_ != 0 && record->number > next_number_) events_.on_loss(record->number - next_number_);
  next_number_ = record->number + 1;
  record->boot_us = clock_.to_boot_us(record->boot_us, read_clock_(), live_);
  events_.on_record(std::move(*record), live_);
}

}  // namespace tutti::node
