// Queues, projects and reservations, as operators set them up.
#include "tests/support/test_env.h"

namespace tutti::testing {
namespace {

struct ControlSharesTest : ::testing::Test {
  TestEnv env;

  Result<Warnings> queue(const QueueRow& row) {
    auto r = env.plane->on_put_queue(env.now, row, "ada");
    env.step();
    return r;
  }
  Result<Warnings> project(const ProjectRow& row) {
    auto r = env.plane->on_put_project(env.now, row, "ada");
    env.step();
    return r;
  }
  Result<Warnings> reserve(const ReservationRow& row) {
    auto r = env.plane->on_put_reservation(env.now, row, "ada");
    env.step();
    return r;
  }
  static JobSpec in(const std::string& queue, const std::string& project = "default") {
    JobSpec spec = job_spec(1, 8);
    spec.queue = queue;
    spec.project = project;
    return spec;
  }
};

// As a restore leaves it: also of nodes that nobody knew when it was set.
TEST_F(ControlSharesTest, ReservationOfAllNodesIsAlsoOfThoseThatComeLater) {
  env.add_node("a");
  ASSERT_TRUE(reserve({.name = "restored",
                       .reason = "old work may run",
                       .nodes = {"*"},
                       .projects = {},
                       .from = env.now.wall,
                       .until = env.now.wall + 20min}));
  EXPECT_FALSE(reserve({.name = "other",
                        .reason = "",
                        .nodes = {"a"},
                        .projects = {},
                        .from = env.now.wall + 1min,
                        .until = env.now.wall + 2min}));
  env.add_node("b");
  const JobId job = env.submit(in("default"));
  EXPECT_EQ(env.state(job), JobState::queued);
  ASSERT_TRUE(env.plane->on_remove_reservation(env.now, "restored", "ada"));
  env.plan();
  EXPECT_EQ(env.state(job), JobState::starting);
}

TEST_F(ControlSharesTest, QueuesOnTheSameNodesLendAndTakeBack) {
  const NodeId a = env.add_node("a"), b = env.add_node("b");
  ASSERT_TRUE(queue({.name = "left", .nodes_of = "default", .quota_gpus = 8}));
  ASSERT_TRUE(queue({.name = "right", .nodes_of = "default", .quota_gpus = 8}));
  EXPECT_EQ(env.rows.queues.size(), 2u);
  const JobId own = env.submit(in("left")), borrowed = env.submit(in("left"));
  env.run(own), env.run(borrowed);
  const JobId theirs = env.submit(in("right"));
  ASSERT_EQ(env.state(own) == JobState::stopping, false);
  ASSERT_EQ(env.state(borrowed), JobState::stopping) << "runs on what the other has lent";
  const AttemptKey key = env.key_of(borrowed);
  EXPECT_EQ(env.plane->find_attempt(key)->row.cause, Cause::preempted);
  env.end(env.nodes_of(key).front(), key, false);
  EXPECT_EQ(env.state(theirs), JobState::starting);
  EXPECT_EQ(env.state(borrowed), JobState::queued);
  EXPECT_EQ(env.plane->gpus_held("left", ""), 8);
  (void)a, (void)b;
}

TEST_F(ControlSharesTest, AQuotaBelowPresentUseIsToldAndKeepsOthersOut) {
  env.add_node("a"), env.add_node("b");
  env.run(env.submit(in("default")));
  const auto warnings = queue({.name = "default", .nodes_of = "", .quota_gpus = 4, .borrow_gpus = 0});
  ASSERT_TRUE(warnings);
  ASSERT_EQ(warnings->size(), 1u);
  EXPECT_EQ(warnings->front().substr(0, 34), "queue 'default' holds 8 GPUs, more");
  const JobId waits = env.submit(in("default"));
  EXPECT_EQ(env.state(waits), JobState::queued);
  const auto why = env.plane->explain(waits, env.now, true);
  EXPECT_EQ(why.reasons.at(0).code, "quota");
  ASSERT_EQ(why.blockers.size(), 1u);
  EXPECT_EQ(why.blockers[0].code, "quota");
}

TEST_F(ControlSharesTest, NonsenseIsRefusedByName) {
  env.add_node("a");
  EXPECT_EQ(queue({.name = "x", .nodes_of = "nowhere"}).error().field, "nodes_of");
  EXPECT_EQ(queue({.name = "x", .nodes_of = "x"}).error().field, "nodes_of");
  EXPECT_EQ(queue({.name = "x", .nodes_of = "", .borrow_gpus = 1}).error().field, "quota_gpus");
  EXPECT_EQ(queue({.name = "x", .nodes_of = "", .quota_gpus = 1, .lend_gpus = 2}).error().field, "lend_gpus");
  ASSERT_TRUE(queue({.name = "x", .nodes_of = "default"}));
  EXPECT_EQ(queue({.name = "y", .nodes_of = "x"}).error().hint, "use 'default'");
  ASSERT_TRUE(project({.name = "nlp", .parent = ""}));
  ASSERT_TRUE(project({.name = "llm", .parent = "nlp"}));
  const auto cycle = project({.name = "nlp", .parent = "llm"});
  ASSERT_FALSE(cycle);
  EXPECT_EQ(cycle.error().message, "a project cannot be below itself: nlp → llm → nlp");
  EXPECT_EQ(project({.name = "z", .parent = "", .weight = 0}).error().field, "weight");
  EXPECT_FALSE(env.plane->on_remove_project(env.now, "nlp", "ada")) << "llm is below it";
  EXPECT_FALSE(env.plane->on_remove_queue(env.now, "default", "ada"));
  EXPECT_TRUE(env.plane->on_remove_queue(env.now, "x", "ada"));
  EXPECT_EQ(env.try_submit(in("x")).error().field, "queue");
}

TEST_F(ControlSharesTest, ReservedNodesAreForTheirProjectAndReservationsEnd) {
  env.add_node("a");
  ASSERT_TRUE(project({.name = "course", .parent = ""}));
  const auto at = [&](Duration d) { return env.now.wall + d; };
  EXPECT_EQ(
      reserve({.name = "r", .reason = "", .nodes = {"zz"}, .projects = {}, .from = at(1h), .until = at(2h)})
          .error()
          .field,
      "nodes");
  EXPECT_EQ(
      reserve({.name = "r", .reason = "", .nodes = {"a"}, .projects = {}, .from = at(2h), .until = at(1h)})
          .error()
          .field,
      "until");
  ASSERT_TRUE(reserve(
      {.name = "r", .reason = "", .nodes = {"a"}, .projects = {"course"}, .from = at(0h), .until = at(2h)}));
  EXPECT_FALSE(
      reserve({.name = "s", .reason = "", .nodes = {"a"}, .projects = {}, .from = at(1h), .until = at(3h)}))
      << "they overlap";
  const JobId outsider = env.submit(in("default"));
  EXPECT_EQ(env.state(outsider), JobState::queued);
  const auto why = env.plane->explain(outsider, env.now, true);
  ASSERT_EQ(why.blockers.size(), 1u);
  EXPECT_EQ(why.blockers[0].text, "reservation 'r' is for others");
  const JobId member = env.submit(in("default", "course"));
  EXPECT_EQ(env.state(member), JobState::starting);
  env.end(NodeId(1), env.run(member), true);
  env.tick_alive(2h, 2s);
  EXPECT_EQ(env.state(outsider), JobState::starting);
  EXPECT_TRUE(env.plane->shares().reservations.empty());
  EXPECT_EQ(env.rows.removed_reservations, std::vector<std::string>{"r"});
}

}  // namespace
}  // namespace tutti::testing
