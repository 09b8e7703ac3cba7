// Why jobs waited, as it was recorded: in PostgreSQL (db/pg) and in memory (db/memory, for tests); one suite
// (tests/store/waiting_reasons_test) holds both to the same rules.
//
// Called by: scheduler/service/waiting_record, on the side thread, one call at a time. Every call blocks.
// Throws StoreError.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "db/store.h"
#include "scheduler/model/time.h"

namespace tutti {

struct WaitingReasonRow {
  JobId job;
  Instant at;
  std::string body;  // JSON
  bool operator==(const WaitingReasonRow&) const = default;
};

class WaitingReasonStore {
 public:
  virtual ~WaitingReasonStore() = default;

  /// What is there already of the same job and time stays as it is.
  virtual void add(const std::vector<WaitingReasonRow>& rows) = 0;
  /// The newest of that job that is not later.
  virtual std::optional<WaitingReasonRow> find(JobId job, Instant at) = 0;
  /// Drops what is older, at most so many rows; true: there are more.
  virtual bool forget(Instant before, int most) = 0;
};

}  // namespace tutti
