// People who go on submitting small jobs while things break, as clients that mean well: each job has an
// idempotency key, and a submission without an answer is sent again under the same key. What was accepted
// must be there exactly once and succeed in the end. Where there are two schedulers they know both, and ask
// the one that has answered last.
//
// One thread of its own; accepted() and stop() from the lab's thread.
#pragma once

#include <atomic>
#include <condition_variable>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "tests/e2e/cluster.h"

namespace tutti::chaos {

class Traffic {
 public:
  /// A job each `every`.
  Traffic(const e2e::Cluster& cluster, std::chrono::milliseconds every);
  ~Traffic();
  Traffic(const Traffic&) = delete;
  Traffic& operator=(const Traffic&) = delete;

  /// No new jobs; waits until the last one is answered.
  void stop();
  std::map<std::string, std::int64_t> accepted() const;
  /// Refused, or without an answer.
  int unanswered() const { return unanswered_; }
  /// What went wrong that no fault excuses; after stop().
  const std::string& trouble() const { return trouble_; }

 private:
  void work(std::chrono::milliseconds every);
  bool submit(std::vector<e2e::Rest>& schedulers, const std::string& key);
  bool pause(std::chrono::milliseconds time);  // false: stop

  const e2e::Cluster& cluster_;
  mutable std::mutex mutex_;
  std::condition_variable wake_;
  bool stop_ = false;
  std::map<std::string, std::int64_t> accepted_;
  std::atomic<int> unanswered_ = 0;
  std::string trouble_;
  std::thread thread_;
};

/// A spec whose attempts may end by any fault without being charged, and are tried again at once.
e2e::json::object forgiving(e2e::json::object spec);

}  // namespace tutti::chaos
