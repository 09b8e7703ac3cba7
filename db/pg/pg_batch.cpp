#include "db/pg/pg_batch.h"

#include <unordered_map>

#include "db/pg/pg_shares.h"
#include "db/pg/row_codec.h"

namespace tutti::db {
namespace {

template <class Row>
using Rows = std::vector<const Row*>;

// An upsert may touch a row once per statement: of equal keys the last one counts.
template <class Row, class Key>
Rows<Row> last_of_each(const std::vector<Row>& rows, Key key) {
  std::unordered_map<std::decay_t<decltype(key(rows.front()))>, std::size_t> place;
  Rows<Row> out;
  for (const auto& row : rows) {
    const auto [it, fresh] = place.emplace(key(row), out.size());
    if (fresh)
      out.push_back(&row);
    else
      out[it->second] = &row;
  }
  return out;
}

template <class Enum>
std::int16_t number(Enum e) {
  return static_cast<std::int16_t>(e);
}

// ---------------------------------------------------------------- nodes and GPUs

constexpr Statement kUpsertNodes{"upsert_nodes", R"(
INSERT INTO node (id, name, queue, address, boot_id, worker_version, state, service, service_reason, cpus,
                  memory_bytes, kill_mode, driver, simulated_gpus, labels, registered_at, state_at, service_at,
                  service_until, returns, instance, returned_at)
SELECT u.a, u.b, u.c, u.d, u.e, u.f, u.g, u.h, u.i, u.j, u.k, u.l, u.m, u.n, u.o::jsonb, u.p, u.q, u.r, u.s, u.t,
       u.u, u.v
FROM unnest($1::bigint[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::smallint[],
            $8::smallint[], $9::text[], $10::integer[], $11::bigint[], $12::text[], $13::text[], $14::boolean[],
            $15::text[], $16::timestamptz[], $17::timestamptz[], $18::timestamptz[], $19::timestamptz[],
            $20::integer[], $21::text[], $22::timestamptz[])
     AS u(a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u, v)
ON CONFLICT (id) DO UPDATE SET name = excluded.name, queue = excluded.queue, address = excluded.address,
  boot_id = excluded.boot_id, worker_version = excluded.worker_version, state = excluded.state,
  service = excluded.service, service_reason = excluded.service_reason, cpus = excluded.cpus,
  memory_bytes = excluded.memory_bytes, kill_mode = excluded.kill_mode, driver = excluded.driver,
  simulated_gpus = excluded.simulated_gpus, labels = excluded.labels, registered_at = excluded.registered_at,
  state_at = excluded.state_at, service_at = excluded.service_at, service_until = excluded.service_until,
  returns = excluded.returns, instance = excluded.instance, returned_at = excluded.returned_at)"};

constexpr Statement kUpsertGpus{"upsert_gpus", R"(
INSERT INTO gpu (id, node, uuid, gpu_index, model, memory_bytes, pci, island, health, health_reason, present)
SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::text[], $4::integer[], $5::text[], $6::bigint[], $7::text[],
                     $8::integer[], $9::smallint[], $10::text[], $11::boolean[])
ON CONFLICT (id) DO UPDATE SET node = excluded.node, uuid = excluded.uuid, gpu_index = excluded.gpu_index,
  model = excluded.model, memory_bytes = excluded.memory_bytes, pci = excluded.pci, island = excluded.island,
  health = excluded.health, health_reason = excluded.health_reason, present = excluded.present)"};

void add_nodes(Pipeline& p, const std::vector<NodeRow>& nodes) {
  if (nodes.empty()) return;
  const auto rows = last_of_each(nodes, [](const NodeRow& n) { return n.id; });
  Params params;
  params.column(rows, [](const NodeRow* n) { return n->id; })
      .column(rows, [](const NodeRow* n) -> std::string_view { return n->name; })
      .column(rows, [](const NodeRow* n) -> std::string_view { return n->queue; })
      .column(rows, [](const NodeRow* n) -> std::string_view { return n->address; })
      .column(rows, [](const NodeRow* n) -> std::string_view { return n->boot_id; })
      .column(rows, [](const NodeRow* n) -> std::string_view { return n->worker_version; })
      .column(rows, [](const NodeRow* n) { return number(n->state); })
      .column(rows, [](const NodeRow* n) { return number(n->service); })
      .column(rows, [](const NodeRow* n) -> std::string_view { return n->service_reason; })
      .column(rows, [](const NodeRow* n) { return n->cpus; })
      .column(rows, [](const NodeRow* n) { return n->memory_bytes; })
      .column(rows, [](const NodeRow* n) -> std::string_view { return n->kill_mode; })
      .column(rows, [](const NodeRow* n) -> std::string_view { return n->driver; })
      .column(rows, [](const NodeRow* n) { return n->simulated_gpus; })
      .column(rows, [](const NodeRow* n) { return labels_json(n->labels); })
      .column(rows, [](const NodeRow* n) { return null_if_zero(n->registered_at); })
      .column(rows, [](const NodeRow* n) { return null_if_zero(n->state_at); })
      .column(rows, [](const NodeRow* n) { return null_if_zero(n->service_at); })
      .column(rows, [](const NodeRow* n) { return null_if_zero(n->service_until); })
      .column(rows, [](const NodeRow* n) { return n->returns; })
      .column(rows, [](const NodeRow* n) -> std::string_view { return n->instance; })
      .column(rows, [](const NodeRow* n) { return null_if_zero(n->returned_at); });
  p.add(kUpsertNodes, std::move(params));
}

void add_gpus(Pipeline& p, const std::vector<GpuRow>& gpus) {
  if (gpus.empty()) return;
  const auto rows = last_of_each(gpus, [](const GpuRow& g) { return g.id; });
  Params params;
  params.column(rows, [](const GpuRow* g) { return g->id; })
      .column(rows, [](const GpuRow* g) { return g->node; })
      .column(rows, [](const GpuRow* g) -> std::string_view { return g->uuid; })
      .column(rows, [](const GpuRow* g) { return g->index; })
      .column(rows, [](const GpuRow* g) -> std::string_view { return g->model; })
      .column(rows, [](const GpuRow* g) { return g->memory_bytes; })
      .column(rows, [](const GpuRow* g) -> std::string_view { return g->pci; })
      .column(rows, [](const GpuRow* g) { return g->island; })
      .column(rows, [](const GpuRow* g) { return number(g->health); })
      .column(rows, [](const GpuRow* g) -> std::string_view { return g->health_reason; })
      .column(rows, [](const GpuRow* g) { return g->present; });
  p.add(kUpsertGpus, std::move(params));
}

// ---------------------------------------------------------------- attempts, allocations, checkpoints

// An attempt that has ended stays ended, whatever a late message made somebody believe.
constexpr Statement kUpsertAttempts{"upsert_attempts", R"(
WITH hit AS (
  INSERT INTO attempt AS a (job, epoch, number, state, result, cause, detail, evidence_json, gang, resume_path,
                            resume_step, last_step, exit_code, placed_at, preflight_at, starting_at, running_at,
                            restored_at, caught_up_at, fault_at, stopping_at, ended_at, signature, lost_gpu_us,
                            continue_for_us, witness)
  SELECT u.a, u.b, u.c, u.d, u.e, u.f, u.g, u.h, u.i::jsonb, u.j, u.k, u.l, u.m, u.n, u.o, u.p, u.q, u.r, u.s, u.t,
         u.u, u.v, u.w, u.x, u.y, u.z
  FROM unnest($1::bigint[], $2::bigint[], $3::integer[], $4::smallint[], $5::smallint[], $6::smallint[],
              $7::text[], $8::text[], $9::text[], $10::text[], $11::bigint[], $12::bigint[], $13::integer[],
              $14::timestamptz[], $15::timestamptz[], $16::timestamptz[], $17::timestamptz[],
              $18::timestamptz[], $19::timestamptz[], $20::timestamptz[], $21::timestamptz[],
              $22::timestamptz[], $23::text[], $24::bigint[], $25::bigint[], $26::bigint[])
       AS u(a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u, v, w, x, y, z)
  ON CONFLICT (job, epoch) DO UPDATE SET number = excluded.number, state = excluded.state,
    result = excluded.result, cause = excluded.cause, detail = excluded.detail,
    evidence_json = excluded.evidence_json, gang = excluded.gang, resume_path = excluded.resume_path,
    resume_step = excluded.resume_step, last_step = excluded.last_step, exit_code = excluded.exit_code,
    placed_at = excluded.placed_at, preflight_at = excluded.preflight_at, starting_at = excluded.starting_at,
    running_at = excluded.running_at, restored_at = excluded.restored_at, caught_up_at = excluded.caught_up_at,
    fault_at = excluded.fault_at, stopping_at = excluded.stopping_at, ended_at = excluded.ended_at,
    signature = excluded.signature, lost_gpu_us = excluded.lost_gpu_us,
    continue_for_us = excluded.continue_for_us, witness = excluded.witness
  WHERE a.state <> 6 OR excluded.state = 6
  RETURNING 1)
SELECT tutti_expect((SELECT count(*) FROM hit), $27::bigint, 'attempts'))"};

// Not "until_at IS NULL": statistics of an idle hour say that no GPU is held, and then the server prefers to
// go through all that are, for each that is given back (2 s for a thousand of a thousand).
constexpr Statement kCloseAllocations{"close_allocations", R"(
WITH hit AS (
  UPDATE allocation a SET until_at = u.until_at
  FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::timestamptz[]) AS u(job, epoch, gpu, until_at)
  WHERE a.job = u.job AND a.epoch = u.epoch AND a.gpu = u.gpu
    AND coalesce(a.until_at, 'infinity') = 'infinity'
  RETURNING 1)
SELECT tutti_expect((SELECT count(*) FROM hit), $5::bigint, 'end of allocations'))"};

constexpr Statement kOpenAllocations{"open_allocations", R"(
INSERT INTO allocation (job, epoch, gpu, from_at, until_at)
SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::timestamptz[], $5::timestamptz[]))"};

