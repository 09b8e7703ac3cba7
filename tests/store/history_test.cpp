// One suite, two stores: how things were, against a small cluster worked out by hand.
#include "db/history.h"

#include "db/memory/memory_history.h"
#include "db/memory/memory_waiting_reasons.h"
#include "db/pg/pg_history.h"
#include "db/pg/pg_waiting_reasons.h"
#include "tests/store/store_world.h"

namespace tutti {
namespace {

// Seconds: node 1 (GPUs 10, 11) since 0, node 2 (GPU 20) since 50.
//   job 1 (ann, nlp): submitted 10, runs 20–40 on GPUs 10 and 11 (in preflight until 25), succeeds.
//   job 2 (bob, vision): submitted 15, runs since 45 on GPU 10. Its reasons are recorded at 16.
//   job 3 (ann, nlp): held at its submission at 30.
class HistoryTest : public testing::TestWithParam<bool> {
 protected:
  HistoryTest() {
    if (GetParam()) {
      database_.emplace(TestPostgres::instance().create_database());
      store_ = std::make_unique<db::PgStore>(database_->connection_string());
      history_ = std::make_unique<db::PgHistory>(database_->connection_string());
      reasons_ = std::make_shared<db::PgWaitingReasons>(database_->connection_string());
    } else {
      auto rows = std::make_shared<db::MemoryDatabase>();
      store_ = std::make_unique<db::MemoryStore>(rows);
      reasons_ = std::make_shared<db::MemoryWaitingReasons>();
      history_ = std::make_unique<db::MemoryHistory>(rows, reasons_);
    }
    store_->acquire_leadership("test");
  }

  void submit(Batch& b, int id, const char* owner, const char* project, int when, JobState state) {
    SpecRow s = spec(id);
    JobRow j = job(id);
    s.owner = j.owner = owner;
    s.spec_json = R"({"name":"x","time_limit":"2h"})";
    s.initial_state = j.state = state;
    s.created_at = j.created_at = j.queued_at = at(when);
    j.project = project;
    j.gpus_per_node = 2;
    b.new_specs.push_back(s);
    b.new_jobs.push_back(j);
    say(b, when, id, "", std::string(name(state)));
  }
  void say(Batch& b, int when, int id, std::string from, std::string to, std::string kind = "state",
           int epoch = 0) {
    EventRow e = event(++last_event_, id, std::move(from), std::move(to), std::move(kind));
    e.at = at(when);
    e.epoch = Epoch(epoch);
    b.events.push_back(e);
  }
  void say_of_node(Batch& b, int when, int node, std::string kind, std::string from, std::string to,
                   std::string detail = "") {
    EventRow e = event(++last_event_, 0, std::move(from), std::move(to), std::move(kind));
    e.at = at(when);
    e.node = NodeId(node);
    e.detail = std::move(detail);
    b.events.push_back(e);
  }
  static NodeRow node_since(int id, int when) {
    NodeRow n = node(id);
    n.registered_at = n.state_at = at(when);
    return n;
  }

  void fill() {
    Batch b;
    b.nodes = {node_since(1, 0), node_since(2, 50)};
    b.gpus = {gpu(10, 1), gpu(11, 1), gpu(20, 2)};
    b.gpus[1].index = 1;
    say_of_node(b, 0, 1, "node", "", "reachable");
    submit(b, 1, "ann", "nlp", 10, JobState::queued);
    submit(b, 2, "bob", "vision", 15, JobState::queued);
    say(b, 20, 1, "queued", "starting", "state", 1);
    say(b, 26, 1, "starting", "running");
    submit(b, 3, "ann", "nlp", 30, JobState::held);
    say(b, 40, 1, "running", "succeeded");
    say(b, 45, 2, "queued", "starting", "state", 1);
    say_of_node(b, 50, 2, "node", "", "reachable");
    AttemptRow first = attempt(1, 1), second = attempt(2, 1);
    first.placed_at = at(20);
    first.preflight_at = at(21);
    first.starting_at = at(25);
    first.ended_at = at(40);
    first.state = AttemptState::ended;
    first.result = AttemptResult::succeeded;
    for (const char* n : {"n1", "n9"}) first.gang.emplace_back().node_name = n;
    second.placed_at = at(45);
    b.attempts = {first, second};
    b.opened = {allocation(10, 1, 1, 20), allocation(11, 1, 1, 20), allocation(10, 2, 1, 45)};
    b.closed = {until(b.opened[0], 40), until(b.opened[1], 40)};
    b.faults = {fault(1, 1), fault(2, 1)};
    b.faults[0].at = at(22);
    b.faults[0].shared_by = 2;
    b.faults[1].at = at(23);
    store_->commit(b);
    Batch over;
    JobRow done = b.new_jobs[0];
    done.state = JobState::succeeded;
    done.version = 2;
    done.epoch = Epoch(1);
    done.attempt = 1;
    done.ran = std::chrono::seconds(15);
    over.done.push_back({DoneRow{done, at(40), 0}, 1});
    store_->commit(over);
    reasons_->add({{JobId(2), at(16), "recorded"}});
  }

