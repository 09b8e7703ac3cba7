#include "db/pg/pg_shares.h"

#include <array>
#include <charconv>

#include "db/pg/params.h"
#include "db/pg/row_codec.h"

namespace tutti::db {
namespace {

constexpr Statement kUpsertQueues{"upsert_queues", R"(
INSERT INTO queue (name, nodes_of, quota_gpus, borrow_gpus, lend_gpus)
SELECT * FROM unnest($1::text[], $2::text[], $3::integer[], $4::integer[], $5::integer[])
ON CONFLICT (name) DO UPDATE SET nodes_of = excluded.nodes_of, quota_gpus = excluded.quota_gpus,
  borrow_gpus = excluded.borrow_gpus, lend_gpus = excluded.lend_gpus)"};

constexpr Statement kUpsertProjects{"upsert_projects", R"(
INSERT INTO project (name, parent, weight, max_gpus)
SELECT u.a, u.b, u.c::double precision, u.d
FROM unnest($1::text[], $2::text[], $3::text[], $4::integer[]) AS u(a, b, c, d)
ON CONFLICT (name) DO UPDATE SET parent = excluded.parent, weight = excluded.weight, max_gpus = excluded.max_gpus)"};

constexpr Statement kUpsertReservations{"upsert_reservations", R"(
INSERT INTO reservation (name, reason, nodes, projects, from_at, until_at)
SELECT u.a, u.b, u.c::jsonb, u.d::jsonb, u.e, u.f
FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::timestamptz[], $6::timestamptz[])
     AS u(a, b, c, d, e, f)
ON CONFLICT (name) DO UPDATE SET reason = excluded.reason, nodes = excluded.nodes, projects = excluded.projects,
  from_at = excluded.from_at, until_at = excluded.until_at)"};

constexpr Statement kDeleteQueues{"delete_queues", "DELETE FROM queue WHERE name = ANY($1::text[])"};
constexpr Statement kDeleteProjects{"delete_projects", "DELETE FROM project WHERE name = ANY($1::text[])"};
constexpr Statement kDeleteReservations{"delete_reservations",
                                        "DELETE FROM reservation WHERE name = ANY($1::text[])"};

// The shortest text that reads back as the same number.
std::string shortest(double value) {
  std::array<char, 32> text{};
  const auto [end, code] = std::to_chars(text.data(), text.data() + text.size(), value);
  return {text.data(), end};
}

void remove(Pipeline& p, Statement statement, const std::vector<std::string>& names) {
  if (names.empty()) return;
  Params params;
  params.column(names, [](const std::string& n) -> std::string_view { return n; });
  p.add(statement, std::move(params));
}

}  // namespace

void add_shares(Pipeline& p, const Batch& batch) {
  if (!batch.queues.empty()) {
    Params params;
    params.column(batch.queues, [](const QueueRow& q) -> std::string_view { return q.name; })
        .column(batch.queues, [](const QueueRow& q) -> std::string_view { return q.nodes_of; })
        .column(batch.queues, [](const QueueRow& q) { return q.quota_gpus; })
        .column(batch.queues, [](const QueueRow& q) { return q.borrow_gpus; })
        .column(batch.queues, [](const QueueRow& q) { return q.lend_gpus; });
    p.add(kUpsertQueues, std::move(params));
  }
  if (!batch.projects.empty()) {
    Params params;
    params.column(batch.projects, [](const ProjectRow& r) -> std::string_view { return r.name; })
        .column(batch.projects, [](const ProjectRow& r) -> std::string_view { return r.parent; })
        .column(batch.projects, [](const ProjectRow& r) { return shortest(r.weight); })
        .column(batch.projects, [](const ProjectRow& r) { return r.max_gpus; });
    p.add(kUpsertProjects, std::move(params));
  }
  if (!batch.reservations.empty()) {
    const auto& rows = batch.reservations;
    Params params;
    params.column(rows, [](const ReservationRow& r) -> std::string_view { return r.name; })
        .column(rows, [](const ReservationRow& r) -> std::string_view { return r.reason; })
        .column(rows, [](const ReservationRow& r) { return names_json(r.nodes); })
        .column(rows, [](const ReservationRow& r) { return names_json(r.projects); })
        .column(rows, [](const ReservationRow& r) { return r.from; })
        .column(rows, [](const ReservationRow& r) { return r.until; });
    p.add(kUpsertReservations, std::move(params));
  }
  remove(p, kDeleteQueues, batch.removed_queues);
  remove(p, kDeleteProjects, batch.removed_projects);
  remove(p, kDeleteReservations, batch.removed_reservations);
}

}  // namespace tutti::db
