#include "api/http/message.h"

#include <algorithm>
#include <boost/json/serialize.hpp>

#include "api/http/sse.h"
#include "api/wire/utf8.h"

namespace tutti::http {
namespace {

bool has_token(const Headers& headers, std::string_view name, std::string_view token) {
  for (const auto& header : headers) {
    if (!equal_ignoring_case(header.name, name)) continue;
    std::string_view rest = header.value;
    while (!rest.empty()) {
      const auto comma = std::min(rest.find(','), rest.size());
      auto item = rest.substr(0, comma);
      rest.remove_prefix(std::min(comma + 1, rest.size()));
      while (item.starts_with(' ') || item.starts_with('\t')) item.remove_prefix(1);
      while (item.ends_with(' ') || item.ends_with('\t')) item.remove_suffix(1);
      if (equal_ignoring_case(item, token)) return true;
    }
  }
  return false;
}

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (lower(c) >= 'a' && lower(c) <= 'f') return lower(c) - 'a' + 10;
  return -1;
}

std::string decode_or_keep(std::string_view text) {
  auto decoded = percent_decode(text, true);
  return decoded ? std::move(*decoded) : std::string(text);
}

/// Calls f(raw key, raw value) until it returns true.
template <class F>
void for_each_parameter(std::string_view query, F f) {
  while (!query.empty()) {
    const auto end = query.find('&');
    const auto pair = query.substr(0, end);
    query = end == std::string_view::npos ? std::string_view{} : query.substr(end + 1);
    if (pair.empty()) continue;
    const auto equals = pair.find('=');
    const auto value = equals == std::string_view::npos ? std::string_view{} : pair.substr(equals + 1);
    if (f(pair.substr(0, equals), value)) return;
  }
}

/// The stream one gets when there is nobody to stream to.
class ClosedStream final : public Stream {
 public:
  bool write(std::string) override { return false; }
  void close() override {}
  void set_on_close(std::function<void()> callback) override {
    if (callback) callback();
  }
  bool closed() const override { return true; }
  void when_drained(std::function<void()>) override {}
};

class CallbackSink final : public ResponseSink {
 public:
  explicit CallbackSink(std::function<void(Response)> callback) : callback_(std::move(callback)) {}
  void respond(Response response) override { callback_(std::move(response)); }
  std::shared_ptr<Stream> stream(int, Headers, StreamOptions) override {
    callback_(problem(501, "no_stream", "this client cannot take a stream"));
    return std::make_shared<ClosedStream>();
  }

 private:
  std::function<void(Response)> callback_;
};

}  // namespace

std::string_view to_string(Method method) {
  switch (method) {
    case Method::get: return "GET";
    case Method::head: return "HEAD";
    case Method::post: return "POST";
    case Method::put: return "PUT";
    case Method::patch: return "PATCH";
    case Method::del: return "DELETE";
    case Method::options: return "OPTIONS";
    case Method::other: break;
  }
  return "OTHER";
}

Method method_from(std::string_view name) {
  for (const auto method :
       {Method::get, Method::post, Method::head, Method::put, Method::patch, Method::del, Method::options}) {
    if (name == to_string(method)) return method;
  }
  return Method::other;
}

bool equal_ignoring_case(std::string_view a, std::string_view b) {
  return a.size() == b.size() &&
         std::equal(a.begin(), a.end(), b.begin(), [](char x, char y) { return lower(x) == lower(y); });
}

const std::string* find_header(const Headers& headers, std::string_view name) {
  for (const auto& header : headers) {
    if (equal_ignoring_case(header.name, name)) return &header.value;
  }
  return nullptr;
}

std::optional<std::string> percent_decode(std::string_view text, bool plus_is_space) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '%') {
      if (i + 2 >= text.size()) return std::nullopt;
      const int high = hex_digit(text[i + 1]);
      const int low = hex_digit(text[i + 2]);
      if (high < 0 || low < 0) return std::nullopt;
      out.push_back(static_cast<char>(high * 16 + low));
      i += 2;
    } else {
      out.push_back(plus_is_space && text[i] == '+' ? ' ' : text[i]);
    }
  }
  return out;
}

