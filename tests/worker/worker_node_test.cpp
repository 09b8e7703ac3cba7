// A real worker and what befalls its machine: kernel log, a hung driver, disks, the gate, inspections.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <set>

#include "tests/worker/worker_rig.h"

namespace tutti::worker::testing {
namespace {

using namespace protocol;  // NOLINT
using ::testing::HasSubstr;
using ::testing::IsEmpty;

const AttemptKey kKey{JobId(7), Epoch(2)};

JobSpec direct(std::string run) {
  JobSpec spec;
  spec.name = "test";
  spec.run = std::move(run);
  spec.launcher = Launcher::direct;
  return spec;
}

bool has(const NodeHealth& h, const std::string& kind) {
  return std::ranges::any_of(h.conditions, [&](const auto& c) { return c.kind == kind; });
}

class WorkerNode : public ::testing::Test {
 protected:
  WorkerNode() {
    sim({"init", "--gpus", "2", "--node", "n3"});
    mkfifo(kernel_log.c_str(), 0600);
    worker.env["TUTTI_NVML_DOUBLE_STATE"] = machine;
  }
  void start() {
    worker.start();
    hello = scheduler.wait<Hello>("n3");
  }
  void sim(std::vector<std::string> words) {
    words.insert(words.begin(), binary("tutti-gpu-sim"));
    words.insert(words.end(), {"--state", machine});
    run_command(words);
  }
  void prepare(const JobSpec& spec, AttemptKey key, bool with_gpus = true) {
    auto p = make_prepare(spec, key, {"n3"}, 0, 1);
    if (with_gpus)
      for (const auto& g : hello.gpus) p.gpu_uuids.push_back(g.uuid);
    scheduler.send("n3", p);
  }
  void launch(const JobSpec& spec, AttemptKey key) {
    prepare(spec, key);
    Launch l;
    l.key = key;
    l.master_port = scheduler.wait_phase("n3", key, Phase::ready).master_port;
    l.endpoints.push_back({"127.0.0.1", 0});
    scheduler.send("n3", l);
  }
  std::vector<pid_t> probes() const {  // of our worker
    std::vector<pid_t> found;
    std::ifstream children("/proc/" + std::to_string(worker.pid()) + "/task/" + std::to_string(worker.pid()) +
                           "/children");
    for (pid_t pid = 0; children >> pid;) {
      std::error_code ec;  // it may have gone
      const auto program = std::filesystem::read_symlink("/proc/" + std::to_string(pid) + "/exe", ec);
      if (program.filename() == "tutti-nvml-probe") found.push_back(pid);
    }
    return found;
  }
  void run(const JobSpec& spec, AttemptKey key) {
    launch(spec, key);
    scheduler.wait_phase("n3", key, Phase::running);
  }

  FakeScheduler scheduler;
  std::string folder = [] {
    std::string name = (std::filesystem::temp_directory_path() / "tutti-node-XXXXXX").string();
    return std::string(mkdtemp(name.data()));
  }();
  std::string kernel_log = folder + "/kmsg", machine = folder + "/machine";
  WorkerProcess worker{scheduler,
                       "n3",
                       {"--nvml-library", library("nvml-double/libnvidia-ml.so.1"), "--kernel-log",
                        kernel_log, "--check-path", folder}};
  Hello hello;

