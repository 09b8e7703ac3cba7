// GET /v1/jobs/{id}/attempts and /checkpoints: what a job has done so far.
#include "api/handlers/answer.h"
#include "api/handlers/job_lookup.h"
#include "api/handlers/view.h"

namespace tutti::api {
namespace {

namespace json = boost::json;

/// Rows about a job, or nothing if there is no such job.
template <class Row>
using RowsOfJob = std::optional<std::vector<Row>>;

void get_attempts(const ApiPtr& api, const http::Request& request, Answer answer) {
  resolve_job(api, answer, request.param("id"), [api, answer](JobId id) {
    read_rows(
        api, answer,
        [id](Reader& reader) -> RowsOfJob<AttemptRow> {
          auto rows = reader.attempts(id);
          if (rows.empty() && !reader.find_job(id)) return std::nullopt;
          return rows;
        },
        [api, answer, id](const RowsOfJob<AttemptRow>& rows) {
          if (!rows) return answer.fail(no_such_job(id));
          const ControlPlane* plane = api->backend.plane();  // names of nodes and GPUs
          if (plane == nullptr) return answer.fail(not_ready(api->backend));
          json::array attempts;
          for (const auto& row : *rows) {
            const Attempt* live = plane->find_attempt({row.job, row.epoch});
            attempts.push_back(attempt_view(live == nullptr ? row : live->row, plane->cluster(), live));
          }
          answer.json(200, json::object{{"attempts", std::move(attempts)}});
        });
  });
}

void get_checkpoints(const ApiPtr& api, const http::Request& request, Answer answer) {
  resolve_job(api, answer, request.param("id"), [api, answer](JobId id) {
    read_rows(
        api, answer,
        [id](Reader& reader) -> RowsOfJob<CheckpointRow> {
          auto rows = reader.checkpoints(id);
          if (rows.empty() && !reader.find_job(id)) return std::nullopt;
          return rows;
        },
        [answer, id](const RowsOfJob<CheckpointRow>& rows) {
          if (!rows) return answer.fail(no_such_job(id));
          json::array checkpoints;
          for (const auto& row : *rows) checkpoints.push_back(checkpoint_view(row));
          answer.json(200, json::object{{"checkpoints", std::move(checkpoints)}});
        });
  });
}

}  // namespace

void add_attempt_routes(const Routes& routes) {
  routes.get("/v1/jobs/{id}/attempts", "attempts.list", get_attempts);
  routes.get("/v1/jobs/{id}/checkpoints", "checkpoints.list", get_checkpoints);
}

}  // namespace tutti::api
