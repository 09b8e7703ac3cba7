// JSON text from people, read strictly. Used for every request body (job_spec_codec, api/handlers).
// Pure; any thread. What it refuses that Boost.JSON lets pass: keys given twice in one object, and NUL inside
// strings (PostgreSQL cannot store it).
#pragma once

#include <boost/json/storage_ptr.hpp>
#include <boost/json/value.hpp>
#include <optional>
#include <string>
#include <string_view>

namespace tutti::wire {

inline constexpr std::size_t kMaxJsonDepth = 32;

/// Where a text stops being JSON (or YAML) and why. Line and column count from 1; 0 = unknown.
struct SyntaxError {
  std::string message;
  int line = 0;
  int column = 0;
};

/// Parses into `into` (which has the storage the caller wants). Nothing: all is well.
std::optional<SyntaxError> parse_strict_json(std::string_view text, boost::json::value& into);

}  // namespace tutti::wire
