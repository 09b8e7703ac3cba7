// Prometheus' text format, written from values of the moment: gauges that are made up anew at each scrape, so
// that what has gone (a queue, a node class) is told no more. Names and helps are those of metric_table.h.
// Std only.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace tutti {

class MetricText {
 public:
  /// The first of a name writes its HELP and TYPE: all samples of one metric follow each other. As many label
  /// values as the table has labels.
  void add(std::string_view name, const std::vector<std::string_view>& label_values, double value);
  void add(std::string_view name, double value) { add(name, {}, value); }
  std::string take() { return std::move(text_); }

 private:
  std::string text_, last_;
};

}  // namespace tutti
