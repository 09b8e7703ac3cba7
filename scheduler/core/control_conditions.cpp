// Control plane: what is wrong with nodes as a whole. Level-triggered: a worker says all conditions
// that hold, the table (scheduler/model/condition_table.h) says what follows from each. A condition closes
// its node for new work or has it cordoned; it never ends what runs there.
#include <algorithm>

#include "scheduler/core/control_plane.h"
#include "scheduler/core/plane_inputs.h"
#include "scheduler/model/condition_table.h"

namespace tutti {
namespace {

constexpr std::size_t kMaxConditions = 256;                  // of one node; a worker bounds its own far below
constexpr std::size_t kMaxIncidents = 64;                    // of one message
constexpr std::size_t kNamed = 3;                            // nodes in one reason
constexpr Duration kSameIncident = std::chrono::seconds(5);  // a worker tells one of a kind in ten
constexpr Duration kLinkMemory = std::chrono::minutes(10);

Duration age(std::int64_t us) { return Duration(std::clamp<std::int64_t>(us, 0, 366LL * 86'400'000'000)); }

std::string text_of(const NodeCondition& c) { return (c.subject.empty() ? "" : c.subject + ": ") + c.detail; }

bool same_thing(const NodeCondition& a, const NodeCondition& b) {
  return a.kind == b.kind && a.subject == b.subject;
}

const NodeCondition* find_same(const std::vector<NodeCondition>& list, const NodeCondition& c) {
  const auto it = std::ranges::find_if(list, [&](const auto& other) { return same_thing(other, c); });
  return it == list.end() ? nullptr : &*it;
}

// Told again it has the same time, but for what the way took.
bool is_news(Node& node, const protocol::NodeIncident& incident, Instant at) {
  const bool known = std::ranges::any_of(node.incidents, [&](const Node::Incident& other) {
    return other.kind == incident.kind && other.detail == incident.detail &&
           std::chrono::abs(other.at - at) < kSameIncident;
  });
  if (known) return false;
  node.incidents.push_back({incident.kind, incident.detail, at});
  if (node.incidents.size() > kMaxIncidents) node.incidents.pop_front();
  return true;
}

}  // namespace

void ControlPlane::on_node_health(Now now, NodeId id, const protocol::NodeHealth& health) {
  const auto deciding = note<&ControlPlane::on_node_health>(now, id, health);
  Node* node = cluster_.find(id);
  if (node == nullptr) return;
  std::vector<NodeCondition> now_true;
  for (const auto& c : health.conditions)
    if (c.kind != kClockSkew && now_true.size() < kMaxConditions)
      now_true.push_back({c.kind, c.subject, c.detail, now.wall - age(c.age_us)});
  for (const auto& known : node->conditions)
    if (known.kind == kClockSkew) now_true.push_back(known);
  replace_conditions(*node, std::move(now_true), now);
  std::size_t told = 0;
  for (const auto& i : health.incidents) {
    if (told++ >= kMaxIncidents) break;
    const Instant at = now.wall - age(i.age_us);
    if (!is_news(*node, i, at)) continue;
    record_node(id, now, {.kind = "incident", .from = "", .to = i.kind, .detail = i.detail});
    if (is_link_trouble(i.kind) && (!node->link_trouble || node->link_trouble->at < at))
      node->link_trouble = {at, i.detail};
  }
}

// The member whose network link was in trouble shortly before the first exit: collective operations fail on
// the others then, and in the program's own words.
const GangMember* ControlPlane::with_link_trouble(const AttemptRow& row) const {
  if (row.gang.size() < 2) return nullptr;  // it speaks to nobody
  for (const auto& m : row.gang) {
    const Node& node = cluster_.nodes.at(m.node);
    const bool now =
        std::ranges::any_of(node.conditions, [](const auto& c) { return is_link_trouble(c.kind); });
    if (node.link_trouble && (now || row.fault_at - node.link_trouble->at <= kLinkMemory)) return &m;
  }
  return nullptr;
}

void ControlPlane::on_clock_skew(Now now, NodeId id, std::optional<Duration> ahead) {
  const auto deciding = note<&ControlPlane::on_clock_skew>(now, id, ahead);
  Node* node = cluster_.find(id);
  if (node == nullptr) return;
  node->clock_ahead = ahead;
  ahead ? void(skewed_.insert(id)) : void(skewed_.erase(id));
  std::vector<NodeCondition> now_true;
  for (const auto& known : node->conditions)
    if (known.kind != kClockSkew) now_true.push_back(known);
  if (ahead) {
    const auto ms = std::chrono::abs(*ahead).count() / 1000;
    now_true.push_back({std::string(kClockSkew), "",
                        "its clock is " + std::to_string(ms) + " ms " +
                            (*ahead > Duration::zero() ? "ahead of" : "behind") +
                            " the scheduler's: check its time service",
                        now.wall});
  }
  replace_conditions(*node, std::move(now_true), now);
  judge_clocks(now);
}

// Where most nodes are off to the same side, it is the scheduler's clock that is wrong, and closing them
// would close the cluster.
void ControlPlane::judge_clocks(Now now) {
  if (skewed_.empty() && !own_clock_wrong_) return;
  std::size_t linked = 0, ahead = 0, behind = 0;
  for (const auto& [id, node] : cluster_.nodes) {
    if (!node.linked) continue;
    ++linked;
    if (node.clock_ahead) ++(*node.clock_ahead > Duration::zero() ? ahead : behind);
  }
  const std::size_t off = std::max(ahead, behind);
  const bool wrong = off * 2 > linked;
  if (wrong == own_clock_wrong_) return;
  own_clock_wrong_ = wrong;
  record_node(
      {}, now,
      {.kind = "clock",
       .from = wrong ? "" : "wrong",
       .to = wrong ? "wrong" : "",
       .detail = wrong ? "the scheduler's clock is " + std::string(ahead > behind ? "behind" : "ahead of") +
                             " those of " + std::to_string(off) + " of " + std::to_string(linked) +
                             " nodes: check its time service; no node is closed for it"
                       : "the scheduler's clock agrees with most nodes"});
  for (const NodeId id : skewed_) see_closing(cluster_.nodes.at(id));
}

void ControlPlane::see_closing(Node& node) {
  const auto closes = std::ranges::find_if(node.conditions, [&](const auto& c) {
    return judge_condition(c.kind).effect == ConditionEffect::close &&
           !(own_clock_wrong_ && c.kind == kClockSkew);
  });
  std::string closing = closes == node.conditions.end() ? "" : closes->kind;
  if (closing != std::exchange(node.closing, closing)) capacity_changed(node.row.id);
}

void ControlPlane::replace_conditions(Node& node, std::vector<NodeCondition> now_true, Now now) {
  std::ranges::sort(now_true, [](const auto& a, const auto& b) {
    return std::tie(a.kind, a.subject) < std::tie(b.kind, b.subject);
  });
  const auto before = std::exchange(node.conditions, {});
  std::string cordon;
  for (auto& c : now_true) {
    if (find_same(node.conditions, c) != nullptr) continue;  // said twice
    if (const auto* known = find_same(before, c)) {
      c.since = known->since;
    } else {
      record_node(node.row.id, now, {.kind = "condition", .from = "", .to = c.kind, .detail = text_of(c)});
      if (judge_condition(c.kind).effect == ConditionEffect::cordon) cordon = c.kind + ": " + text_of(c);
    }
    node.conditions.push_back(std::move(c));
  }
  for (const auto& c : before)
    if (find_same(node.conditions, c) == nullptr)
      record_node(node.row.id, now, {.kind = "condition", .from = c.kind, .to = "", .detail = text_of(c)});
  const auto note_trouble = [&](const std::vector<NodeCondition>& list) {
    for (const auto& c : list)
      if (is_link_trouble(c.kind)) node.link_trouble = {now.wall, text_of(c)};
  };
  note_trouble(before);  // what is over now has been until now
  note_trouble(node.conditions);
  see_closing(node);
  if (!cordon.empty() && node.row.service == NodeService::schedulable)
    on_node_service(now, node.row.name, NodeService::cordoned, cordon);
}

// Nodes that would do, were it not for a condition; some of them by name.
void ControlPlane::explain_conditions(const planner::Nodes& nodes, const planner::GangAsk& ask,
                                      Explanation& out) const {
  for (const auto& row : kConditions) {
    if (row.effect != ConditionEffect::close) continue;
    const int n = planner::closed_nodes(nodes, ask, row.kind);
    if (n == 0) continue;
    std::string text;
    std::size_t named = 0;
    for (const auto& [id, node] : cluster_.nodes) {
      if (node.closing != row.kind || named == kNamed) continue;
      const auto c = std::ranges::find(node.conditions, row.kind, &NodeCondition::kind);
      text +=
          (named++ == 0 ? "node " : "; node ") + node.row.name + ": " + c->kind + " (" + text_of(*c) + ")";
    }
    if (n > static_cast<int>(named)) text += "; and " + std::to_string(n - static_cast<int>(named)) + " more";
    out.reasons.push_back({std::string(row.kind), text, 0, n});
  }
}

}  // namespace tutti
