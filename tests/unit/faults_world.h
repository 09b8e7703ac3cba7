// A cluster in virtual time whose GPUs break: how faults are told, and what was made of them. Shared by the
// control_fault*_test.cpp.
#pragma once

#include <algorithm>
#include <iterator>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/test_env.h"

namespace tutti::testing {

/// Settings with a fault table of this one row; the rest is only watched.
inline ControlSettings with_rule(const std::string& row) {
  auto table = FaultTable::parse(
      "# version test\nfault,job,gpu,scope,blame,weight,mode,meaning\n"
      "xid:*,none,watch,gpu,unknown,0.2,on,unknown\n*,none,watch,gpu,unknown,0.1,on,unknown\n" +
      row + "\n");
  ControlSettings settings;
  settings.faults = std::make_shared<const FaultTable>(*std::move(table));
  return settings;
}

struct World {
  explicit World(ControlSettings settings = {}) : env(std::move(settings)) {}
  TestEnv env;

  void xid(NodeId node, const std::string& uuid, int n, Duration age = {}) {
    env.plane->on_gpu_fault(env.now, node,
                            {.uuid = uuid, .kind = "xid", .xid = n, .age_us = age.count(), .detail = ""});
    env.step();
  }
  // What the worker says of its GPUs, of those in `broken` that they are.
  void inventory(NodeId node, const std::string& name, const std::map<int, std::string>& broken = {}) {
    protocol::GpuInventory all{.driver = "", .simulated_gpus = false, .gpus = env.hello(name, 8).gpus};
    for (const auto& [index, reason] : broken) {
      auto& gpu = all.gpus.at(static_cast<std::size_t>(index));
      gpu.healthy = false;
      gpu.health_reason = reason;
    }
    env.plane->on_gpu_inventory(env.now, node, all);
    env.step();
  }
  // A worker remembers a fatal fault until the reset, and has said so.
  void reset(NodeId node, const std::string& name) {
    std::map<int, std::string> broken;
    for (const GpuId id : env.plane->cluster().find(node)->gpus)
      if (const GpuRow& gpu = env.plane->cluster().gpus.at(id).row; gpu.health == GpuHealth::quarantined)
        broken[gpu.index] = gpu.health_reason;
    inventory(node, name, broken);
    env.register_node(env.hello(name, 8));
  }
  const FaultRow& last_fault() const { return env.rows.faults.back(); }
  GpuHealth health(const std::string& uuid) const { return env.plane->cluster().find_gpu(uuid)->row.health; }
  NodeService service(NodeId n) const { return env.plane->cluster().find(n)->row.service; }
  // A failure with words.
  void crash(NodeId node, AttemptKey key, int signal, const std::string& words) {
    protocol::AttemptStatus s;
    s.key = key;
    s.phase = protocol::Phase::running;
    s.failure = protocol::Failure{
        .kind = "signal", .rank = 0, .signal = signal, .detail = "crashed", .last_lines = words};
    env.say(node, s);
  }
  std::vector<EventRow> events(const std::string& kind) const {
    std::vector<EventRow> out;
    std::ranges::copy_if(env.rows.events, std::back_inserter(out),
                         [&](const EventRow& e) { return e.kind == kind; });
    return out;
  }
  const AttemptRow& ended() const { return env.rows.attempts.back(); }
};

}  // namespace tutti::testing
