// GET /v1/jobs/{id}/attempts: what a job has done so far.
#include "api/handlers/answer.h"
#include "api/handlers/job_lookup.h"
#include "api/handlers/view.h"

namespace tutti::api {
namespace {

namespace json = boost::json;

struct AttemptsOfJob {
  std::vector<AttemptRow> attempts;
  std::vector<CheckpointRow> checkpoints;
};

void get_attempts(const ApiPtr& api, const http::Request& request, Answer answer) {
  resolve_job(api, answer, request.param("id"), [api, answer](JobId id) {
    read_rows(
        api, answer,
        [id](Reader& reader) -> std::optional<AttemptsOfJob> {
          AttemptsOfJob rows{reader.attempts(id), {}};
          if (rows.attempts.empty() && !reader.find_job(id)) return std::nullopt;
          rows.checkpoints = reader.checkpoints(id);
          return rows;
        },
        [api, answer, id](const std::optional<AttemptsOfJob>& rows) {
          if (!rows) return answer.fail(no_such_job(id));
          const ControlPlane* plane = api->backend.plane();  // names of nodes and GPUs
          if (plane == nullptr) return answer.fail(not_ready(api->backend));
          json::array attempts;
          for (const auto& row : rows->attempts) {
            const Attempt* live = plane->find_attempt({row.job, row.epoch});
            attempts.push_back(
                attempt_view(live == nullptr ? row : live->row, plane->cluster(), live, rows->checkpoints));
          }
          answer.json(200, json::object{{"attempts", std::move(attempts)}});
        });
  });
}

}  // namespace

void add_attempt_routes(const Routes& routes) {
  routes.get("/v1/jobs/{id}/attempts", "attempts.list", get_attempts);
}

}  // namespace tutti::api