  // "n1 reachable schedulable: 0=free 1=job 1" and so on.
  std::string picture(int when) {
    std::string out;
    for (const auto& n : history_->machines(at(when)).nodes) {
      out += (out.empty() ? "" : "; ") + n.row.name + " " + std::string(name(n.row.state)) + " " +
             std::string(name(n.row.service)) + ":";
      for (const auto& g : n.gpus) {
        out += " " + std::to_string(g.row.id.value) + "=";
        if (!g.row.present) out += "absent,";
        out += name(g.row.health);
        if (g.holder)
          out += "," + std::to_string(g.holder->attempt.job.value) + g.holder->owner +
                 (g.holder->preflight ? "?" : "");
      }
    }
    return out;
  }
  std::vector<std::string> waiting(int when, const std::optional<Visible>& who = std::nullopt) {
    std::vector<std::string> out;
    for (const auto& j : history_->queue(at(when), who, 100).jobs)
      out.push_back(std::to_string(j.row.id.value) + " " + std::string(name(j.row.state)) + " since " +
                    std::to_string((j.since - at(0)) / std::chrono::seconds(1)) + " " + j.reasons_body);
    return out;
  }
  std::vector<std::string> decided(DecisionQuery query) {
    std::vector<std::string> out;
    for (const auto& d : history_->decisions(query)) {
      out.push_back(std::to_string(d.event.id.value) + std::string(*decision_word(d.event)));
      for (const auto& n : d.nodes) out.back() += " " + n;
      out.back() += d.node_name;
    }
    return out;
  }

