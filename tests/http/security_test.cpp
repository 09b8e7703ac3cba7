// What every answer says to browsers, and what one client may take from the others.
#include <gtest/gtest.h>

#include <atomic>

#include "api/http/address.h"
#include "api/http/response_head.h"
#include "test_server.h"

namespace tutti::http::test {
namespace {

void expect_security_headers(const std::string& answer) {
  const auto head = answer.substr(0, answer.find("\r\n\r\n") + 2);
  for (const auto& [name, value] : security_headers())
    EXPECT_NE(head.find("\r\n" + std::string(name) + ": " + std::string(value) + "\r\n"), std::string::npos)
        << name << " is missing in\n"
        << head;
  EXPECT_EQ(head.find("Strict-Transport-Security"), std::string::npos) << "would lock plain HTTP out";
  EXPECT_EQ(head.find("Access-Control-"), std::string::npos);
  for (const char* banner : {"Beast", "Boost", "utti/"})
    EXPECT_EQ(head.find(banner), std::string::npos) << head;
}

std::string last_get(const std::string& path, const std::string& headers = {}) {
  return "GET " + path + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + headers + "\r\n";
}

TEST(SecurityHeaders, AreOnEveryAnswer) {
  Router router = echo_routes();
  router.get("/stream", Handler([](const Request&, Responder responder) {
               const auto stream = responder.sse();
               stream->write("data: x\n\n");
               stream->close();
             }));
  router.get("/throws", SyncHandler([](const Request&) -> Response { throw std::runtime_error("x"); }));
  router.get("/never", Handler([](const Request&, Responder responder) {
               static std::vector<Responder> kept;  // answered by nobody
               kept.push_back(std::move(responder));
             }));
  router.websocket("/link", [](const Request&, const std::shared_ptr<Link>& link) { link->abort(); });
  ServerConfig config;
  config.handler_deadline = 50ms;
  config.header_deadline = 100ms;
  config.linger = 100ms;
  TestServer server(std::move(router), config);
  const std::vector<std::pair<std::string, int>> cases = {
      {last_get("/healthz"), 200},
      {last_get("/nowhere"), 404},
      {last_get("/healthz").replace(0, 3, "PUT"), 405},
      {last_get("/stream"), 200},
      {last_get("/throws"), 500},
      {last_get("/never"), 504},
      {last_get("/link"), 426},
      {last_get("/healthz").replace(0, 3, "OPTIONS"), 204},
      {"no http\r\n\r\n", 400},
      {"GET /healthz HTTP/1.1\r\nHost", 408},
      {"GET /" + std::string(9000, 'x') + " HTTP/1.1\r\nHost: x\r\n\r\n", 414},
      {"GET /link HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: "
       "13\r\n"
       "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
       101},
      {"GET /link HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: "
       "1\r\n\r\n",
       400},
  };
  for (const auto& [bytes, status] : cases) {
    const auto answer = ask(server, bytes);
    EXPECT_EQ(status_of(answer), status) << answer;
    expect_security_headers(answer);
  }
}

TEST(SecurityHeaders, AHandlersOwnPolicyStands) {
  Router router;
  router.get("/page", [](const Request&) {
    return text(200, "<html>", "text/html")
        .set("Content-Security-Policy", "default-src 'self'")
        .set("cache-control", "max-age=60")
        .set("Server", "me");
  });
  TestServer server(std::move(router));
  const auto answer = ask(server, last_get("/page"));
  EXPECT_NE(answer.find("Content-Security-Policy: default-src 'self'\r\n"), std::string::npos);
  EXPECT_EQ(answer.find(kClosedPolicy), std::string::npos);
  EXPECT_EQ(answer.find("no-store"), std::string::npos);
  EXPECT_EQ(answer.find("Server:"), std::string::npos);
}

TEST(Cors, PreflightIsRefusedAndNothingIsAllowed) {
  TestServer server(echo_routes());
  const auto preflight = ask(server,
                             "OPTIONS /echo HTTP/1.1\r\nHost: x\r\nOrigin: https://evil.example\r\n"
                             "Access-Control-Request-Method: POST\r\nConnection: close\r\n\r\n");
  EXPECT_EQ(status_of(preflight), 403);
  expect_security_headers(preflight);
  const auto simple = ask(server, last_get("/healthz", "Origin: https://evil.example\r\n"));
  EXPECT_EQ(status_of(simple), 200);
  expect_security_headers(simple);
}

TEST(Hooks, ArriveComesBeforeRoutingAndAddsHeadersToWhateverIsAnswered) {
  Hooks hooks;
  hooks.arrive = [](Request& request) -> std::optional<Response> {
    request.answer_headers.push_back({"RateLimit", "\"address\";r=1;t=1"});
    if (request.header("X-Bad")) return problem(429, "rate_limited", "no");
    return std::nullopt;
  };
  hooks.before = [](Request& request) -> std::optional<Response> {
    request.answer_headers.push_back({"RateLimit", "\"principal\";r=1;t=1"});
    return std::nullopt;
  };
  TestServer server(echo_routes(), {}, hooks);
  const auto fine = ask(server, last_get("/healthz"));
  EXPECT_NE(fine.find("RateLimit: \"address\";r=1;t=1\r\nRateLimit: \"principal\";r=1;t=1\r\n"),
            std::string::npos);
  const auto nowhere = ask(server, last_get("/nowhere"));
  EXPECT_EQ(status_of(nowhere), 404);
  EXPECT_NE(nowhere.find("RateLimit: \"address\""), std::string::npos);
  EXPECT_EQ(nowhere.find("principal"), std::string::npos);
  EXPECT_EQ(status_of(ask(server, last_get("/nowhere", "X-Bad: 1\r\n"))), 429);
}

TEST(Connections, OneAddressHasItsShareAndNoMore) {
  ServerConfig config;
  config.max_connections_per_address = 3;
  TestServer server(echo_routes(), config);
  std::vector<ByteSocket> open;
  for (int i = 0; i < 3; ++i) {
    open.push_back(server.connect());
    open.back().send("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", soon());
    std::string answer;
    ASSERT_TRUE(open.back().receive(answer, soon()));
  }
  auto one_more = server.connect();
  const auto refused = read_all(one_more);
  EXPECT_EQ(status_of(refused), 503);
  EXPECT_NE(refused.find("127.0.0.1 has as many connections"), std::string::npos);
  expect_security_headers(refused);
  open.pop_back();
  // Its place is given back when the server has noticed: ask until then.
  const auto until = soon();
  int status = 503;
  while (status == 503 && std::chrono::steady_clock::now() < until)
    status = status_of(ask(server, last_get("/healthz")));
  EXPECT_EQ(status, 200);
}

TEST(Connections, AddressesAreGrouped) {
  EXPECT_EQ(address_group("10.0.0.7:51234"), "10.0.0.7");
  EXPECT_EQ(address_group("[2001:db8:1:2:3::4]:80"), "2001:db8:1:2::/64");
  EXPECT_EQ(address_group("[::1]:80"), "::/64");
  EXPECT_EQ(address_group("[::ffff:10.0.0.7]:80"), "10.0.0.7");
  EXPECT_EQ(address_group("unix"), "unix");
  EXPECT_EQ(address_group("gone"), "gone");
}

// A body that comes, but drop by drop, would hold a connection and its buffers for the whole deadline.
TEST(SlowClients, ABodyBelowTheLeastRateIsCutOff) {
  ServerConfig config;
  config.body_deadline = 60s;
  config.body_patience = 200ms;
  config.min_rate = 1000;
  TestServer server(echo_routes(), config);
  auto socket = server.connect();
  std::string answer;
  socket.send("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n", soon());
  const auto began = std::chrono::steady_clock::now();
  while (answer.empty() && std::chrono::steady_clock::now() < began + 10s) {
    socket.send("x", soon());  // 50 bytes a second
    try {
      socket.receive(answer, std::chrono::steady_clock::now() + 20ms);
    } catch (const std::runtime_error&) {
      // nothing yet: drip on
    }
  }
  EXPECT_EQ(status_of(answer), 408) << answer;
  EXPECT_LT(std::chrono::steady_clock::now() - began, 5s);
}

TEST(SlowClients, ABodyAboveTheLeastRateMayTakeLongerThanThePatience) {
  ServerConfig config;
  config.body_patience = 100ms;
  config.min_rate = 100;
  TestServer server(echo_routes(), config);
  auto socket = server.connect();
  socket.send("POST /echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 1000\r\n\r\n", soon());
  for (int i = 0; i < 10; ++i) {
    socket.send(std::string(100, 'x'), soon());  // each buys another second
    std::this_thread::sleep_for(30ms);           // the slowness is the test
  }
  EXPECT_EQ(status_of(read_all(socket)), 200);
}

TEST(SlowClients, AnAnswerThatIsTakenDropByDropIsCutOff) {
  Router router;
  router.get("/large", [](const Request&) { return text(200, std::string(64 << 20, 'x')); });
  ServerConfig config;
  config.write_deadline = 200ms;
  config.min_rate = 50 << 20;
  TestServer server(std::move(router), config);
  auto socket = server.connect();
  socket.send("GET /large HTTP/1.1\r\nHost: x\r\n\r\n", soon());
  std::size_t taken = 0;
  const auto began = std::chrono::steady_clock::now();
  try {
    for (;;) {
      std::string some;
      if (!socket.receive(some, soon(), 32 << 10)) break;
      taken += some.size();
      std::this_thread::sleep_for(2ms);  // progress all the time, but only 16 MB a second
    }
  } catch (const std::runtime_error&) {
    // reset
  }
  EXPECT_LT(taken, std::size_t{60} << 20);
  EXPECT_LT(std::chrono::steady_clock::now() - began, 9s);
}

TEST(SlowClients, PipelinedRequestsWaitInTheClientsMemory) {
  std::atomic<int> handled{0};
  Router router;
  Mailbox<Responder> responders;
  router.get("/wait", Handler([&](const Request&, Responder responder) {
               ++handled;
               responders.put(std::move(responder));
             }));
  ServerConfig config;
  config.drain = 100ms;
  TestServer server(std::move(router), config);
  auto socket = server.connect();
  std::string many;
  for (int i = 0; i < 1000; ++i) many += "GET /wait HTTP/1.1\r\nHost: x\r\n\r\n";
  std::size_t sent = 0;
  try {
    // The kernel's buffers fill up, then nothing moves.
    while (sent < (std::size_t{256} << 20)) {
      socket.send(many, std::chrono::steady_clock::now() + 300ms);
      sent += many.size();
    }
  } catch (const std::runtime_error&) {
    // as it should be
  }
  EXPECT_LT(sent, std::size_t{64} << 20) << "somebody is reading all of it";
  auto first = responders.take();
  EXPECT_EQ(handled, 1) << "the next one is looked at when this one is answered";
  first.respond(text(200, "ok"));
  auto second = responders.take();
  EXPECT_EQ(handled, 2);
}

TEST(SlowClients, AReaderOfAStreamMayNotKeepSending) {
  Router router;
  Mailbox<int> closed;
  router.get("/stream", Handler([&](const Request&, Responder responder) {
               responder.stream(200, {})->set_on_close([&closed] { closed.put(1); });
             }));
  TestServer server(std::move(router));
  auto socket = server.connect();
  socket.send("GET /stream HTTP/1.1\r\nHost: x\r\n\r\n", soon());
  try {
    for (int i = 0; i < 100; ++i) socket.send(std::string(64 << 10, 'x'), soon());
  } catch (const std::runtime_error&) {
    // reset
  }
  closed.take();
}

}  // namespace
}  // namespace tutti::http::test
