#include "db/pg/pg_store.h"

#include <algorithm>

#include "db/pg/array_rows.h"
#include "db/pg/connection.h"
#include "db/pg/load_jobs.h"
#include "db/pg/pg_batch.h"
#include "db/pg/row_codec.h"
#include "db/rules.h"

namespace tutti::db {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr std::size_t kPastChunk = 5000;  // jobs whose past attempts are read at once
constexpr auto kPartitionLead = std::chrono::days(10);
constexpr auto kPartitionAgain = std::chrono::minutes(50);  // at another minute than whoever held the table
constexpr auto kShort = std::chrono::seconds(2);
constexpr int kSchemaOfArrays = 22;  // sql/migrations/0022_arrays.sql
constexpr std::size_t kPlanAnewFirst = 1'000, kPlanAnewLast = 64'000;

Connection::Deadline in(milliseconds t) { return steady_clock::now() + t; }

std::string session_settings(const PgStoreOptions& o) {
  const auto ms = [](milliseconds t) { return std::to_string(t.count()); };
  // Plans: arrays are joined to tables by their primary key, whatever the statistics of a table say that was
  // empty a minute ago.
  return "SET synchronous_commit = on; SET jit = off; SET plan_cache_mode = force_generic_plan; "
         "SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off; "
         "SET max_parallel_workers_per_gather = 0; "
         "SET client_min_messages = warning; SET idle_in_transaction_session_timeout = '10s'; "
         "SET client_connection_check_interval = '2s'; "
         "SET tcp_keepalives_idle = 5; SET tcp_keepalives_interval = 2; SET tcp_keepalives_count = 3; "
         "SET statement_timeout = " +
         ms(o.commit_timeout * 8 / 10) + "; SET idle_session_timeout = " + ms(o.leader_idle_timeout);
}

std::string sql(std::string_view before, std::string_view columns, std::string_view after) {
  std::string s(before);
  s += columns;
  s += after;
  return s;
}

// What the server's refusal means for the caller (store.h).
StoreError::Kind kind_of(const std::string& state) {
  if (state == "TT001") return StoreError::deposed;
  if (state == "TT002") return StoreError::conflict;
  if (state == "23505" || state == "23P01" || state == "23503") return StoreError::conflict;
  const std::string cls = state.substr(0, 2);
  // Resources, operator intervention, connection, locks and serialization, read-only server (a failover).
  if (cls == "53" || cls == "57" || cls == "58" || cls == "08" || cls == "40" || cls == "55" || cls == "25")
    return StoreError::unavailable;
  return StoreError::corrupt;
}

template <class Row, class Read>
void read_all(Connection& c, const std::string& text, std::vector<Row>& out, Read read,
              Connection::Deadline until) {
  const Result r = c.run(Statement{"", text.c_str()}, nullptr, until);
  out.reserve(static_cast<std::size_t>(r.rows()));
  for (int i = 0; i < r.rows(); ++i) {
    RowReader row(r, i);
    out.push_back(read(row));
  }
}

void read_attempt_into(Snapshot& s, std::vector<AttemptRow>& list, RowReader& row) {
  std::string damage;
  const AttemptRow& read = list.emplace_back(read_attempt(row, &damage));
  if (!damage.empty()) s.unreadable.push_back({read.job, read.epoch, std::move(damage)});
}

// By jobs, so that an answer is bounded as well.
void load_past_attempts(Connection& c, Snapshot& s, Connection::Deadline until) {
  const std::string text =
      sql("SELECT ", kPastAttemptColumns,
          " FROM (SELECT id FROM job WHERE id > $1::bigint AND attempt > 0 ORDER BY id LIMIT $2::bigint) j"
          " CROSS JOIN LATERAL (SELECT * FROM attempt x WHERE x.job = j.id AND x.state = 6 AND x.result = 2"
          " ORDER BY x.epoch DESC LIMIT 3) a ORDER BY a.job, a.epoch");
  for (std::size_t next = 0; next < s.jobs.size();) {
    // The page ends at a job that is known: every job of it may be without a failure.
    std::size_t placed = 0;
    const JobId above(s.jobs[next].id.value - 1);
    for (; next < s.jobs.size() && placed < kPastChunk; ++next)
      if (s.jobs[next].attempt > 0) ++placed;
    if (placed == 0) return;
    Params params;
    params.bigint(above.value).bigint(static_cast<std::int64_t>(placed));
    const Result r = c.run(Statement{"load_past_attempts", text.c_str()}, &params, until);
    for (int i = 0; i < r.rows(); ++i) {
      RowReader row(r, i);
      read_attempt_into(s, s.past_attempts, row);
    }
  }
}

void load_open_attempts(Connection& c, Snapshot& s, Connection::Deadline until) {
  const std::string text =
      sql("SELECT ", kAttemptColumns, " FROM attempt a WHERE a.state <> 6 ORDER BY a.job, a.epoch");
  const Result r = c.run(Statement{"", text.c_str()}, nullptr, until);
  for (int i = 0; i < r.rows(); ++i) {
    RowReader row(r, i);
    read_attempt_into(s, s.attempts, row);
  }
}

void load_rest(Connection& c, Snapshot& s, Connection::Deadline until) {
  load_open_attempts(c, s, until);
  read_all(c,
           sql("SELECT * FROM (SELECT ", kFaultColumns,
               " FROM fault WHERE shared_by > 0 ORDER BY id DESC LIMIT 20000) newest ORDER BY id"),
           s.blamed, read_fault, until);
  read_all(c, sql("SELECT ", kAllocationColumns, " FROM allocation WHERE until_at IS NULL ORDER BY gpu"),
           s.allocations, read_allocation, until);
  read_all(c, sql("SELECT ", kNodeColumns, " FROM node ORDER BY id"), s.nodes, read_node, until);
  read_all(c, sql("SELECT ", kGpuColumns, " FROM gpu ORDER BY id"), s.gpus, read_gpu, until);
  read_all(c,
           sql("SELECT ", kCheckpointColumns,
               " FROM checkpoint c JOIN job j ON j.id = c.job WHERE c.deleted_at IS NULL ORDER BY c.job, "
               "c.step, c.at, c.path"),
           s.checkpoints, read_checkpoint, until);
  c.copy_out(
      "COPY (SELECT owner, key, body_hash, job FROM idempotency_key) TO STDOUT (FORMAT binary)",
      [&](RowReader& r) {
        Snapshot::Key& k = s.keys.emplace_back();
        k.owner = Name(r.bytes());
        k.key = r.text();
        k.body_hash = static_cast<std::uint64_t>(r.bigint());
        k.job = JobId(r.bigint());
      },
      until);
  std::ranges::sort(s.keys, {}, &Snapshot::Key::job);  // here it costs less than there
  read_all(
      c,
      "SELECT * FROM (SELECT project, owner, queue, nodes * gpus_per_node, ran_us, ended_at, state = 8"
      " FROM job_done WHERE ran_us > 0 ORDER BY id DESC LIMIT 5000) newest ORDER BY ended_at",
      s.past,
      [](RowReader& r) {
        Snapshot::Past p;
        p.project = r.text();
        p.owner = r.text();
        p.queue = r.text();
        p.gpus = r.integer();
        p.ran = Duration(r.bigint());
        p.ended_at = r.timestamptz();
        p.finished = r.boolean();
        return p;
      },
      until);
  read_all(c, sql("SELECT ", kQueueColumns, " FROM queue ORDER BY name"), s.queues, read_queue, until);
  read_all(c, sql("SELECT ", kProjectColumns, " FROM project ORDER BY name"), s.projects, read_project,
           until);
  read_all(c, sql("SELECT ", kReservationColumns, " FROM reservation ORDER BY name"), s.reservations,
           read_reservation, until);
  const Result r =
      c.run(Statement{"",
                      "SELECT greatest((SELECT max(id) FROM job_spec),"
                      " (SELECT last FROM job_array ORDER BY id DESC LIMIT 1), job),"
                      " greatest((SELECT max(id) FROM node), node),"
                      " greatest((SELECT max(id) FROM gpu), gpu),"
                      " greatest((SELECT max(id) FROM job_event), (SELECT max(id) FROM node_event),"
                      " (SELECT max(last_event) FROM job_array), event),"
                      " greatest((SELECT max(id) FROM fault), fault) FROM id_floor"},
            nullptr, until);
  if (r.rows() != 1) throw StoreError(StoreError::corrupt, "table id_floor has not exactly one row");
  RowReader row(r, 0);
  s.last_job = JobId(row.bigint());
  s.last_node = NodeId(row.bigint());
  s.last_gpu = GpuId(row.bigint());
  s.last_event = EventId(row.bigint());
  s.last_fault = FaultId(row.bigint());
  const Result newest = c.run(Statement{"",
                                        "SELECT greatest((SELECT at FROM job_event ORDER BY id DESC LIMIT 1),"
                                        " (SELECT at FROM node_event ORDER BY id DESC LIMIT 1))"},
                              nullptr, until);
  s.written_at = RowReader(newest, 0).timestamptz_or_null().value_or(Instant{});
}

}  // namespace

