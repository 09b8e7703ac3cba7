#include "cli/event_stream.h"

#include <thread>

namespace tutti::cli {
namespace {

using std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;

// The server sends a comment every 15 s; after three missing ones the connection is dead.
constexpr std::chrono::seconds kDeadAfter(45);
constexpr std::size_t kMaxLine = 4 << 20;

}  // namespace

void EventParser::on_line() {
  if (line_.empty()) {
    if (has_data_) {
      if (current_.type.empty()) current_.type = "message";
      ready_.push_back(current_);
    }
    current_.type.clear();
    current_.data.clear();
    has_data_ = false;
    return;
  }
  const auto colon = line_.find(':');
  const std::string field = line_.substr(0, colon);
  std::string value = colon == std::string::npos ? std::string() : line_.substr(colon + 1);
  if (value.starts_with(' ')) value.erase(0, 1);
  if (field == "data") {
    if (has_data_) current_.data += '\n';
    current_.data += value;
    has_data_ = true;
  } else if (field == "id") {
    current_.id = value;
  } else if (field == "event") {
    current_.type = value;
  }
}

void EventParser::feed(std::string_view bytes) {
  for (const char c : bytes) {
    if (c == '\n' && after_cr_) {
      after_cr_ = false;
      continue;
    }
    after_cr_ = c == '\r';
    if (c == '\n' || c == '\r') {
      on_line();
      line_.clear();
    } else if (line_.size() < kMaxLine) {
      line_ += c;
    }
  }
}

bool EventParser::next(ServerEvent& into) {
  if (ready_.empty()) return false;
  into = std::move(ready_.front());
  ready_.pop_front();
  return true;
}

EventStream::EventStream(Client& client, std::string path, std::string last_id)
    : client_(client), path_(std::move(path)), last_id_(std::move(last_id)) {
  open();
}

void EventStream::open() {
  Headers headers{{"Accept", "text/event-stream"}};
  if (!last_id_.empty()) headers.emplace_back("Last-Event-ID", last_id_);
  parser_.reset();
  stream_ = client_.stream(path_, std::move(headers));
  heard_at_ = opened_at_ = Clock::now();
}

EventStream::Next EventStream::next(ServerEvent& into, milliseconds at_most) {
  const auto until = Clock::now() + at_most;
  while (true) {
    if (parser_.next(into)) {
      if (!into.id.empty()) last_id_ = into.id;
      return Next::event;
    }
    const auto patience =
        std::chrono::ceil<milliseconds>(std::min(until, heard_at_ + kDeadAfter) - Clock::now());
    std::string bytes;
    switch (stream_->read(bytes, std::max(patience, milliseconds(0)))) {
      case HttpStream::Read::data:
        heard_at_ = Clock::now();
        parser_.feed(bytes);
        continue;
      case HttpStream::Read::quiet:
        if (Clock::now() < heard_at_ + kDeadAfter) return Next::quiet;
        break;
      case HttpStream::Read::end:
      case HttpStream::Read::broken: break;
    }
    // A server that ends every stream at once must not make us spin.
    if (Clock::now() < opened_at_ + std::chrono::seconds(1))
      std::this_thread::sleep_until(opened_at_ + std::chrono::seconds(1));
    const bool resumed = !last_id_.empty();
    open();
    if (!resumed) return Next::reconnected;
  }
}

}  // namespace tutti::cli
