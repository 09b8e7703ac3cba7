// PgReader::usage: one statement that gathers facts (time held, placed, ended) of an interval, and sums them.
// And recovery_times.
//
// Reads every attempt and allocation that touches the interval: seconds for a year of a large cluster. The
// session's statement timeout bounds it.
#include <algorithm>
#include <array>

#include "db/pg/pg_reader.h"

namespace tutti::db {
namespace {

// $1 and $2 are the interval. GPUs of a gang are held and freed together, so they are counted before their
// time is cut into days. What was lost is the last part of the time that they were held.
constexpr const char* kHeld = R"(
WITH of_job AS (
  SELECT id, project, owner, queue, queued_at FROM job UNION ALL
  SELECT id, project, owner, queue, queued_at FROM job_done),
held AS (
  SELECT a.job, a.number, a.cause, a.placed_at, a.ended_at,
         CASE WHEN jsonb_typeof(a.gang) = 'array' THEN jsonb_array_length(a.gang) ELSE 0 END AS nodes
  FROM attempt a
  WHERE a.placed_at < $2::timestamptz AND (a.ended_at IS NULL OR a.ended_at >= $1::timestamptz)),
gpu AS (
  SELECT job, epoch, from_at, until_at, count(*) AS gpus FROM allocation
  WHERE tstzrange(from_at, until_at) && tstzrange($1::timestamptz, $2::timestamptz)
  GROUP BY job, epoch, from_at, until_at),
spans AS (
  SELECT h.job, h.cause, greatest(h.placed_at, $1::timestamptz) AS begins,
         least(coalesce(h.ended_at, $2::timestamptz), $2::timestamptz) AS ends, 0::bigint AS gpus,
         h.nodes::bigint AS nodes, 0::bigint AS lost
  FROM held h
  UNION ALL
  SELECT g.job, a.cause, greatest(g.from_at, $1::timestamptz),
         least(coalesce(g.until_at, $2::timestamptz), $2::timestamptz), g.gpus, 0, 0
  FROM gpu g JOIN attempt a ON a.job = g.job AND a.epoch = g.epoch
  UNION ALL
  SELECT g.job, a.cause,
         greatest(g.from_at, g.until_at - a.lost_gpu_us / g.gpus * interval '1 microsecond', $1::timestamptz),
         least(g.until_at, $2::timestamptz), 0, 0, g.gpus
  FROM gpu g JOIN attempt a ON a.job = g.job AND a.epoch = g.epoch
  WHERE a.lost_gpu_us > 0 AND g.until_at IS NOT NULL),
)";

constexpr const char* kPiecesOfDays = R"(
pieces AS (
  SELECT s.job, s.cause, d AS day, s.gpus, s.nodes, s.lost,
         extract(epoch FROM least(d + interval '24 hours', s.ends) - greatest(d, s.begins)) * 1000000 AS us
  FROM spans s
  CROSS JOIN LATERAL generate_series(date_trunc('day', s.begins, 'UTC'), s.ends - interval '1 microsecond',
                                     interval '24 hours') d
  WHERE s.ends > s.begins),
)";
constexpr const char* kWholePieces = R"(
pieces AS (
  SELECT s.job, s.cause, NULL::timestamptz AS day, s.gpus, s.nodes, s.lost,
         extract(epoch FROM s.ends - s.begins) * 1000000 AS us
  FROM spans s WHERE s.ends > s.begins),
)";

// `DAY(x)` stands for the day in which x lies, or for nothing.
constexpr const char* kFacts = R"(
facts AS (
  SELECT job, cause, day, 0 AS placed, (gpus * us)::bigint AS gpu_us, (nodes * us)::bigint AS node_us,
         (lost * us)::bigint AS lost_us, NULL::double precision AS wait_us, 0 AS ended_as
  FROM pieces
  UNION ALL
  SELECT h.job, h.cause, DAY(h.placed_at), 1, 0, 0, 0,
         CASE WHEN h.number = 1
              THEN greatest(0, extract(epoch FROM h.placed_at - greatest(j.queued_at, p.begin_at)) * 1000000) END, 0
  FROM held h JOIN of_job j ON j.id = h.job
  LEFT JOIN LATERAL (
    SELECT (coalesce(s.changed_json, s.spec_json)::jsonb ->> 'begin_time')::timestamptz AS begin_at
    FROM job_text s
    WHERE s.id = h.job AND coalesce(s.changed_json, s.spec_json) LIKE '%"begin_time":"%') p ON true
  WHERE h.placed_at >= $1::timestamptz
  UNION ALL
  SELECT d.id, d.cause, DAY(d.ended_at), 0, 0, 0, 0, NULL, d.state
  FROM job_done d WHERE d.ended_at >= $1::timestamptz AND d.ended_at < $2::timestamptz)
)";

