#include "api/wire/strict_json.h"

#include <algorithm>
#include <boost/json/parse.hpp>
#include <boost/json/parser.hpp>
#include <boost/json/serialize.hpp>
#include <set>
#include <vector>

namespace tutti::wire {
namespace {

namespace json = boost::json;

SyntaxError error_at(std::string_view text, std::size_t offset, std::string message) {
  const auto before = text.substr(0, std::min(offset, text.size()));
  const auto line_start = before.rfind('\n');
  SyntaxError error;
  error.message = std::move(message);
  error.line = 1 + static_cast<int>(std::ranges::count(before, '\n'));
  error.column =
      1 + static_cast<int>(before.size() - (line_start == std::string_view::npos ? 0 : line_start + 1));
  return error;
}

/// Position after the string that opens at `i` in valid JSON.
std::size_t skip_string(std::string_view text, std::size_t i) {
  for (++i; i < text.size() && text[i] != '"'; ++i)
    if (text[i] == '\\') ++i;
  return i + 1;
}

/// Pairs "key": value written in a valid JSON text: colons outside of strings.
std::size_t count_written_keys(std::string_view text) {
  std::size_t n = 0;
  for (std::size_t i = 0; i < text.size();) {
    if (text[i] == '"') {
      i = skip_string(text, i);
    } else {
      if (text[i] == ':') ++n;
      ++i;
    }
  }
  return n;
}

std::size_t count_kept_keys(const json::value& value) {
  std::size_t n = 0;
  if (const auto* object = value.if_object()) {
    n += object->size();
    for (const auto& member : *object) n += count_kept_keys(member.value());
  } else if (const auto* array = value.if_array()) {
    for (const auto& item : *array) n += count_kept_keys(item);
  }
  return n;
}

/// The first key that stands twice in its object. Only called when there is one.
SyntaxError find_duplicate(std::string_view text) {
  std::vector<std::set<std::string>> open;
  std::string last_string;
  std::size_t at = 0;
  for (std::size_t i = 0; i < text.size();) {
    const char c = text[i];
    if (c == '"') {
      at = i;
      i = skip_string(text, i);
      json::error_code ignored;
      const auto decoded = json::parse(text.substr(at, i - at), ignored);
      last_string = decoded.is_string() ? std::string(decoded.get_string()) : std::string();
      continue;
    }
    if (c == '{' || c == '[') open.emplace_back();
    if ((c == '}' || c == ']') && !open.empty()) open.pop_back();
    if (c == ':' && !open.empty() && !open.back().insert(last_string).second)
      return error_at(text, at, "key '" + last_string + "' is given twice");
    ++i;
  }
  return error_at(text, 0, "a key is given twice");
}

bool has_nul(const json::value& value) {
  const auto in_text = [](std::string_view s) { return s.find('\0') != std::string_view::npos; };
  if (const auto* s = value.if_string()) return in_text(*s);
  if (const auto* array = value.if_array()) return std::ranges::any_of(*array, has_nul);
  if (const auto* object = value.if_object())
    return std::ranges::any_of(*object,
                               [&](const auto& m) { return in_text(m.key()) || has_nul(m.value()); });
  return false;
}

std::string describe(const json::error_code& code) {
  if (code == json::error::too_deep) return "nested deeper than " + std::to_string(kMaxJsonDepth) + " levels";
  return code.message();
}

}  // namespace

std::optional<SyntaxError> parse_strict_json(std::string_view text, json::value& into) {
  json::parse_options options;
  options.max_depth = kMaxJsonDepth;
  unsigned char scratch[4096];
  json::parser parser(json::storage_ptr{}, options, scratch);
  parser.reset(into.storage());
  json::error_code code;
  const auto used = parser.write_some(text.data(), text.size(), code);
  if (code) return error_at(text, used, describe(code));
  const auto rest = text.substr(used).find_first_not_of(" \t\r\n");
  if (rest != std::string_view::npos)
    return error_at(text, used + rest, "there is more text after the JSON value");
  into = parser.release();
  if (count_written_keys(text) != count_kept_keys(into)) return find_duplicate(text);
  constexpr std::string_view kEscapedNul = "\\u0000";
  if (const auto at = text.find(kEscapedNul); at != std::string_view::npos && has_nul(into))
    return error_at(text, at, "strings must not hold NUL (\\u0000)");
  return std::nullopt;
}

}  // namespace tutti::wire
