#include "api/wire/spec_reader.h"

#include <algorithm>
#include <array>
#include <boost/json/serialize.hpp>
#include <charconv>
#include <cmath>

#include "api/wire/text_values.h"
#include "api/wire/utf8.h"

namespace tutti::wire {
namespace {

namespace json = boost::json;

/// Letters in lower case, '-' and ' ' as '_': "Time-Limit" is near "time_limit".
std::string folded(std::string_view word) {
  std::string out(word.substr(0, 64));
  for (char& c : out) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
    if (c == '-' || c == ' ') c = '_';
  }
  return out;
}

/// Damerau's distance with neighbours swapped counted as one; both words are short.
std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> before(b.size() + 1), row(b.size() + 1), next(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    next[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      next[j] = std::min({row[j] + 1, next[j - 1] + 1, row[j - 1] + (a[i - 1] == b[j - 1] ? 0u : 1u)});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
        next[j] = std::min(next[j], before[j - 2] + 1);
    }
    std::swap(before, row);
    std::swap(row, next);
  }
  return row[b.size()];
}

std::string range_text(std::int64_t min, std::int64_t max) {
  return "must be a whole number from " + std::to_string(min) + " to " + std::to_string(max);
}

bool is_printable(std::string_view s) {
  for (std::size_t i = 0; i < s.size(); ++i) {
    const auto c = static_cast<unsigned char>(s[i]);
    if (c < 0x20 || c == 0x7F) return false;
    // C1 controls, U+0080..U+009F
    if (c == 0xC2 && i + 1 < s.size() && static_cast<unsigned char>(s[i + 1]) < 0xA0) return false;
  }
  return true;
}

