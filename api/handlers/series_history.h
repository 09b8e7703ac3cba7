// What was measured in the past, as GET …/metrics asks for it. Implemented by
// scheduler/service/series_record. Control thread.
#pragma once

#include <functional>
#include <string>

#include "scheduler/core/series_merge.h"
#include "scheduler/model/error.h"

namespace tutti {

class SeriesHistory {
 public:
  virtual ~SeriesHistory() = default;
  /// What is stored and what is not yet. `render` makes the answer of it, on a thread of its own: it may look
  /// at nothing that changes.
  virtual void find(SeriesQuery query, std::function<std::string(const SeriesFound&)> render,
                    std::function<void(Result<std::string>)> done) = 0;
};

}  // namespace tutti
