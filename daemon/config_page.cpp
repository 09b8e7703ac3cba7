// The commented file that --print-config writes.
#include <algorithm>
#include <sstream>

#include "daemon/config.h"

namespace tutti::daemon {
namespace {

constexpr std::size_t kWidth = 100;

std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    out += c;
  }
  return out + "\"";
}

void comment(std::ostream& out, const std::string& text) {
  std::istringstream words(text);
  std::string line = "#";
  for (std::string word; words >> word;) {
    if (line.size() + 1 + word.size() > kWidth) {
      out << line << "\n";
      line = "#";
    }
    line += " " + word;
  }
  out << line << "\n";
}

// "FLOAT:FLOAT in [1 - 60]" → "1 to 60"; "TEXT:{a,b}" → "one of a, b".
std::string range_of(const std::string& type) {
  if (const auto in = type.find(" in ["); in != std::string::npos) {
    std::string range = type.substr(in + 5, type.find(']', in) - in - 5);
    if (const auto dash = range.find(" - "); dash != std::string::npos) range.replace(dash, 3, " to ");
    return range;
  }
  const auto open = type.find('{');
  const auto close = type.rfind('}');
  if (open == std::string::npos || close == std::string::npos || close < open) return {};
  std::string names;
  for (const char c : type.substr(open + 1, close - open - 1))
    names += c == ',' ? std::string(", ") : std::string(1, c);
  return "one of " + names;
}

bool bare(const CLI::Option& option) {
  const std::string type = option.get_type_name();
  return option.get_expected_min() == 0 || type.starts_with("FLOAT") || type.starts_with("INT") ||
         type.starts_with("UINT") || type.starts_with("BOOLEAN");
}

std::string value_of(const CLI::Option& option, const std::string& text) {
  return bare(option) ? text : quoted(text);
}

std::string set_value(const CLI::Option& option) {
  if (option.get_items_expected_max() <= 1) return value_of(option, option.results().back());
  std::string list;
  for (const auto& text : option.results()) list += (list.empty() ? "" : ", ") + value_of(option, text);
  return "[" + list + "]";
}

std::string default_value(const CLI::Option& option) {
  const std::string text = option.get_default_str();
  if (option.get_items_expected_max() > 1) return "[]";
  if (option.get_expected_min() == 0) return text.empty() ? "false" : text;
  if (text.empty() && bare(option)) return {};
  return value_of(option, text);
}

}  // namespace

std::string config_page(const CLI::App& app, const std::string& program) {
  std::ostringstream out;
  comment(out, "Configuration of " + program +
                   ". Each key is the flag of that name; a flag wins over the "
                   "environment (" +
                   variable_of(program, "log-level") +
                   " for log-level), that over this file. "
                   "A key behind \"#\" shows its default.");
  comment(out, program + " --config FILE --check-config says what is wrong with it.");
  for (const auto* option : configurable(app)) {
    const std::string& key = option->get_lnames().front();
    out << "\n";
    const std::string range = range_of(option->get_type_name());
    std::string help = option->get_description();
    if (!range.empty()) help += (help.empty() ? "" : " (") + range + (help.empty() ? "" : ")");
    if (option->get_required()) help += "; must be set";
    if (!help.empty()) comment(out, help);
    if (option->count() > 0)
      out << key << " = " << set_value(*option) << "\n";
    else if (const std::string value = default_value(*option); !value.empty())
      out << "# " << key << " = " << value << "\n";
    else
      out << "# " << key << " =\n";
  }
  return out.str();
}

}  // namespace tutti::daemon
