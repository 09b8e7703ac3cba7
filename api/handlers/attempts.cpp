// GET /v1/jobs/{id}/attempts and /checkpoints: what a job has done so far.
#include <algorithm>

#include "api/handlers/answer.h"
#include "api/handlers/job_lookup.h"
#include "api/handlers/view.h"

namespace tutti::api {
namespace {

namespace json = boost::json;

/// Rows about a job, or nothing if there is no such job.
template <class Row>
using RowsOfJob = std::optional<std::vector<Row>>;

/// What of the time since its first start the job has spent on work that is kept (ETTR, arXiv:2410.21680).
json::object goodput_view(const std::vector<AttemptRow>& rows, Now now) {
  Duration ran{}, lost{};
  Instant first{}, last{};
  for (const auto& row : rows) {
    if (first == Instant{} || row.placed_at < first) first = row.placed_at;
    const Instant end = row.ended_at == Instant{} ? now.wall : row.ended_at;
    last = std::max(last, end);
    if (row.running_at == Instant{}) continue;
    ran += end - row.running_at;
    std::size_t gpus = 0;
    for (const auto& m : row.gang) gpus += m.gpus.size();
    if (gpus > 0) lost += row.lost_gpu / static_cast<int>(gpus);
  }
  const Duration whole = last - first;
  const double kept = to_seconds(std::max(ran - lost, Duration()));
  return {{"running_seconds", to_seconds(ran)},
          {"lost_seconds", to_seconds(lost)},
          {"ettr", whole > Duration() ? json::value(kept / to_seconds(whole)) : json::value(nullptr)}};
}

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
          answer.json(200, json::object{{"attempts", std::move(attempts)},
                                        {"goodput", goodput_view(*rows, api->backend.now())}});
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
