// Walks every (state, event) pair of every machine; docs/state-machines.md must show exactly these edges.
#include "scheduler/model/states.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <set>
#include <sstream>

namespace tutti {
namespace {

template <class Table>
std::string diagram(const Table& table) {
  std::string out;
  for (const auto& e : table)
    out += "    " + std::string(name(e.from)) + " --> " + std::string(name(e.to)) + " : " +
           std::string(name(e.on)) + "\n";
  return out;
}

TEST(States, NamesAreUniqueAndParseBack) {
  std::set<std::string_view> seen;
  for (auto s : kJobStates) {
    EXPECT_TRUE(seen.insert(name(s)).second);
    EXPECT_EQ(parse_job_state(name(s)), s);
  }
  for (std::size_t i = 0; i < kCauseCount; ++i) {
    const auto c = static_cast<Cause>(i);
    EXPECT_NE(name(c), "?");
    EXPECT_EQ(parse_cause(name(c)), c);
  }
  EXPECT_FALSE(parse_job_state("nonsense"));
}

TEST(States, WhatIsKnownOfACheckpointNeverGetsBetterOnceItIsBad) {
  for (int e = 0; e <= static_cast<int>(CheckpointEvent::damaged); ++e)
    EXPECT_FALSE(next(kCheckpointEdges, CheckpointState::bad, static_cast<CheckpointEvent>(e)));
  for (auto s : kCheckpointStates) {
    EXPECT_EQ(parse_checkpoint_state(name(s)), s);
    const auto damaged = next(kCheckpointEdges, s, CheckpointEvent::damaged);
    EXPECT_EQ(damaged.value_or(CheckpointState::bad), CheckpointState::bad) << name(s);
  }
}

TEST(States, TerminalJobsIgnoreEveryEvent) {
  for (auto s : kJobTerminal)
    for (int e = 0; e <= static_cast<int>(JobEvent::cancel); ++e)
      EXPECT_FALSE(next(kJobEdges, s, static_cast<JobEvent>(e)))
          << name(s) << " on " << name(static_cast<JobEvent>(e));
}

TEST(States, PendingActiveAndTerminalPartitionTheStates) {
  for (auto s : kJobStates) EXPECT_EQ(is_pending(s) + is_active(s) + is_terminal(s), 1) << name(s);
}

// An active job leaves only through `stopping`, except that a running one may succeed: nothing skips the
// proof.
TEST(States, NoActiveJobEndsWithoutItsProofOfDeath) {
  for (const auto& e : kJobEdges) {
    if (!is_active(e.from) || is_active(e.to)) continue;
    EXPECT_TRUE(e.from == JobState::stopping || e.on == JobEvent::succeed)
        << name(e.from) << " -> " << name(e.to);
  }
}

TEST(States, DocumentShowsTheTables) {
  const char* source = std::getenv("TUTTI_SOURCE");
  ASSERT_NE(source, nullptr);
  std::ifstream in(std::string(source) + "/docs/state-machines.md");
  std::stringstream text;
  text << in.rdbuf();
  for (const auto& [what, edges] :
       {std::pair{"job", diagram(kJobEdges)}, std::pair{"attempt", diagram(kAttemptEdges)},
        std::pair{"node", diagram(kNodeEdges)}, std::pair{"service", diagram(kServiceEdges)},
        std::pair{"checkpoint", diagram(kCheckpointEdges)}})
    EXPECT_NE(text.str().find(edges), std::string::npos)
        << "docs/state-machines.md does not show the " << what << " machine; its edges are now:\n"
        << edges;
}

}  // namespace
}  // namespace tutti
