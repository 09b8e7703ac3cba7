// What the scheduler counts, in Prometheus' text format (GET /metrics). Names and helps are those of
// scheduler/model/metric_table.csv. Control thread only.
#pragma once

#include <prometheus/counter.h>
#include <prometheus/family.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>

#include <cstdint>
#include <exception>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "scheduler/core/control_plane.h"
#include "scheduler/model/fault_table.h"
#include "scheduler/model/rows.h"

namespace tutti {

class Metrics {
 public:
  /// Counters with few labels are there from the start, at 0: what is born with its first event is no increase
  /// to Prometheus. `faults`: the table by which this scheduler judges.
  explicit Metrics(const FaultTable& faults = FaultTable::built_in());

  /// `plane`: as it is after that batch; nullptr: nobody knows any more, and waits are not counted.
  void batch_committed(const Batch& batch, const ControlPlane* plane, double seconds);
  void recovery_stages(const std::vector<StageSample>& samples);
  /// `seconds` below zero: it was a stream, whose life says nothing.
  void request_done(std::string_view method, std::string_view route, int status, double seconds);
  void planned(double seconds) { plan_seconds_.Observe(seconds); }
  void commit_failed(std::exception_ptr why);
  void spans(std::uint64_t sent, std::uint64_t dropped) { spans_sent_ = sent, spans_dropped_ = dropped; }
  void worker_connected() { worker_connections_.Increment(); }
  /// Every second or so: counts what GPUs are used for since the last time.
  void step(const ControlPlane* plane, Mono now);
  prometheus::Counter& recoveries() { return recoveries_; }
  prometheus::Counter& heartbeats() { return heartbeats_; }
  prometheus::Gauge& workers_linked() { return workers_linked_; }
  /// Somebody else leads now; `us`: this scheduler.
  void leader_changed(bool us);
  void store_lost();
  /// So much longer it is away, counted while it lasts.
  void store_away(double seconds);
  void measurements_dropped(std::string_view why, std::size_t n);
  void measurements_written(std::size_t rows, bool ok);
  /// `what`: "archive" or "drop".
  void history_failed(std::string_view what);

  // Gauges of the moment (jobs by state, GPUs by state, nodes by state) are taken from `plane` if there is
  // one.
  std::string text(const ControlPlane* plane, std::size_t inbox, const LeaseTable* leases = nullptr,
                   Mono now = {});

 private:
  void begin_at_zero(const FaultTable& faults);
  void count_gpu_time(const AttemptRow& ended);
  void count_jobs(const Batch& batch, const ControlPlane* plane);

  using Counters = prometheus::Family<prometheus::Counter>;
  using Histograms = prometheus::Family<prometheus::Histogram>;

  prometheus::Registry registry_;
  prometheus::Counter& submissions_;
  prometheus::Counter& commits_;
  prometheus::Counter& commit_failures_;
  prometheus::Counter& commits_in_doubt_;
  prometheus::Counter& commits_refused_;
  prometheus::Counter& recoveries_;
  prometheus::Counter& heartbeats_;
  prometheus::Counter& worker_connections_;
  prometheus::Counter& attempts_placed_;
  prometheus::Counter& attempts_started_;
  prometheus::Counter& preemptions_;
  prometheus::Gauge& workers_linked_;
  prometheus::Gauge& leads_;
  prometheus::Counter& leader_changes_;
  prometheus::Counter& store_outages_;
  prometheus::Counter& store_outage_seconds_;
  Counters& measurements_dropped_;
  Counters& measurement_rows_;
  Counters& history_failures_;
  prometheus::Gauge& inbox_;
  prometheus::Histogram& plan_seconds_;
  prometheus::Histogram& commit_seconds_;
  prometheus::Histogram& batch_rows_;
  Histograms& job_wait_;
  Histograms& request_seconds_;
  Counters& jobs_ended_;
  Counters& attempts_ended_;
  Counters& faults_;
  Counters& requests_;
  Histograms& recovery_stage_;
  Counters& lost_gpu_seconds_;
  Counters& gpu_seconds_;
  Counters& gpu_use_seconds_;
  Counters& shadow_;
  Counters& verdicts_;
  // "GET /v1/jobs 200": few, since a route is a pattern and not a path.
  std::unordered_map<std::string, std::pair<prometheus::Counter*, prometheus::Histogram*>> request_kinds_;
  std::uint64_t spans_sent_ = 0, spans_dropped_ = 0;
  Mono used_at_{};  // step() has counted up to here; zero: nothing is known since
};

}  // namespace tutti
