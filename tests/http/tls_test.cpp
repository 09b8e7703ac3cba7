// TLS: what is offered and refused, certificates that change under a running server, clients that are known
// by theirs.
#include "api/http/tls.h"

#include <gtest/gtest.h>
#include <openssl/ssl.h>

#include "certificates.h"
#include "test_server.h"
#include "tls_client.h"

namespace tutti::http::test {
namespace {

constexpr std::string_view kLastGet = "GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

class TlsTest : public testing::Test {
 protected:
  void install(const Pem& pem, const std::string& name = "server") const {
    files_.write(name + ".pem", pem.certificate);
    files_.write(name + ".key", pem.key);
  }

  void serve(bool clients = false, ServerConfig config = {}, Router routes = echo_routes()) {
    install(authority_.issue({.common_name = "first", .dns = {"localhost"}}));
    files_.write("ca.pem", authority_.certificate());
    TlsServerFiles names{files_.path("server.pem"), files_.path("server.key"),
                         clients ? files_.path("ca.pem") : ""};
    tls_ = std::make_shared<TlsServer>(names, [this](TlsServer::Event event, std::string line) {
      log_.put((event == TlsServer::Event::renewed ? "renewed: " : "refused: ") + line);
    });
    config.tls = tls_;
    config.tls_poll = 20ms;
    routes.get("/whoami", [](const Request& r) { return text(200, "<" + r.peer_certificate + ">"); });
    server_ = std::make_unique<TestServer>(std::move(routes), config);
  }

