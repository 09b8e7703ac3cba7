#include "scheduler/core/series_merge.h"

#include <algorithm>
#include <utility>

namespace tutti {

using series::Key;
using series::kTiers;
using series::Owner;
using series::Point;

namespace {

Duration rounded_up(Duration time, Duration step) { return (time + step - Duration(1)) / step * step; }

}  // namespace

std::size_t choose_tier(const SeriesQuery& query, const std::vector<Duration>& kept, Instant now,
                        std::size_t most_rows) {
  const Duration wanted = (query.until - query.from) / std::max<std::int64_t>(query.points, 1);
  const auto rows = [&](std::size_t tier) {
    const auto of_each = (query.until - query.from) / kTiers[tier].block + 2;
    return static_cast<std::size_t>(of_each) * query.parts.size();
  };
  std::size_t tier = 0;
  while (tier + 1 < kTiers.size() && kTiers[tier + 1].step <= wanted) ++tier;
  while (tier + 1 < kTiers.size() && (now - query.from > kept[tier] || rows(tier) > most_rows)) ++tier;
  return tier;
}

SeriesMerge::SeriesMerge(const SeriesQuery& query, std::size_t tier, SeriesBounds bounds)
    : query_(query),
      step_(kTiers[tier].step),
      begin_(series::begin_of(series::bucket_of(query.from, step_), step_)),
      bucket_(rounded_up((query.until - begin_) / std::max<std::int64_t>(query.points, 1), step_)),
      bounds_(bounds) {
  // Division rounds down: one more step may be needed.
  if (begin_ + bucket_ * std::max<std::int64_t>(query.points, 1) < query.until) bucket_ += step_;
  for (auto& part : query_.parts) owners_.emplace(part.owner, std::move(part.items));
}

bool SeriesMerge::is_asked_for(const Owner& owner, const Key& key) const {
  const auto part = owners_.find(owner);
  if (part == owners_.end() || (part->second && !part->second->contains(key.item))) return false;
  return query_.names.empty() || query_.names.contains(key.name);
}

// Null: too many.
SeriesMerge::Sums* SeriesMerge::line_of(const Owner& owner, const Key& key) {
  auto named = lines_.find({owner.kind, key.name});
  if (named == lines_.end()) {
    if (lines_.size() >= bounds_.names) {
      cut_ = true;
      return nullptr;
    }
    named = lines_.try_emplace({owner.kind, key.name}).first;
  }
  auto& items = named->second;
  if (!items.contains(key.item) && items.size() >= bounds_.items) {
    cut_ = true;
    const auto last = std::prev(items.end());
    if (last->first < key.item) return nullptr;
    values_ -= last->second.size();
    items.erase(last);
  }
  return &items[key.item];
}

void SeriesMerge::put(Sums& line, const Sum& more) {
  auto at = line.end();
  if (!line.empty() && line.back().bucket >= more.bucket)
    at = std::ranges::lower_bound(line, more.bucket, {}, &Sum::bucket);
  if (at == line.end() || at->bucket != more.bucket) {
    line.insert(at, more);
    ++values_;
    return;
  }
  at->min = std::min(at->min, more.min);
  at->max = std::max(at->max, more.max);
  at->sum += more.sum;
  at->points += more.points;
}

void SeriesMerge::add(const Owner& owner, const Key& key, bool simulated, const Point& point) {
  if (line(owner, key, simulated)) add(point);
}

bool SeriesMerge::line(const Owner& owner, const Key& key, bool simulated) {
  current_ = {.owner = &owner, .key = &key, .simulated = simulated, .refused = !is_asked_for(owner, key)};
  return !current_.refused;
}

void SeriesMerge::add(const Point& point) {
  const Instant at = series::begin_of(point.bucket, step_);
  if (current_.refused || at < begin_ || at >= query_.until) return;
  if (current_.sums == nullptr) {
    current_.sums = line_of(*current_.owner, *current_.key);
    current_.refused = current_.sums == nullptr;
    if (current_.refused) return;
    if (current_.owner->kind == series::Kind::node) simulated_ = simulated_ || current_.simulated;
  }
  put(*current_.sums, {(at - begin_) / bucket_, point.min, point.max, point.mean, 1});
  while (values_ > bounds_.values && bucket_ < query_.until - query_.from) coarsen();
}

// Two buckets become one.
void SeriesMerge::coarsen() {
  bucket_ *= 2;
  values_ = 0;
  for (auto& [name, items] : lines_)
    for (auto& [item, line] : items) {
      Sums merged;
      for (Sum sum : std::exchange(line, {})) {
        sum.bucket /= 2;
        put(merged, sum);
      }
      line = std::move(merged);
    }
}

SeriesFound SeriesMerge::take() {
  SeriesFound out;
  out.from = begin_;
  out.until = query_.until;
  out.bucket = bucket_;
  out.simulated = simulated_;
  out.cut = cut_;
  for (auto& [name, items] : lines_)
    for (auto& [item, sums] : items) {
      auto& line = out.lines.emplace_back();
      line.kind = name.first;
      line.key = {name.second, item};
      line.values.reserve(sums.size());
      for (const Sum& sum : sums)
        line.values.push_back({sum.bucket, sum.min, sum.max,
                               std::clamp(sum.sum / static_cast<double>(sum.points), sum.min, sum.max)});
    }
  return out;
}

}  // namespace tutti
