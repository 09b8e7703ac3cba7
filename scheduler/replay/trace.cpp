#include "scheduler/replay/trace.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>
#include <numeric>
#include <optional>
#include <utility>

namespace tutti::replay {

namespace {

std::vector<std::string_view> fields_of(std::string_view line) {
  std::vector<std::string_view> out;
  for (;;) {
    const auto comma = line.find(',');
    out.push_back(line.substr(0, comma));
    if (comma == std::string_view::npos) return out;
    line.remove_prefix(comma + 1);
  }
}

std::optional<double> number(std::string_view text) {
  double value = 0;
  const auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (ec != std::errc{} || end != text.data() + text.size() || !std::isfinite(value)) return std::nullopt;
  return value;
}

class Reader {
 public:
  Reader(Trace& trace, Duration no_limit) : trace_(trace), no_limit_(no_limit) {}

  // "" = fine.
  std::string header(const std::vector<std::string_view>& names) {
    for (std::size_t i = 0; i < names.size(); ++i) columns_.emplace(names[i], i);
    for (const auto* needed : {"submit_s", "gpus", "duration_s"})
      if (!columns_.contains(needed)) return std::string("column ") + needed + " is missing";
    return "";
  }

  std::string row(const std::vector<std::string_view>& row) {
    if (row.size() < columns_.size())
      return "has " + std::to_string(row.size()) + " fields, the first line " +
             std::to_string(columns_.size());
    TraceJob job;
    const auto submitted = number(at(row, "submit_s"));
    const auto gpus = number(at(row, "gpus"));
    const auto ran = number(at(row, "duration_s"));
    if (!submitted || std::fabs(*submitted) > kFar) return "submit_s is not a number of seconds";
    if (!gpus || *gpus < 1 || *gpus > 1e6 || *gpus != std::floor(*gpus))
      return "gpus is not a whole number from 1";
    if (!ran || *ran <= 0 || *ran > kFar) return "duration_s is not a positive number";
    job.submitted = from_seconds(*submitted);
    job.gpus = static_cast<int>(*gpus);
    job.ran = from_seconds(*ran);
    job.limit = no_limit_;
    if (const auto text = at(row, "limit_s"); !text.empty()) {
      const auto limit = number(text);
      if (!limit || *limit <= 0 || *limit > kFar) return "limit_s is not a positive number";
      job.limit = from_seconds(*limit);
    }
    job.limit = std::max(job.limit, job.ran);  // nobody is known to have been cut off
    job.queue = named(queues_, at(row, "queue"));
    const auto user = at(row, "user");
    trace_.has_users |= !user.empty();
    job.user = named(users_, user.empty() ? at(row, "queue") : user);
    trace_.users = users_.size();
    trace_.jobs.push_back(job);
    return "";
  }

 private:
  static constexpr double kFar = 1e10;  // seconds

  std::string_view at(const std::vector<std::string_view>& row, const char* column) const {
    const auto found = columns_.find(column);
    return found == columns_.end() ? std::string_view() : row[found->second];
  }
  static int named(std::map<std::string, int, std::less<>>& names, std::string_view name) {
    const auto found = names.find(name);
    if (found != names.end()) return found->second;
    return names.emplace(std::string(name), static_cast<int>(names.size())).first->second;
  }

  Trace& trace_;
  Duration no_limit_;
  std::map<std::string, std::size_t, std::less<>> columns_;
  std::map<std::string, int, std::less<>> users_, queues_;
};

}  // namespace

Trace parse_trace(std::string_view csv, Duration no_limit) {
  Trace trace;
  Reader reader(trace, no_limit);
  bool header = true;
  for (std::size_t line = 1; !csv.empty(); ++line) {
    const auto end = csv.find('\n');
    auto text = csv.substr(0, end);
    csv.remove_prefix(end == std::string_view::npos ? csv.size() : end + 1);
    if (text.ends_with('\r')) text.remove_suffix(1);
    if (text.empty()) continue;
    std::string trouble = header ? reader.header(fields_of(text)) : reader.row(fields_of(text));
    if (!trouble.empty()) trace.problems.push_back({line, std::move(trouble)});
    if (header && !trace.problems.empty()) return trace;
    header = false;
  }
  std::vector<std::size_t> order(trace.jobs.size());
  std::iota(order.begin(), order.end(), 0U);
  std::ranges::sort(order, {}, [&](std::size_t i) { return std::pair(trace.jobs[i].submitted, i); });
  std::vector<TraceJob> sorted;
  sorted.reserve(order.size());
  for (const std::size_t i : order) sorted.push_back(trace.jobs[i]);
  trace.jobs = std::move(sorted);
  return trace;
}

Faults parse_faults(std::string_view csv) {
  Faults out;
  bool header = true;
  for (std::size_t line = 1; !csv.empty(); ++line) {
    const auto end = csv.find('\n');
    auto text = csv.substr(0, end);
    csv.remove_prefix(end == std::string_view::npos ? csv.size() : end + 1);
    if (text.ends_with('\r')) text.remove_suffix(1);
    if (text.empty() || std::exchange(header, false)) continue;
    const auto fields = fields_of(text);
    const auto value = [&](std::size_t i) { return i < fields.size() ? number(fields[i]) : std::nullopt; };
    const auto node = value(0), at = value(1), down = value(2);
    if (!node || *node < 0 || *node > 1e6 || *node != std::floor(*node))
      out.problems.push_back({line, "node is not a whole number from 0"});
    else if (!at || *at < 0 || *at > 1e10)
      out.problems.push_back({line, "fail_s is not a number of seconds"});
    else if (!down || *down < 0 || *down > 1e10)
      out.problems.push_back({line, "down_s is not a number of seconds"});
    else
      out.faults.push_back({static_cast<int>(*node), from_seconds(*at), from_seconds(*down)});
  }
  std::ranges::sort(out.faults, {}, [](const NodeFault& f) { return std::pair(f.at, f.node); });
  return out;
}

Trace cut(const Trace& trace, Duration from, Duration to) {
  Trace out = trace;
  std::erase_if(out.jobs, [&](const TraceJob& j) { return j.submitted < from || j.submitted >= to; });
  for (auto& job : out.jobs) job.submitted -= from;
  return out;
}

double offered_load(const Trace& trace, int gpus) {
  if (trace.jobs.empty()) return 0;
  double work = 0;
  for (const auto& job : trace.jobs) work += to_seconds(job.ran) * job.gpus;
  const double span = to_seconds(trace.jobs.back().submitted - trace.jobs.front().submitted);
  return span <= 0 ? 0 : work / (span * gpus);
}

Trace with_load(const Trace& trace, double load, int gpus) {
  Trace out = trace;
  const double factor = offered_load(trace, gpus) / load;
  for (auto& job : out.jobs) job.submitted = from_seconds(to_seconds(job.submitted) * factor);
  return out;
}

}  // namespace tutti::replay
