// From specs to what the scheduler is asked: jobs that others depend on are looked up by id or name, those
// of one request that depend on one another are put in order, arrays become tasks. Control thread.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "api/handlers/answer.h"
#include "scheduler/model/job_spec.h"

namespace tutti::api {

inline constexpr std::size_t kMaxTogether = 10'000;  // jobs and tasks of one request

struct SubmitItem {  // one spec of a request
  JobSpec spec;
  std::string owner;
  std::string idempotency_key;  // "" = none
  std::uint64_t body_hash = 0;
};

struct Submissions {
  std::vector<SubmitRequest> requests;  // who others of them wait for comes first
  // By item: its request (of an array the first task's), or why there is none.
  std::vector<Result<std::size_t>> of_item;
};

/// Reads rows only where an item depends on another job; one that is not `visible` is not there. Answers by
/// itself when they cannot be read.
void prepare_submissions(const ApiPtr& api, const Answer& answer, std::vector<SubmitItem> items,
                         const std::optional<Visible>& visible, std::function<void(Submissions)> then);

}  // namespace tutti::api
