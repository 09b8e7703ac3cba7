// One suite, two stores: what the control plane may rely on, whichever it runs on. Here: what is written
// comes back. What is refused is in store_refusals_test.cpp, who may write in store_leadership_test.cpp.
#include "db/store.h"

#include "tests/store/store_world.h"

namespace tutti {
namespace {

INSTANTIATE_TEST_SUITE_P(Both, StoreTest, testing::Values(Kind::memory, Kind::postgres),
                         [](const auto& info) { return info.param == Kind::memory ? "Memory" : "Postgres"; });

TEST_P(StoreTest, FreshStoreHasTheDefaultQueueAndProjectOnly) {
  const Snapshot s = store_->load();
  EXPECT_THAT(s.queues, ElementsAre(QueueRow{.name = "default", .nodes_of = ""}));
  EXPECT_THAT(s.projects, ElementsAre(ProjectRow{.name = "default", .parent = ""}));
  EXPECT_THAT(s.reservations, IsEmpty());
  EXPECT_THAT(s.jobs, IsEmpty());
  EXPECT_EQ(s.last_job, JobId(0));
  EXPECT_EQ(s.last_event, EventId(0));
}

TEST_P(StoreTest, SharesComeBackChangeAndGo) {
  Batch b;
  b.queues = {{.name = "a", .nodes_of = "default", .quota_gpus = 8, .borrow_gpus = 4, .lend_gpus = 2}};
  b.projects = {{.name = "nlp", .parent = "", .weight = 0.1, .max_gpus = 64},
                {.name = kNastyText, .parent = "nlp", .weight = 1e-7, .max_gpus = 0}};
  const ReservationRow r{.name = "course",
                         .reason = kNastyText,
                         .nodes = {"n1", "n \"2\""},
                         .projects = {"nlp"},
                         .from = at(1),
                         .until = at(2)};
  b.reservations = {r};
  store_->commit(b);
  Snapshot s = store_->load();
  EXPECT_THAT(s.queues,
              testing::UnorderedElementsAre(b.queues[0], QueueRow{.name = "default", .nodes_of = ""}));
  EXPECT_THAT(s.projects, testing::UnorderedElementsAre(b.projects[0], b.projects[1],
                                                        ProjectRow{.name = "default", .parent = ""}));
  EXPECT_THAT(s.reservations, ElementsAre(r));
  Batch change;
  change.queues = {{.name = "a", .nodes_of = "", .quota_gpus = -1}};
  change.removed_projects = {std::string(kNastyText)};
  change.removed_reservations = {"course"};
  store_->commit(change);
  s = store_->load();
  EXPECT_THAT(s.queues, testing::Contains(change.queues[0]));
  EXPECT_EQ(s.projects.size(), 2u);
  EXPECT_THAT(s.reservations, IsEmpty());
}

// What a new leader's planner begins with: who has used how much, and how long such jobs run.
TEST_P(StoreTest, TheNewestEndedJobsComeBackOldestFirst) {
  Batch b;
  for (const std::int64_t id : {1, 2, 3}) {
    b.new_specs.push_back(spec(id));
    b.new_jobs.push_back(job(id));
  }
  store_->commit(b);
  Batch end;
  const auto done = [&](std::int64_t id, JobState state, Duration ran, int at_second) {
    JobRow row = job(id);
    row.version = 2;
    row.state = state;
    row.project = "default";
    row.nodes = 2;
    row.gpus_per_node = 4;
    row.ran = ran;
    end.done.push_back({{.job = row, .ended_at = at(at_second), .exit_code = 0}, 1});
  };
  done(1, JobState::succeeded, std::chrono::hours(1), 9);
  done(2, JobState::failed, std::chrono::hours(2), 5);
  done(3, JobState::cancelled, Duration::zero(), 7);  // never ran
  store_->commit(end);
  const auto past = store_->load().past;
  ASSERT_EQ(past.size(), 2u);
  EXPECT_EQ(past[0].ran, std::chrono::hours(2));
  EXPECT_FALSE(past[0].finished);
  EXPECT_EQ(past[1].gpus, 8);
  EXPECT_TRUE(past[1].finished);
  EXPECT_EQ(past[1].ended_at, at(9));
}

TEST_P(StoreTest, EveryColumnOfAJobComesBack) {
  Batch b;
  b.new_specs = {spec(1), spec(2, JobState::blocked)};
  b.new_specs[0].name = b.new_specs[0].owner = kNastyText;
  b.new_specs[0].spec_json = std::string(R"({"run":"echo \"é\" \\n"} )") + kNastyText;
  b.new_jobs = {full_job(1), job(2)};
  store_->commit(b);
  const Snapshot s = store_->load();
  EXPECT_THAT(s.jobs, ElementsAre(b.new_jobs[0], b.new_jobs[1]));
  EXPECT_EQ(s.specs.of(0), b.new_specs[0].spec_json);
  EXPECT_EQ(s.specs.of(1), b.new_specs[1].spec_json);
  EXPECT_EQ(s.last_job, JobId(2));
  EXPECT_EQ(reader_->find_job(JobId(1))->name, kNastyText);
}

TEST_P(StoreTest, EveryColumnOfAJobIsUpdated) {
  store_->commit(submission(1));
  Batch b;
  b.jobs = {{full_job(1), 1}};
  store_->commit(b);
  EXPECT_THAT(store_->load().jobs, ElementsAre(full_job(1)));
  b.jobs[0] = {job(1), 7};
  b.jobs[0].row.version = 8;
  store_->commit(b);
  EXPECT_THAT(store_->load().jobs, ElementsAre(b.jobs[0].row));
}

TEST_P(StoreTest, FinishedJobLeavesTheSnapshotAndKeepsEveryColumn) {
  store_->commit(submission(1));
  Batch b;
  DoneRow done{full_job(1), at(99), 137};
  done.job.state = JobState::failed;
  b.done = {{done, 1}};
  store_->commit(b);
  EXPECT_THAT(store_->load().jobs, IsEmpty());
  EXPECT_EQ(store_->load().last_job, JobId(1));
  const auto view = reader_->find_job(JobId(1));
  ASSERT_TRUE(view);
  EXPECT_EQ(view->row, done.job);
  EXPECT_EQ(view->ended_at, at(99));
  EXPECT_EQ(view->exit_code, 137);
  EXPECT_EQ(view->spec_json, spec(1).spec_json);
}

TEST_P(StoreTest, JobMayComeAndEndInOneBatch) {
  for (const bool listed : {false, true}) {
    const std::int64_t id = listed ? 2 : 1;
    Batch b = submission(id);
    if (!listed) b.new_jobs.clear();
    DoneRow done{job(id), at(5), 0};
    done.job.state = JobState::cancelled;
    b.done = {{done, 0}};
    store_->commit(b);
    EXPECT_THAT(store_->load().jobs, IsEmpty());
    EXPECT_EQ(reader_->find_job(JobId(id))->row.state, JobState::cancelled);
  }
}

TEST_P(StoreTest, JobMayComeAndChangeInOneBatch) {
  Batch b = submission(1);
  b.jobs = {{full_job(1), 1}};
  store_->commit(b);
  EXPECT_THAT(store_->load().jobs, ElementsAre(full_job(1)));
}

TEST_P(StoreTest, EveryColumnOfAnAttemptComesBackAndIsUpdated) {
  Batch b;
  b.attempts = {attempt(1, 1), full_attempt(2, 5)};
  store_->commit(b);
  EXPECT_THAT(store_->load().attempts, ElementsAre(b.attempts[0], b.attempts[1]));
  Batch change;
  change.attempts = {full_attempt(1, 1)};
  store_->commit(change);
  EXPECT_THAT(store_->load().attempts, ElementsAre(change.attempts[0], b.attempts[1]));
  AttemptRow ended = full_attempt(2, 5);
  ended.state = AttemptState::ended;
  ended.result = AttemptResult::failed;
  ended.ended_at = at(16);
  change.attempts = {full_attempt(2, 5), ended};  // of equal keys the last one counts
  store_->commit(change);
  EXPECT_THAT(store_->load().attempts, SizeIs(1));
  EXPECT_THAT(reader_->attempts(JobId(2)), ElementsAre(ended));
}

TEST_P(StoreTest, EveryColumnOfNodesAndGpusComesBackAndIsUpdated) {
  Batch b;
  b.nodes = {full_node(1), node(2)};
  b.gpus = {full_gpu(1, 1), gpu(2, 2)};
  store_->commit(b);
  Snapshot s = store_->load();
  EXPECT_THAT(s.nodes, ElementsAre(b.nodes[0], b.nodes[1]));
  EXPECT_THAT(s.gpus, ElementsAre(b.gpus[0], b.gpus[1]));
  EXPECT_EQ(s.last_node, NodeId(2));
  EXPECT_EQ(s.last_gpu, GpuId(2));
  Batch change;
  change.nodes = {node(1), full_node(2)};
  change.gpus = {full_gpu(2, 1), gpu(1, 2)};
  store_->commit(change);
  s = store_->load();
  EXPECT_THAT(s.nodes, ElementsAre(node(1), full_node(2)));
  EXPECT_THAT(s.gpus, ElementsAre(gpu(1, 2), full_gpu(2, 1)));
}

TEST_P(StoreTest, CheckpointsComeBackForUnfinishedJobsOnlyAndOncePerPath) {
  Batch b = submission(1);
  const Batch other = submission(2);
  b.new_specs.push_back(other.new_specs[0]);
  b.new_jobs.push_back(other.new_jobs[0]);
  b.checkpoints = {checkpoint(1, 1, 200), checkpoint(1, 1, 100), checkpoint(2, 1, 7), checkpoint(1, 2, 100)};
  b.checkpoints[0].path = std::string(3500, 'x') + kNastyText;
  store_->commit(b);
  Batch again;
  // The path is known: the row is replaced, and the last of a batch counts.
  again.checkpoints = {checkpoint(1, 3, 100), full_checkpoint(1, 3, 100)};
  store_->commit(again);
  b.checkpoints[1] = again.checkpoints[1];
  EXPECT_THAT(store_->load().checkpoints, ElementsAre(b.checkpoints[1], b.checkpoints[0], b.checkpoints[2]));
  EXPECT_THAT(reader_->checkpoints(JobId(1)), ElementsAre(b.checkpoints[1], b.checkpoints[0]));
  Batch deleted;
  deleted.checkpoints = {b.checkpoints[1]};
  deleted.checkpoints[0].deleted_at = at(500);
  store_->commit(deleted);
  EXPECT_THAT(store_->load().checkpoints, ElementsAre(b.checkpoints[0], b.checkpoints[2]))
      << "the scheduler needs those no more";
  EXPECT_THAT(reader_->checkpoints(JobId(1)), ElementsAre(deleted.checkpoints[0], b.checkpoints[0]));
  Batch end;
  DoneRow done{job(1), at(9), 0};
  done.job.state = JobState::cancelled;
  end.done = {{done, 1}};
  store_->commit(end);
  EXPECT_THAT(store_->load().checkpoints, ElementsAre(b.checkpoints[2]));
}

TEST_P(StoreTest, EventsAndFaultsComeBack) {
  Batch b;
  EventRow first = event(3, 1, "running", "stopping");
  first.node = NodeId(4);
  first.epoch = Epoch(2);
  first.cause = Cause::hang;
  first.detail = kNastyText;
  FaultRow full = fault(1, 4);
  full.gpu = GpuId(8);
  full.job = JobId(1);
  full.epoch = Epoch(2);
  full.xid = 79;
  full.action = full.detail = kNastyText;
  b.events = {first, node_event(4, 2, "reachable", "unreachable"), event(5, 1, kNastyText, "", "note")};
  b.faults = {full, fault(2, 5)};
  store_->commit(b);
  EXPECT_THAT(reader_->all_events(EventId(0), 10), ElementsAre(b.events[0], b.events[1], b.events[2]));
  EXPECT_THAT(reader_->faults({}, 10, FaultId(0)), ElementsAre(b.faults[1], b.faults[0]));
  const Snapshot s = store_->load();
  EXPECT_EQ(s.last_event, EventId(5));
  EXPECT_EQ(s.last_fault, FaultId(2));
}

TEST_P(StoreTest, LastEventCountsNodesEventsToo) {
  Batch b;
  b.events = {event(3, 1, "", "queued"), node_event(9, 2, "", "reachable")};
  store_->commit(b);
  EXPECT_EQ(store_->load().last_event, EventId(9));
}

TEST_P(StoreTest, ThousandRowsInABatchKeepTheirOrderAndValues) {
  Batch b;
  for (int i = 1; i <= 1000; ++i) {
    b.new_specs.push_back(spec(i));
    b.new_jobs.push_back(i % 3 == 0 ? full_job(i) : job(i));
    b.events.push_back(event(i, i, "", "queued"));
  }
  store_->commit(b);
  const Snapshot s = store_->load();
  ASSERT_THAT(s.jobs, SizeIs(1000));
  for (std::size_t i = 0; i < 1000; ++i) ASSERT_EQ(s.jobs[i], b.new_jobs[i]) << i;
  Batch update;
  for (const auto& j : s.jobs) {
    update.jobs.push_back({j, j.version});
    update.jobs.back().row.version += 1;
    update.jobs.back().row.priority = static_cast<std::int16_t>(j.id.value % 100);
  }
  store_->commit(update);
  const Snapshot after = store_->load();
  for (std::size_t i = 0; i < 1000; ++i) ASSERT_EQ(after.jobs[i].priority, (i + 1) % 100) << i;
  EXPECT_THAT(reader_->all_events(EventId(0), 5000), SizeIs(kMaxPage));
}

TEST_P(StoreTest, IdempotencyKeysComeBackWithTheirHash) {
  Batch b = submission(1);
  b.new_specs[0].idempotency_key = kNastyText;
  b.new_specs[0].body_hash = 0xFFFFFFFFFFFFFFF0;
  store_->commit(b);
  EXPECT_THAT(store_->load().keys,
              ElementsAre(Snapshot::Key{"ann", kNastyText, 0xFFFFFFFFFFFFFFF0, JobId(1)}));
  EXPECT_EQ(reader_->find_by_key("ann", kNastyText)->job, JobId(1));
  EXPECT_EQ(reader_->find_by_key("ann", kNastyText)->body_hash, 0xFFFFFFFFFFFFFFF0);
  EXPECT_FALSE(reader_->find_by_key("bob", kNastyText));

  // Forgotten, and used again in the same batch.
  Batch again = submission(2);
  again.new_specs[0].idempotency_key = kNastyText;
  again.forgotten_keys = {{"ann", kNastyText}, {"ann", "never seen"}};
  store_->commit(again);
  EXPECT_EQ(reader_->find_by_key("ann", kNastyText)->job, JobId(2));
  EXPECT_THAT(store_->load().keys, SizeIs(1));
}

// ---------------------------------------------------------------- what becomes known later

TEST_P(StoreTest, ALaterVerdictCountsAlsoInTheBatchOfTheEnd) {
  Batch b = submission(1);
  b.attempts = {full_attempt(1, 1)};
  b.attempts[0].state = AttemptState::ended;
  b.attempts[0].result = AttemptResult::failed;
  b.attempts[0].ended_at = at(16);
  b.attempts[0].cause = Cause::user;
  b.supplemented = b.revised = b.attempts;
  b.supplemented[0].evidence_json = R"(["more"])";
  b.revised[0].evidence_json = R"(["more","and why"])";
  b.revised[0].cause = Cause::gpu;
  store_->commit(b);
  EXPECT_THAT(reader_->attempts(JobId(1)), ElementsAre(b.revised[0]));
}

TEST_P(StoreTest, WhatBecomesKnownOfAnEndedAttemptIsAdded) {
  Batch b = submission(1);
  b.attempts = {full_attempt(1, 1)};
  b.attempts[0].state = AttemptState::ended;
  b.attempts[0].result = AttemptResult::succeeded;
  b.attempts[0].cause = Cause::none;
  b.attempts[0].ended_at = at(16);
  store_->commit(b);
  Batch late;
  late.supplemented = b.attempts;
  late.supplemented[0].evidence_json = R"(["more"])";
  EXPECT_FALSE(late.empty());
  store_->commit(late);
  EXPECT_THAT(reader_->attempts(JobId(1)), ElementsAre(late.supplemented[0]));
}

TEST_P(StoreTest, WhomAFaultSpeaksAgainstMayBeTakenBack) {
  Batch b;
  b.faults = {fault(1, 1), fault(2, 2), fault(3, 3)};
  for (auto& f : b.faults) f.shared_by = 1;
  b.withdrawn = {FaultId(2)};
  store_->commit(b);
  EXPECT_THAT(store_->load().blamed, SizeIs(2)) << "in the batch that brings it";
  Batch later;
  later.withdrawn = {FaultId(1)};
  store_->commit(later);
  EXPECT_THAT(store_->load().blamed, ElementsAre(b.faults[2]));
  EXPECT_EQ(reader_->faults({}, 10, FaultId(0)).size(), 3u) << "the history stays";
}

TEST_P(StoreTest, TheNewestFailedAttemptsComeBackWithoutTheirWords) {
  Batch b;
  for (const std::int64_t id : {1, 2, 3}) {
    b.new_specs.push_back(spec(id));
    b.new_jobs.push_back(job(id));
    if (id == 2) continue;
    b.new_jobs.back().attempt = 6;
    b.new_jobs.back().epoch = Epoch(6);
  }
  for (const std::int64_t id : {1, 3})
    for (std::int64_t epoch = 1; epoch <= 6; ++epoch) {
      AttemptRow a = full_attempt(id, epoch);
      a.number = static_cast<std::int32_t>(epoch);
      a.state = AttemptState::ended;
      a.result = epoch >= 5 ? AttemptResult::stopped : AttemptResult::failed;
      a.ended_at = at(16);
      b.attempts.push_back(a);
    }
  store_->commit(b);
  const auto past = store_->load().past_attempts;
  ASSERT_THAT(past, SizeIs(6));
  for (std::size_t i = 0; i < past.size(); ++i) {
    EXPECT_EQ(past[i].job, JobId(i < 3 ? 1 : 3));
    EXPECT_EQ(past[i].epoch, Epoch(static_cast<std::int64_t>(i % 3) + 2)) << "preempted ones tell nothing";
    EXPECT_EQ(past[i].signature, kNastyText);
    EXPECT_EQ(past[i].gang, b.attempts[0].gang);
    EXPECT_EQ(past[i].evidence_json, "[]");
    EXPECT_EQ(past[i].detail, "");
  }
}

}  // namespace
}  // namespace tutti
