// YAML to the same tree that JSON gives. Used by job_spec_codec. Pure; any thread.
//
//   1. Only what is written the one canonical way becomes a number, true, false or null; every other scalar
//   is
//      text: `1.10`, `010`, `yes`, `1e-4` stay as written.
//   2. Bounded: depth as JSON, at most kMaxYamlNodes values and kMaxYamlText bytes of text after aliases are
//      expanded (a "billion laughs" text is refused, not expanded).
//   3. Keys given twice, NUL, invalid UTF-8, tags other than those of YAML itself and a second document are
//   errors.
#pragma once

#include <boost/json/value.hpp>
#include <optional>
#include <string_view>

#include "api/wire/strict_json.h"

namespace tutti::wire {

inline constexpr std::size_t kMaxYamlNodes = 20'000;
inline constexpr std::size_t kMaxYamlText = 512 << 10;  // before, too

std::optional<SyntaxError> parse_strict_yaml(std::string_view text, boost::json::value& into);

}  // namespace tutti::wire