  ~WorkerNode() override {
    worker.kill(SIGKILL);
    std::error_code ec;
    std::filesystem::remove_all(folder, ec);
  }
};

TEST_F(WorkerNode, AnXidInTheKernelLogAloneIsAGpuFault) {
  start();
  sim({"xid", "--gpu", "1", "--xid", "48", "--kernel-log", kernel_log, "--kernel-log-only"});
  const auto fault = scheduler.wait<GpuFault>("n3");
  EXPECT_EQ(fault.uuid, hello.gpus.at(1).uuid);
  EXPECT_EQ(fault.kind, "xid");
  EXPECT_EQ(fault.xid, 48);
  EXPECT_THAT(fault.detail, HasSubstr("kernel log"));
  scheduler.wait<GpuInventory>("n3", [](const GpuInventory& i) { return !i.gpus.at(1).healthy; });
}

// Written while there was no worker: nobody else will ever tell it.
TEST_F(WorkerNode, AnXidBetweenTwoWorkersIsTold) {
  std::filesystem::remove(kernel_log);
  const auto line = [&](int number, const std::string& text) {
    timespec now{};
    clock_gettime(CLOCK_BOOTTIME, &now);
    std::ofstream(kernel_log, std::ios::app)
        << "4," << number << "," << now.tv_sec * 1'000'000LL + now.tv_nsec / 1000 << ",-;" << text << "\n";
  };
  line(4, "NVRM: Xid (PCI:0000:18:00): 13, before the first worker");
  start();
  EXPECT_THAT(wait_for_file(worker.dir() + "/state/kernel_log.json"), HasSubstr("\"number\":4"));
  worker.kill(SIGKILL);
  line(5, "NVRM: Xid (PCI:0000:18:00): 48, between the two");
  worker.start();
  EXPECT_EQ(scheduler.wait<GpuFault>("n3").xid, 48);
}

TEST_F(WorkerNode, AnXidFromBothSourcesIsToldOnce) {
  start();
  sim({"xid", "--gpu", "0", "--xid", "13", "--kernel-log", kernel_log});
  EXPECT_EQ(scheduler.wait<GpuFault>("n3").xid, 13);
  sim({"xid", "--gpu", "0", "--xid", "31", "--kernel-log", kernel_log});
  EXPECT_EQ(scheduler.wait<GpuFault>("n3").xid, 31) << "and not 13 again";
}

TEST_F(WorkerNode, GarbageInTheKernelLogHarmsNothing) {
  start();
  {
    std::ofstream log(kernel_log, std::ios::app | std::ios::binary);
    log << "\x01\xff;;;,,\n3,1,\n" << std::string(300'000, 'y') << "\n";
    log << "4,9,99999999999999999999,-;NVRM: Xid (PCI:0000:3b:00): 79, x\n";
  }
  sim({"xid", "--gpu", "0", "--xid", "997", "--kernel-log", kernel_log, "--kernel-log-only"});
  EXPECT_EQ(scheduler.wait<GpuFault>("n3").xid, 997) << "an unknown number is told as it is";
}

TEST_F(WorkerNode, AHungDriverClosesTheNodeAndKillsNothing) {
  start();
  run(direct("exec sleep 1000"), kKey);
  const auto began = std::chrono::steady_clock::now();
  sim({"library", "--set", "hang:nvmlDeviceGetTemperature:forever"});
  const auto health =
      scheduler.wait<NodeHealth>("n3", [](const NodeHealth& h) { return has(h, "probe_hangs"); });
  EXPECT_LT(std::chrono::steady_clock::now() - began, std::chrono::seconds(15));
  EXPECT_THAT(health.conditions.at(0).detail, HasSubstr("NVML hangs"));
  const AttemptKey other{JobId(9), Epoch(1)};
  prepare(direct("true"), other, false);
  EXPECT_THAT(scheduler.wait_end("n3", other).failure->detail, HasSubstr("probe_hangs"));
  sim({"library", "--set", "ok"});
  scheduler.wait<NodeHealth>("n3", [](const NodeHealth& h) { return !has(h, "probe_hangs"); });
  scheduler.send("n3", Stop{kKey, "cancelled", "KILL", 0});
  const auto end = scheduler.wait_end("n3", kKey);
  EXPECT_FALSE(end.failure) << "it had run until it was stopped: " << end.failure->detail;
  EXPECT_TRUE(end.end->proven);
}

// Only the scheduler renews the lease of what runs here, so the worker must not wait for the driver first.
TEST_F(WorkerNode, ARestartWhileTheDriverHangsKillsNothing) {
  scheduler.lease_us = 6'000'000;
  scheduler.keep("n3", {kKey});
  start();
  run(direct("exec sleep 1000"), kKey);
  wait_for_file(worker.dir() + "/state/gpus.json");
  sim({"library", "--set", "hang:nvmlInit_v2:forever"});
  worker.kill(SIGKILL);
  const auto began = std::chrono::steady_clock::now();
  worker.start();
  const auto again = scheduler.wait<Hello>("n3");
  EXPECT_LT(std::chrono::steady_clock::now() - began, std::chrono::seconds(5));
  EXPECT_EQ(again.gpus.size(), hello.gpus.size());
  ASSERT_EQ(again.attempts.size(), 1U);
  ASSERT_TRUE(again.health);
  EXPECT_TRUE(has(*again.health, "probe_hangs")) << "nothing is to be placed on them";
  // Longer than the lease of before: only a living connection keeps what runs here alive.
  scheduler.wait<Heartbeat>("n3", [n = 0](const Heartbeat&) mutable { return ++n >= 80; });
  sim({"library", "--set", "ok"});
  scheduler.wait<NodeHealth>("n3", [](const NodeHealth& h) { return !has(h, "probe_hangs"); });
  scheduler.send("n3", Stop{kKey, "cancelled", "KILL", 0});
  EXPECT_FALSE(scheduler.wait_end("n3", kKey).failure);
}

TEST_F(WorkerNode, ACrashingDriverCallTakesTheProbeOnly) {
  start();
  run(direct("exec sleep 1000"), kKey);
  const auto before = probes();
  ASSERT_EQ(before.size(), 1U);
  const Pinned crashing(before[0]);
  sim({"library", "--set", "crash:nvmlDeviceGetTemperature"});
  EXPECT_TRUE(crashing.dies_in(kPatience));
  sim({"library", "--set", "ok"});
  // Its successors crash too, until the driver is well.
  scheduler.wait<Heartbeat>("n3", [&](const Heartbeat&) {
    const auto now = probes();
    return now.size() == 1 && now[0] != before[0];
  });
  sim({"xid", "--gpu", "1", "--xid", "13", "--kernel-log", kernel_log, "--kernel-log-only"});
  EXPECT_EQ(scheduler.wait<GpuFault>("n3").xid, 13);
  scheduler.send("n3", Stop{kKey, "cancelled", "KILL", 0});
  const auto end = scheduler.wait_end("n3", kKey);
  EXPECT_FALSE(end.failure);
  EXPECT_TRUE(end.end->proven);
}

TEST_F(WorkerNode, TheGateRefusesAJobThatCannotWriteItsCheckpoints) {
  start();
  std::filesystem::permissions(folder, std::filesystem::perms(0755));  // the job's user looks
  std::ofstream(folder + "/file") << "x";
  auto spec = direct("true");
  spec.checkpoint.dir = folder + "/file";
  prepare(spec, kKey);
  const auto end = scheduler.wait_end("n3", kKey);
  ASSERT_TRUE(end.failure);
  EXPECT_EQ(end.failure->kind, "launch");
  EXPECT_THAT(end.failure->detail, HasSubstr("preflight: folder " + folder + "/file: "));
  EXPECT_THAT(end.failure->detail, HasSubstr("Not a directory"));
}

TEST_F(WorkerNode, TheGateRefusesAGpuThatSomebodyElseUses) {
  start();
  const auto device = hello.gpus.at(0).device_path;
  std::ifstream held(device);
  ASSERT_TRUE(held);
  prepare(direct("true"), kKey);
  const auto end = scheduler.wait_end("n3", kKey);
  ASSERT_TRUE(end.failure);
  EXPECT_THAT(end.failure->detail, HasSubstr("process " + std::to_string(getpid()) + " uses GPU"));
}

TEST_F(WorkerNode, AFailureKeepsTheKernelLogAroundIt) {
  start();
  {
    std::ofstream log(kernel_log, std::ios::app);
    log << "6,1,1000000,-;from long before\n";
  }
  sim({"xid", "--gpu", "0", "--xid", "13", "--kernel-log", kernel_log});
  scheduler.wait<GpuFault>("n3");
  launch(direct("exit 3"), kKey);
  scheduler.wait_end("n3", kKey);
  const auto text = wait_for_file(worker.attempt_dir(kKey) + "/evidence/kernel.log");
  EXPECT_THAT(text, HasSubstr("NVRM: Xid (PCI:0000:18:00): 13"));
}

// A driver may say why only after the ranks have died of it; the scheduler waits a moment for that.
TEST_F(WorkerNode, WhatTheKernelSaysUntilTheEndIsCommittedIsKeptToo) {
  start();
  sim({"xid", "--gpu", "0", "--xid", "13", "--kernel-log", kernel_log, "--kernel-log-only"});
  scheduler.wait<GpuFault>("n3");
  launch(direct("exit 3"), kKey);
  scheduler.wait_end("n3", kKey);
  sim({"xid", "--gpu", "0", "--xid", "48", "--kernel-log", kernel_log, "--kernel-log-only"});
  scheduler.wait<GpuFault>("n3", [](const GpuFault& f) { return f.xid == 48; });
  scheduler.send("n3", Forget{kKey});
  // Told by the log alone: it has been read as far as that.
  wait_until_exists(worker.dir() + "/state/evidence/7-2.tar.gz");
  const auto text = wait_for_file(worker.attempt_dir(kKey) + "/evidence/kernel.log");
  EXPECT_THAT(text, HasSubstr("NVRM: Xid (PCI:0000:18:00): 13"));
  EXPECT_THAT(text, HasSubstr("NVRM: Xid (PCI:0000:18:00): 48"));
}

TEST_F(WorkerNode, AnInspectionRunsAllChecksAndIsToldAgainAfterARestart) {
  start();
  scheduler.send("n3", Inspect{11, "person"});
  const auto report = scheduler.wait<InspectionReport>("n3");
  EXPECT_EQ(report.request, 11);
  std::set<std::string> names;
  for (const auto& c : report.checks) {
    names.insert(c.name);
    EXPECT_FALSE(c.owner.empty()) << c.name;
    EXPECT_NE(c.result, "") << c.name;
  }
  for (const auto* name :
       {"gpu driver", "gpu 0", "gpu 1", "disk /tmp", "shared memory /dev/shm", "kernel log"})
    EXPECT_TRUE(names.contains(name)) << name;
  EXPECT_TRUE(names.contains("file system " + folder));
  wait_until_exists(worker.dir() + "/state/inspection.json");
  worker.kill(SIGKILL);
  worker.start();
  const auto again = scheduler.wait<InspectionReport>("n3");
  EXPECT_EQ(again.request, 11);
  EXPECT_GT(again.age_us, 0);
  EXPECT_EQ(again.checks.size(), report.checks.size());
}

// Over once it is registered: a scheduler that it comes to later must not close the node a second time.
TEST(WorkerJoinsCordoned, ItsFirstHelloSaysSoAndNoLaterOne) {
  FakeScheduler scheduler;
  WorkerProcess worker(scheduler, "n5", {"--no-gpus", "--join-cordoned", "has yet to be reserved"});
  worker.start();
  const auto hello = scheduler.wait<Hello>("n5");
  ASSERT_TRUE(hello.health);
  ASSERT_TRUE(has(*hello.health, "joined_cordoned"));
  const auto first = std::ranges::find(hello.health->conditions, "joined_cordoned", &NodeCondition::kind);
  EXPECT_EQ(first->detail, "has yet to be reserved");
  scheduler.wait<NodeHealth>("n5", [](const auto& h) { return !has(h, "joined_cordoned"); });
  scheduler.cut("n5");
  const auto again = scheduler.wait<Hello>("n5");
  ASSERT_TRUE(again.health);
  EXPECT_FALSE(has(*again.health, "joined_cordoned"));
}

class WorkerBadLibrary : public ::testing::TestWithParam<std::string> {};

// The worker registers without GPUs, says why, and goes on to serve jobs that need none.
TEST_P(WorkerBadLibrary, IsAConditionOfTheNode) {
  FakeScheduler scheduler;
  WorkerProcess never_started(scheduler, "n4");  // for a folder that goes with the test
  const auto path = never_started.dir() + "/libnvidia-ml.so.1";
  std::filesystem::create_directories(never_started.dir());
  std::ofstream(path) << GetParam();
  WorkerProcess worker(scheduler, "n4", {"--nvml-library", path, "--kernel-log", ""});
  worker.start();
  const auto hello = scheduler.wait<Hello>("n4");
  EXPECT_THAT(hello.gpus, IsEmpty());
  ASSERT_TRUE(hello.health);
  ASSERT_TRUE(has(*hello.health, "nvml_missing"));
  EXPECT_THAT(hello.health->conditions.at(0).detail, HasSubstr("libnvidia-ml.so.1"));
}
INSTANTIATE_TEST_SUITE_P(Files, WorkerBadLibrary, ::testing::Values("", "this is no library\n"));

}  // namespace
}  // namespace tutti::worker::testing
