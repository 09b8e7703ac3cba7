// Rows that are full: every column has a value of its own, every text the characters that break quoting.
#pragma once

#include <string>

#include "scheduler/model/rows.h"

namespace tutti::test {

inline constexpr const char* kNastyText = "'\"\\ {a,b} NULL $1 ;--\n\t\r%s E'\\\\' ü 漢 \xF0\x9F\x8E\xBB";

inline Instant at(std::int64_t seconds) { return Instant(std::chrono::seconds(1'790'000'000 + seconds)); }

inline SpecRow spec(std::int64_t id, JobState initial = JobState::queued) {
  SpecRow s;
  s.id = JobId(id);
  s.owner = "ann";
  s.name = "job-" + std::to_string(id);
  s.spec_json = R"({"name":"x"})";
  s.created_at = at(id);
  s.initial_state = initial;
  return s;
}

inline JobRow job(std::int64_t id) {
  JobRow j;
  j.id = JobId(id);
  j.queue = j.project = "default";
  j.owner = "ann";
  j.created_at = j.queued_at = at(id);
  return j;
}

inline JobRow full_job(std::int64_t id) {
  JobRow j = job(id);
  j.version = 7;
  j.state = JobState::stopping;
  j.cause = Cause::fabric;
  j.priority = 99;
  j.front = true;
  j.queue = std::string("q") + kNastyText;
  j.project = std::string("p") + kNastyText;
  j.owner = std::string("o") + kNastyText;
  j.nodes = 4;
  j.gpus_per_node = 8;
  j.created_at = at(1) + Duration(1);
  j.queued_at = at(2) + Duration(999'999);
  j.not_before = at(3);
  j.epoch = Epoch(5'000'000'000);
  j.attempt = 3;
  for (std::size_t i = 0; i < kCauseCount; ++i) j.spent.set(i, static_cast<std::int16_t>(i * 100 - 50));
  j.no_progress = 2;
  j.best_step = 123'456'789'012;
  j.hardware_window_at = at(4);
  j.ran = std::chrono::seconds(77);
  j.reason = kNastyText;
  return j;
}

inline AttemptRow attempt(std::int64_t job, std::int64_t epoch) {
  AttemptRow a;
  a.job = JobId(job);
  a.epoch = Epoch(epoch);
  a.placed_at = at(10);
  return a;
}

inline AttemptRow full_attempt(std::int64_t job, std::int64_t epoch) {
  AttemptRow a = attempt(job, epoch);
  a.number = 2;
  a.state = AttemptState::stopping;
  a.cause = Cause::gpu;
  a.detail = kNastyText;
  a.evidence_json = R"([{"xid":79,"text":"\"quoted\""}])";
  for (int n = 1; n <= 2; ++n) {
    GangMember m;
    m.node = NodeId(n);
    m.node_name = kNastyText;
    m.gpus = {GpuId(n * 10), GpuId(n * 10 + 1)};
    m.first_rank = n * 2;
    m.ranks = 2;
    m.state = MemberState::ready;
    m.address = "10.0.0.1";
    m.agent_port = 4001;
    m.master_port = 29500;
    m.ok = n == 1;
    m.exit_code = 3;
    m.signal = 9;
    m.how = kNastyText;
    a.gang.push_back(m);
  }
  a.resume_path = kNastyText;
  a.resume_step = 5;
  a.last_step = 17;
  a.exit_code = 137;
  a.preflight_at = at(11);
  a.starting_at = at(12);
  a.running_at = at(13);
  a.restored_at = at(14);
  a.caught_up_at = at(14);
  a.signature = kNastyText;
  a.lost_gpu = Duration(123'456'789'012);
  a.continue_for = Duration(600'000'000);
  a.witness = NodeId(3);
  a.fault_at = at(14);
  a.stopping_at = at(15);
  return a;
}

inline NodeRow node(std::int64_t id) {
  NodeRow n;
  n.id = NodeId(id);
  n.name = "n" + std::to_string(id);
  return n;
}

inline NodeRow full_node(std::int64_t id) {
  NodeRow n = node(id);
  n.name = kNastyText + std::to_string(id);
  n.queue = kNastyText;
  n.address = kNastyText;
  n.boot_id = kNastyText;
  n.worker_version = kNastyText;
  n.state = NodeState::unreachable;
  n.service = NodeService::probation;
  n.service_reason = kNastyText;
  n.cpus = 96;
  n.memory_bytes = 2'000'000'000'000;
  n.kill_mode = kNastyText;
  n.driver = kNastyText;
  n.simulated_gpus = true;
  n.labels = {{"rack", "r1"}, {kNastyText, kNastyText}};
  n.registered_at = at(20);
  n.state_at = at(21);
  n.service_at = at(22);
  n.service_until = at(23);
  n.returns = 3;
  n.instance = "4711";
  n.returned_at = at(24);
  return n;
}

inline GpuRow gpu(std::int64_t id, std::int64_t node) {
  GpuRow g;
  g.id = GpuId(id);
  g.node = NodeId(node);
  g.uuid = "GPU-" + std::to_string(id);
  return g;
}

inline GpuRow full_gpu(std::int64_t id, std::int64_t node) {
  GpuRow g = gpu(id, node);
  g.uuid = kNastyText + std::to_string(id);
  g.index = 7;
  g.model = kNastyText;
  g.memory_bytes = 80'000'000'000;
  g.pci = kNastyText;
  g.island = 3;
  g.health = GpuHealth::quarantined;
  g.health_reason = kNastyText;
  g.present = false;
  return g;
}

inline AllocationRow allocation(std::int64_t gpu, std::int64_t job, std::int64_t epoch, std::int64_t from) {
  AllocationRow a;
  a.gpu = GpuId(gpu);
  a.job = JobId(job);
  a.epoch = Epoch(epoch);
  a.from = at(from);
  return a;
}

inline AllocationRow until(AllocationRow a, std::int64_t end) {
  a.until = at(end);
  return a;
}

inline EventRow event(std::int64_t id, std::int64_t job, std::string from, std::string to,
                      std::string kind = "state") {
  EventRow e;
  e.id = EventId(id);
  e.at = at(id);
  e.job = JobId(job);
  e.kind = std::move(kind);
  e.from = std::move(from);
  e.to = std::move(to);
  return e;
}

inline EventRow node_event(std::int64_t id, std::int64_t node, std::string from, std::string to) {
  EventRow e = event(id, 0, std::move(from), std::move(to), "node");
  e.node = NodeId(node);
  return e;
}

inline CheckpointRow checkpoint(std::int64_t job, std::int64_t epoch, std::int64_t step) {
  CheckpointRow c;
  c.job = JobId(job);
  c.epoch = Epoch(epoch);
  c.step = step;
  c.path = "/ckpt/step-" + std::to_string(step);
  c.bytes = 1'000'000'000'000;
  c.shards = 16;
  c.at = at(step);
  return c;
}

inline CheckpointRow full_checkpoint(std::int64_t job, std::int64_t epoch, std::int64_t step) {
  CheckpointRow c = checkpoint(job, epoch, step);
  c.state = CheckpointState::suspect;
  c.detail = kNastyText;
  c.restored = true;
  c.failed_restores = 3;
  c.cost = std::chrono::seconds(7);
  c.retired_at = at(step + 1);
  c.deleting = true;
  return c;
}

inline FaultRow fault(std::int64_t id, std::int64_t node) {
  FaultRow f;
  f.id = FaultId(id);
  f.at = at(id);
  f.node = NodeId(node);
  f.fault_class = "xid";
  f.rule = "2026-11-2#1a2b3c4d xid:79";
  f.slot = "0000:3b:00";
  return f;
}

// A job in the store: one batch.
inline Batch submission(std::int64_t id) {
  Batch b;
  b.new_specs.push_back(spec(id));
  b.new_jobs.push_back(job(id));
  return b;
}

}  // namespace tutti::test
