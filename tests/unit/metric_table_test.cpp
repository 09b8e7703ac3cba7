// The table of metrics, the rules for their names, and the text format.
#include "scheduler/model/metric_table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <stdexcept>

#include "scheduler/model/metric_text.h"

namespace tutti {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

TEST(MetricTable, KeepsTheRulesForNames) { EXPECT_THAT(problems_of(metric_table()), IsEmpty()); }

TEST(MetricTable, TheRulesFindWhatBreaksThem) {
  const auto broken = [](const char* row) { return problems_of(parse_metric_table(row)); };
  EXPECT_THAT(broken("jobs,scheduler,gauge,,,Jobs\n"), Contains(HasSubstr("must be tutti_")));
  EXPECT_THAT(broken("tutti_a,scheduler,counter,,,A\n"), Contains(HasSubstr("_total")));
  EXPECT_THAT(broken("tutti_a_total,scheduler,gauge,,,A\n"), Contains(HasSubstr("_total")));
  EXPECT_THAT(broken("tutti_wait,scheduler,gauge,seconds,,A\n"), Contains(HasSubstr("end with its unit")));
  EXPECT_THAT(broken("tutti_wait_seconds,scheduler,gauge,,,A\n"), Contains(HasSubstr("has a unit")));
  EXPECT_THAT(broken("tutti_wait_ms,scheduler,gauge,,,A\n"), Contains(HasSubstr("base unit")));
  EXPECT_THAT(broken("tutti_a,scheduler,gauge,,,\n"), Contains(HasSubstr("help")));
  EXPECT_THAT(broken("tutti_a,nobody,gauge,,,A\n"), Contains(HasSubstr("no program")));
  EXPECT_THAT(broken("tutti_a,worker,gauge,,instance,A\n"), Contains(HasSubstr("label")));
  EXPECT_THAT(broken("tutti_a,worker,gauge,,,A\ntutti_a,worker,gauge,,,A\n"), Contains(HasSubstr("twice")));
}

TEST(MetricTable, ALineThatIsNoRowIsRefused) {
  EXPECT_THROW(parse_metric_table("tutti_a,worker,gauge\n"), std::runtime_error);
  EXPECT_THROW(parse_metric_table("tutti_a,worker,summary,,,A\n"), std::runtime_error);
}

TEST(MetricTable, TheHelpMayHoldCommas) {
  const auto table = parse_metric_table("# a comment\n\ntutti_a,both,gauge,,x y,One, two, three\n");
  ASSERT_EQ(table.size(), 1u);
  EXPECT_EQ(table[0].help, "One, two, three");
  EXPECT_THAT(table[0].labels, ElementsAre("x", "y"));
  EXPECT_TRUE(table[0].of_scheduler && table[0].of_worker);
}

TEST(MetricText, SaysHelpAndTypeOnceAndEscapesValues) {
  MetricText text;
  text.add("tutti_gpus", {"free"}, 3);
  text.add("tutti_gpus", {"a\"b\\c\nd"}, 0.5);
  text.add("tutti_ready", 1);
  text.add("tutti_queue_backlog_gpus", {"q"}, std::numeric_limits<double>::infinity());
  EXPECT_EQ(
      text.take(),
      "# HELP tutti_gpus " + metric("tutti_gpus").help + "\n# TYPE tutti_gpus gauge\n"
      "tutti_gpus{state=\"free\"} 3\ntutti_gpus{state=\"a\\\"b\\\\c\\nd\"} 0.5\n"
      "# HELP tutti_ready 1: this scheduler leads and has its rows; 0: it waits for the lead or recovers\n"
      "# TYPE tutti_ready gauge\ntutti_ready 1\n"
      "# HELP tutti_queue_backlog_gpus GPUs that the jobs ask for that are ready and wait\n"
      "# TYPE tutti_queue_backlog_gpus gauge\ntutti_queue_backlog_gpus{queue=\"q\"} +Inf\n");
}

}  // namespace
}  // namespace tutti
