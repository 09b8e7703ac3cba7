// GET /v1/jobs/{id}/attempts/{n}/exec: who gets a shell, and how bytes are passed on.
#include "api/http/link.h"
#include "api_rig.h"

namespace tutti::testing {
namespace {

namespace json = boost::json;

class TestLink final : public http::Link {
 public:
  void start(std::function<void(std::string)> on_message,
             std::function<void(std::string)> on_closed) override {
    on_message_ = std::move(on_message);
    on_closed_ = std::move(on_closed);
  }
  bool send(std::string) override { return false; }
  bool send_binary(std::string message, std::function<void()> sent) override {
    frames.push_back(std::move(message));
    if (sent) waiting.push_back(std::move(sent));
    return true;
  }
  void hold(bool yes) override { held = yes; }
  void close() override { closed = true; }
  void abort() override { closed = true; }
  const std::string& peer() const override { return peer_; }

  void say(std::string message) { on_message_(std::move(message)); }
  void go() {
    on_message_ = nullptr;
    if (const auto told = std::exchange(on_closed_, nullptr)) told("gone");
  }
  void take_all() {
    for (auto& sent : std::exchange(waiting, {})) sent();
  }

  std::vector<std::string> frames;
  std::vector<std::function<void()>> waiting;
  bool held = false, closed = false;