std::string facts(bool by_day) {
  std::string text = kFacts;
  for (auto at = text.find("DAY("); at != text.npos; at = text.find("DAY(", at)) {
    const auto close = text.find(')', at);
    const std::string instant = text.substr(at + 4, close - at - 4);
    text.replace(at, close + 1 - at,
                 by_day ? "date_trunc('day', " + instant + ", 'UTC')" : "NULL::timestamptz");
  }
  return text;
}

constexpr const char* kSums = R"(
  count(DISTINCT f.job), coalesce(sum(f.placed), 0)::bigint, coalesce(sum(f.gpu_us), 0)::bigint,
  coalesce(sum(f.node_us), 0)::bigint, coalesce(sum(f.lost_us), 0)::bigint,
  count(*) FILTER (WHERE f.ended_as = 8), count(*) FILTER (WHERE f.ended_as = 9),
  count(*) FILTER (WHERE f.ended_as = 10),
  (percentile_cont(0.5) WITHIN GROUP (ORDER BY f.wait_us))::bigint,
  (percentile_cont(0.9) WITHIN GROUP (ORDER BY f.wait_us))::bigint)";

struct Key {
  UsageKey key;
  const char* column;
  const char* none;  // where the query does not group by it
};
constexpr auto kKeys = std::to_array<Key>({{UsageKey::project, "j.project", "''::text"},
                                           {UsageKey::user, "j.owner", "''::text"},
                                           {UsageKey::queue, "j.queue", "''::text"},
                                           {UsageKey::day, "f.day", "NULL::timestamptz"},
                                           {UsageKey::cause, "f.cause", "0::smallint"}});

std::string lost_by_cause() {
  std::string text;
  for (std::size_t c = 0; c < kCauseCount; ++c)
    text += ", coalesce(sum(f.lost_us) FILTER (WHERE f.cause = " + std::to_string(c) + "), 0)::bigint";
  return text;
}

const char* column_of(UsageKey key) { return std::ranges::find(kKeys, key, &Key::key)->column; }

std::string statement(const UsageQuery& query, Params& params) {
  const auto by = [&](UsageKey key) { return std::ranges::count(query.by, key) > 0; };
  std::string where = "true", groups, order;
  const auto is = [&](const char* column, const std::string& value) {
    if (value.empty()) return;
    params.text(value);
    where += std::string(" AND ") + column + " = $" + std::to_string(params.size()) + "::text";
  };
  is("j.project", query.project);
  is("j.owner", query.user);
  is("j.queue", query.queue);
  if (query.visible) {
    params.column(query.visible->projects, [](const std::string& p) -> std::string_view { return p; });
    params.text(query.visible->owner);
    where += " AND (j.project = ANY($" + std::to_string(params.size() - 1) + "::text[]) OR j.owner = $" +
             std::to_string(params.size()) + "::text)";
  }
  for (const UsageKey key : query.by) {
    groups += std::string(groups.empty() ? "" : ", ") + column_of(key);
    const bool text = key != UsageKey::day && key != UsageKey::cause;
    order += std::string(", ") + column_of(key) + (text ? " COLLATE \"C\"" : "");
  }
  const bool by_day = by(UsageKey::day);
  std::string out = kHeld;
  out.append(by_day ? kPiecesOfDays : kWholePieces).append(facts(by_day)).append("SELECT ");
  out += query.by.empty() ? "1" : std::string("grouping(") + column_of(query.by.front()) + ")";
  for (const Key& key : kKeys) {
    const std::string value = std::string(by(key.key) ? key.column : key.none);
    if (key.key == UsageKey::day)
      out += ", " + value;
    else  // of the total they are NULL
      out += ", coalesce(" + value + (key.key == UsageKey::cause ? ", 0::smallint)" : ", '')");
  }
  out.append(",").append(kSums).append(lost_by_cause());
  out += " FROM facts f JOIN of_job j ON j.id = f.job WHERE " + where;
  if (!query.by.empty())
    out += " GROUP BY GROUPING SETS ((" + groups + "), ()) ORDER BY 1 DESC" + order + " LIMIT " +
           std::to_string(kMaxUsageRows + 2);
  return out;
}

