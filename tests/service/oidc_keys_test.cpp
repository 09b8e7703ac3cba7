// The keys of an identity provider, fetched from a server of our own.
#include "scheduler/service/oidc_keys.h"

#include <gtest/gtest.h>

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>

#include "scheduler/service/side_thread.h"
#include "tests/http/test_server.h"

namespace tutti {
namespace {

using namespace std::chrono_literals;

// The example of RFC 7517, appendix A.1.
constexpr auto kKeySet = R"({"keys":[{"kty":"EC","crv":"P-256","use":"sig","kid":"1",
  "x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"}]})";

class OidcKeysTest : public ::testing::Test {
 protected:
  // What the provider says; asked for on a thread of its own.
  std::string discovery, keys = kKeySet;
  std::atomic<int> asked = 0;

  void start() {
    http::Router router;
    router.get("/.well-known/openid-configuration", http::SyncHandler([this](const http::Request&) {
                 return http::text(200, discovery, "application/json");
               }));
    router.get("/keys", http::SyncHandler([this](const http::Request&) {
                 ++asked;
                 return http::text(200, keys, "application/json");
               }));
    server = std::make_unique<http::test::TestServer>(std::move(router));
    url = "http://127.0.0.1:" + std::to_string(server->port());
    discovery = R"({"issuer":")" + url + R"(","jwks_uri":")" + url + R"(/keys"})";
  }
  OidcSettings settings() const {
    OidcSettings s;
    s.issuer = url;
    s.audience = "tutti";
    return s;
  }
  /// Runs until the first fetch has ended, well or not.
  bool fetch(const OidcSettings& of) {
    boost::asio::io_context control;
    const auto work = boost::asio::make_work_guard(control);
    SideThread side(control.get_executor());
    OidcVerifier verifier(of);
    bool ended = false;
    const auto aside = [&](std::function<void()> work, std::function<void(std::exception_ptr)> done) {
      side.run(std::move(work), [&ended, done = std::move(done)](std::exception_ptr failure) {
        done(failure);
        ended = true;
      });
    };
    OidcKeys fetcher(control.get_executor(), aside, of, verifier);
    fetcher.fetch_soon();  // not a second time at once
    while (!ended) control.run_one_for(20s);
    fetcher.stop();
    return verifier.has_keys();
  }

  std::unique_ptr<http::test::TestServer> server;
  std::string url;
};

TEST_F(OidcKeysTest, AreFoundByDiscovery) {
  start();
  EXPECT_TRUE(fetch(settings()));
  EXPECT_EQ(asked, 1);
}

TEST_F(OidcKeysTest, AreFoundWhereOneSays) {
  start();
  discovery = "not asked";
  auto of = settings();
  of.jwks_url = url + "/keys";
  EXPECT_TRUE(fetch(of));
}

TEST_F(OidcKeysTest, AnotherIssuersDocumentIsNotTaken) {
  start();
  discovery = R"({"issuer":"https://evil.example","jwks_uri":")" + url + R"(/keys"})";
  EXPECT_FALSE(fetch(settings()));
  EXPECT_EQ(asked, 0);
}

TEST_F(OidcKeysTest, NonsenseAndTooMuchAreNotTaken) {
  start();
  keys = "<html>";
  EXPECT_FALSE(fetch(settings()));
  keys = R"({"keys":[],"padding":")" + std::string(2 << 20, 'x') + "\"}";
  EXPECT_FALSE(fetch(settings()));
  auto nowhere = settings();
  nowhere.jwks_url = url + "/nothing";
  EXPECT_FALSE(fetch(nowhere));
  nowhere.jwks_url = "file:///etc/passwd";
  EXPECT_FALSE(fetch(nowhere));
}

}  // namespace
}  // namespace tutti
