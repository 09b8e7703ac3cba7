// Reader over PostgreSQL: a bounded pool of sessions, one per call under way.
//
// Called by: the API's read threads, several at once. Reads are harmless, so unlike the store it connects
// again by itself, and repeats once what a lost session did not answer.
#pragma once

#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "db/pg/connection.h"
#include "db/reader.h"

namespace tutti::db {

struct PgReaderOptions {
  std::string connection_string;
  std::string application_name = "tutti-reader";
  int max_connections = 4;
  std::chrono::milliseconds statement_timeout{30000};  // also bounds the wait for a free session
  std::chrono::milliseconds scan_timeout{5000};        // of what may read every job there has been
};

class PgReader final : public Reader {
 public:
  explicit PgReader(PgReaderOptions options);
  explicit PgReader(std::string connection_string);
  ~PgReader() override;

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
  Usage usage(const UsageQuery& query) override;  // pg_usage.cpp
  RecoveryTimes recovery_times(Instant since, Instant until, const std::vector<Cause>& causes) override;
  LeaderView leader() override;

 private:
  enum class Reads : std::uint8_t {
    some,
    all
  };  // all: no index bounds it, others must not wait for long
  Result run(const Statement& statement, Params params, Reads reads = Reads::some);
  std::unique_ptr<Connection> take();
  void give_back(std::unique_ptr<Connection> connection);

  PgReaderOptions options_;
  std::mutex mutex_;
  std::condition_variable freed_;
  std::vector<std::unique_ptr<Connection>> idle_;
  int in_use_ = 0;
};

}  // namespace tutti::db
