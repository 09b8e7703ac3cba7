// HistoryStore over PostgreSQL. Statements of seconds at the most: the session's timeout bounds them.
#pragma once

#include <chrono>
#include <string>

#include "db/history.h"
#include "db/pg/side_session.h"

namespace tutti::db {

class PgHistory final : public HistoryStore {
 public:
  explicit PgHistory(std::string connection_string)
      : session_(std::move(connection_string), "tutti-history") {}

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
  void find_holders(Instant at, PastMachines& machines);
  bool count_ended(Instant at, StateCounts& into);

  SideSession session_;
  std::chrono::steady_clock::time_point ended_again_{};  // not counted before: it has taken too long
};

}  // namespace tutti::db