PgStore::PgStore(PgStoreOptions options) : options_(std::move(options)) {}
PgStore::PgStore(std::string connection_string) { options_.connection_string = std::move(connection_string); }
PgStore::~PgStore() = default;

int PgStore::backend_pid() const {
  return connection_ && connection_->alive() ? connection_->backend_pid() : 0;
}

Connection& PgStore::session() {
  if (connection_ && !connection_->closed_by_server()) return *connection_;
  lose_session();
  auto fresh = std::make_unique<Connection>(
      ConnectOptions{options_.connection_string, options_.application_name, session_settings(options_)});
  if (options_.schema != 0) {  // db/migrate looks for it: nobody takes the schema too far from us
    Params params;
    params.integer(options_.schema);
    fresh->run(Statement{"", "SELECT pg_advisory_lock_shared(73812044, $1::integer)"}, &params, in(kShort));
    check_schema(*fresh);  // while we had no session, somebody may have
  }
  connection_ = std::move(fresh);
  return *connection_;
}

// A scheduler of the version before knows no table job_array: as long as one is connected every task has its
// own rows. One that takes the lead later has all tasks unfolded (0022_arrays.sql).
bool PgStore::all_know(Connection& c, int schema) {
  Params params;
  params.integer(schema);
  const Result r =
      c.run(Statement{"all_know",
                      "SELECT NOT EXISTS (SELECT FROM pg_locks l JOIN pg_database d ON d.oid = l.database "
                      "WHERE l.locktype = 'advisory' AND l.classid = 73812044 AND d.datname = "
                      "current_database() AND l.objid::bigint < $1::integer AND l.objsubid = 2)"},
            &params, in(kShort));
  return RowReader(r, 0).boolean();
}

