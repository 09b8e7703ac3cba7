// Two real schedulers on one PostgreSQL: the leader is killed, or paused for longer than its lease
// (docs/design/0016-replicas.md).
#include <signal.h>
#include <sys/wait.h>

#include <filesystem>
#include <future>

#include "tests/e2e/e2e_test.h"

namespace tutti::e2e {
namespace {

// Until it is taken, under one key, as a client that repeats what was not answered.
std::int64_t submit_at_last(Rest asked, const json::object& spec, const std::string& key) {
  std::int64_t id = 0;
  await_true("a write is answered", kPatience, [&] {
    const auto answer = asked.raw("POST", "/v1/jobs", json::serialize(spec), key);
    if (answer.status != 201 && answer.status != 200) return false;
    id = number_of(json::parse(answer.body).as_object(), "id");
    return true;
  });
  return id;
}

std::string term(Cluster& c) { return c.sql("SELECT term::text FROM leader").at(0); }

class Replicas : public GangTest {
 protected:
  Cluster& start_two() {
    Cluster& c = start({.workers = 2, .gpus = 1, .standby = true});
    EXPECT_EQ(role(c.rest()), "leader");
    EXPECT_EQ(role(c.standby_rest()), "standby");
    return c;
  }
};

TEST_F(Replicas, AStandbyHandsOverWhatOnlyTheLeaderCanDo) {
  Cluster& c = start_two();
  const auto id = submit_at_last(c.standby_rest(), c.spec("by the standby", c.rank("--steps 3"), 1, 1), "k1");
  EXPECT_EQ(submit_at_last(c.rest(), c.spec("by the standby", c.rank("--steps 3"), 1, 1), "k1"), id)
      << "the key went along";
  c.talk_to_standby(true);
  c.await_state(id, "succeeded");
  EXPECT_EQ(c.standby_rest().get("/v1/nodes").at("nodes").as_array().size(), 2u);
  EXPECT_FALSE(c.log_of(id, 1).empty()) << "a log comes from the node, by the leader, by the standby";
  EventStream stream(c.standby_port(), c.token(), "/v1/events", 0);
  EXPECT_TRUE(stream.next(kPatience));
  const auto nobody = Rest(c.standby_port(), "wrong").raw("GET", "/v1/nodes");
  EXPECT_EQ(nobody.status, 401) << "the leader judges";
  c.talk_to_standby(false);
  finish();
}

TEST_F(Replicas, WhenTheLeaderIsKilledTheStandbyTakesWritesAndTheGangRunsOn) {
  Cluster& c = start_two();
  const auto before = run_gang(c);
  c.talk_to_standby(true);
  const auto killed = Clock::now();
  c.kill_scheduler();
  const auto id = submit_at_last(c.standby_rest(), c.spec("after", c.rank("--steps 3"), 1, 0), "after");
  const auto took = std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - killed);
  RecordProperty("writes_answered_after_ms", std::to_string(took.count()));
  EXPECT_LT(took, 10s);
  EXPECT_EQ(role(c.standby_rest()), "leader");
  EXPECT_EQ(term(c), "2");
  c.await_linked();
  expect_untouched(c, before);
  c.await_state(id, "succeeded");

