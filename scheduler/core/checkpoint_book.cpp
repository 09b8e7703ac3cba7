#include "scheduler/core/checkpoint_book.h"

#include <algorithm>
#include <set>
#include <tuple>

namespace tutti {
namespace {

// Later is better; by path, so that equals are told apart the same way everywhere.
auto age_order(const CheckpointRow& c) { return std::tie(c.step, c.epoch, c.path); }

bool is_newer(const CheckpointRow& a, const CheckpointRow* b) {
  return b == nullptr || age_order(a) > age_order(*b);
}

bool usable(const CheckpointRow& c) { return c.state != CheckpointState::bad && !c.deleting; }

bool trusted(const CheckpointRow& c) {
  return c.state == CheckpointState::found || c.state == CheckpointState::good;
}

bool kept(const CheckpointRow& c) { return c.retired_at == Instant{}; }

}  // namespace

CheckpointRow* CheckpointBook::find(const std::string& path) {
  const auto it = rows_.find(path);
  return it == rows_.end() ? nullptr : &it->second;
}

const CheckpointRow* CheckpointBook::find(const std::string& path) const {
  const auto it = rows_.find(path);
  return it == rows_.end() ? nullptr : &it->second;
}

CheckpointRow& CheckpointBook::put(CheckpointRow row) {
  std::string path = row.path;
  return rows_.insert_or_assign(std::move(path), std::move(row)).first->second;
}

const CheckpointRow* CheckpointBook::choose_resume() const {
  const CheckpointRow *first = nullptr, *retired = nullptr, *suspect = nullptr;
  for (const auto& [path, c] : rows_) {
    if (!usable(c)) continue;
    const CheckpointRow*& best = !trusted(c) ? suspect : kept(c) ? first : retired;
    if (is_newer(c, best)) best = &c;
  }
  return first != nullptr ? first : retired != nullptr ? retired : suspect;
}

std::int64_t CheckpointBook::newest_step() const {
  std::int64_t newest = -1;
  for (const auto& [path, c] : rows_)
    if (c.state != CheckpointState::bad) newest = std::max(newest, c.step);
  return newest;
}

bool CheckpointBook::keeps_a_good_one() const {
  return std::ranges::any_of(rows_, [](const auto& entry) {
    return kept(entry.second) && entry.second.state == CheckpointState::good;
  });
}

bool CheckpointBook::has_newer(Epoch epoch, std::int64_t step) const {
  return std::ranges::any_of(rows_, [&](const auto& entry) {
    const CheckpointRow& c = entry.second;
    return c.epoch == epoch && c.step > step && c.state != CheckpointState::bad;
  });
}

std::vector<std::string> CheckpointBook::choose_retired(const CheckpointPolicy& policy,
                                                        const std::string& in_use) const {
  std::vector<std::string> out;
  if (policy.keep <= 0) return out;
  std::vector<const CheckpointRow*> newest;
  for (const auto& [path, c] : rows_)
    if (trusted(c) && kept(c)) newest.push_back(&c);
  std::ranges::sort(newest, [](const auto* a, const auto* b) { return age_order(*a) > age_order(*b); });
  if (newest.size() <= static_cast<std::size_t>(policy.keep)) return out;
  const CheckpointRow* oldest_kept = newest[static_cast<std::size_t>(policy.keep) - 1];

  const CheckpointRow *restored = nullptr, *good = nullptr;
  for (const auto& [path, c] : rows_) {
    if (c.state != CheckpointState::good || !kept(c)) continue;
    if (is_newer(c, good)) good = &c;
    if (c.restored && is_newer(c, restored)) restored = &c;
  }
  for (const auto& [path, c] : rows_) {
    const bool by_step = policy.keep_every > 0 && c.step % policy.keep_every == 0 && usable(c);
    if (kept(c) && !by_step && path != in_use && &c != restored && &c != good &&
        age_order(c) < age_order(*oldest_kept))
      out.push_back(path);
  }
  return out;
}

}  // namespace tutti
