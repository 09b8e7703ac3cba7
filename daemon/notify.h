// What a service tells the service manager that started it (systemd's sd_notify protocol: one datagram of
// NAME=VALUE lines to the socket in NOTIFY_SOCKET). Without one everything here does nothing.
//
// Invariants
//  1. Nothing blocks: what the manager cannot take at once is dropped.
//  2. Children do not inherit the socket's name: they cannot speak for us.
#pragma once

#include <chrono>
#include <optional>
#include <string>

namespace tutti::daemon {

class ServiceManager {
 public:
  /// Reads NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID, and removes them from the environment: before other
  /// threads begin.
  ServiceManager();
  ~ServiceManager();
  ServiceManager(const ServiceManager&) = delete;
  ServiceManager& operator=(const ServiceManager&) = delete;

  void ready(const std::string& status);
  void status(const std::string& text);  // what `systemctl status` shows; the same text is not sent twice
  void reloading();                      // then ready() again
  void stopping();
  /// Work has been done: see watchdog().
  void alive();
  /// We are killed when alive() is not called for so long. Nothing: nobody watches.
  std::optional<std::chrono::microseconds> watchdog() const { return watchdog_; }

 private:
  void send(const std::string& lines) const;

  int socket_ = -1;
  std::string address_;  // "@name" is an abstract one
  std::optional<std::chrono::microseconds> watchdog_;
  std::string told_;
};

}  // namespace tutti::daemon
