// Refusals leave nothing behind, on both stores: conflicts, and rows that break a rule.
#include "db/store.h"

#include "tests/store/store_world.h"

namespace tutti {
namespace {

TEST_P(StoreTest, UpdateOnAnotherVersionIsAConflictAndNothingOfTheBatchStays) {
  store_->commit(submission(1));
  Batch b = submission(2);
  b.jobs = {{full_job(1), 3}};
  b.events = {event(1, 1, "", "queued")};
  EXPECT_EQ(refusal(b), StoreError::conflict);
  EXPECT_THAT(store_->load().jobs, ElementsAre(job(1)));
  EXPECT_THAT(reader_->all_events(EventId(0), 10), IsEmpty());
  EXPECT_FALSE(reader_->find_job(JobId(2)));
}

TEST_P(StoreTest, UpdateOfAMissingJobIsAConflict) {
  Batch b;
  for (const std::int32_t base : {1, 0}) {
    b.jobs = {{full_job(1), base}};
    EXPECT_EQ(refusal(b), StoreError::conflict) << base;
  }
}

TEST_P(StoreTest, EndOnAnotherVersionIsAConflict) {
  store_->commit(submission(1));
  DoneRow done{job(1), at(9), 0};
  done.job.state = JobState::cancelled;
  Batch b;
  b.done = {{done, 2}};
  EXPECT_EQ(refusal(b), StoreError::conflict);
  b.done[0].base_version = 1;
  store_->commit(b);
  EXPECT_EQ(refusal(b), StoreError::conflict) << "it has ended already";
}

TEST_P(StoreTest, StoreGoesOnAfterAConflict) {
  Batch b;
  b.jobs = {{full_job(1), 1}};
  EXPECT_EQ(refusal(b), StoreError::conflict);
  store_->commit(submission(1));
  EXPECT_THAT(store_->load().jobs, SizeIs(1));
}

TEST_P(StoreTest, SecondJobOfAnIdIsAConflictEvenAfterTheFirstHasEnded) {
  store_->commit(submission(1));
  EXPECT_EQ(refusal(submission(1)), StoreError::conflict);
  DoneRow done{job(1), at(9), 0};
  done.job.state = JobState::cancelled;
  Batch end;
  end.done = {{done, 1}};
  store_->commit(end);
  EXPECT_EQ(refusal(submission(1)), StoreError::conflict);
}

TEST_P(StoreTest, SecondUseOfAKeyByItsOwnerIsAConflict) {
  Batch b = submission(1);
  b.new_specs[0].idempotency_key = "k";
  store_->commit(b);
  Batch again = submission(2);
  again.new_specs[0].idempotency_key = "k";
  EXPECT_EQ(refusal(again), StoreError::conflict);
  again.new_specs[0].owner = "bob";
  store_->commit(again);
}

TEST_P(StoreTest, GpuIsNeverHeldTwice) {
  Batch b;
  b.opened = {allocation(1, 1, 1, 10)};
  store_->commit(b);
  b.opened = {allocation(1, 2, 1, 20)};
  EXPECT_EQ(refusal(b), StoreError::conflict);
  EXPECT_THAT(store_->load().allocations, ElementsAre(allocation(1, 1, 1, 10)));
  b.opened = {allocation(2, 3, 1, 0), allocation(2, 4, 1, 5)};
  EXPECT_EQ(refusal(b), StoreError::conflict) << "both in one batch";
}

TEST_P(StoreTest, GpuPassesToTheNextAttemptInOneBatchAndTheTimesTouch) {
  Batch b;
  b.opened = {allocation(1, 1, 1, 10)};
  store_->commit(b);
  b.closed = {until(allocation(1, 1, 1, 10), 20)};
  b.opened = {allocation(1, 2, 1, 20)};
  store_->commit(b);
  EXPECT_THAT(store_->load().allocations, ElementsAre(allocation(1, 2, 1, 20)));
  b.closed = {until(allocation(1, 2, 1, 20), 30)};
  b.opened = {allocation(1, 3, 1, 29)};
  EXPECT_EQ(refusal(b), StoreError::conflict) << "the past of a GPU counts too";
}

TEST_P(StoreTest, AllocationMayOpenAndCloseInOneBatch) {
  Batch b;
  b.opened = {allocation(1, 1, 1, 10)};
  b.closed = {until(allocation(1, 1, 1, 10), 12)};
  store_->commit(b);
  EXPECT_THAT(store_->load().allocations, IsEmpty());
  b.closed.clear();
  b.opened = {allocation(1, 2, 1, 11)};
  EXPECT_EQ(refusal(b), StoreError::conflict);
  b.opened = {allocation(1, 2, 1, 12)};
  store_->commit(b);
}

TEST_P(StoreTest, ClosingWhatIsNotHeldIsAConflict) {
  Batch b;
  b.closed = {until(allocation(1, 1, 1, 10), 20)};
  EXPECT_EQ(refusal(b), StoreError::conflict);
  Batch open;
  open.opened = {allocation(1, 1, 1, 10)};
  store_->commit(open);
  store_->commit(b);
  EXPECT_EQ(refusal(b), StoreError::conflict) << "a second time";
}

TEST_P(StoreTest, EndedAttemptStaysEnded) {
  AttemptRow ended = full_attempt(1, 1);
  ended.state = AttemptState::ended;
  ended.result = AttemptResult::stopped;
  ended.ended_at = at(16);
  Batch b;
  b.attempts = {ended};
  store_->commit(b);
  b.attempts = {full_attempt(1, 1)};
  EXPECT_EQ(refusal(b), StoreError::conflict);
  ended.evidence_json = R"(["more"])";  // what is found out later may be added
  b.attempts = {ended};
  store_->commit(b);
  EXPECT_THAT(reader_->attempts(JobId(1)), ElementsAre(ended));
}

TEST_P(StoreTest, NamesAndUuidsAreUnique) {
  Batch b;
  b.nodes = {node(1)};
  b.gpus = {gpu(1, 1)};
  store_->commit(b);
  Batch twin;
  twin.nodes = {node(2)};
  twin.nodes[0].name = "n1";
  EXPECT_EQ(refusal(twin), StoreError::conflict);
  Batch same_gpu;
  same_gpu.gpus = {gpu(2, 1)};
  same_gpu.gpus[0].uuid = "GPU-1";
  EXPECT_EQ(refusal(same_gpu), StoreError::conflict);
  Batch nowhere;
  nowhere.gpus = {gpu(3, 77)};
  EXPECT_EQ(refusal(nowhere), StoreError::conflict);
}

TEST_P(StoreTest, SecondUseOfAFaultIdIsAConflict) {
  Batch b;
  b.faults = {fault(1, 1)};
  store_->commit(b);
  EXPECT_EQ(refusal(b), StoreError::conflict);
}

TEST_P(StoreTest, RowsThatBreakARuleAreCorrupt) {
  const auto changed = [](auto change) {
    Batch b = submission(1);
    change(b);
    return b;
  };
  EXPECT_EQ(refusal(changed([](Batch& b) { b.new_jobs[0].priority = 101; })), StoreError::corrupt);
  EXPECT_EQ(refusal(changed([](Batch& b) { b.new_jobs[0].state = JobState::succeeded; })),
            StoreError::corrupt);
  EXPECT_EQ(refusal(changed([](Batch& b) { b.new_jobs[0].state = JobState::running; })), StoreError::corrupt);
  EXPECT_EQ(refusal(changed([](Batch& b) { b.new_jobs[0].state = JobState::delayed; })), StoreError::corrupt);
  EXPECT_EQ(refusal(changed([](Batch& b) { b.new_jobs[0].attempt = 1; })), StoreError::corrupt);
  EXPECT_EQ(refusal(changed([](Batch& b) { b.new_specs.clear(); })), StoreError::corrupt);
  EXPECT_EQ(refusal(changed([](Batch& b) { b.new_specs[0].initial_state = JobState::running; })),
            StoreError::corrupt);
  EXPECT_EQ(refusal(changed([](Batch& b) { b.events = {event(1, 1, "queued", "running")}; })),
            StoreError::corrupt);
  EXPECT_EQ(
      refusal(changed([](Batch& b) { b.attempts = {full_attempt(1, 1)}, b.attempts[0].ended_at = at(1); })),
      StoreError::corrupt);
  EXPECT_EQ(refusal(changed([](Batch& b) { b.closed = {allocation(1, 1, 1, 1)}; })), StoreError::corrupt);
  EXPECT_THAT(store_->load().jobs, IsEmpty());
}

}  // namespace
}  // namespace tutti
