// GET /v1/nodes, /v1/nodes/{name}, /v1/nodes/{name}/inspection, /v1/gpus and POST /v1/nodes/{name}:VERB,
// where an operator takes it out of service and back, has it inspected, or a user says that it is bad. From
// memory. Of jobs that the caller may not see there is no id.
#include "api/handlers/answer.h"
#include "api/handlers/job_filter.h"
#include "api/handlers/view.h"
#include "api/wire/text_values.h"

namespace tutti::api {
namespace {

namespace json = boost::json;

void list_nodes(const ApiPtr& api, const http::Request& request, Answer answer) {
  const ControlPlane* plane = api->backend.plane();
  if (plane == nullptr) return answer.fail(not_ready(api->backend));
  const auto absent = absent_gpus(plane->cluster());
  const auto visible = visible_to(identity_of(request));
  json::array nodes;
  for (const auto& [id, node] : plane->cluster().nodes)
    nodes.push_back(node_view(node, *plane, absent, visible));
  answer.json(200, json::object{{"nodes", std::move(nodes)}});
}

void list_gpus(const ApiPtr& api, const http::Request& request, Answer answer) {
  const ControlPlane* plane = api->backend.plane();
  if (plane == nullptr) return answer.fail(not_ready(api->backend));
  const auto visible = visible_to(identity_of(request));
  json::array gpus;
  for (const auto& [id, gpu] : plane->cluster().gpus) {
    auto view = gpu_view(gpu, *plane, visible);
    const Node* node = plane->cluster().find(gpu.row.node);
    view.emplace("node", node == nullptr ? "" : node->row.name);
    gpus.push_back(std::move(view));
  }
  answer.json(200, json::object{{"gpus", std::move(gpus)}});
}

void answer_with_node(const ApiPtr& api, const Answer& answer, const std::string& name,
                      const std::optional<Visible>& visible) {
  const ControlPlane* plane = api->backend.plane();
  if (plane == nullptr) return answer.fail(not_ready(api->backend));
  const auto it = plane->cluster().node_by_name.find(name);
  if (it == plane->cluster().node_by_name.end())
    return answer.fail(not_found("no node '" + name + "'", "GET /v1/nodes lists the nodes there are"));
  const Node& node = plane->cluster().nodes.at(it->second);
  auto view = node_view(node, *plane, absent_gpus(plane->cluster()), visible);
  view.emplace("lemon", lemon_view(*plane, node, api->backend.now()));
  answer.json(200, view);
}

void get_node(const ApiPtr& api, const http::Request& request, Answer answer) {
  answer_with_node(api, answer, request.param("name"), visible_to(identity_of(request)));
}

/// An instant, or "+2h" from now; the epoch for nothing.
std::optional<Instant> end_of(const std::string& text, Now now) {
  if (text.empty()) return Instant{};
  if (!text.starts_with('+')) return wire::parse_instant(text);
  const auto wait = wire::parse_duration(text.substr(1));
  return wait ? std::optional(now.wall + *wait) : std::nullopt;
}

// {"reason": "…"}; only who puts a node back need not say why. With "until" a drain or cordon ends by itself.
void set_service(const ApiPtr& api, const http::Request& request, const Answer& answer, NodeService service) {
  const bool may_end = service == NodeService::draining || service == NodeService::cordoned;
  std::string until_text;
  auto reason =
      read_reason(request, answer, service != NodeService::schedulable, may_end ? &until_text : nullptr);
  if (!reason) return;
  const auto until = end_of(until_text, api->backend.now());
  if (!until)
    return answer.fail(bad_field("until", "must be a time, not '" + until_text.substr(0, 64) + "'",
                                 "like \"2026-10-01T02:00:00Z\" or \"+2h\""));
  const std::string name = request.param("name");
  api->backend.change_nodes(
      [=, why = std::move(*reason), end = *until](ControlPlane& plane, Now now) {
        return plane.on_node_service(now, name, service, why, end);
      },
      [api, answer, name, visible = visible_to(identity_of(request))](const Result<NodeId>& done) {
        if (!done) return answer.fail(done.error());
        answer_with_node(api, answer, name, visible);
      });
}

// What a person says of a node, and why: {"reason": "…"}.
template <auto what>
void person_says(const ApiPtr& api, const http::Request& request, Answer answer) {
  auto reason = read_reason(request, answer, true);
  if (!reason) return;
  const std::string name = request.param("name");
  api->backend.change_nodes(
      [=, who = identity_of(request).owner, why = std::move(*reason)](ControlPlane& plane, Now now) {
        return (plane.*what)(now, name, who, why);
      },
      [api, answer, name, visible = visible_to(identity_of(request))](const Result<NodeId>& done) {
        if (!done) return answer.fail(done.error());
        answer_with_node(api, answer, name, visible);
      });
}

template <NodeService service>
void serve(const ApiPtr& api, const http::Request& request, Answer answer) {
  set_service(api, request, answer, service);
}

void answer_with_inspection(const ApiPtr& api, const Answer& answer, const std::string& name) {
  const ControlPlane* plane = api->backend.plane();
  if (plane == nullptr) return answer.fail(not_ready(api->backend));
  const auto it = plane->cluster().node_by_name.find(name);
  if (it == plane->cluster().node_by_name.end())
    return answer.fail(not_found("no node '" + name + "'", "GET /v1/nodes lists the nodes there are"));
  answer.json(200, inspection_view(plane->cluster().nodes.at(it->second)));
}

void get_inspection(const ApiPtr& api, const http::Request& request, Answer answer) {
  answer_with_inspection(api, answer, request.param("name"));
}

void inspect_node(const ApiPtr& api, const http::Request& request, Answer answer) {
  const std::string name = request.param("name");
  api->backend.change_nodes([name](ControlPlane& plane, Now now) { return plane.on_inspect(now, name); },
                            [api, answer, name](const Result<NodeId>& asked) {
                              if (!asked) return answer.fail(asked.error());
                              answer_with_inspection(api, answer, name);
                            });
}

}  // namespace

void add_node_routes(const Routes& routes) {
  routes.get("/v1/nodes", "nodes.list", Need::signed_in, list_nodes);
  routes.get("/v1/nodes/{name}", "nodes.get", Need::signed_in, get_node);
  routes.post("/v1/nodes/{name}:cordon", "nodes.cordon", Need::operate, serve<NodeService::cordoned>);
  routes.post("/v1/nodes/{name}:drain", "nodes.drain", Need::operate, serve<NodeService::draining>);
  routes.post("/v1/nodes/{name}:quarantine", "nodes.quarantine", Need::operate,
              serve<NodeService::quarantined>);
  routes.post("/v1/nodes/{name}:repair", "nodes.repair", Need::operate, serve<NodeService::repair>);
  routes.post("/v1/nodes/{name}:return", "nodes.return", Need::operate, serve<NodeService::probation>);
  routes.post("/v1/nodes/{name}:retire", "nodes.retire", Need::operate, serve<NodeService::retired>);
  routes.post("/v1/nodes/{name}:resume", "nodes.resume", Need::operate, serve<NodeService::schedulable>);
  routes.post("/v1/nodes/{name}:report", "nodes.report", Need::submit,
              person_says<&ControlPlane::on_node_report>);
  routes.post("/v1/nodes/{name}:off", "nodes.off", Need::operate, person_says<&ControlPlane::on_node_off>);
  routes.get("/v1/nodes/{name}/inspection", "nodes.inspection", Need::signed_in, get_inspection);
  routes.post("/v1/nodes/{name}:inspect", "nodes.inspect", Need::operate, inspect_node);
  routes.get("/v1/gpus", "gpus.list", Need::signed_in, list_gpus);
}

}  // namespace tutti::api
