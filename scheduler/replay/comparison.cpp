#include "scheduler/replay/comparison.h"

#include <chrono>
#include <limits>
#include <locale>
#include <sstream>

#include "scheduler/replay/report.h"

namespace tutti::replay {

namespace {

// Words and numbers, one thing a line; "end" is the last, so that a cut text is seen.
constexpr std::string_view kEnd = "end";

std::istringstream reader_of(std::string_view text) {
  std::istringstream in{std::string(text)};
  in.imbue(std::locale::classic());
  return in;
}

std::ostringstream writer() {
  std::ostringstream out;
  out.imbue(std::locale::classic());
  out.precision(std::numeric_limits<double>::max_digits10);
  return out;
}

bool read_duration(std::istream& in, Duration& into) {
  Duration::rep count = 0;
  if (!(in >> count)) return false;
  into = Duration(count);
  return true;
}

bool read_policy(std::istream& in, Comparison& into) {
  std::string name;
  if (!(in >> name)) return false;
  const auto policy = planner::find_policy(name);
  if (policy) into.policies.push_back(*policy);
  return policy.has_value();
}

bool read_job(std::istream& in, Trace& into) {
  TraceJob job;
  if (!read_duration(in, job.submitted) || !(in >> job.gpus) || !read_duration(in, job.ran) ||
      !read_duration(in, job.limit) || !(in >> job.user >> job.queue))
    return false;
  into.jobs.push_back(job);
  return true;
}

}  // namespace

Compared compare(const Comparison& comparison) {
  const auto until = std::chrono::steady_clock::now() + comparison.patience;
  Compared out;
  for (const auto& policy : comparison.policies) {
    ReplayOptions options;
    options.policy = policy;
    options.nodes = comparison.nodes;
    options.node_size = comparison.node_size;
    options.give_up = [until] { return std::chrono::steady_clock::now() >= until; };
    const auto result = replay(comparison.trace, options);
    if (result.given_up) return {.results = {}, .given_up = true};
    const Report report = report_of(comparison.trace, options, result);
    out.results.push_back({.wait_mean_seconds = report.wait_seconds.mean,
                           .wait_p50_seconds = report.wait_seconds.p50,
                           .wait_p90_seconds = report.wait_seconds.p90,
                           .wait_p99_seconds = report.wait_seconds.p99,
                           .utilisation = report.utilisation,
                           .goodput = report.goodput,
                           .preemptions = report.preemptions,
                           .jobs = report.jobs,
                           .never = report.never});
  }
  return out;
}

std::string encode(const Comparison& comparison) {
  auto out = writer();
  const auto& trace = comparison.trace;
  out << "nodes " << comparison.nodes << ' ' << comparison.node_size << '\n'
      << "patience " << comparison.patience.count() << '\n'
      << "users " << trace.users << ' ' << trace.has_users << '\n';
  for (const auto& policy : comparison.policies) out << "policy " << policy.name << '\n';
  for (const auto& job : trace.jobs)
    out << "job " << job.submitted.count() << ' ' << job.gpus << ' ' << job.ran.count() << ' '
        << job.limit.count() << ' ' << job.user << ' ' << job.queue << '\n';
  out << kEnd << '\n';
  return std::move(out).str();
}

std::optional<Comparison> decode_comparison(std::string_view text) {
  auto in = reader_of(text);
  Comparison out;
  for (std::string word; in >> word;) {
    bool good = false;
    if (word == kEnd) return out;
    if (word == "nodes") good = static_cast<bool>(in >> out.nodes >> out.node_size);
    if (word == "patience") good = read_duration(in, out.patience);
    if (word == "users") good = static_cast<bool>(in >> out.trace.users >> out.trace.has_users);
    if (word == "policy") good = read_policy(in, out);
    if (word == "job") good = read_job(in, out.trace);
    if (!good) return std::nullopt;
  }
  return std::nullopt;
}

std::string encode(const Compared& compared) {
  auto out = writer();
  if (compared.given_up) out << "given_up\n";
  for (const auto& r : compared.results)
    out << "result " << r.wait_mean_seconds << ' ' << r.wait_p50_seconds << ' ' << r.wait_p90_seconds << ' '
        << r.wait_p99_seconds << ' ' << r.utilisation << ' ' << r.goodput << ' ' << r.preemptions << ' '
        << r.jobs << ' ' << r.never << '\n';
  out << kEnd << '\n';
  return std::move(out).str();
}

std::optional<Compared> decode_compared(std::string_view text) {
  auto in = reader_of(text);
  Compared out;
  for (std::string word; in >> word;) {
    if (word == kEnd) return out;
    if (word == "given_up") {
      out.given_up = true;
    } else if (word == "result") {
      PolicyResult r;
      if (!(in >> r.wait_mean_seconds >> r.wait_p50_seconds >> r.wait_p90_seconds >> r.wait_p99_seconds >>
            r.utilisation >> r.goodput >> r.preemptions >> r.jobs >> r.never))
        return std::nullopt;
      out.results.push_back(r);
    } else {
      return std::nullopt;
    }
  }
  return std::nullopt;
}

}  // namespace tutti::replay
