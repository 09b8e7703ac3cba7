// A machine joins once, and keeps what it got.
#include "worker/service/join.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <boost/json/parse.hpp>
#include <boost/json/value.hpp>
#include <filesystem>
#include <fstream>

#include "tests/http/test_server.h"

namespace tutti::worker {
namespace {

namespace json = boost::json;
using namespace std::chrono_literals;

class Join : public ::testing::Test {
 protected:
  Join() {
    char name[] = "/tmp/tutti-join-XXXXXX";
    folder = mkdtemp(name);
    http::Router router;
    router.post("/v1/nodes:join", http::SyncHandler([this](const http::Request& request) {
                  ++asked;
                  body = request.body;
                  if (refuse_first > 0 && asked <= refuse_first)
                    return http::problem(503, "unavailable", "starting");
                  if (status == 201)
                    return http::json(201, json::value{{"node", "n1"}, {"id", "x"}, {"token", token}});
                  return http::problem(status, "no", "this join token is used up", "make another");
                }));
    server = std::make_unique<http::test::TestServer>(std::move(router));
    request = {.schedulers = {"http://127.0.0.1:1", "http://127.0.0.1:" + std::to_string(server->port())},
               .join_token = "tuttijoin_aaaaaaaaaaaa_secret",
               .node = "n1",
               .state_dir = folder + "/state",
               .ca_file = {},
               .patience = 10s};
  }
  ~Join() override { std::filesystem::remove_all(folder); }

  std::atomic<int> asked = 0, status = 201, refuse_first = 0;
  std::string folder, body, token = "tuttinode_x_1";
  std::unique_ptr<http::test::TestServer> server;
  JoinRequest request;
};

TEST_F(Join, OnceAndKeepsTheCredential) {
  EXPECT_EQ(credential_of(request), "tuttinode_x_1");
  EXPECT_EQ(json::parse(body), (json::value{{"token", request.join_token}, {"node", "n1"}}));
  token = "tuttinode_x_2";
  EXPECT_EQ(credential_of(request), "tuttinode_x_1");
  request.join_token = "";
  EXPECT_EQ(credential_of(request), "tuttinode_x_1");
  EXPECT_EQ(asked, 1);
  struct stat file{};
  ASSERT_EQ(stat((request.state_dir + "/credential").c_str(), &file), 0);
  EXPECT_EQ(file.st_mode & 0777, 0600U);
}

TEST_F(Join, AnewWithAnotherTokenOrAnotherName) {
  credential_of(request);
  token = "tuttinode_x_2";
  request.join_token = "tuttijoin_bbbbbbbbbbbb_secret";
  EXPECT_EQ(credential_of(request), "tuttinode_x_2");
  token = "tuttinode_x_3";
  request.node = "n2";
  EXPECT_EQ(credential_of(request), "tuttinode_x_3");
  EXPECT_EQ(asked, 3);
}

TEST_F(Join, ARefusalSaysWhyAndIsNotRepeated) {
  status = 401;
  try {
    credential_of(request);
    FAIL();
  } catch (const std::runtime_error& e) {
    EXPECT_NE(std::string(e.what()).find("used up"), std::string::npos) << e.what();
    EXPECT_NE(std::string(e.what()).find("make another"), std::string::npos) << e.what();
  }
  EXPECT_EQ(asked, 1);
  EXPECT_FALSE(std::filesystem::exists(request.state_dir + "/credential"));
}

// One join token lies on all machines, and is replaced when there are new ones: that must lock nobody out.
TEST_F(Join, ATokenForOthersIsNoReasonToStayAway) {
  credential_of(request);
  status = 403;
  request.join_token = "tuttijoin_bbbbbbbbbbbb_secret";
  EXPECT_EQ(credential_of(request), "tuttinode_x_1");
  EXPECT_EQ(asked, 2);
  request.node = "n2";
  EXPECT_THROW(credential_of(request), std::runtime_error) << "the credential is of another node";
}

TEST_F(Join, ASchedulerThatIsNotReadyIsAskedAgain) {
  refuse_first = 2;
  EXPECT_EQ(credential_of(request), "tuttinode_x_1");
  EXPECT_EQ(asked, 3);
}

TEST_F(Join, NobodyThereIsAnErrorInTime) {
  request.schedulers = {"http://127.0.0.1:1"};
  request.patience = 1s;
  EXPECT_THROW(credential_of(request), std::runtime_error);
}

TEST_F(Join, WithoutATokenThereIsNone) {
  request.join_token = "";
  EXPECT_EQ(credential_of(request), "");
  EXPECT_EQ(asked, 0);
}

}  // namespace
}  // namespace tutti::worker
