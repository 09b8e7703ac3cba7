// A standby's server in front of a leader's, both real: what arrives there, and what comes back.
#include "scheduler/service/leader_proxy.h"

#include <sodium.h>

#include <array>
#include <atomic>
#include <boost/asio/ip/tcp.hpp>
#include <boost/json/serialize.hpp>
#include <mutex>
#include <set>

#include "api/access/identity.h"
#include "scheduler/service/term_notice.h"
#include "tests/http/test_server.h"

namespace tutti {
namespace {

using namespace http::test;

const ForwardMark kMark("shared");

http::Hooks leader_hooks() {
  http::Hooks hooks;
  hooks.arrive = seen_from_client({}, kMark);
  return hooks;
}

http::Router leader_routes(Mailbox<http::Request>& seen, Mailbox<std::shared_ptr<http::Stream>>& streams,
                           Mailbox<http::Responder>& held) {
  http::Router routes;
  routes.post("/v1/jobs", [&seen](http::Request request, http::Responder responder) {
    seen.put(std::move(request));
    responder.respond(http::json(201, {{"id", 7}}).set("Location", "/v1/jobs/7"));
  });
  routes.get("/v1/big", [](http::Request, http::Responder responder) {
    responder.respond(http::text(200, std::string(5 << 20, 'x')));
  });
  routes.get("/v1/events",
             [&streams](http::Request, http::Responder responder) { streams.put(responder.sse()); });
  routes.get("/v1/slow",
             [&held](http::Request, http::Responder responder) { held.put(std::move(responder)); });
  routes.post("/v1/slow",
              [&held](http::Request, http::Responder responder) { held.put(std::move(responder)); });
  routes.del("/v1/jobs/{id}", [](http::Request, http::Responder responder) {
    responder.respond(http::problem(404, "not_found", "no job 9"));
  });
  return routes;
}

struct LeaderProxyTest : ::testing::Test {
  Mailbox<http::Request> seen;
  Mailbox<std::shared_ptr<http::Stream>> streams;
  Mailbox<http::Responder> held;
  Mailbox<http::Response> answers;  // to hand_over()
  std::optional<TestServer> leader{std::in_place, leader_routes(seen, streams, held), http::ServerConfig{},
                                   leader_hooks()};
  std::mutex mutex;
  LeaderProxy::Leading leads{.ours = false, .url = url(leader->port()), .holder = "host:1"};
  std::optional<LeaderProxy> proxy{std::in_place,
                                   [this] {
                                     const std::scoped_lock lock(mutex);
                                     return leads;
                                   },
                                   kMark};
  std::atomic<bool> known = false;  // the standby knows who asks
  const std::uint16_t address_port = leader->port();
  TestServer standby{standby_routes()};

  // As in the scheduler: the loop of the standby outlives the thread that answers for the leader.
  ~LeaderProxyTest() override {
    EXPECT_TRUE(standby.stop());
    proxy.reset();
  }

