#include "api/handlers/job_lookup.h"

#include "api/handlers/view.h"
#include "api/wire/job_spec_codec.h"

namespace tutti::api {
namespace {

namespace json = boost::json;

std::string finished_job(const JobView& view, Now now) {
  std::optional<Ending> ending;
  if (view.ended_at) ending = Ending{*view.ended_at, view.exit_code};
  auto job = job_view(view.row, view.name, ending);
  job.emplace("labels", labels_view(wire::parse_spec_json(view.spec_json, now).spec));
  job.emplace("progress", nullptr);
  job.emplace("allocation", json::array());
  return with_spec(job, view.spec_json);
}

}  // namespace

Error no_such_job(JobId id) {
  return not_found("no job " + to_string(id), "GET /v1/jobs lists the jobs there are");
}

ArraySpan array_of(Reader& reader, JobId id) {
  const auto view = reader.find_job(id);
  if (!view) return {.first = id};
  const auto task = wire::parse_spec_json(view->spec_json, Now{}).spec.array_task;
  return task ? ArraySpan{JobId(id.value - task->position), task->tasks} : ArraySpan{id};
}

std::string who_and_why(const std::string& who, const std::string& reason) {
  return reason.empty() ? who : who + ": " + reason;
}

std::string etag_of(std::int32_t version) { return "\"" + std::to_string(version) + "\""; }

JobId job_of(const http::Request& request) { return JobId(parse_id(request.param("id")).value()); }

void answer_with_job(const ApiPtr& api, const Answer& answer, JobId id) {
  const ControlPlane* plane = api->backend.plane();
  if (const Job* live = plane == nullptr ? nullptr : plane->find_job(id)) {
    answer.header("ETag", etag_of(live->row.version));
    auto job = job_view(live->row, live->spec->name, std::nullopt);
    add_live_parts(job, *plane, *live);
    add_outlook(job, *plane, *live, api->backend.now());
    return answer.send(http::text(200, with_spec(job, wire::encode_spec(*live->spec)), "application/json"));
  }
  read_rows(
      api, answer, [id](Reader& reader) { return reader.find_job(id); },
      [api, answer, id](std::optional<JobView> view) {
        if (!view) return answer.fail(no_such_job(id));
        answer.header("ETag", etag_of(view->row.version));
        answer.send(http::text(200, finished_job(*view, api->backend.now()), "application/json"));
      });
}

}  // namespace tutti::api
