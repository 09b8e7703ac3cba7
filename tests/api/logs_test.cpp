// Logs: pieces, following, readers that are slow or leave.
#include "api_rig.h"

namespace tutti::testing {
namespace {

struct LogRig : ApiRig {
  LogRig() {
    backend.add_node("n1", 4);
    backend.add_node("n2", 4);
    submit(R"({"name":"a","run":"x","nodes":2,"resources":{"gpus":4}})");
    key = backend.run_job(JobId(1));
  }
  AttemptKey key;
  static constexpr auto kLog = "/v1/jobs/1/attempts/1/logs";
  std::string url(const std::string& query) const { return std::string(kLog) + "?" + query; }
};

TEST(Logs, WhatIsThereAndNoMore) {
  LogRig rig;
  rig.backend.logs[0] = {"hello\nworld\n", false};
  const auto call = rig.get(LogRig::kLog);
  ASSERT_NE(call.stream, nullptr);
  EXPECT_EQ(call.stream->text, "hello\nworld\n");
  EXPECT_TRUE(call.stream->closed());
  EXPECT_EQ(rig.get(rig.url("tail=6")).stream->text, "world\n");
  EXPECT_EQ(rig.get(rig.url("offset=3")).stream->text, "lo\nworld\n");
  EXPECT_EQ(rig.get("/v1/jobs/a/attempts/latest/logs").stream->text, "hello\nworld\n");
  rig.backend.logs[5] = {"five", true};
  EXPECT_EQ(rig.get(rig.url("rank=5")).stream->text, "five");
  EXPECT_EQ(rig.backend.log_requests.back().key, rig.key);
}

TEST(Logs, ALongLogComesInPieces) {
  LogRig rig;
  std::string text;
  for (int i = 0; i < 200'000; ++i) text += "line " + std::to_string(i) + "\n";
  rig.backend.logs[0] = {text, true};
  const auto call = rig.get(LogRig::kLog);
  EXPECT_EQ(call.stream->text, text);
  EXPECT_TRUE(call.stream->closed());
  EXPECT_GT(rig.backend.log_requests.size(), 5u);
}

TEST(Logs, FollowsUntilTheRankHasEnded) {
  LogRig rig;
  rig.backend.logs[0] = {"one\n", false};
  const auto call = rig.get(rig.url("follow=1"));
  EXPECT_EQ(call.stream->text, "one\n");
  EXPECT_FALSE(call.stream->closed());
  rig.backend.logs[0].text += "two\n";
  rig.backend.logs_changed();
  EXPECT_EQ(call.stream->text, "one\ntwo\n");
  rig.backend.logs_time_out();
  EXPECT_EQ(rig.backend.waiting_polls(), 1u) << "it asks again";
  rig.backend.logs[0].text += "end\n";
  rig.backend.logs[0].ended = true;
  rig.backend.logs_changed();
  EXPECT_EQ(call.stream->text, "one\ntwo\nend\n");
  EXPECT_TRUE(call.stream->closed());
  EXPECT_EQ(rig.backend.waiting_polls(), 0u);
}

TEST(Logs, AsksNoMoreWhenTheReaderIsGone) {
  LogRig rig;
  rig.backend.logs[0] = {"one\n", false};
  const auto call = rig.get(rig.url("follow=1"));
  call.stream->leave();
  rig.backend.logs_time_out();
  EXPECT_EQ(rig.backend.waiting_polls(), 0u);
}

TEST(Logs, ASlowReaderIsWaitedFor) {
  LogRig rig;
  rig.backend.logs[0] = {"x", false};
  const auto call = rig.get(rig.url("follow=1"));
  call.stream->slow = true;
  rig.backend.logs[0].text.append(10 << 20, 'y');
  rig.backend.logs[0].ended = true;
  rig.backend.logs_changed();
  const auto asked = rig.backend.log_requests.size();
  EXPECT_LT(call.stream->text.size(), 1u << 20) << "one piece, then it waits";
  for (int i = 0; i < 100 && !call.stream->closed(); ++i) call.stream->take_all();
  EXPECT_TRUE(call.stream->closed());
  EXPECT_EQ(call.stream->text.size(), (10u << 20) + 1);
  EXPECT_GT(rig.backend.log_requests.size(), asked + 30);
}

TEST(Logs, AllRanksWithTheirNumberInFront) {
  LogRig rig;
  for (int rank = 0; rank < 8; ++rank) rig.backend.logs[rank] = {"r" + std::to_string(rank) + "\nlast", true};
  const auto call = rig.get(rig.url("rank=all"));
  EXPECT_TRUE(call.stream->closed());
  for (int rank = 0; rank < 8; ++rank) {
    const auto n = std::to_string(rank);
    EXPECT_NE(call.stream->text.find("[" + n + "] r" + n + "\n[" + n + "] last\n"), std::string::npos) << n;
  }
}

TEST(Logs, AllRanksKeepLinesWhole) {
  LogRig rig;
  for (int rank = 0; rank < 8; ++rank) rig.backend.logs[rank] = {"", false};
  const auto call = rig.start(http::Method::get, rig.url("rank=all&follow=1"));
  EXPECT_FALSE(call->response) << "nothing has come yet";
  rig.backend.logs_time_out();
  ASSERT_TRUE(call->stream) << "but a reader is not kept waiting for its answer to begin";
  const auto write = [&](int rank, const std::string& text) {
    rig.backend.logs[rank].text += text;
    rig.backend.logs_changed();
  };
  write(0, "half");
  write(1, "whole\n");
  EXPECT_EQ(call->stream->text, "[1] whole\n");
  write(0, " and half\nrest");
  EXPECT_EQ(call->stream->text, "[1] whole\n[0] half and half\n");
  for (int rank = 0; rank < 8; ++rank) rig.backend.logs[rank].ended = true;
  rig.backend.logs_changed();
  EXPECT_EQ(call->stream->text, "[1] whole\n[0] half and half\n[0] rest\n");
  EXPECT_TRUE(call->stream->closed());
}

TEST(Logs, OfTheRankThatFailedFirst) {
  LogRig rig;
  EXPECT_EQ(rig.get(rig.url("first_failure=1")).status(), 404) << "none has";
  rig.backend.change([&](ControlPlane& plane, Now now) {
    for (const int rank : {6, 1}) {
      protocol::AttemptStatus status;
      status.key = rig.key;
      status.phase = protocol::Phase::running;
      protocol::Failure failure;
      failure.kind = "exit";
      failure.rank = rank;
      failure.exit_code = 1;
      failure.detail = "exit code 1";
      failure.last_lines = "line\nRuntimeError: rank " + std::to_string(rank);
      status.failure = failure;
      plane.on_attempt_status(now, plane.cluster().node_by_name.at(rank == 6 ? "n2" : "n1"), status);
    }
  });
  rig.backend.logs_connected = false;  // the node is not asked
  const auto lines = rig.get(rig.url("first_failure=1"));
  ASSERT_EQ(lines.status(), 200);
  EXPECT_EQ(lines.response->body, "line\nRuntimeError: rank 6\n");
  EXPECT_EQ(lines.header("Tutti-Rank"), "6");
  EXPECT_EQ(lines.header("Content-Type"), "text/plain; charset=utf-8");
  EXPECT_EQ(rig.get(rig.url("first_failure=1&rank=6")).status(), 422);
  EXPECT_EQ(rig.get(rig.url("first_failure=1&follow=1")).status(), 422);
  EXPECT_EQ(rig.get("/v1/jobs/1/attempts/2/logs?first_failure=1").status(), 404);
}

TEST(Logs, WhatCannotBeReadIsAProblem) {
  LogRig rig;
  rig.backend.logs_connected = false;
  EXPECT_EQ(rig.get(LogRig::kLog).status(), 503);
  EXPECT_EQ(rig.get("/v1/jobs/1/attempts/2/logs").status(), 404);
  EXPECT_EQ(rig.get("/v1/jobs/9/attempts/1/logs").status(), 404);
  EXPECT_EQ(rig.get("/v1/jobs/nobody/attempts/1/logs").status(), 404);
  EXPECT_EQ(rig.get(rig.url("rank=8")).status(), 404);
  EXPECT_EQ(rig.get("/v1/jobs/1/attempts/first/logs").status(), 422);
  for (const auto query : {"rank=x", "rank=-1", "tail=x", "tail=-1", "offset=x"})
    EXPECT_EQ(rig.get(rig.url(query)).status(), 422) << query;
}

TEST(Logs, AnErrorInTheMiddleIsSaid) {
  LogRig rig;
  rig.backend.logs[0] = {"one\n", false};
  const auto call = rig.get(rig.url("follow=1"));
  rig.backend.logs_connected = false;
  rig.backend.logs_time_out();
  EXPECT_TRUE(call.stream->closed());
  EXPECT_NE(call.stream->text.find("[tutti] the log of rank 0 ends here"), std::string::npos);
}

}  // namespace
}  // namespace tutti::testing
