#include "worker/core/peer_watch.h"

#include <algorithm>

namespace tutti::worker {

namespace {
constexpr Duration kKeep = std::chrono::hours(1);  // longer than any lease
constexpr Duration kLookEvery = std::chrono::minutes(1);
constexpr std::size_t kMaxRefused = 16384;
}  // namespace

void PeerWatch::acknowledged(const std::string& node, AttemptKey key, Mono now) {
  acknowledged_[{node, key}] = now;
  forget_old(now);
}

void PeerWatch::forget_old(Mono now) {
  if (now - looked_at_ < kLookEvery) return;
  looked_at_ = now;
  std::erase_if(acknowledged_, [&](const auto& entry) { return now - entry.second > kKeep; });
}

Duration PeerWatch::silence(const std::string& node, AttemptKey key, Mono now) const {
  const auto found = acknowledged_.find({node, key});
  // One that is forgotten has been silent for an hour: no longer than that is claimed for it.
  const Mono since = found == acknowledged_.end() ? std::max(started_, now - kKeep) : found->second;
  return std::max(now - since, Duration(0));
}

void PeerWatch::refuse(AttemptKey key) {
  if (!refused_.insert(key).second) return;
  refused_by_age_.push_back(key);
  if (refused_by_age_.size() <= kMaxRefused) return;
  refused_.erase(refused_by_age_.front());
  refused_by_age_.pop_front();
}

}  // namespace tutti::worker