std::size_t count_characters(std::string_view s) {
  return static_cast<std::size_t>(
      std::ranges::count_if(s, [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

}  // namespace

std::string Path::text() const {
  if (index >= 0) return (parent == nullptr ? "" : parent->text()) + "[" + std::to_string(index) + "]";
  std::string out = parent == nullptr ? std::string() : parent->text();
  if (!out.empty() && !key.empty()) out += '.';
  return out += utf8_prefix(key, 100);
}

void SpecReader::problem(const Path& at, std::string message, std::string hint) {
  if (!full()) problems.push_back({at.text(), std::move(message), std::move(hint)});
}

std::string describe_kind(const json::value& v) {
  switch (v.kind()) {
    case json::kind::null: return "null";
    case json::kind::bool_: return "true or false";
    case json::kind::int64:
    case json::kind::uint64:
    case json::kind::double_: return "a number";
    case json::kind::string: return "text";
    case json::kind::array: return "a list";
    case json::kind::object: return "an object";
  }
  return "?";
}

std::string shown(const json::value& v) {
  if (v.is_structured()) return describe_kind(v);
  std::string text = json::serialize(v);
  if (text.size() > 60) text = std::string(utf8_prefix(text, 57)) + "…";
  return text;
}

std::optional<std::int64_t> SpecReader::integer(const Path& at, const json::value& v, std::int64_t min,
                                                std::int64_t max) {
  std::optional<std::int64_t> number;
  if (const auto* i = v.if_int64()) number = *i;
  if (const auto* d = v.if_double(); d != nullptr && std::trunc(*d) == *d && std::abs(*d) < 1e15)
    number = static_cast<std::int64_t>(*d);
  if (number && *number >= min && *number <= max) return number;
  problem(at, range_text(min, max) + ", not " + shown(v));
  return std::nullopt;
}

std::optional<std::string_view> SpecReader::string(const Path& at, const json::value& v,
                                                   std::size_t max_bytes) {
  const auto* s = v.if_string();
  if (s == nullptr) {
    problem(at, "must be text, not " + describe_kind(v));
    return std::nullopt;
  }
  if (s->size() > max_bytes) {
    problem(at,
            "must be at most " + std::to_string(max_bytes) + " bytes long, not " + std::to_string(s->size()));
    return std::nullopt;
  }
  return std::string_view(*s);
}

std::optional<std::string_view> SpecReader::label(const Path& at, const json::value& v, std::size_t max) {
  const auto s = string(at, v, 4 * max);
  if (!s) return std::nullopt;
  if (s->empty()) {
    problem(at, "must not be empty");
  } else if (!is_printable(*s)) {
    problem(at, "must not hold control characters");
  } else if (count_characters(*s) > max) {
    problem(at, "must be at most " + std::to_string(max) + " characters long");
  } else {
    return s;
  }
  return std::nullopt;
}

std::optional<bool> SpecReader::boolean(const Path& at, const json::value& v) {
  if (const auto* b = v.if_bool()) return *b;
  problem(at, "must be true or false, not " + shown(v));
  return std::nullopt;
}

std::optional<Duration> SpecReader::duration(const Path& at, const json::value& v, Duration min) {
  std::optional<Duration> d;
  if (const auto* s = v.if_string()) d = parse_duration(*s);
  if (const auto* i = v.if_int64()) d = duration_from_seconds(static_cast<double>(*i));
  if (const auto* f = v.if_double()) d = duration_from_seconds(*f);
  if (!d) {
    problem(at, "must be a duration, not " + shown(v),
            "like \"24h\", \"90s\", \"1h30m\", \"500ms\" or seconds");
  } else if (*d < min) {
    problem(at, "must be at least " + format_duration(min) + ", not " + shown(v));
    d.reset();
  }
  return d;
}

std::optional<std::int64_t> SpecReader::bytes(const Path& at, const json::value& v) {
  std::optional<std::int64_t> n;
  if (const auto* s = v.if_string()) n = parse_bytes(*s);
  if (const auto* i = v.if_int64(); i != nullptr && *i >= 0 && *i <= (1LL << 60)) n = *i;
  if (!n) problem(at, "must be a size, not " + shown(v), "like \"800GB\", \"64GiB\" or bytes");
  return n;
}

std::optional<std::string> SpecReader::scalar_text(const Path& at, const json::value& v,
                                                   std::size_t max_bytes) {
  if (const auto* b = v.if_bool()) return *b ? "true" : "false";
  if (const auto* i = v.if_int64()) return std::to_string(*i);
  if (const auto* u = v.if_uint64()) return std::to_string(*u);
  if (const auto* d = v.if_double()) {
    std::array<char, 32> out{};
    return std::string(out.data(), std::to_chars(out.begin(), out.end(), *d).ptr);
  }
  if (v.is_null()) {
    problem(at, "must be text, not null", "write \"\" for an empty value");
    return std::nullopt;
  }
  const auto s = string(at, v, max_bytes);
  return s ? std::optional<std::string>(*s) : std::nullopt;
}

const json::object* SpecReader::object(const Path& at, const json::value& v, std::size_t max_members) {
  const auto* o = v.if_object();
  if (o == nullptr) {
    problem(at, "must be an object, not " + describe_kind(v));
  } else if (o->size() > max_members) {
    problem(at, "must have at most " + std::to_string(max_members) + " entries, not " +
                    std::to_string(o->size()));
    return nullptr;
  }
  return o;
}

std::string_view nearest(std::string_view word, std::span<const std::string_view> candidates) {
  const std::string w = folded(word);
  std::string_view best;
  std::size_t best_distance = std::max<std::size_t>(1, std::min<std::size_t>(3, w.size() / 3)) + 1;
  for (const auto candidate : candidates) {
    const auto distance = edit_distance(w, folded(candidate));
    if (distance < best_distance) {
      best_distance = distance;
      best = candidate;
    }
  }
  return best;
}

std::string did_you_mean(std::string_view word, std::span<const std::string_view> candidates) {
  const auto near = nearest(word, candidates);
  return near.empty() ? std::string() : "did you mean '" + std::string(near) + "'?";
}

std::string known_names(std::span<const std::string_view> names) {
  constexpr std::size_t kMost = 10;
  if (names.size() > kMost) return {};
  std::string text;
  for (const auto name : names) text += (text.empty() ? "known here: " : ", ") + std::string(name);
  return text;
}

}  // namespace tutti::wire
