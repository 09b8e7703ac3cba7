// Reader over the rows of a MemoryDatabase.
#pragma once

#include <memory>

#include "db/memory/memory_database.h"

namespace tutti::db {

class MemoryReader final : public Reader {
 public:
  explicit MemoryReader(std::shared_ptr<MemoryDatabase> database) : database_(std::move(database)) {}

  std::optional<JobView> find_job(JobId id) override;
  std::optional<KeyView> find_by_key(std::string_view owner, std::string_view key) override;
  std::vector<JobId> resolve_name(std::string_view name, int limit) override;
  std::vector<JobView> list_jobs(const JobFilter& filter, int page_size, JobId after) override;
  StateCounts count_by_state() override;
  std::vector<JobGroup> count_jobs(const JobFilter& filter, JobKey by, int limit) override;
  std::vector<AttemptRow> attempts(JobId job) override;
  std::optional<AttemptRow> find_attempt(JobId job, std::int32_t number) override;
  std::vector<CheckpointRow> checkpoints(JobId job) override;
  std::vector<EventRow> job_events(JobId job, EventId after, int limit) override;
  std::optional<EventRow> last_state(JobId job, Instant at) override;
  std::vector<EventRow> all_events(EventId after, int limit) override;
  EventWindow events_for(const Visible& who, EventId after, int limit) override;
  std::vector<EventRow> attempt_events(AttemptKey attempt, int limit) override;
  std::vector<FaultRow> faults(const FaultFilter& filter, int limit, FaultId before) override;
  std::vector<FaultGroup> count_faults(const FaultFilter& filter, FaultKey by, int limit) override;
  std::int64_t count_serious_faults(Instant since) override;
  Usage usage(const UsageQuery& query) override;  // memory_usage.cpp
  RecoveryTimes recovery_times(Instant since, Instant until, const std::vector<Cause>& causes) override;
  LeaderView leader() override;

 private:
  EventRow with_place(EventRow event) const;
  const std::string& find_spec(JobId id) const;  // as it holds

  std::shared_ptr<MemoryDatabase> database_;
};

}  // namespace tutti::db
