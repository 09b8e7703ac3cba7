#include "scheduler/service/plane_metrics.h"

#include <algorithm>
#include <array>
#include <set>
#include <string>
#include <tuple>
#include <unordered_map>

namespace tutti {
namespace {

constexpr auto kUses = std::to_array<std::string_view>({"used", "idle", "unhealthy", "closed", "away"});

// A machine that has been given up is no part of the cluster, heard or not: it stands under its service and
// nowhere else. Until it has gone it may still hold a job, though, and that is GPU time.
bool is_gone(const Node* node) { return node != nullptr && node->row.service == NodeService::retired; }
bool counts(const Gpu& gpu, const Node* node) {
  return gpu.row.present && (gpu.holder.job || !is_gone(node));
}

bool is_away(const Node* node) { return node == nullptr || node->row.state != NodeState::reachable; }

std::string_view state_of(const Gpu& gpu, const Node* node) {
  if (!gpu.usable()) return name(gpu.row.health);
  if (gpu.holder.job) return "allocated";
  return is_away(node) ? "away" : "free";
}

std::string_view use_of(const Gpu& gpu, const Node* node) {
  if (!gpu.usable()) return "unhealthy";
  if (gpu.holder.job) return "used";
  if (is_away(node)) return "away";
  const bool takes =
      node->row.service == NodeService::schedulable || node->row.service == NodeService::probation;
  return takes ? "idle" : "closed";
}

template <class State>
using Count = std::map<State, std::size_t>;

template <class State, class States>
void add_states(MetricText& text, std::string_view metric, const Count<State>& counts, const States& all) {
  for (const auto s : all) {
    const auto found = counts.find(s);
    text.add(metric, {name(s)}, found == counts.end() ? 0 : static_cast<double>(found->second));
  }
}

// ---------------------------------------------------------------- jobs and queues

struct OfQueue {
  std::array<std::size_t, 11> jobs{};  // index = JobState
  std::int64_t backlog_gpus = 0, held_gpus = 0;
  Instant oldest{};  // of those that are ready; epoch 0 = none
};

std::map<std::string_view, OfQueue> look_at_queues(const ControlPlane& plane) {
  std::unordered_map<std::string_view, OfQueue> by_name;  // a million jobs: no tree
  for (const auto& [name, row] : plane.shares().queues) by_name[name];
  for (const auto& [id, job] : plane.jobs()) {
    OfQueue& queue = by_name[job.row.queue];
    ++queue.jobs[static_cast<std::size_t>(job.row.state)];
    if (job.row.state != JobState::queued) continue;
    queue.backlog_gpus += std::int64_t{job.row.nodes} * job.row.gpus_per_node;
    // No wait is older than its job's place in the order, which restarts keep: few are looked up.
    if (queue.oldest != Instant{} && job.row.queued_at >= queue.oldest) continue;
    const Instant since = plane.planner().find_waiting(id)->since;
    if (queue.oldest == Instant{} || since < queue.oldest) queue.oldest = since;
  }
  for (const auto& [key, attempt] : plane.attempts()) {
    const Job* job = plane.find_job(key.job);
    if (job == nullptr) continue;
    for (const auto& member : attempt.row.gang)
      by_name[job->row.queue].held_gpus += static_cast<std::int64_t>(member.gpus.size());
  }
  return {by_name.begin(), by_name.end()};
}

void add_jobs(MetricText& text, const ControlPlane& plane) {
  const auto queues = look_at_queues(plane);
  for (const auto state : kJobStates) {
    if (is_terminal(state)) continue;
    std::size_t jobs = 0;
    for (const auto& [queue, q] : queues) jobs += q.jobs[static_cast<std::size_t>(state)];
    text.add("tutti_jobs", {name(state)}, static_cast<double>(jobs));
  }
  for (const auto& [queue, q] : queues)
    for (const auto state : kJobStates)
      if (!is_terminal(state))
        text.add("tutti_queue_jobs", {queue, name(state)},
                 static_cast<double>(q.jobs[static_cast<std::size_t>(state)]));
  for (const auto& [queue, q] : queues)
    text.add("tutti_queue_backlog_gpus", {queue}, static_cast<double>(q.backlog_gpus));
  for (const auto& [queue, q] : queues)
    text.add("tutti_queue_held_gpus", {queue}, static_cast<double>(q.held_gpus));
  for (const auto& [queue, q] : queues)
    if (q.oldest != Instant{})
      text.add("tutti_queue_oldest_timestamp_seconds", {queue}, to_seconds(q.oldest.time_since_epoch()));
}

// ---------------------------------------------------------------- nodes and GPUs

void add_gpus(MetricText& text, const Cluster& cluster) {
  std::map<std::string_view, std::size_t> states;
  for (const auto state : {"free", "allocated", "away", "dirty", "quarantined"}) states[state] = 0;
  using Class = std::tuple<std::string_view, std::string_view>;  // queue, model
  std::map<Class, std::map<std::string_view, std::size_t>> classes;
  for (const auto& [id, gpu] : cluster.gpus) {
    const Node* node = cluster.find(gpu.row.node);
    if (!counts(gpu, node)) continue;
    ++states[state_of(gpu, node)];
    auto& uses = classes[{node == nullptr ? std::string_view() : node->row.queue, gpu.row.model}];
    for (const auto use : kUses) uses[use];
    ++uses[use_of(gpu, node)];
  }
  for (const auto& [state, n] : states) text.add("tutti_gpus", {state}, static_cast<double>(n));
  for (const auto& [kind, uses] : classes)
    for (const auto& [use, n] : uses)
      text.add("tutti_class_gpus", {std::get<0>(kind), std::get<1>(kind), use}, static_cast<double>(n));
}

void add_nodes(MetricText& text, const Cluster& cluster) {
  Count<NodeState> states;
  Count<NodeService> services;
  std::map<std::string, std::set<NodeId>> conditions;
  for (const auto& [id, node] : cluster.nodes) {
    ++services[node.row.service];
    if (is_gone(&node)) continue;
    ++states[node.row.state];
    for (const auto& c : node.conditions) conditions[c.kind].insert(id);
  }
  add_states(text, "tutti_nodes", states, kNodeStates);
  add_states(text, "tutti_nodes_by_service", services, kServices);
  for (const auto& [condition, nodes] : conditions)
    text.add("tutti_node_conditions", {condition}, static_cast<double>(nodes.size()));
}

void add_heartbeats(MetricText& text, const Cluster& cluster, const LeaseTable& leases, Mono now) {
  Duration oldest{};
  for (const auto& [id, node] : cluster.nodes)
    if (leases.held(id)) oldest = std::max(oldest, now - leases.heard_at(id));
  text.add("tutti_heartbeat_age_max_seconds", to_seconds(oldest));
}

}  // namespace

std::map<std::string_view, std::size_t> gpus_by_use(const Cluster& cluster) {
  std::map<std::string_view, std::size_t> uses;
  for (const auto use : kUses) uses[use] = 0;
  for (const auto& [id, gpu] : cluster.gpus) {
    const Node* node = cluster.find(gpu.row.node);
    if (counts(gpu, node)) ++uses[use_of(gpu, node)];
  }
  return uses;
}

void add_plane_metrics(MetricText& text, const ControlPlane& plane, const LeaseTable* leases, Mono now) {
  add_jobs(text, plane);
  add_gpus(text, plane.cluster());
  add_nodes(text, plane.cluster());
  if (leases != nullptr) add_heartbeats(text, plane.cluster(), *leases, now);
  std::size_t hung = 0;
  for (const auto& [key, attempt] : plane.attempts()) hung += attempt.hung_since.has_value();
  text.add("tutti_attempts_hung", static_cast<double>(hung));
}

}  // namespace tutti
