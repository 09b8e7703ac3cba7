#include "worker/supervisor/poller.h"

#include <sys/epoll.h>
#include <sys/timerfd.h>

#include <cerrno>

#include "worker/supervisor/files.h"

namespace tutti::supervisor {
namespace {

std::uint64_t pack(int fd, std::uint64_t generation) {
  return generation << 32 | static_cast<std::uint32_t>(fd);
}

}  // namespace

Poller::Poller()
    : epoll_(epoll_create1(EPOLL_CLOEXEC)),
      timer_(timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC | TFD_NONBLOCK)) {
  if (!epoll_ || !timer_) throw_errno("epoll or timerfd");
  add(timer_.get(), EPOLLIN, [this](std::uint32_t) {
    std::uint64_t ticks = 0;
    (void)!read(timer_.get(), &ticks, sizeof ticks);
  });
}

void Poller::add(int fd, std::uint32_t events, Handler handler) {
  const std::uint64_t generation = next_generation_++;
  epoll_event event{};
  event.events = events;
  event.data.u64 = pack(fd, generation);
  if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) throw_errno("epoll add");
  entries_[fd] = {generation, std::make_shared<Handler>(std::move(handler))};
}

void Poller::change(int fd, std::uint32_t events) {
  epoll_event event{};
  event.events = events;
  event.data.u64 = pack(fd, entries_.at(fd).generation);
  if (epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, fd, &event) != 0) throw_errno("epoll change");
}

void Poller::remove(int fd) {
  if (entries_.erase(fd) != 0) epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr);
}

void Poller::run_once(std::optional<std::int64_t> wake_us) {
  itimerspec when{};
  if (wake_us) {  // 0 would disarm it
    const std::int64_t us = *wake_us > 0 ? *wake_us : 1;
    when.it_value = {us / 1'000'000, us % 1'000'000 * 1000};
  }
  if (timerfd_settime(timer_.get(), TFD_TIMER_ABSTIME, &when, nullptr) != 0) throw_errno("timerfd");
  epoll_event events[64];
  const int n = epoll_wait(epoll_.get(), events, 64, -1);
  if (n < 0 && errno != EINTR) throw_errno("epoll_wait");
  for (int i = 0; i < n; ++i) {
    const auto it = entries_.find(static_cast<int>(events[i].data.u64 & 0xFFFFFFFF));
    if (it == entries_.end() || it->second.generation != events[i].data.u64 >> 32) continue;
    const std::shared_ptr<Handler> handler = it->second.handler;  // outlives its own removal
    (*handler)(events[i].events);
  }
}

}  // namespace tutti::supervisor
