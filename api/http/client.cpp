#include "api/http/client.h"

#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <utility>

namespace tutti::http {
namespace {

using Deadline = ByteSocket::Deadline;
constexpr std::size_t kMostHead = 256 << 10;

[[noreturn]] void fail(const std::string& what, int code) {
  throw std::runtime_error(what + ": " + std::strerror(code));
}

void wait_for(int fd, short events, Deadline until) {
  for (;;) {
    const auto left =
        std::chrono::ceil<std::chrono::milliseconds>(until - std::chrono::steady_clock::now()).count();
    if (left <= 0) throw std::runtime_error("deadline passed");
    pollfd entry{fd, events, 0};
    const int ready = ::poll(&entry, 1, static_cast<int>(std::min<std::int64_t>(left, 60'000)));
    if (ready > 0) return;
    if (ready < 0 && errno != EINTR) fail("poll", errno);
  }
}

/// Connected or -1 with errno.
int connect_to(int family, const sockaddr* address, socklen_t size, Deadline until) {
  const int fd = ::socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return -1;
  int error = ::connect(fd, address, size) == 0 ? 0 : errno;
  if (error == EINPROGRESS) {
    try {
      wait_for(fd, POLLOUT, until);
    } catch (...) {
      ::close(fd);
      throw;
    }
    socklen_t length = sizeof error;
    ::getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length);
  }
  if (error == 0) return fd;
  ::close(fd);
  errno = error;
  return -1;
}

int connect_unix(const std::string& path, Deadline until) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) fail(path, ENAMETOOLONG);
  std::copy(path.begin(), path.end(), address.sun_path);
  return connect_to(AF_UNIX, reinterpret_cast<const sockaddr*>(&address), sizeof address, until);
}

int connect_tcp(const std::string& host, std::uint16_t port, Deadline until) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  const int code = ::getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &found);
  if (code != 0) throw std::runtime_error(host + ": " + ::gai_strerror(code));
  const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> owner(found, &::freeaddrinfo);
  int fd = -1;
  for (const auto* entry = found; entry != nullptr && fd < 0; entry = entry->ai_next)
    fd = connect_to(entry->ai_family, entry->ai_addr, entry->ai_addrlen, until);
  if (fd >= 0) {
    const int on = 1;
    ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  }
  return fd;
}

std::string_view trim(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t' || text.back() == '\r'))
    text.remove_suffix(1);
  return text;
}

std::size_t parse_number(std::string_view text, int base) {
  std::size_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number, base);
  if (error != std::errc{} || end == text.data()) throw std::runtime_error("bad number in the answer");
  return number;
}

}  // namespace

std::string_view ClientResponse::header(std::string_view name) const {
  const auto* value = find_header(headers, name);
  return value == nullptr ? std::string_view{} : std::string_view(*value);
}

ByteSocket::~ByteSocket() { close(); }
ByteSocket::ByteSocket(ByteSocket&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
ByteSocket& ByteSocket::operator=(ByteSocket&& other) noexcept {
  if (this != &other) {
    close();
    fd_ = std::exchange(other.fd_, -1);
  }
  return *this;
}

ByteSocket ByteSocket::connect(const std::string& host, std::uint16_t port, Deadline until) {
  ByteSocket socket;
  socket.fd_ = host.starts_with('/') ? connect_unix(host, until) : connect_tcp(host, port, until);
  if (socket.fd_ < 0) fail("connect to " + host + ":" + std::to_string(port), errno);
  return socket;
}

void ByteSocket::close() {
  if (fd_ >= 0) ::close(std::exchange(fd_, -1));
}

void ByteSocket::shutdown_send() { ::shutdown(fd_, SHUT_WR); }

void ByteSocket::send(std::string_view bytes, Deadline until) {
  while (!bytes.empty()) {
    const auto sent = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent >= 0) {
      bytes.remove_prefix(static_cast<std::size_t>(sent));
    } else if (errno == EAGAIN) {
      wait_for(fd_, POLLOUT, until);
    } else if (errno != EINTR) {
      fail("send", errno);
    }
  }
}

bool ByteSocket::receive(std::string& into, Deadline until, std::size_t most) {
  const auto before = into.size();
  into.resize(before + most);
  for (;;) {
    const auto got = ::recv(fd_, into.data() + before, most, 0);
    const int error = errno;
    if (got >= 0) {
      into.resize(before + static_cast<std::size_t>(got));
      return got > 0;
    }
    if (error == EINTR) continue;
    if (error != EAGAIN) {
      into.resize(before);
      fail("receive", error);
    }
    try {
      wait_for(fd_, POLLIN, until);
    } catch (...) {
      into.resize(before);
      throw;
    }
  }
}

void HttpClient::close() {
  socket_.close();
  input_.clear();
  events_.clear();
  framing_ = Framing::none;
  reusable_ = false;
}

void HttpClient::send_request(std::string_view method, std::string_view target, const Headers& headers,
                              std::string_view body, Deadline until) {
  std::string bytes;
  bytes.append(method).append(" ").append(target).append(" HTTP/1.1\r\n");
  if (find_header(headers, "Host") == nullptr)
    bytes.append("Host: ").append(host_.starts_with('/') ? "localhost" : host_).append("\r\n");
  for (const auto& header : headers)
    bytes.append(header.name).append(": ").append(header.value).append("\r\n");
  if (!body.empty() || method == "POST" || method == "PUT" || method == "PATCH")
    bytes.append("Content-Length: ").append(std::to_string(body.size())).append("\r\n");
  bytes.append("\r\n").append(body);
  if (!socket_.open()) socket_ = ByteSocket::connect(host_, port_, until);
  socket_.send(bytes, until);
}