  // The one that was killed comes back as a standby, and says that its former self is over.
  c.start_scheduler();
  EXPECT_EQ(role(c.rest()), "standby");
  EXPECT_EQ(c.sql("SELECT count(*)::text FROM leader_term WHERE term = 1 AND over_at IS NOT NULL").at(0),
            "1");
  c.talk_to_standby(false);
  expect_untouched(c, before);
  finish();
}

// What a leader writes by itself, or for somebody: every table in which a row of the old term would show.
std::vector<std::string> written(Cluster& c) {
  return c.sql(
      "SELECT concat_ws(' ', (SELECT count(*) FROM job_spec), (SELECT count(*) FROM attempt),"
      " (SELECT count(*) FROM idempotency_key), (SELECT count(*) FROM fault),"
      " (SELECT string_agg(concat_ws('/', term, holder, over_at IS NULL, CASE WHEN term = 1 THEN proven_at "
      "END),"
      " ' ' ORDER BY term) FROM leader_term))");
}

// When the old leader last wrote: a transaction of its own says so.
std::vector<std::string> proven(Cluster& c) {
  return c.sql("SELECT proven_at::text FROM leader_term WHERE term = 1");
}

TEST_F(Replicas, APausedLeaderThatGoesOnWritesNothingAndEnds) {
  Cluster& c = start_two();
  const auto before = run_gang(c);
  c.talk_to_standby(true);
  c.scheduler().signal(SIGSTOP);
  const auto after = submit_at_last(c.standby_rest(), c.spec("after", c.rank("--steps 3"), 1, 0), "after");
  EXPECT_EQ(term(c), "2");
  c.await_linked();
  expect_untouched(c, before);
  c.await_state(after, "succeeded");
  // Somebody asks the one that is paused: the request waits at its socket, and is the first thing that it
  // sees.
  const auto spec = json::serialize(c.spec("of-the-old-term", c.rank("--steps 3"), 1, 0));
  auto asked = std::async(std::launch::async, [&c, spec] {
    try {
      return c.rest().raw("POST", "/v1/jobs", spec, "of-the-old-term").status;
    } catch (const std::exception&) {
      return 0;  // it has ended without an answer
    }
  });
  const auto rows = written(c), rows_proven = proven(c);
  c.scheduler().signal(SIGCONT);
  const auto status = c.scheduler().wait(kPatience);
  ASSERT_TRUE(status) << "it goes on";
  EXPECT_TRUE(WIFEXITED(*status));
  EXPECT_EQ(WEXITSTATUS(*status), 3);
  const int answer = asked.get();
  const auto taken = c.sql("SELECT id::text FROM job_text WHERE spec_json LIKE '%of-the-old-term%'");
  EXPECT_TRUE(answer == 0 || answer == 503 || answer == 504 || (answer == 201 && !taken.empty()))
      << answer << ": nothing is accepted under a term that is over";
  EXPECT_EQ(term(c), "2");
  if (taken.empty()) {
    EXPECT_EQ(written(c), rows);
  } else {  // handed on before it ended: the new leader would know nothing of a row that was written behind
            // its back
    c.await_state(std::stoll(taken.at(0)), "succeeded");
    EXPECT_EQ(taken.size(), 1u);
    EXPECT_EQ(proven(c), rows_proven);
  }
  expect_untouched(c, before);
  c.start_scheduler();
  EXPECT_EQ(role(c.rest()), "standby");
  finish();
}

// Somebody has copied all of --data, not the two files.
TEST_F(Replicas, ACopyOfTheLeadersDirectoryDoesNotSayThatTheLeaderIsDead) {
  Cluster& c = start_two();
  c.standby().signal(SIGTERM);
  ASSERT_TRUE(c.standby().wait(kPatience));
  std::filesystem::copy_file(c.directory() + "/data/instance", c.directory() + "/standby/instance",
                             std::filesystem::copy_options::overwrite_existing);
  c.start_standby();
  EXPECT_EQ(role(c.standby_rest()), "standby");
  EXPECT_EQ(c.sql("SELECT count(*)::text FROM leader_term WHERE over_at IS NOT NULL").at(0), "0");
  finish();
}

TEST_F(Replicas, ALeaderThatStopsInGoodOrderIsFollowedAtOnce) {
  Cluster& c = start_two();
  const auto before = run_gang(c);
  c.talk_to_standby(true);
  c.scheduler().signal(SIGTERM);
  submit_at_last(c.standby_rest(), c.spec("after", c.rank("--steps 3"), 1, 0), "after");
  EXPECT_EQ(c.sql("SELECT count(*)::text FROM leader_term WHERE term = 1 AND over_at IS NOT NULL").at(0),
            "1");
  c.await_linked();
  expect_untouched(c, before);
  ASSERT_TRUE(c.scheduler().wait(kPatience));
  c.start_scheduler();
  finish();
}

}  // namespace
}  // namespace tutti::e2e
