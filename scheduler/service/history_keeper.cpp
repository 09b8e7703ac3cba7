#include "scheduler/service/history_keeper.h"

#include <spdlog/spdlog.h>

namespace tutti {

void HistoryKeeper::step(bool leads, Now now) {
  if (settings_.keep <= Duration::zero() || !leads || under_way_ || (next_ && now.mono < *next_)) return;
  under_way_ = true;
  next_ = now.mono + settings_.every;
  auto gone = std::make_shared<Forgotten>();
  aside_([store = store_, before = now.wall - settings_.keep, most = settings_.at_once,
          gone] { *gone = store->forget(before, most); },
         [this, gone](std::exception_ptr failure) {
           under_way_ = false;
           if (failure) {
             spdlog::warn("old history could not be dropped: {}", text_of(failure));
             return;
           }
           if (!gone->partition.empty()) spdlog::info("history: {} is dropped", gone->partition);
           if (gone->jobs > 0) spdlog::debug("history: {} finished jobs are dropped", gone->jobs);
           if (gone->more) next_.reset();
         });
}

}  // namespace tutti
