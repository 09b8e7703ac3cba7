// Explain is exact, quotas hold, planning bit by bit equals planning from scratch, and the planner agrees
// with a slow and obvious one: for any small state.
#include <gtest/gtest.h>

#include <rapidcheck/gtest.h>

#include <algorithm>
#include <map>

#include "scheduler/planner/explain.h"
#include "scheduler/planner/planner.h"
#include "tests/prop/planner_world.h"

namespace tutti::planner {
namespace {

const char* any_policy() { return *rc::gen::element("fair", "checkpoint", "las", "easy", "fifo"); }

RC_GTEST_PROP(PlannerWorld, GangsAreWholeAndNothingIsGivenTwiceWhateverHappens, ()) {
  World world(any_policy());
  for (int n = *inRange(1, 60); n > 0; --n) world.step();
  world.plan();
}

// A start may not break a quota; lowering one below its use is another matter.
RC_GTEST_PROP(PlannerWorld, NoStartBreaksAQuota, ()) {
  World world(any_policy());
  std::map<int, int> held;
  for (int n = *inRange(1, 60); n > 0; --n) {
    const auto before = world.running;
    world.step();
    bool started = false;
    for (const auto& [id, parts] : world.running) started = started || !before.contains(id);
    if (!started) continue;
    for (int queue = 0; queue < 2; ++queue)
      RC_ASSERT(!world.planner.quota().blocks(queue, -1, 0).has_value());
    for (int queue = 0; queue < 2; ++queue) {
      int used = 0;
      for (const auto& [id, r] : world.planner.running())
        if (r.what.kind.queue == queue) used += r.what.kind.gpus;
      RC_ASSERT(used == world.planner.quota().used_by_queue(queue));
    }
  }
}

// What explain names is all of it and nothing more: the job starts when it is gone, and not while any part of
// it stays.
RC_GTEST_PROP(Explain, NamesExactlyWhatIsInTheWay, ()) {
  World world(*rc::gen::element("fair", "easy"));
  for (int n = *inRange(5, 60); n > 0; --n) world.step();
  world.plan();
  world.plan();
  if (!world.waiting.empty()) {
    const JobId id =
        *std::next(world.waiting.begin(),
                   *inRange<std::ptrdiff_t>(0, static_cast<std::ptrdiff_t>(world.waiting.size())));
    const Obstacles found = obstacles(world.planner, id, world.now);
    const bool possible = world.planner.could_ever(world.planner.find_waiting(id)->what.shape);
    RC_TAG(found.exact ? "exact" : possible ? "not exact" : "impossible");
    if (found.exact != possible) {
      const auto w = *world.planner.find_waiting(id);
      std::string text = "job " + to_string(id) + " x" + std::to_string(world.asks.at(id).nodes) + " prio " +
                         std::to_string(w.what.priority) + " limit " +
                         std::to_string(w.what.limit.count() / 60000000) + " proj " +
                         std::to_string(w.what.project) + " found:";
      for (const auto& o : found.all)
        text += " " + std::to_string(static_cast<int>(o.kind)) + ":" + to_string(o.job) + "/" +
                std::to_string(o.node);
      RC_FAIL(text);
    }
    if (!found.exact) return;
    RC_ASSERT(!found.all.empty() || starts_without(world.planner, id, {}, world.now));
    RC_ASSERT(starts_without(world.planner, id, found.all, world.now));
    const std::size_t n = found.all.size();
    if (n > 6) return;
    for (std::size_t subset = 0; subset + 1 < (std::size_t{1} << n); ++subset) {
      std::vector<Obstacle> some;
      for (std::size_t i = 0; i < n; ++i)
        if ((subset >> i & 1) != 0) some.push_back(found.all[i]);
      RC_ASSERT(!starts_without(world.planner, id, some, world.now));
    }
  }
}

RC_GTEST_PROP(Explain, WhatWouldHelpHelps, ()) {
  World world("easy");
  for (int n = *inRange(5, 60); n > 0; --n) world.step();
  world.plan();
  for (const JobId id : world.waiting)
    for (const auto& change : changes_that_help(world.planner, id, world.now)) {
      if (change.field != "nodes") continue;
      const Waiting job = *world.planner.find_waiting(id);
      GangAsk ask = world.planner.nodes().shape(job.what.shape).ask;
      RC_ASSERT(std::stoi(change.to) < ask.nodes);
      ask.nodes = std::stoi(change.to);
      auto copy = world.planner.sketch(world.planner.first("q", 100));
      copy->withdraw(id);
      Waiting smaller = job;
      smaller.what.shape = copy->intern(ask);
      smaller.what.kind.gpus = ask.gpus();
      copy->enqueue(smaller, world.now);
      const auto d = copy->plan(world.now);
      RC_ASSERT(std::ranges::find(d.started, id, &Start::job) != d.started.end());
      return;
    }
}

// A planner that is told the state decides as the one that has lived through it.
RC_GTEST_PROP(PlannerWorld, PlanningBitByBitEqualsPlanningFromScratch, ()) {
  World world("easy");
  world.all_have_limits = true;  // where there is none, ends are estimates that depend on when one looks
  for (int n = *inRange(1, 60); n > 0; --n) world.step();
  world.now += 2min;
  RC_PRE(world.planner.claimants().empty());  // kept in memory only
  Planner fresh(*find_policy("easy"));
  for (int queue = 0; queue < 2; ++queue) fresh.set_queue(queue, "q", world.planner.quota().share(queue));
  fresh.set_project(0, -1, 1, -1);
  fresh.set_project(1, -1, 2, world.planner.quota().max_of_project(1));
  for (const auto& desc : world.descs) fresh.put_node(desc);
  fresh.set_windows(world.planner.windows());
  const auto shape_in = [&](PlanJob job) {
    job.shape = fresh.intern(world.asks.at(job.id));
    return job;
  };
  for (const auto& [id, r] : world.planner.running())
    fresh.adopt(shape_in(r.what), r.parts, r.since, r.rank_at, r.attained);
  for (const JobId id : world.waiting) {
    Waiting w = *world.planner.find_waiting(id);
    w.what = shape_in(w.what);
    fresh.enqueue(w, w.since);
  }
  const auto starts = [](const Decisions& d) {
    std::vector<JobId> out;
    for (const auto& s : d.started) out.push_back(s.job);
    return out;
  };
  const Decisions a = world.planner.plan(world.now), b = fresh.plan(world.now);
  RC_ASSERT(starts(a) == starts(b));
  RC_ASSERT(a.promised.size() == b.promised.size());
  for (std::size_t i = 0; i < a.promised.size(); ++i) {
    RC_ASSERT(a.promised[i].job == b.promised[i].job);
    RC_ASSERT(a.promised[i].at == b.promised[i].at);
  }
}

// First come, first served on small states by loops over everything: who starts now.
std::vector<JobId> slow_fifo(const World& world) {
  std::vector<JobId> out;
  std::map<int, int> gpus, cpus;
  for (const auto& [id, parts] : world.running)
    for (const auto& part : parts) {
      gpus[part.node] += part.gpus[0];
      cpus[part.node] += cpus_of(world.asks.at(id).resources);
    }
  std::vector<Waiting> order;
  for (const JobId id : world.waiting) order.push_back(*world.planner.find_waiting(id));
  std::ranges::sort(order, {}, [](const Waiting& w) {
    return std::tuple(band_of(w.what.priority), -w.what.priority, w.rank_at, w.what.id);
  });
  for (const Waiting& w : order) {
    const GangAsk& ask = world.asks.at(w.what.id);
    std::map<std::string, std::vector<std::tuple<int, int>>> fits;  // by rack: (free, node)
    for (int n = 0; n < static_cast<int>(world.descs.size()); ++n) {
      const NodeDesc& desc = world.descs[static_cast<std::size_t>(n)];
      const int free = desc.devices[0].usable - gpus[n];
      const bool kind = ask.resources.gpu_kinds.empty() || ask.resources.gpus == 0 ||
                        desc.devices[0].model == ask.resources.gpu_kinds[0].model;
      if (!desc.closed.empty() || !kind || free < ask.resources.gpus ||
          desc.cpus - cpus[n] < cpus_of(ask.resources))
        continue;
      fits[ask.topology.require == TopologyLevel::rack && ask.nodes > 1 ? desc.labels.at("topology.rack")
                                                                        : ""]
          .emplace_back(free, n);
    }
    const bool can = std::ranges::any_of(
        fits, [&](const auto& f) { return static_cast<int>(f.second.size()) >= ask.nodes; });
    if (!can) return out;  // nobody passes it
    out.push_back(w.what.id);
    return out;  // which nodes it takes decides about the next: one at a time
  }
  return out;
}

RC_GTEST_PROP(PlannerWorld, TheFirstToStartIsTheOneThatLoopsOverEverythingFind, ()) {
  World world("fifo");
  for (int queue = 0; queue < 2; ++queue) world.planner.set_queue(queue, "q");
  world.planner.set_project(1, -1, 1, -1);
  world.planner.set_windows({});
  for (int n = *inRange(1, 40); n > 0; --n) world.step();
  RC_PRE(world.planner.claimants().empty());
  const auto expected = slow_fifo(world);
  const Decisions d = world.planner.plan(world.now);
  RC_PRE(d.preempted.empty());
  RC_ASSERT(d.started.empty() == expected.empty());
  if (!expected.empty()) RC_ASSERT(d.started.front().job == expected.front());
}

}  // namespace
}  // namespace tutti::planner
