// The job file of `submit`: read, and edited by --set, --env and --name. Used by submit.cpp. Pure but for
// read_spec_file.
#pragma once

#include <boost/json/value.hpp>
#include <iosfwd>
#include <string>
#include <string_view>
#include <vector>

namespace tutti::cli {

inline constexpr std::size_t kMaxSpecFile = 1 << 20;  // as the server's bound

struct SpecEdits {
  std::vector<std::string> set;  // "resources.gpus=4"
  std::vector<std::string> env;  // "K=V"
  std::string name;
  std::string default_project;  // if the spec names none
  bool empty() const { return set.empty() && env.empty() && name.empty() && default_project.empty(); }
};

struct SpecText {
  std::string body;
  std::string content_type;
};

// `path` "-" reads `in`. Throws Failure{usage}.
std::string read_spec_file(const std::string& path, std::istream& in);

// Without edits: the bytes as they are. With edits: the tree as the server would read it, changed, as JSON.
SpecText make_spec(const std::string& path, std::string text, const SpecEdits& edits);

// "a.b=value": the value is what it would be in YAML ("4" a number, "true" a truth value, "[1, 2]" a list,
// else text); what is missing on the way is made, "list.0" is the first item, "\." a dot in a key.
void apply_set(boost::json::value& tree, std::string_view assignment);
void apply_env(boost::json::value& tree, std::string_view assignment);

}  // namespace tutti::cli
