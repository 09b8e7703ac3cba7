// MemoryReader::usage and recovery_times: the same sums as db/pg/pg_usage.cpp, fact by fact.
#include <algorithm>
#include <cmath>
#include <set>
#include <tuple>

#include "db/memory/memory_reader.h"
#include "db/memory/memory_specs.h"

namespace tutti::db {
namespace {

using std::chrono::days;
using std::chrono::floor;

struct Sums {
  UsageRow row;
  std::set<JobId> jobs;
  std::vector<double> waits;
};

std::optional<double> percentile(std::vector<double> values, double share) {
  if (values.empty()) return std::nullopt;
  std::ranges::sort(values);
  const double at = share * static_cast<double>(values.size() - 1);
  const auto below = static_cast<std::size_t>(std::floor(at));
  const std::size_t above = std::min(below + 1, values.size() - 1);
  return values[below] + (values[above] - values[below]) * (at - std::floor(at));
}

UsageRow finished(Sums sums) {
  sums.row.jobs = static_cast<std::int64_t>(sums.jobs.size());
  sums.row.wait_p50 = percentile(sums.waits, 0.5);
  sums.row.wait_p90 = percentile(sums.waits, 0.9);
  return std::move(sums.row);
}

class Collector {
 public:
  explicit Collector(const UsageQuery& query) : query_(query) {}

  bool wants(const JobRow& job) const {
    const auto is = [](const std::string& wanted, const std::string& value) {
      return wanted.empty() || wanted == value;
    };
    const auto& visible = query_.visible;
    return is(query_.project, job.project) && is(query_.user, job.owner) && is(query_.queue, job.queue) &&
           (!visible || job.owner == visible->owner ||
            std::ranges::count(visible->projects, job.project.str()) > 0);
  }
  bool holds(Instant at) const { return at >= query_.since && at < query_.until; }
  /// Adds to the row of that job, cause and instant, and to the total.
  template <class Add>
  void add(const JobRow& job, Cause cause, Instant at, Add add) {
    UsageRow key;
    for (const UsageKey k : query_.by) {
      if (k == UsageKey::project) key.project = job.project;
      if (k == UsageKey::user) key.user = job.owner;
      if (k == UsageKey::queue) key.queue = job.queue;
      if (k == UsageKey::day) key.day = floor<days>(at);
      if (k == UsageKey::cause) key.cause = cause;
    }
    Sums& group = groups_[order(key)];
    if (group.jobs.empty()) group.row = key;
    for (Sums* sums : {&group, &total_}) {
      sums->jobs.insert(job.id);
      add(*sums);
    }
  }
  /// The time from … to (or still) inside the interval, in pieces of a day where days are asked for.
  template <class Add>
  void add_time(const JobRow& job, Cause cause, Instant from, std::optional<Instant> to, Add add_piece) {
    const bool by_day = std::ranges::count(query_.by, UsageKey::day) > 0;
    const Instant end = std::min(to.value_or(query_.until), query_.until);
    for (Instant at = std::max(from, query_.since); at < end;) {
      const Instant next = by_day ? std::min<Instant>(end, floor<days>(at) + days(1)) : end;
      add(job, cause, at, [&](Sums& sums) { add_piece(sums.row, next - at); });
      at = next;
    }
  }
  Usage usage() {
    Usage out;
    out.total = finished(std::move(total_));
    if (query_.by.empty()) return out;
    for (auto& [key, sums] : groups_) {
      if (out.rows.size() == kMaxUsageRows) out.cut = true;
      if (!out.cut) out.rows.push_back(finished(std::move(sums)));
    }
    return out;
  }

 private:
  using Order = std::vector<std::tuple<std::string, Instant, Cause>>;
  Order order(const UsageRow& row) const {
    Order out;
    for (const UsageKey k : query_.by)
      out.emplace_back(k == UsageKey::project ? row.project
                       : k == UsageKey::user  ? row.user
                       : k == UsageKey::queue ? row.queue
                                              : std::string(),
                       k == UsageKey::day ? row.day : Instant{},
                       k == UsageKey::cause ? row.cause : Cause::none);
    return out;
  }

