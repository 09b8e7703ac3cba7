// Control plane: why a job does not run now, in words and numbers.
#include <algorithm>
#include <array>

#include "scheduler/core/control_plane.h"
#include "scheduler/planner/explain.h"

namespace tutti {

namespace {

using planner::NodeBlocker;
using planner::NodeCount;
using planner::Obstacle;

struct BlockerText {
  std::string_view code;
  std::string_view text;
};

BlockerText text_of(NodeBlocker b) {
  switch (b) {
    case NodeBlocker::none: return {"free", "could take a part now"};
    case NodeBlocker::other_queue: return {"other_queue", "serve another queue"};
    case NodeBlocker::excluded: return {"excluded", "are excluded by the job"};
    case NodeBlocker::constraint: return {"constraint", "do not satisfy the job's constraints"};
    case NodeBlocker::too_few_gpus: return {"too_few_gpus", "have fewer matching GPUs than asked for"};
    case NodeBlocker::too_small: return {"too_small", "have fewer CPUs or less memory than asked for"};
    case NodeBlocker::closed: return {"closed", "take no work"};
    case NodeBlocker::gpus_out_of_order:
      return {"gpus_out_of_order", "have too many GPUs quarantined or dirty"};
    case NodeBlocker::gpus_busy: return {"gpus_busy", "have too many GPUs allocated"};
    case NodeBlocker::cpus_busy: return {"cpus_busy", "have too many CPUs allocated"};
    case NodeBlocker::memory_busy: return {"memory_busy", "have too much memory allocated"};
    case NodeBlocker::reserved: return {"reserved", "are reserved for others before the job would end"};
  }
  return {"?", "?"};
}

// Nodes that take no work, by why.
constexpr auto kClosed = std::to_array<BlockerText>({
    {"not_reachable", "are unreachable or dead"},
    {"not_schedulable", "are cordoned, draining or quarantined"},
    {"stale_ranks", "have ranks whose death is not proven"},
});

// "3 nodes have …", "1 node has …"
std::string nodes_text(std::int64_t n, std::string_view what) {
  static constexpr auto kVerbs = std::to_array<std::pair<std::string_view, std::string_view>>(
      {{"have ", "has "}, {"are ", "is "}, {"serve ", "serves "}, {"do ", "does "}, {"take ", "takes "}});
  std::string text = std::to_string(n) + (n == 1 ? " node " : " nodes ");
  for (const auto& [many, one] : kVerbs)
    if (n == 1 && what.starts_with(many)) return text.append(one).append(what.substr(many.size()));
  return text.append(what);
}

std::string kinds_text(const Resources& r) {
  std::string text;
  for (const auto& kind : r.gpu_kinds) {
    if (!text.empty()) text += " or ";
    text += kind.model.empty() ? std::to_string(kind.memory_bytes >> 30) + "GiB" : kind.model;
  }
  return text;
}

// "8 free H100 GPUs", "1 free CPU"
std::string need_text(const Resources& r, std::string_view adjective) {
  const int n = r.gpus > 0 ? r.gpus : planner::cpus_of(r);
  std::string text = std::to_string(n) + std::string(adjective);
  if (r.gpus > 0) text += r.gpu_kinds.empty() ? " GPU" : " " + kinds_text(r) + " GPU";
  if (r.gpus == 0) text += " CPU";
  return text + (n == 1 ? "" : "s");
}

std::string when_text(Instant at, Instant now) {
  const auto minutes = static_cast<std::int64_t>(to_seconds(at - now) / 60 + 0.999);
  return minutes < 120 ? "in " + std::to_string(minutes) + " min"
                       : "in " + std::to_string(minutes / 60) + " h";
}

}  // namespace

// What nodes of the wrong kind, out of service and busy there are.
void ControlPlane::explain_nodes(const planner::Planner& planner, const planner::Waiting& waiting, Now now,
                                 Explanation& out) const {
  const auto& nodes = planner.nodes();
  const planner::GangAsk& ask = nodes.shape(waiting.what.shape).ask;
  if (nodes.size() == 0) {
    out.reasons.push_back({"no_nodes", "no worker has registered yet", ask.nodes, 0});
    return;
  }
  const NodeCount count = count_nodes(planner, waiting, now.wall);
  const int wanted = ask.fewest_nodes(), fit = count.of(NodeBlocker::none);
  const bool near = ask.topology.require != TopologyLevel::any && ask.nodes > 1;
  const std::string level(name(ask.topology.require));
  const std::string each = wanted > 1 ? " each" : "";
  if (count.ever < wanted) {
    out.never = true;
    std::string text = "needs " + nodes_text(wanted, "with ") + need_text(ask.resources, "") + each +
                       "; the cluster has " + std::to_string(count.ever) + " such";
    if (count.largest < ask.resources.gpus)
      text += " (the largest has " + std::to_string(count.largest) + ")";
    out.reasons.push_back({"never", std::move(text), wanted, count.ever});
  } else if (near && count.ever_near < wanted) {
    out.never = true;
    out.reasons.push_back({"never",
                           "needs " + nodes_text(wanted, "in one " + level) + "; the largest has " +
                               std::to_string(count.ever_near) + " that fit",
                           wanted, count.ever_near});
  }
  if (near && fit >= wanted && count.now_near < wanted)
    out.reasons.push_back({"topology",
                           "needs " + nodes_text(wanted, "of one " + level) + "; the best has " +
                               std::to_string(count.now_near) + " that can take a part now",
                           wanted, count.now_near});
  if (fit >= wanted) return;
  out.reasons.push_back({"nodes",
                         "needs " + nodes_text(wanted, "with ") + need_text(ask.resources, " free") + each +
                             "; " + std::to_string(fit) + " can take a part now",
                         wanted, fit});
  for (std::size_t i = 1; i < planner::kNodeBlockers; ++i) {
    if (count.by[i] == 0) continue;
    if (static_cast<NodeBlocker>(i) == NodeBlocker::closed) {
      for (const auto& [code, text] : kClosed)
        if (const auto n = planner::closed_nodes(nodes, ask, code); n > 0)
          out.reasons.push_back({std::string(code), nodes_text(n, text), 0, n});
      explain_conditions(nodes, ask, out);
      continue;
    }
    const BlockerText t = text_of(static_cast<NodeBlocker>(i));
    out.reasons.push_back({std::string(t.code), nodes_text(count.by[i], t.text), 0, count.by[i]});
  }
}

std::string ControlPlane::quota_text(const planner::QuotaBlock& q, int gpus) const {
  using Kind = planner::QuotaBlock::Kind;
  const std::string tail = " holds " + std::to_string(q.used) + " of at most " + std::to_string(q.most) +
                           " GPUs; this job needs " + std::to_string(gpus) + " more";
  switch (q.kind) {
    case Kind::queue: return "queue '" + queue_names_.name(q.who) + "'" + tail;
    case Kind::project: return "project '" + project_names_.name(q.who) + "'" + tail;
    case Kind::lenders:
      return "queue '" + queue_names_.name(q.who) + "' may borrow no more: " + std::to_string(q.used) +
             " of " + std::to_string(q.most) + " GPUs that are lent are in use";
  }
  return tail;
}

// What of the order, of quotas and of promises stands in its way.
void ControlPlane::explain_order(const planner::Planner& planner, const planner::Waiting& waiting, Now now,
                                 Explanation& out) const {
  const auto& what = waiting.what;
  if (const auto quota = planner.quota().blocks(what.kind.queue, what.project, planner.least_gpus(what)))
    out.reasons.push_back({"quota", quota_text(*quota, planner.least_gpus(what)), planner.least_gpus(what),
                           quota->most - quota->used});
  for (const auto& promise : planner.promises()) {
    const bool own = promise.job == what.id;
    if (own)
      out.reasons.push_back(
          {"promised",
           "starts " + when_text(promise.at, now.wall) + " at the latest, as long as nobody comes before it",
           0, static_cast<std::int64_t>(to_seconds(promise.at - now.wall))});
    else if (promise.queue_of_nodes == planner.queue_of_nodes(what.id) &&
             out.reasons.empty())  // it would fit
      out.reasons.push_back({"backfill",
                             "job " + to_string(promise.job) + " comes before it and was promised " +
                                 nodes_text(static_cast<std::int64_t>(promise.nodes.size()), "") +
                                 when_text(promise.at, now.wall) + "; this job could run beyond that",
                             0, static_cast<std::int64_t>(to_seconds(promise.at - now.wall))});
  }
  if (*out.position > 0)
    out.reasons.push_back({"behind",
                           std::to_string(*out.position) + " jobs of queue '" +
                               queue_names_.name(what.kind.queue) + "' come before it",
                           0, static_cast<std::int64_t>(*out.position)});
}

std::string ControlPlane::obstacle_text(const Obstacle& o, int gpus) const {
  const auto node = [&] { return planner_.nodes().at(o.node).desc->name; };
  switch (o.kind) {
    case Obstacle::Kind::running: return "job " + to_string(o.job) + " runs on nodes it would use";
    case Obstacle::Kind::ahead: return "job " + to_string(o.job) + " comes before it";
    case Obstacle::Kind::node: return "node " + node() + " takes no work";
    case Obstacle::Kind::broken: return "node " + node() + " has GPUs out of order";
    case Obstacle::Kind::quota: return quota_text(*o.quota, gpus);
    case Obstacle::Kind::window: return "reservation '" + o.window + "' is for others";
  }
  return "";
}

void ControlPlane::explain_exactly(const planner::Planner& planner, const planner::Waiting& waiting, Now now,
                                   Explanation& out) const {
  static constexpr std::array<std::string_view, 6> kCodes = {"running", "ahead", "node",
                                                             "broken",  "quota", "window"};
  const auto found = planner::obstacles(planner, waiting.what.id, now.wall);
  if (found.exact)
    for (const auto& o : found.all)
      out.blockers.push_back({std::string(kCodes[static_cast<std::size_t>(o.kind)]),
                              obstacle_text(o, waiting.what.kind.gpus), o.job});
  for (const auto& change : planner::changes_that_help(planner, waiting.what.id, now.wall))
    out.would_help.push_back({change.field, change.to});
}

void ControlPlane::explain_waiting(const planner::Planner& planner, const planner::Waiting& waiting, Now now,
                                   Explanation& out, bool exactly) const {
  explain_nodes(planner, waiting, now, out);
  explain_order(planner, waiting, now, out);
  if (exactly) explain_exactly(planner, waiting, now, out);
}

std::vector<JobId> ControlPlane::waiting_in_order(const std::string& queue, std::size_t most) const {
  std::vector<JobId> out;
  for (const std::string& pool : planner_.pools()) {
    const int only = queue.empty() ? -1 : queue_names_.find(queue);
    if (!queue.empty() && only < 0) return {};
    const auto of = planner_.first(pool, most - out.size(), only);
    out.insert(out.end(), of.begin(), of.end());
  }
  return out;
}

std::vector<Reason> ControlPlane::explain_kind(const planner::Waiting& waiting, Now now) const {
  Explanation out;
  out.position = 0;
  explain_waiting(planner_, waiting, now, out, false);
  std::erase_if(out.reasons, [](const Reason& r) { return r.code == "promised"; });  // to that one alone
  return std::move(out.reasons);
}

Explanation ControlPlane::explain(JobId id, Now now, bool exactly) const {
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
      break;
    }
    case JobState::blocked: out.reasons.push_back({"blocked", waits_for(*job), 0, 0}); break;
    case JobState::queued: {
      const planner::Waiting waiting = *planner_.find_waiting(id);
      out.position = planner_.ahead_of(id);
      explain_waiting(planner_, waiting, now, out, exactly);
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
  if (is_pending(job->row.state) && job->row.state != JobState::queued) explain_never(*job, now, out);
  return out;
}

std::optional<std::string> ControlPlane::never_starts(JobId id, Now now) const {
  const Job* job = find_job(id);
  if (job == nullptr || !is_pending(job->row.state)) return std::nullopt;
  Explanation out;
  if (const auto waiting = planner_.find_waiting(id))
    explain_nodes(planner_, *waiting, now, out);
  else
    explain_never(*job, now, out);
  for (auto& reason : out.reasons)
    if (reason.code == "never" || reason.code == "no_nodes") return std::move(reason.text);
  return std::nullopt;
}

// Of one that does not wait for nodes yet: whether that could ever come to an end.
void ControlPlane::explain_never(const Job& job, Now now, Explanation& out) const {
  const auto copy = planner_.sketch({});
  planner::Waiting waiting{.what = numbered(job, *job.spec),
                           .attained = job.row.ran,
                           .since = now.wall,
                           .rank_at = job.row.queued_at};
  waiting.what.shape = copy->intern(planner::ask_of(*job.spec, queue_of_nodes(job.row.queue)));
  if (!copy->could_ever(waiting.what.shape)) explain_nodes(*copy, waiting, now, out);
}

}  // namespace tutti
