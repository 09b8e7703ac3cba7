// What a worker and a tutti-shell say over their unix socket: frames as in agent_wire.h, both ways.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "worker/supervisor/agent_wire.h"

namespace tutti::supervisor::shell_wire {

// worker → shell
inline constexpr char kInput = 'i';   // bytes for the command
inline constexpr char kEnd = 'e';     // nothing more will come; empty
inline constexpr char kResize = 'r';  // rows and columns, four bytes each
// shell → worker
inline constexpr char kOutput =
    'o';                            // bytes that it has written; the first one is empty and says that it runs
inline constexpr char kExit = 'x';  // its status: 'c' or 's', then four bytes: an exit code, or a signal
inline constexpr char kRefused = 'f';  // why it does not run; the last frame, as kExit

inline constexpr std::size_t kMaxPayload = 64 << 10;

inline std::string frame(char kind, std::string_view payload) {
  return kind + agent_wire::number(static_cast<std::uint32_t>(payload.size())) + std::string(payload);
}

struct Frame {
  char kind = 0;
  std::string payload;
};
/// Takes the first frame out of what has been read; none: it is not complete yet. `broken`: it never will be.
inline std::optional<Frame> take(std::string& buffer, bool& broken) {
  if (buffer.size() < agent_wire::kHeaderBytes) return std::nullopt;
  const std::size_t size = agent_wire::number(std::string_view(buffer).substr(1, 4));
  broken = size > kMaxPayload;
  if (broken || buffer.size() < agent_wire::kHeaderBytes + size) return std::nullopt;
  Frame f{buffer[0], buffer.substr(agent_wire::kHeaderBytes, size)};
  buffer.erase(0, agent_wire::kHeaderBytes + size);
  return f;
}

}  // namespace tutti::supervisor::shell_wire
