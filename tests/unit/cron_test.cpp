// Schedules: what a crontab line means, and the next time of it.
#include "scheduler/model/cron.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <vector>

namespace tutti {
namespace {

using namespace std::chrono_literals;

Instant utc(int y, unsigned mo, unsigned d, int h = 0, int mi = 0, int s = 0) {
  return std::chrono::sys_days(std::chrono::year(y) / mo / d) + std::chrono::hours(h) +
         std::chrono::minutes(mi) + std::chrono::seconds(s);
}

std::string text(Instant at) {
  const auto day = std::chrono::floor<std::chrono::days>(at);
  const std::chrono::year_month_day date(day);
  const auto minutes = std::chrono::duration_cast<std::chrono::minutes>(at - day).count();
  char out[40];
  std::snprintf(out, sizeof out, "%d-%02u-%02u %02d:%02d", int(date.year()), unsigned(date.month()),
                unsigned(date.day()), int(minutes / 60), int(minutes % 60));
  return out;
}

using Times = std::vector<std::string>;

Times times(std::string_view line, Instant after, int n) {
  std::string why;
  const auto cron = parse_cron(line, &why);
  EXPECT_TRUE(cron) << line << ": " << why;
  Times out;
  for (int i = 0; cron && i < n; ++i) {
    const auto next = next_time(*cron, after);
    if (!next) {
      out.emplace_back("never");
      break;
    }
    EXPECT_GT(*next, after);
    out.push_back(text(*next));
    after = *next;
  }
  return out;
}

TEST(Cron, FieldsMeanWhatTheySay) {
  const Instant from = utc(2026, 11, 25, 12, 30);  // a Wednesday
  EXPECT_EQ(times("0 3 * * *", from, 2), (Times{"2026-11-26 03:00", "2026-11-27 03:00"}));
  EXPECT_EQ(times("*/20 * * * *", from, 3),
            (Times{"2026-11-25 12:40", "2026-11-25 13:00", "2026-11-25 13:20"}));
  EXPECT_EQ(times("5-59/25 13 * * *", from, 3),
            (Times{"2026-11-25 13:05", "2026-11-25 13:30", "2026-11-25 13:55"}));
  EXPECT_EQ(times("15,45 12-13 * * *", from, 4),
            (Times{"2026-11-25 12:45", "2026-11-25 13:15", "2026-11-25 13:45", "2026-11-26 12:15"}));
  EXPECT_EQ(times("0 0 1 jan *", from, 2), (Times{"2027-01-01 00:00", "2028-01-01 00:00"}));
  EXPECT_EQ(times("0 0 * JAN-Mar *", utc(2027, 3, 30), 3),
            (Times{"2027-03-31 00:00", "2028-01-01 00:00", "2028-01-02 00:00"}));
  EXPECT_EQ(times("0 9 * * mon-fri", utc(2026, 11, 27, 10), 2),
            (Times{"2026-11-30 09:00", "2026-12-01 09:00"}));
  EXPECT_EQ(times("  0\t9 * * 1 ", from, 1), (Times{"2026-11-30 09:00"}));
}

TEST(Cron, AStepBeyondTheFieldLeavesItsFirstValue) {
  const Instant from = utc(2026, 11, 25, 12, 30);
  EXPECT_EQ(times("*/2147483647 * * * *", from, 2), (Times{"2026-11-25 13:00", "2026-11-25 14:00"}));
}

TEST(Cron, SundayIsZeroAndSeven) {
  const Instant from = utc(2026, 11, 25);
  for (const char* line : {"0 0 * * 0", "0 0 * * 7", "0 0 * * sun"})
    EXPECT_EQ(times(line, from, 1), (Times{"2026-11-29 00:00"})) << line;
  for (const char* line : {"0 0 * * fri-sun", "0 0 * * 5-7", "0 0 * * 5-0"})
    EXPECT_EQ(times(line, from, 4),
              (Times{"2026-11-27 00:00", "2026-11-28 00:00", "2026-11-29 00:00", "2026-12-04 00:00"}))
        << line;
}

TEST(Cron, EitherDayIsEnoughWhenBothAreRestricted) {
  // The 13th, and every Friday.
  EXPECT_EQ(times("0 0 13 * fri", utc(2026, 12, 5), 3),
            (Times{"2026-12-11 00:00", "2026-12-13 00:00", "2026-12-18 00:00"}));
  // A field that begins with a star is not restricted: both must hold. Odd days that are Mondays.
  EXPECT_EQ(times("0 0 */2 * mon", utc(2026, 12, 1), 3),
            (Times{"2026-12-07 00:00", "2026-12-21 00:00", "2027-01-11 00:00"}));
}

TEST(Cron, NicknamesAreShorthands) {
  const Instant from = utc(2026, 11, 25, 12, 30);
  EXPECT_EQ(times("@hourly", from, 1), (Times{"2026-11-25 13:00"}));
  EXPECT_EQ(times("@daily", from, 1), (Times{"2026-11-26 00:00"}));
  EXPECT_EQ(times("@midnight", from, 1), (Times{"2026-11-26 00:00"}));
  EXPECT_EQ(times("@weekly", from, 1), (Times{"2026-11-29 00:00"}));
  EXPECT_EQ(times("@monthly", from, 1), (Times{"2026-12-01 00:00"}));
  EXPECT_EQ(times("@yearly", from, 1), (Times{"2027-01-01 00:00"}));
  EXPECT_EQ(times("@Annually", from, 1), (Times{"2027-01-01 00:00"}));
}

TEST(Cron, TheNextTimeIsStrictlyLaterAndOnTheMinute) {
  EXPECT_EQ(times("* * * * *", utc(2026, 11, 25, 12, 30), 1), (Times{"2026-11-25 12:31"}));
  EXPECT_EQ(times("* * * * *", utc(2026, 11, 25, 12, 30) - 1us, 1), (Times{"2026-11-25 12:30"}));
  EXPECT_EQ(times("* * * * *", utc(2026, 11, 25, 12, 30, 59), 1), (Times{"2026-11-25 12:31"}));
  EXPECT_EQ(times("59 23 31 12 *", utc(2026, 12, 31, 23, 59), 1), (Times{"2027-12-31 23:59"}));
}

TEST(Cron, LeapDaysComeAndWhatNeverComesIsSaid) {
  EXPECT_EQ(times("0 0 29 2 *", utc(2026, 1, 1), 2), (Times{"2028-02-29 00:00", "2032-02-29 00:00"}));
  EXPECT_EQ(times("0 0 29 2 *", utc(2097, 1, 1), 1), (Times{"2104-02-29 00:00"})) << "2100 has none";
  EXPECT_EQ(times("0 0 30 2 *", utc(2026, 1, 1), 1), (Times{"never"}));
  EXPECT_EQ(times("0 0 31 4,6,9,11 *", utc(2026, 1, 1), 1), (Times{"never"}));
  EXPECT_EQ(times("0 0 30 2 mon", utc(2026, 1, 1), 1), (Times{"2026-02-02 00:00"}))
      << "Mondays of February are enough";
}

TEST(Cron, WhatIsWrongIsNamed) {
  for (const auto& [line, says] : std::initializer_list<std::pair<const char*, const char*>>{
           {"", "needs 5 fields"},
           {"0 3 * *", "not 4"},
           {"0 3 * * * *", "not 6"},
           {"60 * * * *", "minute '60' is not within 0 to 59"},
           {"* 24 * * *", "hour '24'"},
           {"* * 0 * *", "day of month '0' is not within 1 to 31"},
           {"* * 32 * *", "day of month '32'"},
           {"* * * 13 *", "month '13'"},
           {"* * * 0 *", "month '0'"},
           {"* * * * 8", "day of week '8'"},
           {"* * * * funday", "'funday' is neither a number nor a name"},
           {"mon * * * *", "minute 'mon'"},
           {"5-1 * * * *", "'5-1' is reversed"},
           {"*/0 * * * *", "a step is a number from 1"},
           {"*/x * * * *", "a step is a number from 1"},
           {"5/10 * * * *", "a step needs '*' or a range"},
           {"1,,2 * * * *", "minute ''"},
           {"-1 * * * *", "minute '-1'"},
           {"1- * * * *", "minute '1-'"},
           {"* * * * fri-mon", "is reversed"},
           {"@reboot", "'@reboot' is not known"}}) {
    std::string why;
    EXPECT_FALSE(parse_cron(line, &why)) << line;
    EXPECT_NE(why.find(says), std::string::npos) << line << ": " << why;
  }
}

}  // namespace
}  // namespace tutti
