// HistoryStore over the rows of a MemoryDatabase.
#pragma once

#include <memory>

#include "db/history.h"
#include "db/memory/memory_database.h"
#include "db/waiting_reasons.h"

namespace tutti::db {

class MemoryHistory : public HistoryStore {
 public:
  /// `reasons` may be null: none were recorded.
  explicit MemoryHistory(std::shared_ptr<MemoryDatabase> database,
                         std::shared_ptr<WaitingReasonStore> reasons = nullptr)
      : database_(std::move(database)), reasons_(std::move(reasons)) {}

  std::optional<Instant> first_event() override;
  std::vector<DecisionCount> density(Instant since, Instant until, int pieces) override;
  std::vector<Decision> decisions(const DecisionQuery& query) override;
  PastMachines machines(Instant at) override;
  PastJobs jobs(Instant at) override;
  PastQueue queue(Instant at, const std::optional<Visible>& visible, int most) override;
  RanJobs ran(Instant since, Instant until, int most) override;
  std::vector<NodeAttempt> node_attempts(NodeId node, int limit, int skip) override;
  std::vector<EventRow> inspections(NodeId node, int limit, EventId before) override;
  std::vector<FaultRow> blamed(Instant since) override;
  WaitCounts waits(const std::string& project, const std::optional<Visible>& visible, Instant since,
                   const std::vector<Duration>& bounds) override;

 private:
  const EventRow* last_state(JobId job, Instant at) const;
  std::optional<PastHolder> holder(GpuId gpu, Instant at) const;
  const SpecRow& spec(JobId job) const { return database_->specs_.at(job); }
  const std::string& spec_json(JobId job) const;
  /// Calls with every job's row that was there at that instant, and not over.
  template <class Each>
  void each_job_at(Instant at, Each each) const;

  std::shared_ptr<MemoryDatabase> database_;
  std::shared_ptr<WaitingReasonStore> reasons_;
};

}  // namespace tutti::db
