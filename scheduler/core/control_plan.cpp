// Control plane, part 5: time passes, jobs are placed, and why the others are not.
#include <algorithm>
#include <array>

#include "scheduler/core/control_plane.h"

namespace tutti {

namespace {
NodeId slowest_of(const AttemptRow& row) {
  return std::ranges::min_element(row.gang, {}, &GangMember::state)->node;
}
}  // namespace

void ControlPlane::on_tick(Now now) {
  while (auto due = queue_.pop_due(now.wall)) {
    Job& job = jobs_.at(*due);
    job.row.not_before = Instant{};
    apply(job, JobEvent::due, now, Cause::none, "due");
  }
  for (auto& [id, node] : cluster_.nodes) {
    if (node.row.state == NodeState::dead) continue;
    if (now.mono - leases_.heard_at(id) >= leases_.settings().suspicion)
      set_node_state(node, NodeEvent::silence, now, "no heartbeat");
    if (now.mono >= leases_.expires_at(id)) expire_node(node, now);
  }
  end_lost_parts(now);
  std::vector<AttemptKey> late;
  for (const auto& [key, attempt] : attempts_)
    if (attempt.deadline && now.mono >= *attempt.deadline) late.push_back(key);
  for (AttemptKey key : late) {
    Attempt& attempt = attempts_.at(key);
    attempt.deadline.reset();
    const StopPolicy& stop = jobs_.at(key.job).spec->stop;
    switch (attempt.row.state) {
      case AttemptState::placed:
      case AttemptState::preflight:
        attempt.failed_on = slowest_of(attempt.row);
        begin_stop(attempt, Cause::launch, "not every node became ready in time", "KILL", Duration::zero(),
                   now);
        break;
      case AttemptState::starting:
        attempt.failed_on = slowest_of(attempt.row);
        begin_stop(attempt, Cause::launch, "not every rank came up in time", "KILL", Duration::zero(), now);
        break;
      case AttemptState::running:
        begin_stop(attempt, Cause::time_limit, "time limit reached", stop.signal, stop.grace, now);
        break;
      case AttemptState::stopping:
      case AttemptState::ended: break;
    }
  }
  plan(now);
}

// One pass per queue: the best job of every shape that is not known to be blocked, in order of rank.
void ControlPlane::plan(Now now) {
  for (auto& [queue_name, queue] : queue_.queues()) {
    for (;;) {
      ShapeQueue* best = nullptr;
      for (auto& [key, shape] : queue.shapes)
        if (shape->blocked_at != queue.generation &&
            (best == nullptr || shape->jobs.top().key < best->jobs.top().key))
          best = shape.get();
      if (best == nullptr) break;
      const auto guard = guarded_head(queue, now);
      if (guard && *guard < best->jobs.top().key) break;
      Job& job = jobs_.at(best->jobs.top().id);
      auto picks = choose_nodes(cluster_, best->shape, job.avoid);
      if (picks) {
        start_attempt(job, std::move(*picks), now);
      } else {
        best->blocked_at = queue.generation;
        best->waits_for_busy = fits_when_idle(cluster_, best->shape);
      }
    }
  }
}

// The first head that has waited too long for others to end: nobody behind it starts.
std::optional<Rank> ControlPlane::guarded_head(const JobQueue::Queue& queue, Now now) const {
  std::optional<Rank> first;
  for (const auto& [key, shape] : queue.shapes) {
    const Rank& rank = shape->jobs.top().key;
    if (shape->blocked_at == queue.generation && shape->waits_for_busy &&
        now.wall - rank.queued_at > settings_.head_guard && (!first || rank < *first))
      first = rank;
  }
  return first;
}

Duration ControlPlane::next_wake(Now now) const {
  Duration wait = std::chrono::milliseconds(250);  // leases and deadlines are looked at so often
  if (auto due = queue_.earliest_due()) wait = std::min(wait, *due - now.wall);
  for (const auto& [key, attempt] : attempts_)
    if (attempt.deadline) wait = std::min(wait, *attempt.deadline - now.mono);
  return std::max(wait, Duration::zero());
}

namespace {

struct BlockerText {
  std::string_view code;
  std::string_view text;
};

BlockerText text_of(Blocker b) {
  switch (b) {
    case Blocker::none: return {"free", "could take a part now"};
    case Blocker::other_queue: return {"other_queue", "serve another queue"};
    case Blocker::excluded: return {"excluded", "are excluded by the job"};
    case Blocker::too_few_gpus: return {"too_few_gpus", "have fewer matching GPUs than asked for"};
    case Blocker::too_small: return {"too_small", "have fewer CPUs or less memory than asked for"};
    case Blocker::not_reachable: return {"not_reachable", "are unreachable or dead"};
    case Blocker::not_schedulable: return {"not_schedulable", "are cordoned, draining or quarantined"};
    case Blocker::stale_ranks: return {"stale_ranks", "have ranks whose death is not proven"};
    case Blocker::gpus_out_of_order: return {"gpus_out_of_order", "have too many GPUs quarantined or dirty"};
    case Blocker::gpus_busy: return {"gpus_busy", "have too many GPUs allocated"};
    case Blocker::cpus_busy: return {"cpus_busy", "have too many CPUs allocated"};
    case Blocker::memory_busy: return {"memory_busy", "have too much memory allocated"};
  }
  return {"?", "?"};
}

std::string nodes_text(std::int64_t n, std::string_view what) {
  return std::to_string(n) + (n == 1 ? " node " : " nodes ") + std::string(what);
}

// "8 free H100 GPUs", "1 free CPU"
std::string need_text(const Resources& r, std::string_view adjective) {
  const int n = r.gpus > 0 ? r.gpus : cpus_needed(r);
  std::string text = std::to_string(n) + std::string(adjective);
  if (r.gpus > 0) text += r.gpu_kinds.empty() ? " GPU" : " " + r.gpu_kinds.front().model + " GPU";
  if (r.gpus == 0) text += " CPU";
  return text + (n == 1 ? "" : "s");
}

void explain_nodes(const Cluster& cluster, const Shape& shape, Explanation& out) {
  std::array<std::int64_t, kBlockerCount> count{};
  std::int64_t largest = 0;
  for (const auto& [id, node] : cluster.nodes) {
    ++count[static_cast<std::size_t>(blocker_of(cluster, node, shape))];
    std::int64_t matching = 0;
    for (GpuId gpu : node.gpus)
      if (gpu_matches(cluster.gpus.at(gpu).row, shape.resources)) ++matching;
    if (node.row.queue == shape.queue) largest = std::max(largest, matching);
  }
  const std::int64_t fit = count[static_cast<std::size_t>(Blocker::none)];
  std::int64_t ever = static_cast<std::int64_t>(cluster.nodes.size());
  for (auto b : {Blocker::other_queue, Blocker::excluded, Blocker::too_few_gpus, Blocker::too_small})
    ever -= count[static_cast<std::size_t>(b)];
  if (cluster.nodes.empty()) {
    out.reasons.push_back({"no_nodes", "no worker has registered yet", shape.nodes, 0});
    return;
  }
  const std::string each = shape.nodes > 1 ? " each" : "";
  if (ever < shape.nodes) {
    out.never = true;
    std::string text = "needs " + nodes_text(shape.nodes, "with ") + need_text(shape.resources, "") + each +
                       "; the cluster has " + std::to_string(ever) + " such";
    if (largest < shape.resources.gpus) text += " (the largest has " + std::to_string(largest) + ")";
    out.reasons.push_back({"never", std::move(text), shape.nodes, ever});
  }
  if (fit >= shape.nodes) return;
  out.reasons.push_back({"nodes",
                         "needs " + nodes_text(shape.nodes, "with ") + need_text(shape.resources, " free") +
                             each + "; " + std::to_string(fit) + " can take a part now",
                         shape.nodes, fit});
  for (std::size_t i = 1; i < kBlockerCount; ++i) {
    if (count[i] == 0) continue;
    const BlockerText t = text_of(static_cast<Blocker>(i));
    out.reasons.push_back({std::string(t.code), nodes_text(count[i], t.text), 0, count[i]});
  }
}

}  // namespace

Explanation ControlPlane::explain(JobId id, Now now) const {
  Explanation out;
  out.job = id;
  const Job* job = find_job(id);
  if (job == nullptr) return out;
  out.state = job->row.state;
  switch (job->row.state) {
    case JobState::held: out.reasons.push_back({"held", job->row.reason, 0, 0}); break;
    case JobState::delayed: {
      const auto seconds = static_cast<std::int64_t>(to_seconds(job->row.not_before - now.wall) + 0.999);
      out.reasons.push_back(
          {"delayed", job->row.reason + "; due in " + std::to_string(seconds) + " s", 0, seconds});
      explain_nodes(cluster_, Shape::of(*job->spec), out);
      break;
    }
    case JobState::blocked: out.reasons.push_back({"blocked", "waits for other jobs", 0, 0}); break;
    case JobState::queued: {
      const Rank rank = rank_of(job->row);
      out.position = queue_.ahead_of(job->row.queue, rank);
      explain_nodes(cluster_, Shape::of(*job->spec), out);
      const auto guard = guarded_head(queue_.queues().at(job->row.queue), now);
      if (guard && *guard < rank)
        out.reasons.push_back(
            {"guarded",
             "job " + to_string(guard->id) +
                 " has waited so long for busy nodes that nobody behind it may start before it",
             0, static_cast<std::int64_t>(to_seconds(now.wall - guard->queued_at))});
      if (*out.position > 0)
        out.reasons.push_back(
            {"behind",
             std::to_string(*out.position) + " jobs of queue '" + job->row.queue + "' come before it", 0,
             static_cast<std::int64_t>(*out.position)});
      break;
    }
    case JobState::stopping: {
      const Attempt& attempt = attempts_.at({id, job->row.epoch});
      for (const auto& m : attempt.row.gang)
        if (m.state != MemberState::ended)
          out.reasons.push_back(
              {"kill_not_proven", "node " + m.node_name + " has not proven its ranks dead yet", 0, 0});
      break;
    }
    case JobState::starting: {
      const Attempt& attempt = attempts_.at({id, job->row.epoch});
      for (const auto& m : attempt.row.gang)
        if (m.state < MemberState::running)
          out.reasons.push_back({"not_up", "node " + m.node_name + " has not all its ranks up yet", 0, 0});
      break;
    }
    case JobState::running:
    case JobState::succeeded:
    case JobState::failed:
    case JobState::cancelled: break;
  }
  return out;
}

}  // namespace tutti
