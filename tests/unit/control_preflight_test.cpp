// The all-reduce before a program starts: judged against what other gangs of the same shape have reached.
#include "tests/support/test_env.h"

namespace tutti::testing {
namespace {

struct CollectivePreflight : ::testing::Test {
  TestEnv env;

  // A gang of two nodes comes up and its all-reduce reaches so much. It ends well if it is let.
  AttemptKey reach(double gigabytes, bool again = false) {
    const JobId job = env.submit(job_spec(2, 8));
    const AttemptKey key = env.run(job);
    const NodeId first = env.nodes_of(key).front();
    for (int i = 0; i < (again ? 2 : 1); ++i) say(first, key, gigabytes);
    if (env.state(job) == JobState::running)
      for (const NodeId n : env.nodes_of(key)) env.end(n, key, true);
    return key;
  }
  void say(NodeId from, AttemptKey key, double gigabytes) {
    env.plane->on_collective_result(
        env.now, from,
        {.key = key, .backend = "mpi", .bytes = 8 << 20, .ranks = 16, .gigabytes_per_second = gigabytes});
    env.plan();
  }
};

TEST_F(CollectivePreflight, AGangFarBelowTheMedianOfItsLikeIsStoppedBeforeItWastesHours) {
  for (const char* name : {"a", "b"}) env.add_node(name);
  for (const double reached : {10.0, 9.0, 11.0, 10.0, 10.0}) {
    const AttemptKey key = reach(reached);
    EXPECT_EQ(env.state(key.job), JobState::succeeded);
  }
  EXPECT_EQ(env.state(reach(5.1).job), JobState::succeeded) << "half of the median is let through";
  const AttemptKey slow = reach(4.0);
  EXPECT_EQ(env.state(slow.job), JobState::stopping);
  const AttemptRow& row = env.plane->find_attempt(slow)->row;
  EXPECT_EQ(row.cause, Cause::fabric);
  EXPECT_NE(row.detail.find("4 GB/s"), std::string::npos) << row.detail;
  EXPECT_NE(row.detail.find("is 10 GB/s"), std::string::npos) << row.detail;
  EXPECT_NE(row.evidence_json.find("collective"), std::string::npos);
}

TEST_F(CollectivePreflight, FewOthersSayNothing) {
  for (const char* name : {"a", "b"}) env.add_node(name);
  for (const double reached : {10.0, 10.0, 10.0, 10.0, 0.1})
    EXPECT_EQ(env.state(reach(reached).job), JobState::succeeded);
}

TEST_F(CollectivePreflight, OneResultCountsOnceAndOnlyFromTheFirstNode) {
  for (const char* name : {"a", "b"}) env.add_node(name);
  for (int i = 0; i < 4; ++i) reach(10, true);  // eight, were they counted twice
  EXPECT_EQ(env.state(reach(1).job), JobState::succeeded) << "the fifth";
  const JobId job = env.submit(job_spec(2, 8));
  const AttemptKey key = env.run(job);
  say(env.nodes_of(key).back(), key, 0.1);
  EXPECT_EQ(env.state(job), JobState::running);
}

}  // namespace
}  // namespace tutti::testing
