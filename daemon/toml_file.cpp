#include "daemon/toml_file.h"

#define TOML_HEADER_ONLY 1
#include <toml++/toml.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <stdexcept>

namespace tutti::daemon {
namespace {

int line_of(const toml::node& node) { return static_cast<int>(node.source().begin.line); }

std::string shortest(double value) {
  std::array<char, 32> text{};
  const auto end = std::to_chars(text.data(), text.data() + text.size(), value).ptr;
  return {text.data(), end};
}

std::string text_of(const toml::node& node) {
  if (const auto* text = node.as_string()) return text->get();
  if (const auto* flag = node.as_boolean()) return flag->get() ? "true" : "false";
  if (const auto* whole = node.as_integer()) return std::to_string(whole->get());
  return shortest(node.as_floating_point()->get());
}

bool is_plain(const toml::node& node) { return node.is_string() || node.is_boolean() || node.is_number(); }

TomlKind kind_of(const toml::node& node) {
  if (node.is_string()) return TomlKind::text;
  return node.is_boolean() ? TomlKind::boolean : TomlKind::number;
}

TomlEntry entry_of(const std::string& key, const toml::node& node, const std::string& where) {
  TomlEntry entry;
  entry.key = key;
  entry.line = line_of(node);
  if (is_plain(node)) {
    entry.values = {text_of(node)};
    entry.kind = kind_of(node);
    return entry;
  }
  const auto* list = node.as_array();
  if (list == nullptr)
    throw std::runtime_error(where + "'" + key +
                             "' must be a string, a number, true, false, or a list of them");
  entry.list = true;
  for (const auto& item : *list) {
    if (!is_plain(item) || kind_of(item) != kind_of(*list->begin()))
      throw std::runtime_error(where + "'" + key + "' must be a list of strings or a list of numbers");
    entry.kind = kind_of(item);
    entry.values.push_back(text_of(item));
  }
  return entry;
}

}  // namespace

std::vector<TomlEntry> read_toml(std::istream& in, const std::string& file) {
  const auto where = [&](int line) { return file + ":" + std::to_string(line) + ": "; };
  toml::table table;
  try {
    table = toml::parse(in, file);
  } catch (const toml::parse_error& e) {
    throw std::runtime_error(where(static_cast<int>(e.source().begin.line)) + std::string(e.description()));
  }
  std::vector<TomlEntry> entries;
  for (const auto& [name, node] : table) {
    const std::string key(name.str());
    if (node.is_table() || node.is_array_of_tables())
      throw std::runtime_error(where(line_of(node)) + "'" + key +
                               "' is a section, and there are none: all keys stand at the top");
    entries.push_back(entry_of(key, node, where(line_of(node))));
  }
  std::ranges::sort(entries, {}, &TomlEntry::line);  // the table is sorted by name
  return entries;
}

}  // namespace tutti::daemon
