// Control plane: what is made of a history of faults. Nodes set aside and taken back, probation, the
// lemon score as a placement weight, and the brake that keeps one rule from emptying a cluster.
#include <algorithm>

#include "scheduler/core/control_plane.h"
#include "scheduler/core/plane_inputs.h"
#include "scheduler/model/condition_table.h"

namespace tutti {
namespace {

constexpr Duration kBrakeWindow = std::chrono::minutes(10);
constexpr Duration kReturnsWindow = std::chrono::days(28);
constexpr Duration kTooSoonBack = std::chrono::days(7);
constexpr int kTooManyReturns = 5;
constexpr std::size_t kReportsADay = 10;  // of one node, by people
constexpr Duration kLemonsEvery = std::chrono::minutes(1);

ServiceEvent event_to(NodeService to) {
  switch (to) {
    case NodeService::schedulable: return ServiceEvent::resume;
    case NodeService::cordoned: return ServiceEvent::cordon;
    case NodeService::draining: return ServiceEvent::drain;
    case NodeService::quarantined: return ServiceEvent::quarantine;
    case NodeService::probation: return ServiceEvent::come_back;
    case NodeService::repair: return ServiceEvent::repair;
    case NodeService::retired: return ServiceEvent::retire;
  }
  return ServiceEvent::resume;
}

// Ends the reason of a GPU that no reset brings back.
constexpr std::string_view kPersonDecides = "a person decides";
constexpr std::string_view kAnd = "; ";

// Nodes on which one rule may act within the window.
std::size_t brake_limit(std::size_t nodes) { return std::max<std::size_t>(2, nodes / 20); }

std::string times(int n) { return n == 1 ? "once" : std::to_string(n) + " times"; }

}  // namespace

FaultRow& ControlPlane::add_fault(Now now, FaultRow row) {
  last_fault_ = FaultId(last_fault_.value + 1);
  row.id = last_fault_;
  ledger_.add(row, now.wall);
  out_.batch.faults.push_back(std::move(row));
  return out_.batch.faults.back();
}

// ---------------------------------------------------------------- service of a node

// The only place that writes a node's service.
bool ControlPlane::apply_service(Node& node, ServiceEvent event, Now now, const std::string& reason) {
  const auto to = next(kServiceEdges, node.row.service, event);
  if (!to) return false;
  const NodeService from = node.row.service;
  NodeRow& row = node.row;
  row.service = *to;
  row.service_reason = *to == NodeService::schedulable ? "" : reason;
  if (event == ServiceEvent::come_back) {
    row.returns = now.wall - row.returned_at > kReturnsWindow ? 1 : row.returns + 1;
    row.returned_at = now.wall;
    row.service_until = now.wall + settings_.probation * (1 << std::min(row.returns - 1, 8));
  } else {
    row.service_until = Instant{};
  }
  if (!node.page_at) node.page_at = row.service_at;
  if (takes_work(*to)) node.page_at = now.wall;
  row.service_at = now.wall;
  touch_node(row.id);
  capacity_changed(row.id);
  record_node(
      row.id, now,
      {.kind = "service", .from = std::string(name(from)), .to = std::string(name(*to)), .detail = reason});
  return true;
}

Result<NodeId> ControlPlane::on_node_service(Now now, const std::string& node_name, NodeService service,
                                             std::string_view reason, Instant until) {
  const auto deciding = note<&ControlPlane::on_node_service>(now, node_name, service, reason, until);
  const auto known = cluster_.node_by_name.find(node_name);
  if (known == cluster_.node_by_name.end())
    return Error{
        .code = Errc::not_found, .message = "no node '" + node_name + "'", .hint = "", .field = "node"};
  if (service != NodeService::schedulable && reason.empty())
    return Error{.code = Errc::invalid_argument,
                 .message = "a reason is required to change the service of node '" + node_name + "'",
                 .hint = "say why, for whoever finds it so at night",
                 .field = "reason"};
  if (until != Instant{} && until <= now.wall)
    return Error{.code = Errc::invalid_argument,
                 .message = "the time at which it is to end is over already",
                 .hint = "like 2026-10-01T02:00:00Z or +2h; to end it now: resume",
                 .field = "until"};
  Node& node = cluster_.nodes.at(known->second);
  const bool often = service == NodeService::probation && node.row.returns + 1 >= kTooManyReturns &&
                     now.wall - node.row.returned_at < kTooSoonBack;
  if (often)
    return Error{.code = Errc::illegal_transition,
                 .message = "node '" + node_name + "' has come back " + times(node.row.returns) +
                            " within four weeks; it is not given another try by itself",
                 .hint = "retire it, or resume it to vouch for it yourself",
                 .field = ""};
  if (node.row.service == service) {  // said again: the newer reason counts
    if (service != NodeService::schedulable) node.row.service_reason = std::string(reason);
    touch_node(node.row.id);
  } else if (!apply_service(node, event_to(service), now, std::string(reason))) {
    return Error{.code = Errc::illegal_transition,
                 .message = "node '" + node_name + "' is " + std::string(name(node.row.service)) +
                            " and cannot become " + std::string(name(service)),
                 .hint = node.row.service == NodeService::retired ? "repair or resume it" : "",
                 .field = ""};
  }
  if (service == NodeService::draining || service == NodeService::cordoned) node.row.service_until = until;
  if (takes_work(service)) trust_gpus(node, now);
  return node.row.id;
}

// A person vouches for its GPUs, but a broken one needs its reset, and a process that the worker still sees
// is there.
void ControlPlane::trust_gpus(Node& node, Now now) {
  node.page_at = node.row.service_at = now.wall;  // what was before counts no more
  std::set<GpuId> in_use;
  for (const auto& [key, gpus] : node.unproven) in_use.insert(gpus.begin(), gpus.end());
  for (const GpuId id : node.gpus) {
    Gpu& gpu = cluster_.gpus.at(id);
    if (gpu.row.health == GpuHealth::healthy) continue;
    if (gpu.said == Gpu::Said::unhealthy)
      let_it_come_back(gpu, now);
    else if (!in_use.contains(id))
      gpu_unhealthy(gpu, GpuHealth::healthy, "", now);
  }
}

// What has an end of its own. Nobody vouches for the node when a drain or cordon ends: GPUs stay as they are,
// its faults count as before, and what would have closed it meanwhile does so now.
void ControlPlane::end_services(Now now) {
  for (auto& [id, node] : cluster_.nodes) {
    const NodeRow& row = node.row;
    const bool probation = row.service == NodeService::probation;
    const bool timed = (row.service == NodeService::draining || row.service == NodeService::cordoned) &&
                       row.service_until != Instant{};
    if ((!probation && !timed) || row.service_until > now.wall) continue;
    if (probation) {
      apply_service(node, ServiceEvent::pass, now, "probation is over without a failure");
      continue;
    }
    const auto wrong = std::ranges::find_if(node.conditions, [](const auto& c) {
      return judge_condition(c.kind).effect == ConditionEffect::cordon;
    });
    const Instant page = node.page_at.value_or(row.service_at);
    apply_service(node, ServiceEvent::resume, now, "the time for \"" + row.service_reason + "\" is over");
    node.page_at = node.row.service_at = page;  // in its row for the next leader
    if (wrong != node.conditions.end())
      apply_service(node, ServiceEvent::cordon, now, wrong->kind + ": " + wrong->detail);
    else
      judge_history(node, {}, now);
  }
}

Result<NodeId> ControlPlane::on_node_report(Now now, const std::string& node_name, std::string_view who,
                                            std::string_view reason) {
  const auto deciding = note<&ControlPlane::on_node_report>(now, node_name, who, reason);
  const auto known = cluster_.node_by_name.find(node_name);
  if (known == cluster_.node_by_name.end())
    return Error{
        .code = Errc::not_found, .message = "no node '" + node_name + "'", .hint = "", .field = "node"};
  if (reason.empty())
    return Error{.code = Errc::invalid_argument,
                 .message = "a report of node '" + node_name + "' needs a reason",
                 .hint = "say what you saw: slow, wrong results, errors",
                 .field = "reason"};
  Node& node = cluster_.nodes.at(known->second);
  // One voice a day, and not many: names cost nothing, and the score is not to be shouted up. What does not
  // count is not kept.
  std::erase_if(node.reported, [&](const auto& r) { return now.wall - r.second >= std::chrono::days(1); });
  if (node.reported.contains(std::string(who)) || node.reported.size() >= kReportsADay) return node.row.id;
  node.reported.emplace(who, now.wall);
  add_fault(now, {.id = {},
                  .at = now.wall,
                  .node = node.row.id,
                  .gpu = {},
                  .job = {},
                  .epoch = {},
                  .fault_class = "report",
                  .action = "watch",
                  .detail = "reported by " + std::string(who) + ": " + std::string(reason),
                  .rule = "",
                  .slot = "",
                  .shared_by = 2});
  return node.row.id;
}

// ---------------------------------------------------------------- history

// Since when a node's faults count against it: a person, or its probation, has begun a new page.
Instant ControlPlane::page_of(const Node& node, Instant at_the_latest) {
  return takes_work(node.row.service) ? std::max(at_the_latest, node.page_at.value_or(node.row.service_at))
                                      : at_the_latest;
}

bool ControlPlane::is_repeat_offender(const Gpu& gpu, Instant now) const {
  const Node* node = cluster_.find(gpu.row.node);
  const int limit = settings_.blame.gpu_faults_a_day;
  return limit > 0 && node != nullptr &&
         ledger_.of_gpu(gpu.row.id, page_of(*node, now - std::chrono::hours(24))) >= limit;
}

// A fault has been blamed on this node, and perhaps on this GPU.
void ControlPlane::judge_history(Node& node, GpuId gpu_id, Now now) {
  if (gpu_id) {
    Gpu& gpu = cluster_.gpus.at(gpu_id);
    if (is_repeat_offender(gpu, now.wall)) keep_for_a_person(gpu, now);
  }
  const int limit = settings_.blame.node_faults_a_week;
  const int week = ledger_.of_node(node.row.id, page_of(node, now.wall - std::chrono::days(7)));
  if (node.row.service == NodeService::probation && limit > 0 && week > 0)
    return set_aside(node, "failed while on probation", now);
  if (node.row.service == NodeService::schedulable && limit > 0 && week >= limit)
    set_aside(node, "at fault " + times(week) + " within a week", now);
}

bool ControlPlane::waits_for_a_person(const GpuRow& gpu) {
  return gpu.health == GpuHealth::quarantined && gpu.health_reason.ends_with(kPersonDecides);
}

// In its row, so that it holds for the next leader, and for longer than what it was judged by.
void ControlPlane::keep_for_a_person(Gpu& gpu, Now now) {
  if (waits_for_a_person(gpu.row)) return;
  std::string reason =
      gpu.row.health == GpuHealth::quarantined ? gpu.row.health_reason + std::string(kAnd) : "";
  reason += "at fault " + times(settings_.blame.gpu_faults_a_day) + " within a day: ";
  gpu_unhealthy(gpu, GpuHealth::quarantined, reason + std::string(kPersonDecides), now);
}

// Its reset is enough again.
void ControlPlane::let_it_come_back(Gpu& gpu, Now now) {
  if (!waits_for_a_person(gpu.row)) return;
  const auto end = gpu.row.health_reason.rfind(kAnd);
  if (end == std::string::npos)
    gpu_unhealthy(gpu, gpu.said == Gpu::Said::unhealthy ? GpuHealth::quarantined : GpuHealth::healthy, "",
                  now);
  else
    gpu_unhealthy(gpu, GpuHealth::quarantined, gpu.row.health_reason.substr(0, end), now);
}

// It turned out to speak against nobody.
void ControlPlane::withdraw(FaultId fault, GpuId gpu_id, Now now) {
  ledger_.withdraw(fault);
  out_.batch.withdrawn.push_back(fault);
  const auto gpu = cluster_.gpus.find(gpu_id);
  if (gpu != cluster_.gpus.end() && !is_repeat_offender(gpu->second, now.wall))
    let_it_come_back(gpu->second, now);
}

// A row of the table, or the sensor behind it, that would act on many nodes in a short time is more likely
// wrong than they are: from then on it only says what it would have done.
bool ControlPlane::is_braked(const FaultRule& rule, const Node& node, Now now) {
  if (!rule.acts()) return false;
  RuleUse& use = rule_use_[rule.fault];
  const auto old = [&](const auto& entry) { return now.wall - entry.second > kBrakeWindow; };
  std::erase_if(use.acted, old);
  std::erase_if(use.braked, old);
  const NodeId id = node.row.id;
  if (use.acted.contains(id)) return false;
  if (use.acted.size() < brake_limit(cluster_.nodes.size())) {
    use.acted[id] = now.wall;
    return false;
  }
  if (use.braked.emplace(id, now.wall).second)
    record_node(
        id, now,
        {.kind = "brake",
         .from = "",
         .to = rule.fault,
         .detail = "row '" + rule.fault + "' of the fault table is not carried out here, since it was on " +
                   std::to_string(use.acted.size()) + " nodes within 10 minutes; a person decides"});
  return true;
}

// By rule, which may be wrong, or its sensor: never many nodes in a short time.
void ControlPlane::set_aside(Node& node, const std::string& why, Now now) {
  std::erase_if(set_aside_, [&](Instant at) { return now.wall - at > kBrakeWindow; });
  if (set_aside_.size() >= brake_limit(cluster_.nodes.size())) {
    record_node(node.row.id, now,
                {.kind = "brake",
                 .from = "",
                 .to = "quarantined",
                 .detail = "not set aside, since " + std::to_string(set_aside_.size()) +
                           " nodes were within 10 minutes; a person decides: " + why});
    return;
  }
  if (apply_service(node, ServiceEvent::quarantine, now, why)) set_aside_.push_back(now.wall);
}

// ---------------------------------------------------------------- the lemon score

LemonScore ControlPlane::lemon_score(NodeId id) const {
  const auto found = lemons_.find(id);
  return found == lemons_.end() ? LemonScore{} : found->second;
}

// Nodes that fail more often than others are taken last.
void ControlPlane::weigh_lemons(Now now) {
  if (lemons_at_ != Instant{} && now.wall - lemons_at_ < kLemonsEvery) return;
  if (ledger_.size() == 0 && lemons_.empty()) return;
  lemons_at_ = now.wall;
  std::vector<NodeId> ids;
  std::vector<LemonCount> counts;
  for (const auto& [id, node] : cluster_.nodes) {
    ids.push_back(id);
    counts.push_back(count_lemon_failures(ledger_.lemon_failures(id), node.row.registered_at, now.wall));
  }
  const LemonFleet fleet = fit_lemon_fleet(counts);
  for (std::size_t i = 0; i < ids.size(); ++i) {
    const LemonScore score = score_lemon(counts[i], fleet);
    Node& node = cluster_.nodes.at(ids[i]);
    const double weight = suspicion_of(score);
    lemons_[ids[i]] = score;
    if (node.suspicion == weight) continue;
    node.suspicion = weight;
    capacity_changed(ids[i]);
  }
}

}  // namespace tutti
