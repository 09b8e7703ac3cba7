// The scheduler's REST API as a test uses it. One connection; one thread. A scheduler that does not answer,
// or says 503, or that it does not know, is Unreachable, so that await() waits over its restart; any other
// status that was not asked for is a Failure.
#pragma once

#include <boost/json.hpp>
#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "api/http/client.h"
#include "tests/e2e/failure.h"

namespace tutti::e2e {

namespace json = boost::json;

class Rest {
 public:
  Rest(std::uint16_t port, std::string token, std::string host = "127.0.0.1");

  json::value get(const std::string& target);
  json::value post(const std::string& target, const json::value& body = json::object(),
                   const std::string& key = {});
  /// Whatever comes, but for what makes it Unreachable.
  http::ClientResponse raw(std::string_view method, const std::string& target, const std::string& body = {},
                           const std::string& key = {});
  std::string text(const std::string& target);
  /// `from` ≥ 0: the last event that we have.
  http::ClientResponse open_events(const std::string& target, std::int64_t from = -1);
  http::ClientResponse open(const std::string& target);
  http::HttpClient& client() { return client_; }

  std::string user;                            // on whose behalf what follows is asked, "" = the token's own
  std::string traceparent;                     // W3C trace context of what follows, "" = none
  std::chrono::milliseconds patience{30'000};  // with one answer of raw(), get() and post()

 private:
  http::Headers headers(const std::string& key = {}) const;

  std::string token_;
  http::HttpClient client_;
};

/// Events of a stream, one at a time.
class EventStream {
 public:
  EventStream(std::uint16_t port, const std::string& token, const std::string& target,
              std::int64_t from = -1);
  /// Nothing at the end of the stream or at the deadline (`ended` tells which).
  std::optional<json::object> next(std::chrono::milliseconds deadline);
  bool ended() const { return ended_; }
  std::int64_t last() const { return last_; }

 private:
  Rest rest_;
  std::int64_t last_;
  bool ended_ = false;
};

std::string text_of(const json::object& object, std::string_view field);  // "" when null or absent
std::int64_t number_of(const json::object& object, std::string_view field);

}  // namespace tutti::e2e
