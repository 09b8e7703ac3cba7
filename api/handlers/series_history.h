// What was measured in the past, as GET …/metrics asks for it. Implemented by
// scheduler/service/series_record. Control thread.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "scheduler/core/series_merge.h"
#include "scheduler/model/error.h"
#include "scheduler/model/ids.h"
#include "scheduler/model/time.h"

namespace tutti {

class SeriesHistory {
 public:
  virtual ~SeriesHistory() = default;
  /// What is stored and what is not yet. `render` makes the answer of it, on a thread of its own: it may look
  /// at nothing that changes.
  virtual void find(SeriesQuery query, std::function<std::string(const SeriesFound&)> render,
                    std::function<void(Result<std::string>)> done) = 0;
  /// Percent of the GPU that is in use now; nothing where that was not measured in the last half minute.
  virtual std::optional<std::int32_t> utilisation(GpuId gpu, Mono now) const = 0;
};

}  // namespace tutti
