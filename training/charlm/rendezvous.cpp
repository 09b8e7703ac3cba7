#include "training/charlm/rendezvous.h"

#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <thread>
#include <vector>

#include "training/charlm/exit_codes.h"

namespace tutti::charlm {

namespace {

using Clock = std::chrono::steady_clock;

// What a rank says first; rank 0 answers with the bytes and awaits one byte of thanks.
struct Hello {
  std::uint64_t magic = 0x7475747469676f21ULL;
  std::uint64_t gang = 0;
  std::uint64_t rank = 0;
};

class Socket {
 public:
  explicit Socket(int fd) : fd_(fd) {}
  Socket(const Socket&) = delete;
  Socket& operator=(const Socket&) = delete;
  ~Socket() {
    if (fd_ >= 0) ::close(fd_);
  }
  [[nodiscard]] int fd() const { return fd_; }

  // False at the deadline or when the peer is gone.
  bool wait(short events, Clock::time_point until) const {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(until - Clock::now()).count();
    pollfd p{fd_, events, 0};
    return ::poll(&p, 1, static_cast<int>(std::max<std::int64_t>(left, 0))) > 0;
  }
  bool send_all(std::span<const std::byte> bytes, Clock::time_point until) const {
    while (!bytes.empty()) {
      if (!wait(POLLOUT, until)) return false;
      const ssize_t n = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (n <= 0 && errno != EINTR && errno != EAGAIN) return false;
      if (n > 0) bytes = bytes.subspan(static_cast<std::size_t>(n));
    }
    return true;
  }
  bool receive_all(std::span<std::byte> bytes, Clock::time_point until) const {
    while (!bytes.empty()) {
      if (!wait(POLLIN, until)) return false;
      const ssize_t n = ::recv(fd_, bytes.data(), bytes.size(), 0);
      if (n == 0 || (n < 0 && errno != EINTR && errno != EAGAIN)) return false;
      if (n > 0) bytes = bytes.subspan(static_cast<std::size_t>(n));
    }
    return true;
  }

 private:
  int fd_;
};

using Addresses = std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)>;

Addresses resolve(const Meeting& meeting) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  const int error =
      ::getaddrinfo(meeting.address.c_str(), std::to_string(meeting.port).c_str(), &hints, &found);
  if (error != 0) {
    throw Failure(Exit::usage, "MASTER_ADDR " + meeting.address + ": " + ::gai_strerror(error));
  }
  return {found, &::freeaddrinfo};
}

std::string place(const Meeting& meeting) { return meeting.address + ":" + std::to_string(meeting.port); }

void serve(const Meeting& meeting, std::span<const std::byte> bytes, Clock::time_point deadline) {
  const Addresses at = resolve(meeting);
  const Socket listener(::socket(at->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const int on = 1;
  ::setsockopt(listener.fd(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (::bind(listener.fd(), at->ai_addr, at->ai_addrlen) != 0 || ::listen(listener.fd(), 128) != 0) {
    throw Failure(Exit::usage, "cannot listen at " + place(meeting) + ": " + std::strerror(errno));
  }
  std::vector<bool> met(static_cast<std::size_t>(meeting.size), false);
  met[0] = true;
  while (std::find(met.begin(), met.end(), false) != met.end()) {
    if (!listener.wait(POLLIN, deadline)) {
      throw Failure(Exit::peer_lost, std::to_string(std::count(met.begin(), met.end(), false)) +
                                         " rank(s) did not come to " + place(meeting));
    }
    const Socket peer(::accept4(listener.fd(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (peer.fd() < 0) continue;
    const auto soon =
        std::min(deadline, Clock::now() + std::chrono::seconds(2));  // a stranger may say nothing
    Hello hello;
    std::byte thanks{};
    if (!peer.receive_all(std::as_writable_bytes(std::span(&hello, 1)), soon)) continue;
    if (hello.magic != Hello{}.magic || hello.gang != meeting.gang || hello.rank >= met.size()) continue;
    if (peer.send_all(bytes, soon) && peer.receive_all({&thanks, 1}, soon)) met[hello.rank] = true;
  }
}

bool ask_once(const Meeting& meeting, const addrinfo& at, std::span<std::byte> bytes,
              Clock::time_point deadline) {
  const Socket socket(::socket(at.ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (::connect(socket.fd(), at.ai_addr, at.ai_addrlen) != 0 && errno != EINPROGRESS) return false;
  const Hello hello{.gang = meeting.gang, .rank = static_cast<std::uint64_t>(meeting.rank)};
  const std::byte thanks{1};
  return socket.send_all(std::as_bytes(std::span(&hello, 1)), deadline) &&
         socket.receive_all(bytes, deadline) && socket.send_all({&thanks, 1}, deadline);
}

void ask(const Meeting& meeting, std::span<std::byte> bytes, Clock::time_point deadline) {
  const Addresses at = resolve(meeting);
  while (Clock::now() < deadline) {
    if (ask_once(meeting, *at, bytes, deadline)) return;
    // Rank 0 may not listen yet, and a refused connection gives nothing to wait on.
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  throw Failure(Exit::peer_lost, "rank 0 was not to be found at " + place(meeting));
}

}  // namespace

void broadcast_from_rank_zero(const Meeting& meeting, std::span<std::byte> bytes) {
  if (meeting.size == 1) return;
  const auto deadline = Clock::now() + meeting.patience;
  if (meeting.rank == 0) {
    serve(meeting, bytes, deadline);
  } else {
    ask(meeting, bytes, deadline);
  }
}

}  // namespace tutti::charlm
