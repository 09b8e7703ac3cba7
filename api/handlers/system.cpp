// Health, metrics, the cluster and the scheduler in numbers, and the API's own description.
#include <map>

#include "api/handlers/answer.h"
#include "api/handlers/openapi.h"
#include "api/handlers/view.h"

namespace tutti::api {
namespace {

namespace json = boost::json;

constexpr Duration kCountsKept = std::chrono::seconds(2);

void get_alive(const ApiPtr&, const http::Request&, Answer answer) {
  answer.json(200, json::object{{"status", "ok"}});
}

std::string_view role_of(const ServiceStatus& status) {
  return status.ready ? "leader" : status.standby ? "standby" : "none";
}

json::array reasons_of(const ServiceStatus& status) {
  json::array reasons;
  for (const auto& reason : status.reasons) reasons.emplace_back(reason);
  return reasons;
}

// Everybody may ask; names of hosts, addresses and what the database says are for those whom we know.
void get_ready(const ApiPtr& api, const http::Request& request, Answer answer) {
  const auto status = api->backend.status();
  const bool known = identity_of(request).kind != Identity::Kind::nobody;
  if (!status.ready && !status.standby) {
    std::string why;
    for (const auto& reason : status.reasons) why += (why.empty() ? "" : ", ") + reason;
    return answer.fail(known
                           ? not_ready(api->backend)
                           : Error{.code = Errc::unavailable,
                                   .message = "the scheduler is not ready" + (why.empty() ? "" : ": " + why),
                                   .hint = "try again in a second; with a token it says more",
                                   .field = ""});
  }
  json::object body{{"status", status.reasons.empty() ? "ok" : "degraded"},
                    {"role", role_of(status)},
                    {"reasons", reasons_of(status)}};
  if (known)
    for (auto& [key, value] : json::object{{"detail", status.detail},
                                           {"leader", status.leader},
                                           {"leader_url", status.leader_url},
                                           {"term", status.term},
                                           {"last_commit_seconds", status.commit_ms / 1000}})
      body.emplace(key, value);
  answer.json(200, body);
}

void get_metrics(const ApiPtr& api, const http::Request&, Answer answer) {
  answer.send(http::text(200, api->backend.metrics_text(), "text/plain; version=0.0.4; charset=utf-8"));
}

void get_openapi(const ApiPtr&, const http::Request&, Answer answer) {
  answer.send(http::text(200, std::string(openapi_document()), "application/json"));
}

json::object gpu_counts(const Cluster& cluster) {
  std::int64_t free = 0, allocated = 0, quarantined = 0, dirty = 0, total = 0;
  for (const auto& [id, gpu] : cluster.gpus) {
    const auto state = gpu_state(gpu);
    if (state == "absent") continue;
    ++total;
    if (state == "free") ++free;
    if (state == "allocated") ++allocated;
    if (state == "quarantined") ++quarantined;
    if (state == "dirty") ++dirty;
  }
  return {{"total", total},
          {"free", free},
          {"allocated", allocated},
          {"quarantined", quarantined},
          {"dirty", dirty}};
}

void answer_cluster(const ApiPtr& api, const Answer& answer) {
  const ControlPlane* plane = api->backend.plane();
  if (plane == nullptr) return answer.fail(not_ready(api->backend));
  json::object jobs;
  for (const auto state : kJobStates)
    jobs.emplace(name(state), api->counted.counts[static_cast<std::size_t>(state)]);
  bool simulated = false;
  for (const auto& [id, node] : plane->cluster().nodes) simulated = simulated || node.row.simulated_gpus;
  const auto status = api->backend.status();
  answer.json(200, json::object{{"version", api->settings.version},
                                {"lease_seconds", to_seconds(api->settings.leases.lease)},
                                {"kill_margin_seconds", to_seconds(api->settings.leases.kill_margin)},
                                {"nodes", plane->cluster().nodes.size()},
                                {"gpus", gpu_counts(plane->cluster())},
                                {"jobs", std::move(jobs)},
                                {"leader", status.leader},
                                {"term", status.term},
                                {"policy", plane->planner().policy().name},
                                {"simulated_gpus", simulated}});
}

void get_cluster(const ApiPtr& api, const http::Request&, Answer answer) {
  if (api->backend.plane() == nullptr) return answer.fail(not_ready(api->backend));
  const Mono now = api->backend.now().mono;
  if (api->counted.at && now - *api->counted.at < kCountsKept) return answer_cluster(api, answer);
  read_rows(
      api, answer, [](Reader& reader) { return reader.count_by_state(); },
      [api, answer, now](const StateCounts& counts) {
        api->counted.counts = counts;
        api->counted.at = now;
        answer_cluster(api, answer);
      });
}

json::array worker_versions(const ControlPlane* plane) {
  std::map<std::string, std::int64_t> nodes;
  if (plane != nullptr)
    for (const auto& [id, node] : plane->cluster().nodes) ++nodes[node.row.worker_version];
  json::array out;
  for (const auto& [version, count] : nodes)
    out.push_back(json::object{{"version", version}, {"nodes", count}});
  return out;
}

json::object control_plane_view(const ApiPtr& api, const std::optional<LeaderView>& leader) {
  const auto status = api->backend.status();
  return {{"ready", status.ready && leader},
          {"role", role_of(status)},
          {"detail", leader || !status.ready ? status.detail : "the store cannot be read"},
          {"leader", leader ? leader->holder : status.leader},
          {"leader_url", leader ? leader->url : status.leader_url},
          {"term", leader ? leader->term.value : status.term},
          {"since", leader ? instant_or_null(leader->since) : json::value(nullptr)},
          {"inbox", json::object{{"depth", status.inbox}, {"limit", status.inbox_limit}}},
          {"last_commit_seconds", status.commit_ms / 1000},
          {"reasons", reasons_of(status)},
          {"workers", worker_versions(api->backend.plane())},
          {"version", api->settings.version},
          {"uptime_seconds", to_seconds(api->backend.now().mono - api->started)}};
}

// Asked for above all when something is wrong: without the store it tells what this process knows.
void get_control_plane(const ApiPtr& api, const http::Request&, Answer answer) {
  api->backend.read(
      [api, answer](Reader& reader) -> std::function<void()> {
        return [api, answer, leader = reader.leader()] { answer.json(200, control_plane_view(api, leader)); };
      },
      [api, answer](const Error&) { answer.json(200, control_plane_view(api, std::nullopt)); });
}

}  // namespace

void add_system_routes(const Routes& routes) {
  routes.get("/healthz", "health.get", Need::nothing, get_alive);
  routes.get("/livez", "health.live", Need::nothing, get_alive);
  routes.get("/readyz", "health.ready", Need::nothing, get_ready);
  routes.get("/metrics", "metrics.get", Need::signed_in, get_metrics);
  routes.get("/openapi.json", "openapi.get", Need::nothing, get_openapi);
  routes.get("/v1/cluster", "cluster.get", Need::signed_in, get_cluster);
  routes.get("/v1/control-plane", "control_plane.get", Need::administer, get_control_plane);
}

}  // namespace tutti::api
