// Whole numbers in JSON that jobs write: some writers have only floating point numbers.
#pragma once

#include <boost/json/object.hpp>
#include <cmath>
#include <cstdint>
#include <optional>
#include <string_view>

namespace tutti::supervisor {

/// Nothing if it is not there, or is no number that can be held exactly.
inline std::optional<std::int64_t> whole_number(const boost::json::object& o, std::string_view name) {
  constexpr double kExact = 1e15;
  const auto* v = o.if_contains(name);
  if (v == nullptr) return std::nullopt;
  if (v->is_int64()) return v->get_int64();
  if (v->is_double() && std::abs(v->get_double()) < kExact) return static_cast<std::int64_t>(v->get_double());
  return std::nullopt;
}

}  // namespace tutti::supervisor
