// See event_log.h.
#include "worker/nvml/double/event_log.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace tutti::nvml::sim {
namespace {

constexpr std::size_t kMaxPending = 64 << 10;
constexpr auto kNapWithoutInotify = std::chrono::milliseconds(10);

long long size_of(int descriptor) {
  struct stat status{};
  return fstat(descriptor, &status) == 0 ? status.st_size : 0;
}

// Waits until the log changed. False after a signal.
bool sleep_until_changed(int watch, std::chrono::milliseconds left) {
  if (watch < 0) {
    const auto nap = std::min(left, kNapWithoutInotify);
    return poll(nullptr, 0, static_cast<int>(nap.count())) == 0;
  }
  pollfd waiting{watch, POLLIN, 0};
  const int ready = poll(&waiting, 1, static_cast<int>(left.count()));
  if (ready < 0) return false;
  char discarded[4096];
  while (ready > 0 && read(watch, discarded, sizeof discarded) > 0) {
  }
  return true;
}

}  // namespace

EventReader::EventReader(const Folder& folder) {
  log_ = open(folder.events().c_str(), O_RDONLY | O_CLOEXEC);
  if (log_ >= 0) offset_ = size_of(log_);
  watch_ = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
  if (watch_ >= 0 && inotify_add_watch(watch_, folder.events().c_str(), IN_MODIFY) < 0) {
    close(watch_);
    watch_ = -1;
  }
}

EventReader::~EventReader() {
  if (watch_ >= 0) close(watch_);
  if (log_ >= 0) close(log_);
}

bool EventReader::add(const std::string& uuid, unsigned long long mask) {
  std::lock_guard lock(mutex_);
  if (log_ < 0) return false;
  const auto [entry, fresh] = registrations_.try_emplace(uuid);
  if (fresh) entry->second.since = size_of(log_);
  entry->second.mask |= mask;
  return true;
}

bool EventReader::fill() {
  char buffer[4096];
  const std::size_t room = std::min(sizeof buffer, kMaxPending - pending_.size());
  if (log_ < 0 || room == 0) return false;
  const ssize_t got = pread(log_, buffer, room, offset_ + static_cast<long long>(pending_.size()));
  if (got <= 0) return false;
  pending_.append(buffer, static_cast<std::size_t>(got));
  return true;
}

std::optional<Event> EventReader::next() {
  std::lock_guard lock(mutex_);
  for (;;) {
    const auto end = pending_.find('\n');
    if (end == std::string::npos) {
      // A line longer than the buffer is no event of ours: skip it rather than stop for ever.
      if (pending_.size() == kMaxPending) {
        offset_ += static_cast<long long>(pending_.size());
        pending_.clear();
      }
      if (!fill()) return std::nullopt;
      continue;
    }
    const long long at = offset_;
    const auto event = parse_event(std::string_view(pending_).substr(0, end));
    pending_.erase(0, end + 1);
    offset_ += static_cast<long long>(end) + 1;
    if (!event) continue;
    const auto registration = registrations_.find(event->uuid);
    if (registration == registrations_.end()) continue;
    if (at >= registration->second.since && (registration->second.mask & event->type) != 0) return event;
  }
}

std::optional<Event> EventReader::wait(std::chrono::milliseconds timeout) {
  const auto deadline = std::chrono::steady_clock::now() + timeout;
  for (;;) {
    if (auto event = next()) return event;
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
        deadline - std::chrono::steady_clock::now() + std::chrono::microseconds(999));
    if (left.count() <= 0 || !sleep_until_changed(watch_, left)) return std::nullopt;
  }
}

}  // namespace tutti::nvml::sim
