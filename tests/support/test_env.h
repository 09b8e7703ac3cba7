// A control plane in a test: nodes and jobs in one line each, virtual time, messages taken one by one. After
// every step the invariants of the control plane are asserted.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "scheduler/core/control_plane.h"

namespace tutti::testing {

using namespace std::chrono_literals;

// As the real text: specs that differ in what these tests let differ between equal names have texts that
// differ.
inline SpecText spec_text() {
  return {.parse = {}, .encode = [](const JobSpec& spec) {
            std::string text = spec.name + " of " + to_string(spec.scheduled_by);
            for (const auto& each : spec.depends_on) text += " after " + to_string(each.job);
            return text;
          }};
}

inline JobSpec job_spec(int nodes = 1, int gpus = 1, std::string name = "job") {
  JobSpec s;
  s.name = std::move(name);
  s.nodes = nodes;
  s.resources.gpus = gpus;
  s.procs_per_node = std::max(1, gpus);
  s.run = "true";
  s.checkpoint.dir = "/ckpt";
  s.retry.no_progress_limit = 0;
  return s;
}

class TestEnv {
 public:
  explicit TestEnv(ControlSettings settings = {}) : settings_(std::move(settings)) {
    snapshot_.queues = {{.name = "default", .nodes_of = ""}};
    snapshot_.projects = {{.name = "default", .parent = ""}};
    plane = std::make_unique<ControlPlane>(settings_, snapshot_, spec_text(), leases, now);
  }

  Now now{Instant(std::chrono::hours(24 * 365 * 50)), Mono(1h)};
  LeaseTable leases{LeaseSettings{}};
  std::unique_ptr<ControlPlane> plane;
  Batch rows;  // everything written since the last clear

  // Takes what the last step put out; asserts the invariants.
  void step() {
    Output out = plane->take_output();
    for (auto& e : out.effects) sent_.push_back(std::move(e));
    auto append = [](auto& to, auto& from) { to.insert(to.end(), from.begin(), from.end()); };
    append(rows.new_specs, out.batch.new_specs);
    append(rows.new_jobs, out.batch.new_jobs);
    append(rows.jobs, out.batch.jobs);
    append(rows.done, out.batch.done);
    append(rows.attempts, out.batch.attempts);
    append(rows.supplemented, out.batch.supplemented);
    append(rows.revised, out.batch.revised);
    append(rows.opened, out.batch.opened);
    append(rows.closed, out.batch.closed);
    append(rows.nodes, out.batch.nodes);
    append(rows.gpus, out.batch.gpus);
    append(rows.checkpoints, out.batch.checkpoints);
    append(rows.faults, out.batch.faults);
    for (const FaultId id : out.batch.withdrawn)
      std::ranges::find(rows.faults, id, &FaultRow::id)->shared_by = 0;
    append(rows.queues, out.batch.queues);
    append(rows.projects, out.batch.projects);
    append(rows.reservations, out.batch.reservations);
    append(rows.removed_queues, out.batch.removed_queues);
    append(rows.removed_reservations, out.batch.removed_reservations);
    append(rows.events, out.batch.events);
    std::string why;
    ASSERT_TRUE(plane->invariants_hold(&why)) << why;
  }
  // A new leader: what the rows say, and the leases that it holds itself.
  void recover() {
    Snapshot s = snapshot_;
    std::map<std::string, SpecPtr> specs;
    for (const auto& [id, job] : plane->jobs()) {
      s.jobs.push_back(job.row);
      s.specs.add(to_string(id));
      specs.emplace(to_string(id), job.spec);
    }
    for (const auto& [key, attempt] : plane->attempts()) s.attempts.push_back(attempt.row);
    for (const auto& [id, node] : plane->cluster().nodes) s.nodes.push_back(node.row);
    for (const auto& [id, gpu] : plane->cluster().gpus) s.gpus.push_back(gpu.row);
    for (const auto& row : rows.faults)
      if (row.shared_by > 0) s.blamed.push_back(row);
    std::map<AttemptKey, AttemptRow> attempts;
    for (const auto* list : {&rows.attempts, &rows.revised})
      for (const auto& a : *list) attempts[{a.job, a.epoch}] = a;
    for (const auto& [key, a] : attempts)  // the store gives the newest three
      if (a.result == AttemptResult::failed && plane->find_job(a.job) != nullptr)
        s.past_attempts.push_back(a);
    std::map<std::pair<JobId, std::string>, CheckpointRow> checkpoints;
    for (const auto& c : rows.checkpoints) checkpoints[{c.job, c.path}] = c;
    for (const auto& [where, c] : checkpoints)
      if (c.deleted_at == Instant{} && plane->find_job(c.job) != nullptr) s.checkpoints.push_back(c);
    if (!rows.new_specs.empty()) s.last_job = rows.new_specs.back().id;
    if (!s.nodes.empty()) s.last_node = s.nodes.back().id;
    if (!s.gpus.empty()) s.last_gpu = s.gpus.back().id;
    if (!rows.events.empty()) s.last_event = rows.events.back().id;
    if (!rows.faults.empty()) s.last_fault = rows.faults.back().id;
    SpecText text = spec_text();
    text.parse = [specs](std::string_view name) { return specs.at(std::string(name)); };
    plane = std::make_unique<ControlPlane>(settings_, s, text, leases, now);
    step();
  }
  void plan() {
    plane->plan(now);
    step();
  }
  void tick(Duration d) {
    now.wall += d;
    now.mono += d;
    plane->on_tick(now);
    step();
  }
  // Time passes while every node heartbeats.
  void tick_alive(Duration d, Duration grain = 500ms) {
    for (Duration t{}; t < d; t += grain) {
      for (const auto& [id, node] : plane->cluster().nodes)
        if (!silent.contains(id)) leases.renew(id, now.mono + grain);
      tick(grain);
    }
  }
  std::set<NodeId> silent;

