// A small cluster with a history, for property tests: everything that may happen to a planner, in any order.
// What it starts is counted by hand, so that nothing is given twice.
#pragma once

#include <rapidcheck/gtest.h>

#include <map>
#include <set>
#include <string>
#include <vector>

#include "scheduler/planner/planner.h"

namespace tutti::planner {

using namespace std::chrono_literals;
using rc::gen::inRange;

inline bool dice(int percent) { return *inRange(0, 100) < percent; }
inline Instant begin() { return Instant(std::chrono::hours(24 * 365 * 50)); }

// A small cluster with a history: everything that may happen to a planner, in any order.
class World {
 public:
  explicit World(std::string_view policy) : planner(*find_policy(policy)) {
    planner.set_queue(0, "q", share(0));
    planner.set_queue(1, "q", share(1));
    planner.set_project(0, -1, 1, -1);
    planner.set_project(1, -1, 2, dice(30) ? *inRange(0, 20) : -1);
    const int nodes = *inRange(1, 5);
    for (int n = 0; n < nodes; ++n) {
      NodeDesc desc;
      desc.id = NodeId(n + 1);
      desc.name = "n" + std::to_string(n + 1);
      desc.queue = "q";
      const int gpus = *inRange(1, 5);
      desc.devices = {{.model = dice(70) ? "H100" : "A100",
                       .total = gpus,
                       .usable = dice(90) ? gpus : *inRange(0, gpus)}};
      desc.cpus = *inRange(2, 9);
      desc.memory_bytes = 100;
      desc.labels["topology.rack"] = dice(50) ? "a" : "b";
      if (dice(15)) desc.closed = "not_reachable";
      descs.push_back(desc);
      planner.put_node(desc);
    }
    if (dice(20))
      planner.set_windows(
          {{.name = "w", .from = now + 1h, .until = now + 5h, .nodes = {0}, .projects = {1}}});
  }

  static QueueShare share(int which) {
    if (!dice(40)) return {};
    QueueShare s;
    s.quota = *inRange(0, 9);
    if (dice(50)) s.borrow = *inRange(0, 9);
    if (dice(50)) s.lend = *inRange(0, s.quota + 1);
    (void)which;
    return s;
  }
  PlanJob any_job() {
    GangAsk ask;
    ask.queue = "q";
    ask.nodes = *inRange(1, 4);
    ask.resources.gpus = *inRange(0, 4);
    ask.resources.cpus = *inRange(0, 3);
    if (dice(30)) ask.resources.gpu_kinds = {{.model = dice(50) ? "H100" : "A100"}};
    if (dice(20)) ask.topology.require = TopologyLevel::rack;
    PlanJob job;
    job.id = JobId(++last);
    job.kind = {*inRange(0, 3), *inRange(0, 2), ask.gpus()};
    job.project = *inRange(0, 2);
    job.shape = planner.intern(ask);
    job.priority = dice(80) ? 50 : *inRange(0, 101);
    job.submitted = now;
    job.preemptible = dice(80);
    if (all_have_limits || !dice(15)) job.limit = *inRange(1, 300) * 1min;
    asks[job.id] = ask;
    return job;
  }
  // Starts are counted by hand; victims stop at once, or some steps later.
  void plan() {
    const Decisions d = planner.plan(now);
    for (const auto& s : d.started) {
      RC_ASSERT(waiting.erase(s.job) == 1u);
      running[s.job] = s.parts;
    }
    check();
    for (const auto& p : d.preempted) {
      RC_ASSERT(running.contains(p.victim));
      RC_ASSERT(planner.running().at(p.victim).what.preemptible);
      RC_ASSERT(leaving.insert(p.victim).second);
      if (!victims_linger) stop(p.victim);
    }
  }
  void stop(JobId victim) {
    leaving.erase(victim);
    running.erase(victim);
    planner.enqueue(*planner.stopped(victim, now), now);
    waiting.insert(victim);
  }
  void check() const {
    std::map<int, int> gpus, cpus;
    for (const auto& [id, parts] : running) {
      const GangAsk& ask = asks.at(id);
      RC_ASSERT(static_cast<int>(parts.size()) == ask.nodes);
      std::set<int> distinct;
      std::set<std::string> racks, models;
      for (const auto& part : parts) {
        const NodeDesc& desc = *planner.nodes().at(part.node).desc;
        RC_ASSERT(distinct.insert(part.node).second);
        racks.insert(desc.labels.at("topology.rack"));
        RC_ASSERT(part.gpus[0] == ask.resources.gpus);
        gpus[part.node] += part.gpus[0];
        cpus[part.node] += cpus_of(ask.resources);
        if (!ask.resources.gpu_kinds.empty() && ask.resources.gpus > 0)
          RC_ASSERT(desc.devices[0].model == ask.resources.gpu_kinds[0].model);
      }
      if (ask.topology.require == TopologyLevel::rack) RC_ASSERT(racks.size() == 1u);
    }
    for (const auto& [node, used] : gpus) RC_ASSERT(used <= planner.nodes().at(node).desc->devices[0].usable);
    for (const auto& [node, used] : cpus) RC_ASSERT(used <= planner.nodes().at(node).desc->cpus);
  }
  void step() {
    switch (*inRange(0, 8)) {
      case 0:
      case 1:
      case 2: {
        const PlanJob job = any_job();
        waiting.insert(job.id);
        planner.submit(job, now);
        break;
      }
      case 3:
      case 4:
        if (!running.empty()) {
          const auto job = std::next(
              running.begin(), *inRange<std::ptrdiff_t>(0, static_cast<std::ptrdiff_t>(running.size())));
          planner.ended(job->first, now);
          leaving.erase(job->first);
          running.erase(job);
        }
        break;
      case 5:
        if (!waiting.empty()) {
          const JobId id = *waiting.begin();
          RC_ASSERT(planner.withdraw(id));
          waiting.erase(id);
        }
        break;
      case 6: {
        auto& desc = descs[static_cast<std::size_t>(*inRange(0, static_cast<int>(descs.size())))];
        desc.closed = desc.closed.empty() && dice(50) ? "not_schedulable" : "";
        planner.put_node(desc);
        break;
      }
      default: now += *inRange(1, longest_pause) * 1s;
    }
    if (!leaving.empty() && dice(30)) stop(*leaving.begin());
    if (dice(70)) plan();
  }

  Planner planner;
  Instant now = begin();
  std::vector<NodeDesc> descs;
  std::map<JobId, GangAsk> asks;
  std::map<JobId, Parts> running;
  std::set<JobId> waiting;
  std::set<JobId> leaving;  // have been asked to, and still run
  std::int64_t last = 0;
  bool all_have_limits = false;
  bool victims_linger = false;
  int longest_pause = 4000;  // seconds
};

}  // namespace tutti::planner
