// What each statement reads by is in sql/migrations/0017_history.sql.
#include "db/pg/pg_history.h"

#include <algorithm>
#include <map>
#include <utility>

#include "db/pg/reader_parts.h"
#include "db/pg/row_codec.h"
#include "db/too_much.h"

namespace tutti::db {
namespace {

std::int64_t history_page(int wanted) { return std::clamp(wanted, 1, kMostHistoryPage); }

// Three parameters: everything (1), or what is of these projects or of that owner.
void add_visible(const std::optional<Visible>& visible, Params& params) {
  const std::vector<std::string> none;
  params.integer(visible ? 0 : 1)
      .column(visible ? visible->projects : none, [](const std::string& p) -> std::string_view { return p; })
      .text(visible ? visible->owner : "");
}

// ---------------------------------------------------------------- decisions

constexpr Statement kFirstEvent{"history_first", R"(
SELECT min(at) FROM ((SELECT at FROM job_event ORDER BY id LIMIT 1) UNION ALL
                     (SELECT event_at FROM job_array WHERE told ORDER BY last_event LIMIT 1) UNION ALL
                     (SELECT at FROM node_event ORDER BY id LIMIT 1)) f)"};

// What a decision is: decision_word() in db/history.cpp.
constexpr Statement kDensity{"history_density", R"(
WITH told AS (
  SELECT at, 1 AS decision, (to_name = 'starting')::integer AS start, (kind = 'preempt')::integer AS preemption,
         0 AS fault
  FROM job_event
  WHERE at >= $1::timestamptz AND at < $2::timestamptz AND
        (kind = 'preempt' OR (kind = 'state' AND from_name <> '' AND to_name <> 'running'))
  UNION ALL
  SELECT at, 1, 0, 0, 0 FROM node_event
  WHERE at >= $1::timestamptz AND at < $2::timestamptz AND
        (kind IN ('service', 'brake') OR (kind = 'gpu' AND to_name IN ('healthy', 'dirty', 'quarantined')))
  UNION ALL
  SELECT at, 0, 0, 0, 1 FROM fault WHERE at >= $1::timestamptz AND at < $2::timestamptz)
SELECT ((extract(epoch FROM at - $1::timestamptz) * 1000000)::bigint * $3::bigint / $4::bigint)::integer AS piece,
       sum(decision)::bigint, sum(start)::bigint, sum(preemption)::bigint, sum(fault)::bigint
FROM told GROUP BY 1)"};

// Each half by its own index of ids where the interval is long, or by that of time. Sent as it is and not
// prepared: which of them is better depends on the interval.
std::string decisions_text(bool newest_first) {
  const std::string after = newest_first ? "id < $3::bigint" : "id > $3::bigint";
  const std::string order = newest_first ? "id DESC" : "id";
  const std::string limit = " LIMIT $7::bigint";
  return R"(
SELECT u.id, u.at, u.job, u.node, u.epoch, u.kind, u.from_name, u.to_name, u.cause, u.detail,
       coalesce(n.name, ''), coalesce(a.gang::text, '[]')
FROM (
  (SELECT e.id, e.at, e.job, e.node, e.epoch, e.kind, e.from_name, e.to_name, e.cause, e.detail
   FROM job_event e
   WHERE e.at >= $1::timestamptz AND e.at < $2::timestamptz AND e.)" +
         after + R"( AND
         (e.kind = 'preempt' OR (e.kind = 'state' AND e.from_name <> '' AND e.to_name <> 'running')) AND
         ($4::integer = 1 OR
          EXISTS (SELECT FROM job j WHERE j.id = e.job AND (j.project = ANY($5::text[]) OR j.owner = $6::text)) OR
          EXISTS (SELECT FROM job_done d
                  WHERE d.id = e.job AND (d.project = ANY($5::text[]) OR d.owner = $6::text)))
   ORDER BY e.)" +
         order + limit + R"()
  UNION ALL
  (SELECT id, at, NULL::bigint, node, epoch, kind, from_name, to_name, cause, detail FROM node_event
   WHERE at >= $1::timestamptz AND at < $2::timestamptz AND )" +
         after + R"( AND
         (kind IN ('service', 'brake') OR (kind = 'gpu' AND to_name IN ('healthy', 'dirty', 'quarantined')))
   ORDER BY )" +
         order + limit + R"()
  ORDER BY )" +
         order + limit + R"() u
LEFT JOIN node n ON n.id = u.node
LEFT JOIN attempt a ON u.kind = 'state' AND u.to_name = 'starting' AND a.job = u.job AND a.epoch = u.epoch
ORDER BY u.)" +
         order;
}

