// submit: what is sent, what is repeated, and with which key.
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <fstream>
#include <thread>

#include "tests/cli/fake_scheduler.h"

namespace tutti::cli::test {
namespace {

constexpr const char* kYaml = "# a comment\nname: hello\nrun:   nvidia-smi\nenv: {V: 1.10}\n";

TEST(Submit, SendsYamlAsItIs) {
  FakeScheduler scheduler;
  scheduler.routes.post("/v1/jobs", [](const Request&) { return http::json(201, job(7, "queued")); });
  scheduler.start();
  const Finished ended = scheduler.run({"submit", "-"}, kYaml);
  EXPECT_EQ(ended.status, 0) << ended.err;
  EXPECT_EQ(ended.out, "job 7 (hello) queued\n");
  const Asked asked = scheduler.asked().at(0);
  EXPECT_EQ(asked.body, kYaml);
  EXPECT_EQ(asked.content_type, "application/yaml");
  EXPECT_EQ(asked.key.size(), 36U);
  scheduler.run({"submit", "-"}, R"({"run":"x"})");
  EXPECT_EQ(scheduler.asked().at(1).content_type, "application/json");
  EXPECT_NE(scheduler.asked().at(1).key, asked.key);
}

TEST(Submit, EditsMakeItJson) {
  FakeScheduler scheduler;
  scheduler.routes.post("/v1/jobs", [](const Request&) { return http::json(201, job(7, "queued")); });
  scheduler.start();
  const Finished ended = scheduler.run({"submit", "-", "--set", "resources.gpus=4", "--set", "nodes=2",
                                        "--env", "A=b", "--name", "other", "--key", "mine"},
                                       kYaml);
  EXPECT_EQ(ended.status, 0) << ended.err;
  const Asked asked = scheduler.asked().at(0);
  EXPECT_EQ(asked.content_type, "application/json");
  EXPECT_EQ(asked.key, "mine");
  EXPECT_EQ(json::parse(asked.body),
            json::parse(R"({"name":"other","run":"nvidia-smi","env":{"V":"1.10","A":"b"},
                                                     "resources":{"gpus":4},"nodes":2})"));
}

TEST(Submit, GoesToTheNextSchedulerWhenOneIsGoneOrDoesNotLead) {
  FakeScheduler standby, leader;
  standby.routes.post("/v1/jobs", [](const Request&) {
    return http::problem(503, "no_leader", "no scheduler leads at the moment").set("Retry-After", "30");
  });
  leader.routes.post("/v1/jobs", [](const Request&) { return http::json(201, job(7, "queued")); });
  standby.start();
  leader.start();
  const std::string servers = "http://127.0.0.1:1," + standby.url() + "," + leader.url();
  const Finished ended = run_tutti({"submit", "-", "--retry-for", "0"}, kYaml,
                                   {{"TUTTI_SERVER", servers}, {"TUTTI_TOKEN", "secret"}});
  EXPECT_EQ(ended.status, 0) << ended.err;
  EXPECT_EQ(ended.out, "job 7 (hello) queued\n");
  EXPECT_EQ(standby.asked().size(), 1U);
  ASSERT_EQ(leader.asked().size(), 1U);
  EXPECT_EQ(standby.asked().at(0).key, leader.asked().at(0).key);
}

TEST(Submit, IsRepeatedWithTheSameKeyAfter503AndWaitsAsAsked) {
  FakeScheduler scheduler;
  std::atomic<int> tries = 0;
  scheduler.routes.post("/v1/jobs", [&](const Request&) {
    if (tries++ > 0) return http::json(201, job(7, "queued"));
    auto answer = http::problem(503, "unavailable", "recovering");
    answer.set("Retry-After", "1");
    return answer;
  });
  scheduler.start();
  const Finished ended = scheduler.run({"submit", "-"}, kYaml);
  EXPECT_EQ(ended.status, 0) << ended.err;
  EXPECT_NE(ended.err.find("trying again"), std::string::npos) << ended.err;
  const auto asked = scheduler.asked();
  ASSERT_EQ(asked.size(), 2U);
  EXPECT_EQ(asked[0].key, asked[1].key);
  EXPECT_EQ(asked[0].body, asked[1].body);
  EXPECT_GE(asked[1].at - asked[0].at, 990ms);
}

TEST(Submit, FailureNamesTheKeyThatMakesARerunSafe) {
  FakeScheduler scheduler;
  scheduler.routes.post("/v1/jobs",
                        [](const Request&) { return http::problem(503, "unavailable", "recovering"); });
  scheduler.start();
  const Finished ended = scheduler.run({"submit", "-", "--retry-for", "0"}, kYaml);
  EXPECT_EQ(ended.status, 5);
  EXPECT_NE(ended.err.find("--key " + scheduler.asked().at(0).key), std::string::npos) << ended.err;
}

TEST(Submit, ARefusalIsNotRepeatedAndNamesEveryField) {
  FakeScheduler scheduler;
  scheduler.routes.post("/v1/jobs", [](const Request&) {
    http::Problem problem;
    problem.status = 422;
    problem.code = "invalid_argument";
    problem.detail = "the job is not valid";
    problem.errors = {{"resources.gpus", "must be at least 0"}, {"nodse", "unknown field"}};
    return http::problem(problem);
  });
  scheduler.start();
  const Finished ended = scheduler.run({"submit", "-"}, kYaml);
  EXPECT_EQ(ended.status, 1);
  EXPECT_EQ(ended.err,
            "tutti: the job is not valid\n  resources.gpus: must be at least 0\n  nodse: unknown field\n");
  EXPECT_EQ(scheduler.asked().size(), 1U);
}

TEST(Submit, AReplayIsSaid) {
  FakeScheduler scheduler;
  scheduler.routes.post("/v1/jobs", [](const Request&) {
    auto answer = http::json(201, job(7, "running"));
    answer.set("Idempotent-Replayed", "true");
    return answer;
  });
  scheduler.start();
  EXPECT_EQ(scheduler.run({"submit", "-", "--key", "k"}, kYaml).out,
            "job 7 (hello) running (it had been submitted before)\n");
}

// Reads one request whole and closes without an answer `drops` times, then answers 201.
class DroppingServer {
 public:
  explicit DroppingServer(int drops) {
    listener_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t length = sizeof address;
    if (bind(listener_, reinterpret_cast<sockaddr*>(&address), length) != 0 || listen(listener_, 8) != 0)
      throw std::runtime_error("listen");
    getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &length);
    port_ = ntohs(address.sin_port);
    thread_ = std::thread([this, drops] { serve(drops); });
  }
  ~DroppingServer() {
    shutdown(listener_, SHUT_RDWR);
    thread_.join();
    close(listener_);
  }
  std::string url() const { return "http://127.0.0.1:" + std::to_string(port_); }
  std::vector<std::string> requests() {
    const std::scoped_lock lock(mutex_);
    return requests_;
  }

