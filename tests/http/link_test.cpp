// Links over real sockets: both ends are ours, and sometimes one end is a bare socket that misbehaves.
#include "api/http/link.h"

#include <gtest/gtest.h>

#include <boost/asio/ip/tcp.hpp>
#include <memory>

#include "api/http/link_io.h"
#include "test_server.h"

namespace tutti::http::test {
namespace {

using LinkPtr = std::shared_ptr<Link>;

/// A started link and what came out of it.
struct Ears {
  Mailbox<std::string> messages;
  Mailbox<std::string> closed;

  void listen(const LinkPtr& link) {
    link->start([this](std::string message) { messages.put(std::move(message)); },
                [this](std::string reason) { closed.put(std::move(reason)); });
  }
};

/// A server with a link route at /link, and a loop for the client side.
class LinkTest : public testing::Test {
 protected:
  void serve(LinkOptions options = {}, Hooks hooks = {}) {
    Router router;
    router.websocket("/link", [this](Request request, LinkPtr link) {
      accepted_paths_.put(request.target);
      accepted_.put(std::move(link));
    });
    router.get("/healthz", [](const Request&) { return text(200, "ok"); });
    router.get("/door", [this](Request request, Responder responder) {
      if (request.query_param("may") != "1") return responder.respond(problem(403, "forbidden", "no"));
      responder.upgrade([this](LinkPtr link) {
        if (link) accepted_.put(std::move(link));
      });
    });
    ServerConfig config;
    config.link = options;
    server_ = std::make_unique<TestServer>(std::move(router), config, hooks);
  }

  Result<LinkPtr> try_connect(LinkTarget target, LinkOptions options = {},
                              std::chrono::milliseconds deadline = 5s) {
    Mailbox<Result<LinkPtr>> results;
    connect_link(loop_.context.get_executor(), std::move(target), options, deadline,
                 [&results](Result<LinkPtr> result) { results.put(std::move(result)); });
    return results.take();
  }

  LinkTarget here(std::string path = "/link") {
    LinkTarget target;
    target.host = "127.0.0.1";
    target.port = server_->port();
    target.path = std::move(path);
    return target;
  }

