#include "db/pg/job_batch.h"

#include <unordered_set>

#include "db/pg/row_codec.h"

namespace tutti::db {
namespace {

template <class Row>
using Rows = std::vector<const Row*>;

template <class Enum>
std::int16_t number(Enum e) {
  return static_cast<std::int16_t>(e);
}

// ---------------------------------------------------------------- specs and new jobs

constexpr Statement kInsertSpecs{"insert_specs", R"(
INSERT INTO job_spec (id, owner, name, spec_json, created_at, initial_state)
SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::timestamptz[], $6::smallint[]))"};

constexpr Statement kInsertReferringSpecs{"insert_referring_specs", R"(
INSERT INTO job_spec (id, owner, name, spec_hash, created_at, initial_state)
SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[], $4::bytea[], $5::timestamptz[], $6::smallint[]))"};

constexpr Statement kInsertTexts{"insert_texts", R"(
INSERT INTO spec_text AS t (hash, spec_json, used_at)
SELECT u.hash, u.spec_json, $3::timestamptz FROM unnest($1::bytea[], $2::text[]) AS u(hash, spec_json)
ON CONFLICT (hash) DO UPDATE SET used_at = greatest(t.used_at, excluded.used_at))"};

constexpr Statement kInsertKeys{"insert_keys", R"(
INSERT INTO idempotency_key (owner, key, body_hash, job, created_at)
SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[], $5::timestamptz[]))"};

constexpr Statement kForgetKeys{"forget_keys", R"(
DELETE FROM idempotency_key k USING unnest($1::text[], $2::text[]) AS u(owner, key)
WHERE k.owner = u.owner AND k.key = u.key)"};

void forget_keys(Pipeline& p, const std::vector<Batch::OldKey>& keys) {
  if (keys.empty()) return;
  Params rows;
  rows.column(keys, [](const Batch::OldKey& k) -> std::string_view { return k.owner; })
      .column(keys, [](const Batch::OldKey& k) -> std::string_view { return k.key; });
  p.add(kForgetKeys, std::move(rows));
}

Bytes bytes_of(const KnownTexts::Hash& hash) {
  return {{reinterpret_cast<const char*>(hash.data()), hash.size()}};
}

void add_texts(Pipeline& p, const std::vector<KnownTexts::Text>& texts, Instant at) {
  if (texts.empty()) return;
  Params rows;
  rows.column(texts, [](const KnownTexts::Text& t) { return bytes_of(t.hash); })
      .column(texts, [](const KnownTexts::Text& t) { return t.text; })
      .timestamptz(at);
  p.add(kInsertTexts, std::move(rows));
}

// Rows of one way, each with its own text or with the hash of one.
template <class Last>
void insert_specs(Pipeline& p, const Statement& statement, const Rows<SpecRow>& specs, Last add_text_column) {
  if (specs.empty()) return;
  Params rows;
  rows.column(specs, [](const SpecRow* s) { return s->id; })
      .column(specs, [](const SpecRow* s) -> std::string_view { return s->owner; })
      .column(specs, [](const SpecRow* s) -> std::string_view { return s->name; });
  add_text_column(rows);
  rows.column(specs, [](const SpecRow* s) { return s->created_at; }).column(specs, [](const SpecRow* s) {
    return number(s->initial_state);
  });
  p.add(statement, std::move(rows));
}

void add_spec_rows(Pipeline& p, const Rows<SpecRow>& specs, const WayOfJobs& way) {
  if (specs.empty()) return;
  const Instant at = specs.back()->created_at;
  const auto split = way.texts.split(specs, at);
  add_texts(p, split.texts, at);
  Rows<SpecRow> whole, referring;
  std::vector<KnownTexts::Hash> hashes;
  for (std::size_t i = 0; i < specs.size(); ++i) {
    (split.refers[i] ? referring : whole).push_back(specs[i]);
    if (split.refers[i]) hashes.push_back(*split.refers[i]);
  }
  insert_specs(p, kInsertSpecs, whole, [&](Params& rows) {
    rows.column(whole, [](const SpecRow* s) -> std::string_view { return s->spec_json; });
  });
  insert_specs(p, kInsertReferringSpecs, referring, [&](Params& rows) { rows.column(hashes, bytes_of); });
}

