#include "worker/supervisor/agent_server.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <boost/json.hpp>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "worker/supervisor/agent_wire.h"
#include "worker/supervisor/files.h"

namespace tutti::supervisor {
namespace {

constexpr std::size_t kMaxSessions = 64;
constexpr std::size_t kMaxUnsent = 1 << 20;
constexpr std::int64_t kSecretWithin = 5'000'000;

bool same_secret(std::string_view a, std::string_view b) {  // takes as long whatever differs
  if (a.size() != b.size()) return false;
  unsigned difference = 0;
  for (std::size_t i = 0; i < a.size(); ++i)
    difference |= static_cast<unsigned char>(a[i]) ^ static_cast<unsigned char>(b[i]);
  return difference == 0;
}

struct Request {
  std::string secret, command;
};

std::optional<Request> parse_request(std::string_view line) {
  boost::json::error_code error;
  const auto v = boost::json::parse(boost::json::string_view(line.data(), line.size()), error);
  if (error || !v.is_object()) return std::nullopt;
  const auto* secret = v.get_object().if_contains("secret");
  const auto* command = v.get_object().if_contains("command");
  if (secret == nullptr || command == nullptr || !secret->is_string() || !command->is_string())
    return std::nullopt;
  return Request{std::string(secret->get_string()), std::string(command->get_string())};
}

std::string text_of(const sockaddr_storage& address) {
  char text[INET6_ADDRSTRLEN] = "?";
  if (address.ss_family == AF_INET)
    inet_ntop(AF_INET, &reinterpret_cast<const sockaddr_in&>(address).sin_addr, text, sizeof text);
  else if (address.ss_family == AF_INET6)
    inet_ntop(AF_INET6, &reinterpret_cast<const sockaddr_in6&>(address).sin6_addr, text, sizeof text);
  return text;
}

Fd bind_tcp(const std::string& address, std::int32_t& port) {
  sockaddr_storage at{};
  auto& v4 = reinterpret_cast<sockaddr_in&>(at);
  auto& v6 = reinterpret_cast<sockaddr_in6&>(at);
  socklen_t length = sizeof v4;
  if (address.empty()) {
    v4.sin_family = AF_INET;
    v4.sin_addr.s_addr = htonl(INADDR_ANY);
  } else if (inet_pton(AF_INET, address.c_str(), &v4.sin_addr) == 1) {
    v4.sin_family = AF_INET;
  } else if (inet_pton(AF_INET6, address.c_str(), &v6.sin6_addr) == 1) {
    v6.sin6_family = AF_INET6;
    length = sizeof v6;
  } else {
    errno = EINVAL;
    throw_errno("address " + address);
  }
  Fd fd(socket(at.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) throw_errno("socket");
  if (bind(fd.get(), reinterpret_cast<const sockaddr*>(&at), length) != 0) throw_errno("bind " + address);
  length = sizeof at;
  if (getsockname(fd.get(), reinterpret_cast<sockaddr*>(&at), &length) != 0) throw_errno("getsockname");
  port = ntohs(at.ss_family == AF_INET6 ? v6.sin6_port : v4.sin_port);
  return fd;
}

}  // namespace

Fd reserve_port(const std::string& address, std::int32_t& port) { return bind_tcp(address, port); }

Fd listen_tcp(const std::string& address, std::int32_t& port) {
  Fd fd = bind_tcp(address, port);
  if (listen(fd.get(), 64) != 0) throw_errno("listen " + address);
  return fd;
}

AgentServer::AgentServer(Poller& poller, Fd listener, std::string secret, Start start)
    : poller_(poller), listener_(std::move(listener)), secret_(std::move(secret)), start_(std::move(start)) {
  poller_.add(listener_.get(), EPOLLIN, [this](std::uint32_t) { accept_all(); });
}

AgentServer::~AgentServer() {
  poller_.remove(listener_.get());
  for (Session& session : sessions_) {
    drop_pipe(session.out);
    drop_pipe(session.err);
  }
}

void AgentServer::accept_all() {
  for (std::size_t i = 0; i < kMaxSessions; ++i) {
    sockaddr_storage from{};
    socklen_t length = sizeof from;
    Fd fd(
        accept4(listener_.get(), reinterpret_cast<sockaddr*>(&from), &length, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!fd) return;  // none left, or out of descriptors: the Poller calls again
    if (sessions_.size() >= kMaxSessions) {
      std::fprintf(stderr, "agent: too many connections, %s is turned away\n", text_of(from).c_str());
      continue;
    }
    sessions_.emplace_back();
    const Where session = std::prev(sessions_.end());
    session->from = text_of(from);
    session->secret_until = boot_us() + kSecretWithin;
    session->peer = std::make_unique<Peer>(
        poller_, std::move(fd), Peer::Limits{agent_wire::kMaxRequest, 4 * kMaxUnsent},
        [this, session](std::string_view line) { on_request(session, line); },
        [this, session] { on_lost(session); });
  }
}

void AgentServer::on_request(Where session, std::string_view line) {
  if (session->secret_until == 0) return;  // one request a connection
  session->secret_until = 0;
  const auto request = parse_request(line);
  if (!request || secret_.empty() || !same_secret(request->secret, secret_)) {
    std::fprintf(stderr, "agent: wrong secret from %s\n", session->from.c_str());
    shutdown(session->peer->fd(), SHUT_RDWR);  // the Poller then reports it gone
    return;
  }
  int out[2], err[2];
  if (pipe2(out, O_CLOEXEC) != 0)
    return session->peer->send(agent_wire::frame(agent_wire::Frame::refused, "no pipe"));
  session->out = Fd(out[0]);
  const Fd out_end(out[1]);
  if (pipe2(err, O_CLOEXEC) != 0)
    return session->peer->send(agent_wire::frame(agent_wire::Frame::refused, "no pipe"));
  session->err = Fd(err[0]);
  const Fd err_end(err[1]);
  std::string refusal;
  session->pid = start_(request->command, out_end.get(), err_end.get(), refusal);
  if (session->pid == 0) {
    session->out.reset();
    session->err.reset();
    return session->peer->send(agent_wire::frame(agent_wire::Frame::refused, refusal));
  }
  session->peer->send(agent_wire::frame(agent_wire::Frame::out, ""));  // "it runs": the agent waits for this
  for (Fd* pipe : {&session->out, &session->err}) {
    fcntl(pipe->get(), F_SETFL, O_NONBLOCK);  // our end only: the command's stays blocking
    const char kind =
        static_cast<char>(pipe == &session->out ? agent_wire::Frame::out : agent_wire::Frame::err);
    poller_.add(pipe->get(), EPOLLIN,
                [this, session, pipe, kind](std::uint32_t) { relay(session, *pipe, kind); });
  }
}

void AgentServer::relay(Where session, Fd& pipe, char kind) {
  char chunk[16384];
  for (int rounds = 0; pipe && rounds < 64; ++rounds) {
    const ssize_t n = read(pipe.get(), chunk, sizeof chunk);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == EAGAIN) return;
    if (n <= 0) return drop_pipe(pipe);
    if (!session->peer) continue;
    if (session->peer->unsent() > kMaxUnsent)
      session->dropped += static_cast<std::size_t>(n);
    else
      session->peer->send(agent_wire::frame(static_cast<agent_wire::Frame>(kind),
                                            std::string_view(chunk, static_cast<std::size_t>(n))));
  }
}

void AgentServer::drop_pipe(Fd& pipe) {
  if (!pipe) return;
  poller_.remove(pipe.get());
  pipe.reset();
}

void AgentServer::on_lost(Where session) {
  session->peer.reset();
  if (session->pid == 0) {
    drop_pipe(session->out);
    drop_pipe(session->err);
    sessions_.erase(session);
  } else {
    std::fprintf(stderr, "agent: connection from %s lost, its command runs on\n", session->from.c_str());
  }
}

bool AgentServer::on_process_ended(pid_t pid, const Exit& exit) {
  for (Where session = sessions_.begin(); session != sessions_.end(); ++session) {
    if (session->pid != pid) continue;
    session->pid = 0;
    relay(session, session->out, static_cast<char>(agent_wire::Frame::out));
    relay(session, session->err, static_cast<char>(agent_wire::Frame::err));
    drop_pipe(session->out);  // a grandchild may hold the other end for ever
    drop_pipe(session->err);
    if (!session->peer) {
      sessions_.erase(session);
      return true;
    }
    if (session->dropped > 0)
      session->peer->send(agent_wire::frame(agent_wire::Frame::err, "[" + std::to_string(session->dropped) +
                                                                        " bytes of output were dropped]\n"));
    const auto status = static_cast<std::uint32_t>(exit.signal != 0 ? 128 + exit.signal : exit.code);
    session->peer->send(agent_wire::frame(agent_wire::Frame::exit, agent_wire::number(status)));
    return true;
  }
  return false;
}

std::optional<std::int64_t> AgentServer::next_deadline() const {
  std::optional<std::int64_t> next;
  for (const Session& session : sessions_)
    if (session.secret_until != 0) next = std::min(next.value_or(session.secret_until), session.secret_until);
  return next;
}

void AgentServer::expire(std::int64_t now) {
  for (Where session = sessions_.begin(); session != sessions_.end();) {
    const Where it = session++;
    if (it->secret_until == 0 || now < it->secret_until) continue;
    std::fprintf(stderr, "agent: %s showed no secret in time\n", it->from.c_str());
    on_lost(it);
  }
}

}  // namespace tutti::supervisor
