// CurlPoster against a server on this machine that answers, fails, redirects, hangs and talks too much.
#include "scheduler/service/http_poster.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <mutex>
#include <thread>

namespace tutti {
namespace {

using namespace std::chrono_literals;

/// Accepts connections until it goes; each request gets the bytes that `reply` makes of it. An empty reply:
/// the connection stays open and silent.
class LocalServer {
 public:
  explicit LocalServer(std::function<std::string(const std::string& request)> reply)
      : reply_(std::move(reply)) {
    listener_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(::bind(listener_, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    EXPECT_EQ(::listen(listener_, 64), 0);
    socklen_t size = sizeof address;
    ::getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size);
    port_ = ntohs(address.sin_port);
    thread_ = std::thread([this] { run(); });
  }
  ~LocalServer() {
    stopping_ = true;
    ::shutdown(listener_, SHUT_RDWR);
    thread_.join();
    {
      std::lock_guard lock(mutex_);
      for (const int fd : open_) ::shutdown(fd, SHUT_RDWR);
    }
    for (auto& t : connections_) t.join();
    ::close(listener_);
  }
  std::string url(const std::string& path = "/hook") const {
    return "http://127.0.0.1:" + std::to_string(port_) + path;
  }
  std::vector<std::string> requests() {
    std::lock_guard lock(mutex_);
    return requests_;
  }
  int most_at_once() const { return most_; }

 private:
  void run() {
    while (!stopping_) {
      const int fd = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
      if (fd < 0) return;
      std::lock_guard lock(mutex_);
      open_.push_back(fd);
      connections_.emplace_back([this, fd] { serve(fd); });
    }
  }
  void serve(int fd) {
    const int now = ++active_;
    for (int most = most_; now > most && !most_.compare_exchange_weak(most, now);) {
    }
    std::string text;
    char buffer[4096];
    for (;;) {
      const auto head = text.find("\r\n\r\n");
      if (head != std::string::npos) {
        const auto at = text.find("Content-Length: ");
        if (text.size() >= head + 4 + (at == std::string::npos ? 0 : std::stoul(text.substr(at + 16)))) break;
      }
      const auto n = ::read(fd, buffer, sizeof buffer);
      if (n <= 0) return finish(fd);
      text.append(buffer, static_cast<std::size_t>(n));
    }
    {
      std::lock_guard lock(mutex_);
      requests_.push_back(text);
    }
    const std::string answer = reply_(text);
    if (answer.empty()) {
      while (::read(fd, buffer, sizeof buffer) > 0) {  // until the client or this server has had enough
      }
    }
    for (std::size_t sent = 0; sent < answer.size();) {
      const auto n = ::send(fd, answer.data() + sent, answer.size() - sent, MSG_NOSIGNAL);
      if (n <= 0) break;
      sent += static_cast<std::size_t>(n);
    }
    finish(fd);
  }
  void finish(int fd) {
    --active_;
    std::lock_guard lock(mutex_);
    std::erase(open_, fd);
    ::close(fd);
  }

  std::function<std::string(const std::string&)> reply_;
  int listener_ = -1;
  int port_ = 0;
  std::atomic<bool> stopping_ = false;
  std::atomic<int> active_ = 0, most_ = 0;
  std::mutex mutex_;
  std::vector<int> open_;
  std::vector<std::string> requests_;
  std::vector<std::thread> connections_;
  std::thread thread_;
};

std::string answer_of(int status, const std::string& body = "", const std::string& headers = "") {
  return "HTTP/1.1 " + std::to_string(status) + " X\r\nConnection: close\r\n" + headers +
         "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
}

struct PosterTest : ::testing::Test {
  boost::asio::io_context io{1};
  std::unique_ptr<CurlPoster> poster;
  std::vector<HttpPostAnswer> answers;

