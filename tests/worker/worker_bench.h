// The worker's decisions, driven by hand: a Bench feeds events, takes actions and plays the shell's part
// (scans answered at once, supervisors end when told to quit).
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "worker/core/worker_core.h"

namespace tutti::worker {

using namespace protocol;  // NOLINT
using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::HasSubstr;

inline bool fatal(std::string_view kind, std::int32_t xid) {
  return kind == "gpu_lost" || kind == "reset_required" || (kind == "xid" && xid == 79);
}

inline const AttemptKey kFirst{JobId(7), Epoch(1)};
inline const AttemptKey kSecond{JobId(7), Epoch(2)};
inline const AttemptKey kOther{JobId(8), Epoch(1)};

struct Bench {
  Bench() : Bench(CoreSettings()) {}
  explicit Bench(CoreSettings s) : core(make(std::move(s))) {}
  static WorkerCore make(CoreSettings s) {
    s.fatal = &fatal;
    s.self.node = "n1";
    return WorkerCore(std::move(s));
  }

  Now now{Instant(seconds(1'000'000)), Mono(seconds(100))};
  WorkerCore core;
  std::vector<Action> actions;

  void collect() {
    for (auto& a : core.take_actions()) actions.push_back(std::move(a));
  }
  template <class T>
  std::vector<T> take() {
    collect();
    std::vector<T> out;
    for (auto it = actions.begin(); it != actions.end();)
      if (auto* t = std::get_if<T>(&*it)) {
        out.push_back(std::move(*t));
        it = actions.erase(it);
      } else {
        ++it;
      }
    return out;
  }
  template <class T>
  std::vector<T> sent() {
    collect();
    std::vector<T> out;
    for (auto it = actions.begin(); it != actions.end();) {
      auto* s = std::get_if<Send>(&*it);
      if (s && std::holds_alternative<T>(s->message)) {
        out.push_back(std::get<T>(std::move(s->message)));
        it = actions.erase(it);
      } else {
        ++it;
      }
    }
    return out;
  }
  AttemptStatus last_status() {
    auto all = sent<AttemptStatus>();
    EXPECT_FALSE(all.empty()) << "no status was sent";
    return all.empty() ? AttemptStatus() : all.back();
  }

  void connect(std::vector<AttemptKey> keep = {}) {
    core.on_connected(now);
    core.on_welcome(now, Welcome{1, 6'000'000, 1'000'000, std::move(keep), {}});
  }
  void gpus(int n) {
    nvml::Inventory m;
    m.driver = "550";
    m.simulated = true;
    for (int i = 0; i < n; ++i) {
      nvml::GpuInfo g;
      g.index = static_cast<unsigned>(i);
      g.uuid = "GPU-" + std::to_string(i);
      g.pci = "0000:0" + std::to_string(i) + ":00";
      g.device_path = "/dev/sim" + std::to_string(i);
      m.gpus.push_back(g);
    }
    core.on_probe(now, m);
  }
  static Prepare prepare(AttemptKey key, std::vector<std::string> uuids = {}, int ranks = 2) {
    Prepare p;
    p.key = key;
    p.gang = {{"n1", "127.0.0.1", 0, ranks}};
    p.gpu_uuids = std::move(uuids);
    return p;
  }
  static ParsedSpec spec() { return {std::make_shared<JobSpec>(), ""}; }
  void start(AttemptKey key, std::vector<std::string> uuids = {}, int ranks = 2) {
    core.on_prepare(now, prepare(key, std::move(uuids), ranks), spec());
    status(key, Phase::ready, true);
    Launch l;
    l.key = key;
    l.endpoints.resize(1);
    core.on_launch(now, l);
    status(key, Phase::running);
  }
  void status(AttemptKey key, Phase phase, bool first = false) {
    supervisor::Status s;
    s.phase = phase;
    core.on_supervisor_status(now, key, s, first);
  }
  void end(AttemptKey key, bool ok, bool proven = true, std::optional<Failure> f = {}) {
    supervisor::Status s;
    s.phase = Phase::ended;
    s.end = End{ok, proven, proven ? "cgroup" : "two processes live", 5};
    s.failure = std::move(f);
    core.on_supervisor_status(now, key, s, false);
  }
  // The shell's part at the end of an attempt.
  void settle(AttemptKey key) {
    core.on_final_scan(now, key);
    core.on_supervisor_gone(now, key);
  }
  void advance(Duration d) {
    now.mono += d;
    now.wall += d;
    core.on_tick(now);
  }
};

}  // namespace tutti::worker
