// Keeps the report of each day as files: DIR/2026-10-01.md for people and .json for programs, once the day is
// over. Whoever leads writes it; a day whose files are there is not written again, whoever wrote them. A
// scheduler that did not lead at midnight writes yesterday's when it does. Files appear whole: written
// beside, then renamed.
//
// Called by a timer of scheduler/parts.cpp, every second. Control thread; rows and files aside.
#pragma once

#include <optional>
#include <string>

#include "api/handlers/backend.h"
#include "db/aside.h"

namespace tutti {

class History;

class ReportWriter {
 public:
  /// `disk` runs what waits for the disk. An empty directory: nothing is written. Throws std::runtime_error
  /// when the directory cannot be made or written.
  ReportWriter(Backend& backend, const History* history, Aside disk, std::string directory);

  void step();

 private:
  void write(Instant day, std::string name);

  Backend& backend_;
  const History* history_;
  Aside disk_;
  std::string directory_;
  std::optional<Instant> written_;  // the day of the newest files
  bool under_way_ = false;
  Mono again_at_{};  // after a failure
};

}  // namespace tutti
