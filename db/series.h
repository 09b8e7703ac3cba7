// What was measured, as it is kept: in PostgreSQL (db/pg) and in memory (db/memory, for tests); one suite
// (tests/store/series_test) holds both to the same rules.
//
// Called by: scheduler/service/series_record, one object per thread. Every call blocks, but for a bounded
// time. Throws StoreError.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "db/store.h"
#include "scheduler/model/series.h"

namespace tutti {

struct SeriesRow {
  series::Owner owner;
  Duration step{};   // of its tier
  Instant at;        // begin of its block of time
  std::string body;  // as scheduler/core/series_codec writes it
  bool operator==(const SeriesRow&) const = default;
};

struct SeriesRange {
  std::vector<series::Owner> owners;
  Duration step{};
  Instant from, until;  // begins of blocks: from `from` on, before `until`
};

class SeriesStore {
 public:
  virtual ~SeriesStore() = default;

  /// All or none. To a row that is there its body is appended. No two of the rows may be the same block.
  virtual void add(const std::vector<SeriesRow>& rows) = 0;
  /// By owner and time; at most so many.
  virtual std::vector<SeriesRow> find(const SeriesRange& range, int most) = 0;
  /// How long all of their bodies are together.
  virtual std::int64_t bytes(const SeriesRange& range) = 0;
  /// Drops what begins before, of one tier, at most so many rows; true: there may be more.
  virtual bool forget(Duration step, Instant before, int most) = 0;
};

}  // namespace tutti
