// GET /v1/jobs/{id}/attempts: what a job has done so far.
#include <algorithm>

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
          answer.json(200, json::object{{"attempts", std::move(attempts)},
                                        {"goodput", goodput_view(rows->attempts, api->backend.now())}});
        });
  });
}

}  // namespace

void add_attempt_routes(const Routes& routes) {
  routes.get("/v1/jobs/{id}/attempts", "attempts.list", get_attempts);
}

}  // namespace tutti::api
