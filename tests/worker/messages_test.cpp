// The codec of api/wire/messages: every message there and back, field by field.
#include "api/wire/messages.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "tests/worker/messages_rig.h"

namespace tutti {
namespace {

using testing::HasSubstr;

GpuInfo some_gpu() {
  GpuInfo g;
  g.uuid = "GPU-1";
  g.index = 3;
  g.model = "H100 80GB";
  g.memory_bytes = 85'899'345'920;
  g.pci = "00000000:1A:00.0";
  g.island = 1;
  g.device_path = "/dev/nvidia3";
  g.healthy = false;
  g.health_reason = "Xid 79: fell off";
  return g;
}

void expect_same(const GpuInfo& a, const GpuInfo& b) {
  EXPECT_EQ(std::tie(a.uuid, a.index, a.model, a.memory_bytes, a.pci, a.island, a.device_path, a.healthy,
                     a.health_reason),
            std::tie(b.uuid, b.index, b.model, b.memory_bytes, b.pci, b.island, b.device_path, b.healthy,
                     b.health_reason));
}

void expect_same(const AttemptStatus& a, const AttemptStatus& b) {
  EXPECT_EQ(std::tie(a.key, a.phase, a.agent_port, a.master_port),
            std::tie(b.key, b.phase, b.agent_port, b.master_port));
  ASSERT_EQ(a.failure.has_value(), b.failure.has_value());
  if (a.failure) {
    EXPECT_EQ(std::tie(a.failure->kind, a.failure->rank, a.failure->exit_code, a.failure->signal,
                       a.failure->boot_us, a.failure->detail, a.failure->last_lines),
              std::tie(b.failure->kind, b.failure->rank, b.failure->exit_code, b.failure->signal,
                       b.failure->boot_us, b.failure->detail, b.failure->last_lines));
  }
  ASSERT_EQ(a.end.has_value(), b.end.has_value());
  if (a.end) {
    EXPECT_EQ(std::tie(a.end->ok, a.end->proven, a.end->how, a.end->boot_us),
              std::tie(b.end->ok, b.end->proven, b.end->how, b.end->boot_us));
  }
}

TEST(Messages, HelloCarriesInventoryAndAllAttempts) {
  Hello m;
  m.worker_version = "0.1.0";
  m.node = "n1";
  m.instance = "i";
  m.address = "10.0.0.1";
  m.queue = "h100";
  m.boot_id = "b";
  m.boot_us = 99;
  m.cpus = 64;
  m.memory_bytes = 1'000'000'000'000;
  m.kill_mode = "cgroup2";
  m.driver = "550.1";
  m.simulated_gpus = true;
  m.labels = {{"rack", "r1"}, {"fabric", "ib"}};
  m.gpus = {some_gpu()};
  AttemptStatus plain;
  plain.key = AttemptKey{JobId(1), Epoch(1)};
  m.attempts = {some_status(), plain};
  const auto b = there_and_back(m);
  EXPECT_EQ(std::tie(b.protocol, b.worker_version, b.node, b.address, b.queue, b.boot_id, b.boot_us, b.cpus),
            std::tie(m.protocol, m.worker_version, m.node, m.address, m.queue, m.boot_id, m.boot_us, m.cpus));
  EXPECT_EQ(b.instance, m.instance);
  EXPECT_EQ(std::tie(b.memory_bytes, b.kill_mode, b.driver, b.simulated_gpus, b.labels),
            std::tie(m.memory_bytes, m.kill_mode, m.driver, m.simulated_gpus, m.labels));
  ASSERT_EQ(b.gpus.size(), 1u);
  expect_same(b.gpus[0], m.gpus[0]);
  ASSERT_EQ(b.attempts.size(), 2u);
  expect_same(b.attempts[0], m.attempts[0]);
  expect_same(b.attempts[1], m.attempts[1]);
}

TEST(Messages, NamesMayNotBeEmptyAndNothingStoredHoldsNul) {
  const auto error_of = [](const FromWorker& m, std::string_view from, std::string_view to) {
    std::string text = wire::encode(m);
    const auto at = text.find(from);
    EXPECT_NE(at, std::string::npos) << text;
    if (at != std::string::npos) text.replace(at, from.size(), to);
    const auto decoded = wire::decode_from_worker(text);
    return decoded ? std::string() : decoded.error().message;
  };
  Hello hello;
  hello.node = "n1";
  hello.address = "10.0.0.1";
  hello.labels = {{"rack", "r1"}};
  EXPECT_EQ(error_of(hello, "n1", ""), "message hello: field node is empty");
  EXPECT_EQ(error_of(hello, "n1", R"(n\u0000)"), "message hello: field node holds NUL");
  EXPECT_EQ(error_of(hello, "rack", R"(\u0000)"), "message hello: field labels holds NUL");
  GpuFault fault;
  fault.uuid = "GPU-1";
  fault.kind = "xid";
  EXPECT_EQ(error_of(fault, "GPU-1", ""), "message gpu_fault: field uuid is empty");

  // What programs print is made harmless where it is sent; logs are not stored and keep it.
  auto status = some_status();
  status.failure->last_lines = std::string("a\0b", 3);
  EXPECT_EQ(there_and_back(status).failure->last_lines, "a b");
  LogChunk chunk;
  chunk.data = std::string("a\0b", 3);
  EXPECT_EQ(there_and_back(chunk).data, chunk.data);
}

TEST(Messages, AttemptStatusInEveryPhase) {
  for (auto phase : {Phase::preparing, Phase::ready, Phase::launched, Phase::running, Phase::ended}) {
    auto m = some_status();
    m.phase = phase;
    expect_same(there_and_back(m), m);
  }
}

NodeHealth some_health() {
  NodeHealth h;
  h.conditions.push_back({"disk_full", "/tmp", "0 bytes are free", 5'000'000});
  h.conditions.push_back({"probe_hangs", "", "NVML hangs", 7});
  h.incidents.push_back({"oom_kill", "Killed process 7", 9});
  return h;
}

void expect_same(const NodeHealth& a, const NodeHealth& b) {
  ASSERT_EQ(a.conditions.size(), b.conditions.size());
  for (std::size_t i = 0; i < a.conditions.size(); ++i)
    EXPECT_EQ(std::tie(a.conditions[i].kind, a.conditions[i].subject, a.conditions[i].detail,
                       a.conditions[i].age_us),
              std::tie(b.conditions[i].kind, b.conditions[i].subject, b.conditions[i].detail,
                       b.conditions[i].age_us));
  ASSERT_EQ(a.incidents.size(), b.incidents.size());
  for (std::size_t i = 0; i < a.incidents.size(); ++i)
    EXPECT_EQ(std::tie(a.incidents[i].kind, a.incidents[i].detail, a.incidents[i].age_us),
              std::tie(b.incidents[i].kind, b.incidents[i].detail, b.incidents[i].age_us));
}

TEST(Messages, NodeHealthAloneAndInAHello) {
  expect_same(there_and_back(some_health()), some_health());
  Hello hello;
  hello.node = "n1";
  hello.address = "10.0.0.1";
  EXPECT_FALSE(there_and_back(hello).health) << "an older worker says nothing of it";
  hello.health = some_health();
  expect_same(*there_and_back(hello).health, some_health());
  EXPECT_THAT(
      refusal(R"({"type":"node_health","conditions":[{"kind":"","subject":"","detail":"","age_us":0}],)"
              R"("incidents":[]})"),
      HasSubstr("conditions[0].kind is empty"));
}

TEST(Messages, InspectAndItsReport) {
  Inspect ask{5, "person"};
  EXPECT_EQ(there_and_back(ask).request, 5);
  EXPECT_EQ(there_and_back(ask).trigger, "person");
  InspectionReport r;
  r.request = 5;
  r.trigger = "idle";
  r.age_us = 12;
  r.checks.push_back({"disk /tmp", "host", "failed", "0 bytes are free", 5'000'000, 1'234});
  const auto back = there_and_back(r);
  EXPECT_EQ(std::tie(back.request, back.trigger, back.age_us), std::tie(r.request, r.trigger, r.age_us));
  ASSERT_EQ(back.checks.size(), 1U);
  const auto &x = back.checks[0], &y = r.checks[0];
  EXPECT_EQ(std::tie(x.name, x.owner, x.result, x.detail, x.limit_us, x.took_us),
            std::tie(y.name, y.owner, y.result, y.detail, y.limit_us, y.took_us));
}

TEST(Messages, HeartbeatAndItsAcknowledgement) {
  EXPECT_EQ(there_and_back(Heartbeat{17, 1'234}).wall_us, 1'234);
  EXPECT_FALSE(there_and_back(Heartbeat{17}).wall_us);
  EXPECT_EQ(wire::encode(FromWorker(Heartbeat{17})), R"({"type":"heartbeat","seq":17})");
  EXPECT_EQ(there_and_back(Heartbeat{17}).seq, 17);
  EXPECT_FALSE(there_and_back(Heartbeat{17}).loads);
  Heartbeat beat{17, 1'234};
  beat.loads = {{"GPU-0", 97, 60LL << 30, 650'000, 71}, {.uuid = "GPU-1"}};
  const auto loads = there_and_back(beat).loads.value();
  ASSERT_EQ(loads.size(), 2u);
  EXPECT_EQ(loads[0].uuid, "GPU-0");
  EXPECT_EQ(loads[0].utilisation_percent, 97);
  EXPECT_EQ(loads[0].memory_bytes, 60LL << 30);
  EXPECT_EQ(loads[0].power_mw, 650'000);
  EXPECT_EQ(loads[0].temperature_c, 71);
  EXPECT_FALSE(loads[1].utilisation_percent || loads[1].memory_bytes || loads[1].power_mw ||
               loads[1].temperature_c)
      << "not known is not zero";
  EXPECT_EQ(there_and_back(HeartbeatAck{18}).seq, 18);
}

TEST(Messages, GpuFaultAndInventory) {
  const auto f = there_and_back(GpuFault{"GPU-1", "xid", 79, 1500, "fell off the bus"});
  EXPECT_EQ(f.uuid + f.kind + f.detail, "GPU-1xidfell off the bus");
  EXPECT_EQ(f.xid, 79);
  EXPECT_EQ(f.age_us, 1500);
  const auto i = there_and_back(GpuInventory{"550", true, {some_gpu()}});
  EXPECT_EQ(i.driver, "550");
  EXPECT_TRUE(i.simulated_gpus);
  expect_same(i.gpus.at(0), some_gpu());
}

TEST(Messages, CheckpointAndProgress) {
  const auto c = there_and_back(CheckpointFound{kKey, 7, 1000, "/ckpt/step-1000", 12345678901, 8});
  EXPECT_EQ(c.key, kKey);
  EXPECT_EQ(std::tuple(c.epoch_in_file, c.step, c.path, c.bytes, c.shards),
            std::tuple(7, 1000, "/ckpt/step-1000", 12345678901, 8));
  CheckpointFound damaged{kKey, 7, 1000, "/ckpt/step-1000", 12345678901, 8};
  damaged.cost_us = 1'500'000;
  damaged.problem = "shard-3 is missing";
  const auto d = there_and_back(damaged);
  EXPECT_EQ(std::tie(d.cost_us, d.problem), std::tie(damaged.cost_us, damaged.problem));
  const auto p = there_and_back(Progress{kKey, 10, 20, 1.5, {{"loss", 0.25}}});
  EXPECT_EQ(p.key, kKey);
  EXPECT_EQ(std::tuple(p.step, p.total, p.eta_seconds), std::tuple(10, 20, 1.5));
  EXPECT_EQ(p.metrics, (std::map<std::string, double>{{"loss", 0.25}}));
}

TEST(Messages, ChecksAndDeletionOfCheckpoints) {
  for (const auto verdict :
       {CheckpointVerdict::verified, CheckpointVerdict::damaged, CheckpointVerdict::refused}) {
    const auto c = there_and_back(CheckpointChecked{kKey, 6, 900, "/ckpt/step-900", verdict, "why"});
    EXPECT_EQ(std::tuple(c.key, c.epoch_in_file, c.step, c.path, c.verdict, c.why),
              std::tuple(kKey, 6, 900, "/ckpt/step-900", verdict, "why"));
  }
  const auto d = there_and_back(DeleteCheckpoint{kKey, 6, 900, "/ckpt/step-900"});
  EXPECT_EQ(std::tuple(d.key, d.epoch_in_file, d.step, d.path), std::tuple(kKey, 6, 900, "/ckpt/step-900"));
  const auto r = there_and_back(CheckpointDeleted{kKey, 6, "/ckpt/step-900", false, "read-only"});
  EXPECT_EQ(std::tuple(r.key, r.epoch_in_file, r.path, r.ok, r.why),
            std::tuple(kKey, 6, "/ckpt/step-900", false, "read-only"));
}

TEST(Messages, SignalForRanks) {
  const auto s = there_and_back(SignalRanks{kKey, "USR1"});
  EXPECT_EQ(std::tie(s.key, s.signal), std::tuple(kKey, "USR1"));
}

TEST(Messages, LogRequestAndAnswer) {
  const auto r = there_and_back(ReadLog{1, kKey, 3, -4096, 1000, 2'000'000});
  EXPECT_EQ(std::tuple(r.request, r.key, r.rank, r.offset, r.max_bytes, r.wait_us),
            std::tuple(1, kKey, 3, -4096, 1000, 2'000'000));
  const auto c = there_and_back(LogChunk{1, "Zeile \xC3\xA4\n", 99, true, "none"});
  EXPECT_EQ(std::tuple(c.request, c.data, c.next_offset, c.end, c.error),
            std::tuple(1, "Zeile \xC3\xA4\n", 99, true, "none"));
}

TEST(Messages, EvidenceRequestAndAnswer) {
  ReadLog request{1, kKey, 0, 256, 1000, 0};
  request.what = "evidence";
  EXPECT_EQ(there_and_back(request).what, "evidence");
  LogChunk chunk{1, "YmFzZTY0", 262, true, ""};
  chunk.stamp = 1'700'000'000'123'456'789;
  EXPECT_EQ(there_and_back(chunk).stamp, chunk.stamp);
}

TEST(Messages, ShellsBothWays) {
  OpenShell open;
  open.shell = 5;
  open.key = kKey;
  open.rank = 3;
  open.argv = {"bash", "-l"};
  open.tty = true;
  open.rows = 50;
  open.columns = 132;
  open.term = "xterm";
  open.credit = 1000;
  const auto o = there_and_back(open);
  EXPECT_EQ(std::tie(o.shell, o.key, o.rank, o.argv, o.tty, o.rows, o.columns, o.term, o.credit),
            std::tie(open.shell, open.key, open.rank, open.argv, open.tty, open.rows, open.columns, open.term,
                     open.credit));
  const auto i = there_and_back(ShellInput{5, "bHM=", true, 7});
  EXPECT_EQ(std::tuple(i.shell, i.data, i.end, i.credit), std::tuple(5, "bHM=", true, 7));
  const auto r = there_and_back(ShellResize{5, 10, 20});
  EXPECT_EQ(std::tuple(r.shell, r.rows, r.columns), std::tuple(5, 10, 20));
  EXPECT_EQ(there_and_back(CloseShell{5}).shell, 5);
  const auto out = there_and_back(ShellOutput{5, "YQ==", 9});
  EXPECT_EQ(std::tuple(out.shell, out.data, out.credit), std::tuple(5, "YQ==", 9));
  const auto c = there_and_back(ShellClosed{5, 3, 9, "why"});
  EXPECT_EQ(std::tuple(c.shell, c.exit_code, c.signal, c.error), std::tuple(5, 3, 9, "why"));
}

TEST(Messages, RankReport) {
  RankReport m;
  m.key = kKey;
  m.tells_progress = m.stalled = m.captured = true;
  m.limit_us = 10'000'000;
  m.ranks = {{.rank = 3,
              .step = 120,
              .silent_us = 11,
              .step_us = 12,
              .compute_us = 13,
              .state = "T",
              .waits_in = "do_signal_stop"},
             {.rank = 4}};
  const auto b = there_and_back(m);
  EXPECT_EQ(std::tie(b.key, b.tells_progress, b.stalled, b.captured, b.limit_us),
            std::tie(m.key, m.tells_progress, m.stalled, m.captured, m.limit_us));
  ASSERT_EQ(b.ranks.size(), 2u);
  const auto& r = b.ranks[0];
  EXPECT_EQ(std::tuple(r.rank, r.step, r.silent_us, r.step_us, r.compute_us, r.state, r.waits_in),
            std::tuple(3, 120, 11, 12, 13, "T", "do_signal_stop"));
  EXPECT_EQ(b.ranks[1].step, -1);
}

TEST(Messages, WelcomePrepareLaunchStopForget) {
  const auto w = there_and_back(Welcome{3, 6'000'000, 1'000'000, {kKey}, std::vector<std::string>{"xid:79"}});
  EXPECT_EQ(std::tuple(w.node_id, w.lease_us, w.heartbeat_us), std::tuple(3, 6'000'000, 1'000'000));
  EXPECT_EQ(w.keep, std::vector<AttemptKey>{kKey});
  EXPECT_EQ(w.quarantining, std::vector<std::string>{"xid:79"});

  Prepare m;
  m.key = kKey;
  m.attempt = 4;
  m.spec_json = R"({"name":"x"})";
  m.owner = "ada";
  m.gang = {{"n1", "10.0.0.1", 0, 8}, {"n2", "10.0.0.2", 8, 8}};
  m.index = 1;
  m.gpu_uuids = {"GPU-1", "GPU-2"};
  m.resume_path = "/ckpt/step-1";
  m.resume_step = 1;
  m.resume_epoch = 3;
  m.restart_cause = "gpu";
  m.secret = "s";
  m.secrets = {{"HF_TOKEN", "hf_0123"}, {"PEM", "a\nb"}};
  const auto p = there_and_back(m);
  EXPECT_EQ(p.secrets, m.secrets);
  EXPECT_EQ(std::tie(p.resume_step, p.resume_epoch), std::tie(m.resume_step, m.resume_epoch));
  EXPECT_EQ(std::tie(p.key, p.attempt, p.spec_json, p.owner, p.index, p.gpu_uuids, p.resume_path,
                     p.restart_cause, p.secret),
            std::tie(m.key, m.attempt, m.spec_json, m.owner, m.index, m.gpu_uuids, m.resume_path,
                     m.restart_cause, m.secret));
  ASSERT_EQ(p.gang.size(), 2u);
  EXPECT_EQ(std::tie(p.gang[1].node, p.gang[1].address, p.gang[1].first_rank, p.gang[1].ranks),
            std::tie(m.gang[1].node, m.gang[1].address, m.gang[1].first_rank, m.gang[1].ranks));

  const auto l = there_and_back(Launch{kKey, 4002, {{"10.0.0.1", 1}, {"10.0.0.2", 2}}});
  EXPECT_EQ(l.key, kKey);
  EXPECT_EQ(l.master_port, 4002);
  ASSERT_EQ(l.endpoints.size(), 2u);
  EXPECT_EQ(l.endpoints[1].address, "10.0.0.2");
  EXPECT_EQ(l.endpoints[1].agent_port, 2);

  const auto s = there_and_back(Stop{kKey, "preempted", "TERM", 30'000'000});
  EXPECT_EQ(std::tuple(s.key, s.cause, s.signal, s.grace_us),
            std::tuple(kKey, "preempted", "TERM", 30'000'000));
  EXPECT_EQ(there_and_back(Forget{kKey}).key, kKey);
}

}  // namespace
}  // namespace tutti
