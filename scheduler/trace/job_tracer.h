// The spans of a job, from what is committed: the request and its decision and commit; the wait; each attempt
// with what the workers' statuses tell of it, prepare and launch, of the gang and of each node; the job as a
// whole. A caller's traceparent makes the request part of the caller's trace. Other requests are spans only
// if they have one.
//
// Told by Leader after each commit, by the handler of submissions and by the server after each answer.
// Control thread. At most `most_jobs` jobs are followed, the newest ones; what was submitted to a former
// leader is not. Nothing is decided by it.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>

#include "api/handlers/tracing.h"
#include "scheduler/model/rows.h"
#include "scheduler/trace/span.h"

namespace tutti::trace {

class JobTracer final : public Tracing {
 public:
  struct Settings {
    double sample = 0.01;  // of those that come without a traceparent; with one, as its caller has decided
    std::size_t most_jobs = 10'000;
  };
  /// `random`: 64 bits; `emit` gets each span when it has ended.
  JobTracer(Settings settings, std::function<std::uint64_t()> random, std::function<void(Span)> emit);

  /// What was committed just now, by a batch that took so long to decide and then to commit.
  void committed(const Batch& batch, Duration deciding, Duration committing, Instant now);
  void submitted(std::string_view traceparent, Instant arrived, JobId job) override;
  /// A request that was answered with this status. `what`: method and route, "GET /v1/jobs/{id}". Nothing is
  /// emitted of one that submitted() has told, nor of one that was kept out (401, 429).
  void answered(std::string_view traceparent, std::string what, int status, Instant arrived, Instant now);

  std::size_t followed() const { return jobs_.size(); }

 private:
  struct Followed {
    std::string trace_id, job_span, request_span;
    Instant since, waits_since;
    std::string attempt_span;  // "" = none is live
    std::string prepare_span, launch_span;
    Instant placed_at, ready_at;
    std::map<NodeId, MemberState> nodes;  // of the live attempt, as far as was told
    std::int64_t attempts = 0;
  };
  struct Timing {
    Instant began, decided, committed;
    std::vector<JobId> jobs;           // submitted in it
    std::map<JobId, EventRow> placed;  // those of them that got their nodes in it, too
  };

  std::string id(int words);
  Span span(const Followed& job, JobId number, std::string name, std::string parent, Instant from,
            Instant until);
  void on_state(JobId number, Followed& job, const EventRow& event);
  void on_attempt(JobId number, Followed& job, const EventRow& event);
  void on_nodes(Followed& job, const AttemptRow& attempt, Instant at);

  Settings settings_;
  std::function<std::uint64_t()> random_;
  std::function<void(Span)> emit_;
  std::map<JobId, Followed> jobs_;
  std::optional<Timing> last_;                    // the newest batch with submissions
  std::multiset<std::string, std::less<>> told_;  // traceparents of submitted(), until their answer has left
};

}  // namespace tutti::trace