  const UsageQuery& query_;
  std::map<Order, Sums> groups_;
  Sums total_;
};

}  // namespace

const std::string& MemoryReader::find_spec(JobId id) const {
  const auto changed = database_->changed_specs_.find(id);
  return changed == database_->changed_specs_.end() ? database_->specs_.at(id).spec_json : changed->second;
}

Usage MemoryReader::usage(const UsageQuery& query) {
  std::lock_guard lock(database_->mutex_);
  Collector c(query);
  for (const auto& [key, a] : database_->attempts_) {
    const JobRow* job = database_->job_row(a.job);
    if (job == nullptr || !c.wants(*job)) continue;
    const auto end = a.ended_at == Instant{} ? std::nullopt : std::optional(a.ended_at);
    const auto nodes = static_cast<int>(a.gang.size());
    c.add_time(*job, a.cause, a.placed_at, end, [&](UsageRow& r, Duration d) { r.node += d * nodes; });
    if (c.holds(a.placed_at))
      c.add(*job, a.cause, a.placed_at, [&](Sums& s) {
        ++s.row.attempts;
        if (a.number != 1) return;
        const Instant begin = begin_time_in(find_spec(a.job));
        s.waits.push_back(std::max(0.0, to_seconds(a.placed_at - std::max(job->queued_at, begin))));
      });
  }
  std::map<AttemptKey, int> gpus;
  for (const auto& [gpu, rows] : database_->allocations_)
    for (const auto& row : rows) ++gpus[{row.job, row.epoch}];
  for (const auto& [gpu, rows] : database_->allocations_)
    for (const auto& row : rows) {
      const JobRow* job = database_->job_row(row.job);
      const auto a = database_->attempts_.find({row.job, row.epoch});
      if (job == nullptr || a == database_->attempts_.end() || !c.wants(*job)) continue;
      const Cause cause = a->second.cause;
      c.add_time(*job, cause, row.from, row.until, [](UsageRow& r, Duration d) { r.gpu += d; });
      if (!row.until || a->second.lost_gpu == Duration::zero()) continue;
      const Instant lost_from = *row.until - a->second.lost_gpu / gpus.at(a->first);
      c.add_time(*job, cause, std::max(row.from, lost_from), row.until, [&](UsageRow& r, Duration d) {
        r.lost += d;
        r.lost_by[static_cast<std::size_t>(cause)] += d;
      });
    }
  for (const auto& [id, done] : database_->done_)
    if (c.wants(done.job) && c.holds(done.ended_at))
      c.add(done.job, done.job.cause, done.ended_at, [&](Sums& s) {
        if (done.job.state == JobState::succeeded) ++s.row.succeeded;
        if (done.job.state == JobState::failed) ++s.row.failed;
        if (done.job.state == JobState::cancelled) ++s.row.cancelled;
      });
  return c.usage();
}

RecoveryTimes MemoryReader::recovery_times(Instant since, Instant until, const std::vector<Cause>& causes) {
  std::lock_guard lock(database_->mutex_);
  std::array<std::vector<double>, kRecoveryStages.size()> seconds;
  const auto reached = [&](RecoveryStage stage, const AttemptRow& a, Instant at) {
    if (at != Instant{})
      seconds[static_cast<std::size_t>(stage)].push_back(std::max(0.0, to_seconds(at - a.fault_at)));
  };
  for (const auto& [key, a] : database_->attempts_) {
    if (a.result != AttemptResult::failed || a.fault_at < since || a.fault_at >= until ||
        std::ranges::count(causes, a.cause) == 0)
      continue;
    reached(RecoveryStage::decided, a, a.stopping_at);
    reached(RecoveryStage::fenced, a, a.ended_at);
    for (const auto& [other, b] : database_->attempts_) {
      if (b.job != a.job || b.number != a.number + 1) continue;
      reached(RecoveryStage::placed, a, b.placed_at);
      reached(RecoveryStage::running, a, b.running_at);
      reached(RecoveryStage::restored, a, b.restored_at);
      reached(RecoveryStage::caught_up, a, b.caught_up_at);
    }
  }
  RecoveryTimes out{};
  for (std::size_t i = 0; i < out.size(); ++i)
    out[i] = {static_cast<std::int64_t>(seconds[i].size()), percentile(seconds[i], 0.5),
              percentile(seconds[i], 0.99)};
  return out;
}

}  // namespace tutti::db
