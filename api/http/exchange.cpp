#include "api/http/exchange.h"

#include <array>
#include <boost/asio/post.hpp>
#include <charconv>
#include <utility>

namespace tutti::http {

void post_wake(const std::weak_ptr<Wake>& sleeper, bool cut_connection) {
  const auto wake = sleeper.lock();
  if (!wake) return;
  asio::post(wake->executor, [wake, cut_connection] {
    if (cut_connection) {
      if (const auto transport = wake->transport.lock()) transport->close();
    }
    wake->timer.cancel();
  });
}

BodyStream::BodyStream(std::weak_ptr<Wake> wake, StreamOptions options, bool chunked)
    : wake_(std::move(wake)), options_(std::move(options)), chunked_(chunked) {}

void BodyStream::append(std::string_view chunk) {
  if (!chunked_) {
    pending_.append(chunk);
    return;
  }
  std::array<char, 16> size{};
  const auto end = std::to_chars(size.begin(), size.end(), chunk.size(), 16).ptr;
  pending_.append(size.begin(), end).append("\r\n").append(chunk).append("\r\n");
}

bool BodyStream::write(std::string chunk) {
  bool too_slow = false;
  bool first = false;
  {
    const std::scoped_lock lock(mutex_);
    if (ended_) return false;
    if (chunk.empty()) return true;  // an empty chunk would end the body
    too_slow = pending_.size() + in_flight_ + chunk.size() > options_.max_buffer;
    if (too_slow) {
      ended_ = broken_ = true;
      pending_ = {};
    } else {
      first = pending_.empty();
      append(chunk);
    }
  }
  if (too_slow || first) post_wake(wake_, too_slow);
  return !too_slow;
}

void BodyStream::beat() {
  const std::scoped_lock lock(mutex_);
  if (!ended_ && pending_.empty()) append(options_.heartbeat_text);
}

void BodyStream::close() {
  {
    const std::scoped_lock lock(mutex_);
    if (ended_) return;
    ended_ = true;
  }
  post_wake(wake_);
}

void BodyStream::abort() {
  {
    const std::scoped_lock lock(mutex_);
    if (finished_ || broken_) return;
    ended_ = broken_ = true;
    pending_ = {};
  }
  post_wake(wake_, true);
}

void BodyStream::break_off() {
  const std::scoped_lock lock(mutex_);
  ended_ = broken_ = true;
  pending_ = {};
}

bool BodyStream::closed() const {
  const std::scoped_lock lock(mutex_);
  return ended_;
}

void BodyStream::set_on_close(std::function<void()> callback) {
  {
    const std::scoped_lock lock(mutex_);
    if (!finished_) {
      on_close_ = std::move(callback);
      return;
    }
  }
  if (callback) callback();
}

BodyStream::Batch BodyStream::take() {
  const std::scoped_lock lock(mutex_);
  Batch batch;
  batch.bytes = std::exchange(pending_, {});
  batch.ended = ended_;
  batch.broken = broken_;
  in_flight_ = batch.bytes.size();
  return batch;
}

void BodyStream::sent() {
  std::function<void()> drained;
  {
    const std::scoped_lock lock(mutex_);
    in_flight_ = 0;
    if (pending_.empty() && !ended_) drained = std::exchange(on_drained_, nullptr);
  }
  if (drained) drained();
}

void BodyStream::when_drained(std::function<void()> callback) {
  {
    const std::scoped_lock lock(mutex_);
    if (ended_) return;
    if (!pending_.empty() || in_flight_ > 0) {
      on_drained_ = std::move(callback);
      return;
    }
  }
  if (const auto wake = wake_.lock()) asio::post(wake->executor, std::move(callback));
}

void BodyStream::finish() {
  std::function<void()> callback;
  std::function<void()> dropped;  // destroyed outside of the lock: it may own this stream
  {
    const std::scoped_lock lock(mutex_);
    if (finished_) return;
    ended_ = finished_ = true;
    pending_ = {};
    callback = std::exchange(on_close_, nullptr);
    dropped = std::exchange(on_drained_, nullptr);
  }
  if (callback) callback();
}

void BodyStream::forget() {
  std::function<void()> close;
  std::function<void()> drained;
  const std::scoped_lock lock(mutex_);  // released before the functions are destroyed
  ended_ = finished_ = true;
  close = std::exchange(on_close_, nullptr);
  drained = std::exchange(on_drained_, nullptr);
}

void Exchange::respond(Response response) {
  bool wake = false;
  {
    const std::scoped_lock lock(mutex_);
    if (std::exchange(answered_, true)) return;
    answer_.emplace();
    answer_->response = std::move(response);
    wake = waiting_;
  }
  if (wake) post_wake(wake_);
}

void Exchange::unanswered() {
  {
    const std::scoped_lock lock(mutex_);
    given_up_ = !answered_;
  }
  ResponseSink::unanswered();
}

void Exchange::failed(Response response) {
  {
    const std::scoped_lock lock(mutex_);
    if (given_up_ && answer_) {
      answer_->response = std::move(response);
      return;
    }
  }
  respond(std::move(response));
}

void Exchange::upgrade(LinkHandler then) {
  bool wake = false;
  {
    const std::scoped_lock lock(mutex_);
    if (std::exchange(answered_, true)) return;
    answer_.emplace();
    answer_->upgrade = std::move(then);
    wake = waiting_;
  }
  if (wake) post_wake(wake_);
}

std::shared_ptr<Stream> Exchange::stream(int status, Headers headers, StreamOptions options) {
  auto body = std::make_shared<BodyStream>(wake_, std::move(options), chunked_);
  bool wake = false;
  {
    const std::scoped_lock lock(mutex_);
    if (std::exchange(answered_, true)) {
      body->finish();
      return body;
    }
    answer_.emplace();
    answer_->response.status = status;
    answer_->response.headers = std::move(headers);
    answer_->stream = body;
    wake = waiting_;
  }
  if (wake) post_wake(wake_);
  return body;
}

std::optional<Exchange::Answer> Exchange::take() {
  const std::scoped_lock lock(mutex_);
  waiting_ = !answer_;
  return std::exchange(answer_, std::nullopt);
}

bool Exchange::abandon() {
  const std::scoped_lock lock(mutex_);
  if (answer_) return false;
  answered_ = true;
  return true;
}

}  // namespace tutti::http
