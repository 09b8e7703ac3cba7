// HTTP over libcurl: one request and its answer, or an answer that is read as it comes. Knows nothing of
// Tutti. Used by client.h and `tutti up`. One thread per object.
//
// Invariants
// 1. Every call has a deadline; a stream is never read without one.
// 2. What is held in memory is bounded: answers by kMaxAnswer, a stream by kMaxUnread (then the sender
// waits).
// 3. Trouble::not_sent is said only when the server cannot have seen the request.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "cli/connection.h"

namespace tutti::cli {

inline constexpr std::size_t kMaxAnswer = 256 << 20;
inline constexpr std::size_t kMaxUnread = 1 << 20;

using Headers = std::vector<std::pair<std::string, std::string>>;

struct HttpRequest {
  std::string method = "GET";
  std::string path;  // "/v1/jobs?state=running", already encoded
  Headers headers;
  std::string body;
};

struct HttpReply {
  int status = 0;
  Headers headers;
  std::string body;
  std::string_view header(std::string_view name) const;  // names in any case; "" if absent
};

enum class Trouble {
  none,
  not_sent,   // no connection: the server has not seen it
  uncertain,  // lost on the way: it may have happened
  hopeless    // the same again would fail the same way (certificate, URL, answer too large)
};

struct Outcome {
  Trouble trouble = Trouble::none;
  std::string why;
  HttpReply reply;
};

class Transfer {
 public:
  explicit Transfer(Connection connection);
  ~Transfer();
  Transfer(const Transfer&) = delete;
  Transfer& operator=(const Transfer&) = delete;

  Outcome perform(const HttpRequest& request, std::chrono::milliseconds timeout);
  void use(const std::string& server);  // from now on

 private:
  struct State;
  std::unique_ptr<State> state_;
};

class HttpStream {
 public:
  // Sends the request and waits for the head of the answer. A refusal (status >= 300) is read whole.
  HttpStream(const Connection& connection, const HttpRequest& request, std::chrono::milliseconds timeout);
  ~HttpStream();
  HttpStream(const HttpStream&) = delete;
  HttpStream& operator=(const HttpStream&) = delete;

  const Outcome& opened() const;

  enum class Read {
    data,
    quiet,  // nothing came in time
    end,    // the server ended the body in order
    broken  // the connection is lost
  };
  // Appends what has come. `at_most` is how long to wait for the first byte.
  Read read(std::string& into, std::chrono::milliseconds at_most);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace tutti::cli
