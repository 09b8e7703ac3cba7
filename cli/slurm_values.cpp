#include "cli/slurm_values.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <chrono>

#include "api/wire/text_values.h"

namespace tutti::cli::slurm {
namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c + 32);
  return out;
}
std::string upper(std::string_view text) {
  std::string out(text);
  for (char& c : out)
    if (c >= 'a' && c <= 'z') c = static_cast<char>(c - 32);
  return out;
}

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  while (true) {
    const auto at = text.find(separator);
    parts.push_back(text.substr(0, at));
    if (at == std::string_view::npos) return parts;
    text.remove_prefix(at + 1);
  }
}

std::optional<std::vector<std::int64_t>> numbers(std::string_view text, char separator) {
  std::vector<std::int64_t> out;
  for (const auto part : split(text, separator)) {
    const auto n = parse_number(part);
    if (!n) return std::nullopt;
    out.push_back(*n);
  }
  return out;
}

constexpr std::int64_t kMostSeconds = 3600LL * 24 * 3660;  // as the bound of a spec

// ---------------------------------------------------------------- hosts

// The comma that ends a host expression is one outside brackets.
std::vector<std::string_view> split_hosts(std::string_view text) {
  std::vector<std::string_view> parts;
  std::size_t from = 0;
  int depth = 0;
  for (std::size_t i = 0; i <= text.size(); ++i) {
    if (i < text.size() && text[i] == '[') ++depth;
    if (i < text.size() && text[i] == ']') --depth;
    if (i == text.size() || (text[i] == ',' && depth == 0)) {
      parts.push_back(text.substr(from, i - from));
      from = i + 1;
    }
  }
  return parts;
}

bool is_host_text(std::string_view text) {
  return std::all_of(text.begin(), text.end(),
                     [](char c) { return is_digit(c) || is_letter(c) || c == '-' || c == '_' || c == '.'; });
}

// "01-03" or "7": as texts of the width of the first.
bool expand_range(std::string_view range, std::size_t most, std::vector<std::string>& into) {
  const auto dash = range.find('-');
  const auto first_text = range.substr(0, dash);
  const auto first = parse_number(first_text);
  const auto last = dash == std::string_view::npos ? first : parse_number(range.substr(dash + 1));
  if (!first || !last || *last < *first || *last - *first >= static_cast<std::int64_t>(most)) return false;
  for (std::int64_t n = *first; n <= *last; ++n) {
    std::string digits = std::to_string(n);
    if (digits.size() < first_text.size()) digits.insert(0, first_text.size() - digits.size(), '0');
    into.push_back(std::move(digits));
  }
  return into.size() <= most;
}

// One host expression with at most a few brackets: all combinations, the last fastest.
bool expand_host(std::string_view text, std::size_t most, std::vector<std::string>& into) {
  std::vector<std::string> hosts(1);
  while (!text.empty()) {
    const auto open = text.find('[');
    const auto plain = text.substr(0, open);
    if (!is_host_text(plain)) return false;
    for (auto& host : hosts) host += plain;
    if (open == std::string_view::npos) break;
    const auto close = text.find(']', open);
    if (close == std::string_view::npos) return false;
    std::vector<std::string> choices, longer;
    for (const auto range : split(text.substr(open + 1, close - open - 1), ','))
      if (!expand_range(range, most, choices)) return false;
    if (choices.size() * hosts.size() > most) return false;
    for (const auto& host : hosts)
      for (const auto& choice : choices) longer.push_back(host + choice);
    hosts = std::move(longer);
    text.remove_prefix(close + 1);
  }
  if (hosts.front().empty()) return false;
  into.insert(into.end(), hosts.begin(), hosts.end());
  return into.size() <= most;
}

// ---------------------------------------------------------------- dates

struct Clock {
  int hour = 0, minute = 0, second = 0;
};

