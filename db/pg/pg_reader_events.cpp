// PgReader: the history of jobs and nodes.
#include <algorithm>

#include "db/pg/pg_reader.h"
#include "db/pg/reader_parts.h"
#include "db/pg/row_codec.h"

namespace tutti::db {
namespace {

// The next so many events of jobs and nodes together, behind $1; also those that tasks of an array would
// have.
std::string both_histories(const std::string& limit) {
  const std::string tail = " WHERE id > $1::bigint ORDER BY id LIMIT " + limit + "::bigint";
  return std::string("(SELECT ") + kJobEventColumns + " FROM job_event" + tail + ") UNION ALL (SELECT " +
         kNodeEventColumns + " FROM node_event" + tail + ") UNION ALL (SELECT " + kJobEventColumns +
         " FROM tutti_task_events($1::bigint, " + limit + "::bigint)) ORDER BY id LIMIT " + limit +
         "::bigint";
}
constexpr const char* kPlace =
    "coalesce(j.project, d.project, f.project, '') AS project, coalesce(j.owner, d.owner, f.owner, '') AS "
    "owner";
constexpr const char* kJoinPlace =
    "LEFT JOIN job j ON j.id = e.job LEFT JOIN job_done d ON d.id = e.job LEFT JOIN LATERAL (SELECT "
    "a.project, "
    "a.owner FROM tutti_array_of(CASE WHEN j.id IS NULL AND d.id IS NULL THEN e.job END) a) f ON true";

// The event that the task $1 of an array would have, if it has no rows of its own.
constexpr const char* kOfTask =
    " FROM (SELECT t.* FROM tutti_array_of($1::bigint) a CROSS JOIN LATERAL tutti_task_event(a, $1::bigint) "
    "t) e ";

EventRow read_placed_event(RowReader& r) {
  EventRow event = read_event(r);
  event.project = r.text();
  event.owner = r.text();
  return event;
}

}  // namespace

std::vector<EventRow> PgReader::job_events(JobId job, EventId after, int limit) {
  static const std::string text =
      std::string("(SELECT ") + kJobEventColumns +
      " FROM job_event WHERE job = $1::bigint AND id > $2::bigint ORDER BY id LIMIT $3::bigint) UNION ALL"
      " (SELECT " +
      kJobEventColumns + kOfTask + "WHERE e.id > $2::bigint) ORDER BY id LIMIT $3::bigint";
  Params params;
  params.bigint(job.value).bigint(after.value).bigint(page(limit));
  return rows_of<EventRow>(run({"job_events", text.c_str()}, std::move(params)), read_event);
}

std::optional<EventRow> PgReader::last_state(JobId job, Instant at) {
  static const std::string text = std::string("(SELECT ") + kJobEventColumns +
                                  " FROM job_event WHERE job = $1::bigint AND at <= $2::timestamptz AND "
                                  "kind = 'state' ORDER BY id DESC LIMIT 1) UNION ALL (SELECT " +
                                  kJobEventColumns + kOfTask +
                                  "WHERE e.at <= $2::timestamptz) ORDER BY id DESC LIMIT 1";
  Params params;
  params.bigint(job.value).timestamptz(at);
  auto rows = rows_of<EventRow>(run({"last_state", text.c_str()}, std::move(params)), read_event);
  return rows.empty() ? std::nullopt : std::optional(std::move(rows.front()));
}

std::vector<EventRow> PgReader::all_events(EventId after, int limit) {
  static const std::string text = "SELECT e.*, " + std::string(kPlace) + " FROM (" + both_histories("$2") +
                                  ") e " + kJoinPlace + " ORDER BY e.id";
  Params params;
  params.bigint(after.value).bigint(page(limit));
  return rows_of<EventRow>(run({"all_events", text.c_str()}, std::move(params)), read_placed_event);
}

// What is seen is told even where nothing of it is visible: the outer side of the last join has always a row.
EventWindow PgReader::events_for(const Visible& who, EventId after, int limit) {
  Params params;
  params.bigint(after.value).bigint(kEventWindow).bigint(page(limit));
  const std::string visible = "(e.job IS NULL OR " + visible_in(who, "j", params) + " OR " +
                              visible_in(who, "d", params) + " OR " + visible_in(who, "f", params) + ")";
  const std::string text = "WITH w AS (" + both_histories("$2") +
                           "), s AS (SELECT coalesce(max(id), 0) AS seen, count(*) AS looked_at FROM w), "
                           "f AS (SELECT e.*, " +
                           kPlace + " FROM w e " + kJoinPlace + " WHERE " + visible +
                           " ORDER BY e.id LIMIT $3::bigint) "
                           "SELECT s.seen, s.looked_at, f.id IS NOT NULL, f.* FROM s LEFT JOIN f ON true "
                           "ORDER BY f.id";
  const Result r = run({"", text.c_str()}, std::move(params));
  EventWindow out;
  out.seen = after;
  for (int i = 0; i < r.rows(); ++i) {
    RowReader row(r, i);
    const EventId seen(row.bigint());
    const auto looked_at = row.bigint();
    out.seen = std::max(out.seen, seen);
    out.end = looked_at < kEventWindow;
    if (row.boolean()) out.rows.push_back(read_placed_event(row));
  }
  if (static_cast<std::int64_t>(out.rows.size()) == page(limit)) {  // and there may be more behind it
    out.end = out.end && out.rows.back().id == out.seen;
    out.seen = out.rows.back().id;
  }
  return out;
}

std::vector<EventRow> PgReader::attempt_events(AttemptKey attempt, int limit) {
  static const std::string text = std::string("SELECT * FROM (SELECT ") + kJobEventColumns +
                                  " FROM job_event WHERE job = $1::bigint AND epoch = $2::bigint ORDER BY id "
                                  "DESC LIMIT $3::bigint) newest"
                                  " ORDER BY id";
  Params params;
  params.bigint(attempt.job.value).bigint(attempt.epoch.value).bigint(page(limit));
  return rows_of<EventRow>(run({"attempt_events", text.c_str()}, std::move(params)), read_event);
}

}  // namespace tutti::db
