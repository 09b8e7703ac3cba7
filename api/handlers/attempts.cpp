// GET /v1/jobs/{id}/attempts: what a job has done so far.
#include <algorithm>

#include "api/handlers/answer.h"
#include "api/handlers/job_lookup.h"
#include "api/handlers/page.h"
#include "api/handlers/view.h"
#include "scheduler/core/lost_work.h"

namespace tutti::api {
namespace {

namespace json = boost::json;

struct AttemptsOfJob {
  std::vector<AttemptRow> attempts;
  std::vector<CheckpointRow> checkpoints;
};

/// What of the time since its first start the job has spent on work that is kept (ETTR, arXiv:2410.21680).
json::object goodput_view(const std::vector<AttemptRow>& rows, const std::vector<CheckpointRow>& checkpoints,
                          Now now) {
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
    if (gpus > 0)  // as it was counted at its end
      lost += row.lost_gpu / static_cast<int>(gpus);
    else if (const auto work = compute_lost_work(row, checkpoints))
      lost += from_seconds(work->seconds);
  }
  const Duration whole = last - first;
  const double kept = to_seconds(std::max(ran - lost, Duration()));
  return {{"running_seconds", to_seconds(ran)},
          {"lost_seconds", to_seconds(lost)},
          {"ettr", whole > Duration() ? json::value(kept / to_seconds(whole)) : json::value(nullptr)}};
}

void get_attempts(const ApiPtr& api, const http::Request& request, Answer answer) {
  const auto page = page_of(request);
  if (!page) return answer.fail(page.error());
  const JobId id = job_of(request);
  read_rows(
      api, answer,
      [id](Reader& reader) -> std::optional<AttemptsOfJob> {
        AttemptsOfJob rows{reader.attempts(id), {}};
        if (rows.attempts.empty() && !reader.find_job(id)) return std::nullopt;
        rows.checkpoints = reader.checkpoints(id);
        return rows;
      },
      [api, answer, id, page = *page](const std::optional<AttemptsOfJob>& rows) {
        if (!rows) return answer.fail(no_such_job(id));
        const ControlPlane* plane = api->backend.plane();  // names of nodes and GPUs
        if (plane == nullptr) return answer.fail(not_ready(api->backend));
        json::array attempts;
        const auto& all = rows->attempts;
        for (std::size_t i = page.begin; i < page.end(all.size()); ++i) {
          const AttemptRow& row = all[i];
          const Attempt* live = plane->find_attempt({row.job, row.epoch});
          attempts.push_back(
              attempt_view(live == nullptr ? row : live->row, plane->cluster(), live, rows->checkpoints));
        }
        answer.json(200, json::object{
                             {"attempts", std::move(attempts)},
                             {"goodput", goodput_view(rows->attempts, rows->checkpoints, api->backend.now())},
                             {"next_page_token", page.next_token(all.size())}});
      });
}

}  // namespace

void add_attempt_routes(const Routes& routes) {
  routes.get("/v1/jobs/{id}/attempts", "attempts.list", Need::job_read, get_attempts);
}

}  // namespace tutti::api