void add_keys(Pipeline& p, const std::vector<SpecRow>& specs) {
  Rows<SpecRow> keyed;
  for (const auto& s : specs)
    if (!s.idempotency_key.empty()) keyed.push_back(&s);
  if (keyed.empty()) return;
  Params keys;
  keys.column(keyed, [](const SpecRow* s) -> std::string_view { return s->owner; })
      .column(keyed, [](const SpecRow* s) -> std::string_view { return s->idempotency_key; })
      .column(keyed, [](const SpecRow* s) { return static_cast<std::int64_t>(s->body_hash); })
      .column(keyed, [](const SpecRow* s) { return s->id; })
      .column(keyed, [](const SpecRow* s) { return s->created_at; });
  p.add(kInsertKeys, std::move(keys));
}

constexpr Statement kChangeSpecs{"change_specs", R"(
WITH hit AS (
  UPDATE job_spec s SET changed_json = u.spec FROM unnest($1::bigint[], $2::text[]) AS u(id, spec)
  WHERE s.id = u.id
  RETURNING 1)
SELECT tutti_expect((SELECT count(*) FROM hit), $3::bigint, 'change of specs'))"};

void change_specs(Pipeline& p, const std::map<JobId, std::string>& specs) {
  if (specs.empty()) return;
  Params params;
  params.column(specs, [](const auto& s) { return s.first; })
      .column(specs, [](const auto& s) -> std::string_view { return s.second; })
      .bigint(static_cast<std::int64_t>(specs.size()));
  p.add(kChangeSpecs, std::move(params));
}

// What a job has that has never been placed: the other columns take their defaults.
constexpr Statement kInsertJobs{"insert_jobs", R"(
INSERT INTO job (id, version, state, priority, queue, project, owner, nodes, gpus_per_node, created_at, queued_at,
                 not_before)
SELECT * FROM unnest($1::bigint[], $2::integer[], $3::smallint[], $4::smallint[], $5::text[], $6::text[],
                     $7::text[], $8::integer[], $9::integer[], $10::timestamptz[], $11::timestamptz[],
                     $12::timestamptz[]))"};

constexpr Statement kInsertJobsWhole{"insert_jobs_whole", R"(
INSERT INTO job (id, version, state, priority, queue, project, owner, nodes, gpus_per_node, created_at, queued_at,
                 not_before, cause, front, epoch, attempt, spent, no_progress, best_step, hardware_window_at,
                 reason, ran_us)
SELECT u.id, u.version, u.state, u.priority, u.queue, u.project, u.owner, u.nodes, u.gpus_per_node, u.created_at,
       u.queued_at, u.not_before, u.cause, u.front, u.epoch, u.attempt, u.spent::smallint[], u.no_progress,
       u.best_step, u.hardware_window_at, u.reason, u.ran_us
FROM unnest($1::bigint[], $2::integer[], $3::smallint[], $4::smallint[], $5::text[], $6::text[], $7::text[],
            $8::integer[], $9::integer[], $10::timestamptz[], $11::timestamptz[], $12::timestamptz[],
            $13::smallint[], $14::boolean[], $15::bigint[], $16::integer[], $17::text[], $18::smallint[],
            $19::bigint[], $20::timestamptz[], $21::text[], $22::bigint[])
     AS u(id, version, state, priority, queue, project, owner, nodes, gpus_per_node, created_at, queued_at,
          not_before, cause, front, epoch, attempt, spent, no_progress, best_step, hardware_window_at, reason,
          ran_us))"};

