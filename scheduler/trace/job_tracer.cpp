#include "scheduler/trace/job_tracer.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <utility>

namespace tutti::trace {
namespace {

constexpr std::size_t kMostTold = 10'000;

}  // namespace

JobTracer::JobTracer(Settings settings, std::function<std::uint64_t()> random, std::function<void(Span)> emit)
    : settings_(settings), random_(std::move(random)), emit_(std::move(emit)) {}

std::string JobTracer::id(int words) {
  std::string out;
  for (int i = 0; i < words; ++i) {
    std::array<char, 17> hex{};
    std::snprintf(hex.data(), hex.size(), "%016llx",
                  static_cast<unsigned long long>(random_() | 1));  // never zero
    out += hex.data();
  }
  return out;
}

Span JobTracer::span(const Followed& job, JobId number, std::string name, std::string parent, Instant from,
                     Instant until) {
  Span out;
  out.trace_id = job.trace_id;
  out.span_id = id(1);
  out.parent_id = std::move(parent);
  out.name = std::move(name);
  out.from = from;
  out.until = until;
  out.attributes.emplace_back("tutti.job", number.value);
  return out;
}

// Replies leave after this: submitted() follows for the jobs of this batch.
void JobTracer::committed(const Batch& batch, Duration deciding, Duration committing, Instant now) {
  if (!batch.new_specs.empty()) {
    last_.emplace();
    last_->committed = now;
    last_->decided = now - committing;
    last_->began = last_->decided - deciding;
    for (const auto& spec : batch.new_specs) last_->jobs.push_back(spec.id);
  }
  for (const auto& event : batch.events) {
    const auto found = event.job ? jobs_.find(event.job) : jobs_.end();
    if (found == jobs_.end()) {
      const bool placed = event.kind == "state" && event.to == name(JobState::starting);
      if (placed && !batch.new_specs.empty() && event.job >= last_->jobs.front())  // new ids are the highest
        last_->placed.emplace(event.job, event);
      continue;
    }
    if (event.kind == "state") on_state(event.job, found->second, event);
    if (event.kind == "attempt") on_attempt(event.job, found->second, event);
    const auto to = event.kind == "state" ? parse_job_state(event.to) : std::nullopt;
    if (to && is_terminal(*to)) jobs_.erase(found);
  }
  for (const auto& attempt : batch.attempts) {
    const auto found = jobs_.find(attempt.job);
    if (found != jobs_.end()) on_nodes(found->second, attempt, now - committing - deciding);
  }
}

void JobTracer::submitted(std::string_view traceparent, Instant arrived, JobId number) {
  const bool timed = last_ && std::ranges::count(last_->jobs, number) > 0;
  if (!timed || settings_.most_jobs == 0 || jobs_.contains(number)) return;  // also of a replay
  const auto parent = parse_traceparent(traceparent);
  constexpr double kRange = 18446744073709551616.0;
  const bool sampled = parent ? parent->sampled : static_cast<double>(random_()) < settings_.sample * kRange;
  if (!sampled) return;
  Followed job;
  job.trace_id = parent ? parent->trace_id : id(2);
  job.job_span = id(1);
  job.since = job.waits_since = last_->committed;
  Span request = span(job, number, "POST /v1/jobs", parent ? parent->span_id : "",
                      std::min(arrived, last_->began), last_->committed);
  request.kind = Kind::server;
  job.request_span = request.span_id;
  emit_(span(job, number, "decide", request.span_id, last_->began, last_->decided));
  emit_(span(job, number, "commit", request.span_id, last_->decided, last_->committed));
  emit_(std::move(request));
  if (parent) {
    if (told_.size() >= kMostTold) told_.clear();  // answers that never were
    told_.emplace(traceparent);
  }
  // Ends may go unobserved, with the commit that a leader read back: the oldest one makes room, or one day
  // nothing would be followed any more. Ids rise with `since`.
  if (jobs_.size() >= settings_.most_jobs) jobs_.erase(jobs_.begin());
  Followed& followed = jobs_.emplace(number, std::move(job)).first->second;
  if (const auto placed = last_->placed.find(number);
      placed != last_->placed.end()) {  // it did not wait at all
    followed.waits_since = placed->second.at;
    on_state(number, followed, placed->second);
  }
}

void JobTracer::on_state(JobId number, Followed& job, const EventRow& event) {
  if (event.to == name(JobState::starting)) {
    emit_(span(job, number, "wait", job.job_span, job.waits_since, event.at));
    job.attempt_span = id(1);
    job.prepare_span = id(1);
    job.launch_span = id(1);
    job.nodes.clear();
    job.placed_at = job.ready_at = event.at;
    ++job.attempts;
    return;
  }
  if (event.to == name(JobState::running)) {
    Span launch = span(job, number, "worker launch", job.attempt_span, job.ready_at, event.at);
    launch.span_id = job.launch_span;
    emit_(std::move(launch));
    return;
  }
  const auto from = parse_job_state(event.from), to = parse_job_state(event.to);
  const bool was_active = from && !is_terminal(*from) && !job.attempt_span.empty();
  if (was_active && event.to != name(JobState::stopping)) {  // the attempt is over
    Span attempt =
        span(job, number, "attempt " + std::to_string(job.attempts), job.job_span, job.placed_at, event.at);
    attempt.span_id = std::exchange(job.attempt_span, "");
    attempt.attributes.emplace_back("tutti.epoch", event.epoch.value);
    if (event.cause != Cause::none) attempt.error = std::string(name(event.cause)) + ": " + event.detail;
    emit_(std::move(attempt));
  }
  job.waits_since = event.at;
  if (!to || !is_terminal(*to)) return;
  Span whole = span(job, number, "job", job.request_span, job.since, event.at);
  whole.span_id = job.job_span;
  whole.attributes.emplace_back("tutti.outcome", event.to);
  if (*to == JobState::failed) whole.error = event.detail.empty() ? "failed" : event.detail;
  emit_(std::move(whole));
}

// `preflight` → `starting`: every node is ready, as their workers' statuses have said.
void JobTracer::on_attempt(JobId number, Followed& job, const EventRow& event) {
  if (event.to != name(AttemptState::starting) || event.from == event.to || job.attempt_span.empty()) return;
  Span prepare = span(job, number, "worker prepare", job.attempt_span, job.placed_at, event.at);
  prepare.span_id = job.prepare_span;
  emit_(std::move(prepare));
  job.ready_at = event.at;
}

// The part that each node has in the two. Those of an attempt that ends before they are over have none.
void JobTracer::on_nodes(Followed& job, const AttemptRow& attempt, Instant at) {
  if (job.attempt_span.empty() || attempt.state == AttemptState::ended) return;
  for (const auto& member : attempt.gang) {
    MemberState& seen = job.nodes.try_emplace(member.node, MemberState::asked).first->second;
    const MemberState before = std::exchange(seen, std::max(seen, member.state));
    const auto part = [&](MemberState reached, const char* name, const std::string& parent, Instant from) {
      if (before >= reached || member.state < reached || member.state == MemberState::ended) return;
      Span one = span(job, attempt.job, name, parent, std::min(from, at), at);
      one.attributes.emplace_back("tutti.node", member.node_name);
      emit_(std::move(one));
    };
    part(MemberState::ready, "node prepare", job.prepare_span, job.placed_at);
    part(MemberState::running, "node launch", job.launch_span, job.ready_at);
  }
}

void JobTracer::answered(std::string_view traceparent, std::string what, int status, Instant arrived,
                         Instant now) {
  const auto parent = parse_traceparent(traceparent);
  if (!parent || !parent->sampled) return;
  if (status == 401 || status == 429) return;  // whoever is kept out fills no collector
  if (status == 201 && what == "POST /v1/jobs")
    if (const auto told = told_.find(traceparent); told != told_.end()) {  // not so of a replay
      told_.erase(told);
      return;
    }
  Span out;
  out.trace_id = parent->trace_id;
  out.span_id = id(1);
  out.parent_id = parent->span_id;
  out.name = std::move(what);
  out.kind = Kind::server;
  out.from = std::min(arrived, now);
  out.until = now;
  out.attributes.emplace_back("http.response.status_code", std::int64_t{status});
  if (status >= 500) out.error = "HTTP " + std::to_string(status);
  emit_(std::move(out));
}

}  // namespace tutti::trace
