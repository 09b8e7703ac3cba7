// GET /v1/nodes/{name}/score, /inspections and /attempts, and GET /v1/projects/{name}/waits: what is asked of
// the past of one node or project.
#include <algorithm>
#include <map>

#include "api/handlers/history.h"
#include "api/handlers/job_filter.h"
#include "api/handlers/page.h"
#include "api/handlers/view.h"
#include "api/wire/text_values.h"
#include "scheduler/core/lemon_score.h"

namespace tutti::api {
namespace {

namespace json = boost::json;

constexpr int kPoints = 60;
constexpr Duration kUsual = std::chrono::hours(24 * 30);
constexpr Duration kLongest = std::chrono::hours(24 * 400);
constexpr Duration kCounted = std::chrono::hours(24 * 120);  // as the fault ledger keeps them

/// Answers itself where there is none.
const Node* node_of(const ApiPtr& api, const http::Request& request, const Answer& answer) {
  const ControlPlane* plane = api->backend.plane();
  if (plane == nullptr) {
    answer.fail(not_ready(api->backend));
    return nullptr;
  }
  const auto found = plane->cluster().node_by_name.find(request.param("name"));
  if (found != plane->cluster().node_by_name.end()) return &plane->cluster().nodes.at(found->second);
  answer.fail(
      not_found("no node '" + request.param("name") + "'", "GET /v1/nodes lists the nodes there are"));
  return nullptr;
}

// ---------------------------------------------------------------- the score

struct Fleet {
  NodeId node;  // the one asked for
  std::vector<std::pair<NodeId, Instant>> registered;
};

LemonScore score_at(const Fleet& fleet, const std::vector<FaultRow>& blamed, Instant at) {
  std::map<NodeId, std::vector<LemonFailure>> failures;
  for (const auto& f : blamed)
    if (f.at <= at && f.at > at - kCounted) failures[f.node].push_back({f.at, f.shared_by});
  std::vector<LemonCount> counts;
  std::size_t mine = 0;
  for (const auto& [id, since] : fleet.registered) {
    if (since > at) continue;
    if (id == fleet.node) mine = counts.size();
    counts.push_back(count_lemon_failures(failures[id], since, at));
  }
  return counts.empty() ? LemonScore{} : score_lemon(counts[mine], fit_lemon_fleet(counts));
}

json::array score_points(const Fleet& fleet, const std::vector<FaultRow>& blamed, const Interval& interval) {
  json::array points;
  const auto& [since, until] = interval;
  for (int i = 1; i <= kPoints; ++i) {
    const Instant at = since + (until - since) * i / kPoints;
    const auto score = score_at(fleet, blamed, at);
    points.push_back(json::object{{"at", wire::format_instant(at)},
                                  {"probability", score.probability},
                                  {"ratio", score.ratio},
                                  {"suspicion", suspicion_of(score)}});
  }
  return points;
}

void get_score(const ApiPtr& api, const http::Request& request, Answer answer) {
  if (const auto error = other_param(request, {"since"})) return answer.fail(*error);
  const Now now = api->backend.now();
  auto interval = interval_of(request, now, kUsual, kLongest);
  if (!interval) return answer.fail(interval.error());
  const Node* node = node_of(api, request, answer);
  if (node == nullptr) return;
  if (node->row.registered_at < interval->until)
    interval->since = std::max(interval->since, node->row.registered_at);
  Fleet fleet{node->row.id, {}};
  for (const auto& [id, other] : api->backend.plane()->cluster().nodes)
    fleet.registered.emplace_back(id, other.row.registered_at);
  read_history(
      api, answer,
      [interval = *interval, fleet = std::move(fleet)](HistoryStore& store) {
        return score_points(fleet, store.blamed(interval.since - kCounted), interval);
      },
      [answer](json::array points) { answer.json(200, json::object{{"points", std::move(points)}}); });
}

// ---------------------------------------------------------------- inspections

// "12 checks (idle)", or "disk, nvlink (person)": the names of those that failed.
json::object inspection_view(const EventRow& e) {
  const auto open = e.detail.rfind(" (");
  const bool whole = open != std::string::npos && e.detail.ends_with(')');
  std::string list = e.detail.substr(0, whole ? open : std::string::npos);
  json::array failed;
  for (std::size_t at = 0; e.to == "failed" && at < list.size();) {
    const auto comma = std::min(list.find(", ", at), list.size());
    failed.emplace_back(list.substr(at, comma - at));
    at = comma + 2;
  }
  return {{"id", e.id.value},
          {"at", wire::format_instant(e.at)},
          {"trigger", whole ? e.detail.substr(open + 2, e.detail.size() - open - 3) : ""},
          {"passed", e.to == "passed"},
          {"failed", std::move(failed)}};
}

void list_inspections(const ApiPtr& api, const http::Request& request, Answer answer) {
  if (const auto error = other_param(request, {"page_size", "page_token"})) return answer.fail(*error);
  const auto page = page_of(request);
  if (!page) return answer.fail(page.error());
  const Node* node = node_of(api, request, answer);
  if (node == nullptr) return;
  const int size = static_cast<int>(page->size);
  read_history(
      api, answer,
      [id = node->row.id, size, before = EventId(static_cast<std::int64_t>(page->begin))](
          HistoryStore& store) { return store.inspections(id, size + 1, before); },
      [answer, size = page->size](std::vector<EventRow> rows) {
        const bool more = rows.size() > size;
        if (more) rows.pop_back();
        json::array inspections;
        for (const auto& e : rows) inspections.push_back(inspection_view(e));
        answer.json(200, json::object{{"inspections", std::move(inspections)},
                                      {"next_page_token", more ? std::to_string(rows.back().id.value) : ""}});
      });
}

// ---------------------------------------------------------------- attempts

json::object attempt_of_node(const NodeAttempt& a, const std::optional<Visible>& visible) {
  const bool shown = is_visible(visible, a.project, a.owner);
  json::array gpus;
  for (const int index : a.gpus) gpus.emplace_back(index);
  const bool over = a.row.result != AttemptResult::none;
  return {{"job_id", shown ? json::value(a.row.job.value) : json::value(nullptr)},
          {"name", shown ? std::string_view(a.job_name) : std::string_view()},
          {"project", a.project},
          {"number", a.row.number},
          {"gpus", std::move(gpus)},
          {"from", wire::format_instant(a.from)},
          {"until", known_since_view(a.until)},
          {"result", over ? json::value(name(a.row.result)) : json::value(nullptr)},
          {"cause", a.row.cause == Cause::none ? json::value(nullptr) : json::value(name(a.row.cause))}};
}

void list_node_attempts(const ApiPtr& api, const http::Request& request, Answer answer) {
  if (const auto error = other_param(request, {"page_size", "page_token"})) return answer.fail(*error);
  const auto page = page_of(request);
  if (!page) return answer.fail(page.error());
  const Node* node = node_of(api, request, answer);
  if (node == nullptr) return;
  constexpr std::size_t kFarthest = 1'000'000;
  read_history(
      api, answer,
      [id = node->row.id, size = static_cast<int>(page->size),
       skip = static_cast<int>(std::min(page->begin, kFarthest))](HistoryStore& store) {
        return store.node_attempts(id, size + 1, skip);
      },
      [answer, page = *page, visible = visible_to(identity_of(request))](std::vector<NodeAttempt> rows) {
        const bool more = rows.size() > page.size;
        if (more) rows.pop_back();
        json::array attempts;
        for (const auto& a : rows) attempts.push_back(attempt_of_node(a, visible));
        answer.json(200,
                    json::object{{"attempts", std::move(attempts)},
                                 {"next_page_token", more ? std::to_string(page.begin + page.size) : ""}});
      });
}

// ---------------------------------------------------------------- waits of a project

const std::vector<Duration>& bounds() {
  using namespace std::chrono_literals;
  static const std::vector<Duration> kBounds{10s, 60s, 5min, 15min, 1h, 4h, 12h, 24h, 72h};
  return kBounds;
}

void get_waits(const ApiPtr& api, const http::Request& request, Answer answer) {
  if (const auto error = other_param(request, {"since"})) return answer.fail(*error);
  const auto interval = interval_of(request, api->backend.now(), kUsual, kLongest);
  if (!interval) return answer.fail(interval.error());
  const ControlPlane* plane = api->backend.plane();
  if (plane == nullptr) return answer.fail(not_ready(api->backend));
  const std::string project = request.param("name");
  if (!plane->shares().projects.contains(project))
    return answer.fail(not_found("no project '" + project + "'", "GET /v1/projects lists those there are"));
  read_history(
      api, answer,
      [project, since = interval->since, visible = visible_to(identity_of(request))](HistoryStore& store) {
        return store.waits(project, visible, since, bounds());
      },
      [answer](const WaitCounts& counts) {
        json::array buckets;
        for (std::size_t i = 0; i < counts.below.size(); ++i)
          buckets.push_back(
              json::object{{"upto_seconds", i < bounds().size() ? json::value(to_seconds(bounds()[i]))
                                                                : json::value(nullptr)},
                           {"jobs", counts.below[i]}});
        answer.json(200, json::object{{"buckets", std::move(buckets)}});
      });
}

}  // namespace

void add_node_history_routes(const Routes& routes) {
  routes.get("/v1/nodes/{name}/score", "nodes.score", Need::signed_in, get_score);
  routes.get("/v1/nodes/{name}/inspections", "nodes.inspections", Need::signed_in, list_inspections);
  routes.get("/v1/nodes/{name}/attempts", "nodes.attempts", Need::signed_in, list_node_attempts);
  routes.get("/v1/projects/{name}/waits", "projects.waits", Need::signed_in, get_waits);
}

}  // namespace tutti::api
