// What the scheduler counts, in Prometheus' text format (GET /metrics). Names are stable; docs/metrics.md
// lists them. Control thread only.
#pragma once

#include <prometheus/counter.h>
#include <prometheus/family.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>

#include <string>
#include <string_view>

#include "scheduler/core/control_plane.h"
#include "scheduler/model/rows.h"

namespace tutti {

class Metrics {
 public:
  Metrics();

  void batch_committed(const Batch& batch, double seconds);
  void recovery_stages(const std::vector<StageSample>& samples);
  void request_done(std::string_view method, std::string_view route, int status, double seconds);
  prometheus::Counter& recoveries() { return recoveries_; }
  prometheus::Counter& commit_failures() { return commit_failures_; }
  prometheus::Counter& heartbeats() { return heartbeats_; }
  prometheus::Gauge& workers_linked() { return workers_linked_; }
  /// Somebody else leads now; `us`: this scheduler.
  void leader_changed(bool us);
  void store_lost();
  /// So much longer it is away, counted while it lasts.
  void store_away(double seconds);
  void measurements_dropped(std::string_view why, std::size_t n);
  void measurements_written(std::size_t rows, bool ok);

  // Gauges of the moment (jobs by state, GPUs by state, nodes by state) are taken from `plane` if there is
  // one.
  std::string text(const ControlPlane* plane, std::size_t inbox);

 private:
  void count_gpu_time(const AttemptRow& ended);

  prometheus::Registry registry_;
  prometheus::Counter& submissions_;
  prometheus::Counter& commits_;
  prometheus::Counter& commit_failures_;
  prometheus::Counter& recoveries_;
  prometheus::Counter& heartbeats_;
  prometheus::Gauge& workers_linked_;
  prometheus::Gauge& leads_;
  prometheus::Counter& leader_changes_;
  prometheus::Counter& store_outages_;
  prometheus::Counter& store_outage_seconds_;
  prometheus::Family<prometheus::Counter>& measurements_dropped_;
  prometheus::Family<prometheus::Counter>& measurement_rows_;
  prometheus::Gauge& inbox_;
  prometheus::Histogram& commit_seconds_;
  prometheus::Histogram& batch_rows_;
  prometheus::Family<prometheus::Counter>& attempts_ended_;
  prometheus::Family<prometheus::Counter>& faults_;
  prometheus::Family<prometheus::Counter>& requests_;
  prometheus::Family<prometheus::Histogram>& recovery_stage_;
  prometheus::Family<prometheus::Counter>& lost_gpu_seconds_;
  prometheus::Family<prometheus::Counter>& gpu_seconds_;
  prometheus::Family<prometheus::Counter>& shadow_;
  prometheus::Family<prometheus::Counter>& verdicts_;
  prometheus::Family<prometheus::Gauge>& service_;
  prometheus::Family<prometheus::Gauge>& jobs_;
  prometheus::Family<prometheus::Gauge>& gpus_;
  prometheus::Family<prometheus::Gauge>& nodes_;
};

}  // namespace tutti
