#include "scheduler/model/metric_text.h"

#include <array>
#include <charconv>
#include <cmath>

#include "scheduler/model/assert.h"
#include "scheduler/model/metric_table.h"

namespace tutti {
namespace {

void escape(std::string& out, std::string_view value) {
  for (const char c : value) {
    if (c == '\\' || c == '"') out += '\\';
    if (c == '\n')
      out += "\\n";
    else
      out += c;
  }
}

void add_number(std::string& out, double value) {
  if (std::isnan(value)) {
    out += "NaN";
  } else if (std::isinf(value)) {
    out += value > 0 ? "+Inf" : "-Inf";
  } else {
    std::array<char, 32> text{};
    out.append(text.data(), std::to_chars(text.data(), text.data() + text.size(), value).ptr);
  }
}

}  // namespace

void MetricText::add(std::string_view name, const std::vector<std::string_view>& values, double value) {
  const MetricDesc& desc = metric(name);
  TUTTI_ASSERT(values.size() == desc.labels.size(), "a metric has other labels than its row in the table");
  if (last_ != name) {
    last_ = name;
    text_ += "# HELP " + desc.name + " " + desc.help + "\n# TYPE " + desc.name + " ";
    text_ += tutti::name(desc.type);
    text_ += '\n';
  }
  text_ += desc.name;
  for (std::size_t i = 0; i < values.size(); ++i) {
    text_ += (i == 0 ? "{" : ",") + desc.labels[i] + "=\"";
    escape(text_, values[i]);
    text_ += i + 1 == values.size() ? "\"}" : "\"";
  }
  text_ += ' ';
  add_number(text_, value);
  text_ += '\n';
}

}  // namespace tutti
