// The words of the HTTP shell: Request, Response, Responder, Stream.
//
// Who uses it: every handler in api/handlers, the session that reads requests, tests that play a client
// without a socket (Responder::to). Std and Boost.JSON only, so that handler files compile fast: no Asio or
// Beast here. Threads: Request and Response are plain values. Responder and Stream may be used from any
// thread. Invariants:
//   1. A Responder answers exactly once. Destroyed unused, it answers 500; a second answer is ignored.
//   2. A Stream holds at most StreamOptions::max_buffer unsent bytes. One byte more closes it: a reader that
//   does not
//      keep up loses its stream, never our memory.
//   3. A Stream calls its on_close exactly once, whoever ended it.
// A Responder or Stream that is held longer than its session lives does nothing any more.
#pragma once

#include <any>
#include <boost/json/object.hpp>
#include <boost/json/value.hpp>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace tutti::http {

enum class Method : std::uint8_t {
  get,
  head,
  post,
  put,
  patch,
  del,
  options,
  other,  // anything else: no route has it, so it is answered 405
};

std::string_view to_string(Method method);
Method method_from(std::string_view name);

struct Header {
  std::string name;
  std::string value;
};
using Headers = std::vector<Header>;

/// The first header of that name, in any case; nullptr if there is none.
const std::string* find_header(const Headers& headers, std::string_view name);
/// Whether they ask for a WebSocket.
bool wants_websocket(const Headers& headers);
bool equal_ignoring_case(std::string_view a, std::string_view b);

/// "%41+b" -> "A+b", or with plus_is_space "A b". Nothing when an escape is broken.
std::optional<std::string> percent_decode(std::string_view text, bool plus_is_space = false);
std::string percent_encode(std::string_view text);

struct PathParam {
  std::string name;
  std::string value;  // percent-decoded
};

struct Request {
  Method method = Method::get;
  std::string target;  // as sent, origin form: "/v1/jobs/7?x=1"
  std::string path;    // target up to '?', still percent-encoded (so that "%2F" in an id is no border)
  std::string query;   // after '?', still percent-encoded
  Headers headers;
  std::string body;
  std::string peer;  // "10.0.0.7:51234", or "unix"
  /// Under TLS with --tls-client-ca: whom the verified client certificate names, its common name or else its
  /// first DNS name; "" without one.
  std::string peer_certificate;
  std::chrono::sys_seconds peer_certificate_until{};  // it holds until then
  std::vector<PathParam> params;
  std::string_view route;  // pattern of the matched route, "/v1/jobs/{id}"; lives as long as the router
  std::any identity;       // whatever the `before` hook learned about the caller
  Headers answer_headers;  // what hooks add to the answer, whatever it will be (rate limits)

  /// Header value or nothing; names in any case.
  std::optional<std::string_view> header(std::string_view name) const;
  /// First query parameter of that name, decoded ("+" is a space). "?follow" gives "".
  std::optional<std::string> query_param(std::string_view name) const;
  /// All of them in order, decoded; a parameter with a broken escape is left as sent.
  std::vector<std::pair<std::string, std::string>> query_params() const;
  /// Path parameter by name; "" if the route has none of that name (a bug of the handler).
  const std::string& param(std::string_view name) const;

  /// For tests: a request as the session would build it from a target.
  static Request make(Method method, std::string target, std::string body = {}, Headers headers = {});
};

struct Response {
  int status = 200;
  Headers headers;
  std::string body;

  Response& set(std::string name, std::string value);  // replaces a header of that name
};

Response json(int status, const boost::json::value& value);
Response text(int status, std::string body, std::string content_type = "text/plain; charset=utf-8");
Response no_content();

/// One entry of `errors` in a problem document: where in the body, and what is wrong there.
struct FieldError {
  std::string field;    // "resources.gpus"
  std::string message;  // "must be at least 0"
};

/// RFC 9457 problem document, the only shape in which errors leave this server.
struct Problem {
  int status = 500;
  std::string code;    // stable, for programs: "job_not_found"; `type` is derived from it
  std::string title;   // "" = the reason phrase of the status
  std::string detail;  // this occurrence, names the thing: "job 42 does not exist"
  std::string hint;    // the way out: "tutti ls -a shows finished jobs"
  std::vector<FieldError> errors;
  boost::json::object extra;  // further members
};
Response problem(const Problem& what);
Response problem(int status, std::string code, std::string detail, std::string hint = {},
                 boost::json::object extra = {});
std::string_view reason_phrase(int status);

struct StreamOptions {
  std::size_t max_buffer = 1 << 20;
  /// When above zero, `heartbeat_text` is sent after so long without another write: dead peers are noticed.
  std::chrono::milliseconds heartbeat{0};
  std::string heartbeat_text;
};

/// The open body of a response. write() never blocks.
class Stream {
 public:
  virtual ~Stream() = default;
  /// False when the stream is closed, or when this chunk would overflow the buffer: it is closed then.
  virtual bool write(std::string chunk) = 0;
  /// What was written is still sent, then the body ends. Harmless when repeated.
  virtual void close() = 0;
  /// The connection is cut at once: what was written and not sent yet is lost, and the peer can tell that
  /// from an end.
  virtual void abort() { close(); }
  /// Called once, on the session's executor, when the stream is over (peer gone, too slow, closed). At once
  /// if it already is.
  virtual void set_on_close(std::function<void()> callback) = 0;
  virtual bool closed() const = 0;
  /// Called once, on the session's executor, when all that was written is on its way to the peer: the moment
  /// to write more, for sources that are faster than readers. Not called any more once the stream is closed.
  virtual void when_drained(std::function<void()> callback) = 0;
};

/// A message connection, see link.h.
class Link;
/// Takes over a connection that has become a link; nullptr: the handshake failed. On the session's executor.
using LinkHandler = std::function<void(std::shared_ptr<Link>)>;

/// What stands behind a Responder: the session, or a test.
class ResponseSink {
 public:
  virtual ~ResponseSink() = default;
  virtual void respond(Response response) = 0;
  /// The Responder has gone without an answer.
  virtual void unanswered();
  /// Where there is no connection that could be upgraded the answer is a bare 101.
  virtual void upgrade(LinkHandler then);
  virtual std::shared_ptr<Stream> stream(int status, Headers headers, StreamOptions options) = 0;
};

class Responder {
 public:
  explicit Responder(std::shared_ptr<ResponseSink> sink);
  /// For tests and bridges: answers go to `callback`; stream() is refused (closed stream).
  static Responder to(std::function<void(Response)> callback);
  ~Responder();
  Responder(Responder&&) noexcept = default;
  Responder& operator=(Responder&& other) noexcept;
  Responder(const Responder&) = delete;
  Responder& operator=(const Responder&) = delete;

  void respond(Response response);
  /// The request asks for a WebSocket, and gets it. (If it does not ask: 426.)
  void upgrade(LinkHandler then);
  /// Never null. The connection is closed when the stream ends.
  std::shared_ptr<Stream> stream(int status, Headers headers, StreamOptions options = {});
  /// A stream of server-sent events (format: sse.h): right headers, and a heartbeat comment every 15 s.
  std::shared_ptr<Stream> sse(Headers headers = {}, std::size_t max_buffer = 1 << 20);
  /// False once it has answered.
  bool pending() const { return sink_ != nullptr; }

 private:
  std::shared_ptr<ResponseSink> sink_;
};

/// May keep the Responder and answer later, from any thread.
using Handler = std::function<void(Request, Responder)>;
using SyncHandler = std::function<Response(const Request&)>;

using WsHandler = std::function<void(Request, std::shared_ptr<Link>)>;

}  // namespace tutti::http
