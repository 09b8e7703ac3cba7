// Old history as files, before it is dropped: a month at a time, DIR/2025-01-jobs.jsonl.gz and the like, a
// row of the database in each line, packed by gzip.
//
//  1. A month appears when all of it is written and has reached the disk; half a month has no name but *.new.
//  2. No file is replaced: a month that is written a second time, by a leader that took over before all of
//  its rows
//     were gone, gets another name (2025-01-jobs-2.jsonl.gz).
//
// Called by history_keeper, on its side thread, one call at a time.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>

#include "db/retention.h"

namespace tutti {

class HistoryArchive {
 public:
  struct Settings {
    std::filesystem::path directory{};
    Duration at_once = std::chrono::seconds(3);  // for which a call goes on
    int page = 2'000;                            // rows of one question to the store
  };
  /// Throws std::runtime_error when the directory cannot be made or written.
  HistoryArchive(std::shared_ptr<RetentionStore> store, Settings settings);
  ~HistoryArchive();

  /// Goes on writing the months that were over by then. What is returned: all that is older is in files, and
  /// may go; nullopt: not yet, call again. Throws StoreError, or std::runtime_error when the disk is full or
  /// the like: then the month is begun anew by the next call.
  std::optional<Instant> advance(Instant before);

 private:
  struct Month;
  bool write_some();  // true: the month is whole
  void publish();

  std::shared_ptr<RetentionStore> store_;
  Settings settings_;
  std::optional<Instant> until_;  // written up to here, the begin of a month; nullopt: not looked yet
  std::unique_ptr<Month> month_;  // that is being written
};

}  // namespace tutti