void PgStore::fail(const SqlError& error) {
  texts_.forget();  // what was to be put there is not
  const auto kind = kind_of(error.sqlstate);
  if (kind == StoreError::unavailable)
    lose_session();  // as promised: what comes back comes back through load()
  throw StoreError(kind, error.what());
}

// What is planned while a table is empty goes through all of it, and is kept until autovacuum comes by: by
// then a burst has made it large. New plans cost a few milliseconds.
void PgStore::plan_anew_if_grown(const Batch& batch, std::size_t unfolded) {
  const std::size_t most = std::max(plan_anew_at_, kPlanAnewFirst);
  if (grown_ >= most) {  // by the batches before: those of this one are not there yet
    connection_->run_script("DISCARD PLANS", in(kShort));
    plan_anew_at_ = std::min(2 * most, kPlanAnewLast);
    grown_ = 0;
  }
  grown_ += batch.new_jobs.size() + batch.opened.size() + unfolded;
}

// The server takes a leader that says nothing for a frozen one. Not while it works on what it has loaded,
// which takes long when there is much.
void PgStore::may_be_idle_for(milliseconds time) {
  if (options_.leader_idle_timeout == milliseconds(0)) return;
  const std::string text = std::to_string(time.count());
  Params params;
  params.text(text);
  connection_->run(Statement{"", "SELECT set_config('idle_session_timeout', $1::text, false)"}, &params,
                   in(kShort));
  just_loaded_ = time != options_.leader_idle_timeout;
}

void PgStore::lose_session() {
  grown_ = plan_anew_at_ = 0;
  just_loaded_ = false;
  texts_.forget();
  connection_.reset();
  has_lock_ = false;
}

// Own transaction, and no part of the batch: it waits for readers of the events, and may be given up.
void PgStore::make_partitions(Instant at) {
  if (at + kPartitionLead < partitions_end_ || at < partitions_again_at_) return;
  Params params;
  params.timestamptz(at);
  try {
    const Result r = connection_->run(Statement{"", "SELECT job_event_make_months($1::timestamptz)"}, &params,
                                      in(options_.commit_timeout));
    RowReader row(r, 0);
    partitions_end_ = row.timestamptz();
  } catch (const SqlError&) {  // there are ten days left to try it again
  }
  partitions_again_at_ = at + kPartitionAgain;
}