  static std::string url(std::uint16_t port) { return "http://127.0.0.1:" + std::to_string(port); }
  http::Router standby_routes() {
    http::Router routes;
    const http::Handler hand_over = [this](http::Request request, http::Responder responder) {
      if (known) request.identity = somebody("ada");
      proxy->forward(std::move(request), std::move(responder));
    };
    routes.post("/v1/jobs", hand_over);
    routes.get("/v1/big", hand_over);
    routes.get("/v1/events", hand_over);
    routes.get("/v1/exec", hand_over);
    routes.del("/v1/jobs/{id}", hand_over);
    return routes;
  }
  static Identity somebody(const std::string& name) {
    Identity who;
    who.kind = Identity::Kind::user;
    who.name = name;
    return who;
  }
  /// One that holds a place of `narrow` until its answer has come. `user` "": from the address `peer`.
  void ask_narrow(LeaderProxy& narrow, const char* target, const std::string& user,
                  const std::string& peer = "10.0.0.1:5") {
    auto request = http::Request::make(http::Method::get, target);
    request.peer = peer;
    if (!user.empty()) request.identity = somebody(user);
    narrow.forward(std::move(request),
                   http::Responder::to([this](http::Response r) { answers.put(std::move(r)); }));
  }
  void now_leads(LeaderProxy::Leading who) {
    const std::scoped_lock lock(mutex);
    leads = std::move(who);
  }
  void hand_over(const char* target) {
    proxy->forward(http::Request::make(http::Method::get, target),
                   http::Responder::to([this](http::Response r) { answers.put(std::move(r)); }));
  }
  static void SetUpTestSuite() { ASSERT_GE(sodium_init(), 0); }
};

TEST_F(LeaderProxyTest, ARequestArrivesAsItWasAndItsAnswerComesBack) {
  auto client = standby.client();
  const auto answer = client.request("POST", "/v1/jobs?wait=1%2F2",
                                     {{"Authorization", "Bearer t"}, {"Idempotency-Key", "k"}}, "{}");
  EXPECT_EQ(answer.status, 201);
  EXPECT_EQ(answer.body, R"({"id":7})");
  EXPECT_EQ(answer.header("Location"), "/v1/jobs/7");
  const auto request = seen.take();
  EXPECT_EQ(request.target, "/v1/jobs?wait=1%2F2");
  EXPECT_EQ(request.body, "{}");
  EXPECT_EQ(request.header("Authorization"), "Bearer t");
  EXPECT_EQ(request.header("Idempotency-Key"), "k");
  EXPECT_EQ(request.header("Host"), "127.0.0.1");
  EXPECT_FALSE(request.header("User-Agent")) << "what the client does not say, nobody says";
}

TEST_F(LeaderProxyTest, TheLeaderSeesTheClientsAddress) {
  auto socket = standby.connect();
  socket.send("POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", soon());
  read_all(socket);
  const auto request = seen.take();
  ASSERT_TRUE(request.header(ForwardMark::kHeader));
  const std::string mark(*request.header(ForwardMark::kHeader));
  EXPECT_TRUE(mark.ends_with(" " + request.peer)) << mark << " and " << request.peer;
}

TEST_F(LeaderProxyTest, AClientCannotSayThatItIsAnother) {
  auto client = leader->client();
  client.request("POST", "/v1/jobs", {{"Tutti-Forwarded", "1 " + std::string(64, 'a') + " 10.9.9.9:1"}});
  EXPECT_FALSE(seen.take().peer.starts_with("10.9.9.9"));
}

TEST_F(LeaderProxyTest, RefusalsComeBackAsTheyAre) {
  auto client = standby.client();
  const auto answer = client.request("DELETE", "/v1/jobs/9");
  EXPECT_EQ(answer.status, 404);
  EXPECT_NE(answer.body.find("no job 9"), std::string::npos);
}

TEST_F(LeaderProxyTest, AnAnswerThatIsLongComesWhole) {
  auto client = standby.client();
  EXPECT_EQ(client.request("GET", "/v1/big").body, std::string(5 << 20, 'x'));
}

TEST_F(LeaderProxyTest, EventsComeAsTheyHappenAndEndWithTheClient) {
  auto client = standby.client();
  const auto head = client.open_stream("GET", "/v1/events");
  EXPECT_EQ(head.status, 200);
  EXPECT_EQ(head.header("Content-Type"), "text/event-stream");
  const auto stream = streams.take();
  std::promise<void> closed;
  stream->set_on_close([&closed] { closed.set_value(); });
  for (int i = 1; i <= 3; ++i) {
    stream->write("data: " + std::to_string(i) + "\n\n");
    EXPECT_EQ(client.read_event(10s), "data: " + std::to_string(i));
  }
  client.close();
  EXPECT_EQ(closed.get_future().wait_for(10s), std::future_status::ready);
}

TEST_F(LeaderProxyTest, AStreamThatTheLeaderCutsIsCutAndNotEnded) {
  auto client = standby.client();
  client.open_stream("GET", "/v1/events");
  streams.take()->abort();
  EXPECT_THROW(
      {
        while (client.read_chunk(10s)) {
        }
      },
      std::runtime_error);
}

TEST_F(LeaderProxyTest, WithoutALeaderNothingHasHappened) {
  now_leads({});
  auto client = standby.client();
  const auto answer = client.request("POST", "/v1/jobs");
  EXPECT_EQ(answer.status, 503);
  EXPECT_EQ(answer.header("Retry-After"), "1");
  EXPECT_NE(answer.body.find("no_leader"), std::string::npos);
  EXPECT_EQ(seen.size(), 0u);
}

TEST_F(LeaderProxyTest, ALeaderThatIsGoneIsNoLeader) {
  known = true;
  leader.reset();
  auto client = standby.client();
  const auto answer = client.request("POST", "/v1/jobs");
  EXPECT_EQ(answer.status, 503);
  EXPECT_NE(answer.body.find("cannot be reached"), std::string::npos) << answer.body;
}

// It has read the request, and goes without an answer.
TEST_F(LeaderProxyTest, WhatIsLostOnTheWayMayHaveHappened) {
  Mailbox<bool> read;
  Loop loop;
  boost::asio::ip::tcp::acceptor acceptor(loop.context, {boost::asio::ip::make_address("127.0.0.1"), 0});
  boost::asio::ip::tcp::socket peer(loop.context);
  std::array<char, 4096> bytes{};
  acceptor.async_accept(peer, [&](boost::system::error_code) {
    peer.async_read_some(boost::asio::buffer(bytes), [&](boost::system::error_code, std::size_t) {
      boost::system::error_code ignored;
      peer.close(ignored);
      read.put(true);
    });
  });
  now_leads({.ours = false, .url = url(acceptor.local_endpoint().port()), .holder = "host:2"});
  auto client = standby.client();
  const auto answer = client.request("POST", "/v1/jobs");
  EXPECT_EQ(answer.status, 502);
  EXPECT_NE(answer.body.find("leader_lost"), std::string::npos);
  EXPECT_TRUE(read.take());
}

TEST_F(LeaderProxyTest, TwoStandbysDoNotSendARequestRoundAndRound) {
  now_leads({.ours = false, .url = url(standby.port()), .holder = "each other"});
  auto client = standby.client();
  const auto answer = client.request("POST", "/v1/jobs");
  EXPECT_EQ(answer.status, 503);
  EXPECT_NE(answer.body.find("which it is not"), std::string::npos) << answer.body;
}

TEST_F(LeaderProxyTest, AShellIsTheLeadersBusiness) {
  known = true;
  const auto answer =
      ask(standby,
          "GET /v1/exec HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, close\r\nUpgrade: websocket\r\n"
          "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n");
  EXPECT_EQ(status_of(answer), 421);
  EXPECT_NE(answer.find(url(leader->port())), std::string::npos);
}

TEST_F(LeaderProxyTest, WhomWeDoNotKnowIsNotToldWhereTheLeaderIs) {
  const auto answer =
      ask(standby,
          "GET /v1/exec HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, close\r\nUpgrade: websocket\r\n"
          "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n");
  EXPECT_EQ(status_of(answer), 401);
  leader.reset();
  auto client = standby.client();
  const auto gone = client.request("POST", "/v1/jobs");
  EXPECT_EQ(gone.status, 503);
  now_leads({.ours = false, .url = "", .holder = "secret-host:1"});
  const auto nowhere = client.request("POST", "/v1/jobs");
  EXPECT_EQ(nowhere.status, 503);
  for (const std::string& said : {answer, gone.body, nowhere.body}) {
    EXPECT_EQ(said.find("127.0.0.1"), std::string::npos) << said;
    EXPECT_EQ(said.find(std::to_string(address_port)), std::string::npos) << said;
    EXPECT_EQ(said.find("host:1"), std::string::npos) << said;
  }
}

// Somebody asks in the second before the standby looks for itself.
TEST_F(LeaderProxyTest, AnOrderForTheNextLeaderGivesUpThoseForTheOneBefore) {
  hand_over("/v1/slow");
  auto frozen = held.take();
  now_leads({.ours = false, .url = "http://127.0.0.1:1", .holder = "nobody there"});
  hand_over("/v1/jobs");
  proxy->look();
  EXPECT_EQ(std::set({answers.take().status, answers.take().status}), (std::set{502, 503}));
  frozen.respond(http::text(200, "too late"));
}

// It may be frozen: its connections stay open, and nothing comes.
TEST_F(LeaderProxyTest, WhatIsUnderWayToALeaderOfBeforeIsGivenUp) {
  hand_over("/v1/slow");
  auto frozen = held.take();
  proxy->look();
  hand_over("/v1/slow");
  held.take().respond(http::text(200, "still the same"));
  EXPECT_EQ(answers.take().body, "still the same");
  now_leads({.ours = true});
  proxy->look();
  const auto answer = answers.take();
  EXPECT_EQ(answer.status, 502);
  EXPECT_NE(answer.body.find("another scheduler leads now"), std::string::npos);
  frozen.respond(http::text(200, "too late"));
}

// A log that is followed says nothing while its job says nothing. The write tells how much time has passed.
TEST_F(LeaderProxyTest, AQuietAnswerIsWaitedForAndAQuietWriteIsNot) {
  LeaderProxy quick([this] { return leads; }, kMark, {.silence = std::chrono::seconds(1)});
  Mailbox<http::Response> read, written;
  const auto hand_over = [&](http::Method method, Mailbox<http::Response>& to) {
    quick.forward(http::Request::make(method, "/v1/slow"),
                  http::Responder::to([&to](http::Response r) { to.put(std::move(r)); }));
  };
  hand_over(http::Method::get, read);
  auto log = held.take();
  hand_over(http::Method::post, written);
  auto frozen = held.take();
  EXPECT_EQ(written.take().status, 502);
  EXPECT_EQ(read.size(), 0u);
  log.respond(http::text(200, "at last"));
  EXPECT_EQ(read.take().body, "at last");
}

TEST_F(LeaderProxyTest, TooManyAreRefusedAtOnce) {
  LeaderProxy narrow([this] { return leads; }, kMark, {.at_once = 1});
  const auto ask_narrow = [&](const char* target) {
    narrow.forward(http::Request::make(http::Method::get, target),
                   http::Responder::to([&](http::Response r) { answers.put(std::move(r)); }));
  };
  ask_narrow("/v1/slow");
  auto first = held.take();
  ask_narrow("/v1/slow");
  EXPECT_EQ(answers.take().status, 503);
  first.respond(http::text(200, "at last"));
  EXPECT_EQ(answers.take().body, "at last");
  ask_narrow("/v1/slow");
  held.take().respond(http::text(200, "the place is free again"));
  EXPECT_EQ(answers.take().status, 200);
}

TEST_F(LeaderProxyTest, OneCallerHoldsNoMoreThanItsShare) {
  LeaderProxy narrow([this] { return leads; }, kMark, {.of_a_caller = 1});
  ask_narrow(narrow, "/v1/slow", "ada");
  auto hers = held.take();
  ask_narrow(narrow, "/v1/slow", "ada");
  EXPECT_EQ(answers.take().status, 503);
  ask_narrow(narrow, "/v1/slow", "bob");
  auto his = held.take();
  ask_narrow(narrow, "/v1/slow", "", "10.0.0.1:5");
  auto one = held.take();
  ask_narrow(narrow, "/v1/slow", "", "10.0.0.1:6");
  EXPECT_EQ(answers.take().status, 503) << "another port of the same address";
  for (auto* responder : {&hers, &his, &one}) {
    responder->respond(http::text(200, "done"));
    EXPECT_EQ(answers.take().status, 200);
  }
  ask_narrow(narrow, "/v1/slow", "ada");
  held.take().respond(http::text(200, "her place is free again"));
  EXPECT_EQ(answers.take().status, 200);
}

TEST_F(LeaderProxyTest, StrangersLeavePlacesForThoseWhomWeKnow) {
  LeaderProxy narrow([this] { return leads; }, kMark, {.strangers = 1});
  ask_narrow(narrow, "/v1/slow", "", "10.0.0.1:5");
  auto first = held.take();
  ask_narrow(narrow, "/v1/slow", "", "10.0.0.2:5");
  EXPECT_EQ(answers.take().status, 503);
  ask_narrow(narrow, "/v1/slow", "ada");
  held.take().respond(http::text(200, "known"));
  EXPECT_EQ(answers.take().body, "known");
  first.respond(http::text(200, "a stranger"));
  EXPECT_EQ(answers.take().body, "a stranger");
}

TEST_F(LeaderProxyTest, StreamsLeavePlacesForQuestions) {
  LeaderProxy narrow([this] { return leads; }, kMark, {.streams = 0});
  ask_narrow(narrow, "/v1/events", "ada");
  const auto answer = answers.take();
  EXPECT_EQ(answer.status, 503);
  EXPECT_NE(answer.body.find("streams"), std::string::npos) << answer.body;
  ask_narrow(narrow, "/v1/slow", "ada");
  held.take().respond(http::text(200, "short"));
  EXPECT_EQ(answers.take().body, "short");
}

// ---------------------------------------------------------------- "term 7 is led by us"

TEST(TermNotice, ReachesALeaderOfBeforeAndNobodyElseIsHeard) {
  ASSERT_GE(sodium_init(), 0);
  Mailbox<TermMark::Says> told;
  http::Router routes;
  add_term_route(routes, TermMark("shared"), [&told](const TermMark::Says& says) {
    told.put(says);
    return says.term > 6;
  });
  TestServer before(std::move(routes));
  const std::string url = "http://127.0.0.1:" + std::to_string(before.port());
  TermNotice notice(TermMark("shared"), {});
  EXPECT_EQ(notice.tell({"http://127.0.0.1:1", url}, {7, "host:9"}), 1) << "the first is gone";
  const auto says = told.take();
  EXPECT_EQ(says.term, 7);
  EXPECT_EQ(says.holder, "host:9");
  EXPECT_EQ(notice.tell({url}, {6, "host:9"}), 0) << "that is nothing new there";
  told.take();
  EXPECT_EQ(TermNotice(TermMark("another"), {}).tell({url}, {8, "host:9"}), 0);
  auto client = before.client();
  EXPECT_EQ(client.request("POST", std::string(kTermRoute)).status, 403);
  EXPECT_EQ(told.size(), 0u);
  notice.let_go();
  EXPECT_EQ(notice.tell({url}, {9, "host:9"}), 0) << "who stops tells nobody";
  EXPECT_EQ(told.size(), 0u);
}

}  // namespace
}  // namespace tutti
