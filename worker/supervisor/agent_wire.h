// What a launch agent and a supervisor say over TCP. The agent sends one line of JSON,
// `{"secret":…,"command":…}`; the supervisor answers with frames: a byte for the kind, four for the length
// (big-endian), the payload.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace tutti::supervisor::agent_wire {

enum class Frame : char {
  out = 'o',     // bytes of the command's stdout; the first one is empty and says that it runs
  err = 'e',     // of its stderr
  exit = 'x',    // four bytes, big-endian: its status as a shell gives it (128 + signal); the last frame
  refused = 'r'  // the reason; the last frame
};

inline constexpr std::size_t kMaxPayload = 64 << 10;
inline constexpr std::size_t kMaxRequest = 256 << 10;
inline constexpr std::size_t kHeaderBytes = 5;

inline std::string number(std::uint32_t n) {
  return {static_cast<char>(n >> 24), static_cast<char>(n >> 16), static_cast<char>(n >> 8),
          static_cast<char>(n)};
}
inline std::uint32_t number(std::string_view four) {
  std::uint32_t n = 0;
  for (int i = 0; i < 4; ++i) n = n << 8 | static_cast<unsigned char>(four[static_cast<std::size_t>(i)]);
  return n;
}
inline std::string frame(Frame kind, std::string_view payload) {
  return static_cast<char>(kind) + number(static_cast<std::uint32_t>(payload.size())) + std::string(payload);
}

}  // namespace tutti::supervisor::agent_wire