Params job_head(const Rows<JobRow>& rows) {
  Params p;
  p.column(rows, [](const JobRow* j) { return j->id; })
      .column(rows, [](const JobRow* j) { return j->version; })
      .column(rows, [](const JobRow* j) { return number(j->state); })
      .column(rows, [](const JobRow* j) { return j->priority; })
      .column(rows, [](const JobRow* j) -> std::string_view { return j->queue; })
      .column(rows, [](const JobRow* j) -> std::string_view { return j->project; })
      .column(rows, [](const JobRow* j) -> std::string_view { return j->owner; })
      .column(rows, [](const JobRow* j) { return j->nodes; })
      .column(rows, [](const JobRow* j) { return j->gpus_per_node; })
      .column(rows, [](const JobRow* j) { return j->created_at; })
      .column(rows, [](const JobRow* j) { return j->queued_at; })
      .column(rows, [](const JobRow* j) { return null_if_zero(j->not_before); });
  return p;
}

Params job_whole(const Rows<JobRow>& rows) {
  Params p = job_head(rows);
  p.column(rows, [](const JobRow* j) { return number(j->cause); })
      .column(rows, [](const JobRow* j) { return j->front; })
      .column(rows, [](const JobRow* j) { return j->epoch; })
      .column(rows, [](const JobRow* j) { return j->attempt; })
      .column(rows, [](const JobRow* j) { return spent_text(j->spent); })
      .column(rows, [](const JobRow* j) { return j->no_progress; })
      .column(rows, [](const JobRow* j) { return j->best_step; })
      .column(rows, [](const JobRow* j) { return null_if_zero(j->hardware_window_at); })
      .column(rows, [](const JobRow* j) -> std::string_view { return j->reason; })
      .column(rows, [](const JobRow* j) { return static_cast<std::int64_t>(j->ran.count()); });
  return p;
}

// ---------------------------------------------------------------- updates and ends of jobs

constexpr Statement kUpdateJobs{"update_jobs", R"(
WITH hit AS (
  UPDATE job j SET version = u.version, state = u.state, priority = u.priority, queue = u.queue,
    project = u.project, owner = u.owner, nodes = u.nodes, gpus_per_node = u.gpus_per_node,
    created_at = u.created_at, queued_at = u.queued_at, not_before = u.not_before, cause = u.cause,
    front = u.front, epoch = u.epoch, attempt = u.attempt, spent = u.spent::smallint[],
    no_progress = u.no_progress, best_step = u.best_step, hardware_window_at = u.hardware_window_at,
    reason = u.reason, ran_us = u.ran_us
  FROM unnest($1::bigint[], $2::integer[], $3::smallint[], $4::smallint[], $5::text[], $6::text[], $7::text[],
              $8::integer[], $9::integer[], $10::timestamptz[], $11::timestamptz[], $12::timestamptz[],
              $13::smallint[], $14::boolean[], $15::bigint[], $16::integer[], $17::text[], $18::smallint[],
              $19::bigint[], $20::timestamptz[], $21::text[], $22::bigint[], $23::integer[])
       AS u(id, version, state, priority, queue, project, owner, nodes, gpus_per_node, created_at, queued_at,
            not_before, cause, front, epoch, attempt, spent, no_progress, best_step, hardware_window_at, reason,
            ran_us, base_version)
  WHERE j.id = u.id AND j.version = u.base_version
  RETURNING 1)
SELECT tutti_expect((SELECT count(*) FROM hit), $24::bigint, 'update of jobs'))"};

constexpr Statement kDeleteJobs{"delete_jobs", R"(
WITH hit AS (
  DELETE FROM job j USING unnest($1::bigint[], $2::integer[]) AS u(id, base_version)
  WHERE j.id = u.id AND j.version = u.base_version
  RETURNING 1)
SELECT tutti_expect((SELECT count(*) FROM hit), $3::bigint, 'end of jobs'))"};

