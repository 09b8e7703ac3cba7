// Drops history that is older than it is to be kept, a little at a time, while this scheduler leads. With an
// archive by whole months, and nothing that has not been written there. And idempotency keys after their
// week, also where history is kept for ever.
//
// One clock that was set ahead must not end a year of history: old is what is old by this scheduler's clock
// and by that of the database's server, and while the two are more than an hour apart nothing is dropped.
//
// Called by: a timer of scheduler/parts.cpp each second, and tests. Control thread; the work is done aside,
// one piece at a time. What fails is tried again a minute later, of keys an hour.
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
  int keys_at_once = 10'000;
  Duration keys_every = std::chrono::hours(1);  // likewise
  Duration clocks_apart = std::chrono::hours(1);
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

  /// `leads`: of several schedulers one does it. `now`: by the machine's clock. That of the leader never goes
  /// back, and would stay ahead for long after the machine's was.
  void step(bool leads, Now now);

 private:
  void drop_history(Now now);
  void forget_keys(Now now);
  /// Of the server's clock against ours; says it when they part, and when they agree again.
  void compare_clocks(Duration ahead);

  Aside aside_;
  std::shared_ptr<RetentionStore> store_;
  HistorySettings settings_;
  std::shared_ptr<HistoryArchive> archive_;
  bool under_way_ = false;
  std::optional<Mono> next_, next_keys_;
  bool clocks_apart_ = false;
};

}  // namespace tutti
