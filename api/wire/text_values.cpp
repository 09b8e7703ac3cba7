#include "api/wire/text_values.h"

#include <array>
#include <charconv>
#include <cmath>
#include <utility>

namespace tutti::wire {
namespace {

using namespace std::chrono_literals;

bool is_digit(char c) { return c >= '0' && c <= '9'; }

/// Takes "12" or "1.5" from the front of `text`: a whole part and millionths.
struct Decimal {
  std::int64_t whole = 0;
  std::int64_t millionths = 0;
};
std::optional<Decimal> take_decimal(std::string_view& text) {
  Decimal out;
  const auto* end = text.data() + text.size();
  if (text.empty() || !is_digit(text.front())) return std::nullopt;
  const auto [after, code] = std::from_chars(text.data(), end, out.whole);
  if (code != std::errc{}) return std::nullopt;
  text.remove_prefix(static_cast<std::size_t>(after - text.data()));
  if (!text.starts_with('.')) return out;
  text.remove_prefix(1);
  std::int64_t place = 100'000;
  if (text.empty() || !is_digit(text.front())) return std::nullopt;
  for (; !text.empty() && is_digit(text.front()); text.remove_prefix(1), place /= 10)
    out.millionths += (text.front() - '0') * place;
  return out;
}

std::string_view take_letters(std::string_view& text) {
  std::size_t n = 0;
  while (n < text.size() && ((text[n] >= 'a' && text[n] <= 'z') || (text[n] >= 'A' && text[n] <= 'Z'))) ++n;
  const auto word = text.substr(0, n);
  text.remove_prefix(n);
  return word;
}

/// `value` times `unit`, nothing when it does not fit into `max`.
std::optional<std::int64_t> scaled(Decimal value, std::int64_t unit, std::int64_t max) {
  if (value.whole > max / unit) return std::nullopt;
  const auto part = static_cast<std::int64_t>(
      static_cast<double>(value.millionths) * 1e-6 * static_cast<double>(unit) + 0.5);
  const auto total = value.whole * unit + part;
  return total > max ? std::nullopt : std::optional(total);
}

constexpr auto kDurationUnits = std::to_array<std::pair<std::string_view, Duration>>(
    {{"h", 1h}, {"m", 1min}, {"s", 1s}, {"ms", 1ms}, {"us", 1us}, {"d", 24h}});

constexpr auto kByteUnits =
    std::to_array<std::pair<std::string_view, std::int64_t>>({{"TiB", 1LL << 40},
                                                              {"GiB", 1LL << 30},
                                                              {"MiB", 1LL << 20},
                                                              {"KiB", 1LL << 10},
                                                              {"TB", 1'000'000'000'000},
                                                              {"GB", 1'000'000'000},
                                                              {"MB", 1'000'000},
                                                              {"kB", 1'000},
                                                              {"KB", 1'000},
                                                              {"T", 1'000'000'000'000},
                                                              {"G", 1'000'000'000},
                                                              {"M", 1'000'000},
                                                              {"K", 1'000},
                                                              {"B", 1},
                                                              {"", 1}});
constexpr std::int64_t kMaxBytes = 1LL << 60;

}  // namespace

std::optional<Duration> parse_duration(std::string_view text) {
  if (text.empty()) return std::nullopt;
  std::int64_t total = 0;
  bool bare = false;
  while (!text.empty()) {
    const auto number = take_decimal(text);
    if (!number || bare) return std::nullopt;
    const auto word = take_letters(text);
    std::int64_t unit = 0;
    if (word.empty() && total == 0) {
      unit = 1'000'000;
      bare = true;
    }
    for (const auto& [name, length] : kDurationUnits)
      if (name == word) unit = length.count();
    if (unit == 0) return std::nullopt;
    const auto part = scaled(*number, unit, kMaxDuration.count() - total);
    if (!part) return std::nullopt;
    total += *part;
  }
  return Duration(total);
}

std::optional<Duration> duration_from_seconds(double seconds) {
  if (!(seconds >= 0) || seconds > to_seconds(kMaxDuration)) return std::nullopt;
  return Duration(std::llround(seconds * 1e6));
}

std::string format_duration(Duration d) {
  for (const auto& [name, length] : kDurationUnits)
    if (name != "d" && d % length == Duration::zero() && (d != Duration::zero() || length == Duration(1s)))
      return std::to_string(d / length) + std::string(name);
  return std::to_string(d.count()) + "us";
}

std::optional<std::int64_t> parse_bytes(std::string_view text) {
  const auto number = take_decimal(text);
  if (!number) return std::nullopt;
  while (text.starts_with(' ')) text.remove_prefix(1);
  for (const auto& [name, unit] : kByteUnits)
    if (name == text) return scaled(*number, unit, kMaxBytes);
  return std::nullopt;
}

std::string format_bytes(std::int64_t bytes) {
  if (bytes > 0)
    for (const auto& [name, unit] : {std::pair{"GiB", 1LL << 30}, std::pair{"GB", 1'000'000'000LL},
                                     std::pair{"MiB", 1LL << 20}, std::pair{"MB", 1'000'000LL}})
      if (bytes % unit == 0) return std::to_string(bytes / unit) + name;
  return std::to_string(bytes);
}

std::optional<Instant> parse_instant(std::string_view text) {
  const auto digits = [&text](std::size_t n, int& out) {
    out = 0;
    if (text.size() < n) return false;
    for (std::size_t i = 0; i < n; ++i) {
      if (!is_digit(text[i])) return false;
      out = out * 10 + (text[i] - '0');
    }
    text.remove_prefix(n);
    return true;
  };
  const auto sign = [&text](std::string_view any_of) {
    if (text.empty() || any_of.find(text.front()) == std::string_view::npos) return false;
    text.remove_prefix(1);
    return true;
  };
  int y = 0, mo = 0, d = 0, h = 0, mi = 0, s = 0;
  if (!(digits(4, y) && sign("-") && digits(2, mo) && sign("-") && digits(2, d) && sign("Tt ") &&
        digits(2, h) && sign(":") && digits(2, mi) && sign(":") && digits(2, s)))
    return std::nullopt;
  const auto date = std::chrono::year(y) / mo / d;
  if (!date.ok() || h > 23 || mi > 59 || s > 60) return std::nullopt;
  std::int64_t micros = 0;
  if (sign(".")) {
    std::int64_t place = 100'000;
    if (text.empty() || !is_digit(text.front())) return std::nullopt;
    for (; !text.empty() && is_digit(text.front()); text.remove_prefix(1), place /= 10)
      micros += (text.front() - '0') * place;
  }
  Duration offset{};
  if (!sign("Zz")) {
    const bool east = text.starts_with('+');
    int oh = 0, om = 0;
    if (!(sign("+-") && digits(2, oh) && sign(":") && digits(2, om)) || oh > 23 || om > 59)
      return std::nullopt;
    offset = std::chrono::hours(oh) + std::chrono::minutes(om);
    if (!east) offset = -offset;
  }
  if (!text.empty()) return std::nullopt;
  return std::chrono::sys_days(date) + std::chrono::hours(h) + std::chrono::minutes(mi) +
         std::chrono::seconds(s) + Duration(micros) - offset;
}

std::string format_instant(Instant at) {
  const auto day = std::chrono::floor<std::chrono::days>(at);
  const std::chrono::year_month_day date(day);
  const std::int64_t rest = (at - day).count();
  // By hand: every answer has several.
  std::string out = "0000-00-00T00:00:00.000000Z";
  const auto put = [&out](std::size_t begin, std::size_t end, std::int64_t n) {
    for (; end > begin; n /= 10) out[--end] = static_cast<char>('0' + n % 10);
  };
  put(5, 7, unsigned(date.month()));
  put(8, 10, unsigned(date.day()));
  put(11, 13, rest / 3'600'000'000);
  put(14, 16, rest / 60'000'000 % 60);
  put(17, 19, rest / 1'000'000 % 60);
  put(20, 26, rest % 1'000'000);
  const int year = int(date.year());
  if (year < 0 || year > 9999)
    out.replace(0, 4, std::to_string(year));
  else
    put(0, 4, year);
  return out;
}

}  // namespace tutti::wire