std::string HttpClient::take(std::size_t bytes, Deadline until) {
  while (input_.size() < bytes) {
    if (!socket_.receive(input_, until)) throw std::runtime_error("the server closed the connection early");
  }
  std::string taken = input_.substr(0, bytes);
  input_.erase(0, bytes);
  return taken;
}

std::string HttpClient::take_line(Deadline until) {
  for (;;) {
    const auto end = input_.find('\n');
    if (end != std::string::npos)
      return std::string(trim(std::string_view(take(end + 1, until)).substr(0, end)));
    if (input_.size() > kMostHead) throw std::runtime_error("a line without an end");
    if (!socket_.receive(input_, until)) throw std::runtime_error("the server closed the connection early");
  }
}

ClientResponse HttpClient::read_head(Deadline until) {
  ClientResponse response;
  do {
    response = {};
    const auto status_line = take_line(until);
    if (!status_line.starts_with("HTTP/1.") || status_line.size() < 12)
      throw std::runtime_error("not an HTTP answer: " + status_line);
    response.status = static_cast<int>(parse_number(std::string_view(status_line).substr(9, 3), 10));
    for (auto line = take_line(until); !line.empty(); line = take_line(until)) {
      const auto colon = std::min(line.find(':'), line.size());
      const auto value = trim(std::string_view(line).substr(std::min(colon + 1, line.size())));
      response.headers.push_back({line.substr(0, colon), std::string(value)});
    }
  } while (response.status == 100);
  const auto length = response.header("Content-Length");
  reusable_ = !equal_ignoring_case(response.header("Connection"), "close");
  remaining_ = 0;
  if (response.status == 204 || response.status == 304) {
    framing_ = Framing::none;
  } else if (equal_ignoring_case(response.header("Transfer-Encoding"), "chunked")) {
    framing_ = Framing::chunked;
  } else if (!length.empty()) {
    framing_ = Framing::length;
    remaining_ = parse_number(length, 10);
  } else {
    framing_ = Framing::until_close;
    reusable_ = false;
  }
  return response;
}

std::optional<std::string> HttpClient::read_piece(Deadline until) {
  switch (framing_) {
    case Framing::none: return std::nullopt;
    case Framing::length: framing_ = Framing::none; return take(remaining_, until);
    case Framing::chunked: {
      const auto size = parse_number(take_line(until), 16);
      auto piece = take(size, until);
      take_line(until);
      if (size > 0) return piece;
      framing_ = Framing::none;
      return std::nullopt;
    }
    case Framing::until_close: {
      if (input_.empty() && !socket_.receive(input_, until)) {
        framing_ = Framing::none;
        return std::nullopt;
      }
      return std::exchange(input_, {});
    }
  }
  return std::nullopt;
}

ClientResponse HttpClient::request(std::string_view method, std::string_view target, const Headers& headers,
                                   std::string_view body, std::chrono::milliseconds timeout) {
  const auto until = std::chrono::steady_clock::now() + timeout;
  const bool reused = socket_.open() && reusable_;
  if (!reused) close();
  ClientResponse response;
  try {
    send_request(method, target, headers, body, until);
    response = read_head(until);
  } catch (const std::runtime_error&) {
    close();
    // A kept connection may have been closed by the server meanwhile. Only what may be repeated is repeated.
    const bool repeatable = method == "GET" || method == "HEAD";
    if (!reused || !repeatable || std::chrono::steady_clock::now() >= until) throw;
    send_request(method, target, headers, body, until);
    response = read_head(until);
  }
  if (method == "HEAD") framing_ = Framing::none;
  while (auto piece = read_piece(until)) response.body += *piece;
  if (!reusable_) close();
  return response;
}

ClientResponse HttpClient::open_stream(std::string_view method, std::string_view target,
                                       const Headers& headers, std::chrono::milliseconds timeout) {
  const auto until = std::chrono::steady_clock::now() + timeout;
  close();
  send_request(method, target, headers, {}, until);
  return read_head(until);
}

std::optional<std::string> HttpClient::read_chunk(std::chrono::milliseconds timeout) {
  return read_piece(std::chrono::steady_clock::now() + timeout);
}

std::optional<std::string> HttpClient::read_event(std::chrono::milliseconds timeout) {
  const auto until = std::chrono::steady_clock::now() + timeout;
  for (;;) {
    const auto end = events_.find("\n\n");
    if (end == std::string::npos) {
      const auto piece = read_piece(until);
      if (!piece) return std::nullopt;
      events_ += *piece;
      continue;
    }
    auto event = events_.substr(0, end);
    events_.erase(0, end + 2);
    if (!event.starts_with(':')) return event;
  }
}

ClientResponse http_request(const std::string& host, std::uint16_t port, std::string_view method,
                            std::string_view target, const Headers& headers, std::string_view body,
                            std::chrono::milliseconds timeout) {
  HttpClient client(host, port);
  return client.request(method, target, headers, body, timeout);
}

}  // namespace tutti::http
