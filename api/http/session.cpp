#include "api/http/session.h"

#include <algorithm>
#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/http/error.hpp>
#include <exception>
#include <new>
#include <utility>

#include "api/http/link_io.h"
#include "api/http/response_head.h"

namespace tutti::http {
namespace {

using Clock = std::chrono::steady_clock;
using boost::system::error_code;
constexpr auto kToken = asio::as_tuple(asio::use_awaitable);
constexpr std::size_t kFirstBuffer = 4096;
constexpr int kMostEmptyLines = 2;
constexpr std::size_t kSlack =
    4096;  // input beyond the header limit, so that the limit is noticed by the parser
constexpr std::size_t kMostDrained = 16 << 20;
constexpr std::size_t kMostDuringStream = 64 << 10;  // a peer that sends more beside a stream is no reader

std::string_view refusal_code(int status) {
  switch (status) {
    case 408: return "request_timeout";
    case 413: return "body_too_large";
    case 414: return "target_too_long";
    case 431: return "headers_too_large";
    default: return "bad_request";
  }
}

Response upgrade_required() {
  return problem(426, "upgrade_required", "this address speaks WebSocket only").set("Upgrade", "websocket");
}

// It failed alone: the server goes on, and what was asked for may be possible in a moment.
Response no_memory() {
  return problem(503, "no_memory", "the server has not enough memory for this request",
                 "try again in a moment, under the same Idempotency-Key; a smaller request needs less")
      .set("Retry-After", "1");
}

struct Failure {
  Response response;
  std::string what;  // for the log
};
// `work`: what the server could not do with the request.
Failure failure_of(const std::exception_ptr& thrown, const std::string& work) {
  std::string what;
  try {
    std::rethrow_exception(thrown);
  } catch (const std::bad_alloc&) {
    return {no_memory(), "not enough memory"};
  } catch (const std::exception& error) {
    what = error.what();
  } catch (...) {
    what = "something that is no std::exception";
  }
  return {problem(500, "internal", "the server failed to " + work + " this request"), std::move(what)};
}

bool has_no_body(int status) { return status == 204 || status == 304 || status < 200; }

}  // namespace

struct Session::Turn {
  explicit Turn(const ServerConfig& config) : parser(config) {}
  RequestParser parser;
  int refusal = 0;        // status, when reading was refused
  std::string complaint;  // why
  bool keep_alive = false;
  Clock::time_point began;  // the request was complete, or refused
  // Kept for the access record: the handler gets the request itself.
  Method method = Method::get;
  std::string_view route;
  std::string target, traceparent;
  std::size_t request_bytes = 0;
  Headers headers;  // what hooks add to the answer
};

Session::Session(std::shared_ptr<const SessionContext> context, asio::any_io_executor executor, Socket socket,
                 std::shared_ptr<ConnectionSlot> slot)
    : context_(std::move(context)),
      executor_(std::move(executor)),
      slot_(std::move(slot)),
      transport_(make_transport(std::move(socket), context_->config.tls.get())),
      wake_(std::make_shared<Wake>(executor_, transport_)) {
  buffer_.resize(kFirstBuffer);
}

Session::~Session() {
  if (const auto stream = streaming_.lock()) stream->forget();
}

asio::awaitable<void> Session::run(std::shared_ptr<Session> self) {
  auto next = Next::keep_alive;
  self->idle_ = true;  // stop() need not wait for a handshake
  const bool greeted =
      co_await self->transport_->handshake(Clock::now() + self->context_->config.handshake_deadline);
  self->idle_ = false;
  if (!greeted) co_return self->transport_->close();
  self->peer_certificate_ = self->transport_->peer_certificate();
  self->peer_certificate_until_ = self->transport_->peer_certificate_until();
  while (next == Next::keep_alive && !self->stopping_) {
    Turn turn(self->context_->config);
    const auto reading = co_await self->read_request(turn);
    if (reading == Reading::closed) break;
    turn.began = Clock::now();
    if (reading == Reading::refused) {
      next = co_await self->send_response(
          turn, problem(turn.refusal, std::string(refusal_code(turn.refusal)), turn.complaint));
    } else {
      next = co_await self->answer(turn);
    }
    self->first_request_ = false;
  }
  if (next == Next::handed_over) co_return;
  if (next == Next::linger) co_await self->linger();
  self->transport_->close();
}

void Session::stop(bool hard) {
  stopping_ = true;
  if (hard || idle_) transport_->close();
  if (hard) {
    cut_ = true;
    wake_->timer.cancel();  // nobody waits for a handler's answer any more
  }
  if (const auto stream = streaming_.lock()) stream->close();
}

asio::awaitable<Session::Reading> Session::read_request(Turn& turn) {
  const auto& config = context_->config;
  auto& parser = turn.parser;
  const auto refuse = [&turn](int status, std::string why) {
    turn.refusal = status;
    turn.complaint = std::move(why);
    return Reading::refused;
  };
  bool header_done = false;
  bool begun = !unread().empty();
  int empty_lines = 0;
  SteadyTime body_began;
  auto until = Clock::now() + (begun || first_request_ ? config.header_deadline : config.idle_deadline);
  for (;;) {
    // RFC 9112 lets an empty line pass before a request.
    while (!parser.got_some() && unread().starts_with("\r\n") && empty_lines < kMostEmptyLines) {
      begin_ += 2;
      ++empty_lines;
    }
    if (begin_ < end_ && (parser.got_some() || unread() != "\r")) {
      error_code error;
      begin_ += parser.feed(unread(), error);
      if (parser.is_done() && !error) co_return Reading::complete;
      if (error && error != boost::beast::http::error::need_more)
        co_return refuse(parser.refusal_status(error), error.message());
    }
    if (parser.is_header_done() && !header_done) {
      header_done = true;
      body_began = Clock::now();
      if (parser.expects_continue && parser.version() >= 11 && begin_ == end_) {
        const std::string_view text = "HTTP/1.1 100 Continue\r\n\r\n";
        const Gather gather{asio::buffer(text), asio::const_buffer()};
        const auto wrote = co_await transport_->write(gather, pace());
        if (!wrote) co_return Reading::closed;
      }
    }
    if (header_done) {
      // A body may take its time, but not all of it for a few bytes.
      until = body_began + config.body_deadline;
      if (config.min_rate > 0)
        until = std::min(until, body_began + config.body_patience +
                                    std::chrono::milliseconds(parser.received() * 1000 / config.min_rate));
    }
    idle_ = !begun;
    const auto got = co_await receive(until);
    idle_ = false;
    if (got.timed_out && begun) co_return refuse(408, "the request did not arrive in time");
    if (got.error == asio::error::no_buffer_space)
      co_return header_done ? refuse(400, "a chunk header without an end") : refuse(431, "header too large");
    if (!got) co_return Reading::closed;
    if (!begun) {
      begun = true;
      until = Clock::now() + config.header_deadline;
    }
  }
}

/// More input behind what is still unread.
asio::awaitable<IoResult> Session::receive(SteadyTime until) {
  if (begin_ == end_) {
    begin_ = end_ = 0;
  } else if (end_ == buffer_.size() && begin_ > 0) {
    std::copy(buffer_.begin() + static_cast<std::ptrdiff_t>(begin_),
              buffer_.begin() + static_cast<std::ptrdiff_t>(end_), buffer_.begin());
    end_ -= begin_;
    begin_ = 0;
  }
  if (end_ == buffer_.size()) {
    const auto most = context_->config.header_limit + kSlack;
    if (buffer_.size() >= most) {
      IoResult full;
      full.error = asio::error::no_buffer_space;
      co_return full;
    }
    buffer_.resize(std::min(most, buffer_.size() * 2));
  }
  const auto got =
      co_await transport_->read_some(asio::buffer(buffer_.data() + end_, buffer_.size() - end_), until);
  end_ += got.bytes;
  co_return got;
}

asio::awaitable<Session::Next> Session::answer(Turn& turn) {
  auto& request = turn.parser.request;
  turn.method = request.method;
  turn.request_bytes = request.body.size();
  if (context_->hooks.after) {
    turn.target = request.target;
    turn.traceparent = request.header("traceparent").value_or("");
  }
  turn.keep_alive = turn.parser.keep_alive();
  request.peer = transport_->peer();
  request.peer_certificate = peer_certificate_;
  request.peer_certificate_until = peer_certificate_until_;
  if (auto refused = ask(context_->hooks.arrive, turn))
    co_return co_await send_response(turn, std::move(*refused));

  const auto* route = context_->router.match(request);
  if (route == nullptr) co_return co_await send_response(turn, context_->router.refusal(request));
  turn.route = request.route;
  if (auto refused = ask(context_->hooks.before, turn))
    co_return co_await send_response(turn, std::move(*refused));
  if (route->websocket) co_return co_await upgrade(turn, *route);
  co_return co_await handle(turn, *route);
}

std::optional<Response> Session::ask(const std::function<std::optional<Response>(Request&)>& hook,
                                     Turn& turn) const {
  if (!hook) return std::nullopt;
  std::optional<Response> refused;
  try {
    refused = hook(turn.parser.request);
  } catch (...) {
    Failure failure = failure_of(std::current_exception(), "check");
    refused = std::move(failure.response);
    complain(failure.what);
  }
  for (auto& header : std::exchange(turn.parser.request.answer_headers, {}))
    turn.headers.push_back(std::move(header));
  return refused;
}

HeadOptions Session::head_options(const Turn& turn) const {
  HeadOptions options;
  options.tls = transport_->tls();
  options.more = &turn.headers;
  return options;
}

Pace Session::pace() const { return {context_->config.write_deadline, context_->config.min_rate}; }

void Session::call_handler(Turn& turn, const Route& route, const std::shared_ptr<Exchange>& exchange) {
  try {
    route.handler(std::move(turn.parser.request), Responder(exchange));
  } catch (...) {
    Failure failure = failure_of(std::current_exception(), "handle");
    exchange->failed(std::move(failure.response));
    complain(std::string(route.pattern) + ": " + failure.what);
  }
}

asio::awaitable<Session::Next> Session::handle(Turn& turn, const Route& route) {
  const bool chunked = turn.parser.version() >= 11;
  Request head;  // what a link needs of it: the handler gets the request itself
  const bool upgradable = chunked && wants_websocket(turn.parser.request.headers);
  if (upgradable) {
    head.target = turn.parser.request.target;
    head.headers = turn.parser.request.headers;
    head.peer = turn.parser.request.peer;
  }
  auto exchange = std::make_shared<Exchange>(wake_, chunked);
  call_handler(turn, route, exchange);
  auto answer = exchange->take();
  if (!answer) answer = co_await wait_for_answer(exchange);
  if (answer->upgrade && !upgradable) {
    answer->upgrade(nullptr);
    co_return co_await send_response(turn, upgrade_required());
  }
  if (answer->upgrade)
    co_return co_await become_link(turn, head, context_->config.upgraded, std::move(answer->upgrade));
  if (answer->stream) co_return co_await send_stream(turn, std::move(*answer));
  co_return co_await send_response(turn, std::move(answer->response));
}

asio::awaitable<Exchange::Answer> Session::wait_for_answer(std::shared_ptr<Exchange> exchange) {
  const auto until = Clock::now() + context_->config.handler_deadline;
  for (;;) {
    if (!cut_) {
      wake_->timer.expires_at(until);
      co_await wake_->timer.async_wait(kToken);
    }
    if (auto answer = exchange->take()) co_return std::move(*answer);
    if (Clock::now() < until && !cut_) continue;  // woken by the end of an earlier answer
    if (!exchange->abandon()) continue;
    Exchange::Answer late;
    late.response = problem(504, "handler_timeout", "the server did not come to an answer in time",
                            "the request may still take effect: look before you repeat it");
    co_return late;
  }
}

asio::awaitable<Session::Next> Session::send_response(Turn& turn, Response response) {
  const auto* connection = find_header(response.headers, "Connection");
  const bool asked_to_close = connection != nullptr && equal_ignoring_case(*connection, "close");
  const bool keep = turn.keep_alive && !stopping_ && !asked_to_close;
  auto options = head_options(turn);
  options.close = !keep;
  options.http_1_0 = turn.parser.version() < 11;
  if (!has_no_body(response.status)) options.content_length = response.body.size();
  write_head(head_, response.status, response.headers, options);
  const bool with_body = turn.method != Method::head && !has_no_body(response.status);
  const Gather gather{asio::buffer(head_), with_body ? asio::buffer(response.body) : asio::const_buffer()};
  const auto wrote = co_await transport_->write(gather, pace());
  report(turn, response.status, with_body ? response.body.size() : 0, false);
  if (!wrote) co_return Next::close;
  co_return keep ? Next::keep_alive : Next::linger;
}

asio::awaitable<Session::Next> Session::send_stream(Turn& turn, Exchange::Answer answer) {
  const auto stream = answer.stream;
  streaming_ = stream;
  auto options = head_options(turn);
  options.chunked = turn.parser.version() >= 11;
  options.close = true;
  write_head(head_, answer.response.status, answer.response.headers, options);
  const Gather gather{asio::buffer(head_), asio::const_buffer()};
  const auto wrote = co_await transport_->write(gather, pace());
  std::size_t sent = 0;
  if (wrote && turn.method != Method::head) {
    if (stopping_) stream->close();
    asio::co_spawn(executor_, watch_peer(shared_from_this(), stream), [](std::exception_ptr error) {
      if (error) std::rethrow_exception(error);
    });
    co_await pump(stream, sent);
  }
  transport_->close();
  report(turn, answer.response.status, sent, true);
  try {
    stream->finish();
  } catch (const std::exception& error) {
    complain(error.what());
  }
  co_return Next::close;
}

/// Sends what is written into the stream until it ends; the peer's end is noticed by watch_peer.
asio::awaitable<void> Session::pump(std::shared_ptr<BodyStream> stream, std::size_t& sent) {
  const auto heartbeat = stream->options().heartbeat;
  for (;;) {
    auto batch = stream->take();
    if (batch.broken) co_return;
    if (batch.bytes.empty() && !batch.ended) {
      const bool beats = heartbeat.count() > 0;
      const auto until = beats ? Clock::now() + heartbeat : SteadyTime::max();
      wake_->timer.expires_at(until);
      const auto [error] = co_await wake_->timer.async_wait(kToken);
      if (!error && beats) stream->beat();
      continue;
    }
    const bool chunked = head_.find("Transfer-Encoding: chunked\r\n") != std::string::npos;
    const std::string_view end = batch.ended && chunked ? "0\r\n\r\n" : "";
    const Gather gather{asio::buffer(batch.bytes), asio::buffer(end)};
    const auto wrote = co_await transport_->write(gather, pace());
    if (!wrote) co_return;
    sent += batch.bytes.size();
    try {
      stream->sent();
    } catch (const std::exception& error) {
      complain(error.what());
      stream->break_off();
    }
    if (batch.ended) break;
  }
  // Let the peer read the end before the socket goes: watch_peer sees its close and wakes us.
  transport_->shutdown_send();
  const auto until = Clock::now() + context_->config.linger;
  while (Clock::now() < until && !stream->take().broken) {
    wake_->timer.expires_at(until);
    co_await wake_->timer.async_wait(kToken);
  }
}

asio::awaitable<void> Session::watch_peer(std::shared_ptr<Session> self, std::shared_ptr<BodyStream> stream) {
  // Whatever the peer still sends during a stream is thrown away: the connection ends with the stream.
  std::string scrap(512, '\0');
  std::size_t thrown_away = 0;
  while (thrown_away < kMostDuringStream) {
    const auto got = co_await self->transport_->read_some(asio::buffer(scrap), SteadyTime::max());
    if (!got) break;
    thrown_away += got.bytes;
  }
  stream->break_off();
  self->transport_->close();
  self->wake_->timer.cancel();
}

asio::awaitable<Session::Next> Session::upgrade(Turn& turn, const Route& route) {
  auto& request = turn.parser.request;
  if (!wants_websocket(request.headers)) co_return co_await send_response(turn, upgrade_required());
  LinkHandler then = [&route, &request](std::shared_ptr<Link> link) {
    if (link) route.websocket(std::move(request), std::move(link));
  };
  co_return co_await become_link(turn, request, context_->config.link, std::move(then));
}

asio::awaitable<Session::Next> Session::become_link(Turn& turn, const Request& request, LinkOptions options,
                                                    LinkHandler then) {
  if (begin_ != end_) {
    then(nullptr);
    turn.keep_alive = false;
    co_return co_await send_response(turn,
                                     problem(400, "bad_request", "data before the upgrade was accepted"));
  }
  auto slot = slot_;
  auto headers = std::move(turn.headers);
  for (const auto& [name, value] : security_headers())
    headers.push_back({std::string(name), std::string(value)});
  if (transport_->tls())
    headers.push_back({std::string(kStrictTransport.name), std::string(kStrictTransport.value)});
  auto wire = transport_->release();
  const auto link = co_await accept_link(std::move(wire), request, std::move(headers), options, slot);
  report(turn, link ? 101 : 400, 0, true);
  if (!link) {
    then(nullptr);
    co_return Next::handed_over;
  }
  slot->set_stop([weak = std::weak_ptr<Link>(link)](bool) {
    if (const auto live = weak.lock()) live->abort();
  });
  if (stopping_) link->abort();
  try {
    then(link);
  } catch (const std::exception& error) {
    complain(std::string(turn.route) + ": " + error.what());
    link->abort();
  }
  co_return Next::handed_over;
}

/// Closing with unread input makes the kernel send a reset, and the peer may lose our last answer: so read it
/// first.
asio::awaitable<void> Session::linger() {
  transport_->shutdown_send();
  co_await transport_->drain(Clock::now() + context_->config.linger, kMostDrained);
}

void Session::report(const Turn& turn, int status, std::size_t bytes, bool stream) {
  if (!context_->hooks.after) return;
  AccessRecord record;
  record.method = turn.method;
  record.route = turn.route;
  record.target = turn.target;
  record.peer = transport_->peer();
  record.traceparent = turn.traceparent;
  record.status = status;
  record.stream = stream;
  record.request_bytes = turn.request_bytes;
  record.response_bytes = bytes;
  record.duration = Clock::now() - turn.began;
  try {
    context_->hooks.after(record);
  } catch (const std::exception& error) {
    complain(error.what());
  }
}

void Session::complain(std::string_view what) const {
  if (context_->hooks.on_error) context_->hooks.on_error(what);
}

}  // namespace tutti::http
