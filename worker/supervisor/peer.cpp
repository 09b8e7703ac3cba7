#include "worker/supervisor/peer.h"

#include <sys/epoll.h>
#include <sys/socket.h>

#include <cerrno>
#include <utility>

namespace tutti::supervisor {

constexpr int kMaxRounds = 256;

Peer::Peer(Poller& poller, Fd fd, Limits limits, OnLine on_line, OnGone on_gone)
    : poller_(poller),
      fd_(std::move(fd)),
      limits_(limits),
      on_line_(std::move(on_line)),
      on_gone_(std::move(on_gone)),
      watched_(EPOLLIN) {
  poller_.add(fd_.get(), watched_, [this](std::uint32_t events) { on_events(events); });
}

Peer::~Peer() { poller_.remove(fd_.get()); }

void Peer::send(std::string_view bytes) {
  if (broken_) return;
  out_ += bytes;
  // A broken peer is only marked: the Poller reports it in its own time, so that no caller loses its Peer
  // here.
  if (!flush() || out_.size() > limits_.unsent) {
    broken_ = true;
    shutdown(fd_.get(), SHUT_RDWR);
  }
  watch();
}

bool Peer::flush() {
  while (!out_.empty()) {
    const ssize_t n = ::send(fd_.get(), out_.data(), out_.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return errno == EAGAIN || errno == EWOULDBLOCK;
    out_.erase(0, static_cast<std::size_t>(n));
  }
  return true;
}

void Peer::watch() {
  const std::uint32_t wanted =
      EPOLLIN | (out_.empty() || broken_ ? 0u : static_cast<std::uint32_t>(EPOLLOUT));
  if (wanted != std::exchange(watched_, wanted)) poller_.change(fd_.get(), wanted);
}

bool Peer::read_now() {
  char chunk[16384];
  for (int rounds = 0; !broken_; ++rounds) {
    if (rounds == kMaxRounds)
      return true;  // one that never stops talking must not keep the loop from its timers
    const ssize_t n = recv(fd_.get(), chunk, sizeof chunk, MSG_DONTWAIT);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return errno == EAGAIN || errno == EWOULDBLOCK;
    if (n == 0) return false;
    in_.append(chunk, static_cast<std::size_t>(n));
    for (std::size_t end; (end = in_.find('\n')) != std::string::npos;) {
      const std::string line = in_.substr(0, end);
      in_.erase(0, end + 1);
      on_line_(line);
    }
    if (in_.size() > limits_.line) return false;
  }
  return false;
}

void Peer::pump() {
  if (read_now()) return;
  const OnGone gone = std::move(on_gone_);  // outlives us
  gone();
}

void Peer::on_events(std::uint32_t events) {
  if ((events & EPOLLOUT) != 0 && !flush()) broken_ = true;
  watch();
  pump();  // the last statement: we may be gone now
}

}  // namespace tutti::supervisor
