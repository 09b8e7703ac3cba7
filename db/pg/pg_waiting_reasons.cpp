#include "db/pg/pg_waiting_reasons.h"

#include <string_view>

namespace tutti::db {
namespace {

constexpr Statement kAdd{"waiting_reason_add", R"(
INSERT INTO waiting_reason (job, at, body)
SELECT * FROM unnest($1::bigint[], $2::timestamptz[], $3::text[]) ON CONFLICT DO NOTHING)"};

constexpr Statement kFind{"waiting_reason_find", R"(
SELECT at, body FROM waiting_reason WHERE job = $1::bigint AND at <= $2::timestamptz
ORDER BY at DESC LIMIT 1)"};

constexpr Statement kForget{"waiting_reason_forget", R"(
DELETE FROM waiting_reason WHERE (job, at) IN (
  SELECT job, at FROM waiting_reason WHERE at < $1::timestamptz ORDER BY at LIMIT $2::integer)
RETURNING job)"};

}  // namespace

void PgWaitingReasons::add(const std::vector<WaitingReasonRow>& rows) {
  Params params;
  params.column(rows, [](const WaitingReasonRow& r) { return r.job; })
      .column(rows, [](const WaitingReasonRow& r) { return r.at; })
      .column(rows, [](const WaitingReasonRow& r) -> std::string_view { return r.body; });
  session_.run(kAdd, std::move(params));
}

std::optional<WaitingReasonRow> PgWaitingReasons::find(JobId job, Instant at) {
  Params params;
  params.bigint(job.value).timestamptz(at);
  const Result result = session_.run(kFind, std::move(params));
  if (result.rows() == 0) return std::nullopt;
  RowReader row(result, 0);
  const Instant when = row.timestamptz();
  return WaitingReasonRow{job, when, row.text()};
}

bool PgWaitingReasons::forget(Instant before, int most) {
  Params params;
  params.timestamptz(before).integer(most);
  return session_.run(kForget, std::move(params)).rows() == most;
}

}  // namespace tutti::db
