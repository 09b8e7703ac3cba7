// tutti-worker as a process, with real supervisors and ranks; the scheduler is played by the test.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <filesystem>

#include "tests/worker/worker_rig.h"

namespace tutti::worker::testing {
namespace {

using namespace protocol;  // NOLINT
using ::testing::HasSubstr;
using ::testing::IsEmpty;
namespace fs = std::filesystem;

const AttemptKey kKey{JobId(7), Epoch(2)};

JobSpec direct(std::string run) {
  JobSpec spec;
  spec.name = "test";
  spec.launcher = Launcher::direct;
  spec.procs_per_node = 2;
  spec.run = std::move(run);
  return spec;
}

Launch make_launch(AttemptKey key, std::int32_t master_port, std::vector<std::int32_t> agent_ports = {0}) {
  Launch launch;
  launch.key = key;
  launch.master_port = master_port;
  for (auto port : agent_ports) launch.endpoints.push_back({"127.0.0.1", port});
  return launch;
}

class WorkerService : public ::testing::Test {
 protected:
  FakeScheduler scheduler;
  WorkerProcess worker{scheduler, "n1"};

  void launch(const JobSpec& spec, AttemptKey key = kKey, int ranks = 2) {
    scheduler.send("n1", make_prepare(spec, key, {"n1"}, 0, ranks));
    const auto ready = scheduler.wait_phase("n1", key, Phase::ready);
    scheduler.send("n1", make_launch(key, ready.master_port));
  }
  void run(const JobSpec& spec, AttemptKey key = kKey, int ranks = 2) {
    launch(spec, key, ranks);
    scheduler.wait_phase("n1", key, Phase::running);
  }
  LogChunk read(std::int32_t rank, std::int64_t offset, Duration wait = Duration(0), AttemptKey key = kKey) {
    static std::int64_t request = 0;
    const auto id = ++request;
    scheduler.send("n1", ReadLog{id, key, rank, offset, 65536, wait.count()});
    return scheduler.wait<LogChunk>("n1", [&](const LogChunk& c) { return c.request == id; });
  }
  std::vector<Pinned> ranks_of(const std::string& name, int n) {
    std::vector<Pinned> out;
    for (int i = 0; i < n; ++i)
      out.emplace_back(std::stoi(wait_for_file(worker.scratch(name + std::to_string(i)))));
    return out;
  }
  // A rank that writes its pid down and waits to be killed.
  std::string waiting_rank() { return "echo $$ > " + worker.scratch("rank") + "$RANK; exec sleep 1000"; }
};

// Attempts would end with their lease for want of a page.
TEST_F(WorkerService, StartsThoughItsMetricsPageCannotBeOpened) {
  WorkerProcess other(scheduler, "n2",
                      {"--no-gpus", "--metrics-listen", "127.0.0.1:" + std::to_string(scheduler.port())});
  other.start();
  scheduler.wait<Heartbeat>("n2", [](const Heartbeat& h) { return h.seq >= 2; });
}

TEST_F(WorkerService, RegistersWithWhatItHas) {
  worker.start();
  const auto hello = scheduler.wait<Hello>("n1");
  EXPECT_EQ(hello.protocol, version());
  EXPECT_EQ(hello.address, "127.0.0.1");
  EXPECT_FALSE(hello.boot_id.empty());
  EXPECT_GT(hello.boot_us, 0);
  EXPECT_GT(hello.cpus, 0);
  EXPECT_GT(hello.memory_bytes, 0);
  EXPECT_THAT(hello.attempts, IsEmpty());
  EXPECT_THAT(hello.gpus, IsEmpty());
  scheduler.wait<Heartbeat>("n1", [](const Heartbeat& h) { return h.seq >= 3; });
}

TEST_F(WorkerService, RunsAJobFromPrepareToForget) {
  worker.start();
  scheduler.wait<Hello>("n1");
  auto spec = direct(
      "trap 'echo told to stop; exit 85' TERM\n"
      "echo rank $RANK of $WORLD_SIZE epoch $TUTTI_EPOCH from $(basename $CHECKPOINT_DIR)\n"
      "if [ $RANK = 0 ]; then\n"
      "  mkdir $CHECKPOINT_DIR/step-5\n"
      "  echo '{\"step\":5,\"shards\":2,\"bytes\":99,\"epoch\":'$TUTTI_EPOCH'}' > "
      "$CHECKPOINT_DIR/step-5/new\n"
      "  mv $CHECKPOINT_DIR/step-5/new $CHECKPOINT_DIR/step-5/COMPLETE.json\n"
      "fi\n"
      "echo '{\"step\":5,\"total\":9,\"eta_s\":1.5,\"metrics\":{\"loss\":0.5}}' > $TUTTI_PROGRESS_FILE.new\n"
      "mv $TUTTI_PROGRESS_FILE.new $TUTTI_PROGRESS_FILE\n"
      "sleep 1000 & wait");
  spec.checkpoint.dir = worker.scratch("ckpt");
  fs::create_directory(spec.checkpoint.dir);
  fs::permissions(spec.checkpoint.dir, fs::perms::all);
  run(spec);

  const auto log = read(1, 0, std::chrono::seconds(20));
  EXPECT_EQ(log.data, "rank 1 of 2 epoch 2 from ckpt\n");
  EXPECT_FALSE(log.end);
  const auto found = scheduler.wait<CheckpointFound>("n1");
  EXPECT_EQ(found.key, kKey);
  EXPECT_EQ(std::tuple(found.epoch_in_file, found.step, found.bytes, found.shards), std::tuple(2, 5, 99, 2));
  EXPECT_EQ(found.path, spec.checkpoint.dir + "/step-5");
  const auto progress = scheduler.wait<Progress>("n1");
  EXPECT_EQ(std::tuple(progress.step, progress.total, progress.eta_seconds), std::tuple(5, 9, 1.5));
  EXPECT_EQ(progress.metrics.at("loss"), 0.5);

  scheduler.send("n1", Stop{kKey, "preempted", "TERM", 20'000'000});
  const auto end = scheduler.wait_end("n1", kKey);
  EXPECT_TRUE(end.end->proven) << end.end->how;
  ASSERT_TRUE(end.failure.has_value());
  EXPECT_EQ(end.failure->exit_code, 85);
  const auto rest = read(1, log.next_offset);
  EXPECT_EQ(rest.data, "told to stop\n");
  EXPECT_TRUE(rest.end);
  EXPECT_EQ(scheduler.count("n1", "checkpoint_found"), 1u);

  scheduler.send("n1", Forget{kKey});
  wait_until_exists(worker.attempt_dir(kKey) + "/retired");
  EXPECT_THAT(read(0, -8).data, HasSubstr("to stop")) << "logs are kept";
  scheduler.cut("n1");
  EXPECT_THAT(scheduler.wait<Hello>("n1").attempts, IsEmpty());
}

TEST_F(WorkerService, AJobThatEndsWellIsOk) {
  worker.start();
  scheduler.wait<Hello>("n1");
  launch(direct("true"));
  const auto end = scheduler.wait_end("n1", kKey);
  EXPECT_TRUE(end.end->ok);
  EXPECT_TRUE(end.end->proven);
  EXPECT_FALSE(end.failure.has_value());
}

TEST_F(WorkerService, TheFirstFailingRankIsTold) {
  worker.start();
  scheduler.wait<Hello>("n1");
  launch(direct("if [ $RANK = 1 ]; then echo it hurts; exit 3; fi; exec sleep 1000"));
  const auto end = scheduler.wait_end("n1", kKey);
  ASSERT_TRUE(end.failure.has_value());
  EXPECT_EQ(end.failure->kind, "exit");
  EXPECT_EQ(end.failure->rank, 1);
  EXPECT_EQ(end.failure->exit_code, 3);
  EXPECT_THAT(end.failure->last_lines, HasSubstr("it hurts"));
  EXPECT_FALSE(end.end->ok);
  EXPECT_TRUE(end.end->proven);
}

TEST_F(WorkerService, ASpecThatCannotBeReadEndsTheAttempt) {
  worker.start();
  scheduler.wait<Hello>("n1");
  auto prepare = make_prepare(direct("true"), kKey, {"n1"}, 0, 1);
  prepare.spec_json = R"({"name":"x","run":"true","nodes":-1})";
  scheduler.send("n1", prepare);
  const auto end = scheduler.wait_end("n1", kKey);
  EXPECT_EQ(end.failure->kind, "launch");
  EXPECT_THAT(end.failure->detail, HasSubstr("nodes"));
}

TEST_F(WorkerService, AKilledWorkerFindsItsRanksAgain) {
  worker.start();
  scheduler.wait<Hello>("n1");
  run(direct(waiting_rank()));
  const auto ranks = ranks_of("rank", 2);
  worker.kill(SIGKILL);
  scheduler.keep("n1", {kKey});
  worker.start();
  const auto hello = scheduler.wait<Hello>("n1");
  ASSERT_EQ(hello.attempts.size(), 1u);
  EXPECT_EQ(hello.attempts[0].key, kKey);
  EXPECT_EQ(hello.attempts[0].phase, Phase::running);
  for (const auto& rank : ranks) EXPECT_TRUE(rank.alive());
  scheduler.send("n1", Stop{kKey, "cancelled", "KILL", 0});
  const auto end = scheduler.wait_end("n1", kKey);
  EXPECT_TRUE(end.end->proven);
  for (const auto& rank : ranks) EXPECT_FALSE(rank.alive());
}

TEST_F(WorkerService, WhatEndedWhileTheWorkerWasAwayIsTold) {
  worker.start();
  scheduler.wait<Hello>("n1");
  const auto gate = worker.scratch("gate");
  run_command({"mkfifo", "-m", "666", gate});
  run(direct("echo $$ > " + worker.scratch("rank") + "$RANK; read line < " + gate), kKey, 1);
  const auto ranks = ranks_of("rank", 1);
  worker.kill(SIGKILL);
  EXPECT_TRUE(ranks[0].alive());
  run_command({"sh", "-c", "echo go > " + gate});
  EXPECT_TRUE(ranks[0].dies_in(kPatience));
  scheduler.keep("n1", {kKey});
  worker.start();
  auto status = scheduler.wait<Hello>("n1").attempts.at(0);
  if (status.phase != Phase::ended) status = scheduler.wait_end("n1", kKey);
  EXPECT_TRUE(status.end->ok && status.end->proven);
}

TEST_F(WorkerService, TheLeaseKillsWithoutTheScheduler) {
  scheduler.lease_us = 2'000'000;
  worker.start();
  scheduler.wait<Hello>("n1");
  run(direct(waiting_rank()));
  const auto ranks = ranks_of("rank", 2);
  scheduler.acknowledge(false);
  for (const auto& rank : ranks) EXPECT_TRUE(rank.dies_in(std::chrono::seconds(10)));
  const auto end = scheduler.wait_end("n1", kKey);
  EXPECT_EQ(end.failure->kind, "lease");
  EXPECT_TRUE(end.end->proven);
}

TEST_F(WorkerService, TheLeaseKillsWithoutTheWorker) {
  scheduler.lease_us = 2'000'000;
  worker.start();
  scheduler.wait<Hello>("n1");
  run(direct(waiting_rank()));
  const auto ranks = ranks_of("rank", 2);
  worker.kill(SIGKILL);
  for (const auto& rank : ranks) EXPECT_TRUE(rank.dies_in(std::chrono::seconds(10)));
}

TEST_F(WorkerService, ARenewedLeaseLetsRanksLive) {
  scheduler.lease_us = 1'500'000;
  worker.start();
  scheduler.wait<Hello>("n1");
  run(direct(waiting_rank()));
  const auto ranks = ranks_of("rank", 2);
  EXPECT_FALSE(ranks[0].dies_in(std::chrono::milliseconds(4000)));
  EXPECT_TRUE(ranks[1].alive());
}

TEST_F(WorkerService, AnAttemptThatIsNotKeptIsStopped) {
  worker.start();
  scheduler.wait<Hello>("n1");
  run(direct(waiting_rank()));
  const auto ranks = ranks_of("rank", 2);
  scheduler.keep("n1", {});
  scheduler.cut("n1");
  EXPECT_EQ(scheduler.wait<Hello>("n1").attempts.size(), 1u);
  EXPECT_TRUE(scheduler.wait_end("n1", kKey).end->proven);
  for (const auto& rank : ranks) EXPECT_FALSE(rank.alive());
}

TEST_F(WorkerService, AKilledSupervisorTakesItsRanksWithIt) {
  worker.start();
  scheduler.wait<Hello>("n1");
  run(direct("setsid sh -c 'echo $$ > " + worker.scratch("child") +
             "'$RANK'; exec sleep 1000' & exec sleep 1000"));
  const auto children = ranks_of("child", 2);
  // Its own, not those of its ranks.
  const auto pid = run_command({"sed", "-n", R"(s/.*"kill_mode":"[a-z0-9-]*","pid":\([0-9]*\).*/\1/p)",
                                worker.attempt_dir(kKey) + "/state.json"});
  ::kill(std::stoi(pid), SIGKILL);
  const auto end = scheduler.wait_end("n1", kKey);
  EXPECT_EQ(end.failure->kind, "supervisor");
  EXPECT_TRUE(end.end->proven) << end.end->how;
  for (const auto& child : children) EXPECT_FALSE(child.alive());
}

TEST_F(WorkerService, NothingOfAFormerBootLives) {
  WorkerProcess before(scheduler, "n2", {"--no-gpus", "--boot-id", "first"});
  before.start();
  scheduler.wait<Hello>("n2");
  scheduler.send("n2", make_prepare(direct("true"), kKey, {"n2"}, 0, 1));
  scheduler.wait_phase("n2", kKey, Phase::ready);
  before.kill(SIGKILL);
  run_command({"cp", "-r", before.dir() + "/state", worker.dir() + "/state"});  // the disk after a reboot
  WorkerProcess& after = worker;
  after.start();
  const auto hello = scheduler.wait<Hello>("n1");
  ASSERT_EQ(hello.attempts.size(), 1u);
  EXPECT_EQ(hello.attempts[0].end->how, "gone");
  EXPECT_TRUE(hello.attempts[0].end->proven);
}

TEST_F(WorkerService, OneStateDirectoryOneWorker) {
  worker.start();
  scheduler.wait<Hello>("n1");
  EXPECT_THROW(run_command({binary("tutti-worker"), "--scheduler", "http://127.0.0.1:1", "--no-gpus",
                            "--state-dir", worker.dir() + "/state"}),
               std::runtime_error);
}

// Two workers on this machine, one mpirun: remote ranks come by the launch agent.
TEST_F(WorkerService, MpirunSpansTwoNodes) {
  WorkerProcess second(scheduler, "n2");
  worker.start();
  second.start();
  scheduler.wait<Hello>("n1");
  scheduler.wait<Hello>("n2");
  JobSpec spec = direct(
      "echo rank $RANK of $WORLD_SIZE node $NODE_RANK port $MASTER_PORT dir $TUTTI_ATTEMPT_DIR; while [ ! "
      "-e " +
      worker.scratch("gate") + " ]; do sleep 0.05; done");
  spec.launcher = Launcher::mpirun;
  spec.nodes = 2;
  const std::vector<std::string> nodes = {"n1", "n2"};
  for (int i = 0; i < 2; ++i) scheduler.send(nodes[i], make_prepare(spec, kKey, nodes, i, 2));
  const auto first = scheduler.wait_phase("n1", kKey, Phase::ready);
  const auto other = scheduler.wait_phase("n2", kKey, Phase::ready);
  EXPECT_GT(first.master_port, 0);
  EXPECT_GT(other.agent_port, 0);
  for (const auto& node : nodes)
    scheduler.send(node, make_launch(kKey, first.master_port, {0, other.agent_port}));
  scheduler.wait_phase("n1", kKey, Phase::running);
  scheduler.wait_phase("n2", kKey, Phase::running);
  const auto port = std::to_string(first.master_port);
  EXPECT_EQ(wait_for_file(worker.attempt_dir(kKey) + "/logs/rank-1.log"),
            "rank 1 of 4 node 0 port " + port + " dir " + worker.attempt_dir(kKey) + "\n");
  EXPECT_EQ(wait_for_file(second.attempt_dir(kKey) + "/logs/rank-2.log"),
            "rank 2 of 4 node 1 port " + port + " dir " + second.attempt_dir(kKey) + "\n");
  run_command({"touch", worker.scratch("gate")});
  const auto end_first = scheduler.wait_end("n1", kKey);
  const auto end_other = scheduler.wait_end("n2", kKey);
  EXPECT_TRUE(end_first.end->ok && end_first.end->proven);
  EXPECT_TRUE(end_other.end->ok && end_other.end->proven);
}

// One torchrun agent per node with a static rendezvous between them.
TEST_F(WorkerService, TorchrunSpansTwoNodes) {
  try {
    run_command({"/usr/bin/python3", "-c", "import torch.distributed.run"});
  } catch (const std::runtime_error&) {
    GTEST_SKIP() << "PyTorch is not installed";
  }
  WorkerProcess second(scheduler, "n2");
  worker.start();
  second.start();
  scheduler.wait<Hello>("n1");
  scheduler.wait<Hello>("n2");
  JobSpec spec =
      direct("echo rank $RANK of $WORLD_SIZE group $GROUP_RANK restarts $TORCHELASTIC_MAX_RESTARTS");
  spec.launcher = Launcher::torchrun;
  spec.nodes = 2;
  const std::vector<std::string> nodes = {"n1", "n2"};
  for (int i = 0; i < 2; ++i) scheduler.send(nodes[i], make_prepare(spec, kKey, nodes, i, 2));
  const auto first = scheduler.wait_phase("n1", kKey, Phase::ready);
  scheduler.wait_phase("n2", kKey, Phase::ready);
  for (const auto& node : nodes) scheduler.send(node, make_launch(kKey, first.master_port, {0, 0}));
  for (const auto& node : nodes) {
    const auto end = scheduler.wait_end(node, kKey);
    EXPECT_TRUE(end.end->ok && end.end->proven) << (end.failure ? end.failure->detail : "");
  }
  EXPECT_EQ(wait_for_file(worker.attempt_dir(kKey) + "/logs/rank-1.log"), "rank 1 of 4 group 0 restarts 0\n");
  EXPECT_EQ(wait_for_file(second.attempt_dir(kKey) + "/logs/rank-3.log"), "rank 3 of 4 group 1 restarts 0\n");
}

TEST_F(WorkerService, ANodeWithoutRanksRunsAndEndsWell) {
  worker.start();
  scheduler.wait<Hello>("n1");
  JobSpec spec = direct("true");
  spec.launcher = Launcher::script;
  spec.nodes = 2;
  auto prepare = make_prepare(spec, kKey, {"n0", "n1"}, 1, 1);
  scheduler.send("n1", prepare);
  scheduler.wait_phase("n1", kKey, Phase::ready);
  scheduler.send("n1", make_launch(kKey, 1234, {0, 0}));
  scheduler.wait_phase("n1", kKey, Phase::running);
  scheduler.send("n1", Stop{kKey, "done", "KILL", 0});
  const auto end = scheduler.wait_end("n1", kKey);
  EXPECT_TRUE(end.end->ok && end.end->proven);
}

class WorkerGpus : public WorkerService {
 protected:
  WorkerGpus() {
    sim({"init", "--gpus", "2", "--node", "n2"});
    gpu_worker.env["TUTTI_NVML_DOUBLE_STATE"] = machine;
    gpu_worker.start();
    hello = scheduler.wait<Hello>("n2");
  }
  void sim(std::vector<std::string> words) {
    words.insert(words.begin(), binary("tutti-gpu-sim"));
    words.insert(words.end(), {"--state", machine});
    run_command(words);
  }
  void prepare(const JobSpec& spec, AttemptKey key, int ranks) {
    auto p = make_prepare(spec, key, {"n2"}, 0, ranks);
    for (const auto& g : hello.gpus) p.gpu_uuids.push_back(g.uuid);
    scheduler.send("n2", p);
  }

