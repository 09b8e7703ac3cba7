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

void rate_estimates(const std::vector<EtaOutcome>& etas, Report& out) {
  std::vector<double> widths, by_limits;
  std::size_t hits = 0;
  for (const auto& e : etas) {
    hits += e.real >= e.low && e.real <= e.high ? 1 : 0;
    widths.push_back(to_seconds(e.high - e.low));
    by_limits.push_back(to_seconds(e.by_limits));
  }
  out.etas = etas.size();
  if (etas.empty()) return;
  out.eta_coverage = static_cast<double>(hits) / static_cast<double>(etas.size());
  out.eta_range_seconds = spread_of(std::move(widths)).p50;
  out.eta_limits_range_seconds = spread_of(std::move(by_limits)).p50;
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
    out.interruptions += static_cast<std::uint64_t>(job.interruptions);
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
  out.fragmented = result.fragmented;
  if (result.held_gpu_seconds > 0) out.goodput = result.useful_gpu_seconds / result.held_gpu_seconds;
  out.restart_wait_seconds = spread_of(result.restart_waits);
  rate_estimates(result.etas, out);
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
    out.interruptions += r.interruptions;
    out.fragmented += r.fragmented / n;
    out.goodput += r.goodput / n;
    add(out.restart_wait_seconds, r.restart_wait_seconds);
    out.eta_coverage += r.eta_coverage / n;
    out.eta_range_seconds += r.eta_range_seconds / n;
    out.eta_limits_range_seconds += r.eta_limits_range_seconds / n;
    out.etas += r.etas;
  }
  out.jobs = runs.front().jobs, out.never = runs.front().never;
  out.preemptions /= runs.size();
  out.interruptions /= runs.size();
  out.etas /= runs.size();
  return out;
}

}  // namespace tutti::replay
