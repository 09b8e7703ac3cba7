// --follow, logs -f and events -f: over retries, lost connections and a restarting server.
#include <gtest/gtest.h>

#include "tests/cli/fake_scheduler.h"

namespace tutti::cli::test {
namespace {

using StreamPtr = std::shared_ptr<http::Stream>;

// Job 7 as the test wants it to be, its logs and events as streams in the test's hands.
struct FollowedJob {
  FollowedJob() {
    auto& routes = scheduler.routes;
    routes.post("/v1/jobs", [](const Request&) { return http::json(201, job(7, "queued")); });
    routes.get("/v1/jobs/{id}", [this](const Request&) {
      const std::scoped_lock lock(mutex);
      return http::json(200, shown);
    });
    routes.get("/v1/jobs/{id}/attempts", [this](const Request&) {
      const std::scoped_lock lock(mutex);
      json::array attempts;
      for (std::size_t i = 0; i < attempt_states.size(); ++i)
        attempts.push_back(json::object{{"number", i + 1}, {"state", attempt_states[i]}});
      return http::json(200, json::object{{"attempts", attempts}});
    });
    routes.get("/v1/jobs/{id}/attempts/{n}/logs", http::Handler([this](Request request, Responder responder) {
                 http::StreamOptions options;
                 options.max_buffer = 1000;
                 logs.put({request.target, responder.stream(200, {{"Content-Type", "text/plain"}}, options)});
               }));
    routes.get("/v1/jobs/{id}/events", http::Handler([this](Request, Responder responder) {
                 const auto stream = responder.sse();
                 const std::scoped_lock lock(mutex);
                 events = stream;
               }));
    scheduler.start();
  }

  // What the API shows from now on; whoever listens is told.
  void set(json::object job_now, std::vector<std::string> attempts) {
    const std::scoped_lock lock(mutex);
    shown = std::move(job_now);
    attempt_states = std::move(attempts);
    if (events) events->write(http::sse_event(std::to_string(++event_id), "", "{}"));
  }