 private:
  void serve(int drops) {
    for (int n = 0;; ++n) {
      const int fd = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
      if (fd < 0) return;
      std::string request;
      char buffer[8192];
      while (request.find("nvidia-smi") == std::string::npos && request.find("{}") == std::string::npos) {
        const ssize_t got = recv(fd, buffer, sizeof buffer, 0);
        if (got <= 0) break;
        request.append(buffer, static_cast<std::size_t>(got));
      }
      {
        const std::scoped_lock lock(mutex_);
        requests_.push_back(request);
      }
      if (n >= drops) {
        const std::string body = json::serialize(job(7, "queued"));
        const std::string answer =
            "HTTP/1.1 201 Created\r\nConnection: close\r\nContent-Length: " + std::to_string(body.size()) +
            "\r\n\r\n" + body;
        (void)!send(fd, answer.data(), answer.size(), MSG_NOSIGNAL);
      }
      close(fd);
    }
  }
  int listener_ = -1;
  int port_ = 0;
  std::mutex mutex_;
  std::vector<std::string> requests_;
  std::thread thread_;
};

std::string header_of(const std::string& request, const std::string& name) {
  const auto at = request.find(name + ": ");
  return at == std::string::npos ? "" : request.substr(at, request.find("\r\n", at) - at);
}

TEST(Submit, AnAnswerLostOnTheWayIsAskedForWithTheSameKey) {
  DroppingServer server(1);
  const Finished ended = run_tutti({"submit", "-", "--server", server.url()}, kYaml);
  EXPECT_EQ(ended.status, 0) << ended.err;
  const auto requests = server.requests();
  ASSERT_EQ(requests.size(), 2U);
  EXPECT_NE(header_of(requests[0], "Idempotency-Key"), "");
  EXPECT_EQ(header_of(requests[0], "Idempotency-Key"), header_of(requests[1], "Idempotency-Key"));
}

TEST(Changes, AnAnswerLostOnTheWayIsNotRepeatedWithoutAKey) {
  DroppingServer server(1);
  const Finished ended = run_tutti({"requeue", "7", "--server", server.url()});
  EXPECT_EQ(ended.status, 5);
  EXPECT_EQ(server.requests().size(), 1U);
}

class Wait : public testing::TestWithParam<std::tuple<const char*, int, int>> {};

TEST_P(Wait, EndsWithTheJobsOwnStatus) {
  const auto [state, exit_code, expected] = GetParam();
  FakeScheduler scheduler;
  http::test::Mailbox<std::shared_ptr<http::Stream>> streams;
  std::atomic<bool> ended = false;
  scheduler.routes.post("/v1/jobs", [](const Request&) { return http::json(201, job(7, "queued")); });
  scheduler.routes.get("/v1/jobs/{id}", [&, state = state, exit_code = exit_code](const Request&) {
    return http::json(200, ended ? job(7, state, {{"exit_code", exit_code}}) : job(7, "running"));
  });
  scheduler.routes.get("/v1/jobs/{id}/events",
                       http::Handler([&](Request, Responder responder) { streams.put(responder.sse()); }));
  scheduler.start();
  TuttiProcess waiting({"submit", "-", "--wait", "-o", "json"}, kYaml, scheduler.environment());
  const auto stream = streams.take();
  ended = true;
  stream->write(http::sse_event("1", "", "{}"));
  const Finished finished = waiting.wait();
  EXPECT_EQ(finished.status, expected) << finished.err;
  EXPECT_EQ(json::parse(finished.out).as_object().at("state").as_string(), state);
}

INSTANTIATE_TEST_SUITE_P(States, Wait,
                         testing::Values(std::tuple{"succeeded", 0, 0}, std::tuple{"failed", 42, 42},
                                         std::tuple{"failed", 0, 1}, std::tuple{"cancelled", 143, 130}));

}  // namespace
}  // namespace tutti::cli::test
