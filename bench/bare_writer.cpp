// What PostgreSQL takes from one connection when nothing is decided and nobody is asked: the yardstick that
// the scheduler's own writer is measured against, on the same server and in turn with it.
//   insert   rows with one history row each, `batch` to a transaction (unnest, one pipeline flush)
//   lives    `in-flight` jobs in a closed loop, each submitted and then moved on four times by
//   compare-and-set,
//            with a history row each time, on a narrow table (docs/design/0005-libpq-for-the-store.md)
//   bare_writer --db CONNECTION --mode insert|lives [--seconds 5] [--batch 1000] [--in-flight 1024] [--spec
//   TEXT]
// Makes its tables in schema `bare` of that database, and begins with them empty. Prints one JSON object.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <string>
#include <vector>

#include "db/pg/connection.h"

namespace tutti::bench {
namespace {

using Clock = std::chrono::steady_clock;

struct Options {
  std::string db, mode = "lives";
  std::string spec = R"({"name":"bench","run":"true","priority":50,"nodes":1,"resources":{"gpus":8}})";
  double seconds = 5;
  std::size_t batch = 1000, in_flight = 1024;
};

Options read_options(int argc, char** argv) {
  Options o;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string flag = argv[i];
    const char* value = argv[i + 1];
    if (flag == "--db")
      o.db = value;
    else if (flag == "--mode")
      o.mode = value;
    else if (flag == "--seconds")
      o.seconds = std::atof(value);
    else if (flag == "--batch")
      o.batch = std::strtoul(value, nullptr, 10);
    else if (flag == "--in-flight")
      o.in_flight = std::strtoul(value, nullptr, 10);
    else if (flag == "--spec")
      o.spec = value;
    else {
      std::fprintf(stderr, "bare_writer: unknown flag %s\n", flag.c_str());
      std::exit(2);
    }
  }
  if (o.db.empty() || (o.mode != "insert" && o.mode != "lives") || o.batch == 0 || o.in_flight == 0) {
    std::fprintf(stderr, "bare_writer: --db CONNECTION --mode insert|lives, with numbers above 0\n");
    std::exit(2);
  }
  return o;
}

// The same session settings as the scheduler's writer, as far as they matter here.
constexpr const char* kSession =
    "SET synchronous_commit = on; SET jit = off; SET plan_cache_mode = force_generic_plan; "
    "SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off; "
    "SET client_min_messages = warning";

constexpr const char* kTables = R"(
DROP SCHEMA IF EXISTS bare CASCADE;
CREATE SCHEMA bare;
CREATE TABLE bare.job (id bigint PRIMARY KEY, owner text NOT NULL, name text NOT NULL, state smallint NOT NULL,
  priority smallint NOT NULL, gpus integer NOT NULL, created_at timestamptz NOT NULL, spec jsonb NOT NULL);
CREATE INDEX ON bare.job (priority DESC, id) WHERE state = 1;
CREATE INDEX ON bare.job (owner, id);
CREATE TABLE bare.spec (id bigint PRIMARY KEY, owner text NOT NULL, name text NOT NULL, spec jsonb NOT NULL,
  created_at timestamptz NOT NULL);
CREATE INDEX ON bare.spec (owner, id);
CREATE TABLE bare.live (id bigint PRIMARY KEY, changed_at timestamptz NOT NULL, version integer NOT NULL,
  gpus integer NOT NULL, state smallint NOT NULL, priority smallint NOT NULL) WITH (fillfactor = 50);
CREATE TABLE bare.event (job bigint NOT NULL, at timestamptz NOT NULL, from_state smallint NOT NULL,
  to_state smallint NOT NULL);
CREATE INDEX ON bare.event (job, at);
CREATE FUNCTION bare.expect(actual bigint, expected bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  IF actual <> expected THEN RAISE EXCEPTION '% of % rows', actual, expected; END IF;
END $$)";

constexpr db::Statement kBegin{"begin", "BEGIN"};
constexpr db::Statement kCommit{"commit", "COMMIT"};
constexpr db::Statement kInsertJobs{"insert_jobs", R"(
INSERT INTO bare.job SELECT id, 'ann', 'bench', 1, 50, 8, at, spec::jsonb
FROM unnest($1::bigint[], $2::timestamptz[], $3::text[]) AS u(id, at, spec))"};
constexpr db::Statement kInsertSpecs{"insert_specs", R"(
INSERT INTO bare.spec SELECT id, 'ann', 'bench', spec::jsonb, at
FROM unnest($1::bigint[], $2::timestamptz[], $3::text[]) AS u(id, at, spec))"};
constexpr db::Statement kInsertLive{"insert_live", R"(
INSERT INTO bare.live SELECT id, at, 1, 8, 1, 50 FROM unnest($1::bigint[], $2::timestamptz[]) AS u(id, at))"};
constexpr db::Statement kMove{"move", R"(
WITH hit AS (
  UPDATE bare.live l SET state = u.state + 1, version = u.version + 1, changed_at = u.at
  FROM unnest($1::bigint[], $2::smallint[], $3::integer[], $4::timestamptz[]) AS u(id, state, version, at)
  WHERE l.id = u.id AND l.version = u.version AND l.state = u.state
  RETURNING 1)
SELECT bare.expect((SELECT count(*) FROM hit), $5::bigint))"};
constexpr db::Statement kInsertEvents{"insert_events", R"(
INSERT INTO bare.event SELECT * FROM unnest($1::bigint[], $2::timestamptz[], $3::smallint[], $4::smallint[]))"};

// A job and how far it has come: 0 = to be submitted, then its state.
struct Item {
  std::int64_t id = 0;
  std::int16_t state = 0;
};
constexpr std::int16_t kLastState = 5;  // four moves from state 1

class Writer {
 public:
  explicit Writer(Options o) : o_(std::move(o)), connection_({o_.db, "bare_writer", kSession}) {
    connection_.run_script(kTables, deadline());
  }

