#include "cli/restore_rows.h"

namespace tutti::cli {
namespace {

constexpr double kQuietMinutes = 21;

// In the order in which ids are given away; $1 are the gaps.
constexpr const char* kRaiseFloor = R"(
UPDATE id_floor SET
  job = greatest(job, (SELECT max(id) FROM job_spec), (SELECT max(last) FROM job_array)) + $1::bigint,
  node = greatest(node, coalesce((SELECT max(id) FROM node), 0)) + $2::bigint,
  gpu = greatest(gpu, coalesce((SELECT max(id) FROM gpu), 0)) + $2::bigint,
  event = greatest(event, (SELECT max(id) FROM job_event), (SELECT max(id) FROM node_event),
                   (SELECT max(last_event) FROM job_array)) + $3::bigint,
  fault = greatest(fault, coalesce((SELECT max(id) FROM fault), 0)) + $3::bigint)";

// Jobs that ran, or were about to, or were being stopped. `goes`: where each of them goes now, as its order
// at the backup has it.
constexpr const char* kLive = R"(
CREATE TEMP TABLE restored_live ON COMMIT DROP AS
SELECT j.id, j.state AS job_state, j.epoch, coalesce(a.state, 5::smallint) AS attempt_state,
       CASE coalesce(a.cause, 0) WHEN 15 THEN 10 WHEN 17 THEN 4 ELSE 1 END::smallint AS goes,
       greatest(0, extract(epoch FROM $1::timestamptz - a.running_at) * 1000000)::bigint AS ran_us,
       row_number() OVER (ORDER BY j.id) AS n
FROM job j LEFT JOIN attempt a ON a.job = j.id AND a.epoch = j.epoch AND a.state <> 6
WHERE j.state IN (5, 6, 7))";

// Both machines go through `stopping`; ids rise with the jobs.
constexpr const char* kTellEnds = R"(
WITH told AS (
  SELECT l.*, k, s.kind, s.from_name, s.to_name FROM restored_live l
  JOIN job_state_name j ON j.state = l.job_state
  JOIN attempt_state_name a ON a.state = l.attempt_state
  CROSS JOIN LATERAL (VALUES
    (1, 'attempt', a.name, 'stopping', l.attempt_state < 5), (2, 'state', j.name, 'stopping', l.job_state < 7),
    (3, 'attempt', 'stopping', 'ended', true),
    (4, 'state', 'stopping', CASE l.goes WHEN 10 THEN 'cancelled' WHEN 4 THEN 'held' ELSE 'queued' END, true))
    AS s(k, kind, from_name, to_name, holds)
  WHERE s.holds)
INSERT INTO job_event (id, at, job, node, epoch, cause, kind, from_name, to_name, detail)
SELECT f.event + 4 * (n - 1) + k, now(), t.id, NULL, t.epoch, 13, t.kind, t.from_name, t.to_name, $1::text
FROM told t CROSS JOIN id_floor f)";

constexpr const char* kEndAttempts = R"(
UPDATE attempt SET state = 6, result = 3, cause = CASE WHEN cause IN (15, 16, 17) THEN cause ELSE 13 END,
  detail = $1::text, stopping_at = coalesce(stopping_at, now()), ended_at = now()
WHERE state <> 6)";

constexpr const char* kCancelled = R"(
WITH gone AS (
  DELETE FROM job j USING restored_live l WHERE j.id = l.id AND l.goes = 10 RETURNING j.*, l.ran_us AS ran_now)
INSERT INTO job_done (id, created_at, queued_at, not_before, hardware_window_at, ended_at, epoch, best_step, version,
                      nodes, gpus_per_node, attempt, exit_code, state, cause, priority, no_progress, front, queue,
                      project, owner, spent, reason, ran_us)
SELECT id, created_at, queued_at, not_before, hardware_window_at, now(), epoch, best_step, version + 1, nodes,
       gpus_per_node, attempt, -1, 10, 15, priority, no_progress, front, queue, project, owner, spent, $1::text,
       ran_us + ran_now FROM gone)";

