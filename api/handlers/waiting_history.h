// Why jobs waited in the past, as GET /v1/jobs/{id}/explain?at= asks for it. Implemented by
// scheduler/service/waiting_record. Control thread.
#pragma once

#include <functional>
#include <optional>

#include "db/waiting_reasons.h"
#include "scheduler/model/error.h"

namespace tutti {

class WaitingHistory {
 public:
  virtual ~WaitingHistory() = default;
  /// What was recorded last, not later than `at`.
  virtual void find(JobId job, Instant at,
                    std::function<void(Result<std::optional<WaitingReasonRow>>)> done) = 0;
};

}  // namespace tutti
