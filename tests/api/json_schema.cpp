#include "json_schema.h"

#include <algorithm>
#include <array>
#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>
#include <regex>

#include "api/wire/text_values.h"

namespace tutti::testing {
namespace {

namespace json = boost::json;

constexpr auto kKeywords = std::to_array<std::string_view>(
    {"$ref",          "type",    "properties",  "required", "additionalProperties",
     "enum",          "items",   "minimum",     "maximum",  "minLength",
     "maxLength",     "pattern", "writeOnly",   "maxItems", "minProperties",
     "maxProperties", "format",  "description", "default",  "anyOf"});

bool has_type(const json::value& v, std::string_view type) {
  if (type == "null") return v.is_null();
  if (type == "boolean") return v.is_bool();
  if (type == "integer") return v.is_int64() || v.is_uint64();
  if (type == "number") return v.is_number();
  if (type == "string") return v.is_string();
  if (type == "array") return v.is_array();
  if (type == "object") return v.is_object();
  return false;
}

bool has_one_type(const json::value& v, const json::value& types) {
  if (types.is_string()) return has_type(v, types.get_string());
  return std::ranges::any_of(types.as_array(), [&](const auto& t) { return has_type(v, t.as_string()); });
}

std::string number_problem(const json::value& v, const json::object& schema) {
  const double n = v.to_number<double>();
  if (const auto* min = schema.if_contains("minimum"); min != nullptr && n < min->to_number<double>())
    return "is below the minimum";
  if (const auto* max = schema.if_contains("maximum"); max != nullptr && n > max->to_number<double>())
    return "is above the maximum";
  return {};
}

std::string string_problem(std::string_view s, const json::object& schema) {
  if (const auto* min = schema.if_contains("minLength");
      min != nullptr && s.size() < min->to_number<std::size_t>())
    return "is too short";
  if (const auto* max = schema.if_contains("maxLength");
      max != nullptr && s.size() > max->to_number<std::size_t>())
    return "is too long";
  if (const auto* pattern = schema.if_contains("pattern");
      pattern != nullptr &&
      !std::regex_search(s.begin(), s.end(), std::regex(std::string(pattern->as_string()))))
    return "does not match the pattern";
  if (const auto* format = schema.if_contains("format"); format != nullptr) {
    const auto at = wire::parse_instant(s);
    if (!at || wire::format_instant(*at) != s) return "is not a time in UTC with microseconds";
  }
  return {};
}

}  // namespace

const json::value& SchemaChecker::resolve(const json::value& value) const {
  const auto* object = value.if_object();
  const auto* ref = object == nullptr ? nullptr : object->if_contains("$ref");
  if (ref == nullptr) return value;
  std::string pointer(ref->as_string());
  json::error_code error;
  const auto* target = document_.find_pointer(pointer.substr(1), error);  // without '#'
  if (target == nullptr) throw std::runtime_error("openapi.json: dangling reference " + pointer);
  return resolve(*target);
}

std::vector<std::string> SchemaChecker::check(const json::value& value, const json::value& schema) const {
  std::vector<std::string> errors;
  check_at("", value, schema, errors);
  return errors;
}

void SchemaChecker::check_at(const std::string& at, const json::value& value, const json::value& raw,
                             std::vector<std::string>& errors) const {
  const auto& schema = resolve(raw).as_object();
  const auto complain = [&](const std::string& what) {
    if (!what.empty()) errors.push_back(at + ": " + json::serialize(value).substr(0, 200) + " " + what);
  };
  for (const auto& member : schema)
    if (std::ranges::find(kKeywords, std::string_view(member.key())) == kKeywords.end())
      errors.push_back(at + ": the schema has the unknown keyword " + std::string(member.key()));
  if (const auto* types = schema.if_contains("type"); types != nullptr && !has_one_type(value, *types)) {
    complain("is not of type " + json::serialize(*types));
    return;
  }
  if (const auto* choices = schema.if_contains("anyOf")) {
    const auto& all = choices->as_array();
    if (std::ranges::none_of(all, [&](const auto& one) { return check(value, one).empty(); }))
      check_at(at, value, all.front(), errors);  // the first is what is usual
  }
  if (const auto* values = schema.if_contains("enum"))
    if (std::ranges::find(values->as_array(), value) == values->as_array().end())
      complain("is not one of " + json::serialize(*values));
  if (value.is_number()) complain(number_problem(value, schema));
  if (value.is_string()) complain(string_problem(value.get_string(), schema));
  if (const auto* array = value.if_array()) {
    if (const auto* max = schema.if_contains("maxItems");
        max != nullptr && array->size() > max->to_number<std::size_t>())
      complain("has too many items");
    if (const auto* items = schema.if_contains("items"))
      for (std::size_t i = 0; i < array->size(); ++i)
        check_at(at + "[" + std::to_string(i) + "]", (*array)[i], *items, errors);
  }
  if (const auto* object = value.if_object()) check_object(at, *object, schema, errors);
}

void SchemaChecker::check_object(const std::string& at, const json::object& value, const json::object& schema,
                                 std::vector<std::string>& errors) const {
  if (const auto* required = schema.if_contains("required"))
    for (const auto& key : required->as_array())
      if (!value.contains(key.as_string())) errors.push_back(at + ": lacks " + std::string(key.as_string()));
  if (const auto* max = schema.if_contains("maxProperties");
      max != nullptr && value.size() > max->to_number<std::size_t>())
    errors.push_back(at + ": has too many members");
  if (const auto* min = schema.if_contains("minProperties");
      min != nullptr && value.size() < min->to_number<std::size_t>())
    errors.push_back(at + ": has too few members");
  const auto* properties = schema.if_contains("properties");
  const auto* additional = schema.if_contains("additionalProperties");
  for (const auto& member : value) {
    const std::string here = at.empty() ? std::string(member.key()) : at + "." + std::string(member.key());
    if (const auto* known =
            properties == nullptr ? nullptr : properties->as_object().if_contains(member.key()))
      check_at(here, member.value(), *known, errors);
    else if (additional != nullptr && additional->is_bool() && !additional->get_bool())
      errors.push_back(here + ": is not in the schema");
    else if (additional != nullptr && additional->is_object())
      check_at(here, member.value(), *additional, errors);
  }
}

}  // namespace tutti::testing
