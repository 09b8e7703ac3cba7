// Times that repeat, as in crontab(5), in UTC: minute hour day-of-month month day-of-week; names of months
// and days, ranges, lists, steps; @hourly, @daily, @midnight, @weekly, @monthly, @yearly, @annually. Pure.
//
// Vixie's rule: if day of month and day of week are both restricted, either is enough; a field that begins
// with '*' (also "*/2") counts as not restricted, and then both must hold.
#pragma once

#include <bitset>
#include <optional>
#include <string>
#include <string_view>

#include "scheduler/model/time.h"

namespace tutti {

struct Cron {
  std::bitset<60> minutes;
  std::bitset<24> hours;
  std::bitset<32> days;     // 1..31
  std::bitset<13> months;   // 1..12
  std::bitset<7> weekdays;  // 0 = Sunday
  bool either_day = false;  // day of month or day of week is enough
};

// nullopt: not of that form; `why` then says what is wrong.
std::optional<Cron> parse_cron(std::string_view text, std::string* why = nullptr);

// The first time after `after`; nullopt: there is none ("0 0 30 2 *").
std::optional<Instant> next_time(const Cron&, Instant after);

}  // namespace tutti
