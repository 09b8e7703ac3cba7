#include "tests/api/hostile_operations.h"

#include <algorithm>
#include <cctype>

namespace tutti::testing {

namespace json = boost::json;

const SchemaChecker& checker() {
  static const SchemaChecker kChecker(openapi());
  return kChecker;
}

std::string name_of(const Path& path) {
  std::string out;
  for (const auto& part : path) out += (out.empty() || part == "[]" ? "" : ".") + part;
  return out;
}

namespace {

// The paths of all fields that a schema describes, members of maps and items of lists included.
void collect(const json::value& raw, const Path& at, std::vector<Path>& out, int depth = 0) {
  const auto& schema = checker().resolve(raw).as_object();
  if (!at.empty()) out.push_back(at);
  if (depth > 6) return;
  const auto into = [&](const std::string& part, const json::value& next) {
    auto path = at;
    path.push_back(part);
    collect(next, path, out, depth + 1);
  };
  if (const auto* properties = schema.if_contains("properties"))
    for (const auto& member : properties->as_object()) into(std::string(member.key()), member.value());
  if (const auto* more = schema.if_contains("additionalProperties"); more != nullptr && more->is_object())
    into("KEY", *more);
  if (const auto* items = schema.if_contains("items")) into("[]", *items);
  if (const auto* choices = schema.if_contains("anyOf"))
    for (const auto& choice : choices->as_array()) collect(choice, at, out, depth + 1);
}

// The least that satisfies the schema.
json::value least(const json::value& raw) {
  const auto& schema = checker().resolve(raw).as_object();
  if (const auto* values = schema.if_contains("enum")) return values->as_array().front();
  if (const auto* choices = schema.if_contains("anyOf")) return least(choices->as_array().front());
  const auto* types = schema.if_contains("type");
  const std::string type(types == nullptr     ? "object"
                         : types->is_string() ? types->get_string()
                                              : types->as_array().front().as_string());
  if (type == "string") return "x";
  if (type == "integer" || type == "number") return 1;
  if (type == "boolean") return true;
  if (type == "array") return json::array{};
  json::object out;
  if (const auto* required = schema.if_contains("required"))
    for (const auto& key : required->as_array())
      out[key.as_string()] = least(schema.at("properties").at(key.as_string()));
  return out;
}

}  // namespace

std::vector<Path> fields_of(const json::value& schema) {
  std::vector<Path> all;
  collect(schema, {}, all);
  std::ranges::sort(all);
  all.erase(std::unique(all.begin(), all.end()), all.end());
  return all;
}

void put(json::value& into, const Path& path, std::size_t at, const json::value& value) {
  if (at == path.size()) {
    into = value;
    return;
  }
  if (path[at] == "[]") {
    if (!into.is_array()) into = json::array{nullptr};
    if (into.get_array().empty()) into.get_array().push_back(nullptr);
    return put(into.get_array()[0], path, at + 1, value);
  }
  if (!into.is_object()) into = json::object{};
  put(into.get_object()[path[at]], path, at + 1, value);
}

std::string Operation::name() const { return std::string(described->at("operationId").as_string()); }

const json::value* Operation::body_schema() const {
  const auto* body = described->if_contains("requestBody");
  if (body == nullptr) return nullptr;
  const auto* type = checker().resolve(*body).at("content").as_object().if_contains("application/json");
  return type == nullptr ? nullptr : &type->at("schema");
}

std::vector<json::object> Operation::parameters(std::string_view in) const {
  std::vector<json::object> out;
  if (const auto* all = described->if_contains("parameters"))
    for (const auto& parameter : all->as_array())
      if (const auto& p = checker().resolve(parameter).as_object(); p.at("in").as_string() == in)
        out.push_back(p);
  return out;
}

std::string Operation::target(std::string_view name, std::string_view value) const {
  std::string out;
  for (std::size_t at = 0; at < pattern.size();) {
    if (pattern[at] != '{') {
      out += pattern[at++];
      continue;
    }
    const auto end = pattern.find('}', at);
    const auto parameter = pattern.substr(at + 1, end - at - 1);
    out += http::percent_encode(parameter == name ? std::string(value) : real(parameter));
    at = end + 1;
  }
  return out;
}

std::string Operation::real(const std::string& parameter) const {
  if (parameter == "id" || parameter == "n") return "1";
  if (pattern.starts_with("/v1/nodes")) return "n1";
  return "default";
}

std::vector<Operation> operations() {
  std::vector<Operation> out;
  for (const auto& path : openapi().at("paths").as_object())
    for (const auto& operation : path.value().as_object()) {
      std::string method(operation.key());
      for (char& c : method) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
      out.push_back({http::method_from(method), std::string(path.key()), &operation.value().as_object()});
    }
  return out;
}

json::value baseline(const Operation& op) {
  auto body = least(*op.body_schema());
  if (op.name() == "jobs.submit_batch")
    body = json::object{{"jobs", json::array{json::object{{"name", "x"}, {"run", "x"}}}}};
  return body;
}

}  // namespace tutti::testing
