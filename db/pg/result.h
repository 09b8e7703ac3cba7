// Rows as they come back in binary. Columns are read in order of the SELECT list: a decoder names no columns,
// it stands beside the list it reads (row_codec.h).
#pragma once

#include <libpq-fe.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "scheduler/model/time.h"

namespace tutti::db {

class Result {
 public:
  explicit Result(PGresult* r) : result_(r, PQclear) {}
  PGresult* get() const { return result_.get(); }
  int rows() const { return PQntuples(result_.get()); }

 private:
  std::unique_ptr<PGresult, void (*)(PGresult*)> result_;
};

// Walks over the columns of one row, of a result or of a COPY in binary. Throws StoreError corrupt when a
// value has not the expected size, which means that the schema is not ours.
class RowReader {
 public:
  RowReader(const Result& result, int row) : result_(result.get()), row_(row) {}
  // A tuple of COPY … (FORMAT binary), without the number of its fields; it outlives this.
  explicit RowReader(std::string_view tuple) : rest_(tuple) {}

  std::int64_t bigint() { return static_cast<std::int64_t>(whole<std::uint64_t>()); }
  std::int32_t integer() { return static_cast<std::int32_t>(whole<std::uint32_t>()); }
  std::int16_t smallint() { return static_cast<std::int16_t>(whole<std::uint16_t>()); }
  bool boolean() { return *fixed(1) != 0; }
  std::string text() { return std::string(bytes()); }
  std::string_view bytes();  // as they are; valid as long as the result
  Instant timestamptz();
  std::optional<std::int64_t> bigint_or_null();
  std::optional<Instant> timestamptz_or_null();
  std::optional<std::string_view> bytes_or_null();

 private:
  template <class Unsigned>
  Unsigned whole() {
    return big_endian<Unsigned>(fixed(sizeof(Unsigned)));
  }
  template <class Unsigned>
  static Unsigned big_endian(const char* bytes) {
    Unsigned value = 0;
    for (std::size_t i = 0; i < sizeof value; ++i)
      value = static_cast<Unsigned>(static_cast<std::uint64_t>(value) << 8 |
                                    static_cast<unsigned char>(bytes[i]));
    return value;
  }
  const char* fixed(std::size_t size);
  [[noreturn]] void odd(const char* what) const;  // of the column just read

  PGresult* result_ = nullptr;  // null: a tuple
  std::string_view rest_;       // of the tuple
  int row_ = 0;
  int column_ = 0;
};

}  // namespace tutti::db