// A later epoch may have written the same path again: then it is another checkpoint.
constexpr Statement kUpsertCheckpoints{"upsert_checkpoints", R"(
INSERT INTO checkpoint (job, epoch, step, path, bytes, shards, at, state, detail, restored, failed_restores,
                        cost_us, retired_at, deleting, deleted_at)
SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::text[], $5::bigint[], $6::integer[],
                     $7::timestamptz[], $8::smallint[], $9::text[], $10::boolean[], $11::smallint[],
                     $12::bigint[], $13::timestamptz[], $14::boolean[], $15::timestamptz[])
ON CONFLICT (job, md5(path)) DO UPDATE SET epoch = excluded.epoch, step = excluded.step,
  bytes = excluded.bytes, shards = excluded.shards, at = excluded.at, state = excluded.state,
  detail = excluded.detail, restored = excluded.restored, failed_restores = excluded.failed_restores,
  cost_us = excluded.cost_us, retired_at = excluded.retired_at, deleting = excluded.deleting,
  deleted_at = excluded.deleted_at)"};

void add_attempts(Pipeline& p, const std::vector<AttemptRow>& attempts) {
  if (attempts.empty()) return;
  const auto rows = last_of_each(attempts, [](const AttemptRow& a) { return AttemptKey{a.job, a.epoch}; });
  Params params;
  params.column(rows, [](const AttemptRow* a) { return a->job; })
      .column(rows, [](const AttemptRow* a) { return a->epoch; })
      .column(rows, [](const AttemptRow* a) { return a->number; })
      .column(rows, [](const AttemptRow* a) { return number(a->state); })
      .column(rows, [](const AttemptRow* a) { return number(a->result); })
      .column(rows, [](const AttemptRow* a) { return number(a->cause); })
      .column(rows, [](const AttemptRow* a) -> std::string_view { return a->detail; })
      .column(rows, [](const AttemptRow* a) -> std::string_view { return a->evidence_json; })
      .column(rows, [](const AttemptRow* a) { return gang_json(a->gang); })
      .column(rows, [](const AttemptRow* a) -> std::string_view { return a->resume_path; })
      .column(rows, [](const AttemptRow* a) { return a->resume_step; })
      .column(rows, [](const AttemptRow* a) { return a->last_step; })
      .column(rows, [](const AttemptRow* a) { return a->exit_code; });
  for (Instant AttemptRow::* at :
       {&AttemptRow::placed_at, &AttemptRow::preflight_at, &AttemptRow::starting_at, &AttemptRow::running_at,
        &AttemptRow::restored_at, &AttemptRow::caught_up_at, &AttemptRow::fault_at, &AttemptRow::stopping_at,
        &AttemptRow::ended_at})
    params.column(rows, [at](const AttemptRow* a) { return null_if_zero(a->*at); });
  params.column(rows, [](const AttemptRow* a) -> std::string_view { return a->signature; })
      .column(rows, [](const AttemptRow* a) { return static_cast<std::int64_t>(a->lost_gpu.count()); })
      .column(rows, [](const AttemptRow* a) { return static_cast<std::int64_t>(a->continue_for.count()); })
      .column(rows, [](const AttemptRow* a) { return a->witness; });
  params.bigint(static_cast<std::int64_t>(rows.size()));
  p.add(kUpsertAttempts, std::move(params));
}

