// The TCP side on which another node's mpirun, through tutti-launch-agent, asks this node to run its orted.
// Owned by the supervisor's thread. Knows sockets and pipes; what is run, and whether, its owner decides.
//
// Invariants
// 1. Nothing is run before the secret has been shown; who does not show it in 5 s is dropped.
// 2. A lost connection kills nothing (that is the fence's work): the command's output is then read and
// forgotten.
// 3. A peer that reads too slowly loses output, never blocks the command.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <optional>
#include <string>

#include "worker/supervisor/fd.h"
#include "worker/supervisor/gang_part.h"
#include "worker/supervisor/peer.h"
#include "worker/supervisor/poller.h"

namespace tutti::supervisor {

class AgentServer {
 public:
  // Starts `sh -c command` with these for its stdout and stderr; 0 and a reason when it may not.
  using Start = std::function<pid_t(const std::string& command, int out, int err, std::string& refusal)>;

  AgentServer(Poller& poller, Fd listener, std::string secret, Start start);
  ~AgentServer();

  // True when the process was one of ours.
  bool on_process_ended(pid_t pid, const Exit& exit);
  std::optional<std::int64_t> next_deadline() const;
  void expire(std::int64_t now);

 private:
  struct Session {
    std::unique_ptr<Peer> peer;  // null once the connection is lost
    std::string from;
    std::int64_t secret_until = 0;  // 0 = shown
    pid_t pid = 0;                  // 0 = not started or ended
    Fd out, err;                    // read ends
    std::size_t dropped = 0;
  };
  using Where = std::list<Session>::iterator;

  void accept_all();
  void on_request(Where session, std::string_view line);
  void on_lost(Where session);
  void relay(Where session, Fd& pipe, char kind);
  void drop_pipe(Fd& pipe);

  Poller& poller_;
  Fd listener_;
  std::string secret_;
  Start start_;
  std::list<Session> sessions_;
};

// A listening TCP socket on an IPv4 or IPv6 address ("" = any) and a free port. Throws std::system_error.
Fd listen_tcp(const std::string& address, std::int32_t& port);
// A free port, kept from others until the descriptor is closed: it is bound, but does not listen.
Fd reserve_port(const std::string& address, std::int32_t& port);

}  // namespace tutti::supervisor