std::optional<Clock> parse_clock(std::string_view text) {
  const std::string word = lower(text);
  if (word == "midnight") return Clock{};
  if (word == "noon") return Clock{12, 0, 0};
  if (word == "fika") return Clock{15, 0, 0};
  if (word == "teatime") return Clock{16, 0, 0};
  std::string_view rest = word;
  int half = -1;  // of the day
  if (rest.ends_with("am") || rest.ends_with("pm")) {
    half = rest.ends_with("pm") ? 1 : 0;
    rest.remove_suffix(2);
    while (rest.ends_with(' ')) rest.remove_suffix(1);
  }
  const auto parts = numbers(rest, ':');
  if (!parts || parts->size() > 3 || (parts->size() < 2 && half < 0)) return std::nullopt;
  std::int64_t hour = (*parts)[0];
  const std::int64_t minute = parts->size() > 1 ? (*parts)[1] : 0;
  const std::int64_t second = parts->size() > 2 ? (*parts)[2] : 0;
  if (half >= 0) {
    if (hour < 1 || hour > 12) return std::nullopt;
    hour = hour % 12 + 12 * half;
  }
  if (hour > 23 || minute > 59 || second > 59) return std::nullopt;
  return Clock{static_cast<int>(hour), static_cast<int>(minute), static_cast<int>(second)};
}

bool set_date(std::tm& day, std::int64_t year, std::int64_t month, std::int64_t date) {
  static constexpr std::array<int, 12> kLengths = {31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
  if (month < 1 || month > 12 || year < 1970 || year > 9999) return false;
  const bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
  const int length = kLengths[static_cast<std::size_t>(month - 1)] - (month == 2 && !leap ? 1 : 0);
  if (date < 1 || date > length) return false;
  day.tm_year = static_cast<int>(year - 1900);
  day.tm_mon = static_cast<int>(month - 1);
  day.tm_mday = static_cast<int>(date);
  return true;
}

// YYYY-MM-DD, MM/DD[/YY], MM.DD[.YY], MMDD[YY]; without a year the next such day.
std::optional<std::tm> parse_date(std::string_view text, std::tm today) {
  const std::string word = lower(text);
  if (word == "today") return today;
  if (word == "tomorrow") {
    ++today.tm_mday;  // carried over by Calendar::instant
    return today;
  }
  std::tm day = today;
  std::vector<std::int64_t> parts;
  for (const char separator : {'-', '/', '.'})
    if (text.find(separator) != std::string_view::npos) {
      const auto found = numbers(text, separator);
      if (!found || found->size() < 2 || found->size() > 3) return std::nullopt;
      parts = *found;
      if (separator == '-') {
        if (parts.size() != 3 || !set_date(day, parts[0], parts[1], parts[2])) return std::nullopt;
        return day;
      }
      break;
    }
  if (parts.empty()) {
    if ((text.size() != 4 && text.size() != 6) || !parse_number(text)) return std::nullopt;
    for (std::size_t i = 0; i < text.size(); i += 2) parts.push_back(*parse_number(text.substr(i, 2)));
  }
  if (parts.size() == 3) {
    const std::int64_t year = parts[2] < 100 ? 2000 + parts[2] : parts[2];
    return set_date(day, year, parts[0], parts[1]) ? std::optional(day) : std::nullopt;
  }
  const bool past = parts[0] < today.tm_mon + 1 || (parts[0] == today.tm_mon + 1 && parts[1] < today.tm_mday);
  const std::int64_t year = today.tm_year + 1900 + (past ? 1 : 0);
  return set_date(day, year, parts[0], parts[1]) ? std::optional(day) : std::nullopt;
}

// "now+2hours": seconds from now.
std::optional<std::int64_t> parse_offset(std::string_view text) {
  const auto digits = std::min(text.find_first_not_of("0123456789"), text.size());
  const auto count = parse_number(text.substr(0, digits));
  if (!count) return std::nullopt;
  const std::string unit = lower(text.substr(digits));
  std::int64_t seconds = 0;
  for (const auto& [names, length] : std::initializer_list<std::pair<std::string_view, std::int64_t>>{
           {"seconds", 1}, {"minutes", 60}, {"hours", 3600}, {"days", 86400}, {"weeks", 604800}})
    if (names.starts_with(unit)) {
      seconds = length;
      break;
    }
  if (seconds == 0 || *count > kMostSeconds / seconds) return std::nullopt;
  return *count * seconds;
}

std::string instant_text(std::int64_t seconds) {
  return wire::format_instant(Instant(std::chrono::seconds(seconds))).substr(0, 19) + "Z";
}

std::tm to_utc(std::int64_t at) {
  const std::time_t time = at;
  std::tm out{};
  gmtime_r(&time, &out);
  return out;
}

std::optional<std::string> moment_of(std::tm day, const std::optional<Clock>& clock, bool dated,
                                     const Calendar& calendar) {
  day.tm_hour = clock ? clock->hour : 0;
  day.tm_min = clock ? clock->minute : 0;
  day.tm_sec = clock ? clock->second : 0;
  day.tm_isdst = -1;
  auto at = calendar.instant(day);
  if (at && *at <= calendar.now && !dated) {  // a time of day that is over comes again tomorrow
    ++day.tm_mday;
    at = calendar.instant(day);
  }
  if (!at || *at < 0) return std::nullopt;
  return *at <= calendar.now ? std::string() : instant_text(*at);
}

}  // namespace

