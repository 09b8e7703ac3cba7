// Readers of one field into one member, for tables of fields (spec_reader.h). Of job_spec_codec.cpp and
// spec_policy.cpp.
#pragma once

#include <boost/json/value.hpp>
#include <cstddef>
#include <cstdint>
#include <string>

#include "api/wire/spec_reader.h"

namespace tutti::wire {

inline constexpr std::size_t kMaxPath = 4096;

template <auto Member, int Min, int Max, class T>
void read_int(SpecReader& r, const Path& at, const boost::json::value& v, T& into) {
  if (const auto n = r.integer(at, v, Min, Max)) into.*Member = static_cast<int>(*n);
}

template <auto Member, std::size_t Max, class T>
void read_label(SpecReader& r, const Path& at, const boost::json::value& v, T& into) {
  if (const auto s = r.label(at, v, Max)) into.*Member = std::string(*s);
}

template <auto Member, class T>
void read_bool(SpecReader& r, const Path& at, const boost::json::value& v, T& into) {
  if (const auto b = r.boolean(at, v)) into.*Member = *b;
}

template <auto Member, class T>
void read_bytes(SpecReader& r, const Path& at, const boost::json::value& v, T& into) {
  if (const auto n = r.bytes(at, v)) into.*Member = *n;
}

template <auto Member, std::int64_t MinMicros, class T>
void read_duration(SpecReader& r, const Path& at, const boost::json::value& v, T& into) {
  if (const auto d = r.duration(at, v, Duration(MinMicros))) into.*Member = *d;
}

template <auto Member, class T>
void read_absolute_path(SpecReader& r, const Path& at, const boost::json::value& v, T& into) {
  const auto s = r.string(at, v, kMaxPath);
  if (!s) return;
  if (!s->empty() && s->front() != '/')
    r.problem(at, "must be an absolute path, not " + shown(v), "start it with '/'");
  else
    into.*Member = std::string(*s);
}

}  // namespace tutti::wire
