#include "scheduler/service/history_keeper.h"

#include <spdlog/spdlog.h>

namespace tutti {

void HistoryKeeper::step(bool leads, Now now) {
  if (settings_.keep <= Duration::zero() || !leads || under_way_ || (next_ && now.mono < *next_)) return;
  under_way_ = true;
  next_ = now.mono + settings_.every;
  struct Work {
    Forgotten gone;
    bool archiving = false;
  };
  auto work = std::make_shared<Work>();
  aside_(
      [store = store_, archive = archive_, before = now.wall - settings_.keep, most = settings_.at_once,
       work] {
        std::optional<Instant> limit = before;
        work->archiving = archive != nullptr;
        if (archive) limit = archive->advance(before);
        work->archiving = false;
        if (limit)
          work->gone = store->forget(*limit, most);
        else
          work->gone.more = true;
      },
      [this, work](std::exception_ptr failure) {
        under_way_ = false;
        if (failure && settings_.failed) settings_.failed(work->archiving ? "archive" : "drop");
        if (failure && work->archiving)
          return spdlog::error("old history could not be archived, and stays: {}", text_of(failure));
        if (failure) return spdlog::warn("old history could not be dropped: {}", text_of(failure));
        const Forgotten& gone = work->gone;
        if (!gone.partition.empty()) spdlog::info("history: {} is dropped", gone.partition);
        if (gone.jobs > 0) spdlog::debug("history: {} finished jobs are dropped", gone.jobs);
        if (gone.more) next_.reset();
      });
}

}  // namespace tutti