void add_allocations(Pipeline& p, const Batch& batch) {
  // Opened and closed in one batch: inserted with its end. All other ends come before the beginnings, so that
  // a GPU can pass from one attempt to the next within a batch.
  std::vector<AllocationRow> opened = batch.opened;
  std::unordered_multimap<GpuId, AllocationRow*> of_gpu;  // few of each, however large the batch
  if (!batch.closed.empty())
    for (auto& o : opened) of_gpu.emplace(o.gpu, &o);
  Rows<AllocationRow> closed;
  for (const auto& c : batch.closed) {
    AllocationRow* in_batch = nullptr;
    const auto [first, last] = of_gpu.equal_range(c.gpu);
    for (auto it = first; it != last; ++it)
      if (it->second->job == c.job && it->second->epoch == c.epoch) in_batch = it->second;
    if (in_batch)
      in_batch->until = c.until;
    else
      closed.push_back(&c);
  }
  if (!closed.empty()) {
    Params params;
    params.column(closed, [](const AllocationRow* a) { return a->job; })
        .column(closed, [](const AllocationRow* a) { return a->epoch; })
        .column(closed, [](const AllocationRow* a) { return a->gpu; })
        .column(closed, [](const AllocationRow* a) { return a->until; })
        .bigint(static_cast<std::int64_t>(closed.size()));
    p.add(kCloseAllocations, std::move(params));
  }
  if (!opened.empty()) {
    Params params;
    params.column(opened, [](const AllocationRow& a) { return a.job; })
        .column(opened, [](const AllocationRow& a) { return a.epoch; })
        .column(opened, [](const AllocationRow& a) { return a.gpu; })
        .column(opened, [](const AllocationRow& a) { return a.from; })
        .column(opened, [](const AllocationRow& a) { return a.until; });
    p.add(kOpenAllocations, std::move(params));
  }
}

