#include "db/pg/result.h"

#include "db/pg/params.h"
#include "db/store.h"

namespace tutti::db {

namespace {
std::uint64_t big_endian(const char* bytes, int size) {
  std::uint64_t value = 0;
  for (int i = 0; i < size; ++i) value = value << 8 | static_cast<unsigned char>(bytes[i]);
  return value;
}
}  // namespace

const char* RowReader::fixed(int size) {
  const int column = column_++;
  if (PQgetisnull(result_, row_, column) || PQgetlength(result_, row_, column) != size)
    throw StoreError(StoreError::corrupt,
                     std::string("column ") + PQfname(result_, column) + " has not the type expected");
  return PQgetvalue(result_, row_, column);
}

std::int64_t RowReader::bigint() { return static_cast<std::int64_t>(big_endian(fixed(8), 8)); }
std::int32_t RowReader::integer() { return static_cast<std::int32_t>(big_endian(fixed(4), 4)); }
std::int16_t RowReader::smallint() { return static_cast<std::int16_t>(big_endian(fixed(2), 2)); }
bool RowReader::boolean() { return *fixed(1) != 0; }
Instant RowReader::timestamptz() { return binary::from_postgres_micros(bigint()); }
std::string RowReader::text() { return std::string(bytes()); }

std::string_view RowReader::bytes() {
  const auto value = bytes_or_null();
  if (!value)
    throw StoreError(StoreError::corrupt,
                     std::string("column ") + PQfname(result_, column_ - 1) + " is NULL");
  return *value;
}
std::optional<std::string_view> RowReader::bytes_or_null() {
  const int column = column_++;
  if (PQgetisnull(result_, row_, column)) return std::nullopt;
  return std::string_view(PQgetvalue(result_, row_, column),
                          static_cast<std::size_t>(PQgetlength(result_, row_, column)));
}
std::optional<std::int64_t> RowReader::bigint_or_null() {
  if (PQgetisnull(result_, row_, column_)) {
    ++column_;
    return std::nullopt;
  }
  return bigint();
}
std::optional<Instant> RowReader::timestamptz_or_null() {
  if (PQgetisnull(result_, row_, column_)) {
    ++column_;
    return std::nullopt;
  }
  return timestamptz();
}

}  // namespace tutti::db