  std::string whoami(const Pem& own = {}) const {
    TlsClientOptions options;
    options.certificate = own.certificate;
    options.key = own.key;
    TlsClient client(server_->port(), options);
    const auto answer = client.ask("GET /whoami HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    const auto at = answer.find("\r\n\r\n");
    return at == std::string::npos ? "nothing" : answer.substr(at + 4);
  }

  std::string handshake_error(const TlsClientOptions& options) const {
    try {
      TlsClient client(server_->port(), options);
      // In TLS 1.3 the server judges the client's certificate after the client is through.
      (void)client.ask(kLastGet);
      return client.clean_end ? "" : "cut";
    } catch (const std::exception& error) {
      return error.what();
    }
  }

  Folder files_;
  Authority authority_{"test authority"};
  std::shared_ptr<TlsServer> tls_;
  Mailbox<std::string> log_;
  std::unique_ptr<TestServer> server_;
};

TEST_F(TlsTest, ServesWhatAPlainServerServes) {
  serve();
  TlsClient client(
      server_->port(),
      {.ca = authority_.certificate(), .certificate = {}, .key = {}, .host = "localhost", .ciphers = {}});
  EXPECT_EQ(client.version(), "TLSv1.3");
  for (int i = 0; i < 3; ++i) {
    client.send("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n");
    std::string answer;
    while (answer.find("\r\n\r\nok") == std::string::npos && client.receive(answer)) {
    }
    EXPECT_EQ(status_of(answer), 200);
  }
  const auto last = client.ask(kLastGet);
  EXPECT_EQ(status_of(last), 200);
  EXPECT_TRUE(client.clean_end) << "the end is said, so that a cut answer is not taken for a whole one";
  EXPECT_NE(last.find("Strict-Transport-Security: max-age="), std::string::npos);
}

TEST_F(TlsTest, LargeBodiesArriveWholeBothWays) {
  serve();
  std::string body(3'000'000, 'x');
  for (std::size_t i = 0; i < body.size(); ++i) body[i] = static_cast<char>('a' + i % 23);
  TlsClient client(server_->port());
  client.send("POST /echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: " +
              std::to_string(body.size()) + "\r\n\r\n" + body);
  const auto answer = client.read_all();
  EXPECT_TRUE(answer.ends_with(body));
}

TEST_F(TlsTest, RefusedUploadStillGetsItsAnswer) {
  ServerConfig config;
  config.body_limit = 1000;
  serve(false, config);
  TlsClient client(server_->port());
  std::string answer;
  try {
    client.send("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 2000000\r\n\r\n" +
                std::string(2'000'000, 'x'));
  } catch (const std::exception&) {
    // The server may have closed before we were through.
  }
  answer = client.read_all();
  EXPECT_EQ(status_of(answer), 413);
}

TEST_F(TlsTest, SlowBodyGetsItsRefusal) {
  ServerConfig config;
  config.body_deadline = 100ms;
  config.linger = 100ms;
  serve(false, config);
  TlsClient client(server_->port());
  EXPECT_EQ(status_of(client.ask("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n12345")), 408);
}

TEST_F(TlsTest, StreamsEndProperlyAndNoticeReadersThatLeave) {
  Mailbox<std::shared_ptr<Stream>> streams;
  Mailbox<int> closed;
  Router router;
  router.get("/stream", Handler([&](const Request&, Responder responder) {
               auto stream = responder.stream(200, {});
               stream->set_on_close([&closed] { closed.put(1); });
               streams.put(std::move(stream));
             }));
  serve(false, {}, std::move(router));
  constexpr std::string_view kAsk = "GET /stream HTTP/1.1\r\nHost: x\r\n\r\n";
  {
    TlsClient client(server_->port());
    client.send(kAsk);
    const auto stream = streams.take();
    for (int i = 0; i < 100; ++i) EXPECT_TRUE(stream->write("piece " + std::to_string(i) + "\n"));
    stream->close();
    const auto all = client.read_all();
    EXPECT_NE(all.find("piece 99\n"), std::string::npos);
    EXPECT_TRUE(all.ends_with("0\r\n\r\n"));
    EXPECT_TRUE(client.clean_end);
    closed.take();
  }
  auto client = std::make_unique<TlsClient>(server_->port());
  client->send(kAsk);
  const auto stream = streams.take();
  client.reset();
  closed.take();
  EXPECT_TRUE(stream->closed());
}

TEST_F(TlsTest, OldVersionsAndWeakCiphersAreRefused) {
  serve();
  TlsClientOptions old;
  old.legacy = true;
  old.max_version = TLS1_1_VERSION;
  EXPECT_NE(handshake_error(old), "");
  TlsClientOptions weak;
  weak.legacy = true;
  weak.max_version = TLS1_2_VERSION;
  for (const char* cipher : {"ECDHE-ECDSA-AES128-SHA", "ECDHE-ECDSA-AES256-SHA384", "AES128-GCM-SHA256",
                             "AES128-SHA", "ECDHE-ECDSA-NULL-SHA", "aNULL"}) {
    weak.ciphers = cipher;
    EXPECT_NE(handshake_error(weak), "") << cipher;
  }
  weak.ciphers = "ECDHE-ECDSA-AES128-GCM-SHA256";
  TlsClient fine(server_->port(), weak);
  EXPECT_EQ(fine.version(), "TLSv1.2");
  EXPECT_EQ(fine.cipher(), "ECDHE-ECDSA-AES128-GCM-SHA256");
  EXPECT_FALSE(fine.resumable()) << "no session tickets";
}

TEST_F(TlsTest, RenegotiationIsRefused) {
  serve();
  TlsClientOptions options;
  options.max_version = TLS1_2_VERSION;
  TlsClient client(server_->port(), options);
  EXPECT_FALSE(client.renegotiate());
}

TEST_F(TlsTest, SilentHandshakeIsCutOff) {
  ServerConfig config;
  config.handshake_deadline = 100ms;
  serve(false, config);
  auto socket = server_->connect();
  socket.send("\x16\x03\x01", soon());  // the beginning of a greeting, and no more
  EXPECT_EQ(read_all(socket), "");
}

TEST_F(TlsTest, PlainRequestIsToldWhatThisPortSpeaks) {
  serve();
  const auto answer = ask(*server_, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_EQ(status_of(answer), 400);
  EXPECT_NE(answer.find("tls_required"), std::string::npos);
}

TEST_F(TlsTest, NewCertificateIsServedWithoutARestart) {
  serve();
  TlsClient before(server_->port());
  EXPECT_EQ(before.server_name(), "first");
  install(authority_.issue({.common_name = "second"}));
  while (!log_.take().starts_with("renewed: ")) {
  }
  EXPECT_EQ(TlsClient(server_->port()).server_name(), "second");
  EXPECT_EQ(status_of(before.ask(kLastGet)), 200) << "connections go on with what they began with";
}

TEST_F(TlsTest, BrokenCertificateKeepsTheOldOneAndIsToldOnce) {
  serve();
  files_.write("server.pem", "-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n");
  const auto line = log_.take();
  EXPECT_TRUE(line.starts_with("refused: --tls-cert ")) << line;
  EXPECT_NE(line.find("the certificate in use stays"), std::string::npos);
  EXPECT_EQ(TlsClient(server_->port()).server_name(), "first");
  for (int i = 0; i < 50; ++i) tls_->poll();
  EXPECT_EQ(log_.size(), 0u);
  // Another key than the certificate's is no better.
  install(
      {authority_.issue({.common_name = "third"}).certificate, authority_.issue({.common_name = "x"}).key});
  EXPECT_TRUE(log_.take().starts_with("refused: --tls-key "));
  EXPECT_EQ(TlsClient(server_->port()).server_name(), "first");
  install(authority_.issue({.common_name = "fourth"}));
  // A look between the two files finds the old key; the next one finds both.
  while (!log_.take().starts_with("renewed: ")) {
  }
  EXPECT_EQ(TlsClient(server_->port()).server_name(), "fourth");
}

TEST_F(TlsTest, FilesThatCannotBeUsedAtTheStartAreNamed) {
  const auto error = [](const TlsServerFiles& files) {
    try {
      TlsServer server(files, {});
      return std::string("none");
    } catch (const std::exception& e) {
      return std::string(e.what());
    }
  };
  const auto pem = authority_.issue({.common_name = "a"});
  files_.write("a.pem", pem.certificate);
  files_.write("a.key", pem.key);
  files_.write("broken", "no PEM");
  EXPECT_EQ(error({files_.path("a.pem"), files_.path("a.key"), ""}), "none");
  EXPECT_EQ(error({"/nowhere", files_.path("a.key"), ""}),
            "--tls-cert /nowhere: cannot be read: No such file or directory");
  EXPECT_TRUE(error({files_.path("broken"), files_.path("a.key"), ""}).starts_with("--tls-cert "));
  EXPECT_TRUE(error({files_.path("a.pem"), files_.path("broken"), ""}).starts_with("--tls-key "));
  EXPECT_EQ(error({files_.path("a.pem"), "", ""}), "--tls-key is missing");
  EXPECT_TRUE(error({files_.path("a.pem"), files_.path("a.key"), files_.path("broken")})
                  .starts_with("--tls-client-ca "));
}

TEST_F(TlsTest, ClientsAreKnownByTheirCertificateIfTheyShowOne) {
  serve(true);
  EXPECT_EQ(whoami(), "<>");
  EXPECT_EQ(whoami(authority_.issue({.common_name = "node-7", .dns = {"node-7.cluster"}})), "<node-7>");
  EXPECT_EQ(whoami(authority_.issue({.common_name = "", .dns = {"node-8.cluster", "other"}})),
            "<node-8.cluster>");
  EXPECT_EQ(whoami(authority_.issue({.common_name = "two words"})), "<>") << "no name of a node";
}

TEST_F(TlsTest, AClientsCertificateSaysUntilWhenItHolds) {
  using namespace std::chrono;
  Mailbox<sys_seconds> until;
  Router routes = echo_routes();
  routes.get("/until", [&](const Request& r) {
    until.put(r.peer_certificate_until);
    return text(200, "");
  });
  serve(true, {}, std::move(routes));
  const auto ask = [&](const Pem& own) {
    TlsClientOptions options;
    options.certificate = own.certificate;
    options.key = own.key;
    TlsClient client(server_->port(), options);
    (void)client.ask("GET /until HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    return until.take();
  };
  EXPECT_EQ(ask({}), sys_seconds{});
  const auto now = floor<seconds>(system_clock::now());
  const auto end = ask(authority_.issue({.common_name = "node-7", .days = 9}));
  EXPECT_GT(end, now + days(7));
  EXPECT_LT(end, now + days(10));
}

TEST_F(TlsTest, CertificatesOfStrangersAreRefused) {
  serve(true);
  const Authority stranger("stranger");
  const auto forged = stranger.issue({.common_name = "node-7"});
  EXPECT_NE(handshake_error(
                {.ca = {}, .certificate = forged.certificate, .key = forged.key, .host = {}, .ciphers = {}}),
            "");
  const auto old = authority_.issue({.common_name = "node-7", .days = 0});
  EXPECT_NE(
      handshake_error({.ca = {}, .certificate = old.certificate, .key = old.key, .host = {}, .ciphers = {}}),
      "");
}

TEST_F(TlsTest, WithoutAnAuthorityNobodyIsKnownByACertificate) {
  serve(false);
  EXPECT_EQ(whoami(authority_.issue({.common_name = "node-7"})), "<>");
}

TEST_F(TlsTest, StopEndsHandshakesAndConnections) {
  serve();
  auto silent = server_->connect();  // never greets
  TlsClient idle(server_->port());
  EXPECT_TRUE(server_->stop());
  EXPECT_EQ(read_all(silent), "");
  EXPECT_EQ(idle.read_all(), "");
}

}  // namespace
}  // namespace tutti::http::test
