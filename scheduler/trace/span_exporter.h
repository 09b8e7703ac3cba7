// Sends spans to a collector in batches. Never in anybody's way: the queue is bounded and what does not fit
// is dropped and counted; one batch is under way at a time, with a deadline; one that fails is dropped.
// Control thread; `send` runs aside.
#pragma once

#include <chrono>
#include <deque>
#include <functional>
#include <memory>
#include <string>

#include "db/aside.h"
#include "scheduler/trace/span.h"

namespace tutti::trace {

class SpanExporter {
 public:
  struct Settings {
    std::string service = "tutti-scheduler", version;
    std::size_t most_waiting = 4096, batch = 512;
  };
  /// Sends a body; throws when it was not taken. On another thread.
  using Send = std::function<void(const std::string& body)>;

  SpanExporter(Aside aside, Send send, Settings settings);

  void add(Span span);
  /// Every second or so: sends what waits.
  void step();

  struct Counts {
    std::uint64_t sent = 0, dropped = 0, failed_batches = 0;
  };
  const Counts& counts() const { return counts_; }
  std::size_t waiting() const { return waiting_.size(); }

 private:
  Aside aside_;
  Send send_;
  Settings settings_;
  std::deque<Span> waiting_;
  bool under_way_ = false;
  bool failing_ = false;  // said once, not for each batch
  Counts counts_;
};

/// POST to URL (that of the collector, "/v1/traces" is added where it has no path) with a deadline.
SpanExporter::Send http_sender(std::string url, std::chrono::milliseconds deadline);

}  // namespace tutti::trace
