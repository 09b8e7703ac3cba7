#include "scheduler/service/series_record.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <iterator>
#include <utility>

#include "db/too_much.h"

namespace tutti {

using series::Block;
using series::kTiers;
using series::Owner;

namespace {

constexpr std::size_t kMostWarned = 1'000;
constexpr std::string_view kToldCompute = "compute_s";  // of its own accord the worker tells it of every rank

std::string_view why_of(Taken taken) {
  switch (taken) {
    case Taken::yes: return "";
    case Taken::bad_name: return "name";
    case Taken::not_a_number: return "number";
    case Taken::too_many_names: return "names";
    case Taken::too_many_lines: return "series";
  }
  return "";
}

std::vector<SeriesRow> rows_of(const std::vector<Block>& blocks) {
  std::vector<SeriesRow> rows;
  rows.reserve(blocks.size());
  for (const Block& block : blocks)
    rows.push_back({block.owner, kTiers[block.tier].step, block.at, encode_block(block)});
  return rows;
}

// The database has looked at the rows and will not have them, today or tomorrow.
bool is_refused(const std::exception_ptr& failure) {
  try {
    std::rethrow_exception(failure);
  } catch (const StoreError& error) {
    return error.kind == StoreError::conflict || error.kind == StoreError::corrupt;
  } catch (...) {
    return false;
  }
}

// It would have them if they were fewer.
bool is_too_much(const std::exception_ptr& failure) {
  try {
    std::rethrow_exception(failure);
  } catch (const TooMuch&) {
    return true;
  } catch (...) {
    return false;
  }
}

std::size_t points_of(const Block& block) {
  std::size_t points = 0;
  for (const auto& line : block.lines) points += line.points.size();
  return points;
}

class IntoMerge final : public SeriesSink {
 public:
  IntoMerge(SeriesMerge& merge, const Owner& owner) : merge_(merge), owner_(owner) {}
  bool line(const series::Key& key, bool simulated) override { return merge_.line(owner_, key, simulated); }
  void point(const series::Point& point) override { merge_.add(point); }

 private:
  SeriesMerge& merge_;
  const Owner& owner_;
};

void merge_blocks(const std::vector<Block>& blocks, std::size_t tier, SeriesMerge& merge) {
  for (const Block& block : blocks) {
    if (block.tier != tier) continue;
    for (const auto& line : block.lines)
      if (merge.line(block.owner, line.key, block.simulated))
        for (const auto& point : line.points) merge.add(point);
  }
}

/// One question, on the reader's thread.
class StoredRead {
 public:
  StoredRead(SeriesStore& store, const SeriesQuery& query, const SeriesSettings& settings)
      : store_(store),
        query_(query),
        rows_left_(settings.rows_per_read),
        bytes_left_(settings.bytes_per_read),
        until_(std::chrono::steady_clock::now() + settings.read_for) {}

  /// From `tier` on the finest that is not too long.
  std::size_t choose(std::size_t tier) {
    while (tier + 1 < kTiers.size() && store_.bytes(range_of(tier)) > bytes_left_) ++tier;
    return tier;
  }
  /// The attempt's own measurements first, then GPUs, as far as the bounds allow.
  void read(std::size_t tier, SeriesMerge& merge) {
    for (const auto& part : query_.parts)
      if (!read_owner(part.owner, tier, merge)) return merge.cut();
  }

 private:
  SeriesRange range_of(std::size_t tier) const {
    SeriesRange range;
    for (const auto& part : query_.parts) range.owners.push_back(part.owner);
    range.step = kTiers[tier].step;
    range.from = query_.from - kTiers[tier].block;  // a block that began before goes on behind it
    range.until = query_.until;
    return range;
  }

