// Gauges of the moment, from the control plane: jobs, queues, nodes, GPUs. Made up anew at each scrape, so
// that queues and classes of nodes that have gone are told no more. Called by Metrics. Reads only.
#pragma once

#include <map>
#include <string_view>

#include "scheduler/core/control_plane.h"
#include "scheduler/core/lease_table.h"
#include "scheduler/model/metric_text.h"

namespace tutti {

/// GPUs by what they are used for: used, idle, unhealthy, closed, away; all five, also those of none.
std::map<std::string_view, std::size_t> gpus_by_use(const Cluster& cluster);

/// `leases` may be null.
void add_plane_metrics(MetricText& text, const ControlPlane& plane, const LeaseTable* leases, Mono now);

}  // namespace tutti
