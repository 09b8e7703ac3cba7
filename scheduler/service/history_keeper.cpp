#include "scheduler/service/history_keeper.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <cmath>
#include <utility>

namespace tutti {

void HistoryKeeper::step(bool leads, Now now) {
  if (!leads || under_way_) return;
  const auto due = [&](const std::optional<Mono>& next) { return !next || now.mono >= *next; };
  if (settings_.keep > Duration::zero() && due(next_))
    drop_history(now);
  else if (due(next_keys_))
    forget_keys(now);
}

void HistoryKeeper::drop_history(Now now) {
  under_way_ = true;
  next_ = now.mono + settings_.every;
  struct Work {
    Forgotten gone;
    bool archiving = false;
    std::optional<Duration> ahead;  // of us, the server's clock
    bool clocks_apart = false;
  };
  auto work = std::make_shared<Work>();
  aside_(
      [store = store_, archive = archive_, wall = now.wall, settings = settings_, work] {
        const Instant there = store->clock();
        work->ahead = there - wall;
        work->clocks_apart = std::chrono::abs(*work->ahead) > settings.clocks_apart;
        if (work->clocks_apart) return;
        const Instant before = std::min(wall, there) - settings.keep;
        std::optional<Instant> limit = before;
        work->archiving = archive != nullptr;
        if (archive) limit = archive->advance(before);
        work->archiving = false;
        if (limit)
          work->gone = store->forget(*limit, settings.at_once);
        else
          work->gone.more = true;
      },
      [this, work](std::exception_ptr failure) {
        under_way_ = false;
        if (work->ahead) compare_clocks(*work->ahead);
        if ((failure || work->clocks_apart) && settings_.failed)
          settings_.failed(work->archiving ? "archive" : "drop");
        if (failure && work->archiving)
          return spdlog::error("old history could not be archived, and stays: {}", text_of(failure));
        if (failure) return spdlog::warn("old history could not be dropped: {}", text_of(failure));
        const Forgotten& gone = work->gone;
        if (!gone.partition.empty()) spdlog::info("history: {} is dropped", gone.partition);
        if (gone.jobs > 0) spdlog::debug("history: {} finished jobs are dropped", gone.jobs);
        if (gone.more) next_.reset();
      });
}

void HistoryKeeper::compare_clocks(Duration ahead) {
  const bool apart = std::chrono::abs(ahead) > settings_.clocks_apart;
  if (std::exchange(clocks_apart_, apart) == apart) return;
  if (apart)
    spdlog::error(
        "the clock of the database's server is {:.1f} h {} this scheduler's: no history is dropped until "
        "they agree",
        std::abs(to_seconds(ahead)) / 3600, ahead > Duration::zero() ? "ahead of" : "behind");
  else
    spdlog::info(
        "the clocks of the database's server and of this scheduler agree: old history is dropped again");
}

void HistoryKeeper::forget_keys(Now now) {
  under_way_ = true;
  next_keys_ = now.mono + settings_.keys_every;
  auto gone = std::make_shared<std::int64_t>();
  aside_([store = store_, most = settings_.keys_at_once, gone] { *gone = store->forget_keys(most); },
         [this, gone](std::exception_ptr failure) {
           under_way_ = false;
           if (failure)
             return spdlog::warn("old idempotency keys could not be forgotten: {}", text_of(failure));
           if (*gone >= settings_.keys_at_once) next_keys_.reset();
         });
}

}  // namespace tutti
