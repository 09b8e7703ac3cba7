#include "db/pg/pg_retention.h"

#include <algorithm>

namespace tutti::db {
namespace {

constexpr Statement kDropPartition{"retention_partition",
                                   "SELECT coalesce(job_event_drop_partition($1::timestamptz), '')"};
constexpr Statement kForgetJobs{"retention_jobs", "SELECT tutti_forget_jobs($1::timestamptz, $2::integer)"};
constexpr Statement kForgetRecords{"retention_records",
                                   "SELECT tutti_forget_records($1::timestamptz, $2::integer)"};
constexpr Statement kForgetTexts{"retention_texts", "SELECT tutti_forget_texts($1::integer)"};
constexpr Statement kClock{"retention_clock", "SELECT clock_timestamp()"};
// Keys are remembered for a week, counted on the clocks of the leaders that wrote them: a database that stood
// still for a month forgets none for it. One that was dated ahead, while such a clock was wrong, is not
// believed. No index tells the oldest; the first rows of the table are.
constexpr Statement kForgetKeys{"retention_keys", R"(
WITH gone AS (
  DELETE FROM idempotency_key WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM idempotency_key
    WHERE created_at < (SELECT least(max(created_at), now()) FROM idempotency_key) - interval '7 days'
    LIMIT $1::integer))
  RETURNING 1)
SELECT count(*) FROM gone)"};
// Of events the lowest id: the smallest `at` would cost a look at all of them. Clocks that were set back make
// them differ, so it is not taken at its word.
constexpr Statement kOldest{"retention_oldest", R"(
SELECT least((SELECT min(ended_at) FROM job_done), (SELECT min(at) FROM fault),
             (SELECT at FROM job_event ORDER BY id LIMIT 1), (SELECT at FROM node_event ORDER BY id LIMIT 1),
             (SELECT event_at FROM job_array WHERE told ORDER BY last_event LIMIT 1)))"};
constexpr Duration kClocksDiffer = std::chrono::days(1);

// Each gives at, id and a JSON object with names for numbers. $1, $2: the place; $3: until; $4: so many rows.
// What is text in the table stays text: a spec that was changed by hand may be no JSON.
// Specs and evidence may be large: of jobs a page ends with the one that brings it to 16 MiB.
constexpr int kJobsOfAPage = 200;
constexpr Statement kReadJobs{"retention_read_jobs", R"(
SELECT ended_at, id, line FROM (
SELECT ended_at, id, line,
       sum(octet_length(line)) OVER (ORDER BY ended_at, id) - octet_length(line) AS before FROM (
SELECT d.ended_at, d.id, (to_jsonb(d) || jsonb_build_object(
  'state', s.name, 'cause', c.name,
  'spec', (SELECT to_jsonb(p) - 'id' FROM job_text p WHERE p.id = d.id),
  'attempts', (
    SELECT coalesce(jsonb_agg(to_jsonb(a) - 'job' || jsonb_build_object(
             'state', ast.name, 'result', ar.name, 'cause', ac.name) ORDER BY a.epoch), '[]')
    FROM attempt a JOIN attempt_state_name ast USING (state) JOIN attempt_result_name ar USING (result)
    JOIN cause_name ac USING (cause) WHERE a.job = d.id),
  'allocations', (SELECT coalesce(jsonb_agg(to_jsonb(x) - 'job' ORDER BY x.epoch, x.gpu), '[]')
                  FROM allocation x WHERE x.job = d.id),
  'checkpoints', (
    SELECT coalesce(jsonb_agg(to_jsonb(k) - 'job' || jsonb_build_object('state', ks.name) ORDER BY k.at), '[]')
    FROM checkpoint k JOIN checkpoint_state_name ks USING (state) WHERE k.job = d.id)))::text AS line
FROM (SELECT * FROM job_done
      WHERE ended_at >= $1::timestamptz AND ended_at < $3::timestamptz AND (ended_at, id) > ($1::timestamptz, $2::bigint)
      ORDER BY ended_at, id LIMIT $4::integer) d
JOIN job_state_name s ON s.state = d.state JOIN cause_name c ON c.cause = d.cause) whole) counted
WHERE before < 16777216 ORDER BY ended_at, id)"};
// Also those that tasks of an array would have. Within an array their time is one, so the place is an id.
constexpr Statement kReadEvents{"retention_read_events", R"(
SELECT e.at, e.id, (to_jsonb(e) || jsonb_build_object('cause', c.name))::text
FROM ((SELECT id, at, job, node, epoch, cause, kind, from_name, to_name, detail FROM job_event
       WHERE at >= $1::timestamptz AND at < $3::timestamptz AND (at, id) > ($1::timestamptz, $2::bigint)
       ORDER BY at, id LIMIT $4::integer)
      UNION ALL
      (SELECT t.id, t.at, t.job, t.node, t.epoch, t.cause, t.kind, t.from_name, t.to_name, t.detail
       FROM job_array a
       CROSS JOIN LATERAL tutti_first_tasks(
         a.waiting * CASE WHEN a.event_at = $1::timestamptz
                          THEN int8multirange(int8range(a.id + ($2::bigint - a.first_event) + 1, NULL)) ELSE '{(,)}' END,
         $4::integer) i(task)
       CROSS JOIN LATERAL tutti_task_event(a, i.task) t
       WHERE a.told AND a.event_at >= $1::timestamptz AND a.event_at < $3::timestamptz
       ORDER BY t.at, t.id LIMIT $4::integer)
      ORDER BY at, id LIMIT $4::integer) e
JOIN cause_name c ON c.cause = e.cause ORDER BY e.at, e.id)"};
constexpr Statement kReadNodeEvents{"retention_read_node_events", R"(
SELECT e.at, e.id, (to_jsonb(e) || jsonb_build_object('cause', c.name))::text
FROM (SELECT * FROM node_event
      WHERE at >= $1::timestamptz AND at < $3::timestamptz AND (at, id) > ($1::timestamptz, $2::bigint)
      ORDER BY at, id LIMIT $4::integer) e
JOIN cause_name c ON c.cause = e.cause ORDER BY e.at, e.id)"};
constexpr Statement kReadFaults{"retention_read_faults", R"(
SELECT at, id, to_jsonb(f)::text FROM fault f
WHERE at >= $1::timestamptz AND at < $3::timestamptz AND (at, id) > ($1::timestamptz, $2::bigint)
ORDER BY at, id LIMIT $4::integer)"};

