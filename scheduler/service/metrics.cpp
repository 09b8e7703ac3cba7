#include "scheduler/service/metrics.h"

#include <prometheus/text_serializer.h>

#include <algorithm>
#include <array>
#include <map>

#include "api/http/process_metrics.h"
#include "db/store.h"
#include "scheduler/core/retry.h"
#include "scheduler/model/metric_table.h"
#include "scheduler/service/plane_metrics.h"

namespace tutti {
namespace {

using prometheus::BuildCounter;
using prometheus::BuildGauge;
using prometheus::BuildHistogram;

const prometheus::Histogram::BucketBoundaries kSeconds{0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1,
                                                       0.2,    0.5,   1,     2,     5,    10,   30,   60};
// Beyond it nobody has looked for so long that what was used is not known.
constexpr Duration kLongestStep = std::chrono::minutes(1);

const prometheus::Histogram::BucketBoundaries kRows{1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000};

// A job is back when there are GPUs for it: that may take hours. Alerts ask for ten minutes.
const prometheus::Histogram::BucketBoundaries kRecoveries{0.1, 0.5, 1,   2,   5,    10,   20,   30,    60,
                                                          120, 300, 600, 900, 1800, 3600, 7200, 14'400};

const prometheus::Histogram::BucketBoundaries kWaits{1,    5,    15,     60,     300,    900,     1800,
                                                     3600, 7200, 14'400, 28'800, 86'400, 259'200, 604'800};

// Classes and actions of faults that no GPU has told.
constexpr std::array<std::pair<const char*, const char*>, 4> kFaultsOfNoTable{
    {{"node_lost", "dead"}, {"attempt_failed", "watch"}, {"report", "watch"}, {"forgiven", "none"}}};

bool is_failure(Cause cause) {
  return class_of(cause) != CauseClass::ours && class_of(cause) != CauseClass::person;
}

const char* charged(Cause cause) {
  const CauseClass whose = class_of(cause);
  return whose == CauseClass::user || whose == CauseClass::person ? "user" : "us";
}

// Names and helps are those of the table.
auto& counters(prometheus::Registry& registry, const std::string& name) {
  return BuildCounter().Name(name).Help(metric(name).help).Register(registry);
}
auto& gauges(prometheus::Registry& registry, const std::string& name) {
  return BuildGauge().Name(name).Help(metric(name).help).Register(registry);
}
auto& histograms(prometheus::Registry& registry, const std::string& name) {
  return BuildHistogram().Name(name).Help(metric(name).help).Register(registry);
}

}  // namespace

Metrics::Metrics(const FaultTable& faults)
    : submissions_(counters(registry_, "tutti_jobs_submitted_total").Add({})),
      commits_(counters(registry_, "tutti_commits_total").Add({})),
      commit_failures_(counters(registry_, "tutti_commit_failures_total").Add({})),
      commits_in_doubt_(counters(registry_, "tutti_commits_in_doubt_total").Add({})),
      commits_refused_(counters(registry_, "tutti_commits_refused_total").Add({})),
      recoveries_(counters(registry_, "tutti_recoveries_total").Add({})),
      heartbeats_(counters(registry_, "tutti_heartbeats_total").Add({})),
      worker_connections_(counters(registry_, "tutti_worker_connections_total").Add({})),
      attempts_placed_(counters(registry_, "tutti_attempts_placed_total").Add({})),
      attempts_started_(counters(registry_, "tutti_attempts_started_total").Add({})),
      preemptions_(counters(registry_, "tutti_preemptions_total").Add({})),
      workers_linked_(gauges(registry_, "tutti_workers_linked").Add({})),
      leads_(gauges(registry_, "tutti_leader").Add({})),
      leader_changes_(counters(registry_, "tutti_leader_changes_total").Add({})),
      store_outages_(counters(registry_, "tutti_store_outages_total").Add({})),
      store_outage_seconds_(counters(registry_, "tutti_store_outage_seconds_total").Add({})),
      measurements_dropped_(counters(registry_, "tutti_measurements_dropped_total")),
      measurement_rows_(counters(registry_, "tutti_measurement_rows_total")),
      history_failures_(counters(registry_, "tutti_history_failures_total")),
      inbox_(gauges(registry_, "tutti_inbox_commands").Add({})),
      plan_seconds_(histograms(registry_, "tutti_plan_seconds").Add({}, kSeconds)),
      commit_seconds_(histograms(registry_, "tutti_commit_seconds").Add({}, kSeconds)),
      batch_rows_(histograms(registry_, "tutti_batch_events").Add({}, kRows)),
      job_wait_(histograms(registry_, "tutti_job_wait_seconds")),
      request_seconds_(histograms(registry_, "tutti_http_request_seconds")),
      jobs_ended_(counters(registry_, "tutti_jobs_ended_total")),
      attempts_ended_(counters(registry_, "tutti_attempts_ended_total")),
      faults_(counters(registry_, "tutti_faults_total")),
      requests_(counters(registry_, "tutti_http_requests_total")),
      recovery_stage_(histograms(registry_, "tutti_recovery_stage_seconds")),
      lost_gpu_seconds_(counters(registry_, "tutti_lost_gpu_seconds_total")),
      gpu_seconds_(counters(registry_, "tutti_gpu_seconds_total")),
      gpu_use_seconds_(counters(registry_, "tutti_gpu_use_seconds_total")),
      shadow_(counters(registry_, "tutti_fault_shadow_total")),
      verdicts_(counters(registry_, "tutti_verdicts_revised_total")) {
  begin_at_zero(faults);
}

void Metrics::begin_at_zero(const FaultTable& faults) {
  for (const char* what : {"archive", "drop"}) history_failures_.Add({{"what", what}});
  for (const char* why : {"name", "number", "names", "series", "memory", "store"})
    measurements_dropped_.Add({{"why", why}});
  for (const char* result : {"ok", "failed"}) measurement_rows_.Add({{"result", result}});
  for (const char* use : {"kept", "lost", "overhead"}) gpu_seconds_.Add({{"use", use}});
  for (const auto& [use, gpus] : gpus_by_use({})) gpu_use_seconds_.Add({{"use", std::string(use)}});
  attempts_ended_.Add({{"cause", "none"}, {"result", "succeeded"}});
  jobs_ended_.Add({{"outcome", "succeeded"}, {"cause", "none"}});
  jobs_ended_.Add({{"outcome", "cancelled"}, {"cause", std::string(name(Cause::cancelled))}});
  for (std::size_t c = 1; c < kCauseCount; ++c) {
    const auto of = static_cast<Cause>(c);
    const std::string cause(name(of));
    attempts_ended_.Add({{"cause", cause}, {"result", is_failure(of) ? "failed" : "stopped"}});
    lost_gpu_seconds_.Add({{"cause", cause}, {"charged", charged(of)}});
    if (!is_failure(of)) continue;
    jobs_ended_.Add({{"outcome", "failed"}, {"cause", cause}});
    // Of the stages, the one that an alert asks for: each is twenty series a cause.
    recovery_stage_.Add({{"stage", "running"}, {"cause", cause}}, kRecoveries);
  }
  verdicts_.Add({{"cause", std::string(name(Cause::gpu))}});
  for (const auto& [kind, action] : faults.outcomes()) faults_.Add({{"class", kind}, {"action", action}});
  for (const auto& [kind, action] : kFaultsOfNoTable) faults_.Add({{"class", kind}, {"action", action}});
  for (const auto& rule : faults.shadow_rows()) shadow_.Add({{"rule", rule}});
}

void Metrics::count_jobs(const Batch& batch, const ControlPlane* plane) {
  std::map<JobId, Instant> placed;  // and when
  for (const auto& e : batch.events) {
    if (e.kind == "preempt") preemptions_.Increment();
    if (e.kind != "state" || !e.job || e.from.empty()) continue;
    if (e.to == name(JobState::starting)) placed[e.job] = e.at;
    if (e.to == name(JobState::starting)) attempts_placed_.Increment();
    if (e.to == name(JobState::running)) attempts_started_.Increment();
  }
  const auto placed_first = [&](const JobRow& job) {
    const auto start = job.attempt == 1 ? placed.find(job.id) : placed.end();
    const Job* known = plane == nullptr ? nullptr : plane->find_job(job.id);
    if (start == placed.end() || known == nullptr) return;
    // Its row no longer says until when it was not to begin.
    const Instant since = std::max(job.queued_at, known->spec->begin_time.value_or(Instant{}));
    job_wait_.Add({{"queue", job.queue}}, kWaits).Observe(std::max(0.0, to_seconds(start->second - since)));
    placed.erase(start);
  };
  if (!placed.empty()) {
    for (const auto& job : batch.new_jobs) placed_first(job);
    for (const auto& update : batch.jobs) placed_first(update.row);
  }
  for (const auto& done : batch.done)
    jobs_ended_
        .Add({{"outcome", std::string(name(done.row.job.state))},
              {"cause", std::string(name(done.row.job.cause))}})
        .Increment();
}

void Metrics::batch_committed(const Batch& batch, const ControlPlane* plane, double seconds) {
  commits_.Increment();
  count_jobs(batch, plane);
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
    recovery_stage_.Add({{"stage", "decided"}, {"cause", cause}}, kRecoveries)
        .Observe(to_seconds(a.stopping_at - a.fault_at));
    recovery_stage_.Add({{"stage", "fenced"}, {"cause", cause}}, kRecoveries)
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
  if (lost > 0)
    lost_gpu_seconds_.Add({{"cause", std::string(name(a.cause))}, {"charged", charged(a.cause)}})
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

void Metrics::history_failed(std::string_view what) {
  history_failures_.Add({{"what", std::string(what)}}).Increment();
}

void Metrics::recovery_stages(const std::vector<StageSample>& samples) {
  for (const auto& s : samples)
    recovery_stage_.Add({{"stage", std::string(s.stage)}, {"cause", std::string(name(s.cause))}}, kRecoveries)
        .Observe(to_seconds(s.since_fault));
}

// Labels are looked up once for each kind of request: the registry's own way to a counter is dear.
void Metrics::request_done(std::string_view method, std::string_view route, int status, double seconds) {
  std::string kind;
  kind.append(method).append(1, ' ').append(route).append(1, ' ').append(std::to_string(status));
  auto found = request_kinds_.find(kind);
  if (found == request_kinds_.end()) {
    auto& count = requests_.Add(
        {{"method", std::string(method)}, {"route", std::string(route)}, {"status", std::to_string(status)}});
    auto& duration = request_seconds_.Add({{"method", std::string(method)}}, kSeconds);
    found = request_kinds_.emplace(std::move(kind), std::pair(&count, &duration)).first;
  }
  const auto& [count, duration] = found->second;
  count->Increment();
  if (seconds >= 0) duration->Observe(seconds);
}

void Metrics::commit_failed(std::exception_ptr why) {
  commit_failures_.Increment();
  try {
    std::rethrow_exception(why);
  } catch (const StoreError& error) {
    if (error.kind == StoreError::in_doubt) commits_in_doubt_.Increment();
    if (error.kind == StoreError::conflict || error.kind == StoreError::corrupt) commits_refused_.Increment();
  } catch (...) {
    commits_in_doubt_.Increment();  // nobody knows
  }
}

void Metrics::step(const ControlPlane* plane, Mono now) {
  const Mono since = std::exchange(used_at_, plane == nullptr ? Mono{} : now);
  if (plane == nullptr || since == Mono{} || now - since > kLongestStep) return;
  const double passed = to_seconds(now - since);
  for (const auto& [use, gpus] : gpus_by_use(plane->cluster()))
    gpu_use_seconds_.Add({{"use", std::string(use)}}).Increment(passed * static_cast<double>(gpus));
}

std::string Metrics::text(const ControlPlane* plane, std::size_t inbox, const LeaseTable* leases, Mono now) {
  inbox_.Set(static_cast<double>(inbox));
  MetricText moment;
  http::add_process_metrics(moment, TUTTI_VERSION, "tutti-scheduler");
  moment.add("tutti_spans_total", {"sent"}, static_cast<double>(spans_sent_));
  moment.add("tutti_spans_total", {"dropped"}, static_cast<double>(spans_dropped_));
  moment.add("tutti_ready", plane != nullptr ? 1 : 0);
  if (plane != nullptr) add_plane_metrics(moment, *plane, leases, now);
  return prometheus::TextSerializer().Serialize(registry_.Collect()) + moment.take();
}

}  // namespace tutti
