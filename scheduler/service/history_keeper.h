// Drops history that is older than it is to be kept, a little at a time, while this scheduler leads.
//
// Called by: a timer of scheduler/main.cpp each second, and tests. Control thread; the work is done aside,
// one piece at a time. What fails is tried again a minute later.
#pragma once

#include <functional>
#include <memory>
#include <optional>

#include "db/aside.h"
#include "db/retention.h"

namespace tutti {

struct HistorySettings {
  Duration keep{};  // 0 = for ever
  int at_once = 2'000;
  Duration every = std::chrono::minutes(1);  // while there is more: at each step
};

class HistoryKeeper {
 public:
  HistoryKeeper(Aside aside, std::shared_ptr<RetentionStore> store, HistorySettings settings)
      : aside_(std::move(aside)), store_(std::move(store)), settings_(settings) {}

  /// `leads`: of several schedulers one does it.
  void step(bool leads, Now now);

 private:
  Aside aside_;
  std::shared_ptr<RetentionStore> store_;
  HistorySettings settings_;
  bool under_way_ = false;
  std::optional<Mono> next_;
};

}  // namespace tutti
