#include "cli/spec_file.h"

#include <boost/json/serialize.hpp>
#include <charconv>
#include <fstream>
#include <istream>

#include "api/wire/strict_json.h"
#include "api/wire/yaml_tree.h"
#include "cli/failure.h"

namespace tutti::cli {
namespace {

namespace json = boost::json;

bool looks_like_json(const std::string& path, const std::string& text) {
  if (path.ends_with(".json")) return true;
  if (path.ends_with(".yaml") || path.ends_with(".yml")) return false;
  const auto first = text.find_first_not_of(" \t\r\n");
  json::value ignored;
  return first != std::string::npos && text[first] == '{' && !wire::parse_strict_json(text, ignored);
}

std::string where(const std::string& path, const wire::SyntaxError& error) {
  std::string text = path == "-" ? "standard input" : path;
  if (error.line > 0) text += ":" + std::to_string(error.line) + ":" + std::to_string(error.column);
  return text + ": " + error.message;
}

std::pair<std::string_view, std::string_view> split_assignment(std::string_view text, const char* flag) {
  const auto equals = text.find('=');
  if (equals == std::string_view::npos || equals == 0)
    throw Failure(Exit::usage, std::string(flag) + " " + std::string(text) + ": expected NAME=VALUE");
  return {text.substr(0, equals), text.substr(equals + 1)};
}

std::vector<std::string> split_path(std::string_view path) {
  std::vector<std::string> parts(1);
  for (std::size_t i = 0; i < path.size(); ++i) {
    if (path[i] == '\\' && i + 1 < path.size()) {
      parts.back() += path[++i];
    } else if (path[i] == '.') {
      parts.emplace_back();
    } else {
      parts.back() += path[i];
    }
  }
  for (const auto& part : parts)
    if (part.empty())
      throw Failure(Exit::usage, "--set " + std::string(path) + ": a part of the path is empty");
  return parts;
}

json::value read_value(std::string_view text) {
  json::value value;
  const bool structured = !text.empty() && std::string_view("[{\"'").find(text[0]) != std::string_view::npos;
  const auto error = wire::parse_strict_yaml(text, value);
  if (structured) {
    if (error) throw Failure(Exit::usage, "--set: '" + std::string(text) + "': " + error->message);
    return value;
  }
  // A command line such as `python train.py # x` or `echo a: b` is text, whatever YAML would make of it.
  if (error || value.is_structured() || value.is_string()) return json::string(text);
  return value;
}

json::value& descend(json::value& at, const std::string& part, std::string_view whole) {
  if (auto* array = at.if_array()) {
    std::size_t index = 0;
    const auto* end = part.data() + part.size();
    if (std::from_chars(part.data(), end, index).ptr != end || index > array->size())
      throw Failure(Exit::usage, "--set " + std::string(whole) + ": the list has " +
                                     std::to_string(array->size()) + " items, '" + part +
                                     "' is none of them");
    if (index == array->size()) array->emplace_back(nullptr);
    return (*array)[index];
  }
  if (at.is_null()) at.emplace_object();
  if (!at.is_object())
    throw Failure(Exit::usage,
                  "--set " + std::string(whole) + ": there is a plain value before '" + part + "'");
  return at.get_object()[part];
}

}  // namespace

std::string read_spec_file(const std::string& path, std::istream& in) {
  std::ifstream file;
  if (path != "-") {
    file.open(path, std::ios::binary);
    if (!file) throw Failure(Exit::usage, "cannot read " + path);
  }
  std::istream& from = path == "-" ? in : file;
  std::string text(kMaxSpecFile + 1, '\0');
  from.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<std::size_t>(from.gcount()));
  if (from.bad()) throw Failure(Exit::usage, "cannot read " + path);
  if (text.size() > kMaxSpecFile) throw Failure(Exit::usage, path + " is larger than 1 MiB");
  if (text.find_first_not_of(" \t\r\n") == std::string::npos)
    throw Failure(Exit::usage, (path == "-" ? "standard input" : path) + " is empty");
  return text;
}

void apply_set(json::value& tree, std::string_view assignment) {
  const auto [path, text] = split_assignment(assignment, "--set");
  json::value* at = &tree;
  for (const auto& part : split_path(path)) at = &descend(*at, part, assignment);
  *at = read_value(text);
}

void apply_env(json::value& tree, std::string_view assignment) {
  const auto [name, text] = split_assignment(assignment, "--env");
  json::value& env = descend(tree, "env", "env");
  if (env.is_null()) env.emplace_object();
  if (!env.is_object()) throw Failure(Exit::usage, "--env: the file's `env` is not a map");
  env.get_object()[name] = json::string(text);
}

SpecText make_spec(const std::string& path, std::string text, const SpecEdits& edits) {
  const bool is_json = looks_like_json(path, text);
  if (edits.empty()) return {std::move(text), is_json ? "application/json" : "application/yaml"};
  json::value tree;
  if (const auto error = is_json ? wire::parse_strict_json(text, tree) : wire::parse_strict_yaml(text, tree))
    throw Failure(Exit::usage, where(path, *error));
  if (!tree.is_object()) throw Failure(Exit::usage, where(path, {"a job is a map of fields", 0, 0}));
  for (const auto& assignment : edits.set) apply_set(tree, assignment);
  for (const auto& assignment : edits.env) apply_env(tree, assignment);
  if (!edits.name.empty()) tree.get_object()["name"] = json::string(edits.name);
  if (!edits.default_project.empty())
    tree.get_object().emplace("project", edits.default_project);  // not if it is there
  return {json::serialize(tree), "application/json"};
}

}  // namespace tutti::cli
