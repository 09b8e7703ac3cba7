#include "scheduler/planner/run_history.h"

#include <algorithm>
#include <limits>
#include <numeric>

namespace tutti::planner {

namespace {
constexpr std::size_t kKept = 300;       // durations of a group
constexpr std::size_t kNewest = 30;      // of them that a mean is made of
constexpr std::size_t kEnough = 3;       // samples for a mean
constexpr std::size_t kEnoughLeft = 20;  // samples for an index
constexpr double kShortest = 60;         // seconds that are expected of what nothing is known of

double newest_mean(const std::vector<double>& ring, std::size_t next) {
  const std::size_t n = std::min(ring.size(), kNewest);
  double sum = 0;
  for (std::size_t i = 0; i < n; ++i) sum += ring[(next + ring.size() - 1 - i) % ring.size()];
  return sum / static_cast<double>(n);
}

void put(std::vector<double>& ring, std::size_t& next, double value) {
  if (ring.size() < kKept) return ring.push_back(value);
  ring[next] = value;
  next = (next + 1) % kKept;
}

}  // namespace

std::vector<RunHistory::Key> RunHistory::keys_of(const JobClass& job) {
  return {{0, job.user, 0, job.gpus},
          {1, job.user, 0, 0},
          {2, 0, job.queue, job.gpus},
          {3, 0, 0, job.gpus},
          {4, 0, 0, 0}};
}

void RunHistory::on_ended(const JobClass& job, Duration ran, Duration limit) {
  const double seconds = std::max(1.0, to_seconds(ran));
  const bool limited = limit > Duration::zero() && limit != Duration::max();
  const double share = limited ? std::min(1.0, seconds / to_seconds(limit)) : -1;  // not known
  for (const Key& key : keys_of(job)) {
    Group& group = groups_[key];
    put(group.seconds, group.next_second, seconds);
    if (share >= 0) put(group.shares, group.next_share, share);
  }
}

std::optional<Duration> RunHistory::mean(const JobClass& job, Duration limit) const {
  for (const Key& key : keys_of(job)) {
    const auto found = groups_.find(key);
    if (found == groups_.end() || found->second.seconds.size() < kEnough) continue;
    return std::min(limit, from_seconds(newest_mean(found->second.seconds, found->second.next_second)));
  }
  return std::nullopt;
}

double RunHistory::share_of_limit(const JobClass& job) const {
  for (const Key& key : {Key{1, job.user, 0, 0}, Key{4, 0, 0, 0}}) {
    const auto found = groups_.find(key);
    if (found == groups_.end() || found->second.shares.size() < kEnough) continue;
    return newest_mean(found->second.shares, found->second.next_share);
  }
  return 1;
}

// What was left to run, of those of its like that ran longer than `ran` and not beyond `most`, in the
// narrowest group that knows of `enough` such; else in the widest.
std::vector<double> RunHistory::left_after(const JobClass& job, double ran, double most,
                                           std::size_t enough) const {
  std::vector<double> left;
  for (const Key& key : keys_of(job)) {
    const auto found = groups_.find(key);
    if (found == groups_.end()) continue;
    left.clear();
    for (const double s : found->second.seconds)
      if (s > ran && s <= most) left.push_back(s - ran);
    if (left.size() >= enough) break;
  }
  return left;
}

Duration RunHistory::median_left(const JobClass& job, Duration attained, Duration limit) const {
  const bool open = limit == Duration::max();
  auto left = left_after(job, to_seconds(attained),
                         open ? std::numeric_limits<double>::infinity() : to_seconds(limit), kEnough);
  if (left.size() >= kEnough) {
    const auto middle = left.begin() + static_cast<std::ptrdiff_t>(left.size() / 2);
    std::ranges::nth_element(left, middle);
    return from_seconds(*middle);
  }
  if (open) return std::max(attained, Duration(std::chrono::hours(1)));
  return std::max((limit - attained) / 2, Duration(std::chrono::seconds(1)));
}

double RunHistory::gittins_index(const JobClass& job, Duration attained, Duration limit) const {
  const double ran = to_seconds(attained), most = to_seconds(limit);
  auto left = left_after(job, ran, most, kEnoughLeft);
  if (left.size() < kEnoughLeft) {
    const double expected = std::max(1.0, std::min(std::max(ran, kShortest), most - ran));
    return 1 / expected;
  }
  std::ranges::sort(left);
  double best = 0, sum = 0;
  const auto n = static_cast<double>(left.size());
  for (std::size_t k = 0; k < left.size(); ++k) {  // horizon: until left[k] more have been served
    sum += left[k];
    const double served = sum + left[k] * (n - static_cast<double>(k + 1));
    best = std::max(best, static_cast<double>(k + 1) / served);
  }
  return best;
}

}  // namespace tutti::planner
