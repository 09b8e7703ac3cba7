// What the verbs print, and what `tutti` ends with.
#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "tests/cli/fake_scheduler.h"
#include "tests/cli/pty_process.h"

namespace tutti::cli::test {
namespace {

TEST(ExitStatus, SaysWhatKindOfFailureItWas) {
  FakeScheduler scheduler;
  scheduler.routes.get("/v1/jobs/{id}", [](const Request& request) {
    const int status = std::stoi(request.param("id"));
    return http::problem(status, "some_code", "because of " + std::to_string(status), "do this");
  });
  scheduler.start();
  for (const auto& [status, exit] :
       {std::pair{404, 3}, {403, 4}, {401, 4}, {400, 1}, {409, 1}, {422, 1}, {500, 1}, {503, 5}}) {
    const Finished ended = scheduler.run({"show", std::to_string(status), "--retry-for", "0"});
    EXPECT_EQ(ended.status, exit) << status;
    EXPECT_TRUE(ended.err.starts_with("tutti: because of " + std::to_string(status) + "\nhint: "))
        << ended.err;
    EXPECT_EQ(ended.err.find("do this") == std::string::npos, status == 401) << ended.err;
    EXPECT_EQ(ended.out, "");
  }
}

TEST(ExitStatus, WrongUsageIsTwo) {
  EXPECT_EQ(run_tutti({}).status, 2);
  EXPECT_EQ(run_tutti({"bogus"}).status, 2);
  EXPECT_EQ(run_tutti({"show"}).status, 2);
  EXPECT_EQ(run_tutti({"ls", "--server", "http://127.0.0.1:1", "-o", "xml"}).status, 2);
  EXPECT_EQ(run_tutti({"ls"}).status, 2) << "no server is known";
  EXPECT_EQ(run_tutti({"node", "drain", "n1", "--server", "http://127.0.0.1:1"}).status, 2) << "no reason";
  EXPECT_EQ(run_tutti({"--help"}).status, 0);
}

TEST(ExitStatus, NobodyThereIsFive) {
  const Finished ended = run_tutti({"ls", "--server", "http://127.0.0.1:1", "--retry-for", "0.3"});
  EXPECT_EQ(ended.status, 5);
  EXPECT_NE(ended.err.find("trying again"), std::string::npos) << ended.err;
  EXPECT_NE(ended.err.find("cannot reach the scheduler at http://127.0.0.1:1"), std::string::npos)
      << ended.err;
}

TEST(Errors, AreProblemJsonWhenJsonIsAskedFor) {
  FakeScheduler scheduler;
  scheduler.routes.get("/v1/jobs/{id}", [](const Request&) {
    return http::problem(404, "job_not_found", "job 7 does not exist", "tutti ls -a");
  });
  scheduler.start();
  const Finished ended = scheduler.run({"show", "7", "-o", "json"});
  const json::object problem = json::parse(ended.err).as_object();
  EXPECT_EQ(problem.at("code").as_string(), "job_not_found");
  EXPECT_EQ(problem.at("hint").as_string(), "tutti ls -a");
  const Finished away = run_tutti({"ls", "--server", "http://127.0.0.1:1", "--retry-for", "0", "-o", "json"});
  EXPECT_EQ(json::parse(away.err).as_object().at("code").as_string(), "unreachable");
  EXPECT_EQ(problem.at("message").as_string(), "job 7 does not exist");
  for (const auto& wrong : std::vector<std::vector<std::string>>{{"ls", "--no-such-flag", "-o", "json"},
                                                                 {"-o", "json", "no-such-verb"},
                                                                 {"show", "7", "-o", "json"}}) {
    const json::object usage = json::parse(run_tutti(wrong).err).as_object();
    EXPECT_EQ(usage.at("code").as_string(), "usage") << json::serialize(usage);
    EXPECT_TRUE(usage.contains("message") && usage.contains("hint")) << json::serialize(usage);
  }
}

TEST(Errors, TooManyRequestsAreWaitedForIfThatIsSoonEnough) {
  FakeScheduler scheduler;
  std::atomic<int> asked = 0;
  scheduler.routes.get("/v1/gpus", [&](const Request&) {
    if (asked++ > 0) return http::json(200, json::object{{"gpus", json::array{}}});
    return http::problem(429, "too_many_requests", "slower, please").set("Retry-After", "1");
  });
  scheduler.routes.get("/v1/nodes", [](const Request&) {
    return http::problem(429, "too_many_requests", "slower, please").set("Retry-After", "3600");
  });
  scheduler.start();
  const Finished patient = scheduler.run({"gpus", "-o", "json"});
  EXPECT_EQ(patient.status, 0) << patient.err;
  const auto tries = scheduler.asked("GET", "/v1/gpus");
  ASSERT_EQ(tries.size(), 2U);
  EXPECT_GE(tries[1].at - tries[0].at, 990ms);
  const auto began = std::chrono::steady_clock::now();
  EXPECT_EQ(scheduler.run({"nodes"}).status, 4);
  EXPECT_LT(std::chrono::steady_clock::now() - began, 10s) << "an hour is not waited for";
}

TEST(Evidence, IsWrittenWholeOrNotAtAll) {
  FakeScheduler scheduler;
  const std::string bytes("\x1f\x8b\0binary", 9);
  scheduler.routes.get("/v1/jobs/{id}/attempts/{n}/evidence", [bytes](const Request& request) {
    if (request.param("n") == "9")
      return http::problem(404, "not_found", "job 7 has no attempt 9", "it has 2");
    Response response;
    response.status = 200;
    response.body = bytes;
    return response;
  });
  scheduler.start();
  EXPECT_EQ(scheduler.run({"evidence", "7", "--attempt", "2", "-o", "-"}).out, bytes);
  EXPECT_EQ(scheduler.asked().back().target, "/v1/jobs/7/attempts/2/evidence");
  char name[] = "/tmp/evidence_verb.XXXXXX";
  const std::string dir = mkdtemp(name);
  const Finished ended = scheduler.run({"evidence", "7", "-o", dir + "/b.tar.gz"});
  EXPECT_EQ(ended.status, 0) << ended.err;
  EXPECT_EQ(scheduler.asked().back().target, "/v1/jobs/7/attempts/latest/evidence");
  std::ifstream in(dir + "/b.tar.gz", std::ios::binary);
  EXPECT_EQ(std::string(std::istreambuf_iterator<char>(in), {}), bytes);
  const Finished none = scheduler.run({"evidence", "7", "--attempt", "9", "-o", dir + "/none"});
  EXPECT_EQ(none.status, 3) << none.err;
  EXPECT_FALSE(std::filesystem::exists(dir + "/none"));
  EXPECT_FALSE(std::filesystem::exists(dir + "/none.part"));
  EXPECT_EQ(scheduler.run({"evidence", "7", "-o", dir + "/no/such/folder"}).status, 2);
  std::filesystem::remove_all(dir);
}

json::object page(json::array jobs, const char* token) {
  return {{"jobs", std::move(jobs)}, {"next_page_token", token}};
}

TEST(Ls, PrintsATableThatFits) {
  FakeScheduler scheduler;
  scheduler.routes.get("/v1/jobs", [](const Request&) {
    return http::json(
        200, page({job(7, "running", {{"attempt", 2}, {"nodes", 4}, {"gpus_per_node", 8}}),
                   job(1234, "held", {{"cause", "gpu"}, {"reason", std::string(150, 'r')}, {"name", "b"}})},
                  ""));
  });
  scheduler.start();
  const Finished ended = scheduler.run({"ls", "--utc"});
  EXPECT_EQ(ended.status, 0) << ended.err;
  EXPECT_EQ(ended.out,
            "  ID  NAME   STATE    PROJECT  QUEUE  OWNER  GPUS  TRY                   AGE  CAUSE  REASON\n"
            "   7  hello  running  nlp      h100   ann     4x8    2  2026-11-25T01:02:03Z\n"
            "1234  b      held     nlp      h100   ann       2    0  2026-11-25T01:02:03Z  gpu    "
            "rrrrrrrrrrrrrr…\n");
  EXPECT_EQ(scheduler.asked().back().target, "/v1/jobs?page_size=100&state=pending&state=active");
  EXPECT_EQ(scheduler.asked().back().authorization, "Bearer secret");
}

TEST(Ls, ATerminalGetsColourUnlessItIsRefused) {
  FakeScheduler scheduler;
  scheduler.routes.get("/v1/jobs",
                       [](const Request&) { return http::json(200, page({job(7, "running")}, "")); });
  scheduler.start();
  PtyProcess coloured({"ls"}, scheduler.environment(), 24, 100);
  EXPECT_EQ(coloured.wait(), 0);
  EXPECT_NE(coloured.output().find("\033[36mrunning"), std::string::npos) << coloured.output();
  auto environment = scheduler.environment();
  environment["NO_COLOR"] = "1";
  PtyProcess plain({"ls"}, environment, 24, 100);
  EXPECT_EQ(plain.wait(), 0);
  EXPECT_EQ(plain.output().find('\033'), std::string::npos) << plain.output();
}

// How far a job has come is said on a terminal while it is waited for, and is gone afterwards.
TEST(Wait, ATerminalSeesHowFarItIs) {
  FakeScheduler scheduler;
  http::test::Mailbox<std::shared_ptr<http::Stream>> streams;
  std::atomic<bool> ended = false;
  scheduler.routes.post("/v1/jobs", [](const Request&) { return http::json(201, job(7, "queued")); });
  scheduler.routes.get("/v1/jobs/{id}", [&](const Request&) {
    if (ended) return http::json(200, job(7, "succeeded", {{"exit_code", 0}}));
    return http::json(200, job(7, "running", {{"progress", json::object{{"step", 40}, {"total", 100}}}}));
  });
  scheduler.routes.get("/v1/jobs/{id}/events",
                       http::Handler([&](Request, Responder responder) { streams.put(responder.sse()); }));
  scheduler.start();
  char name[] = "/tmp/tutti-wait-XXXXXX";
  close(mkstemp(name));
  std::ofstream(name) << "name: hello\nrun: x\n";
  PtyProcess tutti({"submit", name, "--wait"}, scheduler.environment());
  const auto stream = streams.take();
  tutti.wait_for_output("job 7 (hello) running, step 40 of 100");
  ended = true;
  stream->write(http::sse_event("1", "", "{}"));
  EXPECT_EQ(tutti.wait(), 0) << tutti.output();
  EXPECT_NE(tutti.output().find("\r\033[Kjob 7 (hello) succeeded"), std::string::npos) << tutti.output();
  std::filesystem::remove(name);
}

TEST(Ls, JsonIsTheAnswerUnchanged) {
  FakeScheduler scheduler;
  const std::string body = R"({ "jobs" : [ {"id":7, "eta": 1.50, "new_field":[ ]} ], "next_page_token":"" })";
  scheduler.routes.get("/v1/jobs", [&](const Request&) { return http::text(200, body, "application/json"); });
  scheduler.start();
  EXPECT_EQ(scheduler.run({"ls", "-o", "json"}).out, body + "\n");
  EXPECT_EQ(scheduler.run({"ls", "-o", "yaml"}).out,
            "jobs:\n  - id: 7\n    eta: 1.5\n    new_field: []\nnext_page_token: \"\"\n");
}

TEST(Ls, CollectsPagesUpToTheLimit) {
  FakeScheduler scheduler;
  scheduler.routes.get("/v1/jobs", [](const Request& request) {
    const std::string token(request.query_param("page_token").value_or(""));
    if (token.empty()) return http::json(200, page({job(1, "queued"), job(2, "queued")}, "a b"));
    EXPECT_EQ(token, "a b");
    return http::json(200, page({job(3, "queued")}, ""));
  });
  scheduler.start();
  const Finished ended =
      scheduler.run({"ls", "-a", "-n", "500", "--state", "failed,held", "--project", "a&b", "-o", "json"});
  EXPECT_EQ(json::parse(ended.out).as_object().at("jobs").as_array().size(), 3U) << ended.err;
  EXPECT_EQ(scheduler.asked().front().target, "/v1/jobs?page_size=500&state=failed&state=held&project=a%26b");
}

TEST(Ls, CsvIsRawAndComplete) {
  FakeScheduler scheduler;
  scheduler.routes.get("/v1/jobs", [](const Request&) {
    return http::json(200, page({job(7, "failed", {{"reason", "a, b"}, {"exit_code", 3}})}, ""));
  });
  scheduler.start();
  EXPECT_EQ(scheduler.run({"ls", "-o", "csv"}).out,
            "ID,NAME,STATE,PROJECT,QUEUE,OWNER,PRIO,GPUS,TRY,AGE,EXIT,CAUSE,PROGRESS,REASON\r\n"
            "7,hello,failed,nlp,h100,ann,50,2,0,2026-11-25T01:02:03.000001Z,3,,,\"a, b\"\r\n");
}

TEST(Names, TheNewestIsTakenWithAWarning) {
  FakeScheduler scheduler;
  scheduler.routes.get("/v1/jobs/{id}", [](const Request& request) {
    EXPECT_EQ(request.param("id"), "my job");
    auto answer = http::json(200, job(9, "queued"));
    answer.set("Tutti-Ambiguous", "3");
    return answer;
  });
  scheduler.routes.get("/v1/jobs/{id}/explain", [](const Request& request) {
    EXPECT_EQ(request.param("id"), "9");
    return http::json(
        200, json::object{{"job_id", 9},
                          {"state", "queued"},
                          {"never", false},
                          {"position", 3},
                          {"reasons", json::array{json::object{{"code", "gpus"},
                                                               {"text", "needs 8 free GPUs, there are 4"},
                                                               {"need", "8"},
                                                               {"have", "4"}}}}});
  });
  scheduler.start();
  const Finished ended = scheduler.run({"explain", "my job"});
  EXPECT_EQ(ended.out, "job 9 is queued, 3 jobs before it\n  - needs 8 free GPUs, there are 4\n");
  EXPECT_NE(ended.err.find("3 jobs are named 'my job'; taking the newest, 9"), std::string::npos)
      << ended.err;
}

TEST(Plan, ShowsWhenWhereAndWhoElse) {
  FakeScheduler scheduler;
  json::object answer{
      {"job_id", nullptr},
      {"state", "queued"},
      {"never", false},
      {"position", 1},
      {"reasons", json::array{}},
      {"starts_now", false},
      {"nodes", json::array{}},
      {"preempts", json::array{}},
      {"eta", nullptr},
      {"blockers", json::array{json::object{
                       {"code", "running"}, {"text", "job 7 runs on nodes it would use"}, {"job_id", 7}}}},
      {"would_help", json::array{json::object{{"field", "nodes"}, {"to", "1"}}}},
      {"others", json::array{json::object{
                     {"job_id", 4}, {"before", "2026-01-01T00:00:00Z"}, {"after", "2026-01-01T02:00:00Z"}}}}};
  scheduler.routes.post("/v1/jobs:simulate", [&](const Request& request) {
    EXPECT_EQ(request.body, R"({"name":"a","run":"x"})");
    return http::json(200, answer);
  });
  scheduler.routes.post("/v1/jobs/{id}:simulate", [&](const Request& request) {
    EXPECT_EQ(json::parse(request.body), json::parse(R"({"priority":80})"));
    answer["starts_now"] = true;
    answer["nodes"] = json::array{"n1", "n2"};
    return http::json(200, answer);
  });
  scheduler.start();
  const Finished waits = scheduler.run({"plan", "-"}, R"({"name":"a","run":"x"})");
  EXPECT_NE(waits.out.find("it would wait, 1 job before it"), std::string::npos) << waits.out << waits.err;
  EXPECT_NE(waits.out.find("job 7 runs on nodes it would use"), std::string::npos) << waits.out;
  EXPECT_NE(waits.out.find("it would start now with nodes: 1"), std::string::npos) << waits.out;
  EXPECT_NE(waits.out.find("job 4: "), std::string::npos) << waits.out;
  const Finished now = scheduler.run({"plan", "--job", "12", "--priority", "80"});
  EXPECT_EQ(now.out.substr(0, 33), "it would start now on n1, n2\nbeca") << now.err;
  EXPECT_EQ(scheduler.run({"plan"}).status, 2);
}

TEST(Connection, AUnixSocketWillDo) {
  char folder[] = "/tmp/tutti-cli-XXXXXX";
  ASSERT_NE(mkdtemp(folder), nullptr);
  http::ServerConfig config;
  config.unix_path = std::string(folder) + "/sock";
  FakeScheduler scheduler;
  scheduler.routes.get("/v1/gpus",
                       [](const Request&) { return http::json(200, json::object{{"gpus", json::array{}}}); });
  scheduler.start(config);
  const Finished ended = run_tutti({"gpus", "--server", "http+unix://" + config.unix_path, "-o", "json"});
  EXPECT_EQ(ended.out, "{\"gpus\":[]}\n") << ended.err;
  unlink(config.unix_path.c_str());
  rmdir(folder);
}

TEST(Version, DoesWithoutAServer) {
  const Finished ended = run_tutti({"version"});
  EXPECT_EQ(ended.status, 0);
  EXPECT_NE(ended.out.find("no server is known"), std::string::npos) << ended.out;
}

TEST(Watch, DrawsAgainWhenSomethingHappens) {
  FakeScheduler scheduler;
  http::test::Mailbox<std::shared_ptr<http::Stream>> streams;
  std::atomic<int> drawn = 0;
  scheduler.routes.get("/v1/queue", [&](const Request&) {
    return http::json(200,
                      json::object{{"jobs", json::array{job(100 + drawn++, "queued", {{"position", 1}})}}});
  });
  scheduler.routes.get("/v1/events",
                       http::Handler([&](Request, Responder responder) { streams.put(responder.sse()); }));
  scheduler.start();
  TuttiProcess watching({"queue", "-w"}, {}, scheduler.environment());
  const auto stream = streams.take();
  watching.wait_for_output("100");
  const auto before = std::chrono::steady_clock::now();
  stream->write(http::sse_event("1", "", "{}"));
  watching.wait_for_output("101");
  EXPECT_LT(std::chrono::steady_clock::now() - before, 4s) << "not because five seconds were over";
}

}  // namespace
}  // namespace tutti::cli::test