Snapshot PgStore::load() {
  const auto until = in(options_.load_timeout);
  try {
    if (term_) confirm_leadership();
    Connection& c = session();
    c.run_script("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL statement_timeout = " +
                     std::to_string(options_.load_timeout.count()) +
                     "; SET LOCAL enable_seqscan = on; SET LOCAL enable_mergejoin = on; SET LOCAL "
                     "enable_hashjoin = on",
                 in(kShort));
    Snapshot snapshot;
    StoredArrays arrays = StoredArrays::load(c, until);
    load_jobs(c, snapshot, arrays, until);
    load_past_attempts(c, snapshot, until);
    load_rest(c, snapshot, until);
    snapshot.newer_schema = check_schema(c);
    c.run_script("COMMIT", in(kShort));
    folded_.forget();
    arrays.put_into(folded_);
    may_be_idle_for(std::max(options_.load_timeout, options_.leader_idle_timeout));
    return snapshot;
  } catch (const SqlError& e) {
    lose_session();
    throw StoreError(kind_of(e.sqlstate), e.what());
  } catch (const ConnectionLost& e) {
    lose_session();
    throw StoreError(StoreError::unavailable, e.what());
  } catch (...) {    // a row that cannot be, or no memory
    lose_session();  // perhaps in the middle of a transaction
    throw;
  }
}

void PgStore::commit(const Batch& batch) {
  require_well_formed(batch);
  const auto newest = std::max_element(batch.events.begin(), batch.events.end(),
                                       [](const EventRow& a, const EventRow& b) { return a.at < b.at; });
  const auto unfolding = folded_.touched_by(batch);
  Folding folding;
  transact(
      [&] {
        if (newest != batch.events.end()) make_partitions(newest->at);
        plan_anew_if_grown(batch, unfolding.tasks.size());
        folding = folding_of(batch);
      },
      [&](Pipeline& pipeline) {
        return add_transaction(pipeline, batch, term_,
                               {.texts = texts_, .folding = folding, .unfolding = unfolding});
      });
  texts_.committed();
  folded_.remove(unfolding.tasks);
}

// Remembered before it is written: of what comes to nothing too much is known, never too little. Asked anew
// each time, since arrays are few: a scheduler of the version before may have come as a standby.
Folding PgStore::folding_of(const Batch& batch) {
  Folding folding = Folding::of(batch);
  if (folding.empty() || !all_know(*connection_, kSchemaOfArrays)) return {};
  folded_.add(folding);
  return folding;
}

// A statement's timeout ends no COMMIT that waits for a synchronous standby: our own deadline does, which
// closes the session. It stays at the server, with the lock, until take_lock() ends it.
void PgStore::prove_leadership() {
  transact([] {}, [&](Pipeline& pipeline) { return add_proof(pipeline, term_); });
}

void PgStore::transact(const std::function<void()>& first,
                       const std::function<std::size_t(Pipeline&)>& fill) {
  if (!term_) throw StoreError(StoreError::deposed, "this store has never led");
  // Known before anything is sent, so not in doubt.
  if (!connection_ || connection_->closed_by_server() || !has_lock_) {
    has_lock_ = false;
    throw StoreError(StoreError::unavailable, "the session with PostgreSQL is lost");
  }
  std::size_t commit_at = 0, reached = 0;
  bool sent = false;
  try {
    first();
    if (just_loaded_) may_be_idle_for(options_.leader_idle_timeout);
    {
      Pipeline pipeline(*connection_);
      commit_at = fill(pipeline);
      sent = true;
      try {
        pipeline.run(in(options_.commit_timeout));
      } catch (...) {
        reached = pipeline.failed_at();
        throw;
      }
    }
  } catch (const SqlError& e) {
    if (!connection_->alive()) {
      lose_session();
      // The server ended the session while COMMIT was its work: it may have been done just before.
      throw StoreError(sent && reached >= commit_at ? StoreError::in_doubt : StoreError::unavailable,
                       e.what());
    }
    try {
      if (connection_->in_transaction()) connection_->run_script("ROLLBACK", in(kShort));
    } catch (const std::exception&) {
      lose_session();
    }
    fail(e);
  } catch (const ConnectionLost& e) {
    lose_session();
    throw StoreError(sent ? StoreError::in_doubt : StoreError::unavailable, e.what());
  } catch (...) {  // no memory: perhaps in the middle of an answer
    lose_session();
    throw;
  }
}

bool PgStore::healthy() noexcept {
  try {
    if (!connection_ || connection_->closed_by_server()) return false;
    if (just_loaded_) may_be_idle_for(options_.leader_idle_timeout);
    connection_->run(Statement{"ping", "SELECT 1"}, nullptr, in(kShort));
    return true;
  } catch (const std::exception&) {
    return false;
  }
}

}  // namespace tutti::db
