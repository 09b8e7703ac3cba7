// Checkpoints in the control plane: what is registered, where attempts begin, what is deleted.
#include <algorithm>

#include "tests/support/test_env.h"

namespace tutti {
namespace {

using namespace testing;
using protocol::CheckpointVerdict;

class ControlCheckpoints : public ::testing::Test {
 protected:
  TestEnv env;
  NodeId a = env.add_node("a");
  JobId job;
  AttemptKey key;

  // A job that may fail ten times and is back a second later.
  void begin(CheckpointPolicy policy = {}) {
    JobSpec spec = job_spec(1, 4);
    spec.checkpoint = policy;
    spec.checkpoint.dir = "/ckpt";
    spec.retry.budget[Cause::user] = 10;
    spec.retry.backoff[Cause::user] = {1s, 1s};
    job = env.submit(spec);
    key = env.run(job);
  }
  static std::string path(std::int64_t step) { return "/ckpt/step-" + std::to_string(step); }
  void write(std::int64_t step, std::string problem = "") {
    protocol::CheckpointFound found{
        .key = key, .epoch_in_file = key.epoch.value, .step = step, .path = path(step)};
    found.problem = std::move(problem);
    env.plane->on_checkpoint(env.now, a, found);
    env.step();
  }
  void judge(std::int64_t step, CheckpointVerdict verdict, std::string why = "", std::int64_t epoch = 1) {
    env.plane->on_checkpoint_checked(env.now, a, {key, epoch, step, path(step), verdict, std::move(why)});
    env.step();
  }
  // The attempt dies of its own and the next one is asked to begin.
  protocol::Prepare die_and_restart() {
    env.fail(a, key, 0, 1);
    env.end(a, key, false);
    env.drop_messages();
    env.tick_alive(1500ms);
    EXPECT_EQ(env.state(job), JobState::starting);
    key = env.key_of(job);
    return env.take<protocol::Prepare>(a);
  }
  void refuse_resume(std::int64_t step, const std::string& kind = "checkpoint") {
    protocol::AttemptStatus s;
    s.key = key;
    s.phase = protocol::Phase::preparing;
    protocol::Failure f;
    f.kind = kind;
    f.detail = path(step) + ": shard-1 is missing";
    if (kind == "checkpoint") f.step = step;
    s.failure = f;
    env.say(a, s);
  }
  CheckpointRow row(std::int64_t step) const {
    for (auto it = env.rows.checkpoints.rbegin(); it != env.rows.checkpoints.rend(); ++it)
      if (it->path == path(step)) return *it;
    ADD_FAILURE() << "no row of step " << step;
    return {};
  }
  std::vector<std::string> events() const {
    std::vector<std::string> out;
    for (const auto& e : env.rows.events)
      if (e.kind == "checkpoint") out.push_back(e.from + ">" + e.to + " " + e.detail);
    return out;
  }
  bool told(const std::string& text) const {
    return std::ranges::any_of(events(), [&](const auto& e) { return e.find(text) != std::string::npos; });
  }
  std::vector<std::int64_t> retired() const {
    std::vector<std::int64_t> out;
    for (std::int64_t step = 0; step <= 200; ++step)
      for (auto it = env.rows.checkpoints.rbegin(); it != env.rows.checkpoints.rend(); ++it)
        if (it->path == path(step)) {
          if (it->retired_at != Instant{}) out.push_back(step);
          break;
        }
    return out;
  }
};

TEST_F(ControlCheckpoints, ChecksumsMakeItGoodOrBadAndAFalseEpochChangesNothing) {
  begin();
  write(10);
  write(20);
  EXPECT_EQ(row(10).state, CheckpointState::found);
  judge(10, CheckpointVerdict::verified, "", 7);
  EXPECT_EQ(row(10).state, CheckpointState::found) << "that was another one at the same place";
  judge(10, CheckpointVerdict::verified);
  judge(20, CheckpointVerdict::damaged, "shard-0: its data have changed");
  EXPECT_EQ(row(10).state, CheckpointState::good);
  EXPECT_EQ(row(20).state, CheckpointState::bad);
  EXPECT_EQ(row(20).detail, "shard-0: its data have changed");
  EXPECT_EQ(env.plane->find_job(job)->row.best_step, 10);
  const auto events_before = events().size();
  judge(20, CheckpointVerdict::damaged, "again");
  judge(20, CheckpointVerdict::verified);
  EXPECT_EQ(events().size(), events_before) << "repeated and late messages change nothing";
  EXPECT_EQ(die_and_restart().resume_path, path(10));
}

TEST_F(ControlCheckpoints, ADamagedOneIsRegisteredAsBadAndIsNoProgress) {
  begin();
  write(10);
  write(20, "shard-3 has 0 bytes, not 4096");
  EXPECT_EQ(row(20).state, CheckpointState::bad);
  EXPECT_EQ(env.plane->find_job(job)->row.best_step, 10);
  EXPECT_TRUE(told(">bad step 20"));
  const auto p = die_and_restart();
  EXPECT_EQ(std::tuple(p.resume_path, p.resume_step, p.resume_epoch), std::tuple(path(10), 10, 1));
}

TEST_F(ControlCheckpoints, WhatTheNodeFindsDamagedIsBadAndTheOneBeforeIsTakenAtOnceAndFreeOfCharge) {
  begin();
  write(10);
  write(20);
  write(30);
  EXPECT_EQ(die_and_restart().resume_path, path(30));
  const auto spent = env.plane->find_job(job)->row.spent;
  const auto before = env.plane->find_job(job)->row.no_progress;
  for (const std::int64_t step : {30, 20}) {
    refuse_resume(step);
    EXPECT_EQ(row(step).state, CheckpointState::bad);
    env.drop_messages();
    env.end(a, key, false);
    ASSERT_EQ(env.state(job), JobState::starting) << "again at once";
    key = env.key_of(job);
    EXPECT_EQ(env.plane->find_attempt(key)->row.resume_path, path(step - 10));
  }
  EXPECT_EQ(env.plane->find_job(job)->row.spent, spent);
  EXPECT_EQ(env.plane->find_job(job)->row.no_progress, before);
  EXPECT_EQ(env.plane->find_job(job)->row.best_step, 10);
}

TEST_F(ControlCheckpoints, WhenNoneIsLeftItBeginsFromScratchAndSaysSo) {
  begin();
  write(10);
  EXPECT_EQ(die_and_restart().resume_path, path(10));
  refuse_resume(10);
  env.end(a, key, false);
  ASSERT_EQ(env.state(job), JobState::starting);
  key = env.key_of(job);
  EXPECT_EQ(env.plane->find_attempt(key)->row.resume_path, "");
  EXPECT_EQ(env.plane->find_attempt(key)->row.resume_step, -1);
  EXPECT_TRUE(told("begins from scratch: none of its 1 checkpoints can be used"));
}

TEST_F(ControlCheckpoints, AFolderThatCannotBeReachedBlamesNoCheckpointAndIsCharged) {
  begin();
  write(10);
  die_and_restart();
  refuse_resume(10, "storage");
  env.end(a, key, false);
  EXPECT_EQ(row(10).state, CheckpointState::found);
  EXPECT_EQ(env.state(job), JobState::delayed);
  EXPECT_EQ(env.plane->find_job(job)->row.cause, Cause::storage);
  EXPECT_EQ(env.plane->find_job(job)->row.spent[static_cast<std::size_t>(Cause::storage)], 1);
}

TEST_F(ControlCheckpoints, TwoDeathsInARowBeforeANewOneMakeItSuspectAndTheNextFallsBackByOne) {
  begin();
  write(10);
  write(20);
  EXPECT_EQ(die_and_restart().resume_path, path(20));
  env.run(job);
  EXPECT_EQ(die_and_restart().resume_path, path(20)) << "once may be chance";
  EXPECT_EQ(row(20).failed_restores, 1);
  env.run(job);
  env.fail(a, key, 0, 1);
  env.end(a, key, false);
  env.recover();  // a new leader knows it too
  env.plane->on_hello(env.now, env.hello("a"));
  env.step();
  env.drop_messages();
  env.tick_alive(1500ms);
  ASSERT_EQ(env.state(job), JobState::starting);
  key = env.key_of(job);
  EXPECT_EQ(env.take<protocol::Prepare>(a).resume_path, path(10));
  EXPECT_EQ(row(20).state, CheckpointState::suspect);
  env.run(job);
  write(15);
  EXPECT_EQ(row(10).state, CheckpointState::good) << "a later one was made from it";
  EXPECT_TRUE(row(10).restored);
  EXPECT_EQ(die_and_restart().resume_path, path(15));
}

TEST_F(ControlCheckpoints, ASuspectIsTakenWhenNoOtherIsLeftAndTwoMoreDeathsMakeItBad) {
  begin();
  write(10);
  for (int i = 0; i < 4; ++i) {
    EXPECT_EQ(die_and_restart().resume_path, path(10)) << i;
    env.run(job);
  }
  EXPECT_EQ(row(10).state, CheckpointState::suspect);
  EXPECT_EQ(die_and_restart().resume_path, "");
  EXPECT_EQ(row(10).state, CheckpointState::bad);
}

TEST_F(ControlCheckpoints, ALostNodeOrAPersonCastsNoDoubt) {
  begin();
  write(10);
  die_and_restart();
  for (int i = 0; i < 3; ++i) {
    env.run(job);
    ASSERT_TRUE(env.plane->on_requeue(env.now, job, "ann"));
    env.step();
    env.end(a, key, false);
    env.plan();
    ASSERT_EQ(env.state(job), JobState::starting);
    key = env.key_of(job);
    EXPECT_EQ(env.plane->find_attempt(key)->row.resume_path, path(10));
  }
  EXPECT_EQ(row(10).failed_restores, 0);
}

TEST_F(ControlCheckpoints, TheSamePathWrittenByALaterAttemptIsAnotherCheckpoint) {
  begin();
  write(10);
  write(20);
  judge(20, CheckpointVerdict::damaged, "changed");
  EXPECT_EQ(die_and_restart().resume_path, path(10));
  env.run(job);
  write(20);
  EXPECT_EQ(row(20).state, CheckpointState::found);
  EXPECT_EQ(row(20).epoch, key.epoch);
  judge(20, CheckpointVerdict::damaged, "of the old one", 1);
  EXPECT_EQ(row(20).state, CheckpointState::found);
  EXPECT_EQ(die_and_restart().resume_path, path(20));
}

TEST_F(ControlCheckpoints, AFallBackThatGetsNowhereIsNoProgressAlthoughALaterStepWasSeenOnce) {
  begin();
  write(10);
  write(20);
  judge(20, CheckpointVerdict::damaged, "changed");
  die_and_restart();
  EXPECT_EQ(env.plane->find_job(job)->row.no_progress, 0) << "the first attempt has made one";
  env.run(job);
  die_and_restart();
  EXPECT_EQ(env.plane->find_job(job)->row.no_progress, 1);
}

TEST_F(ControlCheckpoints, WhatCannotBeTakenForOneIsToldAndNotRegistered) {
  begin();
  judge(5, CheckpointVerdict::refused, "COMPLETE.json is no regular file");
  EXPECT_TRUE(env.rows.checkpoints.empty());
  EXPECT_TRUE(told("not taken for a checkpoint: /ckpt/step-5: COMPLETE.json is no regular file"));
}

// ---------------------------------------------------------------- retention

TEST_F(ControlCheckpoints, WithoutKeepNothingIsEverDeleted) {
  begin();
  for (std::int64_t step = 1; step <= 50; ++step) write(step);
  EXPECT_TRUE(retired().empty());
}

TEST_F(ControlCheckpoints, KeepsTheNewestEveryNthAndTheLastKnownGood) {
  begin({.dir = "", .keep = 2, .keep_every = 20});
  write(10);
  write(20);
  judge(10, CheckpointVerdict::verified);
  write(30);
  EXPECT_TRUE(retired().empty()) << "10 is the only good one, 20 a multiple";
  judge(30, CheckpointVerdict::verified);
  write(40);
  EXPECT_EQ(retired(), (std::vector<std::int64_t>{10}));
  write(50);
  write(60);
  EXPECT_EQ(retired(), (std::vector<std::int64_t>{10})) << "30 is the newest good one";
}

TEST_F(ControlCheckpoints, TheOneInUseAndTheOneThatWasProvedStay) {
  begin({.dir = "", .keep = 1});
  write(10);
  EXPECT_EQ(die_and_restart().resume_path, path(10));
  env.run(job);
  write(20);
  write(30);
  EXPECT_EQ(retired(), (std::vector<std::int64_t>{20})) << "10 is what a later one was made from";
  EXPECT_EQ(die_and_restart().resume_path, path(30));
  env.run(job);
  write(40);
  EXPECT_EQ(retired(), (std::vector<std::int64_t>{10, 20})) << "now it is 30";
}

TEST_F(ControlCheckpoints, ARetiredOneIsDeletedAfterAnHourByANodeOfTheGang) {
  begin({.dir = "", .keep = 1});
  write(10);
  write(20);
  judge(20, CheckpointVerdict::verified);
  ASSERT_EQ(retired(), (std::vector<std::int64_t>{10}));
  env.tick_alive(59min, 5s);
  EXPECT_EQ(env.count<protocol::DeleteCheckpoint>(), 0u);
  env.recover();
  env.leases.renew(a, env.now.mono);
  env.drop_messages();
  env.tick_alive(2min, 5s);
  const auto order = env.take<protocol::DeleteCheckpoint>(a);
  EXPECT_EQ(std::tuple(order.key, order.epoch_in_file, order.step, order.path),
            std::tuple(key, 1, 10, path(10)));
  EXPECT_TRUE(row(10).deleting) << "the row goes before the order";
  env.tick_alive(11min, 5s);
  env.take<protocol::DeleteCheckpoint>(a);  // no answer: said again
  env.plane->on_checkpoint_deleted(env.now, a, {key, 1, path(10), false, "Read-only file system"});
  env.step();
  EXPECT_TRUE(told("could not be deleted: Read-only file system"));
  env.tick_alive(11min, 5s);
  env.take<protocol::DeleteCheckpoint>(a);
  env.plane->on_checkpoint_deleted(env.now, a, {key, 1, path(10), true, ""});
  env.step();
  EXPECT_NE(row(10).deleted_at, Instant{});
  env.tick_alive(30min, 5s);
  EXPECT_EQ(env.count<protocol::DeleteCheckpoint>(), 0u);
}

TEST_F(ControlCheckpoints, ARetiredOneIsKeptAfterAllWhenTheNewerOnesTurnOutBad) {
  begin({.dir = "", .keep = 1});
  write(10);
  write(20);
  ASSERT_EQ(retired(), (std::vector<std::int64_t>{10}));
  judge(20, CheckpointVerdict::damaged, "changed");
  EXPECT_EQ(die_and_restart().resume_path, path(10));
  EXPECT_TRUE(retired().empty());
  env.run(job);
  env.tick_alive(2h, 5s);
  EXPECT_EQ(env.count<protocol::DeleteCheckpoint>(), 0u);
}

TEST_F(ControlCheckpoints, TheOnlyOneThatCanBeUsedIsNotDeletedAlthoughItWasRetired) {
  begin({.dir = "", .keep = 1});
  write(10);
  write(20);
  ASSERT_EQ(retired(), (std::vector<std::int64_t>{10}));
  judge(20, CheckpointVerdict::damaged, "changed");
  env.tick_alive(2h, 5s);
  EXPECT_EQ(env.count<protocol::DeleteCheckpoint>(), 0u);
  EXPECT_TRUE(retired().empty());
  EXPECT_TRUE(told("kept after all"));
}

TEST_F(ControlCheckpoints, WhatIsBeingDeletedIsNeverBegunFrom) {
  begin({.dir = "", .keep = 1});
  write(10);
  write(20);
  env.tick_alive(61min, 5s);
  ASSERT_TRUE(row(10).deleting);
  judge(20, CheckpointVerdict::damaged, "changed");
  EXPECT_EQ(die_and_restart().resume_path, "");
}

TEST_F(ControlCheckpoints, ARetiredOneIsKeptWhenNoOtherIsKnownToBeGood) {
  CheckpointPolicy policy;
  policy.keep = 1;
  begin(policy);
  write(1);
  judge(1, CheckpointVerdict::verified);
  write(2);
  judge(2, CheckpointVerdict::verified);
  write(3);
  judge(3, CheckpointVerdict::verified);
  write(4);  // 1 and 2 are retired by now
  judge(3, CheckpointVerdict::damaged, "a shard is short");
  env.drop_messages();
  env.tick_alive(2h, 2s);
  const auto rows = [&](std::int64_t step) {
    CheckpointRow out;
    for (const auto& c : env.rows.checkpoints)
      if (c.step == step) out = c;
    return out;
  };
  ASSERT_EQ(rows(2).state, CheckpointState::good);
  EXPECT_EQ(rows(2).retired_at, Instant{}) << "the one that is kept is only found";
  EXPECT_FALSE(rows(2).deleting);
  EXPECT_TRUE(rows(1).deleting) << "one is enough";
}

}  // namespace
}  // namespace tutti
