#include "worker/core/hang_watch.h"

#include <algorithm>
#include <cmath>

namespace tutti::worker {
namespace {

constexpr std::size_t kWindow = 256;          // steps remembered per rank
constexpr std::int64_t kMuchIo = 1 << 20;     // bytes from one look to the next: it moves
constexpr std::int64_t kLittleIo = 64 << 10;  // bytes a silent rank may still write: a line now and then
constexpr Duration kLittleCpu = std::chrono::milliseconds(50);
constexpr int kRobust = 3;       // the p99 is at most so many medians
constexpr int kIdlePercent = 1;  // of a core and rank: background threads wake up
constexpr double kLongestComputeSeconds = 1e6;
constexpr Duration kLongestStep = std::chrono::hours(24 * 7);

Duration quantile(std::vector<Duration> values, double q) {
  if (values.empty()) return {};
  const auto n = static_cast<double>(values.size());
  const auto at = static_cast<std::ptrdiff_t>(std::clamp(std::ceil(q * n) - 1, 0.0, n - 1));
  std::nth_element(values.begin(), values.begin() + at, values.end());
  return values[static_cast<std::size_t>(at)];
}

}  // namespace

HangWatch::HangWatch(HangLimits limits, HangPolicy policy, Mono started)
    : limits_(limits), policy_(policy), last_move_(started), flat_since_(started) {}

void HangWatch::on_told(Mono now, std::int32_t rank, const Told& told) {
  const auto [at, fresh] = ranks_.try_emplace(rank);
  One& one = at->second;
  if (fresh) {
    one.told = told;
    one.moved = now;
    last_move_ = std::max(last_move_, now);
    return;
  }
  const bool whole_step = one.has_moved;
  const bool stepped = told.step != one.told.step;
  if (!stepped && told.mark == one.told.mark) return;
  // The file's age is finer than our looks, as far as it fits between this one and the change before.
  const Mono moved = now - std::clamp(told.age, Duration(0), std::max(now - one.moved, Duration(0)));
  if (std::isfinite(told.compute_s) && told.compute_s > 0 && told.compute_s < kLongestComputeSeconds) {
    one.compute_last = told.compute_s;
    one.compute_sum += told.compute_s;
    ++one.compute_n;
  }
  if (told.step > one.told.step) {
    // By subtraction in unsigned: steps may be anything.
    const auto made = static_cast<std::uint64_t>(told.step) - static_cast<std::uint64_t>(one.told.step);
    const auto each = static_cast<std::uint64_t>(std::max(moved - one.moved, Duration(1)).count()) / made;
    if (one.has_moved) {
      one.steps.push_back(
          std::min(Duration(static_cast<std::int64_t>(std::max<std::uint64_t>(each, 1))), kLongestStep));
      if (one.steps.size() > kWindow) one.steps.pop_front();
    }
    one.has_moved = true;
  } else if (stepped) {
    one.has_moved = false;  // it began anew: what comes next is no whole step
  }
  if (moved > last_move_) {
    if (whole_step) longest_ = std::max(longest_, moved - last_move_);  // else it was still starting
    last_move_ = moved;
  }
  one.told = told;
  one.moved = moved;
}

void HangWatch::on_rank_ended(std::int32_t rank) { ranks_.erase(rank); }

void HangWatch::on_activity(Mono now, std::size_t living, const Activity& a) {
  if (a.io_bytes < io_seen_ || a.io_bytes - io_seen_ >= kMuchIo) last_io_ = now;
  io_seen_ = a.io_bytes;
  const auto ranks = static_cast<std::int64_t>(std::max<std::size_t>(living, 1));
  const Duration idle = kLittleCpu + (now - flat_since_) * kIdlePercent * ranks / 100;
  const Duration cpu = a.cpu - flat_from_.cpu;
  const std::int64_t io = a.io_bytes - flat_from_.io_bytes;
  const bool flat = !a.gpu_busy && cpu >= Duration(0) && cpu <= idle && io >= 0 && io <= kLittleIo * ranks;
  if (flat) return;
  flat_since_ = now;
  flat_from_ = a;
}

HangWatch::Learned HangWatch::learned() const {
  std::vector<Duration> all;
  for (const auto& [rank, one] : ranks_) all.insert(all.end(), one.steps.begin(), one.steps.end());
  const bool enough = std::ranges::any_of(
      ranks_, [&](const auto& r) { return r.second.steps.size() >= limits_.first_steps; });
  // Of few steps the p99 is the longest one, which one pause would make ten times too long: capped. Pauses
  // have their own rule.
  const Duration p99 = std::min(quantile(all, 0.99), kRobust * quantile(all, 0.5));
  Learned out{enough ? p99 : earlier_.p99, std::max(longest_, earlier_.longest)};
  if (out.p99 == Duration(0)) out.longest = {};  // the start of a job is no step
  return out;
}

Duration HangWatch::learned_limit() const {
  const Learned known = learned();
  if (known.p99 == Duration(0)) return {};
  return std::max({limits_.factor * known.p99, limits_.floor, 2 * known.longest});
}

HangWatch::Verdict HangWatch::judge(Mono now) const {
  Verdict v;
  v.tells_progress = !ranks_.empty();
  if (!v.tells_progress) {
    v.limit = policy_.after.value_or(limits_.quiet);
    v.stalled = now - flat_since_ >= v.limit;
    return v;
  }
  v.limit = policy_.after.value_or(learned_limit());
  if (v.limit == Duration(0)) {  // too few steps to know: by its silence, as if it told none, and as harmless
    v.stalled = now - std::max(flat_since_, last_move_) >= limits_.quiet;
    if (v.stalled) v.tells_progress = false;
    if (v.stalled) v.limit = limits_.quiet;
    return v;
  }
  const Duration silent = now - last_move_;
  if (policy_.after) {
    v.stalled = silent >= v.limit;
    return v;
  }
  const bool leaving = std::ranges::any_of(ranks_, [](const auto& r) {
    return r.second.told.total > 0 && r.second.told.step >= r.second.told.total;
  });
  const bool busy = now - last_io_ < v.limit && silent < limits_.longest_io;
  v.stalled = silent >= v.limit && !leaving && !busy;
  return v;
}

HangWatch::Rank HangWatch::take_rank(Mono now, std::int32_t rank) {
  const auto found = ranks_.find(rank);
  if (found == ranks_.end()) return {-1, now - flat_since_, {}, {}};
  One& one = found->second;
  Rank out;
  out.step = std::max<std::int64_t>(one.told.step, 0);
  out.silent = now - one.moved;
  out.step_time = quantile({one.steps.begin(), one.steps.end()}, 0.5);
  out.compute = from_seconds(one.compute_n > 0 ? one.compute_sum / one.compute_n : one.compute_last);
  one.compute_sum = 0;
  one.compute_n = 0;
  return out;
}

}  // namespace tutti::worker
