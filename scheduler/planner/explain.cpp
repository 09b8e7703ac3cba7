#include "scheduler/planner/explain.h"

#include <algorithm>
#include <bit>
#include <map>

namespace tutti::planner {

namespace {

constexpr std::size_t kAhead = 1000;     // waiting jobs before it that a copy takes along
constexpr std::size_t kMostTried = 256;  // obstacles that are tried one by one
constexpr int kMostRounds = 64;
constexpr std::size_t kSearched = 150'000;  // subsets times nodes

std::size_t ix(int i) { return static_cast<std::size_t>(i); }

// And those that the guard lets go before it.
std::vector<JobId> ahead_of(const Planner& planner, JobId job, Instant now) {
  auto order = planner.first(planner.queue_of_nodes(job), kAhead);
  const auto own = std::ranges::find(order, job);
  order.erase(own, order.end());
  for (const JobId id : planner.guarded_beside(job, now))
    if (id != job && std::ranges::find(order, id) == order.end()) order.push_back(id);
  order.push_back(job);
  return order;
}

void remove(Planner& copy, const Obstacle& o, JobId job, Instant now) {
  switch (o.kind) {
    case Obstacle::Kind::running: copy.stopped(o.job, now); break;
    case Obstacle::Kind::ahead: copy.withdraw(o.job); break;
    case Obstacle::Kind::node:
    case Obstacle::Kind::broken: {
      NodeDesc desc = *copy.nodes().at(o.node).desc;
      if (o.kind == Obstacle::Kind::node) desc.closed.clear();
      if (o.kind == Obstacle::Kind::broken)
        for (auto& group : desc.devices) group.usable = group.total;
      copy.put_node(desc);
      break;
    }
    case Obstacle::Kind::quota: copy.lift(*o.quota); break;
    case Obstacle::Kind::window: copy.drop_window(o.window); break;
  }
  (void)job;
}

struct Trial {
  bool starts = false;
  std::vector<JobId> before;  // who started or was promised something meanwhile
};

Trial try_without(const Planner& planner, const std::vector<JobId>& waiting, JobId job,
                  const std::vector<Obstacle>& gone, Instant now) {
  const auto copy = planner.sketch(waiting);
  for (const auto& o : gone) remove(*copy, o, job, now);
  const Decisions d = copy->plan(now);
  Trial trial;
  for (const auto& s : d.started) {
    if (s.job == job) trial.starts = true;
    if (s.job != job && !trial.starts) trial.before.push_back(s.job);
  }
  for (const auto& p : d.promised)
    if (p.job != job) trial.before.push_back(p.job);
  for (const auto& p : d.preempted)
    if (p.for_job != job) trial.before.push_back(p.for_job);
  return trial;
}

// What keeps one node from taking a part, if anything that can go would help.
std::optional<std::vector<Obstacle>> clear_node(const Planner& planner, const Need& need, int node,
                                                const Waiting& job, Instant now) {
  using Kind = Obstacle::Kind;
  const Nodes& nodes = planner.nodes();
  const Machine& m = nodes.at(node);
  if (need.could[ix(node)] == 0) return std::nullopt;
  std::vector<Obstacle> out;
  for (const Window& w : planner.windows())
    if (planner.keeps_out(w, node, job, now)) out.push_back({.kind = Kind::window, .window = w.name});
  if (!m.desc->open()) out.push_back({.kind = Kind::node, .node = node});
  Nodes::Room room = nodes.room_now(node, false);
  // Those that free most first, until it fits; broken devices only when all others do not do.
  auto occupants = m.occupants;
  std::ranges::sort(occupants, {}, [](const Occupant& o) {
    int gpus = 0;
    for (const auto g : o.part.gpus) gpus += g;
    return std::pair(-gpus, o.job);
  });
  for (const auto& o : occupants) {
    if (nodes.place(need, node, room)) return out;
    for (std::size_t g = 0; g < kGroups; ++g)
      room.gpus[g] = static_cast<std::int16_t>(room.gpus[g] + o.part.gpus[g]);
    room.cpus += o.cpus;
    room.memory_bytes += o.memory_bytes;
    out.push_back({.kind = Kind::running, .job = o.job});
  }
  if (nodes.place(need, node, room)) return out;
  out.push_back({.kind = Kind::broken, .node = node});
  for (std::size_t g = 0; g < m.desc->devices.size(); ++g) {
    const auto& group = m.desc->devices[g];
    room.gpus[std::min(g, kGroups - 1)] =
        static_cast<std::int16_t>(room.gpus[std::min(g, kGroups - 1)] + group.total - group.usable);
  }
  if (nodes.place(need, node, room)) return out;
  return std::nullopt;
}

// The nodes that need least to be done to.
std::vector<Obstacle> clear_nodes(const Planner& planner, const Waiting& job, Instant now) {
  const Nodes& nodes = planner.nodes();
  const Shape& shape = nodes.shape(job.what.shape);
  const auto level = shape.ask.topology.require;
  const bool anywhere = level == TopologyLevel::any || shape.ask.nodes == 1;
  std::vector<Obstacle> best;
  bool found = false;
  for (const int n : shape.needs) {
    std::map<int, std::vector<std::pair<std::size_t, std::vector<Obstacle>>>> in;
    for (int node = 0; node < nodes.size(); ++node) {
      auto of = clear_node(planner, nodes.need(n), node, job, now);
      if (!of) continue;
      const std::size_t cost = of->size();
      in[anywhere ? 0 : nodes.at(node).place[static_cast<std::size_t>(level) - 1]].emplace_back(
          cost, std::move(*of));
    }
    for (auto& [place, ways] : in) {
      const auto wanted = ix(shape.ask.fewest_nodes());
      if (ways.size() < wanted) continue;
      std::ranges::sort(ways, {}, [](const auto& w) { return w.first; });
      std::vector<Obstacle> all;
      for (std::size_t w = 0; w < wanted; ++w)
        for (auto& o : ways[w].second)
          if (std::ranges::find(all, o) == all.end()) all.push_back(o);
      if (!found || all.size() < best.size()) best = std::move(all);
      found = true;
    }
  }
  return best;
}

}  // namespace

// ---------------------------------------------------------------- nodes

NodeBlocker blocker_of(const Nodes& nodes, int node, const GangAsk& ask) {
  const Machine& m = nodes.at(node);
  const NodeDesc& desc = *m.desc;
  const Resources& r = ask.resources;
  if (desc.queue != ask.queue) return NodeBlocker::other_queue;
  if (std::ranges::find(ask.exclude_nodes, desc.name) != ask.exclude_nodes.end())
    return NodeBlocker::excluded;
  if (!std::ranges::all_of(ask.constraints, [&](const auto& c) { return satisfies(desc, c); }))
    return NodeBlocker::constraint;
  int total = 0, usable = 0, free = 0;
  for (std::size_t g = 0; g < desc.devices.size(); ++g) {
    const auto& group = desc.devices[g];
    const bool matches =
        r.gpu_kinds.empty()
            ? kind_matches(group, {})
            : std::ranges::any_of(r.gpu_kinds, [&](const auto& k) { return kind_matches(group, k); });
    if (!matches) continue;
    total += group.total;
    usable += group.usable;
    free += std::max(0, group.usable - (g < kGroups ? m.held[g] : 0));
  }
  if (total < r.gpus) return NodeBlocker::too_few_gpus;
  if (cpus_of(r) > desc.cpus || r.memory_bytes > desc.memory_bytes) return NodeBlocker::too_small;
  if (!desc.open()) return NodeBlocker::closed;
  if (usable < r.gpus) return NodeBlocker::gpus_out_of_order;
  if (free < r.gpus) return NodeBlocker::gpus_busy;
  if (cpus_of(r) > desc.cpus - m.cpus_held) return NodeBlocker::cpus_busy;
  if (r.memory_bytes > desc.memory_bytes - m.memory_held) return NodeBlocker::memory_busy;
  return NodeBlocker::none;
}

int closed_nodes(const Nodes& nodes, const GangAsk& ask, std::string_view why) {
  int n = 0;
  for (int node = 0; node < nodes.size(); ++node)
    if (nodes.at(node).desc->closed == why && blocker_of(nodes, node, ask) == NodeBlocker::closed) ++n;
  return n;
}

NodeCount count_nodes(const Planner& planner, const Waiting& job, Instant now) {
  const Nodes& nodes = planner.nodes();
  const Shape& shape = nodes.shape(job.what.shape);
  const auto level = shape.ask.topology.require;
  NodeCount out;
  std::map<int, std::pair<int, int>> near;  // ever, now
  for (int node = 0; node < nodes.size(); ++node) {
    NodeBlocker b = blocker_of(nodes, node, shape.ask);
    if (b == NodeBlocker::none)
      for (const Window& w : planner.windows())
        if (planner.keeps_out(w, node, job, now)) b = NodeBlocker::reserved;
    ++out.by[static_cast<std::size_t>(b)];
    if (b != NodeBlocker::other_queue) {
      int matching = 0;
      for (const auto& group : nodes.at(node).desc->devices)
        if (shape.ask.resources.gpu_kinds.empty() ||
            std::ranges::any_of(shape.ask.resources.gpu_kinds,
                                [&](const auto& k) { return kind_matches(group, k); }))
          matching += group.total;
      out.largest = std::max(out.largest, matching);
    }
    const bool ever = b != NodeBlocker::other_queue && b != NodeBlocker::excluded &&
                      b != NodeBlocker::constraint && b != NodeBlocker::too_few_gpus &&
                      b != NodeBlocker::too_small;
    out.ever += ever ? 1 : 0;
    if (level == TopologyLevel::any) continue;
    auto& [ever_there, now_there] = near[nodes.at(node).place[static_cast<std::size_t>(level) - 1]];
    out.ever_near = std::max(out.ever_near, ever_there += ever ? 1 : 0);
    out.now_near = std::max(out.now_near, now_there += b == NodeBlocker::none ? 1 : 0);
  }
  return out;
}

// ---------------------------------------------------------------- obstacles

bool starts_without(const Planner& planner, JobId job, const std::vector<Obstacle>& gone, Instant now) {
  return try_without(planner, ahead_of(planner, job, now), job, gone, now).starts;
}

namespace {

// Whatever can stay without harm is no obstacle. More room does not always help, since others may take it, so
// a small set is also searched for the smallest part of it that does.
void reduce(const Planner& planner, const std::vector<JobId>& waiting, JobId id, std::vector<Obstacle>& all,
            Instant now) {
  const auto starts = [&](const std::vector<Obstacle>& gone) {
    return try_without(planner, waiting, id, gone, now).starts;
  };
  for (bool smaller = true; smaller;) {
    smaller = false;
    for (std::size_t i = all.size(); i-- > 0;) {
      auto fewer = all;
      fewer.erase(fewer.begin() + static_cast<std::ptrdiff_t>(i));
      if (starts(fewer)) all = std::move(fewer), smaller = true;
    }
  }
  const std::size_t n = all.size();
  if (n > 8 || (std::size_t{1} << n) * static_cast<std::size_t>(planner.nodes().size()) > kSearched) return;
  for (int size = 0; size < static_cast<int>(n); ++size)
    for (std::uint32_t subset = 0; subset < 1U << n; ++subset) {
      if (std::popcount(subset) != size) continue;
      std::vector<Obstacle> some;
      for (std::size_t i = 0; i < n; ++i)
        if ((subset >> i & 1U) != 0) some.push_back(all[i]);
      if (!starts(some)) continue;
      all = std::move(some);
      return;
    }
}

}  // namespace

Obstacles obstacles(const Planner& planner, JobId id, Instant now) {
  Obstacles out;
  const auto job = planner.find_waiting(id);
  if (!job) return out;
  const auto waiting = ahead_of(planner, id, now);
  if (waiting.size() > kAhead) return out;
  const auto add = [&](Obstacle o) {
    if (std::ranges::find(out.all, o) != out.all.end()) return false;
    out.all.push_back(std::move(o));
    return true;
  };
  for (int round = 0;; ++round) {
    const Trial trial = try_without(planner, waiting, id, out.all, now);
    if (trial.starts) break;
    if (round == kMostRounds || out.all.size() > kMostTried) return out;
    bool more = false;
    const auto copy = planner.sketch(waiting);
    for (const auto& o : out.all) remove(*copy, o, id, now);
    if (const auto quota =
            copy->quota().blocks(job->what.kind.queue, job->what.project, copy->least_gpus(job->what)))
      more = add({.kind = Obstacle::Kind::quota, .quota = quota}) || more;
    if (!more)
      for (auto& o : clear_nodes(*copy, *job, now)) more = add(std::move(o)) || more;
    if (!more)
      for (const JobId other : copy->claimants())
        if (other != id) more = add({.kind = Obstacle::Kind::ahead, .job = other}) || more;
    if (!more)
      for (const JobId other : trial.before)
        more = add({.kind = Obstacle::Kind::ahead, .job = other}) || more;
    if (!more) return out;
  }
  if (out.all.size() > kMostTried) return out;
  reduce(planner, waiting, id, out.all, now);
  out.exact = true;
  return out;
}

// ---------------------------------------------------------------- what would help

namespace {

// The copy with this job instead of the one that waits.
bool starts_as(const Planner& planner, const std::vector<JobId>& waiting, const Waiting& instead,
               const GangAsk& ask, Instant now) {
  const auto copy = planner.sketch(waiting);
  copy->withdraw(instead.what.id);
  Waiting changed = instead;
  changed.what.shape = copy->intern(ask);
  changed.what.kind.gpus = ask.gpus();
  copy->enqueue(changed, now);
  return std::ranges::any_of(copy->plan(now).started,
                             [&](const Start& s) { return s.job == instead.what.id; });
}

}  // namespace

std::vector<Change> changes_that_help(const Planner& planner, JobId id, Instant now) {
  std::vector<Change> out;
  const auto found = planner.find_waiting(id);
  if (!found) return out;
  const Waiting& job = *found;
  const auto waiting = ahead_of(planner, id, now);
  const GangAsk ask = planner.nodes().shape(job.what.shape).ask;
  const auto starts = [&](const Waiting& w, const GangAsk& a) {
    return starts_as(planner, waiting, w, a, now);
  };
  for (int nodes = ask.nodes - 1, tries = 0; nodes >= 1 && tries < 16; ++tries) {
    GangAsk fewer = ask;
    fewer.nodes = nodes;
    fewer.min_nodes = std::min(fewer.min_nodes, nodes);
    if (starts(job, fewer)) {
      out.push_back({"nodes", std::to_string(nodes)});
      break;
    }
    nodes = tries < 8 ? nodes - 1 : nodes / 2;
  }
  for (int gpus = ask.resources.gpus - 1; gpus >= 1 && ask.nodes == 1; --gpus) {
    GangAsk fewer = ask;
    fewer.resources.gpus = gpus;
    if (!starts(job, fewer)) continue;
    out.push_back({"resources.gpus", std::to_string(gpus)});
    break;
  }
  if (ask.topology.require != TopologyLevel::any && ask.nodes > 1) {
    GangAsk wider = ask;
    wider.topology.require = TopologyLevel::any;
    if (starts(job, wider)) out.push_back({"topology.require", "any"});
  }
  for (const int minutes : {1440, 720, 360, 240, 120, 60, 30, 15}) {
    const Duration limit = std::chrono::minutes(minutes);
    if (limit >= left_of(job.what, job.attained)) continue;
    Waiting shorter = job;
    shorter.what.limit = limit;
    shorter.what.limit_per_run = true;
    if (!starts(shorter, ask)) continue;
    out.push_back({"time_limit",
                   minutes % 60 == 0 ? std::to_string(minutes / 60) + "h" : std::to_string(minutes) + "m"});
    break;
  }
  for (const int priority : {60, 70, 80, 89}) {
    if (priority <= job.what.priority) continue;
    Waiting higher = job;
    higher.what.priority = priority;
    if (!starts(higher, ask)) continue;
    out.push_back({"priority", std::to_string(priority)});
    break;
  }
  return out;
}

}  // namespace tutti::planner
