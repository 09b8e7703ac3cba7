// Writes down why jobs wait, so that it can be asked later. Each step looks at a few of those at the head of
// the queue and records those whose reasons are others than when they were last looked at.
//
// Called by: a timer of scheduler/main.cpp and tests (step), the handlers (find). Control thread; rows are
// written and read aside. It does nothing while this scheduler does not lead. Rows that cannot be stored are
// lost, with a line in the log: it is a record, nothing is decided by it.
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
  std::size_t watched = 1000;  // jobs at the head of the queue; others wait for these first
  std::size_t per_step = 50;   // looked at in one step, which takes milliseconds of the control thread
  Duration keep = std::chrono::hours(24 * 30);
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
  std::deque<JobId> round_;                       // still to be looked at
  std::map<JobId, std::string> said_, said_now_;  // codes, of the last round and of this one
  bool writing_ = false;
  std::optional<Mono> forgotten_;
};

}  // namespace tutti
