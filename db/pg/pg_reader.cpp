#include "db/pg/pg_reader.h"

#include <algorithm>

#include "db/pg/reader_parts.h"
#include "db/pg/row_codec.h"

namespace tutti::db {
namespace {

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