constexpr Statement kInsertDone{"insert_done", R"(
INSERT INTO job_done (id, version, state, priority, queue, project, owner, nodes, gpus_per_node, created_at,
                      queued_at, not_before, cause, front, epoch, attempt, spent, no_progress, best_step,
                      hardware_window_at, reason, ran_us, ended_at, exit_code)
SELECT u.id, u.version, u.state, u.priority, u.queue, u.project, u.owner, u.nodes, u.gpus_per_node, u.created_at,
       u.queued_at, u.not_before, u.cause, u.front, u.epoch, u.attempt, u.spent::smallint[], u.no_progress,
       u.best_step, u.hardware_window_at, u.reason, u.ran_us, u.ended_at, u.exit_code
FROM unnest($1::bigint[], $2::integer[], $3::smallint[], $4::smallint[], $5::text[], $6::text[], $7::text[],
            $8::integer[], $9::integer[], $10::timestamptz[], $11::timestamptz[], $12::timestamptz[],
            $13::smallint[], $14::boolean[], $15::bigint[], $16::integer[], $17::text[], $18::smallint[],
            $19::bigint[], $20::timestamptz[], $21::text[], $22::bigint[], $23::timestamptz[], $24::integer[])
     AS u(id, version, state, priority, queue, project, owner, nodes, gpus_per_node, created_at, queued_at,
          not_before, cause, front, epoch, attempt, spent, no_progress, best_step, hardware_window_at, reason,
          ran_us, ended_at, exit_code))"};

}  // namespace

void add_specs(Pipeline& p, const Batch& batch, const WayOfJobs& way) {
  forget_keys(p, batch.forgotten_keys);
  Rows<SpecRow> specs;
  specs.reserve(batch.new_specs.size());
  for (const auto& s : batch.new_specs)
    if (!way.folding.has(s.id)) specs.push_back(&s);
  add_spec_rows(p, specs, way);
  add_keys(p, batch.new_specs);
  change_specs(p, batch.changed_specs);
}

void add_new_jobs(Pipeline& p, const Batch& batch, const Folding& folding) {
  add_arrays(p, folding);
  std::unordered_set<JobId> ended_at_once;
  for (const auto& d : batch.done)
    if (d.base_version == 0) ended_at_once.insert(d.row.job.id);
  Rows<JobRow> untouched, others;
  for (const auto& j : batch.new_jobs)
    if (!folding.has(j.id) && (ended_at_once.empty() || !ended_at_once.contains(j.id)))
      (never_ran(j) && j.reason.empty() ? untouched : others).push_back(&j);
  if (!untouched.empty()) p.add(kInsertJobs, job_head(untouched));
  if (!others.empty()) p.add(kInsertJobsWhole, job_whole(others));
}

void add_job_updates(Pipeline& p, const std::vector<Batch::JobUpdate>& updates) {
  if (updates.empty()) return;
  Rows<JobRow> rows;
  for (const auto& u : updates) rows.push_back(&u.row);
  Params params = job_whole(rows);
  params.column(updates, [](const Batch::JobUpdate& u) { return u.base_version; })
      .bigint(static_cast<std::int64_t>(updates.size()));
  p.add(kUpdateJobs, std::move(params));
}

void add_done(Pipeline& p, const std::vector<Batch::JobDone>& done) {
  if (done.empty()) return;
  Rows<Batch::JobDone> stored;
  Rows<JobRow> rows;
  for (const auto& d : done) {
    rows.push_back(&d.row.job);
    if (d.base_version != 0) stored.push_back(&d);
  }
  if (!stored.empty()) {
    Params params;
    params.column(stored, [](const Batch::JobDone* d) { return d->row.job.id; })
        .column(stored, [](const Batch::JobDone* d) { return d->base_version; })
        .bigint(static_cast<std::int64_t>(stored.size()));
    p.add(kDeleteJobs, std::move(params));
  }
  Params params = job_whole(rows);
  params.column(done, [](const Batch::JobDone& d) { return d.row.ended_at; })
      .column(done, [](const Batch::JobDone& d) { return d.row.exit_code; });
  p.add(kInsertDone, std::move(params));
}

}  // namespace tutti::db