void add_checkpoints(Pipeline& p, const std::vector<CheckpointRow>& checkpoints) {
  if (checkpoints.empty()) return;
  const auto rows =
      last_of_each(checkpoints, [](const CheckpointRow& c) { return to_string(c.job) + c.path; });
  Params params;
  params.column(rows, [](const CheckpointRow* c) { return c->job; })
      .column(rows, [](const CheckpointRow* c) { return c->epoch; })
      .column(rows, [](const CheckpointRow* c) { return c->step; })
      .column(rows, [](const CheckpointRow* c) -> std::string_view { return c->path; })
      .column(rows, [](const CheckpointRow* c) { return c->bytes; })
      .column(rows, [](const CheckpointRow* c) { return c->shards; })
      .column(rows, [](const CheckpointRow* c) { return c->at; })
      .column(rows, [](const CheckpointRow* c) { return number(c->state); })
      .column(rows, [](const CheckpointRow* c) -> std::string_view { return c->detail; })
      .column(rows, [](const CheckpointRow* c) { return c->restored; })
      .column(rows, [](const CheckpointRow* c) { return c->failed_restores; })
      .column(rows, [](const CheckpointRow* c) { return c->cost.count(); })
      .column(rows, [](const CheckpointRow* c) { return null_if_zero(c->retired_at); })
      .column(rows, [](const CheckpointRow* c) { return c->deleting; })
      .column(rows, [](const CheckpointRow* c) { return null_if_zero(c->deleted_at); });
  p.add(kUpsertCheckpoints, std::move(params));
}

// ---------------------------------------------------------------- history