  /// A few rows at a time: one of a large attempt is some megabytes. False: there is more than the bounds
  /// allow.
  bool read_owner(const Owner& owner, std::size_t tier, SeriesMerge& merge) {
    constexpr std::int64_t kAtOnce = 8LL << 20;  // bytes
    constexpr int kFirst = 2;
    SeriesRange range = range_of(tier);
    range.owners = {owner};
    for (int most = kFirst;;) {
      if (rows_left_ <= 0 || bytes_left_ <= 0 || std::chrono::steady_clock::now() >= until_) return false;
      const int asked = std::min(most, rows_left_);
      const auto rows = store_.find(range, asked);
      std::int64_t bytes = 0;
      for (const auto& row : rows) {
        bytes += static_cast<std::int64_t>(row.body.size());
        IntoMerge sink(merge, row.owner);
        if (!decode_blocks(row.body, sink))
          spdlog::warn("a stored block of measurements of {} is damaged", row.owner.id);
      }
      const int got = static_cast<int>(rows.size());
      rows_left_ -= got;
      bytes_left_ -= bytes;
      if (got < asked) return true;
      range.from = rows.back().at + Duration(1);
      most = static_cast<int>(
          std::clamp<std::int64_t>(kAtOnce * got / std::max<std::int64_t>(1, bytes), 1, 256));
    }
  }

