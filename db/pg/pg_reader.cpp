#include "db/pg/pg_reader.h"

#include <algorithm>

#include "db/pg/row_codec.h"

namespace tutti::db {
namespace {

std::int64_t page(int wanted) { return std::clamp(wanted, 1, kMaxPage); }

JobView read_view(RowReader& r) {
  JobView v;
  v.name = r.text();
  v.spec_json = r.text();
  v.submitted_json = r.text();
  v.initial_state = static_cast<JobState>(r.smallint());
  v.ended_at = r.timestamptz_or_null();
  v.exit_code = r.integer();
  v.row = read_job(r);
  return v;
}

// As it holds, and as it was submitted if that is something else.
constexpr const char* kSpecColumns =
    "p.name, coalesce(p.changed_json, p.spec_json), "
    "CASE WHEN p.changed_json IS NULL THEN '' ELSE p.spec_json END, p.initial_state";

// One half of a list: the newest rows of `table` that pass. Parts that are not asked for do not appear, so
// that the planner sees which index fits.
std::string half(const std::string& table, const std::string& ended, const std::string& conditions) {
  return "(SELECT p.name, '' AS spec_json, '' AS submitted_json, p.initial_state, " + ended + ", " +
         kJobColumns + " FROM " + table + " j JOIN job_spec p USING (id) WHERE " + conditions +
         " ORDER BY j.id DESC LIMIT $2)";
}

// Of a table or a join that may have no row: then it is not visible.
std::string visible_in(const Visible& who, const std::string& alias, Params& params) {
  params.column(who.projects, [](const std::string& p) -> std::string_view { return p; }).text(who.owner);
  const int n = params.size();
  return "(" + alias + ".project = ANY($" + std::to_string(n - 1) + "::text[]) OR " + alias + ".owner = $" +
         std::to_string(n) + "::text)";
}

// The next so many events of jobs and nodes together, behind $1.
std::string both_histories(const std::string& limit) {
  const std::string tail = " WHERE id > $1::bigint ORDER BY id LIMIT " + limit + "::bigint";
  return std::string("(SELECT ") + kJobEventColumns + " FROM job_event" + tail + ") UNION ALL (SELECT " +
         kNodeEventColumns + " FROM node_event" + tail + ") ORDER BY id LIMIT " + limit + "::bigint";
}
constexpr const char* kPlace =
    "coalesce(j.project, d.project, '') AS project, coalesce(j.owner, d.owner, '') AS owner";
constexpr const char* kJoinPlace = "LEFT JOIN job j ON j.id = e.job LEFT JOIN job_done d ON d.id = e.job";

EventRow read_placed_event(RowReader& r) {
  EventRow event = read_event(r);
  event.project = r.text();
  event.owner = r.text();
  return event;
}

// What a filter asks of a job `j` and its spec `p`, each part behind an AND. Parts that are not asked for do
// not appear.
std::string conditions_of(const JobFilter& filter, Params& params) {
  std::string conditions;
  const auto is = [&](const char* column, const std::string& value) {
    if (value.empty()) return;
    params.text(value);
    conditions += std::string(" AND ") + column + " = $" + std::to_string(params.size()) + "::text";
  };
  is("j.project", filter.project);
  is("j.queue", filter.queue);
  is("j.owner", filter.owner);
  is("p.name", filter.name);
  // The index holds the first 200 characters (0003_job.sql).
  if (!filter.name.empty())
    conditions += " AND left(p.name, 200) = left($" + std::to_string(params.size()) + "::text, 200)";
  if (!filter.name_part.empty()) {
    params.text(filter.name_part);
    conditions += " AND strpos(lower(p.name COLLATE \"C\"), lower($" + std::to_string(params.size()) +
                  "::text COLLATE \"C\")) > 0";
  }
  if (filter.since) {
    params.timestamptz(*filter.since);
    conditions += " AND j.created_at >= $" + std::to_string(params.size()) + "::timestamptz";
  }
  if (filter.until) {
    params.timestamptz(*filter.until);
    conditions += " AND j.created_at < $" + std::to_string(params.size()) + "::timestamptz";
  }
  const auto id = [&](const char* compare, JobId bound) {
    if (!bound) return;
    params.bigint(bound.value);
    conditions += std::string(" AND j.id ") + compare + " $" + std::to_string(params.size()) + "::bigint";
  };
  id(">=", filter.first);
  id("<=", filter.last);
  if (!filter.ids.empty()) {
    params.column(filter.ids, [](JobId id) { return id; });
    conditions += " AND j.id = ANY($" + std::to_string(params.size()) + "::bigint[])";
  }
  if (filter.visible) conditions += " AND " + visible_in(*filter.visible, "j", params);
  const auto one_of = [&](const char* column, const auto& values) {
    std::string numbers;
    for (const auto value : values)
      numbers += (numbers.empty() ? "" : ",") + std::to_string(static_cast<int>(value));
    if (!numbers.empty()) conditions += std::string(" AND ") + column + " IN (" + numbers + ")";
  };
  one_of("j.state", filter.states);
  one_of("j.cause", filter.causes);
  return conditions;
}

struct Halves {
  bool live = false, finished = false;
};
Halves halves_of(const JobFilter& filter) {
  Halves halves{.live = filter.states.empty(), .finished = filter.states.empty()};
  for (const JobState s : filter.states) (is_terminal(s) ? halves.finished : halves.live) = true;
  return halves;
}

std::string column_of(JobKey by) {
  switch (by) {
    case JobKey::state: return "j.state::text";
    case JobKey::project: return "j.project";
    case JobKey::queue: return "j.queue";
    case JobKey::user: return "j.owner";
    case JobKey::cause: return "j.cause::text";
    case JobKey::name: return "p.name";
  }
  return "''";
}

std::string named(JobKey by, std::string key) {
  if (by == JobKey::state) return std::string(name(static_cast<JobState>(std::stoi(key))));
  if (by == JobKey::cause) return std::string(name(static_cast<Cause>(std::stoi(key))));
  return key;
}

std::string conditions_of(const FaultFilter& filter, Params& params) {
  std::string conditions;
  const auto add = [&](const char* column, const char* type) {
    conditions += std::string(" AND ") + column + " $" + std::to_string(params.size()) + "::" + type;
  };
  const auto is = [&](const char* column, std::int64_t id) {
    if (id == 0) return;
    params.bigint(id);
    add(column, "bigint");
  };
  is("node =", filter.node.value);
  is("gpu =", filter.gpu.value);
  is("job =", filter.job.value);
  const auto time = [&](const char* compare, const std::optional<Instant>& at) {
    if (!at) return;
    params.timestamptz(*at);
    add(compare, "timestamptz");
  };
  time("at >=", filter.since);
  time("at <", filter.until);
  const auto text = [&](const char* column, const std::string& value) {
    if (value.empty()) return;
    params.text(value);
    add(column, "text");
  };
  text("fault_class =", filter.fault_class);
  text("action =", filter.action);
  return conditions;
}

std::string column_of(FaultKey by) {
  switch (by) {
    case FaultKey::nothing: return "''::text";
    case FaultKey::node: return "coalesce(node, 0)::text";
    case FaultKey::fault_class: return "fault_class";
    case FaultKey::gpu: return "coalesce(gpu, 0)::text";
    case FaultKey::action: return "action";
    case FaultKey::slot: return "CASE WHEN slot = '' THEN '' ELSE coalesce(node, 0) || ' ' || slot END";
  }
  return "''::text";
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

}  // namespace

PgReader::PgReader(PgReaderOptions options) : options_(std::move(options)) {}
PgReader::PgReader(std::string connection_string) {
  options_.connection_string = std::move(connection_string);
}
PgReader::~PgReader() = default;

std::unique_ptr<Connection> PgReader::take() {
  {
    std::unique_lock lock(mutex_);
    if (!freed_.wait_for(lock, options_.statement_timeout,
                         [this] { return in_use_ < options_.max_connections; }))
      throw StoreError(StoreError::unavailable, "all database sessions for reading are busy");
    ++in_use_;
    while (!idle_.empty()) {
      auto connection = std::move(idle_.back());
      idle_.pop_back();
      if (!connection->closed_by_server()) return connection;
    }
  }
  try {
    const std::string limit = std::to_string(options_.statement_timeout.count());
    return std::make_unique<Connection>(ConnectOptions{
        options_.connection_string, options_.application_name,
        "SET default_transaction_read_only = on; SET jit = off; SET statement_timeout = " + limit +
            "; SET idle_in_transaction_session_timeout = '10s'; SET client_connection_check_interval = '2s'; "
            "SET client_min_messages = warning",
        true});
  } catch (...) {
    give_back(nullptr);
    throw;
  }
}

void PgReader::give_back(std::unique_ptr<Connection> connection) {
  {
    std::lock_guard lock(mutex_);
    --in_use_;
    if (connection && connection->alive()) idle_.push_back(std::move(connection));
  }
  freed_.notify_one();
}

Result PgReader::run(const Statement& statement, Params params, Reads reads) {
  const bool bounded = reads == Reads::all;
  for (int attempt = 1;; ++attempt) {
    std::unique_ptr<Connection> connection;
    try {
      connection = take();
      const auto deadline =
          std::chrono::steady_clock::now() + options_.statement_timeout + std::chrono::seconds(2);
      if (bounded)
        connection->run_script(
            "BEGIN; SET LOCAL statement_timeout = " + std::to_string(options_.scan_timeout.count()),
            deadline);
      Result result = connection->run(statement, &params, deadline);
      if (bounded) connection->run_script("COMMIT", deadline);
      give_back(std::move(connection));
      return result;
    } catch (const SqlError& e) {
      if (connection && connection->in_transaction()) connection->close();
      give_back(std::move(connection));
      if (bounded && e.sqlstate == "57014")
        throw StoreError(StoreError::unavailable,
                         "this takes too long with so many jobs: ask for a project, a user or a time too");
      const bool mine = e.sqlstate.starts_with("42") || e.sqlstate.starts_with("22");
      throw StoreError(mine ? StoreError::corrupt : StoreError::unavailable, e.what());
    } catch (const ConnectionLost& e) {
      const bool had_session = connection != nullptr;
      if (had_session) give_back(std::move(connection));
      if (!had_session || attempt == 2) throw StoreError(StoreError::unavailable, e.what());
    } catch (...) {  // no memory: perhaps in the middle of an answer
      if (connection) {
        connection->close();
        give_back(std::move(connection));
      }
      throw;
    }
  }
}

std::optional<JobView> PgReader::find_job(JobId id) {
  static const std::string text =
      std::string("SELECT ") + kSpecColumns + ", NULL::timestamptz, 0, " + kJobColumns +
      " FROM job j JOIN job_text p USING (id) WHERE j.id = $1::bigint UNION ALL SELECT " + kSpecColumns +
      ", j.ended_at, j.exit_code, " + kJobColumns +
      " FROM job_done j JOIN job_text p USING (id) WHERE j.id = $1::bigint";
  Params params;
  params.bigint(id.value);
  const Result r = run({"find_job", text.c_str()}, std::move(params));
  if (r.rows() == 0) return std::nullopt;
  RowReader row(r, 0);
  return read_view(row);
}

std::optional<KeyView> PgReader::find_by_key(std::string_view owner, std::string_view key) {
  Params params;
  params.text(owner).text(key);
  const Result r = run(
      {"find_by_key", "SELECT job, body_hash FROM idempotency_key WHERE owner = $1::text AND key = $2::text"},
      std::move(params));
  if (r.rows() == 0) return std::nullopt;
  RowReader row(r, 0);
  KeyView view;
  view.job = JobId(row.bigint());
  view.body_hash = static_cast<std::uint64_t>(row.bigint());
  return view;
}

std::vector<JobId> PgReader::resolve_name(std::string_view name, int limit) {
  Params params;
  params.text(name).bigint(page(limit));
  const Result r =
      run({"resolve_name",
           "SELECT id FROM job_spec WHERE left(name, 200) = left($1::text, 200) AND name = $1::text "
           "ORDER BY id DESC LIMIT $2::bigint"},
          std::move(params));
  return rows_of<JobId>(r, [](RowReader& row) { return JobId(row.bigint()); });
}

std::vector<JobView> PgReader::list_jobs(const JobFilter& filter, int page_size, JobId after) {
  Params params;
  params.bigint(after ? after.value : INT64_MAX).bigint(page(page_size));
  const std::string conditions = "j.id < $1::bigint" + conditions_of(filter, params);
  const auto [live, finished] = halves_of(filter);
  std::string text;
  if (live) text = half("job", "NULL::timestamptz AS ended_at, 0 AS exit_code", conditions);
  if (finished) text += (live ? " UNION ALL " : "") + half("job_done", "j.ended_at, j.exit_code", conditions);
  text = "SELECT * FROM (" + text + ") both_halves ORDER BY id DESC LIMIT $2::bigint";
  const Reads reads = filter.name_part.empty() ? Reads::some : Reads::all;
  return rows_of<JobView>(run({"", text.c_str()}, std::move(params), reads), read_view);
}

std::vector<JobGroup> PgReader::count_jobs(const JobFilter& filter, JobKey by, int limit) {
  Params params;
  params.bigint(limit);
  const std::string conditions = conditions_of(filter, params);
  const auto [live, finished] = halves_of(filter);
  const bool by_name = by == JobKey::name || !filter.name.empty() || !filter.name_part.empty();
  const std::string specs = by_name ? " j JOIN job_spec p USING (id)" : " j";
  const auto half_of = [&](const std::string& table) {
    return "SELECT " + column_of(by) + " AS key, j.nodes::bigint * j.gpus_per_node AS gpus FROM " + table +
           specs + " WHERE true" + conditions;
  };
  std::string text;
  if (live) text = half_of("job");
  if (finished) text += (live ? " UNION ALL " : "") + half_of("job_done");
  text = "SELECT key, count(*), sum(gpus)::bigint FROM (" + text +
         ") both_halves GROUP BY key ORDER BY count(*) DESC, key COLLATE \"C\" LIMIT $1::bigint";
  const Result result = run({"", text.c_str()}, std::move(params), Reads::all);
  return rows_of<JobGroup>(result, [by](RowReader& row) {
    JobGroup group;
    group.key = named(by, row.text());
    group.jobs = row.bigint();
    group.gpus = row.bigint();
    return group;
  });
}

StateCounts PgReader::count_by_state() {
  StateCounts counts{};
  const Result r = run({"count_by_state",
                        "SELECT state, count(*) FROM job GROUP BY state UNION ALL "
                        "SELECT state, count(*) FROM job_done GROUP BY state"},
                       {});
  for (int i = 0; i < r.rows(); ++i) {
    RowReader row(r, i);
    const auto state = static_cast<std::size_t>(row.smallint());
    if (state < counts.size()) counts[state] = row.bigint();
  }
  return counts;
}

std::vector<AttemptRow> PgReader::attempts(JobId job) {
  static const std::string text =
      std::string("SELECT ") + kAttemptColumns + " FROM attempt a WHERE a.job = $1::bigint ORDER BY a.epoch";
  Params params;
  params.bigint(job.value);
  return rows_of<AttemptRow>(run({"attempts", text.c_str()}, std::move(params)),
                             [](RowReader& row) { return read_attempt(row); });
}

std::optional<AttemptRow> PgReader::find_attempt(JobId job, std::int32_t number) {
  static const std::string text =
      std::string("SELECT ") + kAttemptColumns +
      " FROM attempt a WHERE a.job = $1::bigint AND ($2::integer = 0 OR a.number = $2::integer)"
      " ORDER BY a.epoch DESC LIMIT 1";
  Params params;
  params.bigint(job.value).integer(number);
  const Result r = run({"find_attempt", text.c_str()}, std::move(params));
  if (r.rows() == 0) return std::nullopt;
  RowReader row(r, 0);
  return read_attempt(row);
}

std::vector<CheckpointRow> PgReader::checkpoints(JobId job) {
  static const std::string text = std::string("SELECT ") + kCheckpointColumns +
                                  " FROM checkpoint c WHERE c.job = $1::bigint ORDER BY c.step, c.at, c.path";
  Params params;
  params.bigint(job.value);
  return rows_of<CheckpointRow>(run({"checkpoints", text.c_str()}, std::move(params)), read_checkpoint);
}

std::vector<EventRow> PgReader::job_events(JobId job, EventId after, int limit) {
  static const std::string text =
      std::string("SELECT ") + kJobEventColumns +
      " FROM job_event WHERE job = $1::bigint AND id > $2::bigint ORDER BY id LIMIT $3::bigint";
  Params params;
  params.bigint(job.value).bigint(after.value).bigint(page(limit));
  return rows_of<EventRow>(run({"job_events", text.c_str()}, std::move(params)), read_event);
}

std::optional<EventRow> PgReader::last_state(JobId job, Instant at) {
  static const std::string text = std::string("SELECT ") + kJobEventColumns +
                                  " FROM job_event WHERE job = $1::bigint AND at <= $2::timestamptz AND "
                                  "kind = 'state' ORDER BY id DESC LIMIT 1";
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
  const std::string visible =
      "(e.job IS NULL OR " + visible_in(who, "j", params) + " OR " + visible_in(who, "d", params) + ")";
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

std::vector<FaultRow> PgReader::faults(const FaultFilter& filter, int limit, FaultId before) {
  Params params;
  params.bigint(before ? before.value : INT64_MAX).bigint(page(limit));
  const std::string text = std::string("SELECT ") + kFaultColumns + " FROM fault WHERE id < $1::bigint" +
                           conditions_of(filter, params) + " ORDER BY id DESC LIMIT $2::bigint";
  return rows_of<FaultRow>(run({"", text.c_str()}, std::move(params)), read_fault);
}

std::vector<FaultGroup> PgReader::count_faults(const FaultFilter& filter, FaultKey by, int limit) {
  Params params;
  params.bigint(limit);
  const std::string text = "SELECT key, count(*), count(DISTINCT job) FROM (SELECT " + column_of(by) +
                           " AS key, job FROM fault WHERE true" + conditions_of(filter, params) +
                           ") f GROUP BY key ORDER BY count(*) DESC, key COLLATE \"C\" LIMIT $1::bigint";
  return rows_of<FaultGroup>(run({"", text.c_str()}, std::move(params)), [](RowReader& row) {
    FaultGroup group;
    group.key = row.text();
    group.faults = row.bigint();
    group.jobs_hit = row.bigint();
    return group;
  });
}

std::int64_t PgReader::count_serious_faults(Instant since) {
  Params params;
  params.timestamptz(since);
  const Result r = run({"count_serious_faults",
                        "SELECT count(*) FROM fault WHERE at >= $1::timestamptz"
                        " AND (shared_by = 1 OR fault_class = 'node_lost')"},
                       std::move(params));
  RowReader row(r, 0);
  return row.bigint();
}

LeaderView PgReader::leader() {
  const Result r = run({"leader",
                        "SELECT l.term, l.holder, l.since, coalesce(t.url, ''), coalesce(t.key_print, ''),"
                        " t.over_at IS NOT NULL FROM leader l LEFT JOIN leader_term t USING (term)"},
                       {});
  if (r.rows() != 1) throw StoreError(StoreError::corrupt, "table leader has not exactly one row");
  RowReader row(r, 0);
  LeaderView view;
  view.term = Term(row.bigint());
  view.holder = row.text();
  view.since = row.timestamptz();
  view.url = row.text();
  view.key_print = row.text();
  view.over = row.boolean();
  return view;
}

}  // namespace tutti::db
