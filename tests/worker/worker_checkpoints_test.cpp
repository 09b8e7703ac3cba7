// The worker's decisions about checkpoints: the check before a launch, what is said of those found, deletion.
#include "tests/worker/worker_bench.h"

namespace tutti::worker {
namespace {

using What = ResumeCheck::What;

struct ResumingBench : Bench {
  static ParsedSpec with_folder() {
    auto spec = std::make_shared<JobSpec>(*Bench::spec().spec);
    spec->checkpoint.dir = "/ckpt";
    return {spec, ""};
  }
  static Prepare resuming(AttemptKey key, int index = 0) {
    auto p = Bench::prepare(key);
    p.resume_path = "/ckpt/step-10";
    p.resume_step = 10;
    p.resume_epoch = 1;
    if (index > 0) {
      p.gang.insert(p.gang.begin(), p.gang.front());
      p.index = 1;
    }
    return p;
  }
  // Up to the end of its setup.
  void set_up(int index = 0) {
    connect();
    core.on_prepare(now, resuming(kSecond, index), with_folder());
    status(kSecond, Phase::ready, true);
  }
};

TEST(WorkerCheckpoints, ReadyIsSaidOnceTheCheckpointHasBeenLookedAt) {
  ResumingBench b;
  b.set_up();
  EXPECT_EQ(b.take<CheckResume>().size(), 1u);
  for (const auto& s : b.sent<AttemptStatus>()) EXPECT_EQ(s.phase, Phase::preparing);
  b.status(kSecond, Phase::ready);
  EXPECT_TRUE(b.take<CheckResume>().empty()) << "asked once";
  b.core.on_resume_checked(b.now, kSecond, {});
  EXPECT_EQ(b.last_status().phase, Phase::ready);
}

TEST(WorkerCheckpoints, WhatComesBeforeTheCheckIsOverIsNotLaunched) {
  ResumingBench b;
  b.set_up();
  Launch l;
  l.key = kSecond;
  l.endpoints.resize(1);
  b.core.on_launch(b.now, l);  // a former worker had said that it was ready
  EXPECT_TRUE(b.take<LaunchRanks>().empty());
  b.core.on_resume_checked(b.now, kSecond, {});
  EXPECT_EQ(b.take<LaunchRanks>().size(), 1u);
}

TEST(WorkerCheckpoints, OnlyTheFirstNodeLooks) {
  ResumingBench b;
  b.set_up(1);
  EXPECT_TRUE(b.take<CheckResume>().empty());
  EXPECT_EQ(b.last_status().phase, Phase::ready);
}

TEST(WorkerCheckpoints, ADamagedOneFailsTheAttemptWithItsStepAndNothingIsLaunched) {
  ResumingBench b;
  b.set_up();
  b.core.on_resume_checked(b.now, kSecond, {What::damaged, "shard-3 is missing", false});
  const auto s = b.last_status();
  ASSERT_TRUE(s.failure);
  EXPECT_EQ(s.failure->kind, "checkpoint");
  EXPECT_EQ(s.failure->step, 10);
  EXPECT_EQ(s.failure->detail, "/ckpt/step-10: shard-3 is missing");
  bool stopped = false;
  for (const auto& t : b.take<TellSupervisor>())
    stopped = stopped || std::holds_alternative<supervisor::Stop>(t.command);
  EXPECT_TRUE(stopped);
  EXPECT_TRUE(b.take<LaunchRanks>().empty());
}

TEST(WorkerCheckpoints, AFolderThatDoesNotAnswerIsStorageTroubleAfterADeadline) {
  ResumingBench b;
  b.set_up();
  b.sent<AttemptStatus>();
  b.core.on_welcome(b.now, Welcome{1, 600'000'000, 1'000'000, {kSecond}, {}});
  b.advance(seconds(61));
  const auto s = b.last_status();
  ASSERT_TRUE(s.failure);
  EXPECT_EQ(s.failure->kind, "storage");
  EXPECT_THAT(s.failure->detail, HasSubstr("does not answer"));
  b.core.on_resume_checked(b.now, kSecond, {What::damaged, "late", false});
  EXPECT_TRUE(b.sent<AttemptStatus>().empty()) << "an answer that comes late changes nothing";
}

TEST(WorkerCheckpoints, VerdictsAreSaidAgainAfterAReconnectAndRefusalsOnce) {
  Bench b;
  b.connect();
  b.start(kFirst);
  b.core.on_checkpoint_checked(b.now,
                               {kFirst, 1, 10, "/ckpt/step-10", CheckpointVerdict::damaged, "changed"});
  for (int i = 0; i < 3; ++i)
    b.core.on_checkpoint_checked(b.now,
                                 {kFirst, 0, 20, "/ckpt/step-20", CheckpointVerdict::refused, "a FIFO"});
  EXPECT_EQ(b.sent<CheckpointChecked>().size(), 2u);
  b.core.on_disconnected(b.now);
  b.connect({kFirst});
  const auto again = b.sent<CheckpointChecked>();
  ASSERT_EQ(again.size(), 1u);
  EXPECT_EQ(again[0].verdict, CheckpointVerdict::damaged);
}

TEST(WorkerCheckpoints, RefusalsOfOneAttemptAreBounded) {
  Bench b;
  b.connect();
  b.start(kFirst);
  for (int i = 0; i < 1000; ++i)
    b.core.on_checkpoint_checked(
        b.now, {kFirst, 0, i, "/ckpt/step-" + std::to_string(i), CheckpointVerdict::refused, "nonsense"});
  EXPECT_EQ(b.sent<CheckpointChecked>().size(), 16u);
}

TEST(WorkerCheckpoints, DeletesOnlyForAnAttemptThatIsHereAndNeverWhatItBeganFrom) {
  ResumingBench b;
  b.set_up();
  b.core.on_delete_checkpoint({kOther, 1, 5, "/ckpt/step-5"});
  b.core.on_delete_checkpoint({kSecond, 1, 10, "/ckpt/step-10"});
  EXPECT_TRUE(b.take<DeleteFiles>().empty());
  b.core.on_delete_checkpoint({kSecond, 1, 5, "/ckpt/step-5"});
  EXPECT_EQ(b.take<DeleteFiles>().size(), 1u);
  b.core.on_checkpoint_deleted({kSecond, 1, "/ckpt/step-5", true, ""});
  EXPECT_EQ(b.sent<CheckpointDeleted>().size(), 1u);
}

}  // namespace
}  // namespace tutti::worker
