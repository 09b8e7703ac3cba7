// cancel, hold, release, requeue, signal.
#include "api_rig.h"

namespace tutti::testing {
namespace {

TEST(JobActions, CancelAWaitingJob) {
  ApiRig rig;
  rig.submit();
  const auto job = rig.post("/v1/jobs/1:cancel", R"({"reason":"a typo"})", {{"Tutti-User", "ada"}});
  ASSERT_EQ(job.status(), 200);
  EXPECT_EQ(job.body().at("state"), "cancelled");
  EXPECT_EQ(job.body().at("reason"), "cancelled by ada: a typo");
  const auto again = rig.post("/v1/jobs/1:cancel");
  EXPECT_EQ(again.status(), 409);
  EXPECT_EQ(again.body().at("code"), "illegal_transition");
  EXPECT_EQ(rig.post("/v1/jobs/7:cancel").status(), 404);
  EXPECT_EQ(rig.post("/v1/jobs/nobody:cancel").status(), 404);
}

TEST(JobActions, CancelARunningJobStopsIt) {
  ApiRig rig;
  rig.backend.add_node("n1");
  const auto id = rig.submit();
  const auto key = rig.backend.run_job(id);
  EXPECT_EQ(rig.post("/v1/jobs/1:cancel").body().at("state"), "stopping");
  rig.backend.end_attempt(key, true);
  EXPECT_TRUE(is_terminal(*parse_job_state(rig.get("/v1/jobs/1").body().at("state").as_string())));
}

TEST(JobActions, HoldAndRelease) {
  ApiRig rig;
  rig.submit();
  const auto held = rig.post("/v1/jobs/1:hold", R"({"reason":"look at the data first"})");
  ASSERT_EQ(held.status(), 200);
  EXPECT_EQ(held.body().at("state"), "held");
  EXPECT_EQ(held.body().at("reason"), "held by admin: look at the data first");
  EXPECT_EQ(rig.post("/v1/jobs/1:hold").status(), 409);
  EXPECT_EQ(rig.post("/v1/jobs/1:release").body().at("state"), "queued");
  EXPECT_EQ(rig.post("/v1/jobs/1:release").status(), 409);
}

TEST(JobActions, RequeueOnlyWhatRuns) {
  ApiRig rig;
  rig.submit();
  EXPECT_EQ(rig.post("/v1/jobs/1:requeue").status(), 409);
  rig.backend.add_node("n1");
  const auto key = rig.backend.run_job(JobId(1));
  EXPECT_EQ(rig.post("/v1/jobs/1:requeue", "{}").body().at("state"), "stopping");
  rig.backend.end_attempt(key, false, 143);
  EXPECT_EQ(rig.get("/v1/jobs/1").body().at("attempt"), 2) << "it runs again";
}

TEST(JobActions, ASignalLeavesTheJobRunningAndIsInItsHistory) {
  ApiRig rig;
  rig.submit();
  EXPECT_EQ(rig.post("/v1/jobs/1:signal", R"({"signal":"USR1"})").status(), 409) << "nothing runs";
  rig.backend.add_node("n1");
  rig.backend.run_job(JobId(1));
  const auto sent =
      rig.post("/v1/jobs/1:signal", R"({"signal":"SIGUSR1","reason":"save now"})", {{"Tutti-User", "ada"}});
  ASSERT_EQ(sent.status(), 200);
  EXPECT_EQ(sent.body().at("state"), "running");
  const auto events = rig.get("/v1/jobs/1/events").body().at("events").as_array();
  const auto event = std::ranges::find_if(events, [](const auto& e) { return e.at("kind") == "signal"; });
  ASSERT_NE(event, events.end());
  EXPECT_EQ(event->at("to"), "USR1");
  EXPECT_EQ(event->at("detail"), "by ada: save now; sent to n1");
  const auto audit = rig.get("/v1/audit?action=jobs.signal").body().at("entries").as_array();
  ASSERT_EQ(audit.size(), 2U) << "the refusal too";
  EXPECT_EQ(audit[0].at("after").at("asked").at("signal"), "SIGUSR1");
}

TEST(JobActions, ASignalMustBeOneThatIsKnown) {
  ApiRig rig;
  rig.submit();
  const auto field = [&](const std::string& body) {
    const auto answer = rig.post("/v1/jobs/1:signal", body);
    EXPECT_EQ(answer.status(), 422) << body;
    return std::string(answer.body().at("errors").as_array()[0].at("field").as_string());
  };
  EXPECT_EQ(field("{}"), "signal");
  EXPECT_EQ(field(R"({"signal":"SEGV"})"), "signal");
  EXPECT_EQ(field(R"({"signal":"KILL"})"), "signal");
  EXPECT_EQ(field(R"({"signal":9})"), "signal");
  EXPECT_EQ(field(R"({"signal":"USR1","why":"x"})"), "why");
  EXPECT_EQ(rig.post("/v1/jobs/1:signal").status(), 400);
}

TEST(JobActions, ByNameTakeTheNewest) {
  ApiRig rig;
  rig.submit();
  rig.submit();
  const auto done = rig.post("/v1/jobs/a:cancel");
  EXPECT_EQ(done.body().at("id"), 2);
  EXPECT_EQ(done.header("Tutti-Ambiguous"), "2");
}

TEST(JobActions, TheBodyIsReadStrictly) {
  ApiRig rig;
  rig.submit();
  EXPECT_EQ(rig.post("/v1/jobs/1:hold", "{").status(), 400);
  EXPECT_EQ(rig.post("/v1/jobs/1:hold", "[]").status(), 422);
  EXPECT_EQ(rig.post("/v1/jobs/1:hold", R"({"why":"x"})").status(), 422);
  EXPECT_EQ(rig.post("/v1/jobs/1:hold", R"({"reason":7})").status(), 422);
  EXPECT_EQ(rig.post("/v1/jobs/1:hold", R"({"reason":")" + std::string(1001, 'x') + "\"}").status(), 422);
  EXPECT_EQ(rig.get("/v1/jobs/1").body().at("state"), "queued") << "nothing has happened";
  EXPECT_EQ(rig.post("/v1/jobs/1:hold", R"({"reason":null})").status(), 200);
}

TEST(JobActions, UnavailableWhileRecovering) {
  ApiRig rig;
  rig.submit();
  rig.backend.be_unready();
  for (const auto verb : {"cancel", "hold", "release", "requeue"}) {
    const auto answer = rig.post("/v1/jobs/1:" + std::string(verb));
    EXPECT_EQ(answer.status(), 503) << verb;
    EXPECT_EQ(answer.header("Retry-After"), "1");
  }
}

}  // namespace
}  // namespace tutti::testing
