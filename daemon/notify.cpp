#include "daemon/notify.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <charconv>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <string_view>

namespace tutti::daemon {
namespace {

std::optional<long long> number_in(const char* variable) {
  const char* text = std::getenv(variable);
  if (text == nullptr) return std::nullopt;
  const std::string_view digits(text);
  long long value = 0;
  const auto parsed = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (parsed.ec != std::errc() || parsed.ptr != digits.data() + digits.size() || value <= 0)
    return std::nullopt;
  return value;
}

}  // namespace

ServiceManager::ServiceManager() {
  if (const char* address = std::getenv("NOTIFY_SOCKET")) address_ = address;
  const auto interval = number_in("WATCHDOG_USEC");
  const char* pid = std::getenv("WATCHDOG_PID");
  const bool ours = pid == nullptr || number_in("WATCHDOG_PID") == ::getpid();
  for (const char* name : {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"}) ::unsetenv(name);
  if (address_.size() < 2 || (address_.front() != '/' && address_.front() != '@') ||
      address_.size() >= sizeof sockaddr_un::sun_path)
    return;
  socket_ = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (socket_ >= 0 && interval && ours) watchdog_ = std::chrono::microseconds(*interval);
}

ServiceManager::~ServiceManager() {
  if (socket_ >= 0) ::close(socket_);
}

void ServiceManager::send(const std::string& lines) const {
  if (socket_ < 0) return;
  sockaddr_un to{};
  to.sun_family = AF_UNIX;
  std::memcpy(to.sun_path, address_.data(), address_.size());
  if (address_.front() == '@') to.sun_path[0] = '\0';
  const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + address_.size());
  (void)::sendto(socket_, lines.data(), lines.size(), MSG_NOSIGNAL | MSG_DONTWAIT,
                 reinterpret_cast<const sockaddr*>(&to), size);
}

void ServiceManager::ready(const std::string& status) {
  told_ = status;
  send("READY=1\nSTATUS=" + status + "\n");
}

void ServiceManager::status(const std::string& text) {
  if (text == told_) return;
  told_ = text;
  send("STATUS=" + text + "\n");
}

void ServiceManager::reloading() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  send("RELOADING=1\nMONOTONIC_USEC=" + std::to_string(now.tv_sec * 1'000'000LL + now.tv_nsec / 1000) + "\n");
}

void ServiceManager::stopping() { send("STOPPING=1\nSTATUS=stopping\n"); }

void ServiceManager::alive() { send("WATCHDOG=1\n"); }

}  // namespace tutti::daemon