  struct OpenLog {
    std::string target;
    StreamPtr stream;
  };
  std::mutex mutex;
  json::object shown = job(7, "queued");
  std::vector<std::string> attempt_states;
  StreamPtr events;
  int event_id = 0;
  http::test::Mailbox<OpenLog> logs;
  FakeScheduler scheduler;
};

TEST(Follow, GoesFromAttemptToAttemptAndEndsWithTheJobsStatus) {
  FollowedJob f;
  TuttiProcess following({"submit", "-", "--follow"}, "run: x\n", f.scheduler.environment());
  following.wait_for_error("job 7 (hello) queued");
  f.set(job(7, "running", {{"attempt", 1}}), {"running"});
  auto log = f.logs.take();
  EXPECT_EQ(log.target, "/v1/jobs/7/attempts/1/logs?rank=0&follow=1");
  log.stream->write("one\n");
  following.wait_for_output("one\n");
  f.set(job(7, "queued", {{"attempt", 1}, {"cause", "gpu"}}), {"ended"});
  log.stream->close();

  f.set(job(7, "running", {{"attempt", 2}}), {"ended", "running"});
  log = f.logs.take();
  EXPECT_EQ(log.target, "/v1/jobs/7/attempts/2/logs?rank=0&follow=1");
  log.stream->write("two\n");
  f.set(job(7, "failed", {{"attempt", 2}, {"exit_code", 42}, {"cause", "user"}}), {"ended", "ended"});
  log.stream->close();

  const Finished ended = following.wait();
  EXPECT_EQ(ended.out, "one\ntwo\n");
  EXPECT_EQ(ended.status, 42);
  EXPECT_NE(ended.err.find("--- job 7, attempt 2 ---"), std::string::npos) << ended.err;
  EXPECT_NE(ended.err.find("job 7 (hello) failed, exit code 42, cause user"), std::string::npos) << ended.err;
}

TEST(Follow, GoesOnAtTheSameByteWhenTheServerRestarts) {
  FollowedJob f;
  f.set(job(7, "running", {{"attempt", 1}}), {"running"});
  TuttiProcess following({"logs", "7", "-f"}, {}, f.scheduler.environment());
  auto log = f.logs.take();
  log.stream->write("half a li");
  following.wait_for_output("half a li");
  log.stream->close();  // in order, as a server does that stops; but the attempt runs on

  log = f.logs.take();
  EXPECT_EQ(log.target, "/v1/jobs/7/attempts/1/logs?rank=0&follow=1&offset=9");
  log.stream->write("ne\n");
  following.wait_for_output("half a line\n");
  log.stream->write(std::string(2000, 'x'));  // overflows its buffer: the connection is cut

  log = f.logs.take();
  EXPECT_EQ(log.target, "/v1/jobs/7/attempts/1/logs?rank=0&follow=1&offset=12");
  log.stream->write("end\n");
  f.set(job(7, "succeeded", {{"attempt", 1}, {"exit_code", 0}}), {"ended"});
  log.stream->close();
  const Finished ended = following.wait();
  EXPECT_EQ(ended.out, "half a line\nend\n");
  EXPECT_EQ(ended.status, 0) << ended.err;
}

TEST(Follow, TheServersOwnNoticeIsNoByteOfTheLog) {
  FollowedJob f;
  f.set(job(7, "running", {{"attempt", 1}}), {"running"});
  TuttiProcess following({"logs", "7", "-f"}, {}, f.scheduler.environment());
  auto log = f.logs.take();
  log.stream->write("abc\n[tutti] the log of rank 0 ends here: node n1 is not connected\n");
  log.stream->close();
  log = f.logs.take();
  EXPECT_EQ(log.target, "/v1/jobs/7/attempts/1/logs?rank=0&follow=1&offset=4");
  log.stream->write("def\n");
  f.set(job(7, "succeeded", {{"attempt", 1}}), {"ended"});
  log.stream->close();
  EXPECT_NE(following.wait().out.find("def\n"), std::string::npos);
}

TEST(Logs, OfAJobThatHasNotStartedSayWhatToDo) {
  FollowedJob f;
  const Finished ended = f.scheduler.run({"logs", "7"});
  EXPECT_EQ(ended.status, 1);
  EXPECT_NE(ended.err.find("tutti explain 7"), std::string::npos) << ended.err;
}

TEST(Logs, AreOfTheLatestAttemptUnlessAskedOtherwise) {
  FollowedJob f;
  f.set(job(7, "failed", {{"attempt", 3}}), {"ended", "ended", "ended"});
  {
    TuttiProcess reading({"logs", "7", "--rank", "all", "--tail", "100"}, {}, f.scheduler.environment());
    const auto log = f.logs.take();
    EXPECT_EQ(log.target, "/v1/jobs/7/attempts/3/logs?rank=all&tail=100");
    log.stream->write("x\n");
    log.stream->close();
    EXPECT_EQ(reading.wait().out, "x\n");
  }
  TuttiProcess reading({"logs", "7", "--attempt", "2"}, {}, f.scheduler.environment());
  const auto log = f.logs.take();
  EXPECT_EQ(log.target, "/v1/jobs/7/attempts/2/logs?rank=0");
  log.stream->write("half");
  reading.wait_for_output("");
  log.stream->write(std::string(2000, 'x'));
  const Finished ended = reading.wait();
  EXPECT_EQ(ended.status, 5) << "a log that broke off is not a whole log";
}

TEST(Events, AreResumedAfterTheLastOneSeen) {
  FakeScheduler scheduler;
  http::test::Mailbox<StreamPtr> streams;
  scheduler.routes.get("/v1/jobs/{id}/events", http::Handler([&](Request request, Responder responder) {
                         if (request.header("Accept").value_or("") == "text/event-stream")
                           return streams.put(responder.sse());
                         json::array events;
                         if (request.query_param("after").value_or("") == "")
                           events.push_back(json::object{{"id", 4}, {"kind", "job"}, {"to", "queued"}});
                         responder.respond(http::json(200, json::object{{"events", events}}));
                       }));
  scheduler.start();
  TuttiProcess following({"events", "7", "-f", "-o", "json"}, {}, scheduler.environment());
  following.wait_for_output("\"to\":\"queued\"");
  auto stream = streams.take();
  stream->write(http::sse_event("5", "", R"({"id":5,"to":"running"})"));
  following.wait_for_output("{\"id\":5,\"to\":\"running\"}\n");
  stream->close();
  stream = streams.take();
  stream->write(http::sse_event("6", "", R"({"id":6})"));
  following.wait_for_output("{\"id\":6}\n");
  std::vector<std::string> last;
  for (const auto& asked : scheduler.asked("GET", "/v1/jobs/7/events")) last.push_back(asked.last_event_id);
  EXPECT_EQ(last, (std::vector<std::string>{"", "4", "5"}));
}

}  // namespace
}  // namespace tutti::cli::test
