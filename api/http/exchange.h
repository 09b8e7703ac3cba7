// The meeting point of a handler (any thread) and its session (the session's executor): one answer, or one
// stream.
//
// Who uses it: session.cpp. Each class guards its state with its own mutex; no callback runs under it.
// Invariant: the session is woken only by a function posted to its executor, so it never misses a wake-up
// that comes between its look at the state and its wait.
#pragma once

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/steady_timer.hpp>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "api/http/message.h"
#include "api/http/transport.h"

namespace tutti::http {

/// The session's wait for somebody else. One per session, which owns it: a handler that holds its Responder
/// longer than the session (or the whole server) lives wakes nobody.
struct Wake {
  Wake(asio::any_io_executor on, std::weak_ptr<Transport> of)
      : executor(on), timer(on), transport(std::move(of)) {}
  asio::any_io_executor executor;
  asio::steady_timer timer;  // touched on the executor only
  std::weak_ptr<Transport> transport;
};
void post_wake(const std::weak_ptr<Wake>& sleeper, bool cut_connection = false);

class BodyStream final : public Stream {
 public:
  BodyStream(std::weak_ptr<Wake> wake, StreamOptions options, bool chunked);

  bool write(std::string chunk) override;
  void close() override;
  void abort() override;
  void set_on_close(std::function<void()> callback) override;
  bool closed() const override;
  void when_drained(std::function<void()> callback) override;

  // For the session:
  struct Batch {
    std::string bytes;  // framed, ready to be sent
    bool ended = false;
    bool broken = false;  // too slow, or peer gone: nothing more is worth sending
  };
  /// Everything written so far. The bytes count against the bound until sent() is called.
  Batch take();
  /// They are on their way: makes room, and calls what waits for that.
  void sent();
  /// Without waking anybody: the session's own heartbeat.
  void beat();
  void break_off();
  /// The session is through with it: runs on_close, once.
  void finish();
  /// The executor goes away with the session in mid-stream: callbacks are dropped, since they may own this
  /// stream.
  void forget();

  const StreamOptions& options() const { return options_; }

 private:
  const std::weak_ptr<Wake> wake_;
  const StreamOptions options_;
  const bool chunked_;
  mutable std::mutex mutex_;
  std::string pending_;
  std::size_t in_flight_ = 0;
  bool ended_ = false;     // no more write()
  bool broken_ = false;    // cut
  bool finished_ = false;  // on_close has run, or runs as soon as it is set
  std::function<void()> on_close_;
  std::function<void()> on_drained_;

  void append(std::string_view chunk);
};

class Exchange final : public ResponseSink {
 public:
  struct Answer {
    Response response;  // for a stream: status and headers only
    std::shared_ptr<BodyStream> stream;
    LinkHandler upgrade;  // instead of a response
  };

  Exchange(std::weak_ptr<Wake> wake, bool chunked) : wake_(std::move(wake)), chunked_(chunked) {}

  void respond(Response response) override;
  void unanswered() override;
  void upgrade(LinkHandler then) override;
  std::shared_ptr<Stream> stream(int status, Headers headers, StreamOptions options) override;

  /// The handler has thrown: `response`, unless it had answered before. Counts for more than unanswered(),
  /// which the Responder has said on its way out.
  void failed(Response response);
  /// The answer, if there is one; else the session will be woken when it comes.
  std::optional<Answer> take();
  /// Answers from now on are dropped. False: one has just come, take() it.
  bool abandon();

 private:
  const std::weak_ptr<Wake> wake_;
  const bool chunked_;
  std::mutex mutex_;
  std::optional<Answer> answer_;
  bool answered_ = false;
  bool given_up_ = false;  // the answer is that of unanswered()
  bool waiting_ = false;
};

}  // namespace tutti::http
