// Finding a job and answering with it: by id or name, from memory while it lives, from rows when it is over.
// Used by every handler of a job. Control thread.
#pragma once

#include <functional>
#include <string_view>

#include "api/handlers/answer.h"

namespace tutti::api {

/// The job that a path names: by id, else by name (the newest of that name; header Tutti-Ambiguous says how
/// many there are). Answers 404 itself when there is none of that name. An id is passed on unseen.
void resolve_job(const ApiPtr& api, const Answer& answer, std::string_view id_or_name,
                 std::function<void(JobId)> then);

/// 200 (or another status) with the whole job, spec included; 404 if there is none.
void answer_with_job(const ApiPtr& api, const Answer& answer, JobId id);

Error no_such_job(JobId id);

/// The first task and how many there are of the array that a job is of; itself alone if of none. Store
/// thread.
struct ArraySpan {
  JobId first;
  int tasks = 1;
};
ArraySpan array_of(Reader& reader, JobId id);

}  // namespace tutti::api
