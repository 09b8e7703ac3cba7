#include "api/handlers/spec_body.h"

namespace tutti::api {

BodyKind kind_of(std::string_view content_type) {
  const auto type = content_type.substr(0, content_type.find_first_of("; "));
  const auto is = [type](std::string_view t) { return http::equal_ignoring_case(type, t); };
  if (type.empty() || is("application/json")) return BodyKind::json;
  if (is("application/yaml") || is("application/x-yaml") || is("text/yaml")) return BodyKind::yaml;
  return BodyKind::other;
}

http::Response unsupported_type(std::string_view content_type, std::string_view known) {
  return http::problem(415, "unsupported_media_type",
                       "cannot read " + std::string(content_type.substr(0, 100)),
                       "send Content-Type: " + std::string(known));
}

http::Problem spec_problem(const wire::SpecParse& parse) {
  http::Problem problem;
  problem.status = 422;
  problem.code = "invalid_spec";
  const auto n = parse.problems.size();
  problem.detail =
      n == 1 ? "the job spec has a problem" : "the job spec has " + std::to_string(n) + " problems";
  for (const auto& p : parse.problems)
    problem.errors.push_back({p.field, p.hint.empty() ? p.message : p.message + " (" + p.hint + ")"});
  problem.hint = parse.problems.front().hint;
  return problem;
}

std::optional<JobSpec> read_spec(const ApiPtr& api, const http::Request& request, const Answer& answer) {
  const auto content_type = request.header("Content-Type").value_or("");
  const auto kind = kind_of(content_type);
  if (kind == BodyKind::other) {
    answer.send(unsupported_type(content_type, "application/json or application/yaml"));
    return std::nullopt;
  }
  const Now now = api->backend.now();
  auto parse = kind == BodyKind::yaml ? wire::parse_spec_yaml(request.body, now)
                                      : wire::parse_spec_json(request.body, now);
  if (parse.malformed)
    answer.send(malformed(kind == BodyKind::yaml ? "YAML" : "JSON", parse.problems.front().message,
                          parse.line, parse.column));
  else if (!parse.ok())
    answer.send(http::problem(spec_problem(parse)));
  else
    return std::move(parse.spec);
  return std::nullopt;
}

}  // namespace tutti::api
