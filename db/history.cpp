#include "db/history.h"

#include <algorithm>
#include <map>
#include <string_view>

namespace tutti {
namespace {

// Of a GPU's health the detail says which one it is: "UUID", or "UUID: why".
std::string subject_of(const EventRow& e, bool of_presence) {
  return of_presence ? e.from : e.detail.substr(0, e.detail.find(": "));
}

// Of a GPU that came from another node (control_nodes.cpp says so); "" of others.
std::string_view node_before(const EventRow& e) {
  constexpr std::string_view kMoved = "moved here from node ";
  const std::string_view detail = e.detail;
  return detail.starts_with(kMoved) ? detail.substr(kMoved.size()) : std::string_view();
}

bool is_presence(const EventRow& e) { return e.to == "absent" || e.to == "present" || e.to == "added"; }

std::optional<GpuHealth> parse_health(std::string_view text) {
  for (const auto h : {GpuHealth::healthy, GpuHealth::dirty, GpuHealth::quarantined})
    if (name(h) == text) return h;
  return std::nullopt;
}

std::optional<NodeService> parse_service(std::string_view text) {
  for (const auto s : kServices)
    if (name(s) == text) return s;
  return std::nullopt;
}

// The first word of each thing after the instant.
struct Later {
  std::map<NodeId, const EventRow*> state, service;
  std::map<std::string, const EventRow*> health, presence;  // by UUID

  explicit Later(const std::vector<EventRow>& events) {
    for (const auto& e : events) {
      if (e.kind == "node" && !e.to.empty()) state.try_emplace(e.node, &e);
      if (e.kind == "service") service.try_emplace(e.node, &e);
      if (e.kind != "gpu") continue;
      if (is_presence(e))
        presence.try_emplace(subject_of(e, true), &e);
      else if (parse_health(e.from))
        health.try_emplace(subject_of(e, false), &e);
    }
  }
};

template <class Map, class Key>
const EventRow* find(const Map& map, const Key& key) {
  const auto found = map.find(key);
  return found == map.end() ? nullptr : found->second;
}

std::map<NodeId, PastNode> nodes_then(const std::vector<NodeRow>& nodes, const Later& later, Instant at) {
  std::map<NodeId, PastNode> out;
  for (const auto& row : nodes) {
    const auto* state = find(later.state, row.id);
    if (row.registered_at > at || (state != nullptr && state->from.empty())) continue;
    PastNode node{row, {}};
    if (state != nullptr) node.row.state = parse_node_state(state->from).value_or(row.state);
    if (const auto* service = find(later.service, row.id))
      node.row.service = parse_service(service->from).value_or(row.service);
    out.emplace(row.id, std::move(node));
  }
  return out;
}

}  // namespace

std::vector<PastNode> taken_back(const std::vector<NodeRow>& nodes, const std::vector<GpuRow>& gpus,
                                 const std::vector<EventRow>& events, Instant at) {
  const Later later(events);
  auto then = nodes_then(nodes, later, at);
  std::map<std::string_view, NodeId> by_name;
  for (const auto& row : nodes) by_name.emplace(row.name, row.id);
  for (const auto& row : gpus) {
    PastGpu gpu{row, std::nullopt};
    if (const auto* presence = find(later.presence, row.uuid)) {
      if (presence->to == "added") continue;
      gpu.row.present = presence->to == "absent";  // what it became is what it was not
      const auto former = by_name.find(node_before(*presence));
      if (gpu.row.present)
        gpu.row.node = presence->node;
      else if (former != by_name.end())
        gpu.row.node = former->second;  // it was away from there
    }
    if (const auto* health = find(later.health, row.uuid)) gpu.row.health = *parse_health(health->from);
    if (const auto node = then.find(gpu.row.node); node != then.end())
      node->second.gpus.push_back(std::move(gpu));
  }
  std::vector<PastNode> out;
  for (auto& [id, node] : then) {
    std::ranges::sort(node.gpus, {}, [](const PastGpu& g) { return std::pair(g.row.index, g.row.id); });
    out.push_back(std::move(node));
  }
  return out;
}

// The SQL of db/pg/pg_history.cpp says the same.
std::optional<std::string_view> decision_word(const EventRow& e) {
  if (e.kind == "preempt" || e.kind == "service" || e.kind == "brake") return e.kind;
  if (e.kind == "gpu") return parse_health(e.to) ? std::optional<std::string_view>("gpu") : std::nullopt;
  if (e.kind != "state" || e.from.empty() || e.to == "running") return std::nullopt;
  if (e.to == "starting") return "start";
  if (e.to == "stopping") return "stop";
  if (e.to == "held") return "hold";
  const auto to = parse_job_state(e.to);
  if (to && is_terminal(*to)) return "end";
  if (e.from == "stopping") return "requeue";
  return e.from == "held" ? "release" : "ready";
}

}  // namespace tutti
