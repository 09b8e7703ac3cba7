// The durable state, row by row: what the core decides and the store writes. One struct per table, the
// columns in outline (sql/migrations has the types and constraints). Rows are the truth: everything the
// control plane knows after a crash is a Snapshot of these. Std only.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "scheduler/model/ids.h"
#include "scheduler/model/job_spec.h"
#include "scheduler/model/name.h"
#include "scheduler/model/rare.h"
#include "scheduler/model/states.h"
#include "scheduler/model/time.h"

namespace tutti {

// Table job: one narrow row per job that is not finished. Updated by compare-and-set on (id, version). There
// may be a million in memory: small fields stand together.
struct JobRow {
  JobId id;
  std::int32_t version = 1;  // rises with every committed change; 1 = as inserted
  JobState state = JobState::queued;
  Cause cause = Cause::none;  // of the last ended attempt, or why it is held
  std::int16_t priority = 50;
  bool front = false;            // goes before others of its band: a restart after a fault
  std::int16_t no_progress = 0;  // attempts in a row that did not get past `best_step`
  std::int32_t attempt = 0;      // number of attempts so far
  Name queue;
  Name project;
  Name owner;
  std::int32_t nodes = 1;
  std::int32_t gpus_per_node = 0;
  Instant created_at;
  Instant queued_at;   // orders equals; kept over restarts
  Instant not_before;  // delayed until; epoch 0 = none
  Epoch epoch;         // of the newest attempt; 0 = never placed
  // Attempts charged per cause since the last progress reset (core/retry.h); index = Cause.
  RareCounts<kCauseCount> spent;
  std::int64_t best_step = -1;  // newest step of a registered checkpoint, -1 = none
  Instant hardware_window_at;   // start of the 24 h window of the hardware budget
  Duration ran{};               // running time of all ended attempts
  RareText reason;              // one line for people: why held, delayed or failed
};

// Table job_spec: written once at submission; what people change later stands beside it
// (Batch::changed_specs).
struct SpecRow {
  JobId id;
  std::string owner;
  std::string name;
  std::string spec_json;  // the spec with all defaults filled in
  Instant created_at;
  JobState initial_state = JobState::queued;
  std::string idempotency_key;  // empty = none; unique per owner
  std::uint64_t body_hash = 0;  // of the submitted body, to tell a replay from a misuse of the key
};

// Table job_done: a finished job. Replaces its row in `job` in the same transaction.
struct DoneRow {
  JobRow job;  // state is terminal
  Instant ended_at;
  std::int32_t exit_code = 0;
};

enum class MemberState : std::uint8_t {
  asked = 1,      // told to prepare
  preparing = 2,  // has accepted
  ready = 3,      // prepared, endpoint known
  launched = 4,   // told to launch
  running = 5,    // its ranks are up
  ended = 6,      // its ranks are proven dead (or fenced by the lease)
};

// One node's part of a gang. Stored inside the attempt row (JSON column `gang`).
struct GangMember {
  NodeId node;
  std::string node_name;
  std::vector<GpuId> gpus;
  std::int32_t first_rank = 0;
  std::int32_t ranks = 0;
  MemberState state = MemberState::asked;
  std::string address;           // where its peers reach it, from its registration
  std::int32_t agent_port = 0;   // of its launch agent (mpirun), told when ready
  std::int32_t master_port = 0;  // node 0: rendezvous port for the ranks, told when ready
  bool ok = false;               // ended by itself with every rank's status 0
  std::int32_t exit_code = 0;    // of its first failing rank
  std::int32_t signal = 0;       // that killed its first failing rank
  std::string how;               // proof of death: "cgroup", "scan", "lease", "gone", or "unproven: …"
};

// Table attempt. Key (job, epoch).
struct AttemptRow {
  JobId job;
  Epoch epoch;
  std::int32_t number = 1;
  AttemptState state = AttemptState::placed;
  AttemptResult result = AttemptResult::none;
  Cause cause = Cause::none;  // recorded before the stop is sent
  std::string detail;         // one line: "Xid 79 on GPU-… (node n2): GPU has fallen off the bus"
  std::string evidence_json;  // array of objects, [] = none
  std::vector<GangMember> gang;
  std::string resume_path;  // checkpoint it starts from, empty = from scratch
  std::int64_t resume_step = -1;
  std::int64_t last_step = -1;  // newest step reported by progress
  std::int32_t exit_code = 0;
  // Stages of a recovery (docs: recovery accounting); epoch 0 = not reached.
  Instant placed_at, preflight_at, starting_at, running_at;
  Instant restored_at, caught_up_at;  // first step beyond the one it resumed from; beyond the attempt before
  Instant fault_at;                   // first evidence, in the clock of the node that saw it
  Instant stopping_at;                // decided
  Instant ended_at;                   // every rank proven dead
  std::string signature;  // of its failure: kind, code and first failing rank's last words; "" = none
  Duration lost_gpu{};  // GPU time since its last checkpoint, or since it ran: work that is to be done again
  // Without a scheduler it goes on so long, while its nodes and this one acknowledge each other; 0: not.
  Duration continue_for{};
  NodeId witness;  // 0 = none
};

// Table allocation: one GPU held by one attempt over a time. An exclusion constraint forbids overlap.
struct AllocationRow {
  GpuId gpu;
  JobId job;
  Epoch epoch;
  Instant from;
  std::optional<Instant> until;
};

// Table queue: where jobs wait. Has nodes of its own, or a share of another queue's.
struct QueueRow {
  std::string name;
  std::string nodes_of;           // the queue whose nodes it uses; "" = its own
  std::int32_t quota_gpus = -1;   // guaranteed; -1 = none: it may use all, and lends nothing
  std::int32_t borrow_gpus = -1;  // at most so many beyond its quota; -1 = all that others lend
  std::int32_t lend_gpus = -1;  // at most so many of its quota to others while it does not use them; -1 = all
};

// Table project: who is charged. Shares are weights among the children of one parent.
struct ProjectRow {
  std::string name;
  std::string parent;          // "" = of the top level
  double weight = 1;           // > 0
  std::int32_t max_gpus = -1;  // held at one time; -1 = no limit
};

// Table reservation: nodes that only some projects may use during a time; nobody = maintenance.
struct ReservationRow {
  std::string name;
  std::string reason;
  std::vector<std::string> nodes;     // names
  std::vector<std::string> projects;  // who may use them
  Instant from, until;
};

// Table node.
struct NodeRow {
  NodeId id;
  std::string name;
  std::string queue = "default";
  std::string address;
  std::string boot_id;
  std::string worker_version;
  NodeState state = NodeState::reachable;
  NodeService service = NodeService::schedulable;
  std::string service_reason;
  std::int32_t cpus = 0;
  std::int64_t memory_bytes = 0;
  std::string kill_mode;  // "cgroup2", "process-group"
  std::string driver;
  bool simulated_gpus = false;
  std::map<std::string, std::string> labels;
  Instant registered_at;
  Instant state_at;       // of the last change of `state`
  Instant service_at;     // of the last change of `service`
  Instant service_until;  // then it is schedulable again; epoch 0 = no end by itself. Of probation, or said
  std::int32_t returns = 0;  // from repair, each within four weeks of the one before: doubles the probation
  std::string instance;      // of its worker's state directory: another machine of that name has another
  Instant returned_at;       // from repair, the last time
};

// Table gpu. Identified by UUID; `index` and `pci` may change after a reset.
struct GpuRow {
  GpuId id;
  NodeId node;
  std::string uuid;
  std::int32_t index = 0;
  std::string model;
  std::int64_t memory_bytes = 0;
  std::string pci;
  std::int32_t island = 0;  // NVLink island inside the node; -1: none
  GpuHealth health = GpuHealth::healthy;
  std::string health_reason;
  bool present = true;  // false: the node no longer reports it
};

// Table checkpoint. Exists only if its epoch was current when it was registered.
struct CheckpointRow {
  JobId job;
  Epoch epoch;
  std::int64_t step = 0;
  std::string path;
  std::int64_t bytes = 0;
  std::int32_t shards = 0;
  Instant at;
  CheckpointState state = CheckpointState::found;
  std::string detail{};              // one line: why it is suspect or bad
  bool restored = false;             // an attempt that began from it has made a later one
  std::int16_t failed_restores = 0;  // attempts in a row that began from it and ended before a new one
  Duration cost{};                   // of writing it; zero = not known
  // Deletion by `checkpoint.keep`, in two phases. Retired: to be deleted after a while, and still used if all
  // others turn out bad. Deleting: a worker is told to, it is never used again.
  Instant retired_at{};  // epoch 0 = no
  bool deleting = false;
  Instant deleted_at{};  // epoch 0 = no
};

// Tables job_event (job set) and node_event (node set): append-only history. One row per transition, in the
// transition's own transaction.
struct EventRow {
  EventId id;
  Instant at;
  JobId job;         // 0 = a node's event
  NodeId node;       // 0 = none
  Epoch epoch;       // 0 = none
  std::string kind;  // "state" | "attempt" | "checkpoint" | "fault" | "node" | "service" | "gpu"
  std::string from;  // names, "" = none
  std::string to;
  Cause cause = Cause::none;
  std::string detail;
  std::string project{}, owner{};  // of the job; not stored here: known to the core, joined by the reader
};

// Table fault: the ledger.
struct FaultRow {
  FaultId id;
  Instant at;
  NodeId node;
  GpuId gpu;                // 0 = none
  JobId job;                // hit by it, 0 = none
  Epoch epoch;              // likewise
  std::string fault_class;  // "xid", "gpu_lost", "node_lost", …
  std::int32_t xid = 0;
  std::string action;  // what we did: "quarantine", "watch", "none", "folded", "shadow: quarantine", …
  std::string detail;
  std::string rule;            // table, hash and row that judged it: "2026-11-2#1a2b3c4d xid:79"
  std::string slot;            // PCI address of the GPU then
  std::int32_t shared_by = 0;  // 1 = speaks against GPU and node, n = one of n nodes is to blame, 0 = nobody
};

// What one transaction writes. Built by the core, applied whole or not at all.
struct Batch {
  std::vector<SpecRow> new_specs;  // one per submission, also of jobs that finish in the same batch
  std::map<JobId, std::string> changed_specs;  // spec_json as it holds from now on; the submitted one is kept
  std::vector<JobRow> new_jobs;
  struct JobUpdate {
    JobRow row;
    std::int32_t base_version;  // the version it must have in the store
  };
  std::vector<JobUpdate> jobs;
  struct JobDone {
    DoneRow row;
    std::int32_t base_version;  // 0: inserted and finished in the same batch, no row in `job`
  };
  std::vector<JobDone> done;
  std::vector<AttemptRow> attempts;  // upsert
  // Likewise: ended ones, of which more has become known, and then those of which a later verdict has moved
  // the cause. Of one that is in both the second row has all.
  std::vector<AttemptRow> supplemented, revised;
  std::vector<AllocationRow> opened;
  std::vector<AllocationRow> closed;       // `until` set
  std::vector<NodeRow> nodes;              // upsert
  std::vector<GpuRow> gpus;                // upsert
  std::vector<CheckpointRow> checkpoints;  // upsert by (job, path)
  std::vector<FaultRow> faults;
  std::vector<FaultId> withdrawn;  // faults, also of this batch, that speak against nobody any more
  std::vector<EventRow> events;
  struct OldKey {
    std::string owner;
    std::string key;
  };
  std::vector<OldKey> forgotten_keys;        // idempotency keys that go; before new ones come
  std::vector<QueueRow> queues;              // upsert
  std::vector<ProjectRow> projects;          // upsert
  std::vector<ReservationRow> reservations;  // upsert
  std::vector<std::string> removed_queues, removed_projects, removed_reservations;  // names

