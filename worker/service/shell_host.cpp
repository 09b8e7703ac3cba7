#include "worker/service/shell_host.h"

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/write.hpp>
#include <deque>
#include <optional>
#include <system_error>
#include <utility>

#include "api/wire/tar_gz.h"
#include "api/wire/utf8.h"
#include "worker/supervisor/files.h"
#include "worker/supervisor/shell_wire.h"

namespace tutti::worker {

namespace asio = boost::asio;
namespace wire_of = supervisor::shell_wire;
using Local = asio::local::stream_protocol;

namespace {

constexpr auto kComesUp = std::chrono::seconds(15);  // its supervisor may be older, and know no shells
constexpr std::size_t kMostWaiting = 1024;           // resizes among them
constexpr std::size_t kMostArguments = 256;
constexpr std::size_t kMostWords = 64 << 10;  // bytes of them

std::string four(std::int32_t n) { return supervisor::agent_wire::number(static_cast<std::uint32_t>(n)); }

}  // namespace

struct ShellHost::Shell : std::enable_shared_from_this<ShellHost::Shell> {
  Shell(ShellHost& h, std::int64_t n, std::int64_t window)
      : host(h), number(n), credit(window), acceptor(h.io_), socket(h.io_), timer(h.io_) {}
  ~Shell() { forget_name(); }

  void listen(const std::string& in, const std::string& named) {
    dir = in;
    name = named;
    auto fd = supervisor::listen_unix(dir, name, 0600, geteuid());  // root's: only the supervisor can connect
    const int copy = fcntl(fd.get(), F_DUPFD_CLOEXEC, 3);
    if (copy < 0) supervisor::throw_errno("dup");
    acceptor.assign(Local(), copy);
    acceptor.async_accept(socket, [self = shared_from_this()](boost::system::error_code ec) {
      if (ec || self->over) return;
      self->forget_name();
      self->read();
    });
    timer.expires_after(kComesUp);
    timer.async_wait([self = shared_from_this()](boost::system::error_code ec) {
      if (!ec && !self->runs)
        self->end("the attempt's supervisor does not answer; it may be of an older version");
    });
  }

  void forget_name() {
    boost::system::error_code ec;
    acceptor.close(ec);
    if (!name.empty()) ::unlink((dir + "/" + name).c_str());
    name.clear();
  }

  // No more than has been granted: then the shell waits, and its command with it.
  void read() {
    if (reading || over || !socket.is_open() || (runs && credit <= 0)) return;
    reading = true;
    socket.async_read_some(asio::buffer(chunk),
                           [self = shared_from_this()](boost::system::error_code ec, std::size_t n) {
                             self->reading = false;
                             if (self->over) return;
                             if (ec) return self->end("it was killed: the attempt has ended, perhaps");
                             self->buffer.append(self->chunk.data(), n);
                             self->take_frames();
                             self->read();
                           });
  }

  void take_frames() {
    bool broken = false;
    while (!over) {
      auto frame = wire_of::take(buffer, broken);
      if (!frame) break;
      if (frame->kind == wire_of::kOutput) {
        protocol::ShellOutput output;
        output.shell = number;
        if (!std::exchange(runs, true)) output.credit = protocol::kShellWindow;
        credit -= static_cast<std::int64_t>(frame->payload.size());
        output.data = wire::to_base64(frame->payload);
        host.events_.say(output);
      } else if (frame->kind == wire_of::kExit && frame->payload.size() == 5) {
        protocol::ShellClosed closed;
        const auto n = supervisor::agent_wire::number(std::string_view(frame->payload).substr(1));
        (frame->payload[0] == 's' ? closed.signal : closed.exit_code) = static_cast<std::int32_t>(n);
        finish(std::move(closed));
      } else if (frame->kind == wire_of::kRefused) {
        end(wire::to_utf8(frame->payload));
      }
    }
    if (broken) end("it says nonsense");
  }

  void send(char kind, std::string payload, std::int64_t grant = 0) {
    if (over) return;
    if (unwritten > 2 * protocol::kShellWindow) return end("more was typed than was granted");
    unwritten += grant;
    if (waiting.size() > kMostWaiting) return end("too much waits for it");
    waiting.push_back({wire_of::frame(kind, payload), grant});
    write();
  }

  void write() {
    if (writing || waiting.empty() || over || !runs) return;
    writing = true;
    asio::async_write(socket, asio::buffer(waiting.front().bytes),
                      [self = shared_from_this()](boost::system::error_code ec, std::size_t) {
                        self->writing = false;
                        if (self->over || ec) return;  // the reader sees the break as well
                        const auto grant = self->waiting.front().grant;
                        self->waiting.pop_front();
                        self->unwritten -= grant;
                        if (grant > 0) {
                          protocol::ShellOutput room;
                          room.shell = self->number;
                          room.credit = grant;
                          self->host.events_.say(room);
                        }
                        self->write();
                      });
  }

