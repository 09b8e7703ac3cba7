// Field by field comparison of rows, for tests. Kept beside the rows of tests/store: the model has no use for
// it.
#pragma once

#include <tuple>

#include "scheduler/model/rows.h"

namespace tutti {

inline auto tied(const JobRow& r) {
  return std::tie(r.id, r.version, r.state, r.cause, r.priority, r.front, r.queue, r.project, r.owner,
                  r.nodes, r.gpus_per_node, r.created_at, r.queued_at, r.not_before, r.epoch, r.attempt,
                  r.spent, r.no_progress, r.best_step, r.hardware_window_at, r.reason, r.ran);
}
inline auto tied(const GangMember& r) {
  return std::tie(r.node, r.node_name, r.gpus, r.first_rank, r.ranks, r.state, r.address, r.agent_port,
                  r.master_port, r.ok, r.exit_code, r.signal, r.how);
}
inline bool operator==(const GangMember& a, const GangMember& b) { return tied(a) == tied(b); }
inline auto tied(const AttemptRow& r) {
  return std::tie(r.job, r.epoch, r.number, r.state, r.result, r.cause, r.detail, r.evidence_json, r.gang,
                  r.resume_path, r.resume_step, r.last_step, r.exit_code, r.placed_at, r.preflight_at,
                  r.starting_at, r.running_at, r.restored_at, r.caught_up_at, r.fault_at, r.stopping_at,
                  r.ended_at, r.signature, r.lost_gpu, r.continue_for, r.witness);
}
inline auto tied(const AllocationRow& r) { return std::tie(r.gpu, r.job, r.epoch, r.from, r.until); }
inline auto tied(const QueueRow& r) {
  return std::tie(r.name, r.nodes_of, r.quota_gpus, r.borrow_gpus, r.lend_gpus);
}
inline auto tied(const ProjectRow& r) { return std::tie(r.name, r.parent, r.weight, r.max_gpus); }
inline auto tied(const ReservationRow& r) {
  return std::tie(r.name, r.reason, r.nodes, r.projects, r.from, r.until);
}
inline auto tied(const NodeRow& r) {
  return std::tie(r.id, r.name, r.queue, r.address, r.boot_id, r.worker_version, r.state, r.service,
                  r.service_reason, r.cpus, r.memory_bytes, r.kill_mode, r.driver, r.simulated_gpus, r.labels,
                  r.registered_at, r.state_at, r.service_at, r.service_until, r.returns, r.instance,
                  r.returned_at);
}
inline auto tied(const GpuRow& r) {
  return std::tie(r.id, r.node, r.uuid, r.index, r.model, r.memory_bytes, r.pci, r.island, r.health,
                  r.health_reason, r.present);
}
inline auto tied(const CheckpointRow& r) {
  return std::tie(r.job, r.epoch, r.step, r.path, r.bytes, r.shards, r.at, r.state, r.detail, r.restored,
                  r.failed_restores, r.cost, r.retired_at, r.deleting, r.deleted_at);
}
inline auto tied(const EventRow& r) {
  return std::tie(r.id, r.at, r.job, r.node, r.epoch, r.kind, r.from, r.to, r.cause, r.detail);
}
inline auto tied(const FaultRow& r) {
  return std::tie(r.id, r.at, r.node, r.gpu, r.job, r.epoch, r.fault_class, r.xid, r.action, r.detail, r.rule,
                  r.slot, r.shared_by);
}

inline bool operator==(const JobRow& a, const JobRow& b) { return tied(a) == tied(b); }
inline bool operator==(const AttemptRow& a, const AttemptRow& b) { return tied(a) == tied(b); }
inline bool operator==(const AllocationRow& a, const AllocationRow& b) { return tied(a) == tied(b); }
inline bool operator==(const QueueRow& a, const QueueRow& b) { return tied(a) == tied(b); }
inline bool operator==(const ProjectRow& a, const ProjectRow& b) { return tied(a) == tied(b); }
inline bool operator==(const ReservationRow& a, const ReservationRow& b) { return tied(a) == tied(b); }
inline bool operator==(const NodeRow& a, const NodeRow& b) { return tied(a) == tied(b); }
inline bool operator==(const GpuRow& a, const GpuRow& b) { return tied(a) == tied(b); }
inline bool operator==(const CheckpointRow& a, const CheckpointRow& b) { return tied(a) == tied(b); }
inline bool operator==(const EventRow& a, const EventRow& b) { return tied(a) == tied(b); }
inline bool operator==(const FaultRow& a, const FaultRow& b) { return tied(a) == tied(b); }
inline bool operator==(const Snapshot::Key& a, const Snapshot::Key& b) {
  return a.owner == b.owner && a.key == b.key && a.body_hash == b.body_hash && a.job == b.job;
}

}  // namespace tutti
