#include "scheduler/service/shell_relay.h"

#include <spdlog/spdlog.h>

#include <utility>
#include <vector>

#include "api/wire/tar_gz.h"
#include "scheduler/service/clocks.h"

namespace tutti {

namespace {
constexpr std::size_t kMostShells = 256;
constexpr Duration kAnswers = std::chrono::seconds(20);  // a worker; an older one knows no shells
constexpr std::chrono::seconds kSweepEvery{1};
}  // namespace

ShellRelay::ShellRelay(boost::asio::any_io_executor executor, Workers workers)
    : executor_(executor), workers_(std::move(workers)), timer_(executor) {}

ShellRelay::Open* ShellRelay::find(NodeId node, std::int64_t shell) {
  const auto found = open_.find(shell);
  return found == open_.end() || found->second.node != node ? nullptr : &found->second;
}

Result<std::int64_t> ShellRelay::open(NodeId node, protocol::OpenShell what, Events events) {
  const auto refuse = [](std::string message) {
    return Error{.code = Errc::unavailable, .message = std::move(message), .hint = "", .field = ""};
  };
  if (!workers_.connected(node)) return refuse("the node is not connected");
  if (open_.size() >= kMostShells)
    return refuse("too many commands run inside of attempts already: " + std::to_string(open_.size()));
  what.shell = next_++;
  const Mono now = boot_now();
  open_[what.shell] = {.node = node, .events = std::move(events), .since = now, .active = now};
  workers_.send(node, what);
  sweep();
  return what.shell;
}

void ShellRelay::on_output(NodeId node, const protocol::ShellOutput& output) {
  Open* open = find(node, output.shell);
  if (open == nullptr) return;  // closed from here, and not yet known there
  open->answered = true;
  auto bytes = wire::from_base64(output.data);
  if (!bytes) return end(output.shell, "what its node sends cannot be read");
  const auto events = open->events;  // they may close it
  if (!bytes->empty()) open->active = boot_now();
  if (output.credit > 0) events.on_room(output.credit);
  if (!bytes->empty()) events.on_output(*std::move(bytes));
}

void ShellRelay::on_closed(NodeId node, const protocol::ShellClosed& closed) {
  if (find(node, closed.shell) == nullptr) return;
  const auto events = std::move(open_.extract(closed.shell).mapped().events);
  events.on_closed(closed);
}

void ShellRelay::on_node_lost(NodeId node) {
  std::vector<std::int64_t> lost;
  for (const auto& [number, open] : open_)
    if (open.node == node) lost.push_back(number);
  for (const auto number : lost) end(number, "the connection to the node is lost");
}

void ShellRelay::close_all() {
  timer_.cancel();
  while (!open_.empty()) end(open_.begin()->first, "the scheduler stops");
}

// From this side; the worker is told.
void ShellRelay::end(std::int64_t shell, const std::string& why) {
  const auto found = open_.find(shell);
  if (found == open_.end()) return;
  const Open open = std::move(found->second);
  open_.erase(found);
  workers_.send(open.node, protocol::CloseShell{shell});
  protocol::ShellClosed closed;
  closed.shell = shell;
  closed.error = why;
  open.events.on_closed(closed);
}

void ShellRelay::input(std::int64_t shell, std::string_view bytes, bool end) {
  const auto found = open_.find(shell);
  if (found == open_.end()) return;
  found->second.active = boot_now();
  protocol::ShellInput m;
  m.shell = shell;
  m.end = end;
  m.data = wire::to_base64(bytes);
  workers_.send(found->second.node, m);
}

void ShellRelay::grant(std::int64_t shell, std::int64_t bytes) {
  const auto found = open_.find(shell);
  if (found == open_.end() || bytes <= 0) return;
  protocol::ShellInput m;
  m.shell = shell;
  m.credit = bytes;
  workers_.send(found->second.node, m);
}

void ShellRelay::resize(std::int64_t shell, std::int32_t rows, std::int32_t columns) {
  const auto found = open_.find(shell);
  if (found == open_.end()) return;
  found->second.active = boot_now();
  workers_.send(found->second.node, protocol::ShellResize{shell, rows, columns});
}

void ShellRelay::close(std::int64_t shell) {
  const auto found = open_.find(shell);
  if (found == open_.end()) return;
  const NodeId node = found->second.node;
  open_.erase(found);
  workers_.send(node, protocol::CloseShell{shell});
}

void ShellRelay::sweep() {
  if (sweeping_) return;
  timer_.expires_after(kSweepEvery);
  timer_.async_wait([this](boost::system::error_code ec) {
    sweeping_ = false;
    if (ec) return;
    const Mono now = boot_now();
    std::vector<std::pair<std::int64_t, std::string>> over;
    for (const auto& [number, open] : open_) {
      if (!open.answered && now - open.since >= kAnswers)
        over.emplace_back(number, "the node does not answer; its worker may be of an older version");
      else if (idle_ > Duration::zero() && now - open.active >= idle_)
        over.emplace_back(number, "nothing was typed and nothing written for too long");
    }
    for (const auto& [number, why] : over) end(number, why);
    if (!open_.empty()) sweep();
  });
  sweeping_ = true;  // not before: if there was no memory for that, the next shell is to try again
}

}  // namespace tutti
