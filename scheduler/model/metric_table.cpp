#include "scheduler/model/metric_table.h"

#include <algorithm>
#include <array>
#include <set>
#include <stdexcept>

#include "scheduler/model/assert.h"
#include "scheduler/model/metric_table_text.h"

namespace tutti {
namespace {

constexpr std::size_t kColumns = 6;

std::vector<std::string> words_of(std::string_view text) {
  std::vector<std::string> words;
  while (!text.empty()) {
    const auto word = text.substr(0, text.find(' '));
    if (!word.empty()) words.emplace_back(word);
    text.remove_prefix(std::min(text.size(), word.size() + 1));
  }
  return words;
}

MetricDesc parse_line(std::string_view line) {
  std::array<std::string_view, kColumns> column;
  std::string_view left = line;
  for (std::size_t i = 0; i + 1 < kColumns; ++i) {
    const auto comma = left.find(',');
    if (comma == left.npos)
      throw std::runtime_error("a metric needs name,program,type,unit,labels,help: " + std::string(line));
    column[i] = left.substr(0, comma);
    left.remove_prefix(comma + 1);
  }
  column[kColumns - 1] = left;
  MetricDesc out;
  out.name = column[0];
  out.of_scheduler = column[1] == "scheduler" || column[1] == "both";
  out.of_worker = column[1] == "worker" || column[1] == "both";
  if (column[2] == "counter")
    out.type = MetricType::counter;
  else if (column[2] == "histogram")
    out.type = MetricType::histogram;
  else if (column[2] != "gauge")
    throw std::runtime_error("metric " + out.name + ": no type '" + std::string(column[2]) + "'");
  out.unit = column[3];
  out.labels = words_of(column[4]);
  out.help = column[5];
  return out;
}

bool is_name(std::string_view text) {
  return !text.empty() && std::ranges::all_of(text, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_';
  });
}

}  // namespace

std::string_view name(MetricType type) {
  switch (type) {
    case MetricType::counter: return "counter";
    case MetricType::gauge: return "gauge";
    case MetricType::histogram: return "histogram";
  }
  return "?";
}

std::vector<MetricDesc> parse_metric_table(std::string_view text) {
  std::vector<MetricDesc> out;
  while (!text.empty()) {
    const auto line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(text.size(), line.size() + 1));
    if (line.empty() || line.front() == '#') continue;
    out.push_back(parse_line(line));
  }
  return out;
}

std::vector<std::string> problems_of(const std::vector<MetricDesc>& table) {
  std::vector<std::string> out;
  std::set<std::string> seen;
  for (const auto& m : table) {
    const auto wrong = [&](const char* what) { out.push_back(m.name + ": " + what); };
    const bool counter = m.type == MetricType::counter;
    std::string_view stem = m.name;
    if (stem.ends_with("_total")) stem.remove_suffix(6);
    if (!m.name.starts_with("tutti_") || !is_name(m.name)) wrong("must be tutti_, then small letters");
    if (counter != m.name.ends_with("_total")) wrong("counters, and they alone, end in _total");
    if (!m.unit.empty() && !stem.ends_with("_" + m.unit)) wrong("must end with its unit");
    if (m.unit.empty() && (stem.ends_with("_seconds") || stem.ends_with("_bytes"))) wrong("has a unit");
    if (stem.ends_with("_ms") || stem.ends_with("_mb") || stem.ends_with("_percent"))
      wrong("not a base unit");
    if (m.help.empty()) wrong("needs a help");
    if (!m.of_scheduler && !m.of_worker) wrong("belongs to no program");
    if (!seen.insert(m.name).second) wrong("stands twice");
    for (const auto& label : m.labels)
      if (!is_name(label) || label == "le" || label == "job" || label == "instance")
        wrong("a label that Prometheus sets itself, or no name");
  }
  return out;
}

const std::vector<MetricDesc>& metric_table() {
  static const auto table = parse_metric_table(metric_table_text());
  return table;
}

const MetricDesc& metric(std::string_view name) {
  const auto& table = metric_table();
  const auto found = std::ranges::find(table, name, &MetricDesc::name);
  TUTTI_ASSERT(found != table.end(), "a metric has no row in metric_table.csv");
  return *found;
}

}  // namespace tutti
