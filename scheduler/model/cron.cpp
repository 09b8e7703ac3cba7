#include "scheduler/model/cron.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <span>
#include <utility>
#include <vector>

namespace tutti {
namespace {

using namespace std::chrono_literals;

constexpr auto kMonths = std::to_array<std::string_view>(
    {"", "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"});
constexpr auto kDays = std::to_array<std::string_view>({"sun", "mon", "tue", "wed", "thu", "fri", "sat"});

constexpr auto kNicknames =
    std::to_array<std::pair<std::string_view, std::string_view>>({{"@hourly", "0 * * * *"},
                                                                  {"@daily", "0 0 * * *"},
                                                                  {"@midnight", "0 0 * * *"},
                                                                  {"@weekly", "0 0 * * 0"},
                                                                  {"@monthly", "0 0 1 * *"},
                                                                  {"@yearly", "0 0 1 1 *"},
                                                                  {"@annually", "0 0 1 1 *"}});

struct FieldRule {
  std::string_view what;
  int min, max;
  std::span<const std::string_view> names;  // from number 0
};

std::string lower(std::string_view s) {
  std::string out(s);
  for (char& c : out)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return out;
}

std::optional<int> number_of(std::string_view text, const FieldRule& rule) {
  int n = 0;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), n);
  if (code == std::errc{} && end == text.data() + text.size()) return n;
  const std::string word = lower(text);
  for (std::size_t i = 0; i < rule.names.size(); ++i)
    if (!word.empty() && rule.names[i] == word) return static_cast<int>(i);
  return std::nullopt;
}

// "*", "5", "1-5", "*/15", "1-30/2"; sets bits by `set(number)`. Says what is wrong.
template <class Set>
std::string read_part(std::string_view part, const FieldRule& rule, Set set) {
  const std::string where = std::string(rule.what) + " '" + std::string(part) + "'";
  const auto slash = part.find('/');
  const auto range = part.substr(0, slash);
  int first = rule.min, last = rule.max, step = 1;
  const auto dash = range.find('-');
  if (range != "*") {
    const auto from = number_of(range.substr(0, dash), rule);
    const auto to = dash == std::string_view::npos ? from : number_of(range.substr(dash + 1), rule);
    if (!from || !to) return where + " is neither a number nor a name nor '*'";
    first = *from;
    last = *to;
    // Sunday is also 7: "fri-sun" is a range.
    if (!rule.names.empty() && rule.min == 0 && last == 0 && first > 0 && dash != std::string_view::npos)
      last = 7;
    if (slash != std::string_view::npos && dash == std::string_view::npos)
      return where + ": a step needs '*' or a range before it";
  }
  if (slash != std::string_view::npos) {
    const auto text = part.substr(slash + 1);
    const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), step);
    if (code != std::errc{} || end != text.data() + text.size() || step < 1)
      return where + ": a step is a number from 1";
  }
  if (first < rule.min || last > rule.max)
    return where + " is not within " + std::to_string(rule.min) + " to " + std::to_string(rule.max);
  if (last < first) return where + " is reversed";
  for (int i = first; i <= last && step <= rule.max; i += step) set(i);
  if (step > rule.max) set(first);
  return {};
}

template <class Set>
std::string read_field(std::string_view field, const FieldRule& rule, Set set) {
  for (;;) {
    const auto comma = field.find(',');
    if (auto wrong = read_part(field.substr(0, comma), rule, set); !wrong.empty()) return wrong;
    if (comma == std::string_view::npos) return {};
    field.remove_prefix(comma + 1);
  }
}

std::vector<std::string_view> words_of(std::string_view text) {
  std::vector<std::string_view> words;
  constexpr std::string_view kBlank = " \t";
  for (auto at = text.find_first_not_of(kBlank); at != std::string_view::npos;
       at = text.find_first_not_of(kBlank, at)) {
    const auto end = std::min(text.find_first_of(kBlank, at), text.size());
    words.push_back(text.substr(at, end - at));
    at = end;
  }
  return words;
}

bool day_fits(const Cron& c, std::chrono::sys_days day) {
  const std::chrono::year_month_day date(day);
  if (!c.months[unsigned(date.month())]) return false;
  const bool of_month = c.days[unsigned(date.day())];
  const bool of_week = c.weekdays[std::chrono::weekday(day).c_encoding()];
  return c.either_day ? of_month || of_week : of_month && of_week;
}

}  // namespace

std::optional<Cron> parse_cron(std::string_view text, std::string* why) {
  const auto refuse = [why](std::string reason) {
    if (why != nullptr) *why = std::move(reason);
    return std::nullopt;
  };
  auto words = words_of(text);
  if (words.size() == 1 && words[0].starts_with('@')) {
    std::string_view meaning;
    for (const auto& [nickname, fields] : kNicknames)
      if (nickname == lower(words[0])) meaning = fields;
    if (meaning.empty())
      return refuse("'" + std::string(words[0]) +
                    "' is not known; there are @hourly, @daily, @weekly, @monthly, @yearly");
    words = words_of(meaning);
  }
  if (words.size() != 5)
    return refuse("needs 5 fields (minute hour day month weekday), not " + std::to_string(words.size()));
  Cron c;
  const auto rules = std::to_array<FieldRule>({{"minute", 0, 59, {}},
                                               {"hour", 0, 23, {}},
                                               {"day of month", 1, 31, {}},
                                               {"month", 1, 12, kMonths},
                                               {"day of week", 0, 7, kDays}});
  std::string wrong = read_field(words[0], rules[0], [&](int i) { c.minutes.set(std::size_t(i)); });
  if (wrong.empty()) wrong = read_field(words[1], rules[1], [&](int i) { c.hours.set(std::size_t(i)); });
  if (wrong.empty()) wrong = read_field(words[2], rules[2], [&](int i) { c.days.set(std::size_t(i)); });
  if (wrong.empty()) wrong = read_field(words[3], rules[3], [&](int i) { c.months.set(std::size_t(i)); });
  if (wrong.empty())
    wrong = read_field(words[4], rules[4], [&](int i) { c.weekdays.set(std::size_t(i % 7)); });
  if (!wrong.empty()) return refuse(std::move(wrong));
  c.either_day = !words[2].starts_with('*') && !words[4].starts_with('*');
  return c;
}

std::optional<Instant> next_time(const Cron& c, Instant after) {
  constexpr int kCalendarRepeats = 146'097;  // days in 400 years
  const Instant from = std::chrono::floor<std::chrono::minutes>(after) + 1min;
  auto day = std::chrono::floor<std::chrono::days>(from);
  for (int i = 0; i <= kCalendarRepeats; ++i, day += std::chrono::days(1)) {
    if (!day_fits(c, day)) continue;
    for (int h = 0; h < 24; ++h) {
      if (!c.hours[std::size_t(h)]) continue;
      for (int m = 0; m < 60; ++m)
        if (const Instant at = day + std::chrono::hours(h) + std::chrono::minutes(m);
            c.minutes[std::size_t(m)] && at >= from)
          return at;
    }
  }
  return std::nullopt;
}

}  // namespace tutti
