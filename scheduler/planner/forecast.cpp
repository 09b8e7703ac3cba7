#include "scheduler/planner/forecast.h"

#include <algorithm>
#include <cmath>
#include <queue>
#include <set>

namespace tutti::planner {

namespace {

constexpr Duration kHorizon = std::chrono::hours(24 * 60);
constexpr int kRounds = 64;
constexpr std::size_t kOpen = 20'000;     // estimates whose jobs have not started yet
constexpr std::size_t kRemembered = 400;  // outcomes of a level
constexpr std::size_t kEnough = 20;       // before a level speaks for itself
constexpr double kGrace = 60;             // seconds that are added to waits before ratios are taken
constexpr double kUnknownLow = 0.25, kUnknownHigh = 4;

}  // namespace

Instant expected_end(const Planner& planner, const Running& job, Instant now) {
  const Duration attained = job.attained + (now - job.since);
  const Duration left = planner.history().median_left(job.what.kind, attained, job.what.limit);
  return std::max(now + left, now + Duration(1));
}

Forecast forecast(const Planner& planner, const std::string& queue_of_nodes, Instant now, std::size_t most,
                  JobId also, bool to_the_limit) {
  Forecast out{.at = now, .starts = {}, .runs = {}};
  auto waiting = planner.first(queue_of_nodes, most);
  if (also && std::ranges::find(waiting, also) == waiting.end()) waiting.push_back(also);
  const std::set<JobId> asked(waiting.begin(), waiting.end());  // victims that start again are not
  const auto copy = planner.sketch(waiting);
  using End = std::pair<Instant, JobId>;
  std::priority_queue<End, std::vector<End>, std::greater<>> ends;  // some are of jobs that gave way
  std::map<JobId, Instant> end_of;
  std::set<Instant> turns;  // reservations begin and end
  for (const Window& w : planner.windows()) turns.insert({w.from, w.until});
  const auto push = [&](const Running& job, Instant at) {
    const bool known = to_the_limit && job.what.limit != kNoLimit;
    const Instant end =
        known ? std::max(at + left_of(job.what, job.attained + (at - job.since)), at + Duration(1))
              : expected_end(planner, job, at);
    ends.push({end, job.what.id});
    end_of[job.what.id] = end;
    return end;
  };
  for (const auto& [id, job] : copy->running()) push(job, now);
  Instant at = now;
  int rounds = 0;  // of preemption, at one time
  for (;;) {
    const Decisions d = copy->plan(at);
    for (const auto& s : d.started) {
      const Instant end = push(copy->running().at(s.job), at);
      if (asked.contains(s.job) && out.starts.emplace(s.job, at).second)
        out.runs.emplace(s.job, Forecast::Run{.end = end, .parts = s.parts});
    }
    for (const auto& p : d.preempted) {
      if (auto victim = copy->stopped(p.victim, at)) copy->enqueue(*std::move(victim), at);
      end_of.erase(p.victim);
    }
    if (!d.preempted.empty() && ++rounds < kRounds) continue;  // who made them leave starts
    rounds = 0;
    const auto turn = turns.upper_bound(at);
    if (out.starts.size() == asked.size() || (ends.empty() && turn == turns.end())) return out;
    if (turn != turns.end() && (ends.empty() || *turn <= ends.top().first)) {
      at = *turn;
      if (at - now > kHorizon) return out;
      continue;
    }
    at = ends.top().first;
    if (at - now > kHorizon) return out;
    // Ends within the same minute are one event: the estimate is not that sharp.
    const Instant until = at + std::chrono::minutes(1);
    for (; !ends.empty() && ends.top().first <= until; ends.pop()) {
      const auto [end, job] = ends.top();
      const auto known = end_of.find(job);
      if (known == end_of.end() || known->second != end) continue;
      at = std::max(at, end);
      end_of.erase(known);
      copy->ended(job, at);
    }
  }
}

// ---------------------------------------------------------------- ranges

std::size_t Calibration::level_of(Duration wait) {
  const double minutes = to_seconds(wait) / 60;
  std::size_t level = 0;
  for (double bound = 1; level < 5 && minutes > bound; bound *= 6) ++level;
  return level;
}

void Calibration::estimated(JobId job, Instant now, Instant start) {
  if (open_.size() >= kOpen || open_.contains(job)) return;
  open_.emplace(job, Open{now, start, range(now, start)});
}

void Calibration::started(JobId job, Instant now) {
  const auto found = open_.find(job);
  if (found == open_.end()) return;
  const Open& e = found->second;
  const double real = to_seconds(now - e.at) + kGrace, said = to_seconds(e.start - e.at) + kGrace;
  auto& level = levels_[level_of(e.start - e.at)].log_ratios;
  level.push_back(std::log(real / said));
  if (level.size() > kRemembered) level.pop_front();
  hits_.push_back(now >= e.range.from && now <= e.range.to);
  if (hits_.size() > kRemembered) hits_.pop_front();
  ++outcomes_;
  open_.erase(found);
}

Range Calibration::range(Instant now, Instant start) const {
  const double said = to_seconds(start - now) + kGrace;
  double low = kUnknownLow, high = kUnknownHigh;
  const auto& known = levels_[level_of(start - now)].log_ratios;
  if (known.size() >= kEnough) {
    std::vector<double> sorted(known.begin(), known.end());
    std::ranges::sort(sorted);
    const auto at = [&](double q) {
      const double i = q * static_cast<double>(sorted.size() + 1) - 1;
      return sorted[static_cast<std::size_t>(std::clamp(i, 0.0, static_cast<double>(sorted.size() - 1)))];
    };
    low = std::exp(at(0.1));
    high = std::exp(at(0.9));
  }
  const auto after = [&](double seconds) { return now + from_seconds(std::max(0.0, seconds - kGrace)); };
  return {after(said * low), after(said * high)};
}

std::optional<double> Calibration::coverage() const {
  if (hits_.size() < kEnough) return std::nullopt;
  return static_cast<double>(std::ranges::count(hits_, true)) / static_cast<double>(hits_.size());
}

}  // namespace tutti::planner