std::optional<std::int64_t> parse_number(std::string_view text) {
  if (text.empty() || text.size() > 15 || !std::all_of(text.begin(), text.end(), is_digit))
    return std::nullopt;
  std::int64_t n = 0;
  std::from_chars(text.data(), text.data() + text.size(), n);
  return n;
}

std::optional<TimeLimit> parse_time_limit(std::string_view text) {
  const std::string word = lower(text);
  if (word == "unlimited" || word == "infinite" || word == "-1") return TimeLimit{.unlimited = true};
  std::int64_t days = 0;
  const auto dash = text.find('-');
  if (dash != std::string_view::npos) {
    const auto d = parse_number(text.substr(0, dash));
    if (!d || *d > 3660) return std::nullopt;
    days = *d;
  }
  const auto parts = numbers(dash == std::string_view::npos ? text : text.substr(dash + 1), ':');
  if (!parts || parts->size() > 3) return std::nullopt;
  for (const auto part : *parts)
    if (part > kMostSeconds / 3600) return std::nullopt;
  const auto at = [&](std::size_t i) { return i < parts->size() ? (*parts)[i] : 0; };
  std::int64_t seconds = 0;
  if (dash != std::string_view::npos || parts->size() == 3)
    seconds = days * 86400 + at(0) * 3600 + at(1) * 60 + at(2);  // from the hours downwards
  else
    seconds = at(0) * 60 + at(1);
  if (seconds > kMostSeconds) return std::nullopt;
  return TimeLimit{.unlimited = seconds == 0, .value = std::chrono::seconds(seconds)};
}

std::optional<std::int64_t> parse_memory(std::string_view text) {
  if (text.ends_with('B') || text.ends_with('b')) text.remove_suffix(1);
  int shift = 20;
  if (!text.empty() && is_letter(text.back())) {
    const auto unit = std::string_view("KMGTP").find(upper(text.substr(text.size() - 1)));
    if (unit == std::string_view::npos) return std::nullopt;
    shift = 10 * (static_cast<int>(unit) + 1);
    text.remove_suffix(1);
  }
  const auto n = parse_number(text);
  if (!n || *n > (std::int64_t{1} << 60 >> shift)) return std::nullopt;
  return *n << shift;
}

