#include "scheduler/watchdog.h"

#include <algorithm>

namespace tutti {
namespace {

constexpr std::chrono::microseconds kLook = std::chrono::seconds(5);  // for the status line

}  // namespace

Watchdog::Watchdog(boost::asio::io_context& io, daemon::ServiceManager& manager, Leader& leader)
    : timer_(io), manager_(manager), leader_(leader) {
  wait();
}

void Watchdog::wait() {
  timer_.expires_after(std::min(kLook, manager_.watchdog().value_or(4 * kLook) / 4));
  timer_.async_wait([this](boost::system::error_code ec) {
    if (ec) return;
    manager_.status(leader_.status().detail);
    if (manager_.watchdog() && !asked_) ask();
    wait();
  });
}

void Watchdog::ask() {
  asked_ = true;
  Command command;
  command.room = Command::Room::always;  // much to do is no standstill
  command.decide = [this](ControlPlane&, Now) -> std::function<void()> {
    return [this] {
      asked_ = false;
      manager_.alive();
    };
  };
  command.refuse = [this](const Error&) {
    asked_ = false;
    if (leader_.plane() == nullptr) manager_.alive();
  };
  leader_.post(std::move(command));
}

}  // namespace tutti
