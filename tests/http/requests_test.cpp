// Reading requests: limits, framing, deadlines.
#include <gtest/gtest.h>

#include <boost/json/parse.hpp>

#include "test_server.h"

namespace tutti::http::test {
namespace {

constexpr std::string_view kGet = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
constexpr std::string_view kLastGet = "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

TEST(HttpRequests, KeepsTheConnection) {
  TestServer server(echo_routes());
  auto client = server.client();
  for (int i = 0; i < 5; ++i) EXPECT_EQ(client.request("GET", "/healthz").body, "ok");
  EXPECT_EQ(server.server().connections(), 1u);
}

TEST(HttpRequests, AnswersPipelinedOnesInOrder) {
  TestServer server(echo_routes());
  std::string bytes;
  for (int i = 0; i < 50; ++i)
    bytes += "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n" + std::to_string(100 + i);
  const auto answers = ask(server, bytes + std::string(kLastGet));
  std::size_t at = 0;
  for (int i = 0; i < 50; ++i) {
    at = answers.find("\r\n\r\n" + std::to_string(100 + i), at);
    ASSERT_NE(at, std::string::npos) << i;
  }
  EXPECT_EQ(status_of(answers, 50), 200);
}

TEST(HttpRequests, ReadsThemByteByByte) {
  TestServer server(echo_routes());
  auto socket = server.connect();
  const std::string bytes =
      "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
      "4;ext=1\r\nWiki\r\n5\r\npedia\r\n0\r\nX-Trailer: 1\r\n\r\n" +
      std::string(kLastGet);
  for (const char c : bytes) socket.send(std::string_view(&c, 1), soon());
  const auto answers = read_all(socket);
  EXPECT_EQ(status_of(answers), 200);
  EXPECT_NE(answers.find("\r\n\r\nWikipedia"), std::string::npos);
  EXPECT_EQ(status_of(answers, 1), 200);
}

TEST(HttpRequests, TrailersAreNotHeaders) {
  Router router;
  router.post("/who", [](const Request& r) {
    return text(200, std::string(r.header("Authorization").value_or("nobody")));
  });
  TestServer server(std::move(router));
  const auto answer =
      ask(server,
          "POST /who HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
          "1\r\na\r\n0\r\nAuthorization: root\r\n\r\n");
  EXPECT_NE(answer.find("\r\n\r\nnobody"), std::string::npos) << answer;
}

TEST(HttpRequests, LargeBodiesArriveWhole) {
  TestServer server(echo_routes());
  std::string body(3'000'000, 'x');
  for (std::size_t i = 0; i < body.size(); ++i) body[i] = static_cast<char>('a' + i % 23);
  const auto answer = server.client().request("POST", "/echo", {}, body);
  EXPECT_EQ(answer.status, 200);
  EXPECT_TRUE(answer.body == body);
}

struct Refusal {
  std::string name;
  std::string bytes;
  int status;
};

std::string post(const std::string& headers, const std::string& body = {}) {
  return "POST /echo HTTP/1.1\r\nHost: x\r\n" + headers + "\r\n" + body;
}

std::vector<Refusal> refusals() {
  std::string many;
  for (int i = 0; i < 400; ++i)
    many += "X-Header-" + std::to_string(i) + ": " + std::string(40, 'v') + "\r\n";
  return {
      {"BodyTooLarge", post("Content-Length: 1001\r\n"), 413},
      {"ChunkedBodyTooLarge", post("Transfer-Encoding: chunked\r\n", "3E9\r\n"), 413},
      {"SumOfChunksTooLarge",
       post("Transfer-Encoding: chunked\r\n", "3E0\r\n" + std::string(992, 'x') + "\r\n10\r\n"), 413},
      {"OneHeaderTooLarge", post("X: " + std::string(17 << 10, 'x') + "\r\n"), 431},
      {"ManyHeadersTooLarge", post(many), 431},
      {"TargetTooLong", "GET /" + std::string(9000, 'x') + " HTTP/1.1\r\nHost: x\r\n\r\n", 414},
      {"TargetBeyondHeaderLimit", "GET /" + std::string(30'000, 'x') + " HTTP/1.1\r\nHost: x\r\n\r\n", 414},
      {"TwoLengths", post("Content-Length: 1\r\nContent-Length: 2\r\n", "ab"), 400},
      {"LengthAndChunked", post("Content-Length: 1\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n"), 400},
      {"ChunkedAndLength", post("Transfer-Encoding: chunked\r\nContent-Length: 1\r\n", "0\r\n\r\n"), 400},
      {"UnknownTransferEncoding", post("Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n"), 400},
      {"NotEvenChunked", post("Transfer-Encoding: identity\r\n"), 400},
      {"NegativeLength", post("Content-Length: -1\r\n"), 400},
      {"BrokenChunk", post("Transfer-Encoding: chunked\r\n", "zz\r\n"), 400},
      {"NoHost", "GET /healthz HTTP/1.1\r\n\r\n", 400},
      {"TwoHosts", "GET /healthz HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400},
      {"NoHttp", "hello\r\n\r\n", 400},
      {"SpaceBeforeColon", "GET /healthz HTTP/1.1\r\nHost : x\r\n\r\n", 400},
      {"RelativeTarget", "GET healthz HTTP/1.1\r\nHost: x\r\n\r\n", 400},
  };
}

class HttpRefusals : public testing::TestWithParam<Refusal> {};

TEST_P(HttpRefusals, AreAnsweredWithAProblemAndClosed) {
  ServerConfig config;
  config.body_limit = 1000;
  TestServer server(echo_routes(), config);
  auto socket = server.connect();
  socket.send(GetParam().bytes, soon());
  socket.shutdown_send();  // so that the server need not linger for more
  const auto answer = read_all(socket);
  EXPECT_EQ(status_of(answer), GetParam().status) << answer;
  EXPECT_NE(answer.find("application/problem+json"), std::string::npos);
  EXPECT_NE(answer.find("Connection: close\r\n"), std::string::npos);
}

INSTANTIATE_TEST_SUITE_P(, HttpRefusals, testing::ValuesIn(refusals()),
                         [](const auto& refusal) { return refusal.param.name; });

// Beast counts its header limit per call of the parser: a client that sends header after header in small
// packets would never reach it.
TEST(HttpRequests, HeaderLimitHoldsOverManyPackets) {
  TestServer server(echo_routes());
  auto socket = server.connect();
  std::string answer;
  try {
    socket.send("GET /healthz HTTP/1.1\r\nHost: x\r\n", soon());
    for (int i = 0; i < 4000; ++i) socket.send("X-Header: 0123456789\r\n", soon());
    answer = read_all(socket);
  } catch (const std::runtime_error&) {
    socket.receive(answer, soon());
  }
  EXPECT_EQ(status_of(answer), 431) << answer;
}

TEST(HttpRequests, RefusedUploadStillGetsItsAnswer) {
  ServerConfig config;
  config.body_limit = 1000;
  TestServer server(echo_routes(), config);
  // 2 MB are on their way when the refusal comes; a plain close would reset the connection under the answer.
  EXPECT_EQ(status_of(ask(server, post("Content-Length: 2000000\r\n", std::string(2'000'000, 'x')))), 413);
}

TEST(HttpRequests, SlowHeaderIsCutOff) {
  ServerConfig config;
  config.header_deadline = 100ms;
  config.linger = 100ms;
  TestServer server(echo_routes(), config);
  EXPECT_EQ(status_of(ask(server, "GET /healthz HTTP/1.1\r\nHost:")), 408);
}

TEST(HttpRequests, SlowBodyIsCutOff) {
  ServerConfig config;
  config.body_deadline = 100ms;
  config.linger = 100ms;
  TestServer server(echo_routes(), config);
  EXPECT_EQ(status_of(ask(server, post("Content-Length: 10\r\n", "12345"))), 408);
}

// Each byte used to be able to buy more time: the deadline is for the whole header.
TEST(HttpRequests, DripFedHeaderIsCutOff) {
  ServerConfig config;
  config.header_deadline = 300ms;
  TestServer server(echo_routes(), config);
  auto socket = server.connect();
  std::string answer;
  socket.send("GET /healthz HTTP/1.1\r\nX: ", soon());
  const auto give_up = soon();
  while (answer.empty() && std::chrono::steady_clock::now() < give_up) {
    socket.send("x", soon());
    try {
      socket.receive(answer, std::chrono::steady_clock::now() + 20ms);
    } catch (const std::runtime_error&) {
      // nothing yet: drip on
    }
  }
  EXPECT_EQ(status_of(answer), 408);
}

TEST(HttpRequests, IdleConnectionIsClosedSilently) {
  ServerConfig config;
  config.idle_deadline = 100ms;
  TestServer server(echo_routes(), config);
  auto socket = server.connect();
  socket.send(kGet, soon());
  const auto answer = read_all(socket);
  EXPECT_EQ(status_of(answer), 200);
  EXPECT_EQ(status_of(answer, 1), 0);
}

TEST(HttpRequests, ContinueIsSentBeforeTheBody) {
  TestServer server(echo_routes());
  auto socket = server.connect();
  socket.send(post("Content-Length: 5\r\nExpect: 100-continue\r\nConnection: close\r\n"), soon());
  std::string answer;
  ASSERT_TRUE(socket.receive(answer, soon()));
  EXPECT_EQ(answer, "HTTP/1.1 100 Continue\r\n\r\n");
  socket.send("hello", soon());
  EXPECT_NE(read_all(socket).find("\r\n\r\nhello"), std::string::npos);
}

TEST(HttpRequests, OldVersionIsClosedUnlessItAsks) {
  TestServer server(echo_routes());
  EXPECT_EQ(status_of(ask(server, "GET /healthz HTTP/1.0\r\n\r\n")), 200);
  const auto two =
      ask(server, "GET /healthz HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET /healthz HTTP/1.0\r\n\r\n");
  EXPECT_EQ(status_of(two, 1), 200);
  EXPECT_NE(two.find("Connection: keep-alive"), std::string::npos);
}

TEST(HttpRequests, AbsoluteTargetAndLeadingEmptyLineAreTaken) {
  TestServer server(echo_routes());
  EXPECT_EQ(
      status_of(ask(server, "\r\nGET http://x/healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")),
      200);
}

}  // namespace
}  // namespace tutti::http::test