constexpr Statement kInsertFaults{"insert_faults", R"(
INSERT INTO fault (id, at, node, gpu, job, epoch, fault_class, xid, action, detail, rule, slot, shared_by)
SELECT * FROM unnest($1::bigint[], $2::timestamptz[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[],
                     $7::text[], $8::integer[], $9::text[], $10::text[], $11::text[], $12::text[],
                     $13::integer[]))"};

constexpr Statement kWithdrawFaults{"withdraw_faults", R"(
UPDATE fault f SET shared_by = 0 FROM unnest($1::bigint[]) AS u(id) WHERE f.id = u.id)"};

constexpr Statement kInsertJobEvents{"insert_job_events", R"(
INSERT INTO job_event (id, at, node, epoch, kind, from_name, to_name, cause, detail, job)
SELECT * FROM unnest($1::bigint[], $2::timestamptz[], $3::bigint[], $4::bigint[], $5::text[], $6::text[],
                     $7::text[], $8::smallint[], $9::text[], $10::bigint[]))"};

constexpr Statement kInsertNodeEvents{"insert_node_events", R"(
INSERT INTO node_event (id, at, node, epoch, kind, from_name, to_name, cause, detail)
SELECT * FROM unnest($1::bigint[], $2::timestamptz[], $3::bigint[], $4::bigint[], $5::text[], $6::text[],
                     $7::text[], $8::smallint[], $9::text[]))"};

void add_faults(Pipeline& p, const std::vector<FaultRow>& rows) {
  if (rows.empty()) return;
  Params params;
  params.column(rows, [](const FaultRow& f) { return f.id; })
      .column(rows, [](const FaultRow& f) { return f.at; })
      .column(rows, [](const FaultRow& f) { return null_if_zero(f.node); })
      .column(rows, [](const FaultRow& f) { return null_if_zero(f.gpu); })
      .column(rows, [](const FaultRow& f) { return null_if_zero(f.job); })
      .column(rows, [](const FaultRow& f) { return null_if_zero(f.epoch); })
      .column(rows, [](const FaultRow& f) -> std::string_view { return f.fault_class; })
      .column(rows, [](const FaultRow& f) { return f.xid; })
      .column(rows, [](const FaultRow& f) -> std::string_view { return f.action; })
      .column(rows, [](const FaultRow& f) -> std::string_view { return f.detail; })
      .column(rows, [](const FaultRow& f) -> std::string_view { return f.rule; })
      .column(rows, [](const FaultRow& f) -> std::string_view { return f.slot; })
      .column(rows, [](const FaultRow& f) { return f.shared_by; });
  p.add(kInsertFaults, std::move(params));
}

void withdraw_faults(Pipeline& p, const std::vector<FaultId>& ids) {
  if (ids.empty()) return;
  Params params;
  params.column(ids, [](FaultId id) { return id; });
  p.add(kWithdrawFaults, std::move(params));
}

Params event_columns(const Rows<EventRow>& rows) {
  Params params;
  params.column(rows, [](const EventRow* e) { return e->id; })
      .column(rows, [](const EventRow* e) { return e->at; })
      .column(rows, [](const EventRow* e) { return null_if_zero(e->node); })
      .column(rows, [](const EventRow* e) { return null_if_zero(e->epoch); })
      .column(rows, [](const EventRow* e) -> std::string_view { return e->kind; })
      .column(rows, [](const EventRow* e) -> std::string_view { return e->from; })
      .column(rows, [](const EventRow* e) -> std::string_view { return e->to; })
      .column(rows, [](const EventRow* e) { return number(e->cause); })
      .column(rows, [](const EventRow* e) -> std::string_view { return e->detail; });
  return params;
}

void add_events(Pipeline& p, const std::vector<EventRow>& events, const Folding& folding) {
  Rows<EventRow> of_jobs, of_nodes;
  for (const auto& e : events)
    if (!folding.has(e.job)) (e.job ? of_jobs : of_nodes).push_back(&e);
  if (!of_jobs.empty()) {
    Params params = event_columns(of_jobs);
    params.column(of_jobs, [](const EventRow* e) { return e->job; });
    p.add(kInsertJobEvents, std::move(params));
  }
  if (!of_nodes.empty()) p.add(kInsertNodeEvents, event_columns(of_nodes));
}

constexpr Statement kBegin{"begin", "BEGIN"};
constexpr Statement kCommit{"commit", "COMMIT"};
constexpr Statement kCheckTerm{"check_term", "SELECT tutti_check_term($1::bigint)"};
constexpr Statement kProve{"prove",
                           "UPDATE leader_term SET proven_at = clock_timestamp() WHERE term = $1::bigint"};

void add_begin(Pipeline& p, Term term) {
  p.add(kBegin);
  Params params;
  params.bigint(term.value);
  p.add(kCheckTerm, std::move(params));
}

std::size_t add_commit(Pipeline& p) {
  const std::size_t commit = p.size();
  p.add(kCommit);
  return commit;
}

}  // namespace

std::size_t add_transaction(Pipeline& p, const Batch& batch, Term term, const WayOfJobs& way) {
  add_begin(p, term);
  add_unfolding(p, way.unfolding);  // before anything asks for rows of their own
  add_specs(p, batch, way);
  add_new_jobs(p, batch, way.folding);
  add_job_updates(p, batch.jobs);
  add_nodes(p, batch.nodes);
  add_gpus(p, batch.gpus);
  add_attempts(p, batch.attempts);
  add_attempts(p, batch.supplemented);
  add_attempts(p, batch.revised);
  add_allocations(p, batch);
  add_checkpoints(p, batch.checkpoints);
  add_faults(p, batch.faults);
  withdraw_faults(p, batch.withdrawn);
  add_done(p, batch.done);
  add_events(p, batch.events, way.folding);
  add_shares(p, batch);
  return add_commit(p);
}

std::size_t add_proof(Pipeline& p, Term term) {
  add_begin(p, term);
  Params params;
  params.bigint(term.value);
  p.add(kProve, std::move(params));
  return add_commit(p);
}

}  // namespace tutti::db
