// What reading a spec is made of: where we are, what went wrong, and objects read by a table of their fields.
// Used by job_spec_codec only. The good path allocates nothing here: a path is a chain of stack frames and
// becomes text when there is a problem to report.
#pragma once

#include <boost/json/object.hpp>
#include <boost/json/value.hpp>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "api/wire/job_spec_codec.h"

namespace tutti::wire {

struct Path {
  const Path* parent = nullptr;
  std::string_view key;
  std::int64_t index = -1;  // >= 0: an item of a list

  std::string text() const;
};

struct SpecReader {
  std::vector<SpecProblem>& problems;
  Now now;

  void problem(const Path& at, std::string message, std::string hint = {});
  bool full() const { return problems.size() >= kMaxSpecProblems; }

  // Each reports a problem and returns nothing when the value is of another kind or out of bounds.
  std::optional<std::int64_t> integer(const Path&, const boost::json::value&, std::int64_t min,
                                      std::int64_t max);
  std::optional<std::string_view> string(const Path&, const boost::json::value&, std::size_t max_bytes);
  /// Short text for people: not empty, printable, at most `max` characters.
  std::optional<std::string_view> label(const Path&, const boost::json::value&, std::size_t max);
  std::optional<bool> boolean(const Path&, const boost::json::value&);
  std::optional<Duration> duration(const Path&, const boost::json::value&, Duration min);
  std::optional<std::int64_t> bytes(const Path&, const boost::json::value&);
  /// Text, or a number or truth value as text.
  std::optional<std::string> scalar_text(const Path&, const boost::json::value&, std::size_t max_bytes);
  const boost::json::object* object(const Path&, const boost::json::value&, std::size_t max_members = 10'000);
};

/// "must be …, not 7": what was given, short.
std::string shown(const boost::json::value&);
std::string describe_kind(const boost::json::value&);

/// The candidate nearest to `word`, if it is near enough for a typing error; else "".
std::string_view nearest(std::string_view word, std::span<const std::string_view> candidates);
std::string did_you_mean(std::string_view word, std::span<const std::string_view> candidates);
/// "known here: a, b, c" for the fields of a small object; empty where a list would not help.
std::string known_names(std::span<const std::string_view> names);

template <class T>
struct Field {
  std::string_view name;
  void (*read)(SpecReader&, const Path&, const boost::json::value&, T&);
};

/// Reads each member by its field. null means "not given". `elsewhere` explains a name that is not a field.
template <class T, std::size_t N>
void read_fields(SpecReader& r, const Path& at, const boost::json::value& value, T& into,
                 const std::array<Field<T>, N>& fields,
                 std::string (*elsewhere)(std::string_view name) = nullptr) {
  const auto* object = r.object(at, value);
  if (object == nullptr) return;
  for (const auto& member : *object) {
    if (r.full()) return;
    const std::string_view key = member.key();
    const Path here{&at, key};
    const Field<T>* found = nullptr;
    for (const auto& field : fields)
      if (field.name == key) found = &field;
    if (found != nullptr) {
      if (!member.value().is_null()) found->read(r, here, member.value(), into);
      continue;
    }
    std::string hint = elsewhere == nullptr ? std::string() : elsewhere(key);
    if (hint.empty()) {
      std::array<std::string_view, N> names;
      for (std::size_t i = 0; i < N; ++i) names[i] = fields[i].name;
      hint = did_you_mean(key, names);
      if (hint.empty()) hint = known_names(names);
    }
    r.problem(here, "unknown field", std::move(hint));
  }
}

}  // namespace tutti::wire
