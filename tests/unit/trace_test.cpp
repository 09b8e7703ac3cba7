// Workloads as people record them: what is missing has a meaning, what is broken is named by its line.
#include "scheduler/replay/trace.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace tutti::replay {
namespace {

using namespace std::chrono_literals;
using ::testing::IsEmpty;
using ::testing::SizeIs;

TEST(Trace, ColumnsComeByNameInAnyOrder) {
  const auto t = parse_trace("gpus,duration_s,submit_s,user\n8,100,20,ada\n1,5.5,10,bob\r\n");
  EXPECT_THAT(t.problems, IsEmpty());
  ASSERT_THAT(t.jobs, SizeIs(2));
  EXPECT_EQ(t.jobs[0].submitted, 10s) << "in order of submission";
  EXPECT_EQ(t.jobs[0].ran, 5500ms);
  EXPECT_EQ(t.jobs[1].gpus, 8);
  EXPECT_NE(t.jobs[0].user, t.jobs[1].user);
  EXPECT_EQ(t.jobs[0].limit, std::chrono::hours(24 * 30)) << "no limit was given";
}

TEST(Trace, QueuesStandInForUsersThatAreNotThere) {
  const auto t =
      parse_trace("submit_s,gpus,duration_s,user,queue,limit_s\n0,1,10,,a,20\n1,1,10,,b,\n2,1,10,,a,5\n");
  ASSERT_THAT(t.jobs, SizeIs(3));
  EXPECT_FALSE(t.has_users);
  EXPECT_EQ(t.jobs[0].user, t.jobs[2].user);
  EXPECT_NE(t.jobs[0].user, t.jobs[1].user);
  EXPECT_EQ(t.jobs[0].limit, 20s);
  EXPECT_EQ(t.jobs[2].limit, 10s) << "it ran longer than its limit says: so the limit was longer";
}

TEST(Trace, BrokenRowsAreNamedAndTheRestGoesOn) {
  const auto t = parse_trace(
      "submit_s,gpus,duration_s\n"
      "0,1,10\n"
      "x,1,10\n"
      "1,0,10\n"
      "1,1.5,10\n"
      "2,1\n"
      "3,1,-4\n"
      "\n"
      "4,1,nan\n"
      "5,1,10\n");
  EXPECT_THAT(t.jobs, SizeIs(2));
  std::vector<std::size_t> lines;
  for (const auto& p : t.problems) lines.push_back(p.line);
  EXPECT_THAT(lines, ::testing::ElementsAre(3, 4, 5, 6, 7, 9));
  EXPECT_EQ(t.problems[0].reason, "submit_s is not a number of seconds");
  EXPECT_EQ(t.problems[3].reason, "has 2 fields, the first line 3");
}

TEST(Trace, AMissingColumnIsSaidOnce) {
  const auto t = parse_trace("submit_s,duration_s\n0,10\n");
  ASSERT_THAT(t.problems, SizeIs(1));
  EXPECT_EQ(t.problems[0].reason, "column gpus is missing");
  EXPECT_THAT(t.jobs, IsEmpty());
  EXPECT_THAT(parse_trace("").jobs, IsEmpty());
}

TEST(Trace, LoadIsMadeByPressingSubmissionsTogether) {
  const auto t = parse_trace("submit_s,gpus,duration_s\n0,4,100\n100,4,100\n");
  EXPECT_DOUBLE_EQ(offered_load(t, 8), 1.0);
  EXPECT_NEAR(offered_load(with_load(t, 0.5, 8), 8), 0.5, 1e-9);
  EXPECT_THAT(cut(t, 50s, 200s).jobs, SizeIs(1));
  EXPECT_EQ(cut(t, 50s, 200s).jobs[0].submitted, 50s);
}

}  // namespace
}  // namespace tutti::replay
