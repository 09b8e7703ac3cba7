// Checks JSON against the part of JSON Schema 2020-12 that openapi.json uses. A keyword it does not know is
// an error, so that nothing in the document is decoration.
#pragma once

#include <boost/json/value.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace tutti::testing {

class SchemaChecker {
 public:
  explicit SchemaChecker(const boost::json::value& document) : document_(document) {}

  /// What is wrong, "" = nothing: "jobs[0].state: \"gone\" is not one of …".
  std::vector<std::string> check(const boost::json::value& value, const boost::json::value& schema) const;
  /// The target of {"$ref": "#/a/b"}, or the value itself.
  const boost::json::value& resolve(const boost::json::value& value) const;

 private:
  void check_at(const std::string& at, const boost::json::value& value, const boost::json::value& schema,
                std::vector<std::string>& errors) const;
  void check_object(const std::string& at, const boost::json::object& value,
                    const boost::json::object& schema, std::vector<std::string>& errors) const;

  const boost::json::value& document_;
};

}  // namespace tutti::testing
