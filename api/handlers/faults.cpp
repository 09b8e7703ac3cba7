// GET /v1/faults: the ledger of faults, newest first.
#include "api/handlers/answer.h"
#include "api/handlers/view.h"

namespace tutti::api {
namespace {

namespace json = boost::json;

void list_faults(const ApiPtr& api, const http::Request& request, Answer answer) {
  const ControlPlane* plane = api->backend.plane();  // names of nodes, UUIDs of GPUs
  if (plane == nullptr) return answer.fail(not_ready(api->backend));
  FaultFilter filter;
  if (const auto node = request.query_param("node"); node && !node->empty()) {
    const auto it = plane->cluster().node_by_name.find(*node);
    if (it == plane->cluster().node_by_name.end()) return answer.fail(not_found("no node '" + *node + "'"));
    filter.node = it->second;
  }
  if (const auto job = request.query_param("job")) {
    const auto id = parse_id(*job);
    if (!id) return answer.fail(bad_field("job", "must be the id of a job"));
    filter.job = JobId(*id);
  }
  const auto limit = int_param(request, "limit", 100, 1, kMaxPage);
  if (!limit) return answer.fail(limit.error());
  const auto before = int_param(request, "before", 0, 0, INT64_MAX);
  if (!before) return answer.fail(before.error());
  read_rows(
      api, answer,
      [filter, limit = static_cast<int>(*limit), before = FaultId(*before)](Reader& reader) {
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

}  // namespace

void add_fault_routes(const Routes& routes) {
  routes.get("/v1/faults", "faults.list", Need::signed_in, list_faults);
}

}  // namespace tutti::api
