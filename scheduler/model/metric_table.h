// What a scheduler and a worker show at /metrics: one row per metric, from metric_table.csv. The HELP and
// TYPE lines come from here, docs/reference/metrics.md from the same file; dashboards, rules and alerts may
// name nothing else (tests/docs). Std only; any thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace tutti {

enum class MetricType : std::uint8_t {
  counter,
  gauge,
  histogram
};
std::string_view name(MetricType type);

struct MetricDesc {
  std::string name;
  bool of_scheduler = false, of_worker = false;
  MetricType type = MetricType::gauge;
  std::string unit;                 // seconds, bytes, …; "" = a number of things
  std::vector<std::string> labels;  // their names
  std::string help;
};

/// In the order of the file.
const std::vector<MetricDesc>& metric_table();
/// The row of that metric; one that has none is a bug.
const MetricDesc& metric(std::string_view name);

/// What is wrong with a table by the rules for names, one line each: prefix tutti_, _total for counters and
/// for nothing else, the unit in the name, a help.
std::vector<std::string> problems_of(const std::vector<MetricDesc>& table);

/// Lines of the form of metric_table.csv. Throws std::runtime_error.
std::vector<MetricDesc> parse_metric_table(std::string_view text);

}  // namespace tutti