std::string percent_encode(std::string_view text) {
  static constexpr std::string_view kHex = "0123456789ABCDEF";
  std::string out;
  for (const char c : text) {
    const bool plain = (lower(c) >= 'a' && lower(c) <= 'z') || (c >= '0' && c <= '9') || c == '-' ||
                       c == '_' || c == '.' || c == '~';
    if (plain) {
      out.push_back(c);
    } else {
      const auto byte = static_cast<unsigned char>(c);
      out.push_back('%');
      out.push_back(kHex[byte >> 4]);
      out.push_back(kHex[byte & 15]);
    }
  }
  return out;
}

std::optional<std::string_view> Request::header(std::string_view name) const {
  const auto* value = find_header(headers, name);
  if (value == nullptr) return std::nullopt;
  return *value;
}

std::optional<std::string> Request::query_param(std::string_view name) const {
  std::optional<std::string> found;
  for_each_parameter(query, [&](std::string_view key, std::string_view value) {
    if (key != name && decode_or_keep(key) != name) return false;
    found = decode_or_keep(value);
    return true;
  });
  return found;
}

std::vector<std::pair<std::string, std::string>> Request::query_params() const {
  std::vector<std::pair<std::string, std::string>> all;
  for_each_parameter(query, [&](std::string_view key, std::string_view value) {
    all.emplace_back(decode_or_keep(key), decode_or_keep(value));
    return false;
  });
  return all;
}

const std::string& Request::param(std::string_view name) const {
  static const std::string kNone;
  for (const auto& entry : params) {
    if (entry.name == name) return entry.value;
  }
  return kNone;
}

Request Request::make(Method method, std::string target, std::string body, Headers headers) {
  Request request;
  request.method = method;
  const auto question = target.find('?');
  request.path = target.substr(0, question);
  if (question != std::string::npos) request.query = target.substr(question + 1);
  request.target = std::move(target);
  request.body = std::move(body);
  request.headers = std::move(headers);
  return request;
}

bool wants_websocket(const Headers& headers) {
  return has_token(headers, "Upgrade", "websocket") && has_token(headers, "Connection", "upgrade");
}

Response& Response::set(std::string name, std::string value) {
  for (auto& header : headers) {
    if (equal_ignoring_case(header.name, name)) {
      header.value = std::move(value);
      return *this;
    }
  }
  headers.push_back({std::move(name), std::move(value)});
  return *this;
}

Response json(int status, const boost::json::value& value) {
  return text(status, boost::json::serialize(value), "application/json");
}

Response text(int status, std::string body, std::string content_type) {
  Response response;
  response.status = status;
  response.headers.push_back({"Content-Type", std::move(content_type)});
  response.body = std::move(body);
  return response;
}

Response no_content() {
  Response response;
  response.status = 204;
  return response;
}

Response problem(const Problem& what) {
  boost::json::object body = what.extra;
  body["type"] = "urn:tutti:problem:" + what.code;
  body["title"] = what.title.empty() ? reason_phrase(what.status) : std::string_view(what.title);
  body["status"] = what.status;
  body["code"] = what.code;
  // Texts repeat what was asked for, and that may be any bytes; JSON must be UTF-8.
  if (!what.detail.empty()) body["detail"] = wire::to_utf8(what.detail);
  if (!what.hint.empty()) body["hint"] = wire::to_utf8(what.hint);
  if (!what.errors.empty()) {
    boost::json::array errors;
    for (const auto& error : what.errors) {
      boost::json::object entry;
      entry["field"] = wire::to_utf8(error.field);
      entry["message"] = wire::to_utf8(error.message);
      errors.push_back(std::move(entry));
    }
    body["errors"] = std::move(errors);
  }
  return text(what.status, boost::json::serialize(body), "application/problem+json");
}

