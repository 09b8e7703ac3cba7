// GET /v1/jobs/{id}/attempts/{n}/metrics and GET /v1/nodes/{name}/metrics: what was measured of GPUs and told
// by ranks, in as few points as the caller can draw. The rows are read, and the answer is written, on a
// thread beside (SeriesHistory).
#include <algorithm>
#include <boost/json/serialize.hpp>
#include <charconv>
#include <map>
#include <set>
#include <string_view>
#include <utility>

#include "api/handlers/answer.h"
#include "api/handlers/job_lookup.h"
#include "api/handlers/series_history.h"
#include "api/wire/text_values.h"
#include "scheduler/core/series_codec.h"

namespace tutti::api {
namespace {

namespace json = boost::json;

constexpr std::int64_t kDefaultPoints = 2'000, kMostPoints = 5'000;
constexpr std::size_t kMostNames = 64;  // in one question
constexpr std::size_t kMostGpus = 256;  // of an attempt
constexpr Duration kDefaultRange = std::chrono::hours(1);

struct MetricsRequest {
  std::set<std::string> names;
  std::optional<std::int64_t> rank;  // none: all, and the GPUs
  std::optional<Instant> from, until;
  std::int64_t points = kDefaultPoints;
};

Result<std::optional<Instant>> instant_param(const http::Request& request, std::string_view name) {
  const auto text = request.query_param(name);
  if (!text || text->empty()) return std::optional<Instant>();
  const auto at = wire::parse_instant(*text);
  if (!at)
    return bad_field(std::string(name), "not an instant: '" + *text + "'", "like 2026-10-01T02:00:00Z");
  return at;
}

Result<std::set<std::string>> names_param(const http::Request& request) {
  std::set<std::string> names;
  const auto text = request.query_param("names");
  std::string_view left = text ? std::string_view(*text) : std::string_view();
  while (!left.empty()) {
    const auto word = left.substr(0, left.find(','));
    left.remove_prefix(std::min(left.size(), word.size() + 1));
    if (!series::is_name(word))
      return bad_field("names", "not the name of a metric: '" + std::string(word.substr(0, 100)) + "'",
                       "like loss,step_seconds");
    names.emplace(word);
    if (names.size() > kMostNames)
      return bad_field("names", "more than " + std::to_string(kMostNames) + " names", "leave it out for all");
  }
  return names;
}

Result<MetricsRequest> parse_request(const http::Request& request, Instant now) {
  MetricsRequest out;
  auto names = names_param(request);
  if (!names) return names.error();
  out.names = *std::move(names);
  const auto from = instant_param(request, "from"), until = instant_param(request, "until");
  if (!from) return from.error();
  if (!until) return until.error();
  out.from = *from;
  out.until = *until;
  if (out.from && *out.from > now) return bad_field("from", "this is in the future");
  if (out.from && out.until && *out.from >= *out.until)
    return bad_field("until", "until must be later than from");
  if (const auto rank = request.query_param("rank"); rank && *rank != "all") {
    const auto number = int_param(request, "rank", 0, 0, 1'000'000);
    if (!number) return bad_field("rank", number.error().message + ", or 'all'");
    out.rank = *number;
  }
  const auto points = int_param(request, "points", kDefaultPoints, 1, kMostPoints);
  if (!points) return points.error();
  out.points = *points;
  return out;
}

// ---------------------------------------------------------------- the answer

struct GpuName {
  std::string node;  // as JSON
  std::int32_t index = 0;
};
using GpuNames = std::map<std::int64_t, GpuName>;  // by id

void add_number(std::string& out, double value, int digits) {
  char text[32];
  const auto end = std::to_chars(text, text + sizeof text, value, std::chars_format::general, digits).ptr;
  out.append(text, end);
}

template <class Get>
void add_list(std::string& out, std::string_view name, const SeriesFound::Line& line, Get get) {
  out += ",\"";
  out += name;
  out += "\":[";
  for (std::size_t i = 0; i < line.values.size(); ++i) {
    if (i > 0) out += ',';
    get(line.values[i]);
  }
  out += ']';
}

void add_line(std::string& out, const SeriesFound::Line& line, const GpuName* gpu, Duration bucket) {
  out +=
      "{\"name\":\"" + line.key.name + "\",\"unit\":\"" + std::string(series::unit_of(line.key.name)) + "\"";
  if (gpu != nullptr)
    out += ",\"node\":" + gpu->node + ",\"gpu\":" + std::to_string(gpu->index) + ",\"rank\":null";
  else
    out += ",\"node\":null,\"gpu\":null,\"rank\":" + std::to_string(line.key.item);
  const int digits = quantum_of(line.key.name) >= 1 ? 12 : 7;  // others are stored as floats
  using Value = SeriesFound::Value;
  add_list(out, "at_seconds", line,
           [&](const Value& v) { out += std::to_string(v.bucket * (bucket / std::chrono::seconds(1))); });
  add_list(out, "mean", line, [&](const Value& v) { add_number(out, v.mean, digits); });
  add_list(out, "min", line, [&](const Value& v) { add_number(out, v.min, digits); });
  add_list(out, "max", line, [&](const Value& v) { add_number(out, v.max, digits); });
  out += '}';
}

/// By hand: it may be a hundred thousand numbers. Names of metrics hold nothing that JSON would escape.
std::string metrics_text(const SeriesFound& found, const GpuNames& gpus) {
  std::string out = "{\"from\":\"" + wire::format_instant(found.from) + "\",\"until\":\"" +
                    wire::format_instant(found.until) +
                    "\",\"bucket_seconds\":" + std::to_string(found.bucket / std::chrono::seconds(1)) +
                    ",\"simulated\":" + (found.simulated ? "true" : "false") +
                    ",\"cut\":" + (found.cut ? "true" : "false") + ",\"series\":[";
  bool first = true;
  for (const auto& line : found.lines) {
    const bool of_node = line.kind == series::Kind::node;
    const auto gpu = of_node ? gpus.find(line.key.item) : gpus.end();
    if (of_node && gpu == gpus.end()) continue;
    if (!std::exchange(first, false)) out += ',';
    add_line(out, line, of_node ? &gpu->second : nullptr, found.bucket);
  }
  return out + "]}";
}

void answer_with(const ApiPtr& api, const Answer& answer, SeriesQuery query, GpuNames gpus, bool cut) {
  if (query.from >= query.until) {  // it had ended before, or had not begun
    SeriesFound nothing;
    nothing.from = nothing.until = query.from;
    nothing.bucket = series::kTiers[0].step;
    return answer.send(http::text(200, metrics_text(nothing, gpus), "application/json"));
  }
  api->services.series->find(
      std::move(query),
      [gpus = std::move(gpus), cut](const SeriesFound& found) {
        SeriesFound shown = found;
        shown.cut = shown.cut || cut;
        return metrics_text(shown, gpus);
      },
      [answer](Result<std::string> text) {
        if (!text) return answer.fail(text.error());
        answer.send(http::text(200, *std::move(text), "application/json"));
      });
}

GpuName name_of(const Gpu& gpu, const Node& node) {
  return {json::serialize(json::string(node.row.name)), gpu.row.index};
}

bool is_served(const ApiPtr& api, const Answer& answer) {
  if (api->services.series != nullptr) return true;
  answer.send(http::problem(501, "not_served", "this server keeps no measurements"));
  return false;
}

// ---------------------------------------------------------------- of a node, of an attempt

void get_node_metrics(const ApiPtr& api, const http::Request& request, Answer answer) {
  if (!is_served(api, answer)) return;
  const ControlPlane* plane = api->backend.plane();
  if (plane == nullptr) return answer.fail(not_ready(api->backend));
  const Instant now = api->backend.now().wall;
  const auto asked = parse_request(request, now);
  if (!asked) return answer.fail(asked.error());
  if (asked->rank) return answer.fail(bad_field("rank", "a node has GPUs", "leave it out"));
  const std::string name = request.param("name");
  const auto found = plane->cluster().node_by_name.find(name);
  if (found == plane->cluster().node_by_name.end())
    return answer.fail(not_found("no node '" + name + "'", "GET /v1/nodes lists the nodes there are"));
  const Node& node = plane->cluster().nodes.at(found->second);
  SeriesQuery query;
  query.parts.push_back({series::of(node.row.id), {}});
  query.names = asked->names;
  query.points = asked->points;
  query.until = std::min(asked->until.value_or(now), now);
  query.from = asked->from.value_or(query.until - kDefaultRange);
  GpuNames gpus;
  for (const auto* ids : {&node.gpus, &node.absent})
    for (const GpuId id : *ids) gpus.emplace(id.value, name_of(plane->cluster().gpus.at(id), node));
  answer_with(api, answer, std::move(query), std::move(gpus), false);
}

/// Its GPUs, as long as there are not too many. True: there are.
bool add_gpus(const AttemptRow& attempt, const Cluster& cluster, SeriesQuery& query, GpuNames& gpus) {
  for (const auto& member : attempt.gang) {
    const Node* node = cluster.find(member.node);
    if (node == nullptr || member.gpus.empty()) continue;
    if (gpus.size() + member.gpus.size() > kMostGpus) return true;
    std::set<std::int64_t> items;
    for (const GpuId id : member.gpus) {
      const auto gpu = cluster.gpus.find(id);
      if (gpu == cluster.gpus.end()) continue;
      items.insert(id.value);
      gpus.emplace(id.value, name_of(gpu->second, *node));
    }
    query.parts.push_back({series::of(member.node), std::move(items)});
  }
  return false;
}

void answer_with_attempt(const ApiPtr& api, const Answer& answer, const AttemptRow& stored,
                         const MetricsRequest& asked) {
  const ControlPlane* plane = api->backend.plane();
  if (plane == nullptr) return answer.fail(not_ready(api->backend));
  const AttemptKey key{stored.job, stored.epoch};
  const Attempt* live = plane->find_attempt(key);
  const AttemptRow& attempt = live == nullptr ? stored : live->row;
  const Instant end = attempt.ended_at == Instant{} ? api->backend.now().wall : attempt.ended_at;
  SeriesQuery query;
  query.names = asked.names;
  query.points = asked.points;
  // What its GPUs did before and after is not of it.
  query.from = std::max(asked.from.value_or(attempt.placed_at), attempt.placed_at);
  query.until = std::min(asked.until.value_or(end), end);
  query.parts.push_back({series::of(key), {}});
  if (asked.rank) query.parts[0].items = std::set<std::int64_t>{*asked.rank};
  GpuNames gpus;
  const bool cut = !asked.rank && add_gpus(attempt, plane->cluster(), query, gpus);
  answer_with(api, answer, std::move(query), std::move(gpus), cut);
}

void get_attempt_metrics(const ApiPtr& api, const http::Request& request, Answer answer) {
  if (!is_served(api, answer)) return;
  const auto asked = parse_request(request, api->backend.now().wall);
  if (!asked) return answer.fail(asked.error());
  const std::string wanted(request.param("n"));
  const auto number = wanted == "latest" ? std::optional<std::int64_t>(0) : parse_id(wanted);
  if (!number) return answer.fail(bad_field("n", "an attempt is a number from 1, or 'latest'"));
  const JobId id = job_of(request);
  read_rows(
      api, answer,
      [id, n = static_cast<std::int32_t>(std::min<std::int64_t>(*number, INT32_MAX))](Reader& reader) {
        return reader.find_attempt(id, n);
      },
      [api, answer, id, wanted, asked = *asked](const std::optional<AttemptRow>& attempt) {
        if (!attempt)
          return answer.fail(not_found("job " + to_string(id) + " has no attempt " + wanted,
                                       "GET /v1/jobs/" + to_string(id) + "/attempts lists those there are"));
        answer_with_attempt(api, answer, *attempt, asked);
      });
}

}  // namespace

void add_metrics_routes(const Routes& routes) {
  routes.get("/v1/jobs/{id}/attempts/{n}/metrics", "attempts.metrics", Need::job_read, get_attempt_metrics);
  routes.get("/v1/nodes/{name}/metrics", "nodes.metrics", Need::signed_in, get_node_metrics);
}

}  // namespace tutti::api