  bool empty() const {
    return new_jobs.empty() && changed_specs.empty() && jobs.empty() && done.empty() && attempts.empty() &&
           opened.empty() && closed.empty() && supplemented.empty() && revised.empty() && nodes.empty() &&
           gpus.empty() && checkpoints.empty() && faults.empty() && withdrawn.empty() && events.empty() &&
           queues.empty() && projects.empty() && reservations.empty() && removed_queues.empty() &&
           removed_projects.empty() && removed_reservations.empty();
  }
};

// Texts of many jobs, of which many are the same.
struct SpecTexts {
  std::vector<std::string> texts;
  std::vector<std::uint32_t> places;  // in `texts`, of each job

  void add(std::string text) {
    places.push_back(static_cast<std::uint32_t>(texts.size()));
    texts.push_back(std::move(text));
  }
  const std::string& of(std::size_t job) const { return texts[places[job]]; }
};

// What the store reads back at boot, and whenever it is unknown what a commit did.
struct Snapshot {
  struct Key {
    Name owner;
    std::string key;
    std::uint64_t body_hash;
    JobId job;
  };
  struct Past {  // a job that has ended: what history and fair share are made of
    Name project, owner, queue;
    int gpus = 0;
    Duration ran{};
    Instant ended_at;
    bool finished = false;  // by itself: its run time says how long such jobs run
  };
  std::vector<Past> past;                  // the newest few thousand, oldest first
  std::vector<JobRow> jobs;                // unfinished
  SpecTexts specs;                         // spec_json of each of them, same order as `jobs`
  std::vector<AttemptRow> attempts;        // not ended
  std::vector<AllocationRow> allocations;  // open
  std::vector<NodeRow> nodes;
  std::vector<GpuRow> gpus;
  std::vector<CheckpointRow> checkpoints;  // of unfinished jobs, not deleted, by (job, step)
  std::vector<AttemptRow> past_attempts;   // the newest few failed ones of each unfinished job, oldest first,
                                           // without their words
  struct Damage {
    JobId job;
    Epoch epoch;
    std::string what;  // one line
  };
  std::vector<Damage> unreadable;  // of `attempts` and `past_attempts`: there without a gang, since the row
                                   // holds none that can be read. db/checked_store.h deals with them
  std::vector<FaultRow> blamed;    // the newest faults that speak against somebody, oldest first
  std::vector<Key> keys;           // idempotency keys still remembered, in order of job
  std::vector<QueueRow> queues;
  std::vector<ProjectRow> projects;  // by name
  std::vector<ReservationRow> reservations;
  JobId last_job;  // highest ids ever used
  NodeId last_node;
  GpuId last_gpu;
  EventId last_event;
  FaultId last_fault;
  Instant written_at;         // of the newest event: no clock of ours goes back behind it; epoch 0 = none
  bool newer_schema = false;  // than this program's: what looks odd may be right
};

}  // namespace tutti