 private:
  std::function<void(std::string)> on_message_, on_closed_;
  std::string peer_ = "10.0.0.7:1";
};

const http::Headers kUpgrade = {{"Upgrade", "websocket"}, {"Connection", "Upgrade"}};
std::string data(std::string text) { return std::string(1, '\0') + std::move(text); }

class Exec : public ::testing::Test {
 protected:
  Exec() {
    rig.backend.add_node("n1", 8);
    rig.backend.add_node("n2", 8);
    job = rig.submit(R"({"name":"a","run":"x","nodes":2,"procs_per_node":2,"resources":{"gpus":8}})");
  }
  std::string path(const std::string& query = {}, const std::string& attempt = "latest") const {
    return "/v1/jobs/" + to_string(job) + "/attempts/" + attempt + "/exec?" + query;
  }
  int status(const std::string& target, http::Headers headers = kUpgrade) {
    return rig.call(http::Method::get, target, {}, std::move(headers)).status();
  }
  std::shared_ptr<TestLink> open(const std::string& query) {
    const auto call = rig.start(http::Method::get, path(query), {}, kUpgrade);
    EXPECT_EQ(call->status(), 101) << call->response->body;
    auto link = links.emplace_back(std::make_shared<TestLink>());
    if (call->upgraded) call->upgraded(link);
    return link;
  }
  std::vector<std::string> history() {
    std::vector<std::string> out;
    const auto page = rig.get("/v1/jobs/" + to_string(job) + "/events").body();
    for (const auto& e : page.at("events").as_array())
      if (e.at("kind") == "exec")
        out.push_back(std::string(e.at("to").as_string()) + " " + std::string(e.at("detail").as_string()));
    return out;
  }
  ~Exec() override {
    for (const auto& link : links) link->go();  // as every link does in the end
  }
  ApiRig rig;
  std::vector<std::shared_ptr<TestLink>> links;
  JobId job;
};

TEST_F(Exec, IsRefusedAsAnyOtherRequest) {
  EXPECT_EQ(status(path()), 409) << "it is starting";
  rig.backend.run_job(job);
  EXPECT_EQ(status(path(), {}), 426);
  EXPECT_EQ(status(path("", "0")), 422);
  EXPECT_EQ(status(path("", "7")), 404);
  EXPECT_EQ(status(path("rank=9")), 404);
  EXPECT_EQ(status(path("rank=-1")), 422);
  EXPECT_EQ(status(path("node=n9")), 404);
  EXPECT_EQ(status(path("node=n1&rank=0")), 422);
  EXPECT_EQ(status(path("tty=2")), 422);
  EXPECT_EQ(status(path("rows=0")), 422);
  EXPECT_EQ(status(path("command=")), 422);
  EXPECT_EQ(status(path("command=a%00b")), 400);
  EXPECT_EQ(status("/v1/jobs/99/attempts/latest/exec"), 404);
  rig.shells.reachable = false;
  EXPECT_EQ(status(path()), 503);
  rig.shells.reachable = true;
  rig.before = [](http::Request& request) -> std::optional<http::Response> {
    request.identity = Identity{.kind = Identity::Kind::user,
                                .name = "eve",
                                .owner = "eve",
                                .roles = {{"default", Role::viewer}},
                                .scopes = kAllScopes,
                                .credential = "test",
                                .token = {}};
    return std::nullopt;
  };
  EXPECT_EQ(status(path()), 403) << "a viewer sees the job and may not touch it";
  EXPECT_TRUE(rig.shells.opened.empty());
  EXPECT_TRUE(history().empty());
}

TEST_F(Exec, EndsWhenItsCallerMayNoLonger) {
  rig.backend.run_job(job);
  auto headers = rig.user("olga", {{"default", Role::operator_}});
  for (const auto& h : kUpgrade) headers.push_back(h);
  const auto call = rig.start(http::Method::get, path("command=bash"), {}, headers);
  const auto link = links.emplace_back(std::make_shared<TestLink>());
  ASSERT_TRUE(call->upgraded);
  call->upgraded(link);
  rig.patch("/v1/users/olga", R"({"roles":{"vision":"member"}})");
  EXPECT_FALSE(link->closed);
  rig.patch("/v1/users/olga", R"({"roles":{"default":"viewer"}})");
  EXPECT_TRUE(link->closed);
}

TEST_F(Exec, GoesToTheNodeOfItsRankAndStandsInTheHistory) {
  const auto key = rig.backend.run_job(job);
  const auto link = open("rank=3&command=bash&command=-c&command=a%20b&tty=1&rows=50&cols=132&term=vt100");
  ASSERT_EQ(rig.shells.opened.size(), 1u);
  const auto& what = rig.shells.opened.at(1).what;
  EXPECT_EQ(what.key, key);
  EXPECT_EQ(what.rank, 3);
  EXPECT_EQ(what.argv, (std::vector<std::string>{"bash", "-c", "a b"}));
  EXPECT_EQ(std::tuple(what.tty, what.rows, what.columns, what.term), std::tuple(true, 50, 132, "vt100"));
  EXPECT_EQ(what.credit, protocol::kShellWindow);
  const auto gang =
      rig.get("/v1/jobs/" + to_string(job) + "/attempts").body().at("attempts").at(0).at("gang");
  ASSERT_EQ(history().size(), 1u);
  EXPECT_TRUE(history()[0].starts_with("begun admin on " + std::string(gang.at(1).at("node").as_string()) +
                                       " (rank 3) from "))
      << history()[0];
  EXPECT_TRUE(history()[0].ends_with(": bash -c a b")) << history()[0];
  rig.shells.opened.at(1).events.on_closed({1, 7, 0, ""});
  EXPECT_EQ(link->frames, (std::vector<std::string>{std::string("\x03") + R"({"exit_code":7})"}));
  EXPECT_TRUE(link->closed);
  link->go();
  ASSERT_EQ(history().size(), 2u);
  EXPECT_TRUE(history()[1].starts_with("ended admin: exit code 7 after ")) << history()[1];
}

TEST_F(Exec, NeitherSideIsSentMoreThanItTakes) {
  rig.backend.run_job(job);
  const auto link = open("command=cat");
  auto& shell = rig.shells.opened.at(1);
  // What is typed waits for room, and the client with it.
  link->say(data("hello "));
  link->say(data(std::string(100, 'x')));
  EXPECT_EQ(shell.typed, "");
  EXPECT_TRUE(link->held);
  shell.events.on_room(10);
  EXPECT_EQ(shell.typed, "hello xxxx");
  EXPECT_TRUE(link->held);
  link->say("\x02");
  EXPECT_FALSE(shell.ended) << "not before all of it";
  shell.events.on_room(1000);
  EXPECT_EQ(shell.typed.size(), 106u);
  EXPECT_TRUE(shell.ended);
  EXPECT_FALSE(link->held);
  // What is written is asked for as the client takes it.
  shell.events.on_output("abc");
  shell.events.on_output("defg");
  EXPECT_EQ(link->frames, (std::vector<std::string>{data("abc"), data("defg")}));
  EXPECT_EQ(shell.granted, 0);
  link->take_all();
  EXPECT_EQ(shell.granted, 7);
}

TEST_F(Exec, ResizesAndRefusesNonsense) {
  rig.backend.run_job(job);
  const auto link = open("tty=1");
  link->say(std::string("\x01") + R"({"rows":40,"cols":120})");
  EXPECT_EQ(rig.shells.opened.at(1).sizes, (std::vector<std::pair<std::int32_t, std::int32_t>>{{40, 120}}));
  EXPECT_TRUE(rig.shells.opened.at(1).what.argv.empty()) << "the login shell";
  for (const std::string& bad : {std::string("\x01{"), std::string("\x01") + R"({"rows":0,"cols":1})",
                                 std::string("\x09"), std::string()}) {
    const auto other = open("tty=1");
    other->say(bad);
    ASSERT_EQ(other->frames.size(), 1u);
    EXPECT_EQ(other->frames[0][0], '\x04');
    EXPECT_EQ(json::parse(other->frames[0].substr(1)).at("status"), 422);
    EXPECT_TRUE(other->closed);
    EXPECT_TRUE(rig.shells.opened.at(static_cast<std::int64_t>(rig.shells.opened.size())).closed);
  }
}

TEST_F(Exec, EndsWhenEitherSideGoes) {
  rig.backend.run_job(job);
  const auto first = open("command=a");
  first->go();
  EXPECT_TRUE(rig.shells.opened.at(1).closed);
  const auto second = open("command=b");
  rig.shells.opened.at(2).events.on_closed({2, 0, 0, "the connection to the node is lost"});
  ASSERT_EQ(second->frames.size(), 1u);
  EXPECT_EQ(json::parse(second->frames[0].substr(1)).at("detail"), "the connection to the node is lost");
  const auto all = history();
  ASSERT_EQ(all.size(), 4u);
  EXPECT_TRUE(all[1].starts_with("ended admin: the client has gone after ")) << all[1];
  EXPECT_TRUE(all[3].starts_with("ended admin: the connection to the node is lost after ")) << all[3];
}

TEST_F(Exec, ItsEndIsToldThoughTheJobIsOver) {
  const auto key = rig.backend.run_job(job);
  const auto link = open("command=a");
  rig.backend.end_attempt(key, true);
  rig.shells.opened.at(1).events.on_closed({1, 0, 9, ""});
  EXPECT_EQ(link->frames.back(), std::string("\x03") + R"({"signal":9})");
  ASSERT_EQ(history().size(), 2u);
  EXPECT_EQ(status(path()), 409);
}

}  // namespace
}  // namespace tutti::testing
