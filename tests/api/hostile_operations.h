// What openapi.json lets a stranger ask: every operation, every field of its body, and a body that would be
// taken. Of hostile_test.cpp.
#pragma once

#include <boost/json/object.hpp>
#include <boost/json/value.hpp>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "tests/api/api_rig.h"

namespace tutti::testing {

const SchemaChecker& checker();

using Path = std::vector<std::string>;  // "[]" is an item of a list

std::string name_of(const Path& path);
/// The paths of all fields that a schema describes, members of maps and items of lists included.
std::vector<Path> fields_of(const boost::json::value& schema);
/// Sets the field at path[at…], and makes what it lies in.
void put(boost::json::value& into, const Path& path, std::size_t at, const boost::json::value& value);

struct Operation {
  http::Method method;
  std::string pattern;
  const boost::json::object* described;

  std::string name() const;
  /// Of application/json; null = it takes none.
  const boost::json::value* body_schema() const;
  std::vector<boost::json::object> parameters(std::string_view in) const;
  /// With real things in its path, so that a request comes as far as it can; `name` and `value`: one of them
  /// other.
  std::string target(std::string_view name = {}, std::string_view value = {}) const;

 private:
  std::string real(const std::string& parameter) const;
};

std::vector<Operation> operations();
/// A body that would be taken, but for what a test puts into it.
boost::json::value baseline(const Operation& op);

}  // namespace tutti::testing