UsageRow read_row(RowReader& r) {
  UsageRow u;
  u.project = r.text();
  u.user = r.text();
  u.queue = r.text();
  u.day = r.timestamptz_or_null().value_or(Instant{});
  u.cause = static_cast<Cause>(r.smallint());
  u.jobs = r.bigint();
  u.attempts = r.bigint();
  u.gpu = Duration(r.bigint());
  u.node = Duration(r.bigint());
  u.lost = Duration(r.bigint());
  u.succeeded = r.bigint();
  u.failed = r.bigint();
  u.cancelled = r.bigint();
  const auto seconds = [](std::optional<std::int64_t> micros) {
    return micros ? std::optional(static_cast<double>(*micros) / 1e6) : std::nullopt;
  };
  u.wait_p50 = seconds(r.bigint_or_null());
  u.wait_p90 = seconds(r.bigint_or_null());
  for (auto& lost : u.lost_by) lost = Duration(r.bigint());
  return u;
}

}  // namespace

Usage PgReader::usage(const UsageQuery& query) {
  Params params;
  params.timestamptz(query.since).timestamptz(query.until);
  const std::string text = statement(query, params);
  const Result r = run({"", text.c_str()}, std::move(params));
  Usage out;
  for (int i = 0; i < r.rows(); ++i) {
    RowReader row(r, i);
    const bool total = row.integer() == 1;
    UsageRow sums = read_row(row);
    if (total)
      out.total = std::move(sums);
    else if (out.rows.size() < kMaxUsageRows)
      out.rows.push_back(std::move(sums));
    else
      out.cut = true;
  }
  return out;
}

RecoveryTimes PgReader::recovery_times(Instant since, Instant until, const std::vector<Cause>& causes) {
  Params params;
  params.timestamptz(since).timestamptz(until);
  params.column(causes, [](Cause cause) { return static_cast<std::int16_t>(cause); });
  params.integer(static_cast<int>(AttemptResult::failed));
  // No index of attempts knows of times: those of the jobs are looked at that were not over before, and were
  // there already. A day more, since fault_at is by the clock of a node. OFFSET keeps the planner from
  // reading all attempts instead: it takes the two times for independent, and expects too many jobs.
  const Result r = run({"", R"(
WITH there AS (
  SELECT id FROM job WHERE created_at < $2::timestamptz + interval '1 day'
  UNION ALL
  SELECT id FROM job_done
  WHERE ended_at >= $1::timestamptz - interval '1 day' AND created_at < $2::timestamptz + interval '1 day')
SELECT s.stage, count(*), (percentile_cont(0.5) WITHIN GROUP (ORDER BY s.us))::bigint,
       (percentile_cont(0.99) WITHIN GROUP (ORDER BY s.us))::bigint
FROM there
CROSS JOIN LATERAL (SELECT * FROM attempt x WHERE x.job = there.id OFFSET 0) a
LEFT JOIN attempt b ON b.job = a.job AND b.number = a.number + 1
CROSS JOIN LATERAL (
  SELECT t.stage, greatest(0, extract(epoch FROM t.at - a.fault_at) * 1000000)::double precision AS us
  FROM (VALUES (0, a.stopping_at), (1, a.ended_at), (2, b.placed_at), (3, b.running_at), (4, b.restored_at),
               (5, b.caught_up_at)) t(stage, at)
  WHERE t.at IS NOT NULL) s
WHERE a.fault_at >= $1::timestamptz AND a.fault_at < $2::timestamptz AND a.cause = ANY ($3::smallint[])
  AND a.result = $4::integer
GROUP BY s.stage)"},
                       std::move(params));
  RecoveryTimes out{};
  for (int i = 0; i < r.rows(); ++i) {
    RowReader row(r, i);
    StageTimes& stage = out.at(static_cast<std::size_t>(row.integer()));
    stage.attempts = row.bigint();
    stage.p50 = static_cast<double>(row.bigint()) / 1e6;
    stage.p99 = static_cast<double>(row.bigint()) / 1e6;
  }
  return out;
}

}  // namespace tutti::db
