// Drops history that is older than it is to be kept, a little at a time, while this scheduler leads. With an
// archive by whole months, and nothing that has not been written there.
//
// Called by: a timer of scheduler/main.cpp each second, and tests. Control thread; the work is done aside,
// one piece at a time. What fails is tried again a minute later.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string_view>

#include "db/aside.h"
#include "db/retention.h"
#include "scheduler/service/history_archive.h"

namespace tutti {

struct HistorySettings {
  Duration keep{};  // 0 = for ever
  int at_once = 2'000;
  Duration every = std::chrono::minutes(1);  // while there is more: at each step
  /// After each failure, with what failed: "archive" or "drop". Nothing was dropped then.
  std::function<void(std::string_view)> failed{};
};

class HistoryKeeper {
 public:
  /// `archive` may be null: then what is old goes unwritten.
  HistoryKeeper(Aside aside, std::shared_ptr<RetentionStore> store, HistorySettings settings,
                std::shared_ptr<HistoryArchive> archive = nullptr)
      : aside_(std::move(aside)),
        store_(std::move(store)),
        settings_(std::move(settings)),
        archive_(std::move(archive)) {}

  /// `leads`: of several schedulers one does it.
  void step(bool leads, Now now);

 private:
  Aside aside_;
  std::shared_ptr<RetentionStore> store_;
  HistorySettings settings_;
  std::shared_ptr<HistoryArchive> archive_;
  bool under_way_ = false;
  std::optional<Mono> next_;
};

}  // namespace tutti
