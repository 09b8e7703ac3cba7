// Bytes of clients that mean harm: cut short, cut differently by two readers, oversized, slow, many. Each
// gets the right status or a closed connection, never a 5xx, and nobody else notices. The suite says how many
// inputs it has tried.
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <iostream>
#include <random>

#include "test_server.h"

namespace tutti::http::test {
namespace {

int& tried() {
  static int count = 0;
  return count;
}

class Count : public testing::Environment {
  void TearDown() override { std::cout << "[inputs] " << tried() << " hostile inputs tried over HTTP\n"; }
};
const auto* const kCount = testing::AddGlobalTestEnvironment(new Count);

/// Everything the server says to these bytes and the end of what we send; "" when it says nothing.
std::string tell(const TestServer& server, std::string_view bytes) {
  ++tried();
  auto socket = server.connect();
  std::string answer;
  try {
    socket.send(bytes, soon());
    socket.shutdown_send();
  } catch (const std::runtime_error&) {
    // It has hung up already; what it said is still there.
  }
  try {
    while (socket.receive(answer, soon())) {
    }
  } catch (const std::runtime_error& error) {
    EXPECT_EQ(std::string(error.what()).find("deadline"), std::string::npos) << "no answer and no end";
  }
  return answer;
}

std::vector<int> statuses(const std::string& answer) {
  std::vector<int> all;
  for (std::size_t n = 0; status_of(answer, n) != 0; ++n) all.push_back(status_of(answer, n));
  return all;
}

struct Case {
  std::string name;
  std::string bytes;
  int status;
};

std::string post(const std::string& headers, const std::string& body = {}) {
  return "POST /echo HTTP/1.1\r\nHost: x\r\n" + headers + "\r\n" + body;
}
std::string get(const std::string& headers) {
  return "GET /healthz HTTP/1.1\r\nHost: x\r\n" + headers + "\r\n";
}
constexpr std::string_view kHidden = "GET /admin HTTP/1.1\r\nHost: x\r\n\r\n";

// A proxy in front of us that reads one of these otherwise would let the hidden request pass as somebody
// else's.
std::vector<Case> smuggled() {
  const std::string hidden(kHidden), chunked = "Transfer-Encoding: chunked\r\n", end = "0\r\n\r\n";
  const auto length = [](std::string_view n) { return "Content-Length: " + std::string(n) + "\r\n"; };
  std::vector<Case> all = {
      {"two lengths", post(length("0") + length("5"), hidden), 400},
      {"two lengths, the other way", post(length("5") + length("0"), "12345" + hidden), 400},
      {"two equal lengths", post(length("5") + length("5"), "12345"), 400},
      {"a list of lengths", post(length("5, 6"), hidden), 400},
      {"a list of equal lengths", post(length("5, 5"), "12345"), 400},
      {"an empty length", post(length(""), hidden), 400},
      {"a signed length", post(length("+5"), "12345"), 400},
      {"a negative length", post(length("-5"), hidden), 400},
      {"a hexadecimal length", post(length("0x5"), "12345"), 400},
      {"a broken length", post(length("5 5"), "12345"), 400},
      {"a fractional length", post(length("5.0"), "12345"), 400},
      {"an exponent", post(length("1e1"), "12345"), 400},
      {"a length beyond 64 bits", post(length("18446744073709551617"), "1"), 400},
      {"the largest length", post(length("18446744073709551615"), "1"), 413},
      {"a length and chunks", post(length("5") + chunked, end + hidden), 400},
      {"chunks and a length", post(chunked + length("5"), end + hidden), 400},
      {"chunks twice", post(chunked + chunked, end + hidden), 400},
      {"chunks in a list twice", post("Transfer-Encoding: chunked, chunked\r\n", end + hidden), 400},
      {"chunks, then identity", post("Transfer-Encoding: chunked, identity\r\n", end + hidden), 400},
      {"identity", post("Transfer-Encoding: identity\r\n" + length("5"), "12345"), 400},
      {"gzip, then chunks", post("Transfer-Encoding: gzip, chunked\r\n", end), 400},
      {"an unknown encoding", post("Transfer-Encoding: xchunked\r\n", end + hidden), 400},
      {"an encoding with a parameter", post("Transfer-Encoding: chunked;q=1\r\n", end + hidden), 400},
      {"an encoding in quotes", post("Transfer-Encoding: \"chunked\"\r\n", end + hidden), 400},
      {"an empty encoding", post("Transfer-Encoding:\r\n" + length("5"), "12345"), 400},
      {"an encoding behind a vertical tab",
       post("Transfer-Encoding: \x0b"
            "chunked\r\n",
            end + hidden),
       400},
      {"a space before the colon", post("Transfer-Encoding : chunked\r\n", end + hidden), 400},
      {"a tab before the colon", post("Content-Length\t: 5\r\n", "12345"), 400},
      {"a NUL in a name", post(std::string("Content-Len\0gth: 5\r\n", 20), "12345"), 400},
      {"a NUL in a value", post(std::string("X: a\0b\r\n", 8)), 400},
      {"a bare LF in a value", post("X: a\nContent-Length: 5\r\n", "12345"), 400},
      {"a bare CR in a value", post("X: a\rContent-Length: 5\r\n", "12345"), 400},
      {"lines that end in LF", "POST /echo HTTP/1.1\nHost: x\nContent-Length: 0\n\n" + hidden, 400},
      {"a header that ends in LF LF", "GET /healthz HTTP/1.1\r\nHost: x\n\n" + hidden, 400},
      {"a folded value", get("X: a\r\n b\r\n"), 400},
      {"a folded value with a tab", get("X: a\r\n\tb\r\n"), 400},
      {"a folded encoding", post("Transfer-Encoding:\r\n chunked\r\n", end + hidden), 400},
      {"a folded length", post("Content-Length:\r\n 5\r\n", "12345"), 400},
      {"a line that begins with a space", "GET /healthz HTTP/1.1\r\n Host: x\r\n\r\n", 400},
      {"a field of spaces", get(" \r\n"), 400},
      {"a field without a colon", get("X\r\n"), 400},
      {"a field without a name", get(": x\r\n"), 400},
      {"a name with a bracket", get("X[0]: x\r\n"), 400},
      {"a name beyond ASCII", get("X\xc3\xa9: x\r\n"), 400},
      {"no host", "GET /healthz HTTP/1.1\r\n\r\n", 400},
      {"two hosts", get("Host: y\r\n"), 400},
      {"a chunk size with a sign", post(chunked, "+5\r\n12345\r\n" + end), 400},
      {"a chunk size with 0x", post(chunked, "0x5\r\n12345\r\n" + end), 400},
      {"a chunk size of nothing", post(chunked, "\r\n12345\r\n" + end), 400},
      {"a negative chunk size", post(chunked, "-1\r\n" + end), 400},
      {"a chunk size beyond 64 bits", post(chunked, "FFFFFFFFFFFFFFFFF\r\n" + end), 400},
      {"the largest chunk size", post(chunked, "FFFFFFFFFFFFFFFF\r\n"), 413},
      {"a chunk size that ends in LF", post(chunked, "5\n12345\r\n" + end), 400},
      {"a chunk that is too long", post(chunked, "4\r\n12345\r\n" + end), 400},
      {"a chunk that ends in LF", post(chunked, "5\r\n12345\n" + end), 400},
      {"a LF in a chunk extension", post(chunked, "5;a\nb\r\n12345\r\n" + end), 400},
      {"a broken chunk extension", post(chunked, "5;;=\r\n12345\r\n" + end), 400},
      {"a folded trailer, which is dropped", post(chunked, "0\r\nX: a\r\n b\r\n\r\n"), 200},
      {"a length in the trailer", post(chunked, "0\r\nContent-Length: 5\r\n\r\n" + hidden), 400},
      {"chunks in HTTP/1.0", "POST /echo HTTP/1.0\r\nHost: x\r\n" + chunked + "\r\n" + end + hidden, 400},
      {"no version", "GET /healthz\r\n\r\n", 400},
      {"version 0.9", "GET /healthz HTTP/0.9\r\nHost: x\r\n\r\n", 400},
      {"version 1.2", "GET /healthz HTTP/1.2\r\nHost: x\r\n\r\n", 400},
      {"version 2.0", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400},
      {"version in small letters", "GET /healthz http/1.1\r\nHost: x\r\n\r\n", 400},
      {"two spaces in the request line", "GET  /healthz HTTP/1.1\r\nHost: x\r\n\r\n", 400},
      {"a tab in the request line", "GET\t/healthz HTTP/1.1\r\nHost: x\r\n\r\n", 400},
      {"a space in the target", "GET /heal thz HTTP/1.1\r\nHost: x\r\n\r\n", 400},
      {"a NUL in the target", std::string("GET /\0 HTTP/1.1\r\nHost: x\r\n\r\n", 29), 400},
      {"a relative target", "GET healthz HTTP/1.1\r\nHost: x\r\n\r\n", 400},
      {"a CONNECT", "CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n", 400},
      {"a method with a comma", "GE,T / HTTP/1.1\r\nHost: x\r\n\r\n", 400},
      {"many empty lines", "\r\n\r\n\r\n\r\n\r\n" + get(""), 400},
      {"an empty line that is a LF", "\n" + get(""), 400},
      {"a TLS greeting", "\x16\x03\x01\x02\x01\x01\x01\xfc\x03\x03 and so on\r\n\r\n", 400},
  };
  return all;
}

std::vector<Case> oversized() {
  std::string fields, one_name;
  for (int i = 0; i < 101; ++i) fields += "X" + std::to_string(i) + ": v\r\n";
  for (int i = 0; i < 8000; ++i) one_name += "A";
  return {
      {"101 fields", get(fields), 431},
      {"a long value", get("X: " + std::string(17 << 10, 'x') + "\r\n"), 431},
      {"a long name", get(one_name + one_name + one_name + ": x\r\n"), 431},
      {"a long method", std::string(20 << 10, 'G') + " / HTTP/1.1\r\nHost: x\r\n\r\n", 414},
      {"a long target", "GET /" + std::string(9000, 'x') + " HTTP/1.1\r\nHost: x\r\n\r\n", 414},
      {"a long query", "GET /healthz?" + std::string(9000, 'x') + " HTTP/1.1\r\nHost: x\r\n\r\n", 414},
      {"a declared body that is too long", post("Content-Length: 1001\r\n"), 413},
      {"chunks that are too long together",
       post("Transfer-Encoding: chunked\r\n", "3E0\r\n" + std::string(992, 'x') + "\r\n10\r\n"), 413},
      {"a long chunk header", post("Transfer-Encoding: chunked\r\n", "5;" + std::string(30 << 10, 'x')), 400},
      {"a long trailer",
       post("Transfer-Encoding: chunked\r\n", "0\r\nX: " + std::string(30 << 10, 'x') + "\r\n\r\n"), 400},
  };
}

std::vector<Case> not_text() {
  const auto path = [](const std::string& p) {
    return "GET " + p + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
  };
  return {
      {"a NUL in a path parameter", path("/things/a%00b"), 400},
      {"a broken escape", path("/things/%zz"), 400},
      {"half an escape", path("/things/%4"), 400},
      {"no UTF-8", path("/things/%ff%fe"), 400},
      {"an overlong slash", path("/things/%c0%af"), 400},
      {"a surrogate", path("/things/%ed%a0%80"), 400},
      {"raw bytes in the path", path("/things/\xff\xfe"), 400},
      {"a NUL in the query", path("/healthz?a=%00"), 400},
      {"no UTF-8 in the query", path("/healthz?a=%ff"), 400},
      {"no UTF-8 in a name of the query", path("/healthz?%ff=a"), 400},
      {"a fine query", path("/healthz?a=%C3%A9&b=%zz&&=&x"), 200},
      {"dots", path("/things/../healthz"), 404},
      {"escaped dots are a name", path("/things/%2e%2e%2fetc%2fpasswd"), 200},
  };
}

Router routes() {
  auto router = echo_routes();
  router.get("/admin", [](const Request&) { return text(200, "THE HIDDEN ONE"); });
  router.get("/things/{id}", [](const Request& r) { return text(200, r.param("id")); });
  return router;
}

ServerConfig strict() {
  ServerConfig config;
  config.body_limit = 1000;
  config.linger = std::chrono::milliseconds(500);
  return config;
}

TEST(HostileBytes, AreRefusedWithTheRightStatusAndNothingHiddenIsAnswered) {
  TestServer server(routes(), strict());
  for (const auto& list : {smuggled(), oversized(), not_text()}) {
    for (const auto& c : list) {
      const auto answer = tell(server, c.bytes);
      EXPECT_EQ(status_of(answer), c.status) << c.name << "\n" << answer;
      EXPECT_EQ(answer.find("THE HIDDEN ONE"), std::string::npos) << c.name;
      if (c.status != 200) {
        EXPECT_NE(answer.find("application/problem+json"), std::string::npos) << c.name;
        EXPECT_EQ(statuses(answer).size(), 1u) << c.name << ": after a refusal the connection ends";
      }
    }
  }
  EXPECT_EQ(server.client().request("GET", "/healthz").status, 200);
}

// Byte by byte is how a proxy may pass them on: the same answers.
TEST(HostileBytes, AreRefusedByteByByteToo) {
  TestServer server(routes(), strict());
  for (const auto& c : smuggled()) {
    ++tried();
    auto socket = server.connect();
    std::string answer;
    try {
      for (const char byte : c.bytes) socket.send(std::string_view(&byte, 1), soon());
      socket.shutdown_send();
    } catch (const std::runtime_error&) {
      // refused before the last byte
    }
    try {
      while (socket.receive(answer, soon())) {
      }
    } catch (const std::runtime_error&) {
      // reset after the answer
    }
    EXPECT_EQ(answer.find("THE HIDDEN ONE"), std::string::npos) << c.name;
    if (!answer.empty()) {
      EXPECT_EQ(status_of(answer), c.status) << c.name << "\n" << answer;
    }
  }
}

TEST(HostileBytes, EveryPrefixOfARequestIsLeftUnansweredOrRefused) {
  TestServer server(routes(), strict());
  const std::string whole = post("Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n",
                                 "5;e=\"x\"\r\n12345\r\n0\r\nT: 1\r\n\r\n");
  for (std::size_t n = 0; n < whole.size(); ++n) {
    const auto answer = tell(server, whole.substr(0, n));
    const int status = status_of(answer);
    EXPECT_TRUE(status == 0 || status == 400) << n << ": " << answer;
  }
  EXPECT_EQ(status_of(tell(server, whole)), 200);
}

TEST(HostileBytes, AnyOtherByteAnywhereIsNeverAnErrorOfOurs) {
  TestServer server(routes(), strict());
  const std::string whole = post("X-A: b\r\nContent-Length: 5\r\nConnection: close\r\n", "12345");
  for (std::size_t at = 0; at < whole.size(); ++at) {
    for (const char byte : {'\0', '\n', '\r', ' ', '\t', ':', ',', '\x7f', '\xff'}) {
      for (const bool insert : {false, true}) {
        auto bytes = whole;
        if (insert)
          bytes.insert(at, 1, byte);
        else
          bytes[at] = byte;
        for (const int status : statuses(tell(server, bytes)))
          EXPECT_TRUE(status >= 200 && status < 500) << bytes;
      }
    }
  }
}

TEST(HostileBytes, NoiseIsNeverAnErrorOfOurs) {
  TestServer server(routes(), strict());
  std::mt19937_64 random(3);
  const std::vector<std::string> words = {"GET ",
                                          "POST ",
                                          "/echo",
                                          "/things/",
                                          " HTTP/1.1",
                                          "\r\n",
                                          "Host: x",
                                          ": ",
                                          "Content-Length: ",
                                          "5",
                                          "Transfer-Encoding: chunked",
                                          "\r\n\r\n",
                                          "0\r\n\r\n",
                                          "Expect: 100-continue",
                                          "%00",
                                          "\xff",
                                          "\n",
                                          "Upgrade: websocket",
                                          "Connection: ",
                                          "close",
                                          "keep-alive",
                                          ",",
                                          ";",
                                          "A",
                                          std::string(1, '\0')};
  for (int i = 0; i < 1500; ++i) {
    std::string bytes;
    for (auto n = random() % 24; n > 0; --n) bytes += words[random() % words.size()];
    for (const int status : statuses(tell(server, bytes))) EXPECT_LT(status, 500) << bytes;
  }
  EXPECT_EQ(server.client().request("GET", "/healthz").status, 200);
}

/// How many connections this process has room for with both their ends, at most `wanted`.
std::size_t room_for(std::size_t wanted) {
  constexpr rlim_t kOthers = 500;
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  const rlim_t enough = 2 * wanted + kOthers;
  rlimit more{.rlim_cur = enough, .rlim_max = std::max(limit.rlim_max, enough)};
  if (limit.rlim_cur < enough && ::setrlimit(RLIMIT_NOFILE, &more) != 0) {
    more = {.rlim_cur = limit.rlim_max, .rlim_max = limit.rlim_max};  // what is allowed without privilege
    ::setrlimit(RLIMIT_NOFILE, &more);
  }
  ::getrlimit(RLIMIT_NOFILE, &limit);
  return limit.rlim_cur <= kOthers ? 0 : std::min<std::size_t>(wanted, (limit.rlim_cur - kOthers) / 2);
}

TEST(HostileClients, TenThousandIdleConnectionsHarmNobody) {
  const std::size_t kIdle = room_for(10'000);  // 9,750 where 20,000 files are all that is allowed
  if (kIdle < 2'000) GTEST_SKIP() << "this machine allows us too few open files: NOT TESTED";
  ServerConfig config;
  config.max_connections = kIdle + 100;
  config.header_deadline = 120s;
  config.idle_deadline = 120s;
  TestServer server(routes(), config);
  std::vector<ByteSocket> idle;
  idle.reserve(kIdle);
  // A third never says a word, a third stops in the middle of a header, a third has asked once.
  while (idle.size() < kIdle) {
    idle.push_back(server.connect());
    if (idle.size() % 3 == 0) idle.back().send("GET /healthz HTTP/1.1\r\nHos", soon());
    if (idle.size() % 3 == 1) idle.back().send("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", soon());
    ++tried();
  }
  auto client = server.client();
  auto slowest = std::chrono::steady_clock::duration::zero();
  for (int i = 0; i < 500; ++i) {
    const auto began = std::chrono::steady_clock::now();
    EXPECT_EQ(client.request("GET", "/healthz").status, 200);
    const auto fresh = http_request("127.0.0.1", server.port(), "POST", "/echo", {}, "hello");
    EXPECT_EQ(fresh.body, "hello");
    slowest = std::max(slowest, std::chrono::steady_clock::now() - began);
  }
  EXPECT_GE(server.server().connections(), kIdle);
  EXPECT_LT(slowest, 2s);
  std::cout << "[idle] " << server.server().connections() << " open; two requests took "
            << std::chrono::duration_cast<std::chrono::milliseconds>(slowest).count()
            << " ms at the slowest\n";
  // Those that have asked were answered; their connections still work.
  for (std::size_t i = 0; i < idle.size(); i += 2500) {
    if ((i + 1) % 3 != 1) continue;
    idle[i].send("GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", soon());
    EXPECT_EQ(statuses(read_all(idle[i])), (std::vector<int>{200, 200}));
  }
  EXPECT_TRUE(server.stop());
  EXPECT_EQ(server.server().connections(), 0u);
}

TEST(HostileClients, MoreThanTheServerTakesAreToldSoAndTheOthersGoOn) {
  ServerConfig config;
  config.max_connections = 20;
  TestServer server(routes(), config);
  auto client = server.client();
  EXPECT_EQ(client.request("GET", "/healthz").status, 200);
  std::vector<ByteSocket> idle;
  int told = 0;
  for (int i = 0; i < 200; ++i) {
    idle.push_back(server.connect());
    ++tried();
    if (i < 19) continue;
    std::string answer;
    try {
      while (idle.back().receive(answer, soon())) {
      }
    } catch (const std::runtime_error&) {
    }
    told += status_of(answer) == 503 ? 1 : 0;
  }
  EXPECT_GT(told, 150);
  EXPECT_EQ(client.request("GET", "/healthz").status, 200);
}

TEST(HostileClients, SlowOnesAreCutOffWhileOthersAreServed) {
  ServerConfig config;
  config.header_deadline = 300ms;
  config.body_deadline = 300ms;
  config.linger = 100ms;
  TestServer server(routes(), config);
  std::vector<ByteSocket> slow;
  for (int i = 0; i < 200; ++i) {
    slow.push_back(server.connect());
    slow.back().send(i % 2 == 0 ? "GET /healthz HTTP/1.1\r\nHos" : post("Content-Length: 100\r\n", "x"),
                     soon());
    ++tried();
  }
  auto client = server.client();
  for (int i = 0; i < 50; ++i) EXPECT_EQ(client.request("GET", "/healthz").status, 200);
  for (auto& socket : slow) EXPECT_EQ(status_of(read_all(socket)), 408);
}

}  // namespace
}  // namespace tutti::http::test