  SeriesStore& store_;
  const SeriesQuery& query_;
  int rows_left_;
  std::int64_t bytes_left_;
  std::chrono::steady_clock::time_point until_;
};

}  // namespace

SeriesRecord::SeriesRecord(Backend& backend, SeriesAside writer, SeriesAside reader, SeriesSettings settings)
    : backend_(backend),
      writer_(std::move(writer)),
      reader_(std::move(reader)),
      settings_(std::move(settings)),
      book_(settings_.limits) {}

// ---------------------------------------------------------------- samples

void SeriesRecord::on_loads(NodeId id, const std::vector<protocol::GpuLoad>& loads) {
  const ControlPlane* plane = backend_.plane();
  const Node* node = plane == nullptr ? nullptr : plane->cluster().find(id);
  if (node == nullptr) return;
  const Owner owner = series::of(id);
  for (const auto& load : loads) {
    const Gpu* gpu = plane->cluster().find_gpu(load.uuid);
    if (gpu == nullptr || gpu->row.node != id) continue;  // its inventory comes first
    const auto take = [&](std::string_view name, const auto& value, double unit) {
      if (value) add(owner, node->row.simulated_gpus, name, gpu->row.id.value, unit * double(*value));
    };
    if (load.utilisation_percent)
      uses_[gpu->row.id] = {std::clamp(*load.utilisation_percent, 0, 100), backend_.now().mono};
    take(series::kUtilisation, load.utilisation_percent, 1);
    take(series::kMemory, load.memory_bytes, 1);
    take(series::kPower, load.power_mw, 1e-3);
    take(series::kTemperature, load.temperature_c, 1);
  }
}

// Null: not an attempt that runs there.
const GangMember* SeriesRecord::member_of(AttemptKey key, NodeId node) const {
  const ControlPlane* plane = backend_.plane();
  const Attempt* attempt = plane == nullptr ? nullptr : plane->find_attempt(key);
  if (attempt == nullptr) return nullptr;
  const auto member = std::ranges::find(attempt->row.gang, node, &GangMember::node);
  return member == attempt->row.gang.end() ? nullptr : &*member;
}

void SeriesRecord::on_progress(NodeId node, const protocol::Progress& progress) {
  const GangMember* member = member_of(progress.key, node);
  if (member == nullptr) return;
  const Owner owner = series::of(progress.key);
  add(owner, false, series::kStep, member->first_rank, static_cast<double>(progress.step));
  for (const auto& [name, value] : progress.metrics) {
    const bool ours =
        name == series::kStep || name == series::kStepSeconds || name == series::kComputeSeconds;
    if (!ours && name != kToldCompute) add(owner, false, name, member->first_rank, value);
  }
}

void SeriesRecord::on_ranks(NodeId node, const protocol::RankReport& report) {
  const GangMember* member = member_of(report.key, node);
  if (member == nullptr || !report.tells_progress) return;
  const Owner owner = series::of(report.key);
  for (const auto& pulse : report.ranks) {
    if (pulse.rank < member->first_rank || pulse.rank - member->first_rank >= member->ranks) continue;
    if (pulse.step >= 0) add(owner, false, series::kStep, pulse.rank, static_cast<double>(pulse.step));
    if (pulse.step_us > 0)
      add(owner, false, series::kStepSeconds, pulse.rank, to_seconds(Duration(pulse.step_us)));
    if (pulse.compute_us > 0)
      add(owner, false, series::kComputeSeconds, pulse.rank, to_seconds(Duration(pulse.compute_us)));
  }
}

void SeriesRecord::add(const Owner& owner, bool simulated, std::string_view name, std::int64_t item,
                       double value) {
  const Taken taken = book_.add(owner, simulated, name, item, value, backend_.now().wall);
  if (taken == Taken::yes) return;
  say_dropped(why_of(taken), 1);
  if (warned_.size() >= kMostWarned || !warned_.insert(owner).second) return;
  const std::string shown(name.substr(0, series::kMaxName));
  switch (taken) {
    case Taken::yes: break;
    case Taken::bad_name:
      spdlog::warn(
          "job={} epoch={} metric '{}' is not kept: a name has letters, digits and _ - . / : only, "
          "at most {}",
          owner.id, owner.epoch.value, shown, series::kMaxName);
      break;
    case Taken::not_a_number:
      spdlog::warn("job={} epoch={} metric '{}' is not finite: not kept then", owner.id, owner.epoch.value,
                   shown);
      break;
    case Taken::too_many_names:
      spdlog::warn("job={} epoch={} metric '{}' is not kept: more than {} names of rank {}", owner.id,
                   owner.epoch.value, shown, settings_.limits.names, item);
      break;
    case Taken::too_many_lines:
      spdlog::warn("{}={} epoch={} metric '{}' of {} is not kept: too many series",
                   owner.kind == series::Kind::node ? "node" : "job", owner.id, owner.epoch.value, shown,
                   item);
      break;
  }
}

void SeriesRecord::say_dropped(std::string_view why, std::size_t n) {
  if (n > 0 && settings_.dropped) settings_.dropped(why, n);
}

// ---------------------------------------------------------------- rows

void SeriesRecord::step() {
  const Now now = backend_.now();
  forget(now);
  if (to_write_.empty()) {
    auto blocks = book_.take(now.wall, settings_.owners_per_write, settings_.points_per_write);
    if (!blocks.empty()) to_write_.push_back(std::make_shared<const std::vector<Block>>(std::move(blocks)));
  }
  say_dropped("memory", book_.take_lost());
  write();
}

void SeriesRecord::write() {
  if (writing_ || to_write_.empty()) return;
  writing_ = true;
  writer_.aside([store = writer_.store, blocks = to_write_.front()] { store->add(rows_of(*blocks)); },
                [this](std::exception_ptr failure) { written(std::move(failure)); });
}

void SeriesRecord::written(std::exception_ptr failure) {
  writing_ = false;
  if (settings_.wrote) settings_.wrote(to_write_.front()->size(), !failure);
  if (!failure) {
    failing_ = false;
    refusals_ = 0;
    to_write_.pop_front();
    return write();  // the other half
  }
  if (!std::exchange(failing_, true)) spdlog::warn("measurements could not be stored: {}", text_of(failure));
  if (is_refused(failure)) return drop_first();
  if (is_too_much(failure) && ++refusals_ >= settings_.refusals) halve_first();
  // Else again with the next step.
}

void SeriesRecord::drop_first() {
  say_dropped("store", to_write_.front()->size());
  to_write_.pop_front();
  refusals_ = 0;
}

void SeriesRecord::halve_first() {
  const Blocks all = to_write_.front();
  if (all->size() == 1) return drop_first();
  const auto middle = all->begin() + static_cast<std::ptrdiff_t>(all->size() / 2);
  to_write_.front() = std::make_shared<const std::vector<Block>>(middle, all->end());
  to_write_.push_front(std::make_shared<const std::vector<Block>>(all->begin(), middle));
  refusals_ = 0;
}

void SeriesRecord::finish() {
  if (failing_) return;
  std::vector<Blocks> left(to_write_.begin() + (writing_ ? 1 : 0), to_write_.end());
  std::vector<Block> piece;
  std::size_t points = 0;
  const auto end_piece = [&] {
    left.push_back(std::make_shared<const std::vector<Block>>(std::exchange(piece, {})));
    points = 0;
  };
  for (Block& block : book_.take_all()) {
    points += points_of(block);
    piece.push_back(std::move(block));
    if (points >= settings_.points_per_write) end_piece();
  }
  end_piece();
  writer_.aside(
      [store = writer_.store, left = std::move(left)] {
        for (const auto& blocks : left) store->add(rows_of(*blocks));
      },
      [](std::exception_ptr failure) {
        if (failure) spdlog::warn("the last measurements could not be stored: {}", text_of(failure));
      });
}

// One piece of each tier at a time: of a store that hangs no more is asked than that.
void SeriesRecord::forget(Now now) {
  constexpr Duration kEvery = std::chrono::minutes(1);
  if (failing_) return;  // it is away
  for (std::size_t tier = 0; tier < kTiers.size(); ++tier) {
    auto& [last, under_way] = forgetting_[tier];
    if (under_way || (last && now.mono - *last < kEvery)) continue;
    last = now.mono;
    under_way = true;
    auto more = std::make_shared<bool>(false);
    // Of its last block something is still to be kept.
    const Instant before = now.wall - settings_.keep[tier] - kTiers[tier].block;
    writer_.aside([store = writer_.store, tier, before, most = settings_.forget_at_once,
                   more] { *more = store->forget(kTiers[tier].step, before, most); },
                  [this, tier, more](std::exception_ptr failure) {
                    forgetting_[tier].under_way = false;
                    if (*more) forgetting_[tier].last.reset();  // with the next step
                    if (failure && !std::exchange(forget_failing_, true))
                      spdlog::warn("old measurements could not be dropped: {}", text_of(failure));
                    if (!failure) forget_failing_ = false;
                  });
  }
}

// ---------------------------------------------------------------- what was measured

std::optional<std::int32_t> SeriesRecord::utilisation(GpuId gpu, Mono now) const {
  constexpr Duration kLasts = std::chrono::seconds(30);  // six samples
  const auto use = uses_.find(gpu);
  if (use == uses_.end() || now - use->second.at > kLasts) return std::nullopt;
  return use->second.percent;
}

void SeriesRecord::find(SeriesQuery query, std::function<std::string(const SeriesFound&)> render,
                        std::function<void(Result<std::string>)> done) {
  const std::size_t tier = choose_tier(query, settings_.keep, backend_.now().wall,
                                       static_cast<std::size_t>(settings_.rows_per_read));
  // Copied only: what it makes is merged aside.
  auto unsaved = std::make_shared<std::vector<Block>>();
  for (const auto& part : query.parts) {
    SeriesLook look{.tier = tier, .from = query.from, .until = query.until};
    look.items = part.items ? &*part.items : nullptr;
    look.names = query.names.empty() ? nullptr : &query.names;
    look.items_of_name = settings_.bounds.items + 1;  // one more: that there are more is said
    look.points = settings_.unsaved_per_read;
    auto blocks = book_.look(part.owner, look);
    std::ranges::move(blocks, std::back_inserter(*unsaved));
  }
  auto text = std::make_shared<std::string>();
  reader_.aside(
      [store = reader_.store, query = std::move(query), tier, settings = settings_, unsaved, text,
       under_way = std::vector<Blocks>(to_write_.begin(), to_write_.end()), render = std::move(render)] {
        StoredRead stored(*store, query, settings);
        const std::size_t chosen = stored.choose(tier);
        SeriesMerge merge(query, chosen, settings.bounds);
        merge_blocks(*unsaved, chosen, merge);
        for (const auto& blocks : under_way) merge_blocks(*blocks, chosen, merge);
        stored.read(chosen, merge);
        *text = render(merge.take());
      },
      [text, done = std::move(done)](std::exception_ptr failure) {
        if (failure)
          return done(Error{.code = Errc::unavailable,
                            .message = "what was measured cannot be read: " + text_of(failure),
                            .hint = "try again in a second",
                            .field = ""});
        done(std::move(*text));
      });
}

}  // namespace tutti
