// The gate before an attempt: what is looked at, who is waited for, and how an attempt that may not start
// ends.
#include "tests/worker/worker_bench.h"

namespace tutti::worker {
namespace {

using testing::IsEmpty;
using testing::SizeIs;

CoreSettings with_gate() {
  CoreSettings s;
  s.gate = true;
  return s;
}

nvml::Processes processes(std::string uuid, std::int64_t id, std::vector<unsigned> pids,
                          std::uint64_t memory = 0) {
  nvml::Processes p;
  p.id = id;
  p.uuid = std::move(uuid);
  p.pids = std::move(pids);
  p.memory_used_bytes = memory;
  return p;
}

TEST(Gate, StartsTheSupervisorOnlyWhenAllIsWell) {
  Bench b(with_gate());
  b.connect();
  b.gpus(2);
  b.core.on_prepare(b.now, Bench::prepare(kFirst, {"GPU-0", "GPU-1"}), Bench::spec());
  EXPECT_THAT(b.take<RunGate>(), SizeIs(1));
  auto asked = b.take<AskProcesses>();
  ASSERT_THAT(asked, SizeIs(2));
  b.core.on_gate(b.now, kFirst, "");
  b.core.on_probe(b.now, processes(asked[0].uuid, asked[0].id, {}));
  EXPECT_THAT(b.take<SpawnSupervisor>(), IsEmpty());
  b.core.on_probe(b.now, processes(asked[1].uuid, asked[1].id, {}));
  EXPECT_THAT(b.take<SpawnSupervisor>(), SizeIs(1));
  b.advance(seconds(10));
  EXPECT_FALSE(b.core.find(kFirst)->ended) << "the gate's time is no longer counted";
}

TEST(Gate, FailsAsALaunchThatNamesTheCheck) {
  Bench b(with_gate());
  b.connect();
  b.core.on_prepare(b.now, Bench::prepare(kFirst), Bench::spec());
  b.core.on_gate(b.now, kFirst, "folder /ckpt: create a file in /ckpt: Permission denied");
  b.settle(kFirst);
  const auto status = b.last_status();
  EXPECT_EQ(status.phase, Phase::ended);
  ASSERT_TRUE(status.failure);
  EXPECT_EQ(status.failure->kind, "launch");
  EXPECT_EQ(status.failure->detail, "preflight: folder /ckpt: create a file in /ckpt: Permission denied");
  EXPECT_TRUE(status.end->proven);
  EXPECT_THAT(b.take<SpawnSupervisor>(), IsEmpty());
}

TEST(Gate, WaitsForAGpuToBeLetGoAndThenNamesWhoHasIt) {
  Bench b(with_gate());
  b.connect();
  b.gpus(1);
  b.core.on_prepare(b.now, Bench::prepare(kFirst, {"GPU-0"}), Bench::spec());
  b.core.on_gate(b.now, kFirst, "");
  for (int i = 0; i < 8; ++i) {
    auto asked = b.take<AskProcesses>();
    ASSERT_THAT(asked, SizeIs(1));
    b.core.on_probe(b.now, processes("GPU-0", asked[0].id, {4711}));
    b.advance(milliseconds(250));
  }
  EXPECT_FALSE(b.core.find(kFirst)->ended);
  b.advance(seconds(3));
  b.settle(kFirst);
  EXPECT_THAT(b.last_status().failure->detail, HasSubstr("process 4711 uses GPU GPU-0"));
}

// A driver that takes a second to answer is slow, not silent.
TEST(Gate, WaitsForASlowAnswer) {
  Bench b(with_gate());
  b.connect();
  b.gpus(8);
  std::vector<std::string> uuids;
  for (int i = 0; i < 8; ++i) uuids.push_back("GPU-" + std::to_string(i));
  b.core.on_prepare(b.now, Bench::prepare(kFirst, uuids), Bench::spec());
  b.core.on_gate(b.now, kFirst, "");
  const auto asked = b.take<AskProcesses>();
  ASSERT_THAT(asked, SizeIs(8));
  for (int i = 0; i < 8; ++i) b.advance(milliseconds(250));
  EXPECT_THAT(b.take<AskProcesses>(), IsEmpty()) << "the first questions are under way";
  for (const auto& q : asked) b.core.on_probe(b.now, processes(q.uuid, q.id, {}));
  EXPECT_THAT(b.take<SpawnSupervisor>(), SizeIs(1));
}

TEST(Gate, AsksAgainWhenAnAnswerIsLost) {
  Bench b(with_gate());
  b.connect();
  b.gpus(1);
  b.core.on_prepare(b.now, Bench::prepare(kFirst, {"GPU-0"}), Bench::spec());
  b.core.on_gate(b.now, kFirst, "");
  b.take<AskProcesses>();
  for (int i = 0; i < 17; ++i) b.advance(milliseconds(250));
  EXPECT_THAT(b.take<AskProcesses>(), SizeIs(1)) << "no answer for four seconds";
  b.core.on_probe_lost(b.now);
  b.gpus(1);
  b.advance(milliseconds(250));
  const auto again = b.take<AskProcesses>();
  ASSERT_THAT(again, SizeIs(1)) << "a new probe knows nothing of the old one's questions";
  b.core.on_probe(b.now, processes("GPU-0", again[0].id, {}));
  EXPECT_THAT(b.take<SpawnSupervisor>(), SizeIs(1));
}

TEST(Gate, TakesNoErrorForAnAnswer) {
  Bench b(with_gate());
  b.connect();
  b.gpus(1);
  b.core.on_prepare(b.now, Bench::prepare(kFirst, {"GPU-0"}), Bench::spec());
  b.core.on_gate(b.now, kFirst, "");
  b.core.on_probe(b.now,
                  nvml::Processes{b.take<AskProcesses>().at(0).id, "GPU-0", {}, {}, "too many questions"});
  EXPECT_THAT(b.take<SpawnSupervisor>(), IsEmpty());
  b.advance(milliseconds(250));
  const auto again = b.take<AskProcesses>();
  ASSERT_THAT(again, SizeIs(1));
  b.core.on_probe(b.now, nvml::Processes{again[0].id, "GPU-0", {}, {}, "too many questions"});
  b.advance(seconds(5));
  b.settle(kFirst);
  EXPECT_THAT(b.last_status().failure->detail, HasSubstr("cannot be read: too many questions"));
}

TEST(Gate, FindsMemoryThatAnEarlierJobHasLeft) {
  Bench b(with_gate());
  b.connect();
  b.gpus(1);
  nvml::Sample sample;
  sample.gpus.emplace_back().uuid = "GPU-0";
  sample.gpus[0].memory_used_bytes = 500ULL << 20;
  b.core.on_probe(b.now, sample);
  b.core.on_prepare(b.now, Bench::prepare(kFirst, {"GPU-0"}), Bench::spec());
  b.core.on_gate(b.now, kFirst, "");
  b.core.on_probe(b.now, processes("GPU-0", b.take<AskProcesses>().at(0).id, {}, 20ULL << 30));
  b.advance(seconds(5));
  b.settle(kFirst);
  EXPECT_THAT(b.last_status().failure->detail, HasSubstr("20480 MiB in use and 500 MiB when idle"));
}

TEST(Gate, ThatNeverAnswersEndsInFiveSeconds) {
  Bench b(with_gate());
  b.connect();
  b.core.on_prepare(b.now, Bench::prepare(kFirst), Bench::spec());
  b.advance(milliseconds(4900));
  EXPECT_FALSE(b.core.find(kFirst)->ended);
  b.advance(milliseconds(200));
  b.settle(kFirst);
  EXPECT_THAT(b.last_status().failure->detail, HasSubstr("have not come back in time"));
  b.core.on_gate(b.now, kFirst, "");
  EXPECT_THAT(b.take<SpawnSupervisor>(), IsEmpty()) << "too late";
}

TEST(Gate, GivesWayToAStopAndToTheLease) {
  Bench b(with_gate());
  b.connect();
  b.core.on_prepare(b.now, Bench::prepare(kFirst), Bench::spec());
  b.core.on_stop(b.now, Stop{kFirst, "cancelled", "TERM", 60'000'000});
  b.core.on_final_scan(b.now, kFirst);
  EXPECT_EQ(b.last_status().phase, Phase::ended);
  b.core.on_gate(b.now, kFirst, "");
  EXPECT_THAT(b.take<SpawnSupervisor>(), IsEmpty());
  b.core.on_prepare(b.now, Bench::prepare(kOther), Bench::spec());
  b.now.mono += seconds(7);
  b.core.on_tick(b.now);
  b.core.on_final_scan(b.now, kOther);
  EXPECT_TRUE(b.core.find(kOther)->ended);
  EXPECT_THAT(b.take<KillAndProve>(), IsEmpty()) << "there is nothing to kill";
}

TEST(Gate, RefusesAtOnceOnANodeThatIsClosed) {
  Bench b(with_gate());
  b.connect();
  b.core.on_condition(b.now, "memory_low", "", "watched only");
  b.core.on_prepare(b.now, Bench::prepare(kOther), Bench::spec());
  EXPECT_THAT(b.take<RunGate>(), SizeIs(1));
  b.core.on_condition(b.now, "disk_full", "/tmp", "0 bytes are free");
  b.core.on_prepare(b.now, Bench::prepare(kFirst), Bench::spec());
  EXPECT_THAT(b.take<RunGate>(), IsEmpty());
  const auto status = b.last_status();
  EXPECT_EQ(status.failure->kind, "launch");
  EXPECT_THAT(status.failure->detail, HasSubstr("disk_full /tmp: 0 bytes are free"));
}

}  // namespace
}  // namespace tutti::worker
