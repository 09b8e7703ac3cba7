// The rows of a MemoryStore and the rules they keep: the same ones that PostgreSQL keeps by its constraints.
// Shared by the stores and readers of one simulated cluster.
//
// Called by: MemoryStore, MemoryReader, MemoryHistory. Every method locks; a commit is applied whole or not
// at all.
#pragma once

#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "db/reader.h"
#include "db/store.h"
#include "scheduler/model/rows.h"

namespace tutti::db {

class MemoryDatabase {
 public:
  MemoryDatabase();

  // Leadership: `session` = 0 is none. Throws deposed if another session has the lock.
  std::int64_t open_session();
  void close_session(std::int64_t session);
  Term acquire(std::int64_t session, const std::string& holder, Instant at, const LeaderCard& card = {});
  void end_terms_of(const std::string& instance);
  void end_term(Term term);
  Duration predecessors_renew(Term term) const;
  std::vector<std::string> predecessor_urls(Term term) const;  // the latest first
  void take_lock(std::int64_t session);
  LeaderView leader() const;

  Snapshot load() const;
  // Throws deposed, conflict or corrupt and leaves everything as it was.
  void commit(const Batch& batch, Term term);

  // As an operator does with SQL.
  void add_queue(const std::string& name);
  void add_project(const std::string& name);

 private:
  friend class MemoryReader;
  friend class MemoryHistory;

  void check(const Batch& batch) const;
  void check_jobs(const Batch& batch) const;
  void check_machines(const Batch& batch) const;
  void check_allocations(const Batch& batch) const;
  void apply(const Batch& batch);

  using AllocationKey = std::pair<AttemptKey, GpuId>;

  struct Led {
    LeaderCard card;
    Instant began_at;
    bool over = false;
  };

  mutable std::mutex mutex_;
  Term term_;
  std::string holder_;
  Instant since_;
  std::map<Term, Led> terms_;
  std::int64_t lock_owner_ = 0;
  std::int64_t last_session_ = 0;

  const JobRow* job_row(JobId id) const;  // live or finished; nullptr: unknown

  std::unordered_map<JobId, SpecRow> specs_;
  std::unordered_map<JobId, std::string> changed_specs_;
  std::map<std::string, std::set<JobId>> ids_by_name_;
  std::map<std::pair<std::string, std::string>, KeyView> keys_;  // by (owner, key)
  std::map<JobId, JobRow> jobs_;
  std::map<JobId, DoneRow> done_;
  std::map<AttemptKey, AttemptRow> attempts_;
  std::map<AttemptKey, bool> open_attempts_;
  std::unordered_map<GpuId, std::vector<AllocationRow>> allocations_;  // by time; the open one is last
  std::map<NodeId, NodeRow> nodes_;
  std::map<GpuId, GpuRow> gpus_;
  std::unordered_map<std::string, NodeId> node_by_name_;
  std::unordered_map<std::string, GpuId> gpu_by_uuid_;
  std::unordered_map<JobId, std::vector<CheckpointRow>> checkpoints_;  // by step, time, path
  std::map<EventId, EventRow> events_;
  std::unordered_map<JobId, std::vector<EventId>> events_of_job_;
  std::map<FaultId, FaultRow> faults_;
  std::map<std::string, QueueRow> queues_;
  std::map<std::string, ProjectRow> projects_;
  std::map<std::string, ReservationRow> reservations_;
  JobId last_job_;
};

}  // namespace tutti::db
