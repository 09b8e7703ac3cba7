#include "scheduler/core/series_book.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace tutti {

using series::Block;
using series::kTiers;
using series::Owner;
using series::Point;

namespace {

// After so long without a sample an owner is taken for gone: longer than any pause between two of them.
constexpr Duration kGone = std::chrono::minutes(3);
static_assert(kGone > kTiers[0].every);

// A sample that is older than the one before by more: the clock was ahead.
constexpr Duration kAhead = std::chrono::minutes(1);

// Owners begin at different times, or a scheduler that comes up would write all of them in the same second.
Instant begun(const Owner& owner, Duration every, Instant at) {
  constexpr std::int64_t kSlots = 97;
  const auto slot = (owner.id + owner.epoch.value) % kSlots;
  return at - every * (slot < 0 ? -slot : slot) / kSlots;
}

}  // namespace

Taken SeriesBook::add(const Owner& owner, bool simulated, std::string_view name, std::int64_t item,
                      double value, Instant at) {
  if (!series::is_name(name)) return Taken::bad_name;
  if (!std::isfinite(value)) return Taken::not_a_number;
  auto found = owners_.find(owner);
  series::Key key{std::string(name), item};
  if (found == owners_.end() || !found->second.lines.contains(key)) {
    if (lines_ >= limits_.lines) return Taken::too_many_lines;
    if (found == owners_.end()) {
      found = owners_.try_emplace(owner).first;
      for (std::size_t tier = 0; tier < kTiers.size(); ++tier)
        found->second.written[tier] = begun(owner, kTiers[tier].every, at);
    }
    if (found->second.lines.size() >= limits_.lines_of_owner) return Taken::too_many_lines;
    std::size_t& names = found->second.names[item];
    if (names >= limits_.names) return Taken::too_many_names;
    ++names;
    ++lines_;
  }
  Book& book = found->second;
  book.simulated = simulated;
  if (book.last_at > at + kAhead) set_back(book, at);
  book.last_at = std::max(book.last_at, at);
  Gathered& line = book.lines[std::move(key)];
  for (std::size_t tier = 0; tier < kTiers.size(); ++tier) {
    Bucket& open = line.open[tier];
    const std::int64_t number = series::bucket_of(at, kTiers[tier].step);
    if (open.samples > 0 && number > open.number) finish(line, tier);
    if (open.samples == 0) open = {.number = number, .min = value, .max = value};
    open.min = std::min(open.min, value);
    open.max = std::max(open.max, value);
    open.sum += value;
    ++open.samples;
  }
  return Taken::yes;
}

Point SeriesBook::point_of(const Bucket& bucket) {
  // The sum of enormous values may not be finite.
  const double mean = std::isfinite(bucket.sum) ? bucket.sum / static_cast<double>(bucket.samples)
                                                : bucket.min / 2 + bucket.max / 2;
  return {bucket.number, bucket.min, bucket.max, std::clamp(mean, bucket.min, bucket.max)};
}

void SeriesBook::finish(Gathered& line, std::size_t tier) {
  Bucket& open = line.open[tier];
  if (open.samples == 0) return;
  auto& done = line.done[tier];
  const Point point = point_of(open);
  open.samples = 0;
  if (!done.empty() && done.back().bucket >= point.bucket) return void(++lost_);  // the clock was set back
  if (points_ >= limits_.points) return void(++lost_);
  done.push_back(point);
  ++points_;
}

// Points of a time to come would be before all that follow, and nothing would be due until then.
void SeriesBook::set_back(Book& book, Instant at) {
  book.last_at = at;
  for (std::size_t tier = 0; tier < kTiers.size(); ++tier) {
    book.written[tier] = std::min(book.written[tier], at);
    const std::int64_t last = series::bucket_of(at, kTiers[tier].step) + 1;
    for (auto& [key, line] : book.lines) {
      if (auto& open = line.open[tier]; open.samples > 0 && open.number > last) open.samples = 0, ++lost_;
      for (auto& done = line.done[tier]; !done.empty() && done.back().bucket > last; done.pop_back())
        --points_, ++lost_;
    }
  }
}

bool SeriesBook::has_more(const Book& book, std::size_t tier) {
  return std::ranges::any_of(book.lines, [&](const auto& line) { return !line.second.done[tier].empty(); });
}

bool SeriesBook::is_empty(const Book& book) {
  return std::ranges::all_of(book.lines, [](const auto& line) {
    return std::ranges::all_of(line.second.open, [](const Bucket& open) { return open.samples == 0; }) &&
           std::ranges::all_of(line.second.done, [](const auto& done) { return done.empty(); });
  });
}