Decision read_decision(RowReader& row) {
  Decision d{read_event(row), row.text(), {}};
  for (auto& member : gang_if_readable(row.bytes())) d.nodes.push_back(std::move(member.node_name));
  return d;
}

// ---------------------------------------------------------------- nodes and GPUs

// Of each thing the first change.
constexpr Statement kLater{"history_later", R"(
SELECT id, at, NULL::bigint, node, epoch, kind, from_name, to_name, cause, detail FROM (
  SELECT DISTINCT ON (kind, node, subject) * FROM (
    SELECT *, CASE WHEN kind <> 'gpu' THEN ''
                   WHEN to_name IN ('absent', 'present', 'added') THEN '+' || from_name
                   ELSE '-' || split_part(detail, ': ', 1) END AS subject
    FROM node_event
    WHERE at > $1::timestamptz AND kind IN ('node', 'service', 'gpu') AND to_name NOT IN ('', 'refused')) e
  ORDER BY kind, node, subject, id) f
ORDER BY id)"};

constexpr Statement kKnownSince{"history_known_since", "SELECT since FROM history_known"};

constexpr Statement kHolders{"history_holders", R"(
SELECT g.id, a.job, a.epoch, coalesce(j.project, d.project, ''), coalesce(j.owner, d.owner, ''),
       coalesce(t.preflight_at <= $1::timestamptz AND
                coalesce(t.starting_at, t.stopping_at, t.ended_at, 'infinity') > $1::timestamptz, false)
FROM gpu g
JOIN allocation a ON int8range(a.gpu, a.gpu, '[]') && int8range(g.id, g.id, '[]') AND
                     tstzrange(a.from_at, a.until_at) @> $1::timestamptz
LEFT JOIN attempt t ON t.job = a.job AND t.epoch = a.epoch
LEFT JOIN job j ON j.id = a.job
LEFT JOIN job_done d ON d.id = a.job)"};

// ---------------------------------------------------------------- jobs

// The state of each is its newest event. Those of a job begin with its submission: a day more is for a clock
// that was set back, and leaves out the partitions before. A task without rows of its own has one event.
constexpr Statement kJobs{"history_jobs", R"(
SELECT s.to_name, count(*) FROM (
  SELECT id, created_at FROM job WHERE created_at <= $1::timestamptz
  UNION ALL
  SELECT id, created_at FROM job_done WHERE ended_at > $1::timestamptz AND created_at <= $1::timestamptz) t
CROSS JOIN LATERAL (
  SELECT e.to_name FROM job_event e
  WHERE e.job = t.id AND e.kind = 'state' AND e.at <= $1::timestamptz AND e.at >= t.created_at - interval '1 day'
  ORDER BY e.id DESC LIMIT 1) s
GROUP BY 1
UNION ALL
SELECT event_to, tutti_tasks_in(waiting) FROM job_array
WHERE told AND created_at <= $1::timestamptz AND event_at <= $1::timestamptz)"};

constexpr Statement kEnded{"history_ended", R"(
SELECT n.name, count(*) FROM job_done d JOIN job_state_name n USING (state)
WHERE d.ended_at <= $1::timestamptz GROUP BY 1)"};

constexpr Statement kRan{"history_ran", R"(
SELECT d.queued_at, d.owner, d.queue, d.nodes * d.gpus_per_node, d.ran_us,
       coalesce(coalesce(p.changed_json, p.spec_json)::jsonb ->> 'time_limit', '')
FROM job_done d JOIN job_text p USING (id)
WHERE d.ended_at >= $1::timestamptz AND d.created_at >= $1::timestamptz AND d.created_at < $2::timestamptz AND
      d.ran_us > 0 AND d.gpus_per_node > 0
ORDER BY d.queued_at, d.id LIMIT $3::bigint)"};

