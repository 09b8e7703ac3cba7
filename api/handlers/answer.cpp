#include "api/handlers/answer.h"

#include <boost/json/array.hpp>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>
#include <charconv>

#include "api/accounts/open_connections.h"
#include "api/http/link.h"
#include "api/wire/strict_json.h"

namespace tutti::api {

namespace json = boost::json;

Answer::Answer(http::Responder responder)
    : state_(std::make_shared<State>(State{std::move(responder), {{"Tutti-API-Version", "v1"}}, {}, {}})) {}

void Answer::send(http::Response response) const {
  for (auto& header : std::exchange(state_->headers, {})) response.headers.push_back(std::move(header));
  if (auto first = std::exchange(state_->first, nullptr)) {
    auto kept = std::make_shared<http::Response>(std::move(response));
    return first(*kept, [state = state_, kept] { state->responder.respond(std::move(*kept)); });
  }
  state_->responder.respond(std::move(response));
}

void Answer::hold(std::function<void(const http::Response&, std::function<void()>)> first) const {
  state_->first = std::move(first);
}

void Answer::json(int status, const json::value& value) const { send(http::json(status, value)); }
void Answer::guard(Guard guard) const { state_->guard = std::move(guard); }
void Answer::upgrade(http::LinkHandler then) const {
  state_->responder.upgrade(
      [guard = state_->guard, then = std::move(then)](std::shared_ptr<http::Link> link) {
        if (link && guard) guard(link, aborting(link));
        then(std::move(link));
      });
}
void Answer::fail(const Error& error) const { send(error_response(error)); }

std::shared_ptr<http::Stream> Answer::stream(int status, http::Headers headers,
                                             http::StreamOptions options) const {
  for (auto& header : std::exchange(state_->headers, {})) headers.push_back(std::move(header));
  return guarded(state_->responder.stream(status, std::move(headers), std::move(options)));
}

std::shared_ptr<http::Stream> Answer::guarded(std::shared_ptr<http::Stream> stream) const {
  if (state_->guard) state_->guard(stream, aborting(stream));
  return stream;
}

std::shared_ptr<http::Stream> Answer::sse(std::size_t max_buffer) const {
  return guarded(state_->responder.sse(std::exchange(state_->headers, {}), max_buffer));
}

void Answer::header(std::string name, std::string value) const {
  state_->headers.push_back({std::move(name), std::move(value)});
}

void Routes::get(std::string pattern, std::string name, Need need, Endpoint endpoint) const {
  router.add(http::Method::get, std::move(pattern), name, admit(api, need, name, endpoint));
}
void Routes::post(std::string pattern, std::string name, Need need, Endpoint endpoint) const {
  router.add(http::Method::post, std::move(pattern), name, admit(api, need, name, endpoint));
}
void Routes::put(std::string pattern, std::string name, Need need, Endpoint endpoint) const {
  router.add(http::Method::put, std::move(pattern), name, admit(api, need, name, endpoint));
}
void Routes::patch(std::string pattern, std::string name, Need need, Endpoint endpoint) const {
  router.add(http::Method::patch, std::move(pattern), name, admit(api, need, name, endpoint));
}
void Routes::remove(std::string pattern, std::string name, Need need, Endpoint endpoint) const {
  router.add(http::Method::del, std::move(pattern), name, admit(api, need, name, endpoint));
}

// ---------------------------------------------------------------- errors

namespace {

struct StatusAndCode {
  int status;
  std::string_view code;
};

StatusAndCode status_of(Errc code) {
  switch (code) {
    case Errc::invalid_argument: return {422, "invalid_argument"};
    case Errc::unauthenticated: return {401, "unauthenticated"};
    case Errc::forbidden: return {403, "forbidden"};
    case Errc::not_found: return {404, "not_found"};
    case Errc::conflict: return {409, "conflict"};
    case Errc::illegal_transition: return {409, "illegal_transition"};
    case Errc::stale_epoch: return {409, "stale_epoch"};
    case Errc::idempotency_mismatch: return {422, "idempotency_mismatch"};
    case Errc::precondition_failed: return {412, "precondition_failed"};
    case Errc::too_large: return {413, "too_large"};
    case Errc::unavailable: return {503, "unavailable"};
    case Errc::in_doubt: return {504, "in_doubt"};
    case Errc::internal: break;
  }
  return {500, "internal"};
}

}  // namespace

http::Problem problem_of(const Error& error) {
  const auto [status, code] = status_of(error.code);
  http::Problem problem;
  problem.status = status;
  problem.code = code;
  problem.detail = error.message;
  problem.hint = error.hint;
  if (!error.field.empty()) problem.errors.push_back({error.field, error.message});
  return problem;
}

http::Response error_response(const Error& error) {
  auto response = http::problem(problem_of(error));
  if (error.code == Errc::unavailable) response.set("Retry-After", "1");
  if (error.code == Errc::unauthenticated) response.set("WWW-Authenticate", "Bearer");
  return response;
}

json::value problem_json(const http::Problem& problem) { return json::parse(http::problem(problem).body); }

Error not_found(std::string message, std::string hint) {
  return Error{.code = Errc::not_found, .message = std::move(message), .hint = std::move(hint), .field = ""};
}

Error bad_field(std::string field, std::string message, std::string hint) {
  return Error{.code = Errc::invalid_argument,
               .message = std::move(message),
               .hint = std::move(hint),
               .field = std::move(field)};
}

Error not_ready(const Backend& backend) {
  return Error{.code = Errc::unavailable,
               .message = "the scheduler is not ready: " + backend.status().detail,
               .hint = "try again in a second",
               .field = ""};
}

http::Response malformed(std::string_view language, std::string message, int line, int column) {
  json::object extra;
  if (line > 0) {
    extra["line"] = line;
    extra["column"] = column;
    message = "line " + std::to_string(line) + ", column " + std::to_string(column) + ": " + message;
  }
  return http::problem(400, "malformed_body", "the body is not " + std::string(language) + ": " + message, "",
                       std::move(extra));
}

// ---------------------------------------------------------------- requests

const Identity& identity_of(const http::Request& request) {
  static const Identity kNobody;
  const auto* known = std::any_cast<Identity>(&request.identity);
  return known == nullptr ? kNobody : *known;
}

Result<std::int64_t> int_param(const http::Request& request, std::string_view name, std::int64_t fallback,
                               std::int64_t min, std::int64_t max) {
  const auto text = request.query_param(name);
  if (!text) return fallback;
  std::int64_t n = 0;
  const auto* end = text->data() + text->size();
  const auto [after, code] = std::from_chars(text->data(), end, n);
  if (code != std::errc{} || after != end || n < min || n > max)
    return bad_field(std::string(name), std::string(name) + " must be a whole number from " +
                                            std::to_string(min) + " to " + std::to_string(max));
  return n;
}

std::optional<std::int64_t> parse_id(std::string_view text) {
  std::int64_t id = 0;
  const auto* end = text.data() + text.size();
  const auto [after, code] = std::from_chars(text.data(), end, id);
  if (code != std::errc{} || after != end || id < 1) return std::nullopt;
  return id;
}

std::optional<std::string> read_reason(const http::Request& request, const Answer& answer, bool required,
                                       std::string* until) {
  constexpr std::size_t kMaxReason = 1000;
  std::string reason;
  const auto fail = [&answer](Error error) {
    answer.fail(error);
    return std::nullopt;
  };
  if (request.body.find_first_not_of(" \t\r\n") != std::string::npos) {
    json::value body;
    if (const auto error = wire::parse_strict_json(request.body, body)) {
      answer.send(malformed("JSON", error->message, error->line, error->column));
      return std::nullopt;
    }
    const auto* object = body.if_object();
    if (object == nullptr) return fail(bad_field("body", "the body must be an object"));
    for (const auto& member : *object) {
      const bool is_until = until != nullptr && member.key() == "until";
      if (member.key() != "reason" && !is_until)
        return fail(
            bad_field(member.key(), "unknown field",
                      until == nullptr ? "only 'reason' is known" : "'reason' and 'until' are known"));
      if (member.value().is_null()) continue;
      if (is_until) {
        if (!member.value().is_string())
          return fail(bad_field("until", "must be a time", "like \"2026-10-01T02:00:00Z\" or \"+2h\""));
        *until = member.value().get_string();
        continue;
      }
      if (!member.value().is_string() || member.value().get_string().size() > kMaxReason)
        return fail(bad_field("reason", "must be text of at most " + std::to_string(kMaxReason) + " bytes"));
      reason = member.value().get_string();
    }
  }
  if (required && reason.find_first_not_of(" \t\r\n") == std::string::npos)
    return fail(bad_field("reason", "a reason is required", "say why: it is shown to everybody who asks"));
  return reason;
}

}  // namespace tutti::api
