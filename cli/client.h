// The REST interface as the verbs use it: answers become values, refusals become Failure, and what is safe to
// repeat is repeated while the server is away. Called by every verb but `up`. One thread.
//
// What is tried again, within --retry-for, with back-off and honouring Retry-After:
//   503 and a refused connection: always, nothing has happened;
//   429, when its Retry-After lies within --retry-for;
//   an answer lost on the way: reads, and writes with an idempotency key (the same key every time).
// With several addresses the next one is asked before anything is waited for, once round, when nothing has
// happened at one: no connection, 503, or 421 (it does not lead). What answered last is asked first.
#pragma once

#include <boost/json/object.hpp>
#include <boost/json/value.hpp>
#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "cli/failure.h"
#include "cli/transfer.h"

namespace tutti::cli {

struct Patience {
  std::chrono::milliseconds retry_for{30'000};  // per outage
  std::chrono::milliseconds timeout{30'000};    // per request
};

// What the server said: the bytes, for people who want them unchanged, and the tree.
struct Document {
  std::string text;
  boost::json::value tree;
  HttpReply head;  // status and headers; the body is `text`
};

class Client {
 public:
  // `note` is told, once per outage, that we wait.
  Client(Connection connection, Patience patience, std::function<void(const std::string&)> note);

  Document get(const std::string& path);
  Document post(const std::string& path, const boost::json::value& body, Headers headers = {});
  Document put(const std::string& path, const boost::json::value& body);
  Document patch(const std::string& path, const boost::json::value& body, Headers headers = {});
  Document remove(const std::string& path);
  // Bytes as they are; changes nothing, so it may be repeated.
  Document post_text(const std::string& path, std::string body, const std::string& content_type);
  // Bytes as they are, under an idempotency key.
  Document submit(std::string body, const std::string& content_type, const std::string& key);

  // An open stream with a status below 300. Throws Failure.
  std::unique_ptr<HttpStream> stream(const std::string& path, Headers headers);
  // Once, without patience: the answer whatever its status, or the trouble.
  Outcome try_get(const std::string& path);
  std::unique_ptr<HttpStream> try_stream(const std::string& path, Headers headers);

  const Patience& patience() const { return patience_; }
  const Connection& connection() const { return connection_; }

 private:
  Document call(const HttpRequest& request, bool repeatable);
  Outcome ask(const HttpRequest& request);
  bool turn(const Outcome& outcome, std::size_t asked);  // to another address; false: all have been asked
  Document send(const char* method, const std::string& path, const boost::json::value& body, Headers headers,
                bool repeatable);
  void wait_before_retry(int tries, std::string_view retry_after, std::chrono::steady_clock::time_point until,
                         const std::string& why);

  Connection connection_;
  Patience patience_;
  std::function<void(const std::string&)> note_;
  Transfer transfer_;
};

// The Failure that an answer with status >= 300 stands for.
Failure failure_of(const HttpReply& reply);
// The pause before try number `tries` + 1: full jitter under a doubling bound, at least what the server
// asked.
std::chrono::milliseconds retry_pause(int tries, std::string_view retry_after, double dice);
std::string percent_encode(std::string_view text);  // of one path segment or query value
std::string make_key();                             // 128 random bits, as an idempotency key

}  // namespace tutti::cli