constexpr Statement kDidNotRun{"history_did_not_run", R"(
SELECT (SELECT count(*) FROM job WHERE created_at >= $1::timestamptz AND created_at < $2::timestamptz) +
       (SELECT coalesce(sum(tutti_tasks_in(waiting)), 0)::bigint FROM job_array
        WHERE created_at >= $1::timestamptz AND created_at < $2::timestamptz) +
       (SELECT count(*) FROM job_done
        WHERE ended_at >= $1::timestamptz AND created_at >= $1::timestamptz AND created_at < $2::timestamptz AND
              NOT (ran_us > 0 AND gpus_per_node > 0)))"};

// queued_at moves when a job is released that was held: after its first start that wait is not the one that
// is asked for, and all that is known of it is when it was submitted.
constexpr Statement kWaits{"history_waits", R"(
SELECT width_bucket((extract(epoch FROM greatest(interval '0', a.placed_at - greatest(
                       CASE WHEN j.queued_at > a.placed_at THEN j.created_at ELSE j.queued_at END, p.begin_at)))
                     * 1000000)::bigint, $3::bigint[]), count(*)
FROM (SELECT id, created_at, queued_at FROM job
      WHERE project = $1::text AND created_at >= $2::timestamptz AND
            ($4::integer = 1 OR project = ANY($5::text[]) OR owner = $6::text)
      UNION ALL
      SELECT id, created_at, queued_at FROM job_done
      WHERE project = $1::text AND created_at >= $2::timestamptz AND ended_at >= $2::timestamptz AND
            ($4::integer = 1 OR project = ANY($5::text[]) OR owner = $6::text)) j
JOIN LATERAL (SELECT placed_at FROM attempt a WHERE a.job = j.id ORDER BY a.epoch LIMIT 1) a ON true
LEFT JOIN LATERAL (
  SELECT (coalesce(s.changed_json, s.spec_json)::jsonb ->> 'begin_time')::timestamptz AS begin_at
  FROM job_text s
  WHERE s.id = j.id AND coalesce(s.changed_json, s.spec_json) LIKE '%"begin_time":"%') p ON true
GROUP BY 1)"};

void add_counts(const Result& r, StateCounts& into) {
  for (int i = 0; i < r.rows(); ++i) {
    RowReader row(r, i);
    const auto state = parse_job_state(row.text());
    const auto jobs = row.bigint();
    if (state) into[static_cast<std::size_t>(*state)] += jobs;
  }
}

PastWaiting read_past_job(RowReader& r) {
  PastWaiting job;
  job.row = read_job(r);
  job.row.state = parse_job_state(r.text()).value_or(job.row.state);
  job.since = r.timestamptz();
  job.row.attempt = r.integer();
  job.name = r.text();
  job.reasons_body = r.text();
  return job;
}

// ---------------------------------------------------------------- of one node

constexpr Statement kNodeAttempts{"history_node_attempts", R"(
SELECT h.job, h.epoch, a.number, a.result, a.cause, p.name, coalesce(j.project, d.project, ''),
       coalesce(j.owner, d.owner, ''), h.gpus, h.from_at, h.until_at
FROM (
  SELECT al.job, al.epoch, '[' || string_agg(g.gpu_index::text, ',' ORDER BY g.gpu_index) || ']' AS gpus,
         min(al.from_at) AS from_at,
         CASE WHEN count(*) = count(al.until_at) THEN max(al.until_at) END AS until_at
  FROM gpu g JOIN allocation al ON int8range(al.gpu, al.gpu, '[]') && int8range(g.id, g.id, '[]')
  WHERE g.node = $1::bigint
  GROUP BY al.job, al.epoch
  ORDER BY min(al.from_at) DESC, al.job DESC, al.epoch DESC LIMIT $2::bigint OFFSET $3::bigint) h
JOIN attempt a ON a.job = h.job AND a.epoch = h.epoch
JOIN job_spec p ON p.id = h.job
LEFT JOIN job j ON j.id = h.job
LEFT JOIN job_done d ON d.id = h.job
ORDER BY h.from_at DESC, h.job DESC, h.epoch DESC)"};

