// login, logout, contexts, whoami and doctor: what is asked of the server, what is kept, and what is never
// shown.
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "cli/doctor.h"
#include "tests/cli/fake_scheduler.h"
#include "tests/cli/pty_process.h"
#include "tests/cli/tls_front.h"

namespace tutti::cli::test {
namespace {

class Login : public testing::Test {
 protected:
  Login() {
    char name[] = "/tmp/tutti-login-XXXXXX";
    folder_ = mkdtemp(name);
    auto& routes = scheduler.routes;
    routes.post("/v1/login", [](const Request& request) {
      const json::object asked = json::parse(request.body).as_object();
      if (asked.at("password").as_string() != "s3cret")
        return http::problem(401, "bad_credentials", "the user name or the password is wrong");
      auto answer =
          http::json(200, json::object{{"user", asked.at("user")}, {"expires_at", "2030-01-01T00:00:00Z"}});
      answer.set("Set-Cookie", "tutti_session=abc123; Path=/; HttpOnly; SameSite=Strict");
      return answer;
    });
    routes.post("/v1/tokens", [this](const Request& request) {
      cookie = std::string(request.header("Cookie").value_or(""));
      origin = std::string(request.header("Origin").value_or(""));
      return http::json(201, json::object{{"id", 12},
                                          {"token", "tutti_made"},
                                          {"name", "cli"},
                                          {"scopes", json::array{"read"}},
                                          {"expires_at", "2030-01-01T00:00:00Z"}});
    });
    routes.get("/v1/me", [](const Request& request) {
      if (request.header("Authorization") == "Bearer wrong")
        return http::problem(401, "unauthenticated", "this token is not known");
      return http::json(200, json::object{{"user", "ann"},
                                          {"kind", "user"},
                                          {"roles", json::object{{"nlp", "member"}}},
                                          {"scopes", json::array{"read", "submit"}},
                                          {"credential", "token 12"},
                                          {"token", json::object{{"id", 12},
                                                                 {"name", "cli on here"},
                                                                 {"expires_at", "2030-01-01T00:00:00Z"},
                                                                 {"last_used_at", nullptr}}}});
    });
    routes.del("/v1/tokens/{id}", [](const Request&) { return http::no_content(); });
    routes.get("/healthz", [](const Request&) { return http::json(200, json::object{{"status", "ok"}}); });
    routes.get("/readyz", [this](const Request&) {
      if (!ready) return http::problem(503, "unavailable", "the database does not answer");
      return http::json(200, json::object{{"status", "ok"}, {"detail", ""}, {"leader", "s1"}, {"term", 4}});
    });
    routes.get("/v1/cluster", [this](const Request&) {
      auto answer = http::json(200, json::object{{"version", version}});
      answer.set("Tutti-API-Version", "v1");
      return answer;
    });
    routes.get("/v1/nodes",
               [this](const Request&) { return http::json(200, json::object{{"nodes", nodes}}); });
  }
  ~Login() override { std::filesystem::remove_all(folder_); }

  TuttiProcess::Environment environment() const { return {{"TUTTI_CONFIG", config()}}; }
  std::string config() const { return folder_ + "/config.yaml"; }
  std::string config_text() const {
    std::ifstream file(config());
    std::stringstream text;
    text << file.rdbuf();
    return text.str();
  }
  Finished run(std::vector<std::string> arguments, std::string input = {}) const {
    return run_tutti(std::move(arguments), std::move(input), environment());
  }
  json::object node(const char* name, const char* state, const char* service, const char* of) const {
    return {{"name", name}, {"state", state}, {"service", service}, {"worker_version", of}};
  }

