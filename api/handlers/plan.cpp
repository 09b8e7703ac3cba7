// GET /v1/plan: what runs where and until when, and what the planner expects to start where and when. From
// memory: the planner's own estimates, at most half a minute old. Jobs that the caller may not see are bars
// without a name.
#include <algorithm>

#include "api/handlers/answer.h"
#include "api/handlers/job_filter.h"
#include "api/handlers/view.h"
#include "api/wire/text_values.h"

namespace tutti::api {
namespace {

namespace json = boost::json;

constexpr Duration kUsualHorizon = std::chrono::hours(6);
constexpr Duration kLongestHorizon = std::chrono::hours(48);
constexpr std::int64_t kUsualJobs = 500, kMostJobs = 5000;

struct Question {
  std::string queue;
  Instant until;
  std::size_t most = 0;  // that run, and that wait
  std::optional<Visible> visible;

  bool is_about(const Job& job) const { return queue.empty() || job.row.queue == queue; }
};

Result<Question> parse_question(const http::Request& request, Now now) {
  Question q;
  Duration horizon = kUsualHorizon;
  for (const auto& [key, value] : request.query_params()) {
    if (key == "queue") {
      q.queue = value;
    } else if (key == "horizon") {
      const auto given = wire::parse_duration(value);
      if (!given || *given <= Duration::zero() || *given > kLongestHorizon)
        return bad_field("horizon", "must be a duration of at most 48h", "like 6h, or 90m");
      horizon = *given;
    } else if (key != "limit") {
      return bad_field(key, "unknown parameter", "queue, horizon or limit");
    }
  }
  const auto most = int_param(request, "limit", kUsualJobs, 1, kMostJobs);
  if (!most) return most.error();
  q.most = static_cast<std::size_t>(*most);
  q.until = now.wall + horizon;
  q.visible = visible_to(identity_of(request));
  return q;
}

json::object bar(const Question& q, const Job& job) {
  const bool shown = is_visible(q.visible, job.row.project, job.row.owner);
  return {{"job_id", shown ? json::value(job.row.id.value) : json::value(nullptr)},
          {"name", shown ? std::string_view(job.spec->name) : std::string_view()},
          {"project", shown ? std::string_view(job.row.project) : std::string_view()},
          {"queue", job.row.queue}};
}

json::array running_bars(const ControlPlane& plane, const Question& q, Now now, bool& cut) {
  json::array out;
  for (const auto& [id, running] : plane.planner().running()) {
    const Job* job = plane.find_job(id);
    const Attempt* attempt = job == nullptr ? nullptr : plane.find_attempt({id, job->row.epoch});
    if (attempt == nullptr || !q.is_about(*job)) continue;
    if (out.size() == q.most) {
      cut = true;
      break;
    }
    auto view = bar(q, *job);
    view.emplace("nodes", allocation_view(attempt->row, plane.cluster()));
    view.emplace("started_at", wire::format_instant(attempt->row.placed_at));
    view.emplace("ends_at", wire::format_instant(planner::expected_end(plane.planner(), running, now.wall)));
    view.emplace("ends_latest_at", running.what.limit == planner::kNoLimit
                                       ? json::value(nullptr)
                                       : json::value(wire::format_instant(running.until)));
    out.push_back(std::move(view));
  }
  return out;
}

json::object planned_bar(const ControlPlane& plane, const Question& q, const Job& job,
                         const PlannedRun& planned) {
  json::array nodes;
  std::int64_t gpus = 0;
  for (const auto& part : planned.parts) {
    std::int64_t count = 0;
    for (const auto n : part.gpus) count += n;
    gpus += count;
    nodes.push_back(
        json::object{{"node", plane.planner().nodes().at(part.node).desc->name}, {"count", count}});
  }
  auto view = bar(q, job);
  view.emplace("nodes", std::move(nodes));
  view.emplace("starts_at", wire::format_instant(planned.start.at));
  view.emplace("from", wire::format_instant(planned.start.from));
  view.emplace("to", wire::format_instant(planned.start.to));
  view.emplace("ends_at", wire::format_instant(planned.start.at + planned.runs));
  view.emplace("gpus", gpus);
  return view;
}

json::array planned_bars(const ControlPlane& plane, const Question& q, Now now, bool& cut) {
  std::vector<std::pair<Instant, json::object>> bars;
  for (const std::string& pool : plane.planner().pools()) {
    const auto order = plane.planner().first(pool, ControlPlane::kEstimated + 1);
    cut = cut || order.size() > ControlPlane::kEstimated;
    std::optional<Instant> latest;  // start of those that come before it
    for (const JobId id : order) {
      const Job* job = plane.find_job(id);
      const auto planned = plane.planned_run(id, now);
      if (job == nullptr || !planned) continue;
      const bool backfill = latest && planned->start.at < *latest;
      latest = std::max(latest.value_or(planned->start.at), planned->start.at);
      if (!q.is_about(*job) || planned->start.at >= q.until) continue;
      bars.emplace_back(planned->start.at, planned_bar(plane, q, *job, *planned));
      bars.back().second.emplace("backfill", backfill);
    }
  }
  std::ranges::sort(bars, {}, [](const auto& b) { return b.first; });
  if (bars.size() > q.most) {
    cut = true;
    bars.erase(bars.begin() + static_cast<std::ptrdiff_t>(q.most), bars.end());
  }
  json::array out;
  for (auto& [at, view] : bars) out.push_back(std::move(view));
  return out;
}

json::array windows(const ControlPlane& plane, Now now, Instant until) {
  json::array out;
  for (const auto& [name, r] : plane.shares().reservations) {
    if (r.until <= now.wall || r.from >= until) continue;
    json::array nodes, projects;
    for (const auto& node : r.nodes) nodes.emplace_back(node);
    for (const auto& project : r.projects) projects.emplace_back(project);
    out.push_back(json::object{{"name", name},
                               {"nodes", std::move(nodes)},
                               {"from", wire::format_instant(r.from)},
                               {"until", wire::format_instant(r.until)},
                               {"projects", std::move(projects)}});
  }
  return out;
}

void get_plan(const ApiPtr& api, const http::Request& request, Answer answer) {
  const ControlPlane* plane = api->backend.plane();
  if (plane == nullptr) return answer.fail(not_ready(api->backend));
  const Now now = api->backend.now();
  const auto q = parse_question(request, now);
  if (!q) return answer.fail(q.error());
  bool cut = false;
  auto running = running_bars(*plane, *q, now, cut);
  auto planned = planned_bars(*plane, *q, now, cut);
  answer.json(200, json::object{{"at", wire::format_instant(now.wall)},
                                {"until", wire::format_instant(q->until)},
                                {"cut", cut},
                                {"running", std::move(running)},
                                {"planned", std::move(planned)},
                                {"reservations", windows(*plane, now, q->until)}});
}

}  // namespace

void add_plan_routes(const Routes& routes) { routes.get("/v1/plan", "plan.get", Need::signed_in, get_plan); }

}  // namespace tutti::api
