#include "worker/service/supervisor_link.h"

#include <fcntl.h>
#include <signal.h>
#include <spdlog/spdlog.h>
#include <sys/socket.h>

#include <boost/asio/read_until.hpp>
#include <boost/asio/write.hpp>
#include <istream>
#include <system_error>

#include "worker/supervisor/files.h"
#include "worker/supervisor/proc_scan.h"

namespace tutti::worker {

namespace asio = boost::asio;
using Socket = asio::local::stream_protocol::socket;

namespace {
constexpr auto kSocketName = "supervisor.sock";
constexpr std::size_t kMaxLine = 1 << 20;
constexpr auto kRetry = std::chrono::milliseconds(20);
}  // namespace

// Outlives the link while handlers are under way; `closed` silences them.
struct SupervisorLink::State : std::enable_shared_from_this<SupervisorLink::State> {
  State(asio::io_context& io_, std::string dir_, std::chrono::milliseconds deadline_, Events events_)
      : io(io_),
        dir(std::move(dir_)),
        deadline(deadline_),
        events(std::move(events_)),
        retry(io_),
        doom(io_) {}

  void watch(pid_t pid) {
    process = std::make_unique<Watched>(io, pid, [self = shared_from_this()] { self->gone(); });
    kill_after(deadline);  // unless it comes up
    connect();
  }

  // What it said last may still lie in the socket: its death is told after the end of that.
  void gone() {
    if (closed) return;
    dead = true;
    if (socket)
      kill_after(std::chrono::seconds(1));
    else
      finish();
  }

  void finish() {
    close();
    events.on_gone();
  }

  void close() {
    closed = true;
    process.reset();
    retry.cancel();
    doom.cancel();
    if (socket) {
      boost::system::error_code ec;
      socket->close(ec);
    }
  }

  void kill_after(std::chrono::milliseconds time) {
    doom.expires_after(time);
    doom.async_wait([self = shared_from_this()](boost::system::error_code ec) {
      if (ec || self->closed || !self->process) return;
      if (self->dead) return self->finish();
      spdlog::error("{}: supervisor {} neither speaks nor ends: killed", self->dir, self->process->pid());
      self->process->signal(SIGKILL);
    });
  }

  void connect() {
    if (closed) return;
    try {
      auto fd = supervisor::connect_unix(dir, kSocketName);
      socket.emplace(io, asio::local::stream_protocol(), dup_of(fd.get()));
    } catch (const std::system_error&) {  // not listening yet, or dying
      retry.expires_after(kRetry);
      retry.async_wait([self = shared_from_this()](boost::system::error_code ec) {
        if (!ec) self->connect();
      });
      return;
    }
    first = true;
    writing = false;
    read();
    write();
  }

  static int dup_of(int fd) {
    const int copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    if (copy < 0) supervisor::throw_errno("dup");
    return copy;
  }

  void broken() {
    if (closed || !socket) return;
    socket.reset();
    text.consume(text.size());
    if (dead) return finish();
    if (!quitting) kill_after(deadline);
    connect();
  }

  void read() {
    asio::async_read_until(*socket, text, '\n',
                           [self = shared_from_this()](boost::system::error_code ec, std::size_t) {
                             if (self->closed) return;
                             if (ec) return self->broken();
                             self->take_lines();
                             if (!self->closed && self->socket) self->read();
                           });
  }

  void take_lines() {
    std::string line;
    while (!closed &&
           std::string_view(static_cast<const char*>(text.data().data()), text.size()).find('\n') !=
               std::string_view::npos) {
      std::istream in(&text);
      std::getline(in, line);
      try {
        const auto status = supervisor::decode_status(line);
        if (!quitting && !dead) doom.cancel();
        events.on_status(status, std::exchange(first, false));
      } catch (const std::invalid_argument& e) {
        spdlog::error("{}: supervisor says nonsense: {}", dir, e.what());
      }
    }
  }

  void write() {
    if (closed || !socket || writing || waiting.empty()) return;
    writing = true;
    auto line = std::make_shared<std::string>(supervisor::encode(waiting.front()));
    waiting.pop_front();
    asio::async_write(*socket, asio::buffer(*line),
                      [self = shared_from_this(), line](boost::system::error_code ec, std::size_t) {
                        if (self->closed || ec) return;  // the reader sees the break as well
                        self->writing = false;
                        self->write();
                      });
  }

  asio::io_context& io;
  std::string dir;
  std::chrono::milliseconds deadline;
  Events events;
  asio::steady_timer retry, doom;
  std::unique_ptr<Watched> process;
  std::optional<Socket> socket;
  asio::streambuf text{kMaxLine};
  std::deque<supervisor::ToSupervisor> waiting;
  bool first = true, writing = false, quitting = false, dead = false, closed = false;
};

SupervisorLink::SupervisorLink(asio::io_context& io, std::string dir, std::chrono::milliseconds deadline,
                               Events events)
    : state_(std::make_shared<State>(io, std::move(dir), deadline, std::move(events))) {}

SupervisorLink::~SupervisorLink() { state_->close(); }

void SupervisorLink::start(const std::string& program) {
  SpawnRequest request;
  request.argv = {program, state_->dir};
  request.own_session = true;
  request.log = state_->dir + "/supervisor.log";
  state_->watch(spawn_child(request));
}

void SupervisorLink::adopt(pid_t pid) { state_->watch(pid); }

void SupervisorLink::send(const supervisor::ToSupervisor& command) {
  if (state_->closed) return;
  if (state_->waiting.size() >= kMaxWaiting) state_->waiting.pop_front();
  state_->waiting.push_back(command);
  state_->write();
}

void SupervisorLink::expect_end() {
  if (state_->closed) return;
  state_->quitting = true;
  state_->kill_after(state_->deadline / 2);
}

pid_t find_supervisor(const std::string& dir) {
  try {
    const auto fd = supervisor::connect_unix(dir, kSocketName);
    ucred peer{};
    socklen_t length = sizeof peer;
    if (getsockopt(fd.get(), SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0 && peer.pid > 0) return peer.pid;
  } catch (const std::system_error&) {  // nobody listens
  }
  const auto holders = supervisor::find_holders(dir + "/supervisor.lock");
  return holders.empty() ? 0 : holders.front();
}

}  // namespace tutti::worker
