// What /proc and the kernel tell of this process, as metrics: the same of every program that shows /metrics.
#pragma once

#include <string_view>

#include "scheduler/model/metric_text.h"

namespace tutti::http {

/// Nothing of what cannot be read.
void add_process_metrics(MetricText& text, std::string_view version, std::string_view program);

}  // namespace tutti::http
