// PATCH /v1/jobs/{id}: what may be changed of a job that was submitted. If-Match is honoured where it is
// sent: then nothing is changed of a job that has changed since it was read.
#include <charconv>

#include "api/handlers/answer.h"
#include "api/handlers/change_body.h"
#include "api/handlers/job_filter.h"
#include "api/handlers/job_lookup.h"
#include "api/wire/strict_json.h"

namespace tutti::api {
namespace {

namespace json = boost::json;

/// The versions that the caller has seen; nullopt: any will do.
using Versions = std::optional<std::vector<std::int32_t>>;

/// `"7", "8"`, or `*`. A weak tag (W/"7") matches nothing, as RFC 9110 wants it.
Result<Versions> if_match(const http::Request& request) {
  const auto header = request.header("If-Match");
  if (!header || *header == "*") return Versions();
  std::vector<std::int32_t> versions;
  std::string_view rest = *header;
  while (!rest.empty()) {
    auto tag = rest.substr(0, rest.find(','));
    rest.remove_prefix(std::min(rest.size(), tag.size() + 1));
    while (!tag.empty() && (tag.front() == ' ' || tag.front() == '\t')) tag.remove_prefix(1);
    while (!tag.empty() && (tag.back() == ' ' || tag.back() == '\t')) tag.remove_suffix(1);
    const bool weak = tag.starts_with("W/");
    if (weak) tag.remove_prefix(2);
    std::int32_t version = 0;
    const bool quoted = tag.size() > 2 && tag.front() == '"' && tag.back() == '"';
    const auto digits = quoted ? tag.substr(1, tag.size() - 2) : std::string_view();
    const auto [end, code] = std::from_chars(digits.data(), digits.data() + digits.size(), version);
    if (!quoted || code != std::errc{} || end != digits.data() + digits.size())
      return bad_field("If-Match", "not an ETag of a job",
                       "send the ETag of GET /v1/jobs/{id} as it came, or *");
    if (!weak) versions.push_back(version);
  }
  return Versions(std::move(versions));
}

/// The version that the job has when this is decided: of one that was changed in the same batch the next.
std::int32_t version_of(const Job& job) { return job.dirty ? job.base_version + 1 : job.row.version; }

std::optional<Error> has_changed(const Job& job, const Versions& seen) {
  const std::int32_t version = version_of(job);
  if (!seen || std::ranges::find(*seen, version) != seen->end()) return std::nullopt;
  return Error{
      .code = Errc::precondition_failed,
      .message = "job " + to_string(job.row.id) + " has changed: it is at version " + std::to_string(version),
      .hint = "read it again, and send its new ETag in If-Match",
      .field = "If-Match"};
}

bool is_json(std::string_view content_type) {
  const auto type = content_type.substr(0, content_type.find_first_of("; "));
  return type.empty() || http::equal_ignoring_case(type, "application/json") ||
         http::equal_ignoring_case(type, "application/merge-patch+json");
}

void patch_job(const ApiPtr& api, const http::Request& request, Answer answer) {
  const auto content_type = request.header("Content-Type").value_or("");
  if (!is_json(content_type))
    return answer.send(http::problem(415, "unsupported_media_type",
                                     "cannot read " + std::string(content_type.substr(0, 100)),
                                     "send Content-Type: application/merge-patch+json or application/json"));
  json::value body;
  if (auto error = wire::parse_strict_json(request.body, body))
    return answer.send(malformed("JSON", std::move(error->message), error->line, error->column));
  const auto change = read_change(body, api->backend.now(), false);
  if (!change) return answer.fail(change.error());
  const auto seen = if_match(request);
  if (!seen) return answer.fail(seen.error());
  const JobId id = job_of(request);
  api->backend.change_jobs(
      [id, change = *change, seen = *seen, who = identity_of(request)](ControlPlane& plane,
                                                                       Now now) -> Result<JobId> {
        if (const Job* job = plane.find_job(id)) {
          if (auto error = has_changed(*job, seen)) return *error;
          if (change.priority)
            if (auto error = refuses_priority(who, job->row.project, *change.priority)) return *error;
        }
        return plane.on_update(now, id, change, who.owner);
      },
      [api, answer](const Result<JobId>& done) {
        if (!done) return answer.fail(done.error());
        answer_with_job(api, answer, *done);
      });
}

}  // namespace

void add_job_change_routes(const Routes& routes) {
  routes.patch("/v1/jobs/{id}", "jobs.update", Need::job_change, patch_job);
}

}  // namespace tutti::api
