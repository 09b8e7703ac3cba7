#include "tests/sim/schedule_oracle.h"

#include <algorithm>

#include "api/wire/job_spec_codec.h"

namespace tutti::sim {

namespace {
std::string seconds(Instant t) {
  return std::to_string((t - kSchedulerEpoch) / std::chrono::seconds(1)) + " s";
}
}  // namespace

void ScheduleOracle::see_specs(const Batch& batch) {
  for (const auto& row : batch.new_specs) {
    // Parsing is dear, and few are schedules or runs of one.
    if (row.spec_json.find("\"schedule") == row.spec_json.npos) continue;
    JobSpec spec = wire::parse_spec_json(row.spec_json, Now{}).spec;
    if (spec.schedule) {
      Plan plan;
      plan.schedule = *spec.schedule;
      plan.begin = spec.begin_time.value_or(Instant{});
      plans_[row.id] = std::move(plan);
    } else if (spec.scheduled_by) {
      plan_of_[row.id] = spec.scheduled_by;
    }
  }
}

std::string ScheduleOracle::see_states(const Batch& batch) {
  const auto see = [&](const JobRow& row) -> std::string {
    if (const auto plan = plans_.find(row.id); plan != plans_.end()) {
      plan->second.state = row.state;
      plan->second.due = row.not_before;
    }
    const auto of = plan_of_.find(row.id);
    if (of == plan_of_.end()) return {};
    Plan& plan = plans_.at(of->second);
    if (is_terminal(row.state))
      plan.runs.erase(row.id);
    else
      plan.runs[row.id] = row.state;
    const auto active =
        std::ranges::count_if(plan.runs, [](const auto& run) { return is_active(run.second); });
    if (active > 1) return "runs of schedule " + to_string(of->second) + " overlap: job " + to_string(row.id);
    if (plan.schedule.overlap == Schedule::Overlap::skip && plan.runs.size() > 1)
      return "schedule " + to_string(of->second) + " has begun job " + to_string(row.id) +
             " although a run is not over";
    return {};
  };
  // Those that end first: a transaction may end one run and begin the next.
  for (const auto& d : batch.done)
    if (auto why = see(d.row.job); !why.empty()) return why;
  for (const auto& row : batch.new_jobs)
    if (auto why = see(row); !why.empty()) return why;
  for (const auto& j : batch.jobs)
    if (auto why = see(j.row); !why.empty()) return why;
  return {};
}

std::string ScheduleOracle::see_firings(const Batch& batch, const std::map<JobId, Plan>& before) {
  std::map<JobId, int> begun, told;
  for (const auto& row : batch.new_specs)
    if (const auto of = plan_of_.find(row.id); of != plan_of_.end()) ++begun[of->second];
  for (const auto& e : batch.events) {
    if (e.kind != "schedule") continue;
    Plan& plan = plans_.at(e.job);
    const Plan& was = before.at(e.job);
    const std::string which = "schedule " + to_string(e.job) + " at " + seconds(e.at) + ": ";
    if (e.at < was.due) return which + "fires before its time, " + seconds(was.due);
    if (!plan.fired.insert(was.due).second) return which + "time " + seconds(was.due) + " fires twice";
    const auto next = next_time(plan.schedule.times, std::max(e.at, plan.begin - Duration(1)));
    if (plan.state == JobState::delayed && next && plan.due != *next)
      return which + "the next time is " + seconds(*next) + ", it waits for " + seconds(plan.due);
    if (e.to == "run") {
      ++told[e.job];
      continue;
    }
    const std::size_t full =
        plan.schedule.overlap == Schedule::Overlap::skip ? 1 : static_cast<std::size_t>(kMaxQueuedRuns);
    if (was.runs.size() < full)
      return which + "skipped with " + std::to_string(was.runs.size()) + " runs open";
  }
  if (begun != told) return "a run has begun without its time, or a time came without its run";
  return {};
}

std::string ScheduleOracle::committed(const Batch& batch) {
  see_specs(batch);
  if (plans_.empty()) return {};
  std::map<JobId, Plan> before;  // of those that fire now: as they were
  for (const auto& e : batch.events)
    if (e.kind == "schedule") {
      const auto plan = plans_.find(e.job);
      if (plan == plans_.end()) return "job " + to_string(e.job) + " fires and has no schedule";
      before.emplace(e.job, plan->second);
    }
  if (auto why = see_states(batch); !why.empty()) return why;
  return see_firings(batch, before);
}

std::string ScheduleOracle::overdue(Instant now, bool excused, Duration limit) {
  for (auto& [id, plan] : plans_) {
    if (excused || plan.state != JobState::delayed || plan.due > now) {
      plan.late_since = {};
      continue;
    }
    if (plan.late_since == Instant{}) plan.late_since = now;
    if (now - plan.late_since > limit)
      return "schedule " + to_string(id) + " was due at " + seconds(plan.due) + " and has not fired";
  }
  return {};
}

}  // namespace tutti::sim
