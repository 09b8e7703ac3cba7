// The schema says the same as the tables in scheduler/model/states.h: names, numbers, edges, and what a row
// in a given state must have. Straight SQL: what the stores check before they send anything is not in the
// way.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "db/rules.h"
#include "scheduler/model/states.h"
#include "tests/store/pg_fixture.h"

namespace tutti {
namespace {

using testing::ElementsAre;
using testing::UnorderedElementsAreArray;

class SqlRulesTest : public testing::Test {
 protected:
  test::TestDatabase database_ = test::TestPostgres::instance().create_database();

  bool accepted(const std::string& statement) {
    try {
      database_.sql("BEGIN; " + statement + "; ROLLBACK");
      return true;
    } catch (const std::runtime_error& e) {
      const std::string what = e.what();
      EXPECT_TRUE(what.starts_with("23514")) << "refused, but by no CHECK: " << what;
      return false;
    }
  }

  // Pairs of `names` (and "") that an event table takes for a kind.
  std::vector<std::string> accepted_pairs(const std::string& table, const std::string& who,
                                          const std::string& kind, const std::set<std::string>& names) {
    std::string array = "ARRAY[''";
    for (const auto& n : names) array += ",'" + n + "'";
    array += "]";
    database_.sql(
        "CREATE OR REPLACE FUNCTION try_pair(f text, t text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN "
        "INSERT INTO " +
        table + " (id, at, " + who +
        ", kind, from_name, to_name, cause, detail) VALUES "
        "(1 + (SELECT count(*) FROM " +
        table + "), now(), 1, '" + kind +
        "', f, t, 0, ''); RETURN true; "
        "EXCEPTION WHEN check_violation THEN RETURN false; END $$");
    return database_.sql("SELECT f || '>' || t FROM unnest(" + array + ") f, unnest(" + array +
                         ") t WHERE try_pair(f, t)");
  }

  template <class State, class Event, std::size_t N, std::size_t I>
  static std::set<std::string> legal(const std::array<Edge<State, Event>, N>& edges,
                                     const std::array<State, I>& initial) {
    std::set<std::string> out;
    for (State s : initial) out.insert(">" + std::string(name(s)));
    for (const auto& e : edges) out.insert(std::string(name(e.from)) + ">" + std::string(name(e.to)));
    return out;
  }

  static std::set<std::string> with_remarks(std::set<std::string> pairs, const std::set<std::string>& names) {
    pairs.insert(">");
    for (const auto& n : names) pairs.insert(n + ">" + n);
    return pairs;
  }

