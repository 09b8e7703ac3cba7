// Old history as files, before it is dropped: a month at a time, DIR/2025-01-jobs.jsonl.gz and the like, a
// row of the database in each line, packed by gzip.
//
//  1. A month appears when all of it is written and has reached the disk; half a month has no name but *.new,
//  which no two processes share.
//  2. No file is replaced: a month that is written a second time, by a leader that took over before all of
//  its rows were gone, gets another name (2025-01-jobs-2.jsonl.gz).
//  3. A *.new of a process of this host that is gone is removed when the next one begins.
//
// Called by history_keeper, on its side thread, one call at a time.
#pragma once

#include <array>
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
  /// Warns when the directory cannot be made or written: until it can be, advance() throws.
  HistoryArchive(std::shared_ptr<RetentionStore> store, Settings settings);
  ~HistoryArchive();

  /// Goes on writing the months that were over by then. What is returned: all that is older is in files, and
  /// may go; nullopt: not yet, call again. Throws StoreError, or std::runtime_error when the disk is full or
  /// the like: then the month is begun anew by the next call, but for the parts of it that are published.
  std::optional<Instant> advance(Instant before);

 private:
  struct Month;
  bool write_some();  // true: the month is whole
  void publish();

  std::shared_ptr<RetentionStore> store_;
  Settings settings_;
  std::optional<Instant> until_;  // written up to here, the begin of a month; nullopt: not looked yet
  std::unique_ptr<Month> month_;  // that is being written
  std::array<bool, kHistoryParts.size()> published_{};  // of the month that begins at until_
};

}  // namespace tutti
