// One connected, non-blocking socket of the supervisor with bounded buffers in both directions.
// Owned by the supervisor's thread; the Poller tells it when to read and to write.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "worker/supervisor/fd.h"
#include "worker/supervisor/poller.h"

namespace tutti::supervisor {

class Peer {
 public:
  struct Limits {
    std::size_t line = 1 << 20;    // longest line taken
    std::size_t unsent = 1 << 20;  // a peer that reads slower is dropped
  };
  using OnLine = std::function<void(std::string_view line)>;
  using OnGone = std::function<void()>;  // last call; may destroy the Peer

  Peer(Poller& poller, Fd fd, Limits limits, OnLine on_line, OnGone on_gone);
  ~Peer();
  Peer(const Peer&) = delete;
  Peer& operator=(const Peer&) = delete;

  void send(std::string_view bytes);
  std::size_t unsent() const { return out_.size(); }
  int fd() const { return fd_.get(); }
  // Reads and tells all that arrived, without waiting for the Poller. May call on_gone.
  void pump();

 private:
  void on_events(std::uint32_t events);
  bool read_now();  // false: the peer is gone or breaks the rules
  bool flush();
  void watch();

  Poller& poller_;
  Fd fd_;
  Limits limits_;
  OnLine on_line_;
  OnGone on_gone_;
  std::string in_, out_;
  std::uint32_t watched_ = 0;
  bool broken_ = false;
};

}  // namespace tutti::supervisor
