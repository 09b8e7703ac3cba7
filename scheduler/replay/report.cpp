#include "scheduler/replay/report.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

namespace tutti::replay {

namespace {

Spread spread_of(std::vector<double> values) {
  Spread out;
  if (values.empty()) return out;
  std::ranges::sort(values);
  const auto at = [&](double q) {
    return values[static_cast<std::size_t>(q * static_cast<double>(values.size() - 1) + 0.5)];
  };
  out.mean = std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
  out.p50 = at(0.5), out.p90 = at(0.9), out.p99 = at(0.99), out.max = values.back();
  return out;
}

}  // namespace

Report report_of(const Trace& trace, const ReplayOptions& options, const ReplayResult& result) {
  Report out;
  std::vector<double> waits, completions;
  std::map<int, std::pair<double, double>> by_user;  // run, completion
  Instant first = Instant::max(), last = Instant::min();
  double slowdown = 0;
  for (std::size_t i = 0; i < result.jobs.size(); ++i) {
    const JobOutcome& job = result.jobs[i];
    if (job.never) {
      ++out.never;
      continue;
    }
    const double ran = to_seconds(trace.jobs[i].ran), completion = to_seconds(job.ended - job.submitted);
    waits.push_back(completion - ran);
    completions.push_back(completion);
    slowdown += std::max(1.0, completion / std::max(ran, 10.0));
    auto& [run_sum, completion_sum] = by_user[trace.jobs[i].user];
    run_sum += ran;
    completion_sum += completion;
    out.preemptions += static_cast<std::uint64_t>(job.preemptions);
    first = std::min(first, job.submitted);
    last = std::max(last, job.ended);
  }
  out.jobs = waits.size();
  if (out.jobs == 0) return out;
  out.wait_seconds = spread_of(std::move(waits));
  out.completion_seconds = spread_of(std::move(completions));
  out.bounded_slowdown = slowdown / static_cast<double>(out.jobs);
  out.makespan_seconds = to_seconds(last - first);
  const double total = static_cast<double>(options.nodes) * options.node_size * result.arrival_seconds;
  if (total > 0) out.utilisation = result.busy_gpu_seconds / total;
  out.idle_while_waiting = result.idle_while_waiting;
  double sum = 0, squares = 0;
  for (const auto& [user, sums] : by_user) {
    const double served = sums.first / std::max(sums.second, 1e-9);
    sum += served;
    squares += served * served;
  }
  out.fairness = sum * sum / (static_cast<double>(by_user.size()) * squares);
  return out;
}

Report mean_of(const std::vector<Report>& runs) {
  Report out;
  if (runs.empty()) return out;
  const auto n = static_cast<double>(runs.size());
  const auto add = [n](Spread& to, const Spread& from) {
    to.mean += from.mean / n, to.p50 += from.p50 / n, to.p90 += from.p90 / n, to.p99 += from.p99 / n;
    to.max += from.max / n;
  };
  for (const Report& r : runs) {
    add(out.wait_seconds, r.wait_seconds);
    add(out.completion_seconds, r.completion_seconds);
    out.bounded_slowdown += r.bounded_slowdown / n;
    out.utilisation += r.utilisation / n;
    out.idle_while_waiting += r.idle_while_waiting / n;
    out.fairness += r.fairness / n;
    out.makespan_seconds += r.makespan_seconds / n;
    out.preemptions += r.preemptions;
  }
  out.jobs = runs.front().jobs, out.never = runs.front().never;
  out.preemptions /= runs.size();
  return out;
}

}  // namespace tutti::replay
