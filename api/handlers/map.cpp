// GET /v1/map: every node and GPU in a few letters, for a picture of the cluster that is asked for every few
// seconds. From memory; who has the picture already gets 304.
#include <algorithm>
#include <boost/json/serialize.hpp>
#include <utility>

#include "api/access/credentials.h"
#include "api/handlers/answer.h"
#include "api/handlers/map_view.h"
#include "api/handlers/view.h"
#include "api/http/static_files.h"
#include "api/wire/text_values.h"

namespace tutti::api {
namespace {

namespace json = boost::json;

char letter_of(const Gpu& gpu, const ControlPlane& plane) {
  if (!gpu.row.present) return 'x';
  switch (gpu.row.health) {
    case GpuHealth::quarantined: return 'q';
    case GpuHealth::dirty: return 'd';
    case GpuHealth::healthy: break;
  }
  if (!gpu.holder.job) return 'f';
  const Attempt* attempt = plane.find_attempt(gpu.holder);
  return attempt != nullptr && attempt->row.state == AttemptState::preflight ? 'p' : 'a';
}

json::object node_of_map(const Node& node, const ControlPlane& plane) {
  std::vector<const Gpu*> gpus;
  for (const auto* ids : {&node.gpus, &node.absent})
    for (const GpuId id : *ids) gpus.push_back(&plane.cluster().gpus.at(id));
  std::ranges::sort(gpus, {}, [](const Gpu* gpu) { return std::pair(gpu->row.index, gpu->row.id); });
  std::string letters;
  json::array jobs;
  for (const Gpu* gpu : gpus) {
    letters += letter_of(*gpu, plane);
    jobs.push_back(gpu->holder.job ? json::value(gpu->holder.job.value) : json::value(nullptr));
  }
  return {{"name", node.row.name},
          {"rack", 0},
          {"state", name(node.row.state)},
          {"service", name(node.row.service)},
          {"conditions", node.conditions.size()},
          {"gpus", std::move(letters)},
          {"jobs", std::move(jobs)}};
}

json::object map_view(const ControlPlane& plane) {
  std::vector<Standing> nodes;
  for (const auto& [id, node] : plane.cluster().nodes)
    nodes.push_back({place_of(node.row.labels), node.row.name, node_of_map(node, plane)});
  return racks_and_nodes(std::move(nodes));
}

void get_map(const ApiPtr& api, const http::Request& request, Answer answer) {
  const ControlPlane* plane = api->backend.plane();
  if (plane == nullptr) return answer.fail(not_ready(api->backend));
  auto map = map_view(*plane);
  // Of what is to be seen, not of when: most events of jobs change no GPU.
  const std::string etag = "\"" + sha256_hex(json::serialize(map)).substr(0, 32) + "\"";
  answer.header("ETag", etag);
  answer.header("Cache-Control", "no-cache");
  if (http::has_current(request, etag))
    return answer.send(http::Response{.status = 304, .headers = {}, .body = {}});
  map.emplace("at", wire::format_instant(api->backend.now().wall));
  map.emplace("event_id", plane->last_event().value);
  answer.json(200, map);
}

}  // namespace

void add_map_routes(const Routes& routes) { routes.get("/v1/map", "map.get", Need::signed_in, get_map); }

}  // namespace tutti::api
