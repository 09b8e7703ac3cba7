// See probe_lines.h.
#include "worker/nvml/probe_lines.h"

#include <unistd.h>

#include <array>
#include <cerrno>

namespace tutti::nvml {
namespace {

constexpr std::size_t kMaxCommandBytes = 4096;

}  // namespace

void LineWriter::write(const Message& message) {
  const std::string line = encode(message) + "\n";
  std::lock_guard lock(mutex_);
  std::string_view left = line;
  while (!left.empty()) {
    const ssize_t written = ::write(descriptor_, left.data(), left.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) _exit(0);  // EPIPE: the worker is gone
    left.remove_prefix(static_cast<std::size_t>(written));
  }
}

void read_commands(int descriptor, const std::function<void(ProcessesCommand)>& on_command) {
  std::string pending;
  bool skipping = false;  // inside a line that is too long
  std::array<char, 4096> buffer{};
  for (;;) {
    const ssize_t got = read(descriptor, buffer.data(), buffer.size());
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) _exit(0);
    for (const char letter : std::string_view(buffer.data(), static_cast<std::size_t>(got))) {
      if (letter != '\n') {
        if (pending.size() == kMaxCommandBytes) skipping = true;
        if (!skipping) pending += letter;
        continue;
      }
      auto command = parse_command(pending);
      if (auto* parsed = std::get_if<ProcessesCommand>(&command); parsed != nullptr && !skipping) {
        on_command(std::move(*parsed));
      }
      pending.clear();
      skipping = false;
    }
  }
}

}  // namespace tutti::nvml
