// A small blocking HTTP/1.1 client over a plain socket, for tests, end-to-end runs and readiness probes. Std
// only. The CLI and webhooks use libcurl (TLS, proxies); this one is for talking to our own server on
// localhost.
//
// Threads: one at a time. Errors: std::runtime_error when the world fails (refused, reset, deadline); an HTTP
// status is never an exception. Every call has a deadline over all of its waiting.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "api/http/message.h"

namespace tutti::http {

struct ClientResponse {
  int status = 0;
  Headers headers;
  std::string body;

  std::string_view header(std::string_view name) const;  // "" if absent
};

/// A connected stream socket with deadlines. Bytes only; also what tests use to misbehave.
class ByteSocket {
 public:
  using Deadline = std::chrono::steady_clock::time_point;

  ByteSocket() = default;
  ~ByteSocket();
  ByteSocket(ByteSocket&& other) noexcept;
  ByteSocket& operator=(ByteSocket&& other) noexcept;
  ByteSocket(const ByteSocket&) = delete;
  ByteSocket& operator=(const ByteSocket&) = delete;

  /// A host that starts with '/' is the path of a unix socket.
  static ByteSocket connect(const std::string& host, std::uint16_t port, Deadline until);

  bool open() const { return fd_ >= 0; }
  int fd() const { return fd_; }
  void close();
  void shutdown_send();
  void send(std::string_view bytes, Deadline until);
  /// Appends what arrives to `into`; false at the end of the stream.
  bool receive(std::string& into, Deadline until, std::size_t most = 64 << 10);

 private:
  int fd_ = -1;
};

/// Keeps its connection between requests, reconnects once if the server has closed it meanwhile.
class HttpClient {
 public:
  HttpClient(std::string host, std::uint16_t port) : host_(std::move(host)), port_(port) {}

  ClientResponse request(std::string_view method, std::string_view target, const Headers& headers = {},
                         std::string_view body = {},
                         std::chrono::milliseconds timeout = std::chrono::seconds(10));

  /// Sends the request and reads the header only; then read_chunk() gives the body as it comes (follow, SSE).
  ClientResponse open_stream(std::string_view method, std::string_view target, const Headers& headers = {},
                             std::chrono::milliseconds timeout = std::chrono::seconds(10));
  /// The next piece of the body; nothing when it has ended.
  std::optional<std::string> read_chunk(std::chrono::milliseconds timeout);
  /// One event of an SSE body ("id: 1\ndata: x", without the empty line), comments skipped; nothing at the
  /// end.
  std::optional<std::string> read_event(std::chrono::milliseconds timeout);

  void close();

 private:
  using Deadline = ByteSocket::Deadline;

  ClientResponse read_head(Deadline until);
  std::optional<std::string> read_piece(Deadline until);
  std::string take(std::size_t bytes, Deadline until);
  std::string take_line(Deadline until);
  void send_request(std::string_view method, std::string_view target, const Headers& headers,
                    std::string_view body, Deadline until);

  enum class Framing : std::uint8_t {
    none,
    length,
    chunked,
    until_close
  };

  std::string host_;
  std::uint16_t port_;
  ByteSocket socket_;
  std::string input_;
  std::string events_;
  Framing framing_ = Framing::none;
  std::size_t remaining_ = 0;
  bool reusable_ = false;
};

/// One request on its own connection.
ClientResponse http_request(const std::string& host, std::uint16_t port, std::string_view method,
                            std::string_view target, const Headers& headers = {}, std::string_view body = {},
                            std::chrono::milliseconds timeout = std::chrono::seconds(10));

}  // namespace tutti::http
