// What the files of PgReader share.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "db/pg/params.h"
#include "db/pg/result.h"
#include "db/reader.h"

namespace tutti::db {

inline std::int64_t page(int wanted) { return std::clamp(wanted, 1, kMaxPage); }

// Of a table or a join that may have no row: then it is not visible.
inline std::string visible_in(const Visible& who, const std::string& alias, Params& params) {
  params.column(who.projects, [](const std::string& p) -> std::string_view { return p; }).text(who.owner);
  const int n = params.size();
  return "(" + alias + ".project = ANY($" + std::to_string(n - 1) + "::text[]) OR " + alias + ".owner = $" +
         std::to_string(n) + "::text)";
}

template <class Row, class Read>
std::vector<Row> rows_of(const Result& result, Read read) {
  std::vector<Row> out;
  out.reserve(static_cast<std::size_t>(result.rows()));
  for (int i = 0; i < result.rows(); ++i) {
    RowReader row(result, i);
    out.push_back(read(row));
  }
  return out;
}

}  // namespace tutti::db
