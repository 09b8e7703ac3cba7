// Control plane: inspections. A node's worker runs all its checks and sends a report; here is only
// decided when: a person asks, an attempt has failed there by no user's fault, or the node has nothing to do
// and was not looked at for long. The last report of each node is kept in memory; its worker keeps it too and
// says it again after its Hello. A report changes nothing by itself: what it finds wrong for good is a
// condition as well.
#include <algorithm>

#include "scheduler/core/control_plane.h"
#include "scheduler/core/plane_inputs.h"

namespace tutti {

Result<NodeId> ControlPlane::on_inspect(Now now, const std::string& name) {
  const auto deciding = note<&ControlPlane::on_inspect>(now, name);
  const auto known = cluster_.node_by_name.find(name);
  if (known == cluster_.node_by_name.end())
    return Error{.code = Errc::not_found,
                 .message = "no node '" + name + "'",
                 .hint = "GET /v1/nodes lists the nodes there are",
                 .field = "node"};
  Node& node = cluster_.nodes.at(known->second);
  if (!node.linked)
    return Error{.code = Errc::unavailable,
                 .message = "node '" + name + "' is not connected, so it cannot be inspected",
                 .hint = "try again when its worker is back",
                 .field = "node"};
  ask_inspection(node, "person", now);
  return node.row.id;
}

// One at a time and node: who asks meanwhile gets that one's report.
void ControlPlane::ask_inspection(Node& node, std::string trigger, Now now) {
  if (!node.linked) return;
  if (node.inspection_asked != 0 && now.mono < node.inspection_asked_at + settings_.inspect_patience) return;
  node.inspection_asked = ++last_inspection_;
  node.inspection_asked_at = now.mono;
  if (settings_.inspect_idle_every > Duration::zero())
    node.inspect_not_before = now.mono + settings_.inspect_idle_every;
  send(node.row.id, protocol::Inspect{node.inspection_asked, std::move(trigger)});
}

void ControlPlane::on_inspection(Now now, NodeId id, const protocol::InspectionReport& report) {
  const auto deciding = note<&ControlPlane::on_inspection>(now, id, report);
  Node* node = cluster_.find(id);
  if (node == nullptr) return;
  const Instant at = now.wall - Duration(std::clamp<std::int64_t>(report.age_us, 0, 366LL * 86'400'000'000));
  if (report.request == node->inspection_asked) node->inspection_asked = 0;
  const bool news = !node->inspection || at > node->inspection->at + std::chrono::seconds(1);
  if (!news) return;  // told again
  node->inspection = InspectionReport{at, report.trigger, report.checks};
  std::string failed;
  for (const auto& c : report.checks)
    if (c.result == "failed") failed += (failed.empty() ? "" : ", ") + c.name;
  if (settings_.inspect_idle_every > Duration::zero())
    node->inspect_not_before = now.mono + settings_.inspect_idle_every - (now.wall - at);
  record_node(
      id, now,
      {.kind = "inspection",
       .from = "",
       .to = failed.empty() ? "passed" : "failed",
       .detail = failed.empty() ? std::to_string(report.checks.size()) + " checks (" + report.trigger + ")"
                                : failed + " (" + report.trigger + ")"});
}

void ControlPlane::inspect_after(const AttemptRow& failed, Now now) {
  if (!settings_.inspect_after_failure) return;
  const auto whose = class_of(failed.cause);
  if (whose != CauseClass::hardware && whose != CauseClass::infrastructure && failed.cause != Cause::unknown)
    return;
  for (const auto& m : failed.gang) ask_inspection(cluster_.nodes.at(m.node), "failure", now);
}

// At most one is begun per tick: a whole cluster that is idle is looked at one after the other.
void ControlPlane::inspect_idle(Now now) {
  if (settings_.inspect_idle_every <= Duration::zero()) return;
  for (auto& [id, node] : cluster_.nodes) {
    if (!node.linked || node.row.state != NodeState::reachable || !node.members.empty()) continue;
    if (node.inspect_not_before == Mono{})  // seen for the first time: spread, and not at once after a start
      node.inspect_not_before = now.mono + settings_.inspect_idle_every * (1 + id.value % 16) / 16;
    if (now.mono < node.inspect_not_before ||
        node.inspection_asked_at + settings_.inspect_patience > now.mono)
      continue;
    ask_inspection(node, "idle", now);
    return;
  }
}

}  // namespace tutti
