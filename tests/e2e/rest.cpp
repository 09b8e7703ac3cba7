#include "tests/e2e/rest.h"

#include <sstream>

namespace tutti::e2e {

Rest::Rest(std::uint16_t port, std::string token, std::string host)
    : token_(std::move(token)), client_(std::move(host), port) {}

http::Headers Rest::headers(const std::string& key) const {
  http::Headers out = {{"Authorization", "Bearer " + token_}};
  if (!key.empty()) out.push_back({"Idempotency-Key", key});
  if (!user.empty()) out.push_back({"Tutti-User", user});
  if (!traceparent.empty()) out.push_back({"traceparent", traceparent});
  return out;
}

http::ClientResponse Rest::raw(std::string_view method, const std::string& target, const std::string& body,
                               const std::string& key) {
  auto sent = headers(key);
  if (!body.empty()) sent.push_back({"Content-Type", "application/json"});
  http::ClientResponse answer;
  try {
    answer = client_.request(method, target, sent, body, patience);
  } catch (const std::runtime_error& e) {
    throw Unreachable(std::string(method) + " " + target + ": " + e.what());
  }
  // 502: a standby has lost the leader in the middle of it; 504: the leader does not know what became of it.
  if (answer.status == 503 || answer.status == 502 || answer.status == 504)
    throw Unreachable(std::string(method) + " " + target + ": " + std::to_string(answer.status) + " " +
                      answer.body);
  return answer;
}

namespace {
json::value parse(const std::string& what, const http::ClientResponse& answer) {
  if (answer.status / 100 != 2)
    throw Failure(what + ": " + std::to_string(answer.status) + " " + answer.body);
  return json::parse(answer.body);
}
}  // namespace

json::value Rest::get(const std::string& target) { return parse("GET " + target, raw("GET", target)); }

json::value Rest::post(const std::string& target, const json::value& body, const std::string& key) {
  return parse("POST " + target, raw("POST", target, json::serialize(body), key));
}

std::string Rest::text(const std::string& target) {
  const auto answer = raw("GET", target);
  if (answer.status != 200)
    throw Failure("GET " + target + ": " + std::to_string(answer.status) + " " + answer.body);
  return answer.body;
}

http::ClientResponse Rest::open(const std::string& target) {
  try {
    return client_.open_stream("GET", target, headers(), std::chrono::seconds(30));
  } catch (const std::runtime_error& e) {
    throw Unreachable("GET " + target + ": " + e.what());
  }
}

http::ClientResponse Rest::open_events(const std::string& target, std::int64_t from) {
  auto sent = headers();
  sent.push_back({"Accept", "text/event-stream"});
  if (from >= 0) sent.push_back({"Last-Event-ID", std::to_string(from)});
  try {
    auto answer = client_.open_stream("GET", target, sent, std::chrono::seconds(30));
    if (answer.status != 200) throw Unreachable("GET " + target + ": " + std::to_string(answer.status));
    return answer;
  } catch (const Unreachable&) {
    throw;
  } catch (const std::runtime_error& e) {
    throw Unreachable("GET " + target + ": " + e.what());
  }
}

EventStream::EventStream(std::uint16_t port, const std::string& token, const std::string& target,
                         std::int64_t from)
    : rest_(port, token), last_(from) {
  rest_.open_events(target, from);
}

std::optional<json::object> EventStream::next(std::chrono::milliseconds deadline) {
  const auto until = Clock::now() + deadline;
  while (!ended_) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(until - Clock::now());
    std::optional<std::string> event;
    try {
      event = rest_.client().read_event(std::max(left, std::chrono::milliseconds(1)));
    } catch (const std::runtime_error&) {
      if (Clock::now() >= until) return std::nullopt;
      event.reset();  // reset by peer: a stream that was cut has ended too
    }
    if (!event) {
      ended_ = true;
      break;
    }
    std::istringstream lines(*event);
    std::string data;
    for (std::string line; std::getline(lines, line);) {
      if (line.starts_with("id: ")) last_ = std::stoll(line.substr(4));
      if (line.starts_with("data: ")) data += line.substr(6);
    }
    if (!data.empty()) return json::parse(data).as_object();
  }
  return std::nullopt;
}

std::string text_of(const json::object& object, std::string_view field) {
  const auto* value = object.if_contains(field);
  return value == nullptr || !value->is_string() ? std::string() : std::string(value->get_string());
}
std::int64_t number_of(const json::object& object, std::string_view field) {
  const auto* value = object.if_contains(field);
  if (value == nullptr || !value->is_number()) throw Failure("no number " + std::string(field));
  return value->to_number<std::int64_t>();
}

}  // namespace tutti::e2e
