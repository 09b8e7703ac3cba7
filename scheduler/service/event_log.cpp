#include "scheduler/service/event_log.h"

#include <spdlog/spdlog.h>

#include "scheduler/log/log_format.h"

namespace tutti {
namespace {

std::string name_of_node(NodeId id, const ControlPlane* plane) {
  const Node* node = plane == nullptr || !id ? nullptr : plane->cluster().find(id);
  return node == nullptr ? "" : node->row.name;
}

std::int64_t number_of_attempt(const EventRow& e, const Batch& batch, const ControlPlane* plane) {
  if (!e.job || !e.epoch) return 0;
  const Attempt* live = plane == nullptr ? nullptr : plane->find_attempt({e.job, e.epoch});
  if (live != nullptr) return live->row.number;
  for (const auto& a : batch.attempts)
    if (a.job == e.job && a.epoch == e.epoch) return a.number;
  return 0;
}

std::string text_of(const EventRow& e) {
  if (!e.job) return fmt::format("node={} {} {}->{} {}", e.node.value, e.kind, e.from, e.to, e.detail);
  return fmt::format("job={} epoch={} {} {}->{} cause={} {}", e.job.value, e.epoch.value, e.kind, e.from,
                     e.to, name(e.cause), e.detail);
}

}  // namespace

void log_events(const Batch& batch, const ControlPlane* plane) {
  if (!spdlog::should_log(spdlog::level::info)) return;
  for (const auto& e : batch.events) {
    if (e.kind == "state" && e.from.empty()) continue;  // submissions: too many
    if (!logs_json()) {
      spdlog::info("{}", text_of(e));
      continue;
    }
    log_change(spdlog::level::info, text_of(e),
               {{"event", e.kind},
                {"event_id", e.id.value},
                {"job", e.job.value},
                {"attempt", number_of_attempt(e, batch, plane)},
                {"epoch", e.epoch.value},
                {"node", name_of_node(e.node, plane)},
                {"node_id", e.node.value},
                {"from", e.from},
                {"to", e.to},
                {"cause", e.cause == Cause::none ? "" : std::string(name(e.cause))},
                {"detail", e.detail},
                {"project", e.project},
                {"owner", e.owner}});
  }
}

}  // namespace tutti
