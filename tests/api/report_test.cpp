// GET /v1/report: the numbers of one day, by hand; who may ask; the forms.
#include <gmock/gmock.h>

#include "api/handlers/report.h"
#include "api/wire/text_values.h"
#include "api_rig.h"

namespace tutti::testing {
namespace {

using ::testing::HasSubstr;

// On n1 (8 GPUs) job 1 (ada, nlp) ran an hour on two GPUs and job 2 (eve, vision) runs since an hour on four;
// n2 (2 GPUs) is quarantined; job 3 asks for 8 GPUs and waits.
struct ReportRig : ApiRig {
  ReportRig() {
    put("/v1/projects/nlp", "{}");
    put("/v1/projects/vision", "{}");
    backend.add_node("n1", 8);
    backend.add_node("n2", 2);
    submit(R"({"name":"a","run":"x","project":"nlp","resources":{"gpus":2}})", {{"Tutti-User", "ada"}});
    const auto key = backend.run_job(JobId(1));
    backend.tick(1h);
    backend.end_attempt(key, true);
    EXPECT_EQ(post("/v1/nodes/n2:quarantine", R"({"reason":"smoke"})").status(), 200);
    submit(R"({"name":"b","run":"x","project":"vision","resources":{"gpus":4}})", {{"Tutti-User", "eve"}});
    backend.run_job(JobId(2));
    submit(R"({"name":"c","run":"x","project":"nlp","resources":{"gpus":8}})", {{"Tutti-User", "ada"}});
    backend.tick(1h);
  }
  std::string today() {
    const auto text = wire::format_instant(backend.now().wall);
    return text.substr(0, 10);
  }
};

TEST(ReportApi, TellsTheDayThatIsUnderWay) {
  ReportRig rig;
  const auto call = rig.get("/v1/report?day=" + rig.today());
  ASSERT_EQ(call.status(), 200);
  const auto report = call.body();
  EXPECT_EQ(report.at("day").as_string(), rig.today());
  EXPECT_FALSE(report.at("complete").as_bool());
  EXPECT_NEAR(report.at("utilisation").at("gpu_seconds").to_number<double>(), 6 * 3600, 5);
  EXPECT_EQ(report.at("jobs").at("submitted"), 3);
  EXPECT_EQ(report.at("jobs").at("placed"), 2);
  EXPECT_EQ(report.at("jobs").at("succeeded"), 1);
  EXPECT_EQ(report.at("set_aside_count"), 1);
  EXPECT_EQ(report.at("set_aside").at(0).at("node"), "n2");
  EXPECT_EQ(report.at("set_aside").at(0).at("what"), "quarantined");
  EXPECT_EQ(report.at("set_aside").at(0).at("why"), "smoke");
  EXPECT_TRUE(report.at("set_aside").at(0).at("gpu").is_null());
  ASSERT_EQ(report.at("projects").as_array().size(), 2u);
  EXPECT_EQ(report.at("projects").at(0).at("project"), "vision") << "the most GPU time first";
  EXPECT_NEAR(report.at("projects").at(1).at("gpu_seconds").to_number<double>(), 7200, 5);
  EXPECT_EQ(report.at("waits").at("by_queue").as_array().size(), 1u);
}

TEST(ReportApi, SamplesTheFullHoursThatAreKnown) {
  ReportRig rig;
  rig.backend.tick(1h);
  const auto report = rig.get("/v1/report?day=" + rig.today()).body();
  const auto& samples = report.at("spare").at("samples").as_array();
  ASSERT_EQ(samples.size(), 3u) << "at 0, 1 and 2 o'clock";
  for (const auto& s : samples) {
    std::int64_t sum = 0;
    for (const auto* use : {"used", "idle", "unhealthy", "closed", "away"}) sum += s.at(use).as_int64();
    EXPECT_EQ(sum, s.at("gpus").as_int64());
  }
  EXPECT_EQ(samples.back().at("gpus"), 10);
  EXPECT_EQ(samples.back().at("closed"), 2);
  EXPECT_EQ(samples.back().at("used"), 4);
  EXPECT_EQ(samples.back().at("asked_for"), 8);
  EXPECT_EQ(report.at("spare").at("most_asked_gpus"), 8);
  EXPECT_GT(report.at("utilisation").at("ratio").to_number<double>(), 0);
}

// Its first event is at 10:20, 8 GPUs work from then on; six hours before midnight half of them go.
TEST(ReportApi, TheCapacityIsThatOfTheHoursThatAreKnown) {
  DayReport report;
  report.day = Instant(std::chrono::hours(24 * 365 * 50));
  report.until = report.made_at = report.day + 24h;
  report.known_from = report.day + 10h + 20min;
  for (Instant at = report.day + 11h; at < report.until; at += 1h) {
    DayReport::Sample sample;
    sample.at = at;
    sample.gpus = at < report.day + 18h ? 8 : 4;
    report.samples.push_back(sample);
  }
  report.total.total.gpu = 85h + 20min;
  const auto utilisation = [&] { return report_view(report).at("utilisation"); };
  EXPECT_DOUBLE_EQ(utilisation().at("capacity_gpu_seconds").as_double(), (8 * 23. / 3 + 4 * 6) * 3600);
  EXPECT_DOUBLE_EQ(utilisation().at("ratio").as_double(), 1);
  report.samples.resize(3);  // it took too long to work out the rest
  EXPECT_DOUBLE_EQ(utilisation().at("capacity_gpu_seconds").as_double(), 8 * (3 + 2. / 3) * 3600);
  EXPECT_TRUE(utilisation().at("ratio").is_null()) << "the time held is of the whole day";
}

TEST(ReportApi, TheFirstDayBeginsWithItsFirstEvent) {
  ApiRig rig;
  rig.backend.tick(90min);
  rig.backend.add_node("n1", 8);
  rig.backend.tick(150min);  // it is 4 o'clock
  const std::string day = wire::format_instant(rig.backend.now().wall).substr(0, 10);
  const auto report = rig.get("/v1/report?day=" + day).body();
  EXPECT_NEAR(report.at("utilisation").at("capacity_gpu_seconds").to_number<double>(), 8 * 2.5 * 3600, 80);
}

TEST(ReportApi, TellsHowFastJobsCameBack) {
  ApiRig rig;
  const NodeId n1 = rig.backend.add_node("n1", 2);
  rig.backend.add_node("n2", 2);
  rig.submit(R"({"name":"a","run":"x","resources":{"gpus":2}})");
  AttemptKey key = rig.backend.run_job(JobId(1));
  const auto step = [&](std::int64_t n) {
    rig.backend.change([&](ControlPlane& plane, Now now) {
      const NodeId node = plane.find_attempt(key)->row.gang.front().node;
      plane.on_progress(now, node, {.key = key, .step = n, .metrics = {}});
    });
  };
  step(10);
  rig.backend.tick(1s);
  rig.backend.change([&](ControlPlane& plane, Now now) {
    plane.on_gpu_fault(
        now, n1,
        protocol::GpuFault{.uuid = "GPU-n1-0", .kind = "xid", .xid = 79, .age_us = 500'000, .detail = "d"});
  });
  rig.backend.tick(1s);
  rig.backend.end_attempt(key, false);
  rig.backend.tick(1s);
  key = rig.backend.run_job(JobId(1));
  rig.backend.tick(1s);
  step(11);
  rig.backend.tick(1s);

  const std::string day = wire::format_instant(rig.backend.now().wall).substr(0, 10);
  const auto stages = rig.get("/v1/report?day=" + day).body().at("recoveries").as_array();
  ASSERT_EQ(stages.size(), 6u);
  double before = 0;
  for (const auto& stage : stages) {
    EXPECT_EQ(stage.at("attempts"), 1) << stage.at("stage");
    EXPECT_GE(stage.at("p50_seconds").to_number<double>(), before) << stage.at("stage");
    before = stage.at("p99_seconds").to_number<double>();
  }
  EXPECT_NEAR(stages[0].at("p50_seconds").to_number<double>(), 0.5, 0.01) << "decided";
  EXPECT_NEAR(stages[1].at("p50_seconds").to_number<double>(), 1.5, 0.1) << "fenced";
  EXPECT_NEAR(stages[4].at("p50_seconds").to_number<double>(), 3.5, 0.2) << "restored";
  const auto text = rig.get("/v1/report?format=text&day=" + day).response->body;
  EXPECT_THAT(text, HasSubstr("stop decided"));
  EXPECT_THAT(text, HasSubstr("0.50 s"));
}

TEST(ReportApi, WithoutAHistoryMachinesAreNotKnown) {
  const Instant day(std::chrono::hours(24 * 365 * 50));
  DayReport empty;
  empty.day = day;
  empty.until = empty.made_at = day + 24h;
  const auto view = report_view(empty);
  EXPECT_TRUE(view.at("complete").as_bool());
  EXPECT_TRUE(view.at("set_aside_count").is_null());
  EXPECT_TRUE(view.at("spare").at("least_idle_gpus").is_null());
  EXPECT_TRUE(view.at("utilisation").at("capacity_gpu_seconds").is_null());
  EXPECT_TRUE(view.at("goodput").at("lost_ratio").is_null());
  EXPECT_TRUE(view.at("recoveries").at(0).at("p50_seconds").is_null());
  EXPECT_THAT(report_text(view, ReportStyle::text), HasSubstr("not recorded"));
}

// A bad day has more classes of faults than are named.
TEST(ReportApi, FaultsThatAreNotNamedAreCounted) {
  DayReport report;
  for (int i = 0; i < 30; ++i) report.by_class.push_back({"class-" + std::to_string(i), 2, 0});
  const auto faults = report_view(report).at("faults").as_object();
  EXPECT_EQ(faults.at("faults").as_int64(), 60);
  EXPECT_EQ(faults.at("by_class").as_array().size(), 20U);
}

TEST(ReportApi, ForPeople) {
  ReportRig rig;
  const auto markdown = rig.get("/v1/report?day=" + rig.today(), {{"Accept", "text/markdown"}});
  EXPECT_TRUE(markdown.header("Content-Type").starts_with("text/markdown"));
  EXPECT_THAT(markdown.response->body, HasSubstr("# Report of " + rig.today()));
  EXPECT_THAT(markdown.response->body, HasSubstr("| vision | 1 | 4.0 h | 0.0 h |"));
  const auto text = rig.get("/v1/report?format=text&day=" + rig.today());
  EXPECT_TRUE(text.header("Content-Type").starts_with("text/plain"));
  EXPECT_THAT(text.response->body, HasSubstr("the day is not over"));
}

TEST(ReportApi, ANameEndsNoTable) {
  const Instant day(std::chrono::hours(24 * 365 * 50));
  DayReport report;
  report.day = day;
  report.until = report.made_at = day + 24h;
  UsageRow row;
  row.project = "a|b\n<script>";
  report.by_project.rows.push_back(row);
  EXPECT_THAT(report_text(report_view(report), ReportStyle::markdown), HasSubstr("| a\\|b \\<script> |"));
}

TEST(ReportApi, WhatIsAskedWrongly) {
  ReportRig rig;
  EXPECT_EQ(rig.get("/v1/report?day=yesterday").status(), 422);
  EXPECT_EQ(rig.get("/v1/report?day=2999-01-01").status(), 422);
  EXPECT_EQ(rig.get("/v1/report?day=2026-13-01").status(), 422);
  EXPECT_EQ(rig.get("/v1/report?format=pdf").status(), 422);
  EXPECT_EQ(rig.get("/v1/report?dya=2026-10-01").status(), 422);
  EXPECT_EQ(rig.get("/v1/report").status(), 200) << "yesterday";
  rig.history_broken = true;
  EXPECT_EQ(rig.get("/v1/report").status(), 503);
}

TEST(ReportApi, IsForOperators) {
  ReportRig rig;
  rig.sign_in(user("ada", {{"nlp", Role::admin}}));
  EXPECT_EQ(rig.get("/v1/report").status(), 403);
}

}  // namespace
}  // namespace tutti::testing
