// A change of a job as people write it: the body of PATCH /v1/jobs/{id}, `change` of a bulk action, and what
// POST /v1/jobs/{id}:simulate asks about. Read as a JSON merge patch (RFC 7396): null takes a value away.
#pragma once

#include <boost/json/value.hpp>
#include <string_view>

#include "api/handlers/answer.h"

namespace tutti::api {

/// The first problem names its field, below `at` ("change") if that is given. `asking`: with what can only be
/// simulated. An empty change is a problem.
Result<JobChange> read_change(const boost::json::value& body, Now now, bool asking, std::string_view at = {});

}  // namespace tutti::api