  int last_event_ = 0;
  std::optional<TestDatabase> database_;
  std::unique_ptr<Store> store_;
  std::unique_ptr<HistoryStore> history_;
  std::shared_ptr<WaitingReasonStore> reasons_;
};

INSTANTIATE_TEST_SUITE_P(Both, HistoryTest, testing::Values(false, true),
                         [](const auto& info) { return info.param ? "Postgres" : "Memory"; });

TEST_P(HistoryTest, NothingIsKnownOfNothing) {
  EXPECT_EQ(history_->first_event(), std::nullopt);
  EXPECT_EQ(picture(10), "");
  EXPECT_EQ(history_->machines(at(10)).known_since.has_value(), GetParam()) << "in memory all is told";
  EXPECT_THAT(waiting(10), IsEmpty());
  EXPECT_EQ(history_->jobs(at(10)).by_state, StateCounts{});
  EXPECT_TRUE(history_->jobs(at(10)).ended_known);
  EXPECT_EQ(history_->density(at(0), at(10), 2), std::vector<DecisionCount>(2));
}

TEST_P(HistoryTest, WhoHeldWhichGpus) {
  fill();
  EXPECT_EQ(picture(-1), "") << "no node had registered";
  EXPECT_EQ(picture(19), "n1 reachable schedulable: 10=healthy 11=healthy");
  EXPECT_EQ(picture(20), "n1 reachable schedulable: 10=healthy,1ann 11=healthy,1ann");
  EXPECT_EQ(picture(22), "n1 reachable schedulable: 10=healthy,1ann? 11=healthy,1ann?");
  EXPECT_EQ(picture(25), "n1 reachable schedulable: 10=healthy,1ann 11=healthy,1ann");
  EXPECT_EQ(picture(40), "n1 reachable schedulable: 10=healthy 11=healthy") << "[from, until)";
  EXPECT_EQ(picture(60),
            "n1 reachable schedulable: 10=healthy,2bob 11=healthy; n2 reachable schedulable: 20=healthy");
}

TEST_P(HistoryTest, WhatChangedLaterIsTakenBack) {
  fill();
  Batch b;
  b.nodes = {node_since(1, 0)};
  b.nodes[0].state = NodeState::dead;
  b.nodes[0].service = NodeService::quarantined;
  b.gpus = {gpu(10, 1), gpu(11, 1)};
  b.gpus[0].health = GpuHealth::quarantined;
  b.gpus[1].present = false;
  b.gpus[1].index = 1;
  say_of_node(b, 61, 1, "node", "reachable", "unreachable");
  say_of_node(b, 62, 1, "node", "", "", "connection lost");
  say_of_node(b, 63, 1, "node", "unreachable", "dead");
  say_of_node(b, 64, 1, "service", "schedulable", "draining");
  say_of_node(b, 65, 1, "service", "draining", "quarantined");
  say_of_node(b, 66, 1, "gpu", "healthy", "dirty", "GPU-10: stays: alive");
  say_of_node(b, 67, 1, "gpu", "dirty", "quarantined", "GPU-10: Xid 79");
  say_of_node(b, 68, 1, "gpu", "GPU-11", "absent");
  store_->commit(b);
  const std::string other = "; n2 reachable schedulable: 20=healthy";
  EXPECT_EQ(picture(60), "n1 reachable schedulable: 10=healthy,2bob 11=healthy" + other);
  EXPECT_EQ(picture(61), "n1 unreachable schedulable: 10=healthy,2bob 11=healthy" + other);
  EXPECT_EQ(picture(64), "n1 dead draining: 10=healthy,2bob 11=healthy" + other);
  EXPECT_EQ(picture(66), "n1 dead quarantined: 10=dirty,2bob 11=healthy" + other);
  EXPECT_EQ(picture(70), "n1 dead quarantined: 10=quarantined,2bob 11=absent,healthy" + other);
}

TEST_P(HistoryTest, GpusThatCameOrMovedAreWhereTheyWere) {
  fill();
  Batch b;
  b.gpus = {gpu(11, 2), gpu(21, 2)};
  say_of_node(b, 61, 1, "gpu", "GPU-11", "absent");
  say_of_node(b, 62, 2, "gpu", "GPU-11", "present", "moved here from node n1");
  say_of_node(b, 63, 2, "gpu", "GPU-21", "added");
  say_of_node(b, 64, 2, "gpu", "GPU-21", "refused");
  store_->commit(b);
  EXPECT_EQ(picture(60),
            "n1 reachable schedulable: 10=healthy,2bob 11=healthy; n2 reachable schedulable: 20=healthy");
  EXPECT_EQ(
      picture(61),
      "n1 reachable schedulable: 10=healthy,2bob 11=absent,healthy; n2 reachable schedulable: 20=healthy");
  EXPECT_EQ(picture(63),
            "n1 reachable schedulable: 10=healthy,2bob; n2 reachable schedulable: 11=healthy 20=healthy "
            "21=healthy");
}

TEST_P(HistoryTest, WhoWaitedAndWhy) {
  fill();
  EXPECT_THAT(waiting(9), IsEmpty());
  EXPECT_THAT(waiting(15), ElementsAre("1 queued since 10 ", "2 queued since 15 ")) << "recorded at 16";
  EXPECT_THAT(waiting(35), ElementsAre("2 queued since 15 recorded", "3 held since 30 "));
  EXPECT_THAT(waiting(35, Visible{{"nlp"}, "eve"}), ElementsAre("3 held since 30 "));
  EXPECT_THAT(waiting(35, Visible{{}, "bob"}), ElementsAre("2 queued since 15 recorded"));
  EXPECT_THAT(waiting(100), ElementsAre("3 held since 30 "));
  const auto queue = history_->queue(at(15), std::nullopt, 1);
  EXPECT_TRUE(queue.cut);
  ASSERT_EQ(queue.jobs.size(), 1u);
  EXPECT_EQ(queue.jobs[0].name, "job-1");
  EXPECT_EQ(queue.jobs[0].row.attempt, 0) << "it has one now";
  EXPECT_FALSE(history_->queue(at(15), std::nullopt, 2).cut);
}

TEST_P(HistoryTest, ReasonsOfAnEarlierWaitAreNotShown) {
  fill();
  Batch b;
  say(b, 60, 2, "starting", "stopping");
  say(b, 61, 2, "stopping", "queued");
  store_->commit(b);
  EXPECT_THAT(waiting(62), ElementsAre("2 queued since 61 ", "3 held since 30 "));
  EXPECT_EQ(history_->queue(at(62), std::nullopt, 9).jobs[0].row.attempt, 1);
}

TEST_P(HistoryTest, JobsByState) {
  fill();
  const auto count = [&](int when, JobState state) {
    return history_->jobs(at(when)).by_state[static_cast<std::size_t>(state)];
  };
  EXPECT_EQ(count(15, JobState::queued), 2);
  EXPECT_EQ(count(21, JobState::starting), 1);
  EXPECT_EQ(count(35, JobState::running), 1);
  EXPECT_EQ(count(35, JobState::succeeded), 0);
  EXPECT_EQ(count(40, JobState::succeeded), 1);
  EXPECT_EQ(count(40, JobState::held), 1);
}

TEST_P(HistoryTest, DecisionsInPagesBothWays) {
  fill();
  Batch b;
  say(b, 60, 2, "", "", "preempt");
  say_of_node(b, 61, 1, "service", "schedulable", "cordoned");
  say_of_node(b, 62, 1, "incident", "", "link");
  say_of_node(b, 63, 1, "gpu", "healthy", "quarantined", "GPU-10");
  say_of_node(b, 63, 1, "gpu", "GPU-10", "absent");
  store_->commit(b);
  EXPECT_EQ(history_->first_event(), at(0));
  EXPECT_THAT(decided({.since = at(0), .until = at(100)}),
              ElementsAre("4start n1 n9", "7end", "8start", "10preempt", "11servicen1", "13gpun1"));
  EXPECT_THAT(decided({.since = at(20), .until = at(45)}), ElementsAre("4start n1 n9", "7end"));
  EXPECT_THAT(decided({.since = at(0), .until = at(100), .after = EventId(4), .limit = 2}),
              ElementsAre("7end", "8start"));
  EXPECT_THAT(decided({.since = at(0), .until = at(100), .newest_first = true, .limit = 2}),
              ElementsAre("13gpun1", "11servicen1"));
  EXPECT_THAT(decided({.since = at(0), .until = at(100), .newest_first = true, .after = EventId(8)}),
              ElementsAre("7end", "4start n1 n9"));
  EXPECT_THAT(decided({.since = at(0), .until = at(50), .visible = Visible{{"vision"}, ""}}),
              ElementsAre("8start"));
  const auto density = history_->density(at(20), at(70), 5);
  EXPECT_THAT(density, ElementsAre(DecisionCount{1, 1, 0, 2}, DecisionCount{}, DecisionCount{2, 1, 0, 0},
                                   DecisionCount{}, DecisionCount{3, 0, 1, 0}));
}

TEST_P(HistoryTest, WhatRanOnANode) {
  fill();
  const auto all = history_->node_attempts(NodeId(1), 10, 0);
  ASSERT_EQ(all.size(), 2u);
  EXPECT_EQ(all[0].row.job, JobId(2));
  EXPECT_EQ(all[0].until, std::nullopt);
  EXPECT_EQ(all[0].row.result, AttemptResult::none);
  EXPECT_EQ(all[1].row.job, JobId(1));
  EXPECT_EQ(all[1].job_name, "job-1");
  EXPECT_EQ(all[1].project, "nlp");
  EXPECT_EQ(all[1].owner, "ann");
  EXPECT_THAT(all[1].gpus, ElementsAre(0, 1));
  EXPECT_EQ(all[1].from, at(20));
  EXPECT_EQ(all[1].until, at(40));
  EXPECT_EQ(all[1].row.result, AttemptResult::succeeded);
  EXPECT_THAT(history_->node_attempts(NodeId(2), 10, 0), IsEmpty());
  ASSERT_THAT(history_->node_attempts(NodeId(1), 10, 1), SizeIs(1));
  EXPECT_THAT(history_->node_attempts(NodeId(1), 10, 7), IsEmpty());
  EXPECT_THAT(history_->node_attempts(NodeId(1), 1, 0), SizeIs(1));
}

TEST_P(HistoryTest, InspectionsAndBlame) {
  fill();
  Batch b;
  for (int i = 0; i < 3; ++i) say_of_node(b, 60 + i, 1, "inspection", "", "passed", "12 checks (idle)");
  say_of_node(b, 70, 2, "inspection", "", "failed", "disk (person)");
  store_->commit(b);
  const auto first = history_->inspections(NodeId(1), 2, {});
  ASSERT_THAT(first, SizeIs(2));
  EXPECT_EQ(first[0].at, at(62));
  EXPECT_EQ(first[0].detail, "12 checks (idle)");
  const auto next = history_->inspections(NodeId(1), 2, first[1].id);
  ASSERT_THAT(next, SizeIs(1));
  EXPECT_EQ(next[0].at, at(60));
  const auto blamed = history_->blamed(at(0));
  ASSERT_THAT(blamed, SizeIs(1)) << "the other speaks against nobody";
  EXPECT_EQ(blamed[0].node, NodeId(1));
  EXPECT_EQ(blamed[0].shared_by, 2);
  EXPECT_EQ(blamed[0].at, at(22));
  EXPECT_THAT(history_->blamed(at(23)), IsEmpty());
}

TEST_P(HistoryTest, WhatRanAndHowLongItWaited) {
  fill();
  const auto ran = history_->ran(at(0), at(100), 10);
  ASSERT_THAT(ran.jobs, SizeIs(1));
  EXPECT_EQ(ran.jobs[0].queued_at, at(10));
  EXPECT_EQ(ran.jobs[0].owner, "ann");
  EXPECT_EQ(ran.jobs[0].gpus, 2);
  EXPECT_EQ(ran.jobs[0].ran, std::chrono::seconds(15));
  EXPECT_EQ(ran.jobs[0].time_limit, "2h");
  EXPECT_EQ(ran.others, 2);
  EXPECT_FALSE(ran.cut);
  EXPECT_THAT(history_->ran(at(11), at(100), 10).jobs, IsEmpty());
  EXPECT_THAT(history_->ran(at(0), at(10), 10).jobs, IsEmpty());
  using std::chrono::seconds;
  const auto waits = [&](const char* project, int since, const std::optional<Visible>& who = std::nullopt) {
    return history_->waits(project, who, at(since), {seconds(10), seconds(30)}).below;
  };
  EXPECT_THAT(waits("nlp", 0), ElementsAre(0, 1, 0)) << "ten seconds are not below ten";
  EXPECT_THAT(waits("vision", 0), ElementsAre(0, 0, 1));
  EXPECT_THAT(waits("vision", 0, Visible{{"nlp"}, "ann"}), ElementsAre(0, 0, 0));
  EXPECT_THAT(waits("vision", 0, Visible{{}, "bob"}), ElementsAre(0, 0, 1));
  EXPECT_THAT(waits("nlp", 11), ElementsAre(0, 0, 0)) << "the one that is held has not begun";

  Batch scratch, again;  // it gave way, was held, and is released
  submit(scratch, 2, "bob", "vision", 15, JobState::queued);
  JobRow released = scratch.new_jobs[0];
  released.version = 2;
  released.queued_at = at(60);
  again.jobs = {{released, 1}};
  store_->commit(again);
  EXPECT_THAT(waits("vision", 0), ElementsAre(0, 0, 1))
      << "its first start was after thirty seconds as before";
}

}  // namespace
}  // namespace tutti
