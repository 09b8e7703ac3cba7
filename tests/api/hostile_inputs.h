// What a stranger with bad intentions says: texts, JSON values, and what stands where a value should. Of
// hostile_test.cpp.
#pragma once

#include <boost/json/value.hpp>
#include <string>
#include <vector>

namespace tutti::testing {

/// Fine UTF-8, bad intentions.
const std::vector<std::string>& malice();
/// JSON values of every kind; a field takes few of them.
const std::vector<boost::json::value>& values();
/// What is written instead of a value; not all of it is JSON.
const std::vector<std::string>& raw_values();

}  // namespace tutti::testing
