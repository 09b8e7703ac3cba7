// A real worker and its ranks write checkpoints, have them checked, begin from them, and delete them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <filesystem>
#include <fstream>

#include "tests/worker/worker_rig.h"

namespace tutti::worker::testing {
namespace {

using namespace protocol;  // NOLINT
using ::testing::HasSubstr;
namespace fs = std::filesystem;

const AttemptKey kFirst{JobId(7), Epoch(1)};
const AttemptKey kSecond{JobId(7), Epoch(2)};

class WorkerCheckpointService : public ::testing::Test {
 protected:
  FakeScheduler scheduler;
  WorkerProcess worker{scheduler, "n1"};
  JobSpec spec;

  void SetUp() override {
    worker.start();
    scheduler.wait<Hello>("n1");
    spec.name = "test";
    spec.launcher = Launcher::direct;
    spec.checkpoint.dir = worker.scratch("ckpt");
    fs::create_directory(spec.checkpoint.dir);
    fs::permissions(spec.checkpoint.dir, fs::perms::all);
  }
  std::string path(int step) const { return spec.checkpoint.dir + "/step-" + std::to_string(step); }
  void run(AttemptKey key, Prepare prepare) {
    scheduler.send("n1", prepare);
    const auto ready = scheduler.wait_phase("n1", key, Phase::ready);
    Launch launch;
    launch.key = key;
    launch.master_port = ready.master_port;
    launch.endpoints = {{"127.0.0.1", 0}};
    scheduler.send("n1", launch);
    scheduler.wait_phase("n1", key, Phase::running);
  }
  // Two checkpoints by the tool, then it waits.
  void write_two() {
    spec.run =
        "set -e\n"
        "for step in 10 20; do\n"
        "  dir=$($TUTTI_CHECKPOINT_TOOL begin $step)\n"
        "  head -c 100000 /dev/zero > $dir/rank-$RANK.bin\n"
        "  $TUTTI_CHECKPOINT_TOOL shard $step rank-$RANK.bin\n"
        "  $TUTTI_CHECKPOINT_TOOL commit $step --shards 1\n"
        "done\n"
        "exec sleep 1000";
    run(kFirst, make_prepare(spec, kFirst, {"n1"}, 0, 1));
    for (const int step : {10, 20}) {
      const auto found =
          scheduler.wait<CheckpointFound>("n1", [&](const CheckpointFound& c) { return c.step == step; });
      EXPECT_EQ(std::tuple(found.epoch_in_file, found.bytes, found.shards, found.path, found.problem),
                std::tuple(1, 100000, 1, path(step), ""));
      EXPECT_GT(found.cost_us, 0);
      const auto checked =
          scheduler.wait<CheckpointChecked>("n1", [&](const CheckpointChecked& c) { return c.step == step; });
      EXPECT_EQ(checked.verdict, CheckpointVerdict::verified) << checked.why;
    }
  }
  // A job that is over before anybody looks: what it leaves is said first, since of what has ended nobody
  // takes anything.
  void write_and_go() {
    spec.run =
        "set -e\n"
        "dir=$($TUTTI_CHECKPOINT_TOOL begin 10)\n"
        "echo weights > $dir/rank-$RANK.bin\n"
        "$TUTTI_CHECKPOINT_TOOL shard 10 rank-$RANK.bin\n"
        "$TUTTI_CHECKPOINT_TOOL commit 10 --shards 1\n"
        "echo '{\"step\":11,\"total\":11,\"metrics\":{\"loss\":0.5}}' > $TUTTI_PROGRESS_FILE.new\n"
        "mv $TUTTI_PROGRESS_FILE.new $TUTTI_PROGRESS_FILE\n";
    scheduler.send("n1", make_prepare(spec, kFirst, {"n1"}, 0, 1));
    Launch launch;
    launch.key = kFirst;
    launch.master_port = scheduler.wait_phase("n1", kFirst, Phase::ready).master_port;
    launch.endpoints = {{"127.0.0.1", 0}};
    scheduler.send("n1", launch);
    EXPECT_TRUE(scheduler.wait_end("n1", kFirst).end->ok);
  }
  void stop(AttemptKey key) {
    scheduler.send("n1", Stop{key, "preempted", "KILL", 0});
    scheduler.wait_end("n1", key);
    scheduler.send("n1", Forget{key});
  }
  Prepare resuming(AttemptKey key, int step) {
    auto p = make_prepare(spec, key, {"n1"}, 0, 1);
    p.resume_path = path(step);
    p.resume_step = step;
    p.resume_epoch = 1;
    return p;
  }
};

TEST_F(WorkerCheckpointService, ABitThatFlippedIsSeenBeforeTheLaunchAndTheOneBeforeIsBegunFrom) {
  write_two();
  stop(kFirst);
  {
    std::fstream f(path(20) + "/rank-0.bin", std::ios::in | std::ios::out | std::ios::binary);
    f.seekp(77'777);
    f.put('\1');
  }
  spec.run = "echo from $RESUME_CHECKPOINT > " + worker.scratch("began") + "; exec sleep 1000";
  scheduler.send("n1", resuming(kSecond, 20));
  const auto end = scheduler.wait_end("n1", kSecond);
  ASSERT_TRUE(end.failure);
  EXPECT_EQ(end.failure->kind, "checkpoint");
  EXPECT_EQ(end.failure->step, 20);
  EXPECT_THAT(end.failure->detail, HasSubstr("rank-0.bin: its checksum is"));
  EXPECT_FALSE(fs::exists(worker.scratch("began"))) << "no rank was started";
  scheduler.send("n1", Forget{kSecond});
  const AttemptKey third{JobId(7), Epoch(3)};
  run(third, resuming(third, 10));
  EXPECT_EQ(wait_for_file(worker.scratch("began")), "from " + path(10) + "\n");
}

TEST_F(WorkerCheckpointService, WhatAShortJobLeavesIsToldBeforeItsEnd) {
  write_and_go();
  EXPECT_EQ(scheduler.count("n1", "checkpoint_found"), 1u);
  ASSERT_GE(scheduler.count("n1", "progress"), 1u);
  const auto progress = scheduler.wait<Progress>("n1", [](const Progress& p) { return p.step == 11; });
  EXPECT_EQ(progress.metrics.at("loss"), 0.5);
}

// Its end stands on the disk; whether anything of it has arrived nobody knows.
TEST_F(WorkerCheckpointService, WhatAJobHasLeftIsToldByTheNextWorkerToo) {
  write_and_go();
  worker.kill(SIGKILL);
  scheduler.keep("n1", {kFirst});
  const auto found = scheduler.count("n1", "checkpoint_found"), steps = scheduler.count("n1", "progress");
  worker.start();
  scheduler.wait<Hello>("n1");
  const auto end = scheduler.wait_end("n1", kFirst);
  EXPECT_TRUE(end.end->ok && end.end->proven);
  EXPECT_EQ(scheduler.count("n1", "checkpoint_found"), found + 1);
  EXPECT_EQ(scheduler.count("n1", "progress"), steps + 1);
}

TEST_F(WorkerCheckpointService, AFolderThatHasVanishedIsTroubleOfTheNode) {
  write_two();
  stop(kFirst);
  fs::remove_all(spec.checkpoint.dir);
  scheduler.send("n1", resuming(kSecond, 20));
  const auto end = scheduler.wait_end("n1", kSecond);
  ASSERT_TRUE(end.failure);
  EXPECT_EQ(end.failure->kind, "storage");
  EXPECT_THAT(end.failure->detail, HasSubstr("cannot be opened here"));
}

TEST_F(WorkerCheckpointService, DeletesWhatIsNoLongerKeptWhileTheJobRuns) {
  write_two();
  scheduler.send("n1", DeleteCheckpoint{kFirst, 1, 10, path(10)});
  const auto gone = scheduler.wait<CheckpointDeleted>("n1");
  EXPECT_TRUE(gone.ok) << gone.why;
  EXPECT_FALSE(fs::exists(path(10)));
  EXPECT_TRUE(fs::exists(path(20) + "/COMPLETE.json"));
  scheduler.send("n1", DeleteCheckpoint{kFirst, 9, 20, path(20)});
  EXPECT_FALSE(scheduler.wait<CheckpointDeleted>("n1").ok) << "of another epoch";
  EXPECT_TRUE(fs::exists(path(20) + "/COMPLETE.json"));
}

}  // namespace
}  // namespace tutti::worker::testing
