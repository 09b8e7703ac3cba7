// Writes down why jobs wait, so that it can be asked later. Each step looks at a few of those at the head of
// the queue and records those whose reasons are others than when they were last looked at.
//
// Called by: a timer of scheduler/parts.cpp and tests (step), the handlers (find). Control thread; rows are
// written and read aside. It does nothing while this scheduler does not lead. Rows that cannot be stored are
// said again in the next round, as things are then: it is a record, nothing is decided by it.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <string>

#include "api/handlers/backend.h"
#include "api/handlers/waiting_history.h"
#include "db/aside.h"

namespace tutti {

struct WaitingRecordSettings {
  std::size_t watched = 1000;  // jobs at the heads of all queues together; others wait for these first
  std::size_t per_step = 50;   // looked at in one step, at most
  Duration step_time = std::chrono::milliseconds(5);  // of the control thread, likewise
  // Of one wait of a job, though its reasons come and go: this bounds the table.
  Duration at_most_every = std::chrono::minutes(5);
  Duration at_least_every = std::chrono::hours(24);  // before the last one is forgotten
  Duration keep = std::chrono::hours(24 * 7);
};

class WaitingRecord final : public WaitingHistory {
 public:
  WaitingRecord(Backend& backend, Aside aside, std::shared_ptr<WaitingReasonStore> store,
                WaitingRecordSettings settings = {});

  void step();
  void find(JobId job, Instant at,
            std::function<void(Result<std::optional<WaitingReasonRow>>)> done) override;

 private:
  void begin_round(const ControlPlane& plane);
  void forget(Now now);

  Backend& backend_;
  Aside aside_;
  std::shared_ptr<WaitingReasonStore> store_;
  WaitingRecordSettings settings_;
  struct Said {
    Instant queued_at;  // of the wait
    std::string codes;  // of the reasons
    Mono at;
  };
  bool is_news(JobId id, const Said& now) const;

  std::deque<JobId> round_;                // still to be looked at
  std::map<JobId, Said> said_, said_now_;  // recorded in the last round or before, and in this one
  bool writing_ = false;
  std::optional<Mono> forgotten_;
};

}  // namespace tutti
