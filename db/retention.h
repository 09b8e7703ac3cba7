// History that is dropped when it is old enough. In PostgreSQL (db/pg); the store in memory lives no longer
// than a test.
//
// Called by: scheduler/service/history_keeper, on a side thread, one call at a time. Every call blocks, for a
// bounded time, and keeps no commit waiting for longer than 200 ms. Throws StoreError.
#pragma once

#include <cstdint>
#include <string>

#include "scheduler/model/time.h"

namespace tutti {

struct Forgotten {
  std::string partition;  // a month of job events, as a whole; "" = none
  std::int64_t jobs = 0;
  bool more = false;  // of jobs or others: it is worth asking again soon
};

class RetentionStore {
 public:
  virtual ~RetentionStore() = default;

  /// Drops what is older: at most one month of events, so many finished jobs with their attempts, allocations
  /// and checkpoints, and so many faults and events of nodes. What has not ended stays.
  virtual Forgotten forget(Instant before, int most) = 0;
};

}  // namespace tutti
