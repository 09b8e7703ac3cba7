// tutti report: what is asked for, in which form, and where it goes.
#include "cli/report.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "tests/cli/fake_scheduler.h"

namespace tutti::cli::test {
namespace {

TEST(Report, IsAskedForInItsForm) {
  FakeScheduler scheduler;
  scheduler.routes.get("/v1/report", [](const Request& r) {
    const auto form = r.query_param("format");
    if (form == "json") return http::json(200, json::object{{"day", "2026-10-01"}});
    return http::text(200, form == "markdown" ? "# Report of 2026-10-01\n" : "Report of 2026-10-01\n");
  });
  scheduler.start();
  EXPECT_EQ(scheduler.run({"report"}).out, "Report of 2026-10-01\n");
  EXPECT_EQ(scheduler.run({"report", "--day", "2026-10-01", "--format", "markdown"}).out,
            "# Report of 2026-10-01\n");
  EXPECT_EQ(scheduler.asked().back().target, "/v1/report?format=markdown&day=2026-10-01");
  EXPECT_EQ(json::parse(scheduler.run({"report", "--format", "json"}).out).at("day"), "2026-10-01");
  const std::string path = ::testing::TempDir() + "tutti-report-" + std::to_string(getpid());
  EXPECT_EQ(scheduler.run({"report", "-o", path}).out, "");
  std::ifstream in(path);
  EXPECT_EQ(std::string(std::istreambuf_iterator<char>(in), {}), "Report of 2026-10-01\n");
  EXPECT_FALSE(std::filesystem::exists(path + ".part"));
  std::filesystem::remove(path);
  EXPECT_EQ(scheduler.run({"report", "-o", "/no/such/folder/report"}).status, 2);
}

TEST(Report, WhatIsAskedWronglyIsSaid) {
  FakeScheduler scheduler;
  scheduler.start();
  EXPECT_EQ(scheduler.run({"report", "--day", "yesterday"}).status, 2);
  EXPECT_EQ(scheduler.run({"report", "--format", "pdf"}).status, 2);
  EXPECT_EQ(scheduler.run({"report", "--since", "30d"}).status, 2);
  EXPECT_EQ(scheduler.run({"report", "--projects", "--day", "2026-10-01", "--since", "30d"}).status, 2);
  EXPECT_TRUE(scheduler.asked().empty());
}

TEST(Report, ChargesByProjectAndUser) {
  FakeScheduler scheduler;
  scheduler.routes.get("/v1/usage", [](const Request&) {
    const json::object row{{"project", "=nlp"},         {"user", "ann"}, {"gpu_seconds", 9000.0}, {"jobs", 2},
                           {"lost_gpu_seconds", 900.0}, {"attempts", 3}};
    return http::json(200, json::object{{"since", "2026-10-01T00:00:00.000000Z"},
                                        {"until", "2026-10-02T00:00:00.000000Z"},
                                        {"rows", json::array{row}},
                                        {"total", row},
                                        {"cut", false}});
  });
  scheduler.start();
  EXPECT_EQ(scheduler.run({"report", "--projects", "--day", "2026-10-01"}).out,
            "since,until,project,user,gpu_hours,lost_gpu_hours,jobs,attempts\r\n"
            "2026-10-01T00:00:00,2026-10-02T00:00:00,\"'=nlp\",ann,2.500,0.250,2,3\r\n");
  EXPECT_EQ(
      scheduler.asked().back().target,
      "/v1/usage?group_by=project%2Cuser&since=2026-10-01T00%3A00%3A00Z&until=2026-10-02T00%3A00%3A00Z");
  EXPECT_EQ(json::parse(scheduler.run({"report", "--projects", "--format", "json"}).out).at("cut"), false);
}

TEST(Report, DaysAreThoseOfTheCalendar) {
  using namespace std::chrono;  // NOLINT
  EXPECT_EQ(day_before(sys_days(2026y / 3 / 1) + 1s), "2026-02-28");
  EXPECT_EQ(day_after("2024-02-28"), "2024-02-29");
  EXPECT_EQ(day_after("2026-12-31"), "2027-01-01");
  EXPECT_EQ(day_after("soon"), "");
}

}  // namespace
}  // namespace tutti::cli::test