  protocol::Hello hello(const std::string& name, int gpus = 8) const {
    protocol::Hello h;
    h.worker_version = "test";
    h.node = name;
    h.address = "10.0.0." + std::to_string(1 + plane->cluster().nodes.size());
    h.boot_id = "boot-1";
    h.cpus = 64;
    h.memory_bytes = 1LL << 40;
    h.kill_mode = "cgroup2";
    for (int i = 0; i < gpus; ++i) {
      protocol::GpuInfo g;
      g.uuid = "GPU-" + name + "-" + std::to_string(i);
      g.index = i;
      g.model = "NVIDIA H100 80GB HBM3";
      g.island = i / 4;
      h.gpus.push_back(g);
    }
    return h;
  }
  NodeId add_node(const std::string& name, int gpus = 8) { return register_node(hello(name, gpus)); }
  NodeId register_node(const protocol::Hello& h) {
    const NodeId id = plane->on_hello(now, h);
    step();
    take<protocol::Welcome>(id);
    return id;
  }

  Result<Submitted> try_submit(JobSpec spec, std::string key = "", std::uint64_t hash = 0) {
    SubmitRequest r;
    r.spec = std::make_shared<const JobSpec>(std::move(spec));
    r.owner = "ada";
    r.idempotency_key = std::move(key);
    r.body_hash = hash;
    auto result = plane->on_submit(now, r);
    step();
    return result;
  }
  JobId submit(JobSpec spec) {
    const JobId id = try_submit(std::move(spec)).value().id;
    plan();
    return id;
  }

  void status(NodeId node, AttemptKey key, protocol::Phase phase) {
    protocol::AttemptStatus s;
    s.key = key;
    s.phase = phase;
    if (phase == protocol::Phase::ready) s.agent_port = s.master_port = 4000;
    say(node, s);
  }
  void end(NodeId node, AttemptKey key, bool ok, bool proven = true) {
    protocol::AttemptStatus s;
    s.key = key;
    s.phase = protocol::Phase::ended;
    s.end = protocol::End{.ok = ok, .proven = proven, .how = proven ? "cgroup" : "still there"};
    say(node, s);
  }
  void fail(NodeId node, AttemptKey key, int rank, int exit_code, int signal = 0) {
    protocol::AttemptStatus s;
    s.key = key;
    s.phase = protocol::Phase::running;
    protocol::Failure f;
    f.kind = signal != 0 ? "signal" : "exit";
    f.rank = rank;
    f.exit_code = exit_code;
    f.signal = signal;
    f.detail = "it failed";
    s.failure = f;
    say(node, s);
  }
  void say(NodeId node, const protocol::AttemptStatus& s) {
    plane->on_attempt_status(now, node, s);
    plane->plan(now);
    step();
  }
  // Brings the newest attempt of a job up to `running` on all its nodes.
  AttemptKey run(JobId id) {
    const AttemptKey key = key_of(id);
    for (auto phase : {protocol::Phase::preparing, protocol::Phase::ready, protocol::Phase::running})
      for (NodeId n : nodes_of(key)) status(n, key, phase);
    sent_.clear();
    return key;
  }
  AttemptKey key_of(JobId id) const { return {id, plane->find_job(id)->row.epoch}; }
  std::vector<NodeId> nodes_of(AttemptKey key) const {
    std::vector<NodeId> out;
    for (const auto& m : plane->find_attempt(key)->row.gang) out.push_back(m.node);
    return out;
  }
  JobState state(JobId id) const {
    const Job* job = plane->find_job(id);
    if (job != nullptr) return job->row.state;
    for (auto it = rows.done.rbegin(); it != rows.done.rend(); ++it)
      if (it->row.job.id == id) return it->row.job.state;
    ADD_FAILURE() << "no job " << id.value;
    return JobState::failed;
  }

  // The oldest message to `to`; it must be an M.
  template <class M>
  M take(NodeId to) {
    for (auto it = sent_.begin(); it != sent_.end(); ++it) {
      if (it->to != to) continue;
      M* message = std::get_if<M>(&it->message);
      EXPECT_NE(message, nullptr) << "another message to node " << to.value << ": alternative "
                                  << it->message.index();
      M out = message == nullptr ? M{} : *message;
      sent_.erase(it);
      return out;
    }
    ADD_FAILURE() << "no message to node " << to.value;
    return {};
  }
  template <class M>
  std::size_t count() const {
    std::size_t n = 0;
    for (const auto& e : sent_) n += std::holds_alternative<M>(e.message) && !e.disconnect;
    return n;
  }
  void expect_nothing_left() const { EXPECT_TRUE(sent_.empty()) << sent_.size() << " messages left"; }
  void drop_messages() { sent_.clear(); }

 private:
  ControlSettings settings_;
  Snapshot snapshot_;
  std::deque<Effect> sent_;
};

}  // namespace tutti::testing
