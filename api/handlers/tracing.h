// Traces of requests, as handlers see them. Implemented by scheduler/trace/job_tracer; absent: nothing is
// traced.
#pragma once

#include <string_view>

#include "scheduler/model/ids.h"
#include "scheduler/model/time.h"

namespace tutti {

class Tracing {
 public:
  virtual ~Tracing() = default;
  /// A job that was submitted just now by a request that arrived then. `traceparent`: the header as it came,
  /// or "".
  virtual void submitted(std::string_view traceparent, Instant arrived, JobId job) = 0;
};

}  // namespace tutti
