// History that is dropped when it is old enough, and read before, where it is to be kept elsewhere. In
// PostgreSQL (db/pg); the store in memory lives no longer than a test.
//
// Called by: scheduler/service/history_keeper and history_archive, on a side thread, one call at a time.
// Every call blocks, for a bounded time, and keeps no commit waiting for longer than 200 ms. Throws
// StoreError.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "scheduler/model/time.h"

namespace tutti {

struct Forgotten {
  std::string partition;  // a month of job events, as a whole; "" = none
  std::int64_t jobs = 0;
  bool more = false;  // of jobs or others: it is worth asking again soon
};

enum class HistoryPart : std::uint8_t {
  jobs,         // finished ones, each with its spec, attempts, allocations and checkpoints; by their end
  events,       // of jobs
  node_events,  // of nodes
  faults        // the ledger
};
inline constexpr std::array kHistoryParts{HistoryPart::jobs, HistoryPart::events, HistoryPart::node_events,
                                          HistoryPart::faults};

/// Rows of a part are in the order of these. Ids are above 0.
struct HistoryPlace {
  Instant at;
  std::int64_t id = 0;
};
struct HistoryPage {
  std::vector<std::string> lines;  // a row each, as a JSON object
  HistoryPlace last;               // where the last line is
};

class RetentionStore {
 public:
  virtual ~RetentionStore() = default;

  /// The time at the database's server: what is dropped is old by it too, not by one clock alone.
  virtual Instant clock() = 0;

  /// Drops what is older: at most one month of events, so many finished jobs with their attempts, allocations
  /// and checkpoints, and so many faults and events of nodes. What has not ended stays.
  virtual Forgotten forget(Instant before, int most) = 0;

  /// Idempotency keys that are a week older than the newest, or than the server's clock if the newest is
  /// ahead of it; at most so many. Returns how many there were.
  virtual std::int64_t forget_keys(int most) = 0;

  /// Not later than the oldest of all that forget() may drop, but for sessions and join tokens; nullopt:
  /// there is none.
  virtual std::optional<Instant> oldest() = 0;
  /// Rows behind a place and before an instant, at most so many. Reads what lies between: ask for hours, not
  /// for years.
  virtual HistoryPage read(HistoryPart part, HistoryPlace after, Instant until, int most) = 0;
};

}  // namespace tutti
