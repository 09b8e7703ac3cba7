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

// Walks over the columns of one row. Throws StoreError corrupt when a value has not the expected size, which
// means that the schema is not ours.
class RowReader {
 public:
  RowReader(const Result& result, int row) : result_(result.get()), row_(row) {}

  std::int64_t bigint();
  std::int32_t integer();
  std::int16_t smallint();
  bool boolean();
  std::string text();
  std::string_view bytes();  // as they are; valid as long as the result
  Instant timestamptz();
  std::optional<std::int64_t> bigint_or_null();
  std::optional<Instant> timestamptz_or_null();
  std::optional<std::string_view> bytes_or_null();

 private:
  const char* fixed(int size);
  PGresult* result_;
  int row_;
  int column_ = 0;
};

}  // namespace tutti::db
