// GET /v1/history, /v1/history/map, /v1/history/cluster and /v1/history/decisions: the cluster as it was,
// from what is stored (docs/design/0015-history.md). What was not recorded is null.
#include "api/handlers/history.h"

#include <algorithm>

#include "api/handlers/job_filter.h"
#include "api/handlers/map_view.h"
#include "api/handlers/view.h"
#include "api/wire/text_values.h"

namespace tutti::api {

namespace json = boost::json;

// ---------------------------------------------------------------- what all questions share

http::Response keeps_no_history() {
  return http::problem(501, "not_served", "this server answers nothing about the past");
}

Error history_unreadable(const std::exception_ptr& failure) {
  return {.code = Errc::unavailable,
          .message = "the history cannot be read: " + text_of(failure),
          .hint = "try again in a few seconds, or ask for a shorter time",
          .field = ""};
}

std::optional<Error> other_param(const http::Request& request,
                                 std::initializer_list<std::string_view> known) {
  for (const auto& [key, value] : request.query_params()) {
    if (std::ranges::find(known, key) != known.end()) continue;
    std::string names;
    for (const auto name : known) names += (names.empty() ? "" : ", ") + std::string(name);
    return bad_field(key, "unknown parameter", names);
  }
  return std::nullopt;
}

Result<Instant> time_param(const http::Request& request, std::string_view field, Instant otherwise, Now now) {
  const auto text = request.query_param(field);
  if (!text || text->empty()) return otherwise;
  if (const auto at = parse_since(*text, now)) return *at;
  return bad_field(std::string(field), "not a time: '" + text->substr(0, 100) + "'",
                   "like 2026-10-01T00:00:00Z, or 7d for so long ago");
}

Result<Instant> at_param(const http::Request& request, Now now) {
  if (request.query_param("at").value_or("").empty())
    return bad_field("at", "is missing", "an instant of the past, like 2026-10-01T00:00:00Z, or 2h");
  const auto at = time_param(request, "at", now.wall, now);
  if (at && *at > now.wall)
    return bad_field("at", "this is in the future", "GET /v1/plan shows what will start");
  return at;
}

Result<Interval> interval_of(const http::Request& request, Now now, Duration usual, Duration longest) {
  const auto until = time_param(request, "until", now.wall, now);
  if (!until) return until.error();
  Interval out{.since = {}, .until = std::min(*until, now.wall)};
  const auto since = time_param(request, "since", out.until - usual, now);
  if (!since) return since.error();
  out.since = *since;
  if (out.since >= out.until)
    return bad_field("since", "the interval is empty: it ends before it begins",
                     "since must be before until, and before now");
  if (out.until - out.since > longest)
    return bad_field(
        "since", "the interval is longer than " + std::to_string(longest / std::chrono::hours(24)) + " days",
        "ask for one part after the other");
  return out;
}

json::value known_since_view(const std::optional<Instant>& at) {
  return at ? json::value(wire::format_instant(*at)) : json::value(nullptr);
}

namespace {

constexpr int kPieces = 200;
constexpr Duration kUsual = std::chrono::hours(24 * 7);  // as long as reasons of waiting are kept
constexpr Duration kLongest = std::chrono::hours(24 * 400);
constexpr Duration kLongestOfDecisions = std::chrono::hours(24 * 31);  // they are read one by one

// ---------------------------------------------------------------- what there is

struct Span {
  std::optional<Instant> first;
  Interval shown;
  std::vector<DecisionCount> density;
};

json::object span_view(const Span& span) {
  const auto& [since, until] = span.shown;
  std::int64_t decisions = 0;
  json::array density;
  for (std::size_t i = 0; i < span.density.size(); ++i) {
    const auto& piece = span.density[i];
    decisions += piece.decisions;
    density.push_back(
        json::object{{"at", wire::format_instant(since + (until - since) * static_cast<int>(i) / kPieces)},
                     {"decisions", piece.decisions},
                     {"faults", piece.faults},
                     {"starts", piece.starts},
                     {"preemptions", piece.preemptions}});
  }
  return {{"from", wire::format_instant(since)},
          {"until", wire::format_instant(until)},
          {"recorded_since", known_since_view(span.first)},
          {"decisions", decisions},
          {"density", std::move(density)}};
}

void get_history(const ApiPtr& api, const http::Request& request, Answer answer) {
  if (const auto error = other_param(request, {"since", "until"})) return answer.fail(*error);
  const auto interval = interval_of(request, api->backend.now(), kUsual, kLongest);
  if (!interval) return answer.fail(interval.error());
  const bool asked = !request.query_param("since").value_or("").empty();
  read_history(
      api, answer,
      [shown = *interval, asked](HistoryStore& store) {
        Span span{store.first_event(), shown, {}};
        if (!asked && span.first && *span.first > shown.since && *span.first < shown.until)
          span.shown.since = *span.first;
        span.density = store.density(span.shown.since, span.shown.until, kPieces);
        return span;
      },
      [answer](const Span& span) { answer.json(200, span_view(span)); });
}

// ---------------------------------------------------------------- nodes and GPUs

// As letter_of of map.cpp.
char letter_of(const PastGpu& gpu) {
  if (!gpu.row.present) return 'x';
  switch (gpu.row.health) {
    case GpuHealth::quarantined: return 'q';
    case GpuHealth::dirty: return 'd';
    case GpuHealth::healthy: break;
  }
  if (!gpu.holder) return 'f';
  return gpu.holder->preflight ? 'p' : 'a';
}

json::object node_of_map(const PastNode& node, const std::optional<Visible>& visible) {
  std::string letters;
  json::array jobs;
  for (const auto& gpu : node.gpus) {
    letters += letter_of(gpu);
    const bool shown = gpu.holder && is_visible(visible, gpu.holder->project, gpu.holder->owner);
    jobs.push_back(shown ? json::value(gpu.holder->attempt.job.value) : json::value(nullptr));
  }
  return {{"name", node.row.name},         {"rack", 0},
          {"state", name(node.row.state)}, {"service", name(node.row.service)},
          {"conditions", nullptr},         {"gpus", std::move(letters)},
          {"jobs", std::move(jobs)}};
}

void get_map_then(const ApiPtr& api, const http::Request& request, Answer answer) {
  if (const auto error = other_param(request, {"at"})) return answer.fail(*error);
  const auto at = at_param(request, api->backend.now());
  if (!at) return answer.fail(at.error());
  read_history(
      api, answer, [at = *at](HistoryStore& store) { return store.machines(at); },
      [answer, at = *at, visible = visible_to(identity_of(request))](const PastMachines& machines) {
        std::vector<Standing> nodes;
        for (const auto& node : machines.nodes)
          nodes.push_back({place_of(node.row.labels), node.row.name, node_of_map(node, visible)});
        auto map = racks_and_nodes(std::move(nodes));
        map.emplace("at", wire::format_instant(at));
        map.emplace("nodes_known_since", known_since_view(machines.known_since));
        answer.json(200, map);
      });
}

struct ClusterThen {
  PastMachines machines;
  PastJobs jobs;
};

json::object gpu_counts(const PastMachines& machines) {
  std::int64_t total = 0, free = 0, allocated = 0, quarantined = 0, dirty = 0;
  for (const auto& node : machines.nodes)
    for (const auto& gpu : node.gpus) {
      const char letter = letter_of(gpu);
      total += letter != 'x' ? 1 : 0;
      free += letter == 'f' ? 1 : 0;
      allocated += letter == 'a' || letter == 'p' ? 1 : 0;
      quarantined += letter == 'q' ? 1 : 0;
      dirty += letter == 'd' ? 1 : 0;
    }
  return {{"total", total},
          {"free", free},
          {"allocated", allocated},
          {"quarantined", quarantined},
          {"dirty", dirty}};
}

void get_cluster_then(const ApiPtr& api, const http::Request& request, Answer answer) {
  if (const auto error = other_param(request, {"at"})) return answer.fail(*error);
  const auto at = at_param(request, api->backend.now());
  if (!at) return answer.fail(at.error());
  read_history(
      api, answer,
      [at = *at](HistoryStore& store) {
        ClusterThen then{store.machines(at), {}};
        then.jobs = store.jobs(at);
        return then;
      },
      [answer, at = *at](const ClusterThen& then) {
        json::object jobs;
        for (const auto state : kJobStates) {
          const bool known = then.jobs.ended_known || !is_terminal(state);
          const auto count = then.jobs.by_state[static_cast<std::size_t>(state)];
          jobs.emplace(name(state), known ? json::value(count) : json::value(nullptr));
        }
        answer.json(200, json::object{{"at", wire::format_instant(at)},
                                      {"nodes_known_since", known_since_view(then.machines.known_since)},
                                      {"nodes", then.machines.nodes.size()},
                                      {"gpus", gpu_counts(then.machines)},
                                      {"jobs", std::move(jobs)}});
      });
}

// ---------------------------------------------------------------- decisions

std::string names_text(const std::vector<std::string>& names) {
  constexpr std::size_t kNamed = 8;
  std::string out;
  for (std::size_t i = 0; i < std::min(names.size(), kNamed); ++i) out += (i == 0 ? "" : ", ") + names[i];
  if (names.size() > kNamed) out += " and " + std::to_string(names.size() - kNamed) + " more";
  return out;
}

std::string decision_text(const Decision& d) {
  const EventRow& e = d.event;
  if (e.kind == "preempt") return e.detail.empty() ? "gives way" : "gives way: " + e.detail;
  if (e.kind == "brake") return e.detail;
  if (e.kind == "gpu" || e.kind == "service")
    return e.from + " to " + e.to + (e.detail.empty() ? "" : ": " + e.detail);
  if (e.to == "starting") return d.nodes.empty() ? "started" : "started on " + names_text(d.nodes);
  return e.to + (e.detail.empty() ? "" : ": " + e.detail);
}

json::object decision_view(const Decision& d) {
  const EventRow& e = d.event;
  return {{"id", e.id.value},
          {"at", wire::format_instant(e.at)},
          {"kind", decision_word(e).value_or("other")},
          {"job_id", e.job ? json::value(e.job.value) : json::value(nullptr)},
          {"node", d.node_name.empty() ? json::value(nullptr) : json::value(d.node_name)},
          {"text", decision_text(d)}};
}

Result<DecisionQuery> parse_decision_query(const http::Request& request, Now now) {
  if (auto error = other_param(request, {"since", "until", "order", "limit", "page_token"}))
    return *std::move(error);
  const auto interval = interval_of(request, now, std::chrono::minutes(15), kLongestOfDecisions);
  if (!interval) return interval.error();
  DecisionQuery q;
  q.since = interval->since;
  q.until = interval->until;
  const auto order = request.query_param("order").value_or("asc");
  if (order != "asc" && order != "desc") return bad_field("order", "must be asc or desc");
  q.newest_first = order == "desc";
  const auto limit = int_param(request, "limit", q.limit, 1, kMostHistoryPage);
  if (!limit) return limit.error();
  q.limit = static_cast<int>(*limit);
  if (const auto token = request.query_param("page_token"); token && !token->empty()) {
    const auto after = parse_id(*token);
    if (!after)
      return bad_field("page_token", "not a page token of this list", "take next_page_token as it came");
    q.after = EventId(*after);
  }
  q.visible = visible_to(identity_of(request));
  return q;
}

void get_decisions(const ApiPtr& api, const http::Request& request, Answer answer) {
  auto q = parse_decision_query(request, api->backend.now());
  if (!q) return answer.fail(q.error());
  read_history(
      api, answer, [q = *q](HistoryStore& store) { return store.decisions(q); },
      [answer, limit = static_cast<std::size_t>(q->limit)](const std::vector<Decision>& rows) {
        json::array decisions;
        for (const auto& d : rows) decisions.push_back(decision_view(d));
        answer.json(200,
                    json::object{{"decisions", std::move(decisions)},
                                 {"next_page_token",
                                  rows.size() < limit ? "" : std::to_string(rows.back().event.id.value)}});
      });
}

}  // namespace

void add_history_routes(const Routes& routes) {
  routes.get("/v1/history", "history.get", Need::signed_in, get_history);
  routes.get("/v1/history/map", "history.map", Need::signed_in, get_map_then);
  routes.get("/v1/history/cluster", "history.cluster", Need::signed_in, get_cluster_then);
  routes.get("/v1/history/decisions", "history.decisions", Need::signed_in, get_decisions);
  add_history_queue_route(routes);
  add_replay_route(routes);
  add_node_history_routes(routes);
}

}  // namespace tutti::api