  template <class Enum>
  void expect_names(const std::string& view, const std::string& column, int first, int last) {
    std::vector<std::string> expected;
    for (int i = first; i <= last; ++i)
      expected.push_back(std::to_string(i) + " " + std::string(name(static_cast<Enum>(i))));
    EXPECT_EQ(database_.sql("SELECT " + column + " || ' ' || name FROM " + view + " ORDER BY " + column),
              expected);
  }
};

TEST_F(SqlRulesTest, JobEventsTakeExactlyTheEdgesOfAJob) {
  std::set<std::string> names;
  for (JobState s : kJobStates) names.insert(std::string(name(s)));
  EXPECT_THAT(accepted_pairs("job_event", "job", "state", names),
              UnorderedElementsAreArray(legal(kJobEdges, kJobInitial)));
}

TEST_F(SqlRulesTest, JobEventsTakeExactlyTheEdgesOfAnAttemptAndRemarks) {
  std::set<std::string> names;
  for (AttemptState s : kAttemptStates) names.insert(std::string(name(s)));
  EXPECT_THAT(accepted_pairs("job_event", "job", "attempt", names),
              UnorderedElementsAreArray(with_remarks(legal(kAttemptEdges, kAttemptInitial), names)));
}

TEST_F(SqlRulesTest, JobEventsTakeExactlyTheEdgesOfACheckpointAndRemarks) {
  std::set<std::string> names;
  for (CheckpointState s : kCheckpointStates) names.insert(std::string(name(s)));
  EXPECT_THAT(accepted_pairs("job_event", "job", "checkpoint", names),
              UnorderedElementsAreArray(with_remarks(legal(kCheckpointEdges, kCheckpointInitial), names)));
}

TEST_F(SqlRulesTest, ArraysWaitInTheStatesInWhichAJobBegins) {
  const auto row = [](const std::string& state, const std::string& waiting, const std::string& told) {
    return "INSERT INTO job_array (id, last, waiting, created_at, queued_at, not_before, nodes, "
           "gpus_per_node, state,"
           " priority, queue, project, owner, reason, name, text_format, first_index, index_step, "
           "first_position,"
           " first_event, last_event, event_at, event_to, event_cause, event_detail)"
           " VALUES (1, 10, '" +
           waiting + "', now(), now(), now(), 1, 1, " + state +
           ", 50, 'default', 'default', 'ann', '', 'x', '%1$s', 0, 1, 0, 1, 10, now(), '" + told +
           "', 0, '')";
  };
  for (JobState s : kJobStates) {
    const bool begins = edges::contains(kJobInitial, s);
    const std::string number = std::to_string(static_cast<int>(s));
    EXPECT_EQ(accepted(row(number, "{[1,11)}", "queued")), begins) << name(s);
    EXPECT_EQ(accepted(row("1", "{[1,11)}", std::string(name(s)))), begins) << name(s);
  }
  EXPECT_FALSE(accepted(row("1", "{[1,12)}", "queued"))) << "a task beyond its last";
  EXPECT_TRUE(accepted(row("1", "{[2,4),[7,9)}", "queued")));
}

TEST_F(SqlRulesTest, CheckpointsHaveTheStatesOfTheTableAndAreRetiredBeforeTheyAreDeleted) {
  const auto row = [](const std::string& state, const std::string& retired, const std::string& deleting,
                      const std::string& deleted) {
    return "INSERT INTO checkpoint (job, epoch, step, path, bytes, shards, at, state, retired_at, deleting, "
           "deleted_at) VALUES (1, 1, 1, '/x', 1, 1, now(), " +
           state + ", " + retired + ", " + deleting + ", " + deleted + ")";
  };
  for (int state = -1; state <= 6; ++state)
    EXPECT_EQ(accepted(row(std::to_string(state), "NULL", "false", "NULL")), state >= 1 && state <= 4)
        << state;
  EXPECT_TRUE(accepted(row("1", "now()", "true", "now()")));
  EXPECT_FALSE(accepted(row("1", "NULL", "true", "NULL")));
  EXPECT_FALSE(accepted(row("1", "NULL", "false", "now()")));
}

TEST_F(SqlRulesTest, NodeEventsTakeExactlyTheEdgesOfANodeAndRemarks) {
  std::set<std::string> names;
  for (NodeState s : kNodeStates) names.insert(std::string(name(s)));
  EXPECT_THAT(accepted_pairs("node_event", "node", "node", names),
              UnorderedElementsAreArray(with_remarks(legal(kNodeEdges, kNodeInitial), names)));
}

TEST_F(SqlRulesTest, ViewsNameTheNumbersAsTheCodeDoes) {
  expect_names<JobState>("job_state_name", "state", 1, 10);
  expect_names<AttemptState>("attempt_state_name", "state", 1, 6);
  expect_names<AttemptResult>("attempt_result_name", "result", 0, 3);
  expect_names<NodeState>("node_state_name", "state", 1, 3);
  expect_names<NodeService>("node_service_name", "service", 1, 7);
  expect_names<GpuHealth>("gpu_health_name", "health", 1, 3);
  expect_names<CheckpointState>("checkpoint_state_name", "state", 1, 4);
  expect_names<Cause>("cause_name", "cause", 0, static_cast<int>(kCauseCount) - 1);
}

TEST_F(SqlRulesTest, UnfinishedJobsHaveLiveStatesAndFinishedOnesTerminalStates) {
  const std::string common = "1, now(), now(), now(), 1, 1, 1, 0, 1, ";
  for (int state = -1; state <= 20; ++state) {
    const bool known = state >= 1 && state <= 10;
    const bool terminal = known && is_terminal(static_cast<JobState>(state));
    const std::string s = std::to_string(state);
    EXPECT_EQ(
        accepted(
            "INSERT INTO job (id, created_at, queued_at, not_before, epoch, version, nodes, gpus_per_node, "
            "attempt, state, priority, queue, project, owner) VALUES (" +
            common + s + ", 50, '', '', '')"),
        known && !terminal)
        << state;
    EXPECT_EQ(
        accepted("INSERT INTO job_done (id, created_at, queued_at, ended_at, epoch, version, nodes, "
                 "gpus_per_node, attempt, state, best_step, exit_code, cause, priority, no_progress, front, "
                 "queue, project, owner, reason) VALUES (" +
                 common + s + ", -1, 0, 0, 50, 0, false, '', '', '', '')"),
        known && terminal)
        << state;
    const bool initial = known && edges::contains(kJobInitial, static_cast<JobState>(state));
    EXPECT_EQ(accepted("INSERT INTO job_spec VALUES (1, '', '', '{}', now(), " + s + ")"), initial) << state;
  }
}

TEST_F(SqlRulesTest, ActiveJobsHaveAnAttemptAndDelayedOnesATime) {
  const auto insert = [&](JobState state, int epoch, int attempt, const std::string& not_before) {
    return accepted(
        "INSERT INTO job (id, created_at, queued_at, version, nodes, gpus_per_node, priority, queue, "
        "project, owner, state, epoch, attempt, not_before) VALUES (1, now(), now(), 1, 1, 0, 50, '', '', "
        "'', " +
        std::to_string(static_cast<int>(state)) + ", " + std::to_string(epoch) + ", " +
        std::to_string(attempt) + ", " + not_before + ")");
  };
  for (JobState s : kJobStates) {
    if (is_terminal(s)) continue;
    EXPECT_TRUE(insert(s, 3, 2, "now()")) << name(s);
    EXPECT_EQ(insert(s, 0, 0, "now()"), !is_active(s)) << name(s);
    EXPECT_EQ(insert(s, 3, 2, "NULL"), s != JobState::delayed) << name(s);
    EXPECT_FALSE(insert(s, 0, 1, "now()")) << name(s);
    // A restore raises the epochs of jobs that wait.
    EXPECT_EQ(insert(s, 1, 0, "now()"), !is_active(s)) << name(s);
  }
}

TEST_F(SqlRulesTest, EndedAttemptsAndOnlyTheseHaveAnEndAndAResult) {
  for (AttemptState s : kAttemptStates)
    for (int result = 0; result <= 3; ++result)
      for (int cause = 0; cause <= 1; ++cause)
        for (const bool end : {false, true}) {
          const bool ended = s == AttemptState::ended;
          const bool needs_cause = result == 2 || result == 3;
          EXPECT_EQ(accepted("INSERT INTO attempt VALUES (1, 1, 1, " + std::to_string(static_cast<int>(s)) +
                             ", " + std::to_string(result) + ", " + std::to_string(cause) +
                             ", '', '', '[]', '', -1, -1, 0, now(), NULL, NULL, NULL, NULL, NULL, " +
                             (end ? "now()" : "NULL") + ")"),
                    ended == end && ended == (result != 0) && (!needs_cause || cause != 0))
              << name(s) << " " << result << " " << cause << " " << end;
        }
}

TEST_F(SqlRulesTest, OverlappingAllocationsAreRefusedAndTouchingOnesAreNot) {
  const std::string insert = "INSERT INTO allocation VALUES (1, 1, 7, '2026-01-01', '2026-01-02'), ";
  EXPECT_NO_THROW(database_.sql("BEGIN; " + insert + "(2, 1, 7, '2026-01-02', NULL); ROLLBACK"));
  EXPECT_NO_THROW(database_.sql("BEGIN; " + insert + "(2, 1, 8, '2026-01-01', NULL); ROLLBACK"));
  EXPECT_ANY_THROW(database_.sql(insert + "(2, 1, 7, '2026-01-01 23:59', NULL)"));
  EXPECT_ANY_THROW(database_.sql(insert + "(2, 1, 7, '2025-01-01', NULL)"));
}

TEST_F(SqlRulesTest, JobHasNoIndexButItsKey) {
  EXPECT_THAT(database_.sql("SELECT indexname FROM pg_indexes WHERE tablename = 'job'"),
              ElementsAre("job_pkey"));
}

TEST_F(SqlRulesTest, WhatIsToBeTextIsText) {
  const auto node = [](const std::string& labels) {
    return "INSERT INTO node (id, name, queue, address, boot_id, worker_version, state, service, "
           "service_reason, "
           "cpus, memory_bytes, kill_mode, driver, simulated_gpus, labels) VALUES (1, 'n', 'default', '', "
           "'', '', 1, 1, "
           "'', 1, 1, '', '', true, '" +
           labels + "')";
  };
  EXPECT_TRUE(accepted(node(R"({"rack":"r1"})")));
  for (const char* labels : {R"({"rack":7})", R"({"rack":{"a":"b"}})", R"(["rack"])", "7"})
    EXPECT_FALSE(accepted(node(labels))) << labels;
  const auto reservation = [](const std::string& nodes) {
    return "INSERT INTO reservation (name, reason, nodes, projects, from_at, until_at) VALUES ('r', '', '" +
           nodes + "', '[]', now(), now() + interval '1 hour')";
  };
  EXPECT_TRUE(accepted(reservation(R"(["n1"])")));
  EXPECT_FALSE(accepted(reservation(R"(["n1", 2])")));
  for (const auto& [weight, takes] :
       {std::pair("2", true), {"0", false}, {"'NaN'", false}, {"'Infinity'", false}})
    EXPECT_EQ(accepted(std::string("UPDATE project SET weight = ") + weight), takes) << weight;
}

// A commit fires none. The one that there is belongs to a change of the leader.
TEST_F(SqlRulesTest, NoTriggersButThoseOfForeignKeysAndOfANewTerm) {
  EXPECT_THAT(
      database_.sql("SELECT tgrelid::regclass || ' ' || tgname FROM pg_trigger WHERE NOT tgisinternal"),
      ElementsAre("leader leader_knows_arrays"));
}

TEST_F(SqlRulesTest, PeopleCanReadJobs) {
  database_.sql("INSERT INTO job_spec VALUES (1, 'ann', 'x', '{}', now(), 1)");
  database_.sql(
      "INSERT INTO job (id, created_at, queued_at, version, nodes, gpus_per_node, priority, queue, project, "
      "owner, state) VALUES (1, now(), now(), 1, 1, 0, 50, 'q', 'p', 'ann', 1)");
  EXPECT_THAT(database_.sql("SELECT name || ' ' || state || ' ' || cause FROM job_named"),
              ElementsAre("x queued none"));
}

TEST(Rules, EventPairsFollowTheEdgeTables) {
  EXPECT_TRUE(db::legal_event_pair("state", "", "held"));
  EXPECT_FALSE(db::legal_event_pair("state", "", "running"));
  EXPECT_TRUE(db::legal_event_pair("state", "queued", "starting"));
  EXPECT_FALSE(db::legal_event_pair("state", "starting", "queued"));
  EXPECT_FALSE(db::legal_event_pair("attempt", "ended", "placed"));
  EXPECT_FALSE(db::legal_event_pair("node", "reachable", "dead"));
  EXPECT_TRUE(db::legal_event_pair("node", "", ""));
  EXPECT_TRUE(db::legal_event_pair("attempt", "stopping", "stopping"));
  EXPECT_FALSE(db::legal_event_pair("state", "queued", "queued"));
  EXPECT_TRUE(db::legal_event_pair("checkpoint", "", "bad"));
  EXPECT_TRUE(db::legal_event_pair("checkpoint", "good", "good"));
  EXPECT_FALSE(db::legal_event_pair("checkpoint", "bad", "good"));
  EXPECT_TRUE(db::legal_event_pair("fault", "a", "b"));
}

}  // namespace
}  // namespace tutti