constexpr const char* kWaitAgain = R"(
UPDATE job j SET state = l.goes, version = j.version + 1, front = (l.goes = 1), queued_at = now(), not_before = NULL,
  reason = CASE l.goes WHEN 4 THEN j.reason ELSE '' END, cause = CASE l.goes WHEN 4 THEN 17 ELSE 0 END,
  ran_us = j.ran_us + l.ran_us
FROM restored_live l WHERE j.id = l.id AND l.goes <> 10)";

constexpr const char* kReserve = R"(
INSERT INTO reservation (name, reason, nodes, projects, from_at, until_at)
VALUES ('restored', $1::text, '["*"]', '[]', now(), now() + make_interval(secs => $2::double precision))
ON CONFLICT (name) DO UPDATE SET reason = EXCLUDED.reason, nodes = EXCLUDED.nodes, projects = EXCLUDED.projects,
  from_at = EXCLUDED.from_at, until_at = EXCLUDED.until_at)";

// "share" is the kind of events that belong to no node.
constexpr const char* kTell = R"(
INSERT INTO node_event (id, at, node, epoch, cause, kind, from_name, to_name, detail)
SELECT event + 1, now(), NULL, NULL, 13, 'share', '', 'restored', $1::text FROM id_floor)";

}  // namespace

std::chrono::seconds quiet_time(double minutes) {
  return std::chrono::seconds(static_cast<long long>((minutes < 0 ? kQuietMinutes : minutes) * 60));
}

RestoreResult raise_above_the_past(pqxx::connection& session, const RestorePlan& plan) {
  const std::string why = "the database was restored from the backup of " + plan.taken_at;
  pqxx::work tx(session);
  tx.exec("SET LOCAL search_path = public, pg_temp; SET LOCAL statement_timeout = 0");
  tx.exec_params(kRaiseFloor, kJobGap, kMachineGap, kEventGap);
  tx.exec_params(kLive, plan.taken_at);
  RestoreResult result;
  result.requeued = tx.exec1("SELECT count(*) FROM restored_live WHERE goes = 1")[0].as<std::int64_t>();
  const std::string ended = why + "; what this attempt has done since is not known";
  tx.exec_params(kTellEnds, ended);
  tx.exec_params(kEndAttempts, ended);
  tx.exec("UPDATE allocation SET until_at = greatest(from_at, now()) WHERE until_at IS NULL");
  tx.exec_params(kCancelled, why);
  tx.exec(kWaitAgain);
  // Of all: one that waited at the backup may have run since, and its worker may still have that attempt.
  tx.exec_params("UPDATE job SET epoch = epoch + $1::bigint", kEpochGap);
  tx.exec_params("UPDATE job_array SET epoch = epoch + $1::bigint", kEpochGap);
  tx.exec("UPDATE id_floor SET event = event + 4 * (SELECT count(*) FROM restored_live)");
  tx.exec_params(kTell, why + "; term " + std::to_string(plan.term));
  tx.exec("UPDATE id_floor SET event = event + 1");
  // R of a leader that may live is still waited for, but nobody is told of our term: in a drill it leads on.
  tx.exec("UPDATE leader_term SET url = ''");
  tx.exec("DELETE FROM console_session");  // cookies that were revoked after the backup must not work again
  if (plan.quiet.count() > 0)
    tx.exec_params(kReserve, why + ": attempts of before may still run on nodes that are not connected yet",
                   static_cast<double>(plan.quiet.count()));
  tx.exec_params("INSERT INTO leader (term, holder) VALUES ($1::bigint, $2::text)", plan.term,
                 "restore of " + plan.taken_at);
  const auto row = tx.exec1(
      "SELECT (SELECT count(*) FROM job) + coalesce((SELECT sum(tutti_tasks_in(waiting)) FROM job_array), "
      "0)::bigint,"
      " job + 1 FROM id_floor");
  result.jobs = row[0].as<std::int64_t>();
  result.next_job = row[1].as<std::int64_t>();
  tx.commit();
  return result;
}

}  // namespace tutti::cli
