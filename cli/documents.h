// Reading fields out of the server's answers, tolerantly: a missing field, null or another type is "nothing",
// so that an older or newer server breaks no table. And JSON written as YAML. Used by every verb. Pure.
#pragma once

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/value.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace tutti::cli {

// Text as it is; numbers and truth values as text; anything else "".
std::string text_of(const boost::json::object& object, std::string_view key);
std::optional<std::int64_t> integer_of(const boost::json::object& object, std::string_view key);
std::optional<double> number_of(const boost::json::object& object, std::string_view key);
bool flag_of(const boost::json::object& object, std::string_view key);
// Empty ones when there is none.
const boost::json::object& object_of(const boost::json::object& object, std::string_view key);
const boost::json::array& array_of(const boost::json::object& object, std::string_view key);
const boost::json::object& as_object(const boost::json::value& value);
std::string scalar_text(const boost::json::value& value);

// Block style, one document, ends with a newline. Read back by a YAML 1.1 or 1.2 reader it is the same tree.
std::string to_yaml(const boost::json::value& value);

}  // namespace tutti::cli
