// Single fields of canonical specs, as SQL reads them out of the JSON; these need no parser.
#pragma once

#include <chrono>
#include <cstdio>
#include <string>

#include "scheduler/model/time.h"

namespace tutti::db {

/// A field of text without quotes in it; "" = none.
inline std::string text_field_in(const std::string& spec_json, const std::string& name) {
  const std::string field = "\"" + name + "\":\"";
  const auto at = spec_json.find(field);
  if (at == std::string::npos) return "";
  const auto begin = at + field.size();
  return spec_json.substr(begin, spec_json.find('"', begin) - begin);
}

/// Epoch 0 = none.
inline Instant begin_time_in(const std::string& spec_json) {
  int year = 0, month = 0, day = 0, hour = 0, minute = 0, second = 0;
  if (std::sscanf(text_field_in(spec_json, "begin_time").c_str(), "%d-%d-%dT%d:%d:%d", &year, &month, &day,
                  &hour, &minute, &second) != 6)
    return {};
  const std::chrono::year_month_day date(std::chrono::year(year),
                                         std::chrono::month(static_cast<unsigned>(month)),
                                         std::chrono::day(static_cast<unsigned>(day)));
  return std::chrono::sys_days(date) + std::chrono::hours(hour) + std::chrono::minutes(minute) +
         std::chrono::seconds(second);
}

}  // namespace tutti::db
