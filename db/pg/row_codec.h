// Rows of scheduler/model/rows.h to and from SQL: the SELECT lists and the decoders that read them stand
// together here, used by the snapshot and by the reader alike.
#pragma once

#include <string>

#include "db/pg/result.h"
#include "db/reader.h"
#include "scheduler/model/rows.h"

namespace tutti::db {

// Of job or job_done, whatever `j` is an alias for.
inline constexpr const char* kJobColumns =
    "j.id, j.version, j.state, j.cause, j.priority, j.front, j.queue, j.project, j.owner, j.nodes, "
    "j.gpus_per_node, j.created_at, j.queued_at, j.not_before, j.epoch, j.attempt, j.spent, j.no_progress, "
    "j.best_step, j.hardware_window_at, j.reason, j.ran_us";
JobRow read_job(RowReader& r);
// It waits for its first attempt: what an attempt changes of a row is as it was submitted.
bool never_ran(const JobRow&);

inline constexpr const char* kAttemptColumns =
    "a.job, a.epoch, a.number, a.state, a.result, a.cause, a.detail, a.evidence_json, a.gang::text, "
    "a.resume_path, a.resume_step, a.last_step, a.exit_code, a.placed_at, a.preflight_at, a.starting_at, "
    "a.running_at, a.restored_at, a.caught_up_at, a.fault_at, a.stopping_at, a.ended_at, a.signature, "
    "a.lost_gpu_us, a.continue_for_us, a.witness";
// The same of past ones, without what may be large and is not needed to go on.
inline constexpr const char* kPastAttemptColumns =
    "a.job, a.epoch, a.number, a.state, a.result, a.cause, '' AS detail, '[]' AS evidence_json, "
    "a.gang::text, "
    "'' AS resume_path, a.resume_step, a.last_step, a.exit_code, a.placed_at, a.preflight_at, a.starting_at, "
    "a.running_at, a.restored_at, a.caught_up_at, a.fault_at, a.stopping_at, a.ended_at, a.signature, "
    "a.lost_gpu_us, a.continue_for_us, a.witness";
// A gang that cannot be read is left out, and `damage` (may be null) says what is wrong with it; else it is
// left alone.
AttemptRow read_attempt(RowReader& r, std::string* damage = nullptr);

inline constexpr const char* kAllocationColumns = "gpu, job, epoch, from_at, until_at";
AllocationRow read_allocation(RowReader& r);

inline constexpr const char* kNodeColumns =
    "id, name, queue, address, boot_id, worker_version, state, service, service_reason, cpus, memory_bytes, "
    "kill_mode, driver, simulated_gpus, labels::text, registered_at, state_at, service_at, "
    "service_until, returns, instance, returned_at";
NodeRow read_node(RowReader& r);

inline constexpr const char* kGpuColumns =
    "id, node, uuid, gpu_index, model, memory_bytes, pci, island, health, health_reason, present";
GpuRow read_gpu(RowReader& r);

inline constexpr const char* kCheckpointColumns =
    "c.job, c.epoch, c.step, c.path, c.bytes, c.shards, c.at, c.state, c.detail, c.restored, "
    "c.failed_restores, c.cost_us, c.retired_at, c.deleting, c.deleted_at";
CheckpointRow read_checkpoint(RowReader& r);

inline constexpr const char* kJobEventColumns =
    "id, at, job, node, epoch, kind, from_name, to_name, cause, detail";
inline constexpr const char* kNodeEventColumns =
    "id, at, NULL::bigint, node, epoch, kind, from_name, to_name, cause, detail";
EventRow read_event(RowReader& r);

inline constexpr const char* kFaultColumns =
    "id, at, node, gpu, job, epoch, fault_class, xid, action, detail, rule, slot, shared_by";
FaultRow read_fault(RowReader& r);

inline constexpr const char* kQueueColumns = "name, nodes_of, quota_gpus, borrow_gpus, lend_gpus";
QueueRow read_queue(RowReader& r);
inline constexpr const char* kProjectColumns = "name, parent, weight::text, max_gpus";
ProjectRow read_project(RowReader& r);
inline constexpr const char* kReservationColumns =
    "name, reason, nodes::text, projects::text, from_at, until_at";
ReservationRow read_reservation(RowReader& r);

// Columns that are JSON inside.
std::string names_json(const std::vector<std::string>& names);
std::string gang_json(const std::vector<GangMember>& gang);
std::vector<GangMember> parse_gang(std::string_view json);  // throws StoreError corrupt
std::vector<GangMember> gang_if_readable(std::string_view json, std::string* damage = nullptr);
std::string labels_json(const std::map<std::string, std::string>& labels);
std::map<std::string, std::string> parse_labels(std::string_view json);

// smallint[] as text, empty optional = all zero.
std::optional<std::string> spent_text(const std::array<std::int16_t, kCauseCount>& spent);

// "Not reached" and "none" are NULL in SQL and the epoch in memory.
inline std::optional<Instant> null_if_zero(Instant at) {
  return at == Instant{} ? std::nullopt : std::optional(at);
}
template <class Tag>
std::optional<Id<Tag>> null_if_zero(Id<Tag> id) {
  return id ? std::optional(id) : std::nullopt;
}

}  // namespace tutti::db