std::optional<Count> parse_count(std::string_view text, bool bare_kind) {
  const auto colon = text.rfind(':');
  const auto last = colon == std::string_view::npos ? text : text.substr(colon + 1);
  auto n = parse_number(last);
  std::string_view kind = colon == std::string_view::npos ? std::string_view() : text.substr(0, colon);
  if (!n && bare_kind && colon == std::string_view::npos && !text.empty()) {
    kind = text;
    n = 1;
  }
  if (!n || *n > 100'000 || kind.find(':') != std::string_view::npos) return std::nullopt;
  if (colon != std::string_view::npos && kind.empty()) return std::nullopt;
  if (!is_host_text(kind)) return std::nullopt;
  return Count{std::string(kind), static_cast<int>(*n)};
}

std::optional<std::vector<std::string>> expand_hosts(std::string_view text, std::size_t most) {
  std::vector<std::string> hosts;
  for (const auto part : split_hosts(text))
    if (!expand_host(part, most, hosts)) return std::nullopt;
  return hosts;
}

std::optional<NodeCount> parse_nodes(std::string_view text) {
  const auto one = [](std::string_view word) -> std::optional<std::int64_t> {
    std::int64_t unit = 1;
    if (word.ends_with('k') || word.ends_with('K')) {
      unit = 1024;
      word.remove_suffix(1);
    }
    const auto n = parse_number(word);
    if (!n || *n < 1 || *n > 1'000'000) return std::nullopt;
    return *n * unit;
  };
  const auto dash = text.find('-');
  const auto least = one(text.substr(0, dash));
  const auto most = dash == std::string_view::npos ? least : one(text.substr(dash + 1));
  if (!least || !most || *most < *least) return std::nullopt;
  return NodeCount{*least, *most};
}

std::optional<Signal> parse_signal(std::string_view text) {
  Signal out;
  if (text.starts_with("R:") || text.starts_with("RB:")) {
    out.reservation = true;
    text.remove_prefix(text[1] == ':' ? 2 : 1);
  }
  if (text.starts_with("B:")) {
    out.batch_only = true;
    text.remove_prefix(2);
  }
  if (const auto at = text.find('@'); at != std::string_view::npos) {
    const auto seconds = parse_number(text.substr(at + 1));
    if (!seconds || *seconds > 65535) return std::nullopt;
    out.seconds = *seconds;
    text = text.substr(0, at);
  }
  out.name = upper(text);
  if (out.name.starts_with("SIG")) out.name.erase(0, 3);
  static constexpr auto kSignals =
      std::to_array<std::pair<std::string_view, std::string_view>>({{"1", "HUP"},
                                                                    {"2", "INT"},
                                                                    {"3", "QUIT"},
                                                                    {"9", "KILL"},
                                                                    {"10", "USR1"},
                                                                    {"12", "USR2"},
                                                                    {"14", "ALRM"},
                                                                    {"15", "TERM"},
                                                                    {"18", "CONT"},
                                                                    {"28", "WINCH"}});
  for (const auto& [number, name] : kSignals)
    if (out.name == number || out.name == name) {
      out.name = name;
      return out;
    }
  return std::nullopt;
}

std::optional<Dependencies> parse_dependencies(std::string_view text) {
  static constexpr auto kKinds = std::to_array<std::string_view>(
      {"after", "afterany", "afterok", "afternotok", "aftercorr", "afterburstbuffer"});
  Dependencies out;
  out.any_will_do = text.find('?') != std::string_view::npos;
  for (const auto part : split(text, out.any_will_do ? '?' : ',')) {
    const auto words = split(part, ':');
    const std::string kind = lower(words[0]);
    if (kind == "singleton" && words.size() == 1) {
      out.all.push_back({kind, {}, false});
      continue;
    }
    if (std::find(kKinds.begin(), kKinds.end(), kind) == kKinds.end() || words.size() < 2)
      return std::nullopt;
    for (std::size_t i = 1; i < words.size(); ++i) {
      const auto plus = words[i].find('+');
      const auto job = words[i].substr(0, plus);
      if (job.empty() || !is_host_text(job)) return std::nullopt;
      out.all.push_back({kind, std::string(job), plus != std::string_view::npos});
    }
  }
  return out;
}

Calendar utc_calendar(std::int64_t now) {
  return {now, to_utc, [](std::tm day) { return std::optional<std::int64_t>(timegm(&day)); }};
}

Calendar local_calendar() {
  const auto local = [](std::int64_t at) {
    const std::time_t time = at;
    std::tm out{};
    localtime_r(&time, &out);
    return out;
  };
  const auto instant = [](std::tm day) -> std::optional<std::int64_t> {
    const std::time_t at = std::mktime(&day);
    return at == static_cast<std::time_t>(-1) ? std::nullopt : std::optional<std::int64_t>(at);
  };
  return {std::time(nullptr), local, instant};
}

std::optional<std::string> parse_moment(std::string_view text, const Calendar& calendar) {
  const std::string word = lower(text);
  if (word == "now") return std::string();
  if (word.starts_with("now+")) {
    const auto seconds = parse_offset(std::string_view(word).substr(4));
    if (!seconds) return std::nullopt;
    return *seconds == 0 ? std::string() : "+" + wire::format_duration(std::chrono::seconds(*seconds));
  }
  const std::tm today = calendar.local(calendar.now);
  if (const auto clock = parse_clock(word)) return moment_of(today, clock, false, calendar);
  if (const auto day = parse_date(word, today)) return moment_of(*day, std::nullopt, true, calendar);
  // A date and a time of day, in this order: 2026-12-24T08:00, 12/24/26-08:00, "tomorrow noon".
  for (const char separator : {'t', ' ', '-'})
    for (auto at = word.find(separator); at != std::string::npos; at = word.find(separator, at + 1)) {
      const auto day = parse_date(word.substr(0, at), today);
      const auto clock = parse_clock(std::string_view(word).substr(at + 1));
      if (day && clock) return moment_of(*day, clock, true, calendar);
    }
  return std::nullopt;
}

}  // namespace tutti::cli::slurm
