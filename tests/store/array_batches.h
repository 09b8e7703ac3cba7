// Batches of arrays as the control plane makes them (scheduler/core/control_jobs.cpp), for tests of how they
// are stored.
#pragma once

#include <string>
#include <vector>

#include "api/wire/job_spec_codec.h"
#include "tests/store/rows.h"

namespace tutti::test {

// Everything in it that a template could trip over.
inline constexpr const char* kTrickyRun =
    R"(run --share 100% %1$s %2$s %% "array":{"index":3,"position":3 "ARRAY_INDEX":"3")";

inline std::string task_text(const ArrayTask& task,
                             const std::map<std::string, std::string>& variables = {}) {
  JobSpec s;
  s.name = "sweep";
  s.run = kTrickyRun;
  s.labels = {{"array", kNastyText}, {"100%", "%s"}};
  s.array_task = task;
  for (const char* variable : {"ARRAY_INDEX", "TUTTI_ARRAY_INDEX"})
    s.env.emplace(variable, std::to_string(task.index));
  for (const auto& [variable, value] : variables) s.env.emplace(variable, value);
  return wire::encode_spec(s);
}

struct Sweep {
  std::int64_t first_job = 1;
  int tasks = 10;
  std::int64_t first_event = 1;
  std::int64_t at = 100;  // seconds
  int first_index = 0, index_step = 1;
  int begins = 0;        // so many tasks start in the batch that brings them
  int max_parallel = 0;  // above 0: the others are blocked
  std::string owner = "ann", project = "default", queue = "default", name = "sweep";
  bool matrix = false;
};

// Task `i` of it begins, in a batch that brings it or later.
inline void begin_task(Batch& b, JobRow& row, std::int64_t& next_event, Instant when) {
  row.state = JobState::starting;
  row.epoch = Epoch(row.epoch.value + 1);
  ++row.attempt;
  b.attempts.push_back(attempt(row.id.value, row.epoch.value));
  b.attempts.back().placed_at = when;
  for (const bool of_job : {true, false}) {
    b.events.push_back(of_job ? event(next_event, row.id.value, "queued", "starting")
                              : event(next_event, row.id.value, "", "placed", "attempt"));
    ++next_event;
    b.events.back().at = when;
    b.events.back().epoch = row.epoch;
  }
}

inline Batch batch_of(const Sweep& s) {
  Batch b;
  std::int64_t next_event = s.first_event + s.tasks;
  for (int i = 0; i < s.tasks; ++i) {
    const std::int64_t id = s.first_job + i;
    const bool waits = s.max_parallel > 0 && i >= s.max_parallel;
    SpecRow& spec = b.new_specs.emplace_back(test::spec(id, waits ? JobState::blocked : JobState::queued));
    spec.name = s.name;
    spec.owner = s.owner;
    const ArrayTask task{.index = s.first_index + s.index_step * i,
                         .position = i,
                         .tasks = s.tasks,
                         .max_parallel = s.max_parallel};
    spec.spec_json =
        task_text(task, s.matrix ? std::map<std::string, std::string>{{"LR", std::to_string(i * i)}}
                                 : std::map<std::string, std::string>{});
    spec.created_at = at(s.at);
    if (i == 0) spec.idempotency_key = "key-" + std::to_string(id);
    JobRow row = job(id);
    row.owner = s.owner;
    row.project = s.project;
    row.queue = s.queue;
    row.gpus_per_node = 2;
    row.created_at = row.queued_at = at(s.at);
    row.state = spec.initial_state;
    if (waits) row.reason = "waits: " + std::to_string(s.max_parallel) + " tasks run or may run";
    EventRow told = event(s.first_event + i, id, "", std::string(name(row.state)));
    told.at = at(s.at);
    told.detail = "submitted";
    b.events.push_back(told);
    if (i < s.begins) begin_task(b, row, next_event, at(s.at));
    b.new_jobs.push_back(row);
  }
  return b;
}

}  // namespace tutti::test
