// Control plane: jobs that run again and again. The scheduled job is a template: it stays delayed
// until its next time, and each run is a job of its own, submitted in the transaction that sets the next
// time.
#include <algorithm>

#include "scheduler/core/control_plane.h"

namespace tutti {

namespace {
using Overlap = Schedule::Overlap;
}

// The first time from its begin time on, which may itself be one.
Instant ControlPlane::first_run(const JobSpec& spec, Instant after) {
  const Instant begin = spec.begin_time.value_or(Instant{});
  return next_time(spec.schedule->times, std::max(after, begin - Duration(1))).value_or(Instant::max());
}

// Its time has come; it is not in the delay heap any more. Times that were missed, because nobody led or the
// clock was set, are one run together.
void ControlPlane::run_schedule(Job& scheduled, Now now) {
  const Schedule& schedule = *scheduled.spec->schedule;
  const JobId id = scheduled.row.id;
  scheduled.row.not_before = first_run(*scheduled.spec, now.wall);
  touch(scheduled);
  if (scheduled.row.not_before == Instant::max()) {
    scheduled.row.not_before = {};
    apply(scheduled, JobEvent::hold, now, Cause::held, "its schedule never comes again");
    return;
  }
  delayed_.push(id, scheduled.row.not_before);
  const auto runs = runs_.find(id);
  const std::size_t open = runs == runs_.end() ? 0 : runs->second.size();
  const bool full = open >= (schedule.overlap == Overlap::skip ? 1U : static_cast<unsigned>(kMaxQueuedRuns));
  if (full) {
    record_job(scheduled, now,
               {.kind = "schedule",
                .from = "",
                .to = "skipped",
                .detail = schedule.overlap == Overlap::skip
                              ? "job " + to_string(*runs->second.begin()) + " of the last run is not over"
                              : std::to_string(open) + " runs are not over"});
    return;
  }
  SubmitRequest request;
  request.spec = std::make_shared<const JobSpec>(run_of(scheduled));
  request.spec_json = specs_.encode(*request.spec);
  request.owner = scheduled.row.owner;
  const Job& run = add_job(request, now);
  record_job(scheduled, now,
             {.kind = "schedule", .from = "", .to = "run", .detail = "job " + to_string(run.row.id)});
}

JobSpec ControlPlane::run_of(const Job& scheduled) const {
  JobSpec spec = *scheduled.spec;
  spec.schedule.reset();
  spec.begin_time.reset();
  spec.scheduled_by = scheduled.row.id;
  if (const auto runs = runs_.find(scheduled.row.id); runs != runs_.end())
    for (const JobId open : runs->second)  // all: the newest may be cancelled while an older one runs
      spec.depends_on.push_back({.job = open, .when = Dependency::When::any});
  return spec;
}

}  // namespace tutti
