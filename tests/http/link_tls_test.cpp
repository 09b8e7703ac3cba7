// Links over TLS: the worker's way to a scheduler behind https.
#include <gtest/gtest.h>

#include <boost/asio/ip/tcp.hpp>

#include "api/http/link.h"
#include "api/http/link_io.h"
#include "certificates.h"
#include "test_server.h"

namespace tutti::http::test {
namespace {

using LinkPtr = std::shared_ptr<Link>;

struct Ears {
  Mailbox<std::string> messages;
  Mailbox<std::string> closed;
  void listen(const LinkPtr& link) {
    link->start([this](std::string message) { messages.put(std::move(message)); },
                [this](std::string reason) { closed.put(std::move(reason)); });
  }
};

class TlsLinkTest : public testing::Test {
 protected:
  void serve(const Subject& subject, bool clients = false, LinkOptions options = {}) {
    install("server", authority_.issue(subject));
    files_.write("ca.pem", authority_.certificate());
    ServerConfig config;
    config.link = options;
    config.tls =
        std::make_shared<TlsServer>(TlsServerFiles{files_.path("server.pem"), files_.path("server.key"),
                                                   clients ? files_.path("ca.pem") : ""},
                                    nullptr);
    Router router;
    router.websocket("/link", [this](const Request& request, LinkPtr link) {
      names_.put(request.peer_certificate);
      accepted_.put(std::move(link));
    });
    server_ = std::make_unique<TestServer>(std::move(router), config);
  }

  void install(const std::string& name, const Pem& pem) const {
    files_.write(name + ".pem", pem.certificate);
    files_.write(name + ".key", pem.key);
  }

  LinkTarget here() const {
    LinkTarget target;
    target.host = "127.0.0.1";
    target.port = server_->port();
    target.path = "/link";
    target.tls = TlsClientFiles{files_.path("ca.pem"), "", ""};
    return target;
  }

  Result<LinkPtr> try_connect(LinkTarget target, LinkOptions options = {},
                              std::chrono::milliseconds deadline = 5s) {
    Mailbox<Result<LinkPtr>> results;
    connect_link(loop_.context.get_executor(), std::move(target), options, deadline,
                 [&results](Result<LinkPtr> result) { results.put(std::move(result)); });
    return results.take();
  }

  std::string refusal(LinkTarget target) {
    const auto result = try_connect(std::move(target));
    if (result) return "connected";
    EXPECT_EQ(result.error().code, Errc::unavailable);
    return result.error().message;
  }

  void TearDown() override {
    accepted_.clear();
    if (!server_) return;
    EXPECT_TRUE(server_->stop());
  }

  Folder files_;
  Authority authority_{"cluster"};
  Ears server_ears_, client_ears_;  // before the loop: its threads put into them to the end
  Loop loop_;
  Mailbox<std::string> names_;
  std::unique_ptr<TestServer> server_;
  Mailbox<LinkPtr> accepted_;
};

TEST_F(TlsLinkTest, CarriesMessagesBothWays) {
  serve({.common_name = "tutti", .ip = {"127.0.0.1"}});
  const auto client = try_connect(here()).value();
  const auto server = accepted_.take();
  EXPECT_EQ(names_.take(), "");
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
  client_ears_.closed.take();
  server_ears_.closed.take();
}

TEST_F(TlsLinkTest, PingsKeepASilentLinkAlive) {
  LinkOptions options;
  options.idle = 200ms;
  serve({.common_name = "tutti", .ip = {"127.0.0.1"}}, false, options);
  const auto client = try_connect(here(), options).value();
  server_ears_.listen(accepted_.take());
  client_ears_.listen(client);
  // Six idle times without a message; the wait itself is the test, there is nothing to be signalled.
  std::this_thread::sleep_for(1200ms);
  EXPECT_TRUE(client->send("still here"));
  EXPECT_EQ(server_ears_.messages.take(), "still here");
  client->abort();
  server_ears_.closed.take();
}

TEST_F(TlsLinkTest, AServerThatIsNotTheOneIsRefused) {
  serve({.common_name = "tutti", .dns = {"elsewhere.example"}, .ip = {"10.9.8.7"}});
  EXPECT_NE(refusal(here()).find("the server's certificate is not trusted: IP address mismatch"),
            std::string::npos)
      << refusal(here());
  auto named = here();
  named.host = "localhost";
  EXPECT_NE(refusal(named).find("hostname mismatch"), std::string::npos) << refusal(named);
}

TEST_F(TlsLinkTest, AHostNameIsVerified) {
  serve({.common_name = "tutti", .dns = {"localhost"}});
  auto named = here();
  named.host = "localhost";
  EXPECT_EQ(refusal(named), "connected");
}

TEST_F(TlsLinkTest, AnAuthorityThatWeDoNotKnowIsRefused) {
  serve({.common_name = "tutti", .ip = {"127.0.0.1"}});
  const Authority other("other");
  files_.write("other.pem", other.certificate());
  auto target = here();
  target.tls->ca = files_.path("other.pem");
  EXPECT_NE(refusal(target).find("not trusted"), std::string::npos);
  target.tls->ca = "";  // whom this machine trusts
  EXPECT_NE(refusal(target).find("not trusted"), std::string::npos);
  target.tls->ca = "/nowhere";
  EXPECT_NE(refusal(target).find("--tls-ca /nowhere: cannot be read"), std::string::npos);
}

TEST_F(TlsLinkTest, AnExpiredServerIsRefused) {
  serve({.common_name = "tutti", .ip = {"127.0.0.1"}, .days = 0});
  EXPECT_NE(refusal(here()).find("certificate has expired"), std::string::npos);
}

TEST_F(TlsLinkTest, TheNodeIsKnownByItsCertificate) {
  serve({.common_name = "tutti", .ip = {"127.0.0.1"}}, true);
  install("node", authority_.issue({.common_name = "node-7"}));
  auto target = here();
  target.tls->certificate = files_.path("node.pem");
  target.tls->key = files_.path("node.key");
  const auto link = try_connect(target).value();
  EXPECT_EQ(names_.take(), "node-7");
  link->abort();
}

TEST_F(TlsLinkTest, APlainServerIsNotSpokenTo) {
  serve({.common_name = "tutti", .ip = {"127.0.0.1"}});
  TestServer plain(echo_routes());
  auto target = here();
  target.port = plain.port();
  EXPECT_NE(refusal(target).find("no TLS connection"), std::string::npos);
}

TEST_F(TlsLinkTest, ConnectGivesUpAtItsDeadline) {
  // Listens, but nobody accepts: the greeting is never answered.
  Loop silent;
  boost::asio::ip::tcp::acceptor acceptor(silent.context, {boost::asio::ip::make_address("127.0.0.1"), 0});
  serve({.common_name = "tutti", .ip = {"127.0.0.1"}});
  auto target = here();
  target.port = acceptor.local_endpoint().port();
  const auto result = try_connect(target, {}, 100ms);
  ASSERT_TRUE(result.has_error());
  EXPECT_NE(result.error().message.find("deadline"), std::string::npos);
}

TEST_F(TlsLinkTest, StopOfTheServerCutsLinks) {
  serve({.common_name = "tutti", .ip = {"127.0.0.1"}});
  const auto client = try_connect(here()).value();
  server_ears_.listen(accepted_.take());
  client_ears_.listen(client);
  EXPECT_TRUE(server_->stop());
  server_ears_.closed.take();
  client_ears_.closed.take();
}

}  // namespace
}  // namespace tutti::http::test
