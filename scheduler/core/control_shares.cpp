// Control plane: queues, projects and reservations, as operators set them up. What they mean is the
// planner's business (scheduler/planner/quota.h); here they are checked, stored and told to it.
#include <algorithm>

#include "scheduler/core/control_plane.h"
#include "scheduler/core/plane_inputs.h"

namespace tutti {

namespace {

constexpr Duration kAhead = std::chrono::hours(24 * 366);
constexpr std::size_t kDepth = 8;

Error bad(std::string field, std::string message, std::string hint = {}) {
  return Error{.code = Errc::invalid_argument,
               .message = std::move(message),
               .hint = std::move(hint),
               .field = std::move(field)};
}

Error in_use(const std::string& what, const std::string& name, std::size_t n, const std::string& by,
             const std::string& hint) {
  return Error{.code = Errc::illegal_transition,
               .message = what + " '" + name + "' is still used by " + std::to_string(n) + " " + by,
               .hint = hint,
               .field = "name"};
}

bool of_all_nodes(const ReservationRow& row) { return std::ranges::find(row.nodes, "*") != row.nodes.end(); }

bool overlap(const ReservationRow& a, const ReservationRow& b) {
  if (a.until <= b.from || b.until <= a.from) return false;
  if (of_all_nodes(a) || of_all_nodes(b)) return true;
  return std::ranges::any_of(a.nodes,
                             [&](const auto& n) { return std::ranges::find(b.nodes, n) != b.nodes.end(); });
}

}  // namespace

// ---------------------------------------------------------------- what the planner is told

const std::string& ControlPlane::queue_of_nodes(const std::string& queue) const {
  const auto row = shares_.queues.find(queue);
  return row == shares_.queues.end() || row->second.nodes_of.empty() ? queue : row->second.nodes_of;
}

planner::QueueShare ControlPlane::queue_share(const std::string& queue) const {
  const auto row = shares_.queues.find(queue);
  if (row == shares_.queues.end()) return {};
  return {.quota = row->second.quota_gpus, .borrow = row->second.borrow_gpus, .lend = row->second.lend_gpus};
}

// Queues, projects and reservations as they are set up now.
void ControlPlane::see_shares() {
  for (const auto& [name, row] : shares_.queues)
    planner_.set_queue(queue_names_.of(name), queue_of_nodes(name), queue_share(name));
  for (const auto& [name, row] : shares_.projects) {
    const int parent = row.parent.empty() ? -1 : project_names_.of(row.parent);
    planner_.set_project(project_names_.of(name), parent, row.weight, row.max_gpus);
  }
  std::vector<planner::Window> windows;
  for (const auto& [name, row] : shares_.reservations) {
    planner::Window w{.name = name, .from = row.from, .until = row.until, .nodes = {}, .projects = {}};
    for (const auto& node : row.nodes)
      if (const auto id = cluster_.node_by_name.find(node); id != cluster_.node_by_name.end())
        if (const auto index = planner_.nodes().find(id->second)) w.nodes.push_back(*index);
    if (of_all_nodes(row))  // of later ones too: this is done again when a node is new
      for (const auto& [id, node] : cluster_.nodes)
        if (const auto index = planner_.nodes().find(id)) w.nodes.push_back(*index);
    for (const auto& project : row.projects) w.projects.insert(project_names_.of(project));
    windows.push_back(std::move(w));
  }
  planner_.set_windows(std::move(windows));
}

int ControlPlane::gpus_held(const std::string& queue, const std::string& project) const {
  int held = 0;
  for (const auto& [key, attempt] : attempts_) {
    const JobRow& job = jobs_.at(key.job).row;
    if ((queue.empty() || job.queue == queue) && (project.empty() || job.project == project))
      for (const auto& m : attempt.row.gang) held += static_cast<int>(m.gpus.size());
  }
  return held;
}

// ---------------------------------------------------------------- queues

Result<Warnings> ControlPlane::on_put_queue(Now now, const QueueRow& row, std::string_view who) {
  const auto deciding = note<&ControlPlane::on_put_queue>(now, row, who);
  const auto known = shares_.queues.find(row.name);
  if (!row.nodes_of.empty()) {
    const auto target = shares_.queues.find(row.nodes_of);
    if (row.nodes_of == row.name)
      return bad("nodes_of", "a queue cannot use its own nodes by name", "leave it out");
    if (target == shares_.queues.end()) return bad("nodes_of", "unknown queue '" + row.nodes_of + "'");
    if (!target->second.nodes_of.empty())
      return bad("nodes_of", "queue '" + row.nodes_of + "' has no nodes of its own",
                 "use '" + target->second.nodes_of + "'");
    for (const auto& [name, other] : shares_.queues)
      if (other.nodes_of == row.name)
        return bad("nodes_of", "queue '" + name + "' uses the nodes of '" + row.name + "'",
                   "a queue whose nodes others use keeps its own");
  }
  if (known != shares_.queues.end() && known->second.nodes_of != row.nodes_of) {
    const auto jobs =
        std::ranges::count_if(jobs_, [&](const auto& j) { return j.second.row.queue == row.name; });
    if (jobs > 0)
      return in_use("queue", row.name, static_cast<std::size_t>(jobs), "jobs",
                    "its nodes can be changed when they are over");
    for (const auto& [id, node] : cluster_.nodes)
      if (node.row.queue == row.name)
        return in_use("queue", row.name, 1, "node or more (" + node.row.name + ")",
                      "a queue with nodes of its own uses those");
  }
  if (row.quota_gpus < 0 && (row.borrow_gpus >= 0 || row.lend_gpus >= 0))
    return bad("quota_gpus", "is needed for borrow_gpus and lend_gpus");
  if (row.lend_gpus > row.quota_gpus) return bad("lend_gpus", "is more than the quota");
  Warnings warnings;
  const int held = gpus_held(row.name, "");
  if (row.quota_gpus >= 0 && row.borrow_gpus >= 0 && held > row.quota_gpus + row.borrow_gpus)
    warnings.push_back("queue '" + row.name + "' holds " + std::to_string(held) +
                       " GPUs, more than quota and borrowing allow (" +
                       std::to_string(row.quota_gpus + row.borrow_gpus) +
                       "): nothing new starts until it fits");
  shares_.queues[row.name] = row;
  const std::string pool = queue_of_nodes(row.name);
  int promised = 0, there = 0;
  for (const auto& [name, other] : shares_.queues)
    if (queue_of_nodes(name) == pool) promised += std::max(0, other.quota_gpus);
  for (const auto& [id, node] : cluster_.nodes)
    if (node.row.queue == pool) there += static_cast<int>(node.gpus.size());
  if (promised > there)
    warnings.push_back("quotas on the nodes of '" + pool + "' add up to " + std::to_string(promised) +
                       " GPUs; there are " + std::to_string(there));
  out_.batch.queues.push_back(row);
  record_node({}, now,
              {.kind = "share",
               .from = "",
               .to = "queue",
               .detail = "queue " + row.name + " set by " + std::string(who)});
  see_shares();
  return warnings;
}

Result<Warnings> ControlPlane::on_remove_queue(Now now, const std::string& name, std::string_view who) {
  const auto deciding = note<&ControlPlane::on_remove_queue>(now, name, who);
  if (!shares_.queues.contains(name))
    return Error{.code = Errc::not_found, .message = "no queue '" + name + "'", .hint = "", .field = "name"};
  if (name == "default") return bad("name", "queue 'default' stays");
  const auto jobs = std::ranges::count_if(jobs_, [&](const auto& j) { return j.second.row.queue == name; });
  if (jobs > 0)
    return in_use("queue", name, static_cast<std::size_t>(jobs), "jobs",
                  "cancel them, or wait for their end");
  for (const auto& [id, node] : cluster_.nodes)
    if (node.row.queue == name)
      return in_use("queue", name, 1, "node or more (" + node.row.name + ")",
                    "its workers are started with another --queue first");
  for (const auto& [other, row] : shares_.queues)
    if (row.nodes_of == name)
      return in_use("queue", name, 1, "queue or more (" + other + ")", "remove those first");
  planner_.set_queue(queue_names_.of(name), queue_of_nodes(name), {});
  shares_.queues.erase(name);
  out_.batch.removed_queues.push_back(name);
  record_node({}, now,
              {.kind = "share",
               .from = "queue",
               .to = "",
               .detail = "queue " + name + " removed by " + std::string(who)});
  return Warnings{};
}

// ---------------------------------------------------------------- projects

Result<Warnings> ControlPlane::on_put_project(Now now, const ProjectRow& row, std::string_view who) {
  const auto deciding = note<&ControlPlane::on_put_project>(now, row, who);
  if (!row.parent.empty() && !shares_.projects.contains(row.parent))
    return bad("parent", "unknown project '" + row.parent + "'");
  if (!(row.weight > 0) || row.weight > 1e6) return bad("weight", "must be more than 0 and at most 1000000");
  std::string path = row.name;
  std::size_t depth = 1;
  for (std::string at = row.parent; !at.empty(); at = shares_.projects.at(at).parent) {
    path += " → " + at;
    if (at == row.name) return bad("parent", "a project cannot be below itself: " + path);
    if (++depth > kDepth)
      return bad("parent", "projects are nested too deep (at most " + std::to_string(kDepth) + "): " + path);
  }
  Warnings warnings;
  const int held = gpus_held("", row.name);
  if (row.max_gpus >= 0 && held > row.max_gpus)
    warnings.push_back("project '" + row.name + "' holds " + std::to_string(held) + " GPUs, more than " +
                       std::to_string(row.max_gpus) + ": nothing new starts until it fits");
  shares_.projects[row.name] = row;
  out_.batch.projects.push_back(row);
  record_node({}, now,
              {.kind = "share",
               .from = "",
               .to = "project",
               .detail = "project " + row.name + " set by " + std::string(who)});
  see_shares();
  return warnings;
}

Result<Warnings> ControlPlane::on_remove_project(Now now, const std::string& name, std::string_view who) {
  const auto deciding = note<&ControlPlane::on_remove_project>(now, name, who);
  if (!shares_.projects.contains(name))
    return Error{
        .code = Errc::not_found, .message = "no project '" + name + "'", .hint = "", .field = "name"};
  if (name == "default") return bad("name", "project 'default' stays");
  const auto jobs = std::ranges::count_if(jobs_, [&](const auto& j) { return j.second.row.project == name; });
  if (jobs > 0)
    return in_use("project", name, static_cast<std::size_t>(jobs), "jobs",
                  "cancel them, or wait for their end");
  for (const auto& [other, row] : shares_.projects)
    if (row.parent == name)
      return in_use("project", name, 1, "project or more (" + other + ")", "remove those first");
  for (const auto& [other, row] : shares_.reservations)
    if (std::ranges::find(row.projects, name) != row.projects.end())
      return in_use("project", name, 1, "reservation or more (" + other + ")", "remove those first");
  planner_.set_project(project_names_.of(name), -1, 1, -1);
  shares_.projects.erase(name);
  out_.batch.removed_projects.push_back(name);
  record_node({}, now,
              {.kind = "share",
               .from = "project",
               .to = "",
               .detail = "project " + name + " removed by " + std::string(who)});
  return Warnings{};
}

// ---------------------------------------------------------------- reservations

Result<Warnings> ControlPlane::on_put_reservation(Now now, const ReservationRow& row, std::string_view who) {
  const auto deciding = note<&ControlPlane::on_put_reservation>(now, row, who);
  if (row.until <= row.from) return bad("until", "is not after from");
  if (row.until <= now.wall) return bad("until", "is in the past");
  if (row.from - now.wall > kAhead) return bad("from", "is more than a year ahead");
  if (row.nodes.empty()) return bad("nodes", "names no node");
  for (const auto& node : row.nodes)
    if (node != "*" && !cluster_.node_by_name.contains(node))
      return bad("nodes", "unknown node '" + node + "'", "tutti nodes lists them");
  for (const auto& project : row.projects)
    if (!shares_.projects.contains(project)) return bad("projects", "unknown project '" + project + "'");
  for (const auto& [name, other] : shares_.reservations)
    if (name != row.name && overlap(row, other))
      return bad("nodes", "reservation '" + name + "' has some of these nodes in this time",
                 "choose other nodes or another time");
  shares_.reservations[row.name] = row;
  out_.batch.reservations.push_back(row);
  record_node({}, now,
              {.kind = "share",
               .from = "",
               .to = "reservation",
               .detail = "reservation " + row.name + " set by " + std::string(who)});
  see_shares();
  return Warnings{};
}

Result<Warnings> ControlPlane::on_remove_reservation(Now now, const std::string& name, std::string_view who) {
  const auto deciding = note<&ControlPlane::on_remove_reservation>(now, name, who);
  if (shares_.reservations.erase(name) == 0)
    return Error{
        .code = Errc::not_found, .message = "no reservation '" + name + "'", .hint = "", .field = "name"};
  out_.batch.removed_reservations.push_back(name);
  record_node({}, now,
              {.kind = "share",
               .from = "reservation",
               .to = "",
               .detail = "reservation " + name + " removed by " + std::string(who)});
  see_shares();
  return Warnings{};
}

void ControlPlane::expire_reservations(Now now) {
  std::vector<std::string> over;
  for (const auto& [name, row] : shares_.reservations)
    if (row.until <= now.wall) over.push_back(name);
  for (const auto& name : over) (void)on_remove_reservation(now, name, "the clock: it is over");
}

}  // namespace tutti