  void end(std::string why) {
    protocol::ShellClosed closed;
    closed.error = std::move(why);
    finish(std::move(closed));
  }
  void finish(protocol::ShellClosed last) {
    if (!over) host.finish(number, std::move(last));
  }
  // The shell sees the end of the connection, and ends its command.
  void hang_up() {
    over = true;
    forget_name();
    timer.cancel();
    boost::system::error_code ec;
    socket.close(ec);
  }

  struct Piece {
    std::string bytes;
    std::int64_t grant;
  };
  ShellHost& host;
  const std::int64_t number;
  std::int64_t credit;  // bytes that the scheduler takes
  std::string dir, name;
  Local::acceptor acceptor;
  Local::socket socket;
  asio::steady_timer timer;
  std::array<char, protocol::kShellPiece> chunk{};
  std::string buffer;
  std::deque<Piece> waiting;
  std::int64_t unwritten = 0;
  bool runs = false, reading = false, writing = false, over = false;
};

ShellHost::ShellHost(asio::io_context& io, std::string program, Events events)
    : io_(io), program_(std::move(program)), events_(std::move(events)) {}

ShellHost::~ShellHost() { close_all(); }

std::shared_ptr<ShellHost::Shell> ShellHost::find(std::int64_t shell) const {
  const auto found = shells_.find(shell);
  return found == shells_.end() ? nullptr : found->second;
}

void ShellHost::refuse(std::int64_t shell, const std::string& why) const {
  protocol::ShellClosed closed;
  closed.shell = shell;
  closed.error = why;
  events_.say(closed);
}

void ShellHost::open(const protocol::OpenShell& what, const std::string& dir,
                     const std::string& login_shell) {
  if (program_.empty()) return refuse(what.shell, "tutti-shell is not installed on this node");
  if (shells_.contains(what.shell)) return;  // said again
  if (shells_.size() >= static_cast<std::size_t>(protocol::kShellsPerNode))
    return refuse(what.shell, "too many commands run on this node already");
  std::size_t bytes = 0;
  for (const auto& word : what.argv) bytes += word.size();
  if (what.argv.size() > kMostArguments || bytes > kMostWords)
    return refuse(what.shell, "the command is too long");
  supervisor::OpenShell order;
  order.shell = next_++;
  order.socket = "shell-" + std::to_string(order.shell) + ".sock";
  order.rank = what.rank;
  order.term = what.tty ? (what.term.empty() ? "xterm-256color" : what.term) : "";
  order.argv = {program_};
  if (what.tty)
    order.argv.insert(order.argv.end(), {"--tty", std::to_string(what.rows), std::to_string(what.columns)});
  order.argv.emplace_back("--");
  order.argv.insert(order.argv.end(), what.argv.begin(), what.argv.end());
  if (what.argv.empty()) order.argv.push_back(login_shell);
  auto shell = std::make_shared<Shell>(*this, what.shell, what.credit);
  try {
    shell->listen(dir, order.socket);
  } catch (const std::system_error& e) {
    shell->hang_up();
    return refuse(what.shell, e.what());
  }
  shells_[what.shell] = shell;
  events_.tell_supervisor(what.key, std::move(order));
}

void ShellHost::input(const protocol::ShellInput& m) {
  const auto shell = find(m.shell);
  if (!shell) return;  // has ended meanwhile
  shell->credit += m.credit;
  const auto bytes = wire::from_base64(m.data);
  if (!bytes) return shell->end("what was typed cannot be read");
  for (std::size_t at = 0; at < bytes->size(); at += protocol::kShellPiece) {
    auto piece = bytes->substr(at, protocol::kShellPiece);
    const auto size = static_cast<std::int64_t>(piece.size());
    shell->send(wire_of::kInput, std::move(piece), size);
  }
  if (m.end) shell->send(wire_of::kEnd, "");
  shell->read();
}

void ShellHost::resize(const protocol::ShellResize& m) {
  if (const auto shell = find(m.shell)) shell->send(wire_of::kResize, four(m.rows) + four(m.columns));
}

void ShellHost::close(std::int64_t number) {
  const auto shell = find(number);
  if (!shell) return;
  shell->hang_up();
  shells_.erase(number);
}

void ShellHost::close_all() {
  for (const auto& [number, shell] : std::exchange(shells_, {})) shell->hang_up();
}

void ShellHost::finish(std::int64_t number, protocol::ShellClosed last) {
  const auto shell = find(number);
  if (!shell) return;
  shell->hang_up();
  shells_.erase(number);
  last.shell = number;
  events_.say(last);
}

}  // namespace tutti::worker