Response problem(int status, std::string code, std::string detail, std::string hint,
                 boost::json::object extra) {
  Problem what;
  what.status = status;
  what.code = std::move(code);
  what.detail = std::move(detail);
  what.hint = std::move(hint);
  what.extra = std::move(extra);
  return problem(what);
}

std::string_view reason_phrase(int status) {
  switch (status) {
    case 100: return "Continue";
    case 101: return "Switching Protocols";
    case 200: return "OK";
    case 201: return "Created";
    case 202: return "Accepted";
    case 204: return "No Content";
    case 206: return "Partial Content";
    case 301: return "Moved Permanently";
    case 302: return "Found";
    case 303: return "See Other";
    case 304: return "Not Modified";
    case 307: return "Temporary Redirect";
    case 308: return "Permanent Redirect";
    case 400: return "Bad Request";
    case 401: return "Unauthorized";
    case 403: return "Forbidden";
    case 404: return "Not Found";
    case 405: return "Method Not Allowed";
    case 406: return "Not Acceptable";
    case 408: return "Request Timeout";
    case 409: return "Conflict";
    case 410: return "Gone";
    case 411: return "Length Required";
    case 412: return "Precondition Failed";
    case 413: return "Content Too Large";
    case 414: return "URI Too Long";
    case 415: return "Unsupported Media Type";
    case 417: return "Expectation Failed";
    case 421: return "Misdirected Request";
    case 422: return "Unprocessable Content";
    case 423: return "Locked";
    case 425: return "Too Early";
    case 426: return "Upgrade Required";
    case 428: return "Precondition Required";
    case 429: return "Too Many Requests";
    case 431: return "Request Header Fields Too Large";
    case 500: return "Internal Server Error";
    case 501: return "Not Implemented";
    case 502: return "Bad Gateway";
    case 503: return "Service Unavailable";
    case 504: return "Gateway Timeout";
    case 505: return "HTTP Version Not Supported";
    case 507: return "Insufficient Storage";
    default: return "Unknown";
  }
}

Responder::Responder(std::shared_ptr<ResponseSink> sink) : sink_(std::move(sink)) {}

Responder Responder::to(std::function<void(Response)> callback) {
  return Responder(std::make_shared<CallbackSink>(std::move(callback)));
}

Responder::~Responder() {
  if (sink_) sink_->unanswered();
}

Responder& Responder::operator=(Responder&& other) noexcept {
  if (this != &other) {
    if (const auto old = std::exchange(sink_, nullptr)) old->unanswered();
    sink_ = std::move(other.sink_);
  }
  return *this;
}

void ResponseSink::unanswered() {
  respond(problem(500, "unanswered", "the handler gave this request up without an answer"));
}

void ResponseSink::upgrade(LinkHandler /*then*/) {
  Response response;
  response.status = 101;
  respond(std::move(response));
}

void Responder::upgrade(LinkHandler then) {
  if (const auto sink = std::exchange(sink_, nullptr)) sink->upgrade(std::move(then));
}

void Responder::respond(Response response) {
  if (const auto sink = std::exchange(sink_, nullptr)) sink->respond(std::move(response));
}

std::shared_ptr<Stream> Responder::stream(int status, Headers headers, StreamOptions options) {
  const auto sink = std::exchange(sink_, nullptr);
  if (!sink) return std::make_shared<ClosedStream>();
  return sink->stream(status, std::move(headers), std::move(options));
}

std::shared_ptr<Stream> Responder::sse(Headers headers, std::size_t max_buffer) {
  headers.push_back({"Content-Type", "text/event-stream"});
  headers.push_back({"Cache-Control", "no-store"});
  headers.push_back({"X-Accel-Buffering", "no"});  // nginx would hold events back
  StreamOptions options;
  options.max_buffer = max_buffer;
  options.heartbeat = std::chrono::seconds(15);
  options.heartbeat_text = sse_comment("ping");
  return stream(200, std::move(headers), std::move(options));
}

}  // namespace tutti::http