  std::string folder_, cookie, origin;
  bool ready = true;
  std::string version = "0.1.0";
  json::array nodes;
  FakeScheduler scheduler;
};

TEST_F(Login, APasswordBecomesATokenThatIsKeptAndNotShown) {
  scheduler.start();
  const Finished ended =
      run({"login", scheduler.url(), "--user", "ann", "--password-stdin", "--project", "nlp"}, "s3cret\n");
  EXPECT_EQ(ended.status, 0) << ended.err;
  EXPECT_EQ((ended.out + ended.err).find("tutti_made"), std::string::npos);
  EXPECT_NE(ended.out.find("as ann until 2030-01-01; context 127.0.0.1 is in use"), std::string::npos)
      << ended.out;
  const auto login = scheduler.asked("POST", "/v1/login").at(0);
  EXPECT_EQ(json::parse(login.body), json::parse(R"({"user":"ann","password":"s3cret","cli":true})"));
  EXPECT_EQ(login.authorization, "");
  const json::object token = json::parse(scheduler.asked("POST", "/v1/tokens").at(0).body).as_object();
  EXPECT_TRUE(token.at("name").as_string().starts_with("cli on "));
  EXPECT_EQ(token.at("expires_in").as_string(), "30d");
  EXPECT_EQ(token.at("scopes"), json::parse(R"(["read","submit","operate"])"));
  EXPECT_EQ(cookie, "tutti_session=abc123");
  EXPECT_EQ(origin, scheduler.url());
  struct stat status{};
  ASSERT_EQ(stat(config().c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600U);
  EXPECT_EQ(json::parse(config_text()).at_pointer("/contexts/127.0.0.1/token").as_string(), "tutti_made");
  EXPECT_EQ(config_text().find("s3cret"), std::string::npos);

  const Finished who = run({"whoami"});
  EXPECT_NE(who.out.find("user        ann"), std::string::npos) << who.out << who.err;
  EXPECT_NE(who.out.find("project     nlp"), std::string::npos) << who.out;
  EXPECT_EQ(scheduler.asked("GET", "/v1/me").at(0).authorization, "Bearer tutti_made");
}

TEST_F(Login, TheTerminalAsksAndDoesNotShowThePassword) {
  scheduler.start();
  PtyProcess tutti({"login", scheduler.url(), "--context", "lab"}, environment());
  const termios before = tutti.mode();
  tutti.wait_for_output("user name (empty: a token instead): ");
  tutti.type("ann\n");
  tutti.wait_for_output("password of ann: ");
  tutti.type("s3cretX\x7f\r");  // with a slip
  EXPECT_EQ(tutti.wait(), 0) << tutti.output();
  EXPECT_TRUE(same_mode(tutti.mode(), before));
  EXPECT_EQ(tutti.output().find("s3cret"), std::string::npos) << tutti.output();
  EXPECT_NE(tutti.output().find("context lab is in use"), std::string::npos) << tutti.output();
}

TEST_F(Login, GivingUpAtThePasswordLeavesTheTerminalAsItWas) {
  scheduler.start();
  PtyProcess tutti({"login", scheduler.url(), "--user", "ann"}, environment());
  const termios before = tutti.mode();
  tutti.wait_for_output("password of ann: ");
  tutti.type("\x03");
  EXPECT_EQ(tutti.wait(), 1);
  EXPECT_TRUE(same_mode(tutti.mode(), before));
  EXPECT_TRUE(scheduler.asked().empty());
  EXPECT_FALSE(std::filesystem::exists(config()));
}

TEST_F(Login, AWrongPasswordIsRefused) {
  scheduler.start();
  const Finished ended = run({"login", scheduler.url(), "--user", "ann", "--password-stdin"}, "guess\n");
  EXPECT_EQ(ended.status, 4);
  EXPECT_NE(ended.err.find("the user name or the password is wrong"), std::string::npos) << ended.err;
  EXPECT_FALSE(std::filesystem::exists(config()));
  EXPECT_EQ(run({"login", scheduler.url(), "--password-stdin"}, "x\n").status, 2) << "whose?";
  EXPECT_EQ(run({"login", scheduler.url(), "--user", "ann"}).status, 2) << "there is no terminal to ask at";
  EXPECT_EQ(run({"login", "tutti.lab"}).status, 2) << "no URL";
}

TEST_F(Login, ATokenIsTriedBeforeItIsKept) {
  scheduler.start();
  EXPECT_EQ(run({"login", scheduler.url(), "--token-stdin"}, "wrong\n").status, 4);
  EXPECT_FALSE(std::filesystem::exists(config()));
  const Finished ended = run({"login", scheduler.url(), "--token-stdin", "-o", "json"}, "mine\n");
  EXPECT_EQ(ended.status, 0) << ended.err;
  EXPECT_EQ(json::parse(ended.out).as_object().at("user").as_string(), "ann");
  EXPECT_EQ(json::parse(config_text()).at_pointer("/contexts/127.0.0.1/token_id").as_string(), "12");
}

TEST_F(Login, LogoutRevokesAndForgets) {
  scheduler.start();
  run({"login", scheduler.url(), "--user", "ann", "--password-stdin"}, "s3cret\n");
  const Finished ended = run({"logout"});
  EXPECT_EQ(ended.status, 0) << ended.err;
  EXPECT_NE(ended.out.find("its token is revoked"), std::string::npos) << ended.out;
  EXPECT_EQ(scheduler.asked("DELETE", "/v1/tokens/12").size(), 1U);
  EXPECT_EQ(config_text().find("tutti_made"), std::string::npos);
  EXPECT_NE(config_text().find(scheduler.url()), std::string::npos) << "the server stays";
  EXPECT_EQ(run({"logout"}).status, 1) << "there is nothing left";
}

TEST_F(Login, LogoutKeepsATokenThatCannotBeRevoked) {
  scheduler.start();
  std::ofstream(config())
      << R"({"current":"a","contexts":{"a":{"server":"http://127.0.0.1:1","token":"t","token_id":"3"}}})";
  const Finished ended = run({"logout", "--retry-for", "0"});
  EXPECT_EQ(ended.status, 5);
  EXPECT_NE(ended.err.find("--local forgets it"), std::string::npos) << ended.err;
  EXPECT_NE(config_text().find("\"t\""), std::string::npos);
  EXPECT_EQ(run({"logout", "--local"}).status, 0);
  EXPECT_EQ(config_text().find("\"t\""), std::string::npos);
}

TEST_F(Login, ContextsAreListedUsedChangedAndRemoved) {
  scheduler.start();
  EXPECT_EQ(run({"context", "list"}).out, "no contexts; tutti login SERVER makes one\n");
  EXPECT_EQ(run({"context", "add", "a", "--server", "http://a:7070", "--project", "nlp"}).status, 0);
  EXPECT_EQ(run({"context", "add", "b", "--server", scheduler.url(), "--token-file", "/tmp/t"}).status, 0);
  EXPECT_EQ(run({"context", "list", "-o", "csv"}).out,
            "IN USE,CONTEXT,SERVER,USER,PROJECT,TOKEN,CA\r\n*,a,http://a:7070,,nlp,none,\r\n,b," +
                scheduler.url() + ",,,/tmp/t,\r\n");
  EXPECT_EQ(run({"context", "use", "b"}).out, "context b is in use\n");
  EXPECT_EQ(json::parse(config_text()).as_object().at("current").as_string(), "b");
  EXPECT_EQ(run({"context", "use", "c"}).status, 3);
  EXPECT_EQ(run({"context", "add", "c"}).status, 2) << "no server";
  EXPECT_EQ(run({"context", "add", "c/d", "--server", "http://a"}).status, 2);
  EXPECT_EQ(run({"context", "add", "c", "--server", "a:7070"}).status, 2);
  EXPECT_EQ(run({"context", "add", "a", "--token-file", "some/token"}).status, 0);
  EXPECT_TRUE(json::parse(config_text()).at_pointer("/contexts/a/token_file").as_string().starts_with("/"))
      << "it is used from other folders, too";
  EXPECT_EQ(run({"context", "remove", "b"}).status, 0);
  EXPECT_EQ(json::parse(config_text()).as_object().at("current").as_string(), "");
  EXPECT_EQ(run({"whoami"}).status, 2) << "none is in use";
}

TEST_F(Login, GoesOverTlsWithACaThatIsKept) {
  scheduler.start();
  const TlsFront front(scheduler.port());
  const Finished distrusted =
      run({"login", front.url(), "--user", "ann", "--password-stdin", "--retry-for", "0"}, "s3cret\n");
  EXPECT_EQ(distrusted.status, 5);
  EXPECT_NE(distrusted.err.find("--ca FILE or TUTTI_CA"), std::string::npos) << distrusted.err;
  EXPECT_TRUE(scheduler.asked().empty()) << "no password goes to a server that is not trusted";
  const Finished ended =
      run({"login", front.url(), "--user", "ann", "--password-stdin", "--ca", front.ca()}, "s3cret\n");
  EXPECT_EQ(ended.status, 0) << ended.err;
  EXPECT_EQ(origin, front.url());
  EXPECT_EQ(run({"whoami"}).status, 0) << "the context knows the CA";
}

json::object check(const json::object& report, const char* name) {
  for (const auto& item : report.at("checks").as_array())
    if (item.as_object().at("name").as_string() == name) return item.as_object();
  return {};
}

TEST_F(Login, DoctorFindsNothingWrong) {
  nodes = {node("n1", "reachable", "schedulable", "0.1.0")};
  scheduler.start();
  const Finished ended = run_tutti({"doctor"}, {}, scheduler.environment());
  EXPECT_EQ(ended.status, 0) << ended.out;
  for (const char* line :
       {"ok    configuration", "ok    server", "ok    clock", "ok    leader         s1 leads, term 4",
        "ok    token          user ann, scopes read, submit", "ok    versions", "ok    nodes"})
    EXPECT_NE(ended.out.find(line), std::string::npos) << line << "\n" << ended.out;
  EXPECT_EQ(ended.out.find("fail"), std::string::npos) << ended.out;
}

TEST_F(Login, DoctorNamesWhatIsWrongAndTheWayOut) {
  nodes = {node("n1", "dead", "schedulable", "0.1.0"), node("n2", "reachable", "quarantined", "0.0.9")};
  version = "3.0.0";
  ready = false;
  scheduler.start();
  const Finished ended = run_tutti({"doctor", "-o", "json"}, {}, scheduler.environment());
  EXPECT_EQ(ended.status, 1);
  const json::object report = json::parse(ended.out).as_object();
  EXPECT_FALSE(report.at("passed").as_bool());
  EXPECT_EQ(check(report, "leader").at("result").as_string(), "fail");
  EXPECT_NE(check(report, "leader").at("detail").as_string().find("the database does not answer"),
            json::string::npos);
  EXPECT_EQ(check(report, "versions").at("result").as_string(), "fail");
  EXPECT_EQ(check(report, "workers").at("result").as_string(), "warn");
  EXPECT_NE(ended.out.find("n1 (dead)"), std::string::npos) << ended.out;
  EXPECT_NE(ended.out.find("n2 (quarantined)"), std::string::npos) << ended.out;
}

TEST_F(Login, DoctorGoesOnWithTheServerThatAnswers) {
  nodes = {node("n1", "reachable", "schedulable", "0.1.0"), node("n2", "dead", "retired", "0.0.9")};
  scheduler.start();
  auto environment = scheduler.environment();
  environment["TUTTI_SERVER"] = "http://127.0.0.1:1," + scheduler.url();
  const Finished ended = run_tutti({"doctor"}, {}, environment);
  EXPECT_EQ(ended.status, 0) << ended.out;
  for (const std::string& line : {"ok    server         " + scheduler.url(), std::string("ok    token "),
                                  std::string("warn  schedulers     http://127.0.0.1:1 does not answer"),
                                  std::string("ok    nodes          1 answer")})
    EXPECT_NE(ended.out.find(line), std::string::npos) << line << "\n" << ended.out;
}

TEST_F(Login, DoctorDoesNotBlameATokenThatNobodyHasLookedAt) {
  scheduler.routes = {};
  scheduler.routes.get("/healthz",
                       [](const Request&) { return http::json(200, json::object{{"status", "ok"}}); });
  for (const char* path : {"/readyz", "/v1/me"})
    scheduler.routes.get(path,
                         [](const Request&) { return http::problem(503, "no_leader", "nobody leads"); });
  scheduler.start();
  const Finished ended = run_tutti({"doctor"}, {}, scheduler.environment());
  EXPECT_EQ(ended.status, 1);
  EXPECT_NE(ended.out.find("fail  token          it cannot be tried: nobody leads"), std::string::npos)
      << ended.out;
}

TEST_F(Login, DoctorWithoutServerTokenOrTrust) {
  scheduler.start();
  const Finished none = run({"doctor"});
  EXPECT_EQ(none.status, 1);
  EXPECT_NE(none.out.find("fail  configuration  no server is known"), std::string::npos) << none.out;
  EXPECT_NE(run({"doctor", "--server", "http://127.0.0.1:1"}).out.find("fail  server"), std::string::npos);
  EXPECT_NE(run({"doctor", "--server", scheduler.url()}).out.find("fail  token          there is no token"),
            std::string::npos);
  const Finished refused = run_tutti({"doctor", "--server", scheduler.url()}, {},
                                     {{"TUTTI_TOKEN", "wrong"}, {"TUTTI_CONFIG", config()}});
  EXPECT_NE(refused.out.find("this token is not known"), std::string::npos) << refused.out;
  const TlsFront front(scheduler.port());
  const Finished distrusted = run({"doctor", "--server", front.url()});
  EXPECT_NE(distrusted.out.find("fail  tls"), std::string::npos) << distrusted.out;
  EXPECT_NE(run({"doctor", "--server", front.url(), "--ca", front.ca()}).out.find("ok    tls"),
            std::string::npos);
  std::ofstream(config()) << R"({"contexts":{}})";
  std::filesystem::permissions(config(), std::filesystem::perms(0644));
  EXPECT_NE(run({"doctor", "--server", scheduler.url()}).out.find("chmod 600"), std::string::npos);
}

TEST(Doctor, ReadsTheClockOfAnHttpDate) {
  const auto at = std::chrono::system_clock::from_time_t(784111777);  // 1994-11-06T08:49:37Z
  EXPECT_EQ(clock_ahead("Sun, 06 Nov 1994 08:49:37 GMT", at), 0.0);
  EXPECT_EQ(clock_ahead("Sun, 06 Nov 1994 08:49:37 GMT", at + std::chrono::minutes(2)), 120.0);
  EXPECT_EQ(clock_ahead("Sun, 06 Nov 1994 08:49:37 GMT", at - std::chrono::seconds(30)), -30.0);
  EXPECT_FALSE(clock_ahead("yesterday", at));
}

TEST(Doctor, OneMajorVersionApartIsFine) {
  EXPECT_TRUE(versions_fit("1.4.0", "1.9.2"));
  EXPECT_TRUE(versions_fit("1.4.0", "2.0.0"));
  EXPECT_TRUE(versions_fit("1.4.0", "0.9.0"));
  EXPECT_FALSE(versions_fit("1.4.0", "3.0.0"));
  EXPECT_TRUE(versions_fit("1.4.0", "unknown"));
}

}  // namespace
}  // namespace tutti::cli::test
