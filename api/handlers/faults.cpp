// GET /v1/faults: the ledger of faults, newest first. GET /v1/faults:summary: how many there were of what.
#include <algorithm>
#include <array>

#include "api/handlers/answer.h"
#include "api/handlers/job_filter.h"
#include "api/handlers/view.h"
#include "api/wire/text_values.h"

namespace tutti::api {
namespace {

namespace json = boost::json;

// What both may be asked for. Names of nodes and UUIDs of GPUs are those of memory.
Result<FaultFilter> parse_filter(const http::Request& request, const ControlPlane& plane, Now now) {
  FaultFilter filter;
  if (const auto node = request.query_param("node"); node && !node->empty()) {
    const auto it = plane.cluster().node_by_name.find(*node);
    if (it == plane.cluster().node_by_name.end()) return not_found("no node '" + *node + "'");
    filter.node = it->second;
  }
  if (const auto gpu = request.query_param("gpu"); gpu && !gpu->empty()) {
    const auto it = plane.cluster().gpu_by_uuid.find(*gpu);
    if (it == plane.cluster().gpu_by_uuid.end()) return not_found("no GPU '" + *gpu + "'");
    filter.gpu = it->second;
  }
  if (const auto job = request.query_param("job")) {
    const auto id = parse_id(*job);
    if (!id) return bad_field("job", "must be the id of a job");
    filter.job = JobId(*id);
  }
  for (const auto& [field, into] : {std::pair("since", &filter.since), std::pair("until", &filter.until)}) {
    const auto text = request.query_param(field);
    if (!text || text->empty()) continue;
    *into = parse_since(*text, now);
    if (!*into)
      return bad_field(field, "not an instant or a duration: '" + text->substr(0, 100) + "'",
                       "like 2026-10-01T02:00:00Z, or 7d for so long ago");
  }
  filter.fault_class = request.query_param("class").value_or("");
  filter.action = request.query_param("action").value_or("");
  return filter;
}

void list_faults(const ApiPtr& api, const http::Request& request, Answer answer) {
  const ControlPlane* plane = api->backend.plane();
  if (plane == nullptr) return answer.fail(not_ready(api->backend));
  const auto filter = parse_filter(request, *plane, api->backend.now());
  if (!filter) return answer.fail(filter.error());
  const auto limit = int_param(request, "limit", 100, 1, kMaxPage);
  if (!limit) return answer.fail(limit.error());
  const auto before = int_param(request, "before", 0, 0, INT64_MAX);
  if (!before) return answer.fail(before.error());
  read_rows(
      api, answer,
      [filter = *filter, limit = static_cast<int>(*limit), before = FaultId(*before)](Reader& reader) {
        return reader.faults(filter, limit, before);
      },
      [api, answer](const std::vector<FaultRow>& rows) {
        const ControlPlane* now = api->backend.plane();
        if (now == nullptr) return answer.fail(not_ready(api->backend));
        json::array faults;
        for (const auto& row : rows) faults.push_back(fault_view(row, now->cluster()));
        answer.json(200, json::object{{"faults", std::move(faults)}});
      });
}

// ---------------------------------------------------------------- sums

constexpr Duration kUsual = std::chrono::hours(24 * 30);
constexpr int kMostRows = 1000;
constexpr auto kKeys = std::to_array<std::pair<std::string_view, FaultKey>>({{"node", FaultKey::node},
                                                                             {"class", FaultKey::fault_class},
                                                                             {"gpu", FaultKey::gpu},
                                                                             {"action", FaultKey::action},
                                                                             {"slot", FaultKey::slot}});

struct Summary {
  std::vector<FaultGroup> rows, total;
};

std::string node_name(const std::string& key, const Cluster& cluster) {
  const auto id = parse_id(key);
  const Node* node = id ? cluster.find(NodeId(*id)) : nullptr;
  return node == nullptr ? key : node->row.name;
}

std::string key_text(FaultKey by, const std::string& key, const Cluster& cluster) {
  const auto id = parse_id(key);
  if (by == FaultKey::node) return node_name(key, cluster);
  if (by == FaultKey::slot) {  // a node and a place in it: what stays when the GPU there is exchanged
    const auto end = std::min(key.find(' '), key.size());
    return node_name(key.substr(0, end), cluster) + key.substr(end);
  }
  if (by == FaultKey::gpu) {
    const auto gpu = id ? cluster.gpus.find(GpuId(*id)) : cluster.gpus.end();
    return gpu == cluster.gpus.end() ? "" : gpu->second.row.uuid;
  }
  return key;
}

json::object sum_view(const FaultGroup& group) {
  return {{"faults", group.faults}, {"jobs_hit", group.jobs_hit}};
}

void sum_faults(const ApiPtr& api, const http::Request& request, Answer answer) {
  const ControlPlane* plane = api->backend.plane();
  if (plane == nullptr) return answer.fail(not_ready(api->backend));
  const Now now = api->backend.now();
  auto filter = parse_filter(request, *plane, now);
  if (!filter) return answer.fail(filter.error());
  if (!filter->until) filter->until = now.wall;
  if (!filter->since) filter->since = *filter->until - kUsual;
  const auto word = request.query_param("group_by").value_or("node");
  const auto* by = std::ranges::find(kKeys, word, &std::pair<std::string_view, FaultKey>::first);
  if (by == kKeys.end())
    return answer.fail(
        bad_field("group_by", "cannot group by '" + word.substr(0, 100) + "'", "node, class, gpu, slot or action"));
  read_rows(
      api, answer,
      [filter = *filter, by = by->second](Reader& reader) {
        return Summary{.rows = reader.count_faults(filter, by, kMostRows),
                       .total = reader.count_faults(filter, FaultKey::nothing, 1)};
      },
      [api, answer, filter = *filter, by = by->second](const Summary& sums) {
        const ControlPlane* seen = api->backend.plane();
        if (seen == nullptr) return answer.fail(not_ready(api->backend));
        json::array rows;
        for (const auto& group : sums.rows) {
          auto row = sum_view(group);
          row.emplace("key", key_text(by, group.key, seen->cluster()));
          rows.push_back(std::move(row));
        }
        answer.json(
            200, json::object{{"since", wire::format_instant(*filter.since)},
                              {"until", wire::format_instant(*filter.until)},
                              {"rows", std::move(rows)},
                              {"total", sum_view(sums.total.empty() ? FaultGroup{} : sums.total.front())}});
      });
}

}  // namespace

void add_fault_routes(const Routes& routes) {
  routes.get("/v1/faults", "faults.list", Need::signed_in, list_faults);
  routes.get("/v1/faults:summary", "faults.summary", Need::signed_in, sum_faults);
}

}  // namespace tutti::api
