#include "db/pg/result.h"

#include "db/pg/params.h"
#include "db/store.h"

namespace tutti::db {

void RowReader::odd(const char* what) const {
  const std::string which = result_ != nullptr ? PQfname(result_, column_ - 1) : std::to_string(column_);
  throw StoreError(StoreError::corrupt, "column " + which + " " + what);
}

std::optional<std::string_view> RowReader::bytes_or_null() {
  const int column = column_++;
  if (result_ != nullptr) {
    if (PQgetisnull(result_, row_, column)) return std::nullopt;
    return std::string_view(PQgetvalue(result_, row_, column),
                            static_cast<std::size_t>(PQgetlength(result_, row_, column)));
  }
  if (rest_.size() < 4) odd("is not there");
  const auto size = static_cast<std::int32_t>(big_endian<std::uint32_t>(rest_.data()));
  rest_.remove_prefix(4);
  if (size < 0) return std::nullopt;
  if (rest_.size() < static_cast<std::size_t>(size)) odd("ends before its time");
  const std::string_view value = rest_.substr(0, static_cast<std::size_t>(size));
  rest_.remove_prefix(value.size());
  return value;
}

const char* RowReader::fixed(std::size_t size) {
  const auto value = bytes_or_null();
  if (!value || value->size() != size) odd("has not the type expected");
  return value->data();
}

std::string_view RowReader::bytes() {
  const auto value = bytes_or_null();
  if (!value) odd("is NULL");
  return *value;
}

std::optional<std::int64_t> RowReader::bigint_or_null() {
  const auto value = bytes_or_null();
  if (!value) return std::nullopt;
  if (value->size() != sizeof(std::int64_t)) odd("has not the type expected");
  return static_cast<std::int64_t>(big_endian<std::uint64_t>(value->data()));
}

Instant RowReader::timestamptz() { return binary::from_postgres_micros(bigint()); }
std::optional<Instant> RowReader::timestamptz_or_null() {
  const auto micros = bigint_or_null();
  return micros ? std::optional(binary::from_postgres_micros(*micros)) : std::nullopt;
}

}  // namespace tutti::db