constexpr Statement kInspections{"history_inspections", R"(
SELECT id, at, NULL::bigint, node, epoch, kind, from_name, to_name, cause, detail FROM node_event
WHERE node = $1::bigint AND kind = 'inspection' AND id < $2::bigint ORDER BY id DESC LIMIT $3::bigint)"};

constexpr Statement kBlamed{"history_blamed", R"(
SELECT node, at, shared_by FROM fault
WHERE shared_by > 0 AND node IS NOT NULL AND at >= $1::timestamptz ORDER BY id DESC LIMIT $2::bigint)"};

std::vector<std::int32_t> parse_indices(std::string_view list) {
  std::vector<std::int32_t> out;
  std::int32_t n = 0;
  for (const char c : list.substr(1)) {  // "[0,1]"
    if (c >= '0' && c <= '9') {
      n = n * 10 + (c - '0');
    } else {
      out.push_back(std::exchange(n, 0));
    }
  }
  return out;
}

NodeAttempt read_node_attempt(RowReader& row) {
  NodeAttempt a;
  a.row.job = JobId(row.bigint());
  a.row.epoch = Epoch(row.bigint());
  a.row.number = row.integer();
  a.row.result = static_cast<AttemptResult>(row.smallint());
  a.row.cause = static_cast<Cause>(row.smallint());
  a.job_name = row.text();
  a.project = row.text();
  a.owner = row.text();
  a.gpus = parse_indices(row.bytes());
  a.from = row.timestamptz();
  a.until = row.timestamptz_or_null();
  return a;
}

}  // namespace

std::optional<Instant> PgHistory::first_event() {
  const Result r = session_.run(kFirstEvent);
  RowReader row(r, 0);
  return row.timestamptz_or_null();
}

std::vector<DecisionCount> PgHistory::density(Instant since, Instant until, int pieces) {
  Params params;
  params.timestamptz(since).timestamptz(until).bigint(pieces).bigint((until - since).count());
  const Result r = session_.run(kDensity, std::move(params));
  std::vector<DecisionCount> out(static_cast<std::size_t>(pieces));
  for (int i = 0; i < r.rows(); ++i) {
    RowReader row(r, i);
    auto& piece = out.at(static_cast<std::size_t>(row.integer()));
    piece.decisions = row.bigint();
    piece.starts = row.bigint();
    piece.preemptions = row.bigint();
    piece.faults = row.bigint();
  }
  return out;
}

std::vector<Decision> PgHistory::decisions(const DecisionQuery& q) {
  const std::string text = decisions_text(q.newest_first);
  const std::int64_t begin = q.newest_first ? INT64_MAX : INT64_MIN;
  Params params;
  params.timestamptz(q.since).timestamptz(q.until).bigint(q.after ? q.after.value : begin);
  add_visible(q.visible, params);
  params.bigint(history_page(q.limit));
  return rows_of<Decision>(session_.run({"", text.c_str()}, std::move(params)), read_decision);
}

// Nodes and GPUs before what came later: a change between two statements is then taken back, or not seen.
PastMachines PgHistory::machines(Instant at) {
  const auto nodes = rows_of<NodeRow>(
      session_.run({"history_nodes", (std::string("SELECT ") + kNodeColumns + " FROM node").c_str()}),
      read_node);
  const auto gpus = rows_of<GpuRow>(
      session_.run({"history_gpus", (std::string("SELECT ") + kGpuColumns + " FROM gpu").c_str()}), read_gpu);
  Params params;
  params.timestamptz(at);
  const auto later = rows_of<EventRow>(session_.run(kLater, std::move(params)), read_event);
  PastMachines out{taken_back(nodes, gpus, later, at), std::nullopt};
  find_holders(at, out);
  const Result known = session_.run(kKnownSince);
  if (known.rows() == 1) {
    RowReader row(known, 0);
    out.known_since = row.timestamptz();
  }
  return out;
}

