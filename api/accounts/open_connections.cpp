#include "api/accounts/open_connections.h"

#include <utility>

namespace tutti {

void OpenConnections::add(Identity who, Judge may_stay, std::weak_ptr<void> what,
                          std::function<void()> close) {
  open_.push_back({std::move(who), std::move(may_stay), std::move(what), std::move(close)});
}

void OpenConnections::sweep(const Renew& renew) {
  std::vector<Entry> kept;
  kept.reserve(open_.size());
  std::vector<std::pair<std::shared_ptr<void>, std::function<void()>>> closing;
  for (auto& entry : open_) {
    auto alive = entry.what.lock();
    if (!alive) continue;
    const auto now = renew(entry.who);
    if (now && entry.may_stay(entry.who, *now))
      kept.push_back(std::move(entry));
    else
      closing.emplace_back(std::move(alive), std::move(entry.close));
  }
  open_ = std::move(kept);
  for (const auto& [alive, close] : closing) close();
}

}  // namespace tutti