std::vector<Block> SeriesBook::take(Instant now, std::size_t most_owners, std::size_t most_points) {
  std::vector<Block> out;
  std::size_t owners = 0, points = 0;
  for (auto it = owners_.begin(); it != owners_.end() && owners < most_owners && points < most_points;) {
    auto& [owner, book] = *it;
    if (book.last_at > now + kAhead) set_back(book, now);
    const bool gone = now - book.last_at >= kGone;
    bool due = false;
    for (std::size_t tier = 0; tier < kTiers.size() && points < most_points; ++tier) {
      if (!gone && now - book.written[tier] < kTiers[tier].every) continue;
      due = true;
      const std::int64_t current = series::bucket_of(now, kTiers[tier].step);
      for (auto& [key, line] : book.lines)
        if (gone || line.open[tier].number < current) finish(line, tier);
      points += take_tier(owner, book, tier, most_points - points, out);
      if (!has_more(book, tier)) book.written[tier] = now;
    }
    owners += due ? 1 : 0;
    if (gone && is_empty(book)) {
      lines_ -= book.lines.size();
      it = owners_.erase(it);
    } else {
      ++it;
    }
  }
  return out;
}

std::vector<Block> SeriesBook::take_all() {
  std::vector<Block> out;
  for (auto& [owner, book] : owners_)
    for (std::size_t tier = 0; tier < kTiers.size(); ++tier) {
      for (auto& [key, line] : book.lines) finish(line, tier);
      take_tier(owner, book, tier, SIZE_MAX, out);
    }
  owners_.clear();
  lines_ = 0;
  return out;
}

// Points that fall into two blocks of time become two blocks.
std::size_t SeriesBook::take_tier(const Owner& owner, Book& book, std::size_t tier, std::size_t most,
                                  std::vector<Block>& out) {
  const auto block_of = [&t = kTiers[tier]](const Point& point) {
    return series::bucket_of(series::begin_of(point.bucket, t.step), t.block);
  };
  const std::size_t of_line = std::max<std::size_t>(1, most / std::max<std::size_t>(1, book.lines.size()));
  std::map<std::int64_t, Block> blocks;
  std::size_t taken = 0;
  for (auto& [key, line] : book.lines) {
    auto points = std::exchange(line.done[tier], {});
    if (points.size() > of_line) {
      line.done[tier].assign(points.begin() + static_cast<std::ptrdiff_t>(of_line), points.end());
      points.resize(of_line);
    }
    taken += points.size();
    for (auto begin = points.begin(); begin != points.end();) {
      const auto number = block_of(*begin);
      const auto end =
          std::find_if(begin, points.end(), [&](const Point& p) { return block_of(p) != number; });
      Block& block = blocks[number];
      if (block.lines.empty())
        block = {.owner = owner,
                 .tier = tier,
                 .at = series::begin_of(number, kTiers[tier].block),
                 .simulated = book.simulated,
                 .lines = {}};
      block.lines.push_back({key, {begin, end}});
      begin = end;
    }
  }
  for (auto& [number, block] : blocks) out.push_back(std::move(block));
  points_ -= taken;
  return taken;
}

std::vector<Point> SeriesBook::copy(const Gathered& line, std::size_t tier, const SeriesLook& look,
                                    std::size_t most) {
  const auto& done = line.done[tier];
  const Duration step = kTiers[tier].step;
  const auto begin = std::ranges::lower_bound(done, series::bucket_of(look.from, step), {}, &Point::bucket);
  const auto end = std::ranges::upper_bound(done, series::bucket_of(look.until, step), {}, &Point::bucket);
  if (begin > end) return {};  // `until` before `from`
  const auto left = std::min(most, static_cast<std::size_t>(end - begin));
  std::vector<Point> out(end - static_cast<std::ptrdiff_t>(left), end);
  if (line.open[tier].samples > 0) out.push_back(point_of(line.open[tier]));
  return out;
}

std::vector<Block> SeriesBook::look(const Owner& owner, const SeriesLook& look) const {
  std::vector<Block> out;
  const auto found = owners_.find(owner);
  if (found == owners_.end()) return out;
  const Book& book = found->second;
  std::vector<std::pair<const series::Key*, const Gathered*>> wanted;
  std::size_t items = 0;  // of the name; lines are by name and item
  for (const auto& [key, line] : book.lines) {
    if (wanted.empty() || wanted.back().first->name != key.name) items = 0;
    if (items >= look.items_of_name) continue;
    if (look.names != nullptr && !look.names->contains(key.name)) continue;
    if (look.items != nullptr && !look.items->contains(key.item)) continue;
    ++items;
    wanted.emplace_back(&key, &line);
  }
  const std::size_t most = look.points / std::max<std::size_t>(1, wanted.size());
  for (std::size_t tier = look.tier; tier < kTiers.size(); ++tier) {
    Block& block = out.emplace_back();
    block.owner = owner;
    block.tier = tier;
    block.simulated = book.simulated;
    for (const auto& [key, line] : wanted) block.lines.push_back({*key, copy(*line, tier, look, most)});
  }
  return out;
}

}  // namespace tutti
