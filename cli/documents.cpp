#include "cli/documents.h"

#include <yaml-cpp/emitter.h>

#include <array>
#include <charconv>
#include <cmath>

namespace tutti::cli {
namespace {

namespace json = boost::json;

const json::value* find(const json::object& object, std::string_view key) {
  const auto* value = object.if_contains(key);
  return value == nullptr || value->is_null() ? nullptr : value;
}

// A word that no YAML reader takes for a number, a date, a truth value or null.
bool plain_word(std::string_view text) {
  if (text.empty() || text.size() > 60) return false;
  const auto letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; };
  if (!letter(text[0])) return false;
  for (const char c : text)
    if (!letter(c) && !(c >= '0' && c <= '9') && c != '-' && c != '.' && c != '/') return false;
  std::string lower;
  for (const char c : text) lower += static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c);
  for (const std::string_view taken : {"y", "n", "yes", "no", "on", "off", "true", "false", "null"})
    if (lower == taken) return false;
  return true;
}

void emit_text(YAML::Emitter& out, std::string_view text) {
  if (!plain_word(text)) out << YAML::DoubleQuoted;
  out << std::string(text);
}

void emit(YAML::Emitter& out, const json::value& value) {
  switch (value.kind()) {
    case json::kind::null: out << YAML::Null; return;
    case json::kind::string: emit_text(out, value.get_string()); return;
    case json::kind::array:
      if (value.get_array().empty()) out << YAML::Flow;
      out << YAML::BeginSeq;
      for (const auto& item : value.get_array()) emit(out, item);
      out << YAML::EndSeq;
      return;
    case json::kind::object:
      if (value.get_object().empty()) out << YAML::Flow;
      out << YAML::BeginMap;
      for (const auto& member : value.get_object()) {
        out << YAML::Key;
        emit_text(out, member.key());
        out << YAML::Value;
        emit(out, member.value());
      }
      out << YAML::EndMap;
      return;
    case json::kind::bool_:
    case json::kind::int64:
    case json::kind::uint64:
    case json::kind::double_: out << scalar_text(value); return;
  }
}

}  // namespace

std::string scalar_text(const json::value& value) {
  if (const auto* s = value.if_string()) return std::string(*s);
  if (const auto* b = value.if_bool()) return *b ? "true" : "false";
  if (const auto* i = value.if_int64()) return std::to_string(*i);
  if (const auto* u = value.if_uint64()) return std::to_string(*u);
  if (const auto* d = value.if_double()) {
    std::array<char, 40> buffer{};
    const auto end = std::to_chars(buffer.data(), buffer.data() + buffer.size(), *d).ptr;
    return {buffer.data(), end};
  }
  return {};
}

std::string text_of(const json::object& object, std::string_view key) {
  const auto* value = find(object, key);
  return value == nullptr ? std::string() : scalar_text(*value);
}

std::optional<double> number_of(const json::object& object, std::string_view key) {
  const auto* value = find(object, key);
  if (value == nullptr) return std::nullopt;
  if (const auto* i = value->if_int64()) return static_cast<double>(*i);
  if (const auto* u = value->if_uint64()) return static_cast<double>(*u);
  if (const auto* d = value->if_double()) return *d;
  return std::nullopt;
}

std::optional<std::int64_t> integer_of(const json::object& object, std::string_view key) {
  const auto* value = find(object, key);
  if (value == nullptr) return std::nullopt;
  if (const auto* i = value->if_int64()) return *i;
  const auto number = number_of(object, key);
  if (number && std::abs(*number) < 9e15) return static_cast<std::int64_t>(*number);
  return std::nullopt;
}

bool flag_of(const json::object& object, std::string_view key) {
  const auto* value = find(object, key);
  return value != nullptr && value->is_bool() && value->get_bool();
}

const json::object& as_object(const json::value& value) {
  static const json::object none;
  const auto* object = value.if_object();
  return object == nullptr ? none : *object;
}

const json::object& object_of(const json::object& object, std::string_view key) {
  const auto* value = find(object, key);
  return value == nullptr ? as_object(nullptr) : as_object(*value);
}

const json::array& array_of(const json::object& object, std::string_view key) {
  static const json::array none;
  const auto* value = find(object, key);
  return value == nullptr || !value->is_array() ? none : value->get_array();
}

std::string to_yaml(const json::value& value) {
  YAML::Emitter out;
  emit(out, value);
  return std::string(out.c_str()) + "\n";
}

}  // namespace tutti::cli