  WorkerProcess gpu_worker{scheduler, "n2", {"--nvml-library", library("nvml-double/libnvidia-ml.so.1")}};
  std::string machine = gpu_worker.dir() + "/machine";
  Hello hello;
};

TEST_F(WorkerGpus, AreOfferedHeldAndFreedWithProof) {
  ASSERT_EQ(hello.gpus.size(), 2u);
  EXPECT_TRUE(hello.simulated_gpus);
  EXPECT_TRUE(hello.gpus[0].healthy);
  const auto out = gpu_worker.scratch("rank");
  const auto spec =
      direct("echo $CUDA_VISIBLE_DEVICES $TUTTI_SIM_DEVICES > " + out + "$RANK; exec sleep 1000");
  prepare(spec, kKey, 2);
  scheduler.send("n2", make_launch(kKey, scheduler.wait_phase("n2", kKey, Phase::ready).master_port));
  scheduler.wait_phase("n2", kKey, Phase::running);
  EXPECT_EQ(wait_for_file(out + "1"),
            "0,1 " + hello.gpus[0].device_path + "," + hello.gpus[1].device_path + "\n");

  const AttemptKey other{JobId(8), Epoch(1)};
  prepare(spec, other, 2);
  const auto refused = scheduler.wait_end("n2", other);
  EXPECT_EQ(refused.failure->kind, "launch");
  EXPECT_THAT(refused.failure->detail, HasSubstr("still held by job 7"));

  scheduler.send("n2", Stop{kKey, "cancelled", "KILL", 0});
  EXPECT_TRUE(scheduler.wait_end("n2", kKey).end->proven);
  const AttemptKey third{JobId(9), Epoch(1)};
  prepare(spec, third, 2);
  scheduler.wait_phase("n2", third, Phase::ready);
}

TEST_F(WorkerGpus, AFatalFaultIsToldAndRememberedUntilTheReset) {
  sim({"xid", "--gpu", "1", "--xid", "48"});
  const auto fault = scheduler.wait<GpuFault>("n2", [](const GpuFault& f) { return f.xid == 48; });
  EXPECT_EQ(fault.uuid, hello.gpus[1].uuid);
  EXPECT_LT(fault.age_us, 10'000'000);
  scheduler.wait<GpuInventory>("n2", [](const GpuInventory& i) { return !i.gpus.at(1).healthy; });
  gpu_worker.kill(SIGKILL);
  gpu_worker.start();
  const auto again = scheduler.wait<Hello>("n2");
  ASSERT_EQ(again.gpus.size(), 2u);
  EXPECT_TRUE(again.gpus[0].healthy);
  EXPECT_FALSE(again.gpus[1].healthy);
  scheduler.wait<GpuFault>("n2");  // the new probe sees the condition: then it sees its end, too
  sim({"reset", "--gpu", "1"});
  scheduler.wait<GpuInventory>("n2", [](const GpuInventory& i) { return i.gpus.at(1).healthy; });
}

TEST_F(WorkerGpus, AGpuThatFellOffTheBusIsHealthyWhenItIsBack) {
  sim({"xid", "--gpu", "1", "--xid", "79"});
  scheduler.wait<GpuInventory>(
      "n2", [](const GpuInventory& i) { return i.gpus.size() == 2 && !i.gpus[1].healthy; });
  gpu_worker.kill(SIGKILL);
  gpu_worker.start();
  EXPECT_EQ(scheduler.wait<Hello>("n2").gpus.size(), 1u) << "it cannot be named";
  sim({"reset", "--gpu", "1"});
  scheduler.wait<GpuInventory>("n2",
                               [](const GpuInventory& i) { return i.gpus.size() == 2 && i.gpus[1].healthy; });
}

}  // namespace
}  // namespace tutti::worker::testing
