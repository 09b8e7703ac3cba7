// Parameters of a statement in PostgreSQL's binary format: single values, and whole columns as arrays for
// `… FROM unnest($1::bigint[], $2::text[], …)`. Binary needs no quoting, so no text can break out of it.
//
// Called by: pg_batch.cpp, pg_reader.cpp. One thread at a time.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "scheduler/model/ids.h"
#include "scheduler/model/time.h"

namespace tutti::db {

// Valid UTF-8 without NUL: what PostgreSQL takes as text. Bad bytes become U+FFFD.
bool is_clean_text(std::string_view text);
std::string clean_text(std::string_view text);

namespace binary {

template <class Unsigned>
void put(std::string& out, Unsigned value) {
  char bytes[sizeof value];
  for (std::size_t i = 0; i < sizeof value; ++i)
    bytes[i] = static_cast<char>(value >> (8 * (sizeof value - 1 - i)));
  out.append(bytes, sizeof value);
}
std::int64_t postgres_micros(Instant at);  // timestamptz counts from 2000-01-01
// 'infinity' and other instants beyond the years 1 to 9999, which only a hand writes, become the nearest of
// these: one can count on from there.
Instant from_postgres_micros(std::int64_t micros);

}  // namespace binary

// SQL types by the numbers the server gives them.
enum class SqlType : std::uint32_t {
  boolean = 16,
  bytea = 17,
  bigint = 20,
  smallint = 21,
  integer = 23,
  text = 25,
  timestamptz = 1184
};

// Bytes that are no text: taken as they are.
struct Bytes {
  std::string_view bytes;
};

// One column. Elements are appended in row order.
class ArrayParam {
 public:
  ArrayParam(SqlType type, std::size_t rows);

  void add_smallint(std::int16_t v);
  void add_integer(std::int32_t v);
  void add_bigint(std::int64_t v);
  void add_boolean(bool v);
  void add_text(std::string_view v);
  void add_bytea(Bytes v);
  void add_timestamptz(Instant v);
  void add_null();

  std::string take() &&;  // header and elements

 private:
  std::string bytes_;
  std::int32_t count_ = 0;
  bool has_null_ = false;
};

class Params {
 public:
  Params& bigint(std::int64_t v);
  Params& integer(std::int32_t v);
  Params& text(std::string_view v);
  Params& timestamptz(std::optional<Instant> v);
  Params& array(ArrayParam column);

  // A column of `rows`, one element of each by `get`. The element type follows from what `get` returns:
  // int16/int32/int64/Id/bool/string_view/Bytes/Instant, or an optional of these (empty = NULL).
  template <class Rows, class Get>
  Params& column(const Rows& rows, Get get);

  int size() const { return static_cast<int>(values_.size()); }
  const std::vector<const char*>& pointers();
  const std::vector<int>& lengths();
  const std::vector<int>& formats();

 private:
  Params& push(std::string value);
  std::vector<std::string> values_;
  std::vector<bool> null_;
  std::vector<const char*> pointers_;
  std::vector<int> lengths_, formats_;
};

namespace binary {
inline void add(ArrayParam& a, std::int16_t v) { a.add_smallint(v); }
inline void add(ArrayParam& a, std::int32_t v) { a.add_integer(v); }
inline void add(ArrayParam& a, std::int64_t v) { a.add_bigint(v); }
inline void add(ArrayParam& a, bool v) { a.add_boolean(v); }
inline void add(ArrayParam& a, std::string_view v) { a.add_text(v); }
inline void add(ArrayParam& a, Bytes v) { a.add_bytea(v); }
inline void add(ArrayParam& a, Instant v) { a.add_timestamptz(v); }
template <class Tag>
void add(ArrayParam& a, Id<Tag> v) {
  a.add_bigint(v.value);
}
template <class T>
void add(ArrayParam& a, const std::optional<T>& v) {
  if (v)
    add(a, *v);
  else
    a.add_null();
}

template <class T>
struct TypeOf;
template <>
struct TypeOf<std::int16_t> {
  static constexpr SqlType value = SqlType::smallint;
};
template <>
struct TypeOf<std::int32_t> {
  static constexpr SqlType value = SqlType::integer;
};
template <>
struct TypeOf<std::int64_t> {
  static constexpr SqlType value = SqlType::bigint;
};
template <>
struct TypeOf<bool> {
  static constexpr SqlType value = SqlType::boolean;
};
template <>
struct TypeOf<std::string_view> {
  static constexpr SqlType value = SqlType::text;
};
template <>
struct TypeOf<std::string> {
  static constexpr SqlType value = SqlType::text;
};
template <>
struct TypeOf<Bytes> {
  static constexpr SqlType value = SqlType::bytea;
};
template <>
struct TypeOf<Instant> {
  static constexpr SqlType value = SqlType::timestamptz;
};
template <class Tag>
struct TypeOf<Id<Tag>> {
  static constexpr SqlType value = SqlType::bigint;
};
template <class T>
struct TypeOf<std::optional<T>> : TypeOf<T> {};
}  // namespace binary

template <class Rows, class Get>
Params& Params::column(const Rows& rows, Get get) {
  using Element = std::remove_cvref_t<decltype(get(*rows.begin()))>;
  ArrayParam a(binary::TypeOf<Element>::value, rows.size());
  for (const auto& row : rows) binary::add(a, get(row));
  return array(std::move(a));
}

}  // namespace tutti::db
