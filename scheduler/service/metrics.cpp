#include "scheduler/service/metrics.h"

#include <prometheus/text_serializer.h>

#include <map>

namespace tutti {
namespace {

using prometheus::BuildCounter;
using prometheus::BuildGauge;
using prometheus::BuildHistogram;

const prometheus::Histogram::BucketBoundaries kSeconds{0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1,
                                                       0.2,    0.5,   1,     2,     5,    10,   30,   60};
const prometheus::Histogram::BucketBoundaries kRows{1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000};

template <class Map>
void set_gauges(prometheus::Family<prometheus::Gauge>& family, const Map& values) {
  for (const auto& [state, n] : values) family.Add({{"state", state}}).Set(static_cast<double>(n));
}

}  // namespace

Metrics::Metrics()
    : submissions_(BuildCounter()
                       .Name("tutti_jobs_submitted_total")
                       .Help("Jobs accepted and committed")
                       .Register(registry_)
                       .Add({})),
      commits_(BuildCounter()
                   .Name("tutti_commits_total")
                   .Help("Transactions committed")
                   .Register(registry_)
                   .Add({})),
      commit_failures_(BuildCounter()
                           .Name("tutti_commit_failures_total")
                           .Help("Transactions that failed or are in doubt")
                           .Register(registry_)
                           .Add({})),
      recoveries_(BuildCounter()
                      .Name("tutti_recoveries_total")
                      .Help("Times the control plane was rebuilt from rows")
                      .Register(registry_)
                      .Add({})),
      heartbeats_(BuildCounter()
                      .Name("tutti_heartbeats_total")
                      .Help("Heartbeats acknowledged")
                      .Register(registry_)
                      .Add({})),
      workers_linked_(BuildGauge()
                          .Name("tutti_workers_linked")
                          .Help("Workers with an open connection")
                          .Register(registry_)
                          .Add({})),
      leads_(BuildGauge().Name("tutti_leader").Help("1: this scheduler leads").Register(registry_).Add({})),
      leader_changes_(
          BuildCounter()
              .Name("tutti_leader_changes_total")
              .Help("Times that another scheduler than before was seen to lead, this one or another")
              .Register(registry_)
              .Add({})),
      store_outages_(BuildCounter()
                         .Name("tutti_store_outages_total")
                         .Help("Times that the store was lost: it could not be reached, or took no writes")
                         .Register(registry_)
                         .Add({})),
      store_outage_seconds_(BuildCounter()
                                .Name("tutti_store_outage_seconds_total")
                                .Help("Seconds without the store, counted on while it is away")
                                .Register(registry_)
                                .Add({})),
      measurements_dropped_(
          BuildCounter()
              .Name("tutti_measurements_dropped_total")
              .Help("Measurements of GPUs and ranks that were not kept: their name is not legal (name), they "
                    "are not finite (number), too many (names, series), the store was away for too long "
                    "(memory), or refused their rows (store)")
              .Register(registry_)),
      measurement_rows_(BuildCounter()
                            .Name("tutti_measurement_rows_total")
                            .Help("Rows of measurements sent to the store, by result: ok, or failed, and "
                                  "sent again")
                            .Register(registry_)),
      inbox_(BuildGauge()
                 .Name("tutti_inbox_commands")
                 .Help("Commands waiting for the writer")
                 .Register(registry_)
                 .Add({})),
      commit_seconds_(BuildHistogram()
                          .Name("tutti_commit_seconds")
                          .Help("From decision to commit of a batch")
                          .Register(registry_)
                          .Add({}, kSeconds)),
      batch_rows_(BuildHistogram()
                      .Name("tutti_batch_events")
                      .Help("History rows per transaction")
                      .Register(registry_)
                      .Add({}, kRows)),
      attempts_ended_(BuildCounter()
                          .Name("tutti_attempts_ended_total")
                          .Help("Attempts ended, by cause")
                          .Register(registry_)),
      faults_(BuildCounter()
                  .Name("tutti_faults_total")
                  .Help("Faults seen, by class and action")
                  .Register(registry_)),
      requests_(BuildCounter()
                    .Name("tutti_http_requests_total")
                    .Help("HTTP requests, by method, route and status")
                    .Register(registry_)),
      recovery_stage_(BuildHistogram()
                          .Name("tutti_recovery_stage_seconds")
                          .Help("From first evidence: decided, fenced (every rank proven dead), placed, "
                                "running, restored, caught_up")
                          .Register(registry_)),
      lost_gpu_seconds_(BuildCounter()
                            .Name("tutti_lost_gpu_seconds_total")
                            .Help("GPU time since the last checkpoint of attempts that failed, by cause and "
                                  "who is charged")
                            .Register(registry_)),
      gpu_seconds_(BuildCounter()
                       .Name("tutti_gpu_seconds_total")
                       .Help("GPU time of ended attempts: kept (work that counts), lost, overhead (held, "
                             "but no rank ran)")
                       .Register(registry_)),
      shadow_(BuildCounter()
                  .Name("tutti_fault_shadow_total")
                  .Help("What rules in shadow mode would have done")
                  .Register(registry_)),
      verdicts_(BuildCounter()
                    .Name("tutti_verdicts_revised_total")
                    .Help("Attempts whose cause a later verdict has moved, by its new cause")
                    .Register(registry_)),
      service_(BuildGauge().Name("tutti_nodes_by_service").Help("Nodes, by service").Register(registry_)),
      jobs_(BuildGauge().Name("tutti_jobs").Help("Unfinished jobs, by state").Register(registry_)),
      gpus_(BuildGauge().Name("tutti_gpus").Help("GPUs, by state").Register(registry_)),
      nodes_(BuildGauge().Name("tutti_nodes").Help("Nodes, by state").Register(registry_)) {}

void Metrics::batch_committed(const Batch& batch, double seconds) {
  commits_.Increment();
  commit_seconds_.Observe(seconds);
  batch_rows_.Observe(static_cast<double>(batch.events.size()));
  submissions_.Increment(static_cast<double>(batch.new_specs.size()));
  for (const auto& fault : batch.faults) {
    faults_.Add({{"class", fault.fault_class}, {"action", fault.action}}).Increment();
    if (fault.action.starts_with("shadow")) shadow_.Add({{"rule", fault.rule}}).Increment();
  }
  for (const auto& a : batch.revised) verdicts_.Add({{"cause", std::string(name(a.cause))}}).Increment();
  for (const auto& a : batch.attempts) {
    if (a.state != AttemptState::ended) continue;
    const std::string cause(name(a.cause));
    attempts_ended_.Add({{"cause", cause}, {"result", std::string(name(a.result))}}).Increment();
    count_gpu_time(a);
    if (a.fault_at == Instant{} || a.stopping_at == Instant{}) continue;
    recovery_stage_.Add({{"stage", "decided"}, {"cause", cause}}, kSeconds)
        .Observe(to_seconds(a.stopping_at - a.fault_at));
    recovery_stage_.Add({{"stage", "fenced"}, {"cause", cause}}, kSeconds)
        .Observe(to_seconds(a.ended_at - a.fault_at));
  }
}

void Metrics::count_gpu_time(const AttemptRow& a) {
  std::size_t gpus = 0;
  for (const auto& m : a.gang) gpus += m.gpus.size();
  const double held = to_seconds(a.ended_at - a.placed_at) * static_cast<double>(gpus);
  const double ran =
      a.running_at == Instant{} ? 0 : to_seconds(a.ended_at - a.running_at) * static_cast<double>(gpus);
  const double lost = std::min(to_seconds(a.lost_gpu), ran);
  gpu_seconds_.Add({{"use", "kept"}}).Increment(ran - lost);
  gpu_seconds_.Add({{"use", "lost"}}).Increment(lost);
  gpu_seconds_.Add({{"use", "overhead"}}).Increment(std::max(held - ran, 0.0));
  const bool theirs = class_of(a.cause) == CauseClass::user || class_of(a.cause) == CauseClass::person;
  if (lost > 0)
    lost_gpu_seconds_.Add({{"cause", std::string(name(a.cause))}, {"charged", theirs ? "user" : "us"}})
        .Increment(lost);
}

void Metrics::leader_changed(bool us) {
  leads_.Set(us ? 1 : 0);
  leader_changes_.Increment();
}

void Metrics::store_lost() { store_outages_.Increment(); }
void Metrics::store_away(double seconds) { store_outage_seconds_.Increment(seconds); }

void Metrics::measurements_dropped(std::string_view why, std::size_t n) {
  measurements_dropped_.Add({{"why", std::string(why)}}).Increment(static_cast<double>(n));
}

void Metrics::measurements_written(std::size_t rows, bool ok) {
  measurement_rows_.Add({{"result", ok ? "ok" : "failed"}}).Increment(static_cast<double>(rows));
}

void Metrics::recovery_stages(const std::vector<StageSample>& samples) {
  for (const auto& s : samples)
    recovery_stage_.Add({{"stage", std::string(s.stage)}, {"cause", std::string(name(s.cause))}}, kSeconds)
        .Observe(to_seconds(s.since_fault));
}

void Metrics::request_done(std::string_view method, std::string_view route, int status, double) {
  requests_
      .Add({{"method", std::string(method)},
            {"route", std::string(route)},
            {"status", std::to_string(status)}})
      .Increment();
}

std::string Metrics::text(const ControlPlane* plane, std::size_t inbox) {
  inbox_.Set(static_cast<double>(inbox));
  if (plane != nullptr) {
    std::map<std::string, std::size_t> jobs, gpus, nodes;
    for (auto s : kJobStates)
      if (!is_terminal(s)) jobs[std::string(name(s))] = 0;
    for (const auto& [id, job] : plane->jobs()) ++jobs[std::string(name(job.row.state))];
    for (const char* s : {"free", "allocated", "dirty", "quarantined"}) gpus[s] = 0;
    for (const auto& [id, gpu] : plane->cluster().gpus) {
      if (!gpu.row.present) continue;
      if (!gpu.usable())
        ++gpus[std::string(name(gpu.row.health))];
      else
        ++gpus[gpu.holder.job ? "allocated" : "free"];
    }
    for (auto s : kNodeStates) nodes[std::string(name(s))] = 0;
    for (const auto& [id, node] : plane->cluster().nodes) ++nodes[std::string(name(node.row.state))];
    set_gauges(jobs_, jobs);
    set_gauges(gpus_, gpus);
    set_gauges(nodes_, nodes);
    std::map<std::string, std::size_t> services;
    for (auto s : kServices) services[std::string(name(s))] = 0;
    for (const auto& [id, node] : plane->cluster().nodes) ++services[std::string(name(node.row.service))];
    for (const auto& [service, n] : services)
      service_.Add({{"service", service}}).Set(static_cast<double>(n));
  }
  return prometheus::TextSerializer().Serialize(registry_.Collect());
}

}  // namespace tutti
