// Answers: from other threads, late, never; hooks, exceptions, HEAD, connection cap, stopping.
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <boost/json/parse.hpp>
#include <memory>
#include <new>

#include "test_server.h"

namespace tutti::http::test {
namespace {

TEST(HttpAnswers, MayComeLaterFromAnotherThread) {
  Mailbox<std::function<void()>> work;
  Router router;
  router.get("/later", Handler([&work](Request request, Responder responder) {
               auto shared = std::make_shared<Responder>(std::move(responder));
               work.put([shared, n = request.query_param("n")] {
                 shared->respond(text(200, "late " + n.value_or("?")));
               });
             }));
  constexpr int kRequests = 200;
  std::thread worker([&work] {
    for (int i = 0; i < kRequests; ++i) work.take()();
  });
  {
    TestServer server(std::move(router));
    auto client = server.client();
    for (int i = 0; i < kRequests; ++i) {
      const auto n = std::to_string(i);
      EXPECT_EQ(client.request("GET", "/later?n=" + n).body, "late " + n);
    }
  }
  worker.join();
}

TEST(HttpAnswers, ManyClientsOnManyThreads) {
  TestServer server(echo_routes(), {}, {}, 3);
  std::vector<std::thread> clients;
  std::atomic<int> right = 0;
  for (int c = 0; c < 8; ++c) {
    clients.emplace_back([&server, &right, c] {
      auto client = server.client();
      for (int i = 0; i < 100; ++i) {
        const auto body = std::to_string(c * 1000 + i);
        if (client.request("POST", "/echo", {}, body).body == body) ++right;
      }
    });
  }
  for (auto& client : clients) client.join();
  EXPECT_EQ(right, 800);
}

TEST(HttpAnswers, DroppedResponderIsAnsweredWithFiveHundred) {
  Router router;
  router.get("/dropped", Handler([](Request, Responder) {}));
  TestServer server(std::move(router));
  const auto answer = server.client().request("GET", "/dropped");
  EXPECT_EQ(answer.status, 500);
  EXPECT_EQ(boost::json::parse(answer.body).at("code").as_string(), "unanswered");
}

TEST(HttpAnswers, HandlerThatThrowsIsAnsweredAndReported) {
  Mailbox<std::string> complaints;
  Router router;
  router.get("/throws", [](const Request&) -> Response { throw std::runtime_error("the disk is on fire"); });
  router.get("/healthz", [](const Request&) { return text(200, "ok"); });
  Hooks hooks;
  hooks.on_error = [&complaints](std::string_view what) { complaints.put(std::string(what)); };
  TestServer server(std::move(router), {}, hooks);
  auto client = server.client();
  const auto answer = client.request("GET", "/throws");
  EXPECT_EQ(answer.status, 500);
  EXPECT_EQ(answer.body.find("disk"), std::string::npos) << "inside matters stay inside";
  EXPECT_EQ(complaints.take(), "/throws: the disk is on fire");
  EXPECT_EQ(client.request("GET", "/healthz").status, 200) << "the connection lives on";
}

TEST(HttpAnswers, HandlerWithoutMemoryIsAnsweredWithFiveHundredAndThree) {
  Mailbox<std::string> complaints;
  Router router;
  router.post("/big", Handler([](Request, Responder) { throw std::bad_alloc(); }));
  router.post("/kept", Handler([](Request, Responder responder) {
                const auto kept = std::make_shared<Responder>(std::move(responder));
                throw std::bad_alloc();
              }));
  router.post("/done", Handler([](Request, Responder responder) {
                responder.respond(text(201, "it is done"));
                throw std::bad_alloc();
              }));
  Hooks hooks;
  hooks.on_error = [&complaints](std::string_view what) { complaints.put(std::string(what)); };
  TestServer server(std::move(router), {}, hooks);
  auto client = server.client();
  for (const std::string path : {"/big", "/kept"}) {
    const auto answer = client.request("POST", path);
    EXPECT_EQ(answer.status, 503) << path;
    EXPECT_EQ(answer.header("Content-Type"), "application/problem+json") << path;
    EXPECT_EQ(answer.header("Retry-After"), "1") << path;
    const auto problem = boost::json::parse(answer.body);
    EXPECT_EQ(problem.at("code").as_string(), "no_memory") << path;
    EXPECT_EQ(problem.at("detail").as_string(), "the server has not enough memory for this request") << path;
    EXPECT_EQ(complaints.take(), path + ": not enough memory");
  }
  EXPECT_EQ(client.request("POST", "/done").status, 201) << "what was answered before counts";
  EXPECT_EQ(complaints.take(), "/done: not enough memory");
}

TEST(HttpAnswers, HookWithoutMemoryIsAnsweredWithFiveHundredAndThree) {
  Hooks hooks;
  hooks.before = [](Request&) -> std::optional<Response> { throw std::bad_alloc(); };
  TestServer server(echo_routes(), {}, hooks);
  const auto answer = server.client().request("GET", "/healthz");
  EXPECT_EQ(answer.status, 503);
  EXPECT_EQ(boost::json::parse(answer.body).at("code").as_string(), "no_memory");
}

TEST(HttpAnswers, HandlerThatTakesTooLongIsGivenUp) {
  Mailbox<std::shared_ptr<Responder>> kept;
  Router router;
  router.get("/never", Handler([&kept](Request, Responder responder) {
               kept.put(std::make_shared<Responder>(std::move(responder)));
             }));
  router.get("/healthz", [](const Request&) { return text(200, "ok"); });
  ServerConfig config;
  config.handler_deadline = 50ms;
  TestServer server(std::move(router), config);
  auto client = server.client();
  EXPECT_EQ(client.request("GET", "/never").status, 504);
  kept.take()->respond(text(200, "too late"));
  EXPECT_EQ(client.request("GET", "/healthz").body, "ok") << "the late answer must not slip in";
}

TEST(HttpAnswers, HeadHasTheLengthButNoBody) {
  TestServer server(echo_routes());
  const auto answer = ask(server, "HEAD /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  EXPECT_EQ(status_of(answer), 200);
  EXPECT_NE(answer.find("Content-Length: 2\r\n"), std::string::npos);
  EXPECT_TRUE(answer.ends_with("\r\n\r\n"));
}

TEST(HttpAnswers, NotFoundAndNotAllowedAreProblems) {
  TestServer server(echo_routes());
  auto client = server.client();
  EXPECT_EQ(client.request("GET", "/nowhere").status, 404);
  const auto refused = client.request("DELETE", "/echo");
  EXPECT_EQ(refused.status, 405);
  EXPECT_EQ(refused.header("Allow"), "POST, OPTIONS");
  EXPECT_EQ(refused.header("Content-Type"), "application/problem+json");
}

TEST(HttpAnswers, BeforeHookRefusesOrIntroduces) {
  Router router;
  router.get("/me/{x}", [](const Request& r) {
    return text(200, std::any_cast<std::string>(r.identity) + r.param("x"));
  });
  Mailbox<std::pair<std::string, int>> seen;
  Hooks hooks;
  hooks.before = [](Request& request) -> std::optional<Response> {
    const auto token = request.header("Authorization");
    if (!token) return problem(401, "unauthenticated", "no token on " + std::string(request.route));
    request.identity = std::string(*token);
    return std::nullopt;
  };
  hooks.after = [&seen](const AccessRecord& record) { seen.put({std::string(record.route), record.status}); };
  TestServer server(std::move(router), {}, hooks);
  auto client = server.client();
  EXPECT_EQ(client.request("GET", "/me/1").status, 401);
  EXPECT_EQ(client.request("GET", "/me/1", {{"Authorization", "ada"}}).body, "ada1");
  EXPECT_EQ(client.request("GET", "/else").status, 404);
  EXPECT_EQ(seen.take(), std::make_pair(std::string("/me/{x}"), 401));
  EXPECT_EQ(seen.take(), std::make_pair(std::string("/me/{x}"), 200));
  EXPECT_EQ(seen.take(), std::make_pair(std::string(), 404));
}

TEST(HttpAnswers, TheAfterHookIsToldOfTheCallersTrace) {
  Mailbox<std::string> seen;
  Hooks hooks;
  hooks.after = [&seen](const AccessRecord& record) { seen.put(std::string(record.traceparent)); };
  TestServer server(echo_routes(), {}, hooks);
  auto client = server.client();
  client.request("GET", "/healthz", {{"Traceparent", "00-aa-bb-01"}});
  client.request("GET", "/healthz");
  EXPECT_EQ(seen.take(), "00-aa-bb-01");
  EXPECT_EQ(seen.take(), "") << "of the request before it nothing is left";
}

TEST(HttpAnswers, UnixSocketWorksToo) {
  ServerConfig config;
  config.unix_path = testing::TempDir() + "tutti-http-" + std::to_string(::getpid()) + ".sock";
  TestServer server(echo_routes(), config);
  EXPECT_EQ(http_request(config.unix_path, 0, "GET", "/healthz").body, "ok");
}

TEST(HttpAnswers, StuckReaderIsCutAfterTheWriteDeadline) {
  Router router;
  router.get("/big", [](const Request&) { return text(200, std::string(64 << 20, 'x')); });
  ServerConfig config;
  config.write_deadline = 100ms;
  Mailbox<int> done;
  Hooks hooks;
  hooks.after = [&done](const AccessRecord& record) { done.put(record.status); };
  TestServer server(std::move(router), config, hooks);
  auto socket = server.connect();
  socket.send("GET /big HTTP/1.1\r\nHost: x\r\n\r\n", soon());
  EXPECT_EQ(done.take(), 200);  // the write was given up although we read nothing
}

TEST(HttpAnswers, StopLetsTheAnswerUnderWayOutAndClosesTheRest) {
  Mailbox<std::shared_ptr<Responder>> kept;
  Router router;
  router.get("/later", Handler([&kept](Request, Responder responder) {
               kept.put(std::make_shared<Responder>(std::move(responder)));
             }));
  router.get("/healthz", [](const Request&) { return text(200, "ok"); });
  TestServer server(std::move(router));
  auto busy = server.connect();
  busy.send("GET /later HTTP/1.1\r\nHost: x\r\n\r\n", soon());
  auto idle = server.connect();
  idle.send("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", soon());
  std::string answer;
  ASSERT_TRUE(idle.receive(answer, soon()));
  EXPECT_EQ(status_of(answer), 200);
  const auto responder = kept.take();

  std::promise<void> stopped;
  server.server().stop([&stopped] { stopped.set_value(); });
  EXPECT_EQ(read_all(idle), "");
  responder->respond(text(200, "made it"));
  EXPECT_NE(read_all(busy).find("made it"), std::string::npos);
  busy.close();
  EXPECT_EQ(stopped.get_future().wait_for(10s), std::future_status::ready);
  EXPECT_THROW(server.connect(), std::runtime_error);
}

TEST(HttpAnswers, StopCutsWhatDoesNotEndInTime) {
  Mailbox<std::shared_ptr<Responder>> kept;
  Router router;
  router.get("/never", Handler([&kept](Request, Responder responder) {
               kept.put(std::make_shared<Responder>(std::move(responder)));
             }));
  ServerConfig config;
  config.drain = 50ms;
  config.handler_deadline = 300ms;
  TestServer server(std::move(router), config);
  auto socket = server.connect();
  socket.send("GET /never HTTP/1.1\r\nHost: x\r\n\r\n", soon());
  const auto responder = kept.take();
  EXPECT_TRUE(server.stop());
}

TEST(HttpAnswers, OneConnectionTooManyIsTurnedAway) {
  constexpr std::size_t kCap = 2000;
  rlimit files{};
  getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  setrlimit(RLIMIT_NOFILE, &files);
  ASSERT_GT(files.rlim_cur, 2 * kCap + 100) << "this test needs two descriptors per connection";

  ServerConfig config;
  config.max_connections = kCap;
  TestServer server(echo_routes(), config);
  std::vector<ByteSocket> held;
  for (std::size_t i = 0; i < kCap; ++i) held.push_back(server.connect());
  // The last one's answer proves that all before it were accepted.
  held.back().send("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", soon());
  std::string answer;
  held.back().receive(answer, soon());
  EXPECT_EQ(status_of(answer), 200);
  EXPECT_EQ(server.server().connections(), kCap);

  auto refused = server.connect();
  EXPECT_EQ(status_of(read_all(refused)), 503);
  EXPECT_EQ(server.server().connections(), kCap);

  held.front().close();
  answer.clear();
  for (const auto until = soon(); status_of(answer) != 200 && std::chrono::steady_clock::now() < until;) {
    answer.clear();
    try {
      answer = ask(server, "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    } catch (const std::runtime_error&) {
      // turned away with a reset: the place is not free yet
    }
  }
  EXPECT_EQ(status_of(answer), 200) << "a closed connection gives its place back";
}

}  // namespace
}  // namespace tutti::http::test
