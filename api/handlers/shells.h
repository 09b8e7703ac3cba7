// Commands of people inside running attempts, as handlers see them: opened on a node, fed, read, closed.
// Implemented by scheduler/service/shell_relay, and by tests. Control thread only; no callback comes before
// the call that it belongs to has returned.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "scheduler/model/error.h"
#include "scheduler/model/ids.h"
#include "scheduler/model/protocol.h"

namespace tutti {

class Shells {
 public:
  struct Events {
    std::function<void(std::string bytes)> on_output;
    std::function<void(std::int64_t bytes)> on_room;  // so many more may be put in
    /// The last one: it has ended, or could not begin, or was lost with its node.
    std::function<void(const protocol::ShellClosed&)> on_closed;
  };
  virtual ~Shells() = default;

  virtual bool connected(NodeId node) const = 0;
  /// Its number. `what.credit` bytes may come at once, then as many as grant() says. Errc::unavailable: the
  /// node is not connected, or too many are open.
  virtual Result<std::int64_t> open(NodeId node, protocol::OpenShell what, Events events) = 0;
  /// Not more than on_room has said. `end`: nothing more will come.
  virtual void input(std::int64_t shell, std::string_view bytes, bool end) = 0;
  virtual void grant(std::int64_t shell, std::int64_t bytes) = 0;
  virtual void resize(std::int64_t shell, std::int32_t rows, std::int32_t columns) = 0;
  virtual void close(std::int64_t shell) = 0;  // no callback comes any more
};

}  // namespace tutti