void PgHistory::find_holders(Instant at, PastMachines& machines) {
  Params params;
  params.timestamptz(at);
  const Result r = session_.run(kHolders, std::move(params));
  std::map<GpuId, PastHolder> holders;
  for (int i = 0; i < r.rows(); ++i) {
    RowReader row(r, i);
    PastHolder& holder = holders[GpuId(row.bigint())];
    holder.attempt.job = JobId(row.bigint());
    holder.attempt.epoch = Epoch(row.bigint());
    holder.project = row.text();
    holder.owner = row.text();
    holder.preflight = row.boolean();
  }
  for (auto& node : machines.nodes)
    for (auto& gpu : node.gpus)
      if (const auto held = holders.find(gpu.row.id); held != holders.end())
        gpu.holder = std::move(held->second);
}

PastJobs PgHistory::jobs(Instant at) {
  Params params;
  params.timestamptz(at);
  PastJobs out;
  add_counts(session_.run(kJobs, std::move(params)), out.by_state);
  out.ended_known = count_ended(at, out.by_state);
  return out;
}

// It grows with all that ever ended. Where that is too much for the time a statement has, the other numbers
// are told nevertheless, and it is not tried for a while.
bool PgHistory::count_ended(Instant at, StateCounts& into) {
  constexpr std::chrono::minutes kPause{10};
  const auto now = std::chrono::steady_clock::now();
  if (now < ended_again_) return false;
  Params params;
  params.timestamptz(at);
  try {
    add_counts(session_.run(kEnded, std::move(params)), into);
    return true;
  } catch (const TooMuch&) {
    ended_again_ = now + kPause;
    return false;
  }
}

// Bounded before states are looked up. How many there were is told even where none of them waited: the outer
// side of the last join has always a row.
PastQueue PgHistory::queue(Instant at, const std::optional<Visible>& visible, int most) {
  Params params;
  params.timestamptz(at).bigint(std::clamp(most, 1, kMostPastJobs));
  add_visible(visible, params);
  const Result r = session_.run(
      {"history_queue",
       (std::string("WITH there AS (SELECT * FROM (SELECT ") + kJobColumns +
        " FROM job j WHERE j.created_at <= $1::timestamptz UNION ALL SELECT " + kJobColumns +
        " FROM (SELECT x.id AS array_id, sum(tutti_tasks_in(x.waiting)) OVER (ORDER BY x.priority DESC, "
        "x.queued_at, x.id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before FROM job_array x "
        "WHERE x.created_at <= $1::timestamptz AND ($3::integer = 1 OR x.project = ANY($4::text[]) OR "
        "x.owner = $5::text)) n JOIN job_array a ON a.id = n.array_id "
        "CROSS JOIN LATERAL tutti_first_tasks(a.waiting, $2::bigint + 1) i(task) "
        "CROSS JOIN LATERAL tutti_task(a, i.task) j WHERE coalesce(n.before, 0) <= $2::bigint "
        "UNION ALL SELECT " +
        kJobColumns +
        " FROM job_done j WHERE j.ended_at > $1::timestamptz AND j.created_at <= $1::timestamptz) t "
        "WHERE $3::integer = 1 OR t.project = ANY($4::text[]) OR t.owner = $5::text "
        "ORDER BY t.priority DESC, t.queued_at, t.id LIMIT $2::bigint + 1), "
        "seen AS (SELECT * FROM there ORDER BY priority DESC, queued_at, id LIMIT $2::bigint), "
        "waiting AS (SELECT t.*, s.to_name, s.at, "
        "coalesce((SELECT a.number FROM attempt a WHERE a.job = t.id AND a.placed_at <= $1::timestamptz "
        "ORDER BY a.epoch DESC LIMIT 1), 0) AS attempts, "
        "coalesce((SELECT p.name FROM job_spec p WHERE p.id = t.id), "
        "(SELECT a.name FROM tutti_array_of(t.id) a), '') AS name, coalesce(w.body, '') AS body "
        "FROM seen t CROSS JOIN LATERAL ((SELECT e.id, e.to_name, e.at FROM job_event e WHERE e.job = t.id "
        "AND "
        "e.kind = 'state' AND e.at <= $1::timestamptz AND e.at >= t.created_at - interval '1 day' "
        "ORDER BY e.id DESC LIMIT 1) UNION ALL (SELECT e.id, e.to_name, e.at FROM tutti_array_of(t.id) a "
        "CROSS JOIN LATERAL tutti_task_event(a, t.id) e WHERE e.at <= $1::timestamptz) "
        "ORDER BY id DESC LIMIT 1) s "
        "LEFT JOIN LATERAL (SELECT r.body FROM waiting_reason r WHERE r.job = t.id AND r.at >= s.at AND "
        "r.at <= $1::timestamptz ORDER BY r.at DESC LIMIT 1) w ON s.to_name = 'queued' "
        "WHERE s.to_name IN ('queued', 'delayed', 'blocked', 'held')) "
        "SELECT c.jobs > $2::bigint, q.id IS NOT NULL, q.* FROM (SELECT count(*) AS jobs FROM there) c "
        "LEFT JOIN waiting q ON true ORDER BY q.priority DESC, q.queued_at, q.id")
           .c_str()},
      std::move(params));
  PastQueue out;
  for (int i = 0; i < r.rows(); ++i) {
    RowReader row(r, i);
    out.cut = row.boolean();
    if (row.boolean()) out.jobs.push_back(read_past_job(row));
  }
  return out;
}