const Statement& reading(HistoryPart part) {
  switch (part) {
    case HistoryPart::jobs: return kReadJobs;
    case HistoryPart::events: return kReadEvents;
    case HistoryPart::node_events: return kReadNodeEvents;
    case HistoryPart::faults: return kReadFaults;
  }
  return kReadFaults;
}

}  // namespace

Instant PgRetention::clock() {
  const Result result = session_.run(kClock);
  return RowReader(result, 0).timestamptz();
}

std::int64_t PgRetention::forget_keys(int most) {
  Params params;
  params.integer(most);
  const Result result = session_.run(kForgetKeys, std::move(params));
  return RowReader(result, 0).bigint();
}

Forgotten PgRetention::forget(Instant before, int most) {
  Forgotten out;
  Params when;
  when.timestamptz(before);
  const Result dropped = session_.run(kDropPartition, std::move(when));
  out.partition = RowReader(dropped, 0).text();
  const auto rows = [&](const Statement& statement) {
    Params params;
    params.timestamptz(before).integer(most);
    const Result result = session_.run(statement, std::move(params));
    return RowReader(result, 0).bigint();
  };
  out.jobs = rows(kForgetJobs);
  const std::int64_t records = rows(kForgetRecords);
  Params texts;
  texts.integer(most);
  const Result forgotten = session_.run(kForgetTexts, std::move(texts));
  out.more = RowReader(forgotten, 0).bigint() == most || out.jobs == most || records == most ||
             !out.partition.empty();
  return out;
}

std::optional<Instant> PgRetention::oldest() {
  const Result result = session_.run(kOldest);
  const auto at = RowReader(result, 0).timestamptz_or_null();
  return at ? std::optional(*at - kClocksDiffer) : std::nullopt;
}

HistoryPage PgRetention::read(HistoryPart part, HistoryPlace after, Instant until, int most) {
  if (part == HistoryPart::jobs) most = std::min(most, kJobsOfAPage);
  Params params;
  params.timestamptz(after.at).bigint(after.id).timestamptz(until).integer(most);
  const Result result = session_.run(reading(part), std::move(params));
  HistoryPage page;
  page.last = after;
  for (int i = 0; i < result.rows(); ++i) {
    RowReader row(result, i);
    page.last.at = row.timestamptz();
    page.last.id = row.bigint();
    page.lines.push_back(row.text());
  }
  return page;
}

}  // namespace tutti::db
