#include "tests/chaos/figures.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <numeric>

namespace tutti::chaos {
namespace {

namespace json = boost::json;

std::string seconds(double s) {
  char text[32];
  std::snprintf(text, sizeof text, s < 1 ? "%.3f" : s < 10 ? "%.2f" : "%.1f", s);
  return text;
}
std::string pair(double p50, double p99) { return seconds(p50) + "/" + seconds(p99); }

std::string padded(std::string text, std::size_t width) {
  if (text.size() < width) text.resize(width, ' ');
  return text + " ";
}

int count(const RowFigures& row, Rule rule) {
  const auto it = row.violations.find(rule);
  return it == row.violations.end() ? 0 : it->second;
}

const Target* target_of(const RowFigures& row, Stage stage) {
  const auto it = std::ranges::find(row.targets, stage, &Target::stage);
  return it == row.targets.end() ? nullptr : &*it;
}

std::string line_of(const RowFigures& row) {
  std::string line = padded(row.row, 4) + padded(row.title, 44) + padded(std::to_string(row.injections), 5);
  for (int i = 0; i < kStages; ++i) {
    const auto it = row.seconds.find(static_cast<Stage>(i));
    std::string cell = "-";
    if (it != row.seconds.end()) {
      const double p50 = quantile(it->second, 0.5), p99 = quantile(it->second, 0.99);
      cell = pair(p50, p99);
      if (const Target* t = target_of(row, it->first))
        cell += (p50 <= t->p50 && p99 <= t->p99 ? " (" : " !(") + pair(t->p50, t->p99) + ")";
    }
    line += padded(cell, 24);
  }
  for (const auto rule : {Rule::double_run, Rule::lost_job, Rule::healthy_killed})
    line += padded(std::to_string(count(row, rule)), 6);
  return line + (row.failed() ? "FAILED" : "ok");
}

}  // namespace

std::string name(Stage stage) {
  switch (stage) {
    case Stage::detected: return "detected";
    case Stage::fenced: return "fenced";
    case Stage::requeued: return "requeued";
    case Stage::running: return "running";
    case Stage::back: return "back";
  }
  return "?";
}

std::string name(Rule rule) {
  switch (rule) {
    case Rule::double_run: return "double_runs";
    case Rule::lost_job: return "lost_jobs";
    case Rule::healthy_killed: return "healthy_gangs_killed";
    case Rule::partial_gang: return "partial_gangs";
    case Rule::ledger: return "ledger_errors";
  }
  return "?";
}

void RowFigures::add(const RowFigures& more) {
  injections += more.injections;
  for (const auto& [stage, values] : more.seconds)
    seconds[stage].insert(seconds[stage].end(), values.begin(), values.end());
  for (const auto& [rule, n] : more.violations) violations[rule] += n;
  failures.insert(failures.end(), more.failures.begin(), more.failures.end());
  if (note.empty()) note = more.note;
  skipped = skipped && more.skipped;
}

double quantile(std::vector<double> values, double q) {
  if (values.empty()) return 0;
  std::ranges::sort(values);
  const auto rank = static_cast<std::size_t>(std::ceil(q * static_cast<double>(values.size())));
  return values[std::clamp<std::size_t>(rank, 1, values.size()) - 1];
}

std::string table(const std::vector<RowFigures>& rows) {
  std::string out = "p50/p99 in seconds from the injection on, (target); ! = a target is missed\n" +
                    padded("row", 4) + padded("fault", 44) + padded("n", 5);
  for (int i = 0; i < kStages; ++i) out += padded(name(static_cast<Stage>(i)), 24);
  out += padded("double", 6) + padded("lost", 6) + padded("killed", 6) + "\n";
  RowFigures all;
  for (const auto& row : rows) {
    if (row.skipped) {
      out += padded(row.row, 4) + padded(row.title, 44) + "skipped: " + row.note + "\n";
      continue;
    }
    out += line_of(row) + "\n";
    all.add(row);
  }
  for (const auto& row : rows) {
    if (!row.note.empty() && !row.skipped) out += row.row + ": " + row.note + "\n";
    for (const auto& failure : row.failures) out += row.row + " FAILED: " + failure + "\n";
  }
  out += std::to_string(all.injections) +
         " injections into real processes: " + std::to_string(count(all, Rule::double_run)) +
         " double runs, " + std::to_string(count(all, Rule::lost_job)) + " lost jobs, " +
         std::to_string(count(all, Rule::healthy_killed)) + " healthy gangs killed, " +
         std::to_string(count(all, Rule::partial_gang)) + " gangs alive in part, " +
         std::to_string(count(all, Rule::ledger)) + " ledger errors\n";
  return out;
}

json::object to_json(const std::vector<RowFigures>& rows) {
  json::array out;
  RowFigures all;
  for (const auto& row : rows) {
    if (!row.skipped) all.add(row);
    json::object stages, violations;
    for (const auto& [stage, values] : row.seconds) {
      json::object s{{"n", values.size()},
                     {"p50", quantile(values, 0.5)},
                     {"p99", quantile(values, 0.99)},
                     {"max", quantile(values, 1)}};
      if (const Target* t = target_of(row, stage)) {
        s["target_p50"] = t->p50;
        s["target_p99"] = t->p99;
      }
      stages[name(stage)] = s;
    }
    for (int i = 0; i < kRules; ++i)
      violations[name(static_cast<Rule>(i))] = count(row, static_cast<Rule>(i));
    out.push_back(json::object{{"row", row.row},
                               {"fault", row.title},
                               {"control_fault", row.control_fault},
                               {"skipped", row.skipped},
                               {"injections", row.injections},
                               {"stages_seconds", stages},
                               {"violations", violations},
                               {"note", row.note},
                               {"failures", json::value_from(row.failures)}});
  }
  json::object totals{{"injections", all.injections}};
  for (int i = 0; i < kRules; ++i) totals[name(static_cast<Rule>(i))] = count(all, static_cast<Rule>(i));
  return {{"rows", out}, {"totals", totals}};
}

}  // namespace tutti::chaos