RanJobs PgHistory::ran(Instant since, Instant until, int most) {
  most = std::clamp(most, 1, kMostPastJobs);
  Params params, same;
  params.timestamptz(since).timestamptz(until).bigint(most + 1);
  RanJobs out;
  out.jobs = rows_of<RanJob>(session_.run(kRan, std::move(params)), [](RowReader& row) {
    RanJob job;
    job.queued_at = row.timestamptz();
    job.owner = row.text();
    job.queue = row.text();
    job.gpus = row.integer();
    job.ran = Duration(row.bigint());
    job.time_limit = row.text();
    return job;
  });
  out.cut = out.jobs.size() > static_cast<std::size_t>(most);
  if (out.cut) out.jobs.pop_back();
  same.timestamptz(since).timestamptz(until);
  const Result others = session_.run(kDidNotRun, std::move(same));
  RowReader row(others, 0);
  out.others = row.bigint();
  return out;
}

std::vector<NodeAttempt> PgHistory::node_attempts(NodeId node, int limit, int skip) {
  Params params;
  params.bigint(node.value).bigint(history_page(limit)).bigint(std::max(skip, 0));
  return rows_of<NodeAttempt>(session_.run(kNodeAttempts, std::move(params)), read_node_attempt);
}

std::vector<EventRow> PgHistory::inspections(NodeId node, int limit, EventId before) {
  Params params;
  params.bigint(node.value).bigint(before ? before.value : INT64_MAX).bigint(history_page(limit));
  return rows_of<EventRow>(session_.run(kInspections, std::move(params)), read_event);
}

std::vector<FaultRow> PgHistory::blamed(Instant since) {
  Params params;
  params.timestamptz(since).bigint(kMostBlamed);
  auto out = rows_of<FaultRow>(session_.run(kBlamed, std::move(params)), [](RowReader& row) {
    FaultRow fault;
    fault.node = NodeId(row.bigint());
    fault.at = row.timestamptz();
    fault.shared_by = row.integer();
    return fault;
  });
  std::ranges::reverse(out);
  return out;
}

WaitCounts PgHistory::waits(const std::string& project, const std::optional<Visible>& visible, Instant since,
                            const std::vector<Duration>& bounds) {
  Params params;
  params.text(project).timestamptz(since).column(
      bounds, [](Duration d) { return static_cast<std::int64_t>(d.count()); });
  add_visible(visible, params);
  const Result r = session_.run(kWaits, std::move(params));
  WaitCounts out{std::vector<std::int64_t>(bounds.size() + 1)};
  for (int i = 0; i < r.rows(); ++i) {
    RowReader row(r, i);
    auto& step = out.below.at(static_cast<std::size_t>(row.integer()));
    step = row.bigint();
  }
  return out;
}

}  // namespace tutti::db