  void insert() {
    const Instant at = now();
    std::vector<Item> rows(o_.batch);
    for (auto& row : rows) row.id = next_++;
    db::Pipeline p(connection_);
    p.add(kBegin);
    add_specs(p, kInsertJobs, rows, at);
    add_events(p, rows, at);
    p.add(kCommit);
    p.run(deadline());
    submissions_ += static_cast<std::int64_t>(rows.size());
  }

  // One round of the group commit: all that waits, at most a batch, one transaction.
  void live() {
    while (waiting_.size() < o_.in_flight) waiting_.push_back({next_++, 0});
    const Instant at = now();
    std::vector<Item> fresh, moving, all;
    while (!waiting_.empty() && all.size() < o_.batch) {
      all.push_back(waiting_.front());
      (waiting_.front().state == 0 ? fresh : moving).push_back(waiting_.front());
      waiting_.pop_front();
    }
    db::Pipeline p(connection_);
    p.add(kBegin);
    if (!fresh.empty()) {
      add_specs(p, kInsertSpecs, fresh, at);
      db::Params params;
      params.column(fresh, [](const Item& i) { return i.id; }).column(fresh, [at](const Item&) {
        return at;
      });
      p.add(kInsertLive, std::move(params));
    }
    if (!moving.empty()) add_moves(p, moving, at);
    add_events(p, all, at);
    p.add(kCommit);
    p.run(deadline());
    submissions_ += static_cast<std::int64_t>(fresh.size());
    transitions_ += static_cast<std::int64_t>(moving.size());
    for (const auto& item : all)
      if (item.state + 1 < kLastState)
        waiting_.push_back({item.id, static_cast<std::int16_t>(item.state + 1)});
  }

  int run() {
    const auto begin = Clock::now();
    const auto end =
        begin + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(o_.seconds));
    while (Clock::now() < end) o_.mode == "insert" ? insert() : live();
    const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
    std::printf("{\"seconds\":%.3f,\"submissions_per_second\":%.0f,\"transitions_per_second\":%.0f}\n",
                seconds, static_cast<double>(submissions_) / seconds,
                static_cast<double>(transitions_) / seconds);
    return 0;
  }

 private:
  static db::Connection::Deadline deadline() { return Clock::now() + std::chrono::seconds(30); }
  static Instant now() { return std::chrono::floor<Duration>(std::chrono::system_clock::now()); }

  void add_specs(db::Pipeline& p, const db::Statement& statement, const std::vector<Item>& rows, Instant at) {
    db::Params params;
    params.column(rows, [](const Item& i) { return i.id; })
        .column(rows, [at](const Item&) { return at; })
        .column(rows, [this](const Item&) -> std::string_view { return o_.spec; });
    p.add(statement, std::move(params));
  }

  static void add_moves(db::Pipeline& p, const std::vector<Item>& rows, Instant at) {
    db::Params params;
    params.column(rows, [](const Item& i) { return i.id; })
        .column(rows, [](const Item& i) { return i.state; })
        .column(rows, [](const Item& i) { return static_cast<std::int32_t>(i.state); })  // its version
        .column(rows, [at](const Item&) { return at; })
        .bigint(static_cast<std::int64_t>(rows.size()));
    p.add(kMove, std::move(params));
  }

  static void add_events(db::Pipeline& p, const std::vector<Item>& rows, Instant at) {
    db::Params params;
    params.column(rows, [](const Item& i) { return i.id; })
        .column(rows, [at](const Item&) { return at; })
        .column(rows, [](const Item& i) { return i.state; })
        .column(rows, [](const Item& i) { return static_cast<std::int16_t>(i.state + 1); });
    p.add(kInsertEvents, std::move(params));
  }

  Options o_;
  db::Connection connection_;
  std::deque<Item> waiting_;
  std::int64_t next_ = 1, submissions_ = 0, transitions_ = 0;
};

}  // namespace
}  // namespace tutti::bench

int main(int argc, char** argv) {
  try {
    return tutti::bench::Writer(tutti::bench::read_options(argc, argv)).run();
  } catch (const std::exception& e) {
    std::fprintf(stderr, "bare_writer: %s\n", e.what());
    return 1;
  }
}
