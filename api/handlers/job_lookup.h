// Answering with a job: from memory while it lives, from rows when it is over.
// Used by every handler of a job. Control thread.
#pragma once

#include <functional>
#include <string_view>

#include "api/handlers/answer.h"

namespace tutti::api {

/// The job that the path of a route with Need::job_read or job_change names; admission has made it a number.
JobId job_of(const http::Request& request);

/// 200 (or another status) with the whole job, spec included; 404 if there is none.
void answer_with_job(const ApiPtr& api, const Answer& answer, JobId id);

Error no_such_job(JobId id);

/// The version of a job's row as header ETag; If-Match of PATCH takes it back.
std::string etag_of(std::int32_t version);

/// "ada: a typo"; of an act without a reason who it was.
std::string who_and_why(const std::string& who, const std::string& reason);

/// The first task and how many there are of the array that a job is of; itself alone if of none. Store
/// thread.
struct ArraySpan {
  JobId first;
  int tasks = 1;
};
ArraySpan array_of(Reader& reader, JobId id);

}  // namespace tutti::api
