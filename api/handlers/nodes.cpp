// GET /v1/nodes, /v1/nodes/{name}, /v1/nodes/{name}/inspection, /v1/gpus and POST /v1/nodes/{name}:drain |
// :resume | :inspect. From memory.
#include "api/handlers/answer.h"
#include "api/handlers/view.h"

namespace tutti::api {
namespace {

namespace json = boost::json;

void list_nodes(const ApiPtr& api, const http::Request&, Answer answer) {
  const ControlPlane* plane = api->backend.plane();
  if (plane == nullptr) return answer.fail(not_ready(api->backend));
  const auto absent = absent_gpus(plane->cluster());
  json::array nodes;
  for (const auto& [id, node] : plane->cluster().nodes) nodes.push_back(node_view(node, *plane, absent));
  answer.json(200, json::object{{"nodes", std::move(nodes)}});
}

void list_gpus(const ApiPtr& api, const http::Request&, Answer answer) {
  const ControlPlane* plane = api->backend.plane();
  if (plane == nullptr) return answer.fail(not_ready(api->backend));
  json::array gpus;
  for (const auto& [id, gpu] : plane->cluster().gpus) {
    auto view = gpu_view(gpu);
    const Node* node = plane->cluster().find(gpu.row.node);
    view.emplace("node", node == nullptr ? "" : node->row.name);
    gpus.push_back(std::move(view));
  }
  answer.json(200, json::object{{"gpus", std::move(gpus)}});
}

void answer_with_node(const ApiPtr& api, const Answer& answer, const std::string& name) {
  const ControlPlane* plane = api->backend.plane();
  if (plane == nullptr) return answer.fail(not_ready(api->backend));
  const auto it = plane->cluster().node_by_name.find(name);
  if (it == plane->cluster().node_by_name.end())
    return answer.fail(not_found("no node '" + name + "'", "GET /v1/nodes lists the nodes there are"));
  answer.json(200, node_view(plane->cluster().nodes.at(it->second), *plane, absent_gpus(plane->cluster())));
}

void get_node(const ApiPtr& api, const http::Request& request, Answer answer) {
  answer_with_node(api, answer, request.param("name"));
}

void set_service(const ApiPtr& api, const http::Request& request, const Answer& answer, NodeService service,
                 bool reason_required) {
  auto reason = read_reason(request, answer, reason_required);
  if (!reason) return;
  const std::string name = request.param("name");
  api->backend.set_node_service(name, service, std::move(*reason), [api, answer, name](Result<NodeId> done) {
    if (!done) return answer.fail(done.error());
    answer_with_node(api, answer, name);
  });
}

void drain_node(const ApiPtr& api, const http::Request& request, Answer answer) {
  set_service(api, request, answer, NodeService::draining, true);
}
void resume_node(const ApiPtr& api, const http::Request& request, Answer answer) {
  set_service(api, request, answer, NodeService::schedulable, false);
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
  api->backend.inspect_node(name, [api, answer, name](Result<NodeId> asked) {
    if (!asked) return answer.fail(asked.error());
    answer_with_inspection(api, answer, name);
  });
}

}  // namespace

void add_node_routes(const Routes& routes) {
  routes.get("/v1/nodes", "nodes.list", list_nodes);
  routes.get("/v1/nodes/{name}", "nodes.get", get_node);
  routes.post("/v1/nodes/{name}:drain", "nodes.drain", drain_node);
  routes.post("/v1/nodes/{name}:resume", "nodes.resume", resume_node);
  routes.get("/v1/nodes/{name}/inspection", "nodes.inspection", get_inspection);
  routes.post("/v1/nodes/{name}:inspect", "nodes.inspect", inspect_node);
  routes.get("/v1/gpus", "gpus.list", list_gpus);
}

}  // namespace tutti::api