  /// A bare socket that has shaken hands.
  ByteSocket raw_link() {
    auto socket = server_->connect();
    socket.send(
        "GET /link HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        soon());
    std::string answer;
    while (answer.find("\r\n\r\n") == std::string::npos && socket.receive(answer, soon())) {
    }
    EXPECT_EQ(status_of(answer), 101) << answer;
    return socket;
  }

  void TearDown() override {
    // Links go before the loops they live on.
    accepted_.clear();
    if (server_) {
      EXPECT_TRUE(server_->stop());
    }
  }

  Mailbox<std::string> accepted_paths_;
  Ears server_ears_;  // before the loop: its threads put into them to the end
  Ears client_ears_;
  Loop loop_;
  std::unique_ptr<TestServer> server_;
  Mailbox<LinkPtr> accepted_;
};

TEST_F(LinkTest, CarriesMessagesBothWaysInOrder) {
  serve();
  const auto client = try_connect(here("/link?node=n1")).value();
  const auto server = accepted_.take();
  EXPECT_EQ(accepted_paths_.take(), "/link?node=n1");
  EXPECT_TRUE(server->peer().starts_with("127.0.0.1:"));
  server_ears_.listen(server);
  client_ears_.listen(client);
  const std::string large(1 << 20, 'm');
  for (int i = 0; i < 100; ++i) {
    EXPECT_TRUE(client->send("up " + std::to_string(i)));
    EXPECT_TRUE(server->send("down " + std::to_string(i)));
  }
  EXPECT_TRUE(client->send(large));
  EXPECT_TRUE(server->send(large));
  for (int i = 0; i < 100; ++i) {
    EXPECT_EQ(server_ears_.messages.take(), "up " + std::to_string(i));
    EXPECT_EQ(client_ears_.messages.take(), "down " + std::to_string(i));
  }
  EXPECT_TRUE(server_ears_.messages.take() == large);
  EXPECT_TRUE(client_ears_.messages.take() == large);
  client->abort();
  EXPECT_EQ(client_ears_.closed.take(), "cut from this side");
  server_ears_.closed.take();
}

TEST_F(LinkTest, AbortIsSeenOnBothSidesOnce) {
  serve();
  const auto client = try_connect(here()).value();
  const auto server = accepted_.take();
  server_ears_.listen(server);
  client_ears_.listen(client);
  server->abort();
  server->abort();
  EXPECT_FALSE(server->send("too late"));
  server_ears_.closed.take();
  client_ears_.closed.take();
  client->abort();
  EXPECT_FALSE(client->send("too late"));
  EXPECT_EQ(server_ears_.closed.size(), 0u);
  EXPECT_EQ(client_ears_.closed.size(), 0u);
}

TEST_F(LinkTest, ClosedBeforeItIsStartedTellsAtStart) {
  serve();
  const auto client = try_connect(here()).value();
  accepted_.take();
  client->abort();
  client_ears_.listen(client);
  EXPECT_EQ(client_ears_.closed.take(), "cut from this side");
}

TEST_F(LinkTest, PingsKeepASilentLinkAlive) {
  LinkOptions options;
  options.idle = 200ms;
  serve(options);
  const auto client = try_connect(here(), options).value();
  const auto server = accepted_.take();
  server_ears_.listen(server);
  client_ears_.listen(client);
  // Six idle times without a message; the wait itself is the test, there is nothing to be signalled.
  std::this_thread::sleep_for(1200ms);
  EXPECT_TRUE(client->send("still here"));
  EXPECT_EQ(server_ears_.messages.take(), "still here");
  client->abort();
  server_ears_.closed.take();
}

TEST_F(LinkTest, FrozenPeerIsNoticed) {
  LinkOptions options;
  options.idle = 300ms;
  serve(options);
  const auto frozen = raw_link();  // never reads, never answers a ping
  server_ears_.listen(accepted_.take());
  const auto began = std::chrono::steady_clock::now();
  EXPECT_EQ(server_ears_.closed.take(), "the peer has been silent for too long");
  EXPECT_LT(std::chrono::steady_clock::now() - began, 3s);
}

TEST_F(LinkTest, PeerThatDoesNotReadOverflowsTheQueue) {
  LinkOptions options;
  options.idle = 60s;  // so that it is the queue that notices
  options.max_queued_bytes = 1 << 20;
  serve(options);
  const auto deaf = raw_link();
  const auto server = accepted_.take();
  server_ears_.listen(server);
  const auto until = soon();
  while (server->send(std::string(64 << 10, 'x')) && std::chrono::steady_clock::now() < until) {
  }
  EXPECT_EQ(server_ears_.closed.take(), "the peer does not keep up: too much is waiting to be sent");
}

TEST_F(LinkTest, TooLargeMessageClosesTheLink) {
  LinkOptions options;
  options.max_message_bytes = 1000;
  serve(options);
  const auto client = try_connect(here()).value();
  server_ears_.listen(accepted_.take());
  client_ears_.listen(client);
  client->send(std::string(1001, 'x'));
  EXPECT_EQ(server_ears_.closed.take(), "a message is larger than allowed");
  client_ears_.closed.take();
  EXPECT_EQ(server_ears_.messages.size(), 0u);
}

TEST_F(LinkTest, MessageHandlerThatThrowsClosesTheLink) {
  serve();
  const auto client = try_connect(here()).value();
  Mailbox<std::string> closed;
  accepted_.take()->start([](const std::string&) { throw std::runtime_error("bad message"); },
                          [&closed](std::string reason) { closed.put(std::move(reason)); });
  client_ears_.listen(client);
  client->send("x");
  EXPECT_EQ(closed.take(), "a message could not be handled: bad message");
  client_ears_.closed.take();
}

TEST_F(LinkTest, RefusalsNameTheirKind) {
  Hooks hooks;
  hooks.before = [](Request& request) -> std::optional<Response> {
    if (request.header("Authorization") == "Bearer good") return std::nullopt;
    return problem(401, "unauthenticated", "no");
  };
  serve({}, hooks);
  EXPECT_EQ(try_connect(here()).error().code, Errc::unauthenticated);
  EXPECT_EQ(try_connect(here("/nowhere")).error().code, Errc::not_found);
  auto target = here();
  target.headers.push_back({"Authorization", "Bearer good"});
  const auto link = try_connect(target);
  ASSERT_TRUE(link.has_value());
  link.value()->abort();
  auto nobody = here();
  nobody.port = 1;
  EXPECT_EQ(try_connect(nobody).error().code, Errc::unavailable);
}

TEST_F(LinkTest, ConnectGivesUpAtItsDeadline) {
  // Listens, but nobody accepts: the handshake is never answered.
  Loop silent;
  boost::asio::ip::tcp::acceptor acceptor(silent.context, {boost::asio::ip::make_address("127.0.0.1"), 0});
  LinkTarget target;
  target.host = "127.0.0.1";
  target.port = acceptor.local_endpoint().port();
  const auto result = try_connect(target, {}, 100ms);
  ASSERT_TRUE(result.has_error());
  EXPECT_EQ(result.error().code, Errc::unavailable);
  EXPECT_NE(result.error().message.find("deadline"), std::string::npos);
}

TEST_F(LinkTest, PlainRequestToALinkRouteIsToldToUpgrade) {
  serve();
  EXPECT_EQ(server_->client().request("GET", "/link").status, 426);
}

TEST_F(LinkTest, AHandlerMayRefuseBeforeTheUpgradeOrTakeTheLink) {
  serve();
  EXPECT_EQ(try_connect(here("/door")).error().code, Errc::forbidden);
  EXPECT_EQ(server_->client().request("GET", "/door?may=1").status, 426) << "it asked for no WebSocket";
  const auto client = try_connect(here("/door?may=1")).value();
  const auto server = accepted_.take();
  server_ears_.listen(server);
  client_ears_.listen(client);
  client->send("hello");
  EXPECT_EQ(server_ears_.messages.take(), "hello");
  client->abort();
  server_ears_.closed.take();
}

TEST_F(LinkTest, BytesGoBothWaysAndTellWhenTheyAreSent) {
  serve();
  const auto client = try_connect(here()).value();
  const auto server = accepted_.take();
  server_ears_.listen(server);
  client_ears_.listen(client);
  const std::string bytes("\0\xff\x80 no text", 11);
  Mailbox<int> sent;
  EXPECT_TRUE(server->send_binary(bytes, [&sent] { sent.put(1); }));
  EXPECT_EQ(sent.take(), 1);
  EXPECT_TRUE(client_ears_.messages.take() == bytes);
  EXPECT_TRUE(server->send("text again"));
  EXPECT_EQ(client_ears_.messages.take(), "text again");
  server->abort();
  client_ears_.closed.take();
}

TEST_F(LinkTest, ClosedLinkDeliversWhatWasQueued) {
  serve();
  const auto client = try_connect(here()).value();
  const auto server = accepted_.take();
  server_ears_.listen(server);
  client_ears_.listen(client);
  const std::string large(4 << 20, 'x');
  EXPECT_TRUE(server->send_binary(large, {}));
  EXPECT_TRUE(server->send("last"));
  server->close();
  EXPECT_FALSE(server->send("too late"));
  EXPECT_TRUE(client_ears_.messages.take() == large);
  EXPECT_EQ(client_ears_.messages.take(), "last");
  EXPECT_EQ(client_ears_.closed.take(), "the peer closed the link");
  server_ears_.closed.take();
}

TEST_F(LinkTest, HeldLinkStopsItsPeerAndOutlivesTheIdleTime) {
  LinkOptions options;
  options.idle = 300ms;
  serve(options);
  LinkOptions patient;
  patient.idle = 60s;
  patient.max_queued_bytes = 64 << 20;
  const auto client = try_connect(here(), patient).value();
  const auto server = accepted_.take();
  server->hold(true);
  server_ears_.listen(server);
  client_ears_.listen(client);
  const std::string piece(1 << 20, 'x');
  for (int i = 0; i < 32; ++i) ASSERT_TRUE(client->send(piece));
  // Longer than the idle time; that nothing happens is the test.
  std::this_thread::sleep_for(1s);
  EXPECT_EQ(server_ears_.messages.size(), 0u);
  EXPECT_EQ(server_ears_.closed.size(), 0u);
  server->hold(false);
  for (int i = 0; i < 32; ++i) EXPECT_TRUE(server_ears_.messages.take() == piece);
  client->abort();
  server_ears_.closed.take();
}

TEST_F(LinkTest, StopOfTheServerCutsLinks) {
  serve();
  const auto client = try_connect(here()).value();
  server_ears_.listen(accepted_.take());
  client_ears_.listen(client);
  EXPECT_TRUE(server_->stop());
  server_ears_.closed.take();
  client_ears_.closed.take();
}

}  // namespace
}  // namespace tutti::http::test
