// A job spec as the body of a request: JSON or YAML by its content type.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "api/handlers/answer.h"
#include "api/wire/job_spec_codec.h"

namespace tutti::api {

enum class BodyKind : std::uint8_t {
  json,
  yaml,
  other
};
BodyKind kind_of(std::string_view content_type);
http::Response unsupported_type(std::string_view content_type, std::string_view known);
http::Problem spec_problem(const wire::SpecParse& parse);

/// Answers by itself, and returns nothing, when the body is not a spec without problems.
std::optional<JobSpec> read_spec(const ApiPtr& api, const http::Request& request, const Answer& answer);

}  // namespace tutti::api