  // This machine is no destination unless it is named.
  CurlPoster& make(CurlPoster::Settings settings = {},
                   const std::vector<std::string>& allow = {"127.0.0.0/8"}) {
    settings.destinations = *Destinations::parse(allow);
    poster = std::make_unique<CurlPoster>(io.get_executor(), std::move(settings));
    return *poster;
  }
  void post(const std::string& url, Duration deadline = 5s, std::string body = "{}") {
    HttpPost p;
    p.url = url;
    p.body = std::move(body);
    p.headers = {{"Content-Type", "application/json"}, {"Tutti-Event", "test"}};
    p.deadline = deadline;
    poster->post(std::move(p), [this](HttpPostAnswer a) { answers.push_back(std::move(a)); });
  }
  // Runs the control thread until so many answers have come; fails after twenty seconds.
  void wait_for(std::size_t n) {
    io.restart();
    const auto work = boost::asio::make_work_guard(io);
    const auto end = std::chrono::steady_clock::now() + 20s;
    while (answers.size() < n && std::chrono::steady_clock::now() < end) io.run_one_for(50ms);
    ASSERT_EQ(answers.size(), n);
  }
  HttpPostAnswer one(const std::string& url, Duration deadline = 5s) {
    answers.clear();
    post(url, deadline);
    wait_for(1);
    return answers.empty() ? HttpPostAnswer{} : answers.front();
  }
};

TEST_F(PosterTest, SendsTheBodyAndItsHeaders) {
  LocalServer server([](const std::string&) { return answer_of(204); });
  make();
  post(server.url("/a?b=c"), 5s, R"({"x":1})");
  wait_for(1);
  EXPECT_EQ(answers[0].status, 204);
  EXPECT_EQ(answers[0].error, "");
  const std::string request = server.requests().at(0);
  EXPECT_TRUE(request.starts_with("POST /a?b=c HTTP/1.1\r\n")) << request;
  EXPECT_NE(request.find("\r\nTutti-Event: test\r\n"), std::string::npos);
  EXPECT_EQ(request.find("Expect:"), std::string::npos);
  EXPECT_TRUE(request.ends_with("\r\n\r\n{\"x\":1}"));
}

TEST_F(PosterTest, SaysWhatAServerSays) {
  LocalServer server([](const std::string& request) {
    if (request.find("/busy") != std::string::npos) return answer_of(429, "slow down", "Retry-After: 7\r\n");
    return answer_of(500, std::string(5000, 'x'));
  });
  make();
  const auto failed = one(server.url());
  EXPECT_EQ(failed.status, 500);
  EXPECT_EQ(failed.error, std::string(200, 'x')) << "an excerpt";
  const auto busy = one(server.url("/busy"));
  EXPECT_EQ(busy.status, 429);
  EXPECT_EQ(busy.error, "slow down");
  EXPECT_EQ(busy.retry_after, Duration(7s));
}

TEST_F(PosterTest, DoesNotFollowRedirects) {
  LocalServer other([](const std::string&) { return answer_of(200); });
  LocalServer server(
      [&](const std::string&) { return answer_of(302, "", "Location: " + other.url() + "\r\n"); });
  make();
  EXPECT_EQ(one(server.url()).status, 302);
  EXPECT_TRUE(other.requests().empty());
}

TEST_F(PosterTest, ASilentServerIsLeftAtTheDeadline) {
  LocalServer server([](const std::string&) { return std::string(); });
  make();
  const auto began = std::chrono::steady_clock::now();
  const auto answer = one(server.url(), 300ms);
  EXPECT_EQ(answer.status, 0);
  EXPECT_NE(answer.error, "");
  EXPECT_LT(std::chrono::steady_clock::now() - began, 10s);
}

TEST_F(PosterTest, AServerThatTalksWithoutEndIsCutOff) {
  LocalServer server([](const std::string&) {
    return "HTTP/1.1 200 X\r\nConnection: close\r\n\r\n" + std::string(1 << 20, 'y');
  });
  make();
  const auto answer = one(server.url());
  EXPECT_EQ(answer.status, 200) << "it has taken the message all the same";
  EXPECT_EQ(answer.error.size(), 200u);
}

TEST_F(PosterTest, NobodyThereIsAnError) {
  std::string url;
  {
    LocalServer gone([](const std::string&) { return answer_of(200); });
    url = gone.url();
  }
  make();
  const auto answer = one(url);
  EXPECT_EQ(answer.status, 0);
  EXPECT_NE(answer.error, "");
  EXPECT_EQ(one("ftp://127.0.0.1/x").status, 0) << "only http and https";
  EXPECT_EQ(one("file:///etc/passwd").status, 0);
}

TEST_F(PosterTest, ManyGoAtOnceButNotTooMany) {
  LocalServer server([](const std::string&) { return answer_of(200); });
  make({.at_once = 3, .most_waiting = 20, .destinations = {}, .ca_file = {}});
  for (int i = 0; i < 20; ++i) post(server.url());
  wait_for(20);
  for (const auto& answer : answers) EXPECT_EQ(answer.status, 200);
  EXPECT_LE(server.most_at_once(), 3);
}

TEST_F(PosterTest, AFullQueueSaysSo) {
  LocalServer server([](const std::string&) { return std::string(); });
  make({.at_once = 1, .most_waiting = 2, .destinations = {}, .ca_file = {}});
  for (int i = 0; i < 10; ++i) post(server.url(), 500ms);
  wait_for(10);
  EXPECT_GE(std::ranges::count(answers, "too many messages wait to be sent", &HttpPostAnswer::error), 7);
}

TEST_F(PosterTest, GoesWithWhatIsUnderWay) {
  LocalServer server([](const std::string&) { return std::string(); });
  make();
  for (int i = 0; i < 5; ++i) post(server.url(), 60s);
  poster.reset();  // must not wait for the deadline, nor call anybody
  io.poll();
  EXPECT_TRUE(answers.empty());
}

TEST_F(PosterTest, ConnectsOnlyWhereItMay) {
  LocalServer server([](const std::string&) { return answer_of(200); });
  make({}, {"10.0.0.0/8", "hooks.test"});
  const auto answer = one(server.url());
  EXPECT_EQ(answer.status, 0);
  EXPECT_EQ(answer.error, "address 127.0.0.1 is not allowed (--webhook-allow)");
  make({}, {});
  EXPECT_EQ(one(server.url()).status, 0) << "nor this machine by default";
  EXPECT_TRUE(server.requests().empty());
  make();
  EXPECT_EQ(one(server.url()).status, 200);
}

TEST_F(PosterTest, WhatAServerSaysBecomesText) {
  LocalServer server([](const std::string& request) {
    if (request.find("/bad") != std::string::npos) return answer_of(500, "\xFF\xFEoops");
    return answer_of(500, std::string(199, 'x') + "\xC3\xBC" + "y");
  });
  make();
  EXPECT_EQ(one(server.url("/bad")).error, "\uFFFD\uFFFDoops");
  EXPECT_EQ(one(server.url()).error, std::string(199, 'x')) << "no half of a character";
}

// ---------------------------------------------------------------- destinations

bool allows(const Destinations& d, const char* address) {
  sockaddr_in6 v6{};
  sockaddr_in v4{};
  if (inet_pton(AF_INET, address, &v4.sin_addr) == 1) {
    v4.sin_family = AF_INET;
    return d.allows(reinterpret_cast<const sockaddr&>(v4));
  }
  EXPECT_EQ(inet_pton(AF_INET6, address, &v6.sin6_addr), 1) << address;
  v6.sin6_family = AF_INET6;
  return d.allows(reinterpret_cast<const sockaddr&>(v6));
}

TEST(DestinationsTest, WithoutAListAllButOddOnes) {
  const Destinations all;
  for (const auto good : {"10.1.2.3", "192.168.0.9", "8.8.8.8", "100.100.100.201", "fd00::1", "2001:db8::1",
                          "64:ff9b::808:808", "::ffff:10.1.2.3"})
    EXPECT_TRUE(allows(all, good)) << good;
  for (const auto odd :
       {"127.0.0.1", "127.8.8.8", "::1", "169.254.169.254", "100.100.100.200", "fd00:ec2::254", "0.0.0.0",
        "224.0.0.1", "255.255.255.255", "fe80::1", "ff02::1", "::", "::ffff:169.254.169.254",
        "::ffff:127.0.0.1", "64:ff9b::a9fe:a9fe", "::169.254.169.254", "64:ff9b::7f00:1"})
    EXPECT_FALSE(allows(all, odd)) << odd;
}

TEST(DestinationsTest, OnlyWhatTheListNames) {
  const auto some =
      *Destinations::parse({"10.0.0.0/9", "192.0.2.7", "fd00:1::/32", "Hooks.Example.com", ".internal"});
  for (const auto good : {"10.0.0.1", "10.127.255.255", "::ffff:10.1.1.1", "192.0.2.7", "fd00:1:2::3"})
    EXPECT_TRUE(allows(some, good)) << good;
  for (const auto bad : {"10.128.0.0", "192.0.2.8", "127.0.0.1", "fd00:2::1", "::1"})
    EXPECT_FALSE(allows(some, bad)) << bad;
  EXPECT_TRUE(some.allows_host("hooks.example.COM"));
  EXPECT_TRUE(some.allows_host("a.b.internal"));
  EXPECT_FALSE(some.allows_host("internal"));
  EXPECT_FALSE(some.allows_host("evilhooks.example.com"));
  EXPECT_TRUE(allows(*Destinations::parse({"169.254.0.0/16"}), "169.254.169.254")) << "if somebody wants it";
  for (const auto bad : {"", "10.0.0.0/33", "10.0.0/8", "a/b", "::1/129", "10.0.0.256", "a b"})
    EXPECT_FALSE(Destinations::parse({bad})) << bad;
}

}  // namespace
}  // namespace tutti
