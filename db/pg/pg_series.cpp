#include "db/pg/pg_series.h"

#include <string_view>

namespace tutti::db {
namespace {

constexpr Statement kAdd{"series_add", R"(
INSERT INTO series_block (kind, owner, epoch, seconds, at, body)
SELECT * FROM unnest($1::smallint[], $2::bigint[], $3::bigint[], $4::integer[], $5::timestamptz[], $6::bytea[])
ON CONFLICT (kind, owner, epoch, seconds, at) DO UPDATE SET body = series_block.body || excluded.body)"};

constexpr Statement kFind{"series_find", R"(
SELECT b.kind, b.owner, b.epoch, b.at, b.body
FROM unnest($1::smallint[], $2::bigint[], $3::bigint[]) AS o (kind, owner, epoch)
JOIN series_block b USING (kind, owner, epoch)
WHERE b.seconds = $4::integer AND b.at >= $5::timestamptz AND b.at < $6::timestamptz
ORDER BY b.kind, b.owner, b.epoch, b.at LIMIT $7::integer)"};

constexpr Statement kBytes{"series_bytes", R"(
SELECT coalesce(sum(octet_length(b.body)), 0)::bigint
FROM unnest($1::smallint[], $2::bigint[], $3::bigint[]) AS o (kind, owner, epoch)
JOIN series_block b USING (kind, owner, epoch)
WHERE b.seconds = $4::integer AND b.at >= $5::timestamptz AND b.at < $6::timestamptz)"};

constexpr Statement kForget{"series_forget", R"(
DELETE FROM series_block WHERE (kind, owner, epoch, seconds, at) IN (
  SELECT kind, owner, epoch, seconds, at FROM series_block
  WHERE seconds = $1::integer AND at < $2::timestamptz ORDER BY at LIMIT $3::integer)
RETURNING 1)"};

std::int16_t number_of(series::Kind kind) { return static_cast<std::int16_t>(kind); }
std::int32_t seconds_of(Duration step) { return static_cast<std::int32_t>(step / std::chrono::seconds(1)); }

Params params_of(const SeriesRange& range) {
  Params params;
  params.column(range.owners, [](const series::Owner& o) { return number_of(o.kind); })
      .column(range.owners, [](const series::Owner& o) { return o.id; })
      .column(range.owners, [](const series::Owner& o) { return o.epoch; })
      .integer(seconds_of(range.step))
      .timestamptz(range.from)
      .timestamptz(range.until);
  return params;
}

}  // namespace

void PgSeries::add(const std::vector<SeriesRow>& rows) {
  if (rows.empty()) return;
  Params params;
  params.column(rows, [](const SeriesRow& r) { return number_of(r.owner.kind); })
      .column(rows, [](const SeriesRow& r) { return r.owner.id; })
      .column(rows, [](const SeriesRow& r) { return r.owner.epoch; })
      .column(rows, [](const SeriesRow& r) { return seconds_of(r.step); })
      .column(rows, [](const SeriesRow& r) { return r.at; })
      .column(rows, [](const SeriesRow& r) { return Bytes{r.body}; });
  session_.run(kAdd, std::move(params));
}

std::int64_t PgSeries::bytes(const SeriesRange& range) {
  const Result result = session_.run(kBytes, params_of(range));
  return RowReader(result, 0).bigint();
}

std::vector<SeriesRow> PgSeries::find(const SeriesRange& range, int most) {
  Params params = params_of(range);
  params.integer(most);
  const Result result = session_.run(kFind, std::move(params));
  std::vector<SeriesRow> out;
  out.reserve(static_cast<std::size_t>(result.rows()));
  for (int i = 0; i < result.rows(); ++i) {
    RowReader row(result, i);
    SeriesRow found;
    found.owner.kind = static_cast<series::Kind>(row.smallint());
    found.owner.id = row.bigint();
    found.owner.epoch = Epoch(row.bigint());
    found.step = range.step;
    found.at = row.timestamptz();
    found.body = row.bytes();
    out.push_back(std::move(found));
  }
  return out;
}

bool PgSeries::forget(Duration step, Instant before, int most) {
  Params params;
  params.integer(seconds_of(step)).timestamptz(before).integer(most);
  return session_.run(kForget, std::move(params)).rows() == most;
}

}  // namespace tutti::db
