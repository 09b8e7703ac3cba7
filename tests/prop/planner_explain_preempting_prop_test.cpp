// Explain under policies that preempt, with victims that have not stopped yet and jobs under the guard. What
// it says is tried out on a copy of the whole state, not on the part of it that explain looks at.
#include <gtest/gtest.h>

#include <rapidcheck/gtest.h>

#include <algorithm>

#include "scheduler/planner/explain.h"
#include "tests/prop/planner_world.h"

namespace tutti::planner {
namespace {

void remove(Planner& copy, const Obstacle& o, Instant now) {
  NodeDesc desc;
  if (o.node >= 0) desc = *copy.nodes().at(o.node).desc;
  switch (o.kind) {
    case Obstacle::Kind::running: copy.stopped(o.job, now); return;
    case Obstacle::Kind::ahead: copy.withdraw(o.job); return;
    case Obstacle::Kind::quota: copy.lift(*o.quota); return;
    case Obstacle::Kind::window: copy.drop_window(o.window); return;
    case Obstacle::Kind::node: desc.closed.clear(); break;
    case Obstacle::Kind::broken:
      for (auto& group : desc.devices) group.usable = group.total;
  }
  copy.put_node(desc);
}

// With all that wait.
bool starts(const World& world, JobId job, const std::vector<Obstacle>& gone) {
  const auto copy = world.planner.sketch({world.waiting.begin(), world.waiting.end()});
  for (const auto& o : gone) remove(*copy, o, world.now);
  const Decisions d = copy->plan(world.now);
  return std::ranges::find(d.started, job, &Start::job) != d.started.end();
}

std::string text(const World& world, JobId id, const Obstacles& found) {
  const auto& w = *world.planner.find_waiting(id);
  std::string out = "job " + to_string(id) + " x" + std::to_string(world.asks.at(id).nodes) + " prio " +
                    std::to_string(w.what.priority) + (found.exact ? " exact" : " not exact") + ", found:";
  for (const auto& o : found.all)
    out += " " + std::to_string(static_cast<int>(o.kind)) + ":" + to_string(o.job) + "/" +
           std::to_string(o.node);
  out += "; claimants:";
  for (const JobId c : world.planner.claimants()) out += " " + to_string(c);
  out += "; waiting:";
  for (const JobId c : world.waiting)
    out += " " + to_string(c) + "(" +
           std::to_string(
               static_cast<int>(to_seconds(world.now - world.planner.find_waiting(c)->since) / 3600)) +
           "h)";
  out += "; order:";
  for (const JobId c : world.planner.first("q", 1000)) out += " " + to_string(c);
  out += "; running:";
  for (const auto& [c, parts] : world.running) {
    out += " " + to_string(c) + (world.leaving.contains(c) ? "(leaves)" : "") + "@";
    for (const auto& part : parts)
      out += "n" + std::to_string(part.node) + "x" + std::to_string(part.gpus[0]);
  }
  return out;
}

void check_explain(World& world) {
  for (int n = *inRange(5, 60); n > 0; --n) world.step();
  world.plan();
  world.plan();
  for (const JobId id : std::vector(world.waiting.begin(), world.waiting.end())) {
    if (std::ranges::count(world.planner.claimants(), id) > 0) continue;
    const Obstacles found = obstacles(world.planner, id, world.now);
    const bool possible = world.planner.could_ever(world.planner.find_waiting(id)->what.shape);
    if (found.exact != possible) RC_FAIL(text(world, id, found));
    if (!found.exact) continue;
    if (!starts(world, id, found.all)) RC_FAIL("does not start: " + text(world, id, found));
    const std::size_t n = found.all.size();
    if (n > 6) continue;
    for (std::size_t subset = 0; subset + 1 < (std::size_t{1} << n); ++subset) {
      std::vector<Obstacle> some;
      for (std::size_t i = 0; i < n; ++i)
        if ((subset >> i & 1) != 0) some.push_back(found.all[i]);
      if (starts(world, id, some)) RC_FAIL("not all are needed: " + text(world, id, found));
    }
  }
}

RC_GTEST_PROP(ExplainPreempting, A, ()) {
  World world(*rc::gen::element("checkpoint", "las"));
  check_explain(world);
}
RC_GTEST_PROP(ExplainPreempting, B, ()) {
  World world(*rc::gen::element("checkpoint", "las"));
  world.victims_linger = true;
  check_explain(world);
}
RC_GTEST_PROP(ExplainPreempting, C, ()) {
  World world(*rc::gen::element("checkpoint", "las"));
  world.longest_pause = 100'000;
  check_explain(world);
}
RC_GTEST_PROP(ExplainPreempting, D, ()) {
  World world(*rc::gen::element("fair"));
  world.longest_pause = 300'000;
  check_explain(world);
}

}  // namespace
}  // namespace tutti::planner
